//! Unix sockets on the command line: wherever an address may stand, `unix:PATH` and `unix:@NAME` may.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use common::{Process, Scene, words};

/// Who waits longer, hangs.
const HANGS: Option<Duration> = Some(Duration::from_secs(60));

fn at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// A server with these words, which says that it listens at each of `places`.
fn serve(scene: &Scene, line: &str, places: &[&str]) -> Process {
    let mut server = scene.serve(words(line));
    for place in places {
        assert_eq!(server.line(), format!("listening on {place}\n"));
    }
    server
}

#[track_caller]
fn ends_well(mut server: Process) {
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

/// What comes back of `sent`, to the end.
fn talk(path: &Path, sent: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(HANGS).unwrap();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back
    })
}

fn pattern(count: u32) -> Vec<u8> {
    (0..count).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_server_is_loaded_by_path_and_by_abstract_name_plain_and_through_tls() {
    let scene = Scene::new();
    let (path, json) = (scene.path("socket"), scene.path("load.json"));
    let (file, name) = (at(&path), format!("unix:@{}", path.display()));
    scene.ok(words(&format!("keys --out {}", scene.path("keys").display())));
    let keys = |who: &str| format!("--keys {}", scene.path("keys").join(who).display());
    for (server_keys, client_keys) in [(String::new(), String::new()), (keys("server-1"), keys("client"))] {
        let line = format!("serve echo --bind {file} --bind {name} {server_keys}");
        let server = serve(&scene, &line, &[&file, &name]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for target in [&file, &name] {
            let load = format!("load {target} --connections 8 --depth 4 --messages 2000 {client_keys}");
            scene.ok(words(&format!("{load} --json {}", json.display())));
            let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
            let found = [&report["target"], &report["right"], &report["failed"]];
            assert_eq!(found, [&Value::from(target.as_str()), &Value::from(2000), &Value::from(0)]);
        }
        ends_well(server);
        assert!(!path.exists());
    }
}

#[test]
fn a_proxy_goes_from_one_unix_socket_to_another() {
    let scene = Scene::new();
    let [near, far] = ["near", "far"].map(|name| scene.path(name));
    let name = format!("unix:@{}", far.display());
    let echo = serve(&scene, &format!("serve echo --bind {} --bind {name}", at(&far)), &[&at(&far), &name]);
    let log = scene.path("log");
    let mut command =
        scene.command(words(&format!("serve proxy --bind {} --to {},{name}", at(&near), at(&far))));
    command.stderr(fs::File::create(&log).unwrap());
    let mut proxy = Process::start(command);
    assert_eq!(proxy.line(), format!("listening on {}\n", at(&near)));
    let sent = pattern(3 << 20);
    for _ in 0..2 {
        assert!(talk(&near, &sent) == sent);
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.end().code(), Some(0));
    ends_well(echo);
    let said = fs::read_to_string(log).unwrap();
    let targets = format!("targets={} served=1 failed=0, {name} served=1 failed=0", at(&far));
    assert!(said.lines().last().unwrap().ends_with(&targets), "{said}");
}

#[test]
fn what_is_wrong_with_an_address_is_said_in_a_line() {
    let scene = Scene::new();
    let path = scene.path("letters");
    fs::write(&path, "letters").unwrap();
    let said = scene.fails(words(&format!("serve echo --bind {}", at(&path))));
    let file = "there is a file, and it is no socket: remove it, or choose another path";
    assert_eq!(said, format!("cannot listen on {}: {file}", at(&path)));
    let nowhere = at(&scene.path("nowhere/socket"));
    let said = scene.fails(words(&format!("serve echo --bind {nowhere}")));
    assert_eq!(said, format!("cannot listen on {nowhere}: its directory does not exist: create it first"));
    let said = scene.fails(words(&format!("load {nowhere}")));
    assert_eq!(said, format!("cannot connect to {nowhere}: No such file or directory (os error 2)"));
    for long in [at(&PathBuf::from("x".repeat(108))), format!("unix:@{}", "x".repeat(108))] {
        let output = scene.run(words(&format!("serve echo --bind {long}")));
        let said = String::from_utf8(output.stderr).unwrap();
        let why = "a Unix socket's name has at most 107 bytes, and this has 108: choose a shorter one";
        assert!(output.status.code() == Some(2) && said.contains(why), "{said}");
    }
}

#[test]
fn a_server_that_is_started_with_a_unix_socket_leaves_its_file_to_whoever_made_it() {
    let scene = Scene::new();
    let path = scene.path("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let inside = scene.command(words("serve echo"));
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";
    command.args(["-c", script, "sh"]).arg(inside.get_program()).args(inside.get_args());
    command.envs(inside.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket))).stderr(Stdio::null());
    let mut server = Process::start(command);
    assert_eq!(server.line(), format!("listening on {}\n", at(&path)));
    let sent = pattern(100_000);
    assert!(talk(&path, &sent) == sent);
    ends_well(server);
    assert!(path.exists());
}

#[test]
fn three_servers_of_shares_are_asked_at_unix_sockets() {
    let scene = Scene::new();
    scene.share(64, false);
    let paths = [1, 2, 3].map(|party| scene.path(format!("server-{party}.sock")));
    let servers: Vec<_> = (1..)
        .zip(&paths)
        .map(|(party, path)| {
            let mut server = scene.serve(scene.server(party, &format!("--bind {}", at(path))));
            assert_eq!(server.line(), format!("listening on {}\n", at(path)));
            server
        })
        .collect();
    let client = scene.path("shares/client");
    let list = paths.each_ref().map(|path| at(path)).join(",");
    scene.ok(words(&format!("trident fetch 7 --client {} --servers {list}", client.display())));
    servers.into_iter().for_each(ends_well);
}
