//! Clients that we did not write. Where one is missing its part is skipped, except under `CI`.

use std::{net::SocketAddr, thread, time::Duration};

use roadstead::Model;
use roadstead_conformance::{child::Child, client::pattern, foreign::Foreign, setting::Setting};

scenarios! {
    socat_and_nc_get_a_megabyte_back (Models): "after their half-close, byte for byte",
    socat_and_nc_may_dribble (Models): "what they send byte by byte, with rests, comes back",
    socat_and_nc_are_discarded (Models): "a quarter of a megabyte is answered by the end alone",
    socat_and_nc_come_in_crowds (Models): "sixteen at once, each gets its own bytes back",
    redis_benchmark_pipelines (Models): "PING is its own answer: 1, 16 and 100 at a time through an echo",
}

/// The two programs that connect standard input and output to a server, and half-close when their input ends.
const PROGRAMS: [&str; 2] = ["socat", "nc"];

/// What the program prints when it is fed `pieces`, with a rest after each. `None` if it is not here.
#[track_caller]
fn talk(program: &str, server: SocketAddr, pieces: &[&[u8]], rest: Duration) -> Option<Vec<u8>> {
    let (ip, port) = (server.ip().to_string(), server.port().to_string());
    let started = match program {
        "socat" => Foreign::start(program, &["-t", "30", "-", &format!("TCP:{server}")], "socat"),
        _ => Foreign::start(program, &["-N", &ip, &port], "netcat-openbsd"),
    };
    Some(started?.talk(pieces, rest))
}

fn socat_and_nc_get_a_megabyte_back(setting: &Setting) {
    let sent = pattern(1 << 20);
    for program in PROGRAMS {
        let child = Child::start(setting, "echo");
        let Some(back) = talk(program, child.address(), &[&sent], Duration::ZERO) else { continue };
        assert!(back == sent, "{program}: {} bytes came back", back.len());
        let stats = child.drain();
        assert_eq!((stats["accepted"], stats["failed"], stats["bytes_out"]), (1, 0, 1 << 20), "{program}");
    }
}

fn socat_and_nc_may_dribble(setting: &Setting) {
    let pieces: Vec<_> = b"slowly, byte by byte".chunks(1).collect();
    let child = Child::start(setting, "echo");
    for program in PROGRAMS {
        let Some(back) = talk(program, child.address(), &pieces, Duration::from_millis(5)) else { continue };
        assert_eq!(back, pieces.concat(), "{program}");
    }
    assert_eq!(child.drain()["failed"], 0);
}

fn socat_and_nc_are_discarded(setting: &Setting) {
    for program in PROGRAMS {
        let child = Child::start(setting, "discard");
        let Some(back) = talk(program, child.address(), &[&[0; 1 << 18]], Duration::ZERO) else { continue };
        assert_eq!(back, b"", "{program}");
        let stats = child.drain();
        assert_eq!((stats["bytes_in"], stats["failed"]), (1 << 18, 0), "{program}");
    }
}

fn socat_and_nc_come_in_crowds(setting: &Setting) {
    let child = Child::start(setting, "echo");
    let address = child.address();
    thread::scope(|scope| {
        for (number, program) in PROGRAMS.into_iter().cycle().take(16).enumerate() {
            scope.spawn(move || {
                let sent = pattern(10_000 + 1_000 * number);
                let halves = [&sent[..number], &sent[number..]];
                if let Some(back) = talk(program, address, &halves, Duration::from_millis(20)) {
                    assert!(back == sent, "{program} {number}: {} bytes came back", back.len());
                }
            });
        }
    });
    assert_eq!(child.drain()["failed"], 0);
}

/// Its requests are arrays of one string, which is what an answer may be too. It hears no settings, and says so.
fn redis_benchmark_pipelines(setting: &Setting) {
    let child = Child::start(setting, "echo");
    let (ip, port) = (child.address().ip().to_string(), child.address().port().to_string());
    // It keeps all its connections to the end, so that none may have to wait for another.
    let connections = if setting.model == Model::Iterative { "1" } else { "10" };
    for (depth, requests) in [("1", "500"), ("16", "8000"), ("100", "20000")] {
        let load = ["-t", "ping_mbulk", "--csv", "-c", connections, "-P", depth, "-n", requests];
        let arguments = [&["-h", &ip, "-p", &port], &load[..]].concat();
        let Some(client) = Foreign::start("redis-benchmark", &arguments, "redis-tools") else { return };
        let said = String::from_utf8(client.talk(&[], Duration::ZERO)).unwrap();
        assert!(said.lines().last().is_some_and(|line| line.starts_with("\"PING_MBULK\"")), "{said}");
    }
    assert_eq!(child.drain()["failed"], 0);
}
