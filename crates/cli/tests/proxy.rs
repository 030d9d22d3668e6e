//! `roadstead serve proxy` between real clients and targets: every byte both ways, the end of each side, and a target
//! that is not there.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use common::{Process, Scene, words};
use roadstead::Model;
use rustix::process::Signal;

const MUCH: usize = 3 << 20;
/// Who waits longer, hangs.
const HANGS: Option<Duration> = Some(Duration::from_secs(60));

/// Bytes that repeat nowhere near, other ones for each direction.
fn pattern(salt: u32, count: usize) -> Vec<u8> {
    (0..count as u32).map(|place| ((place ^ salt << 20).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn up() -> Vec<u8> {
    pattern(1, MUCH)
}

fn down() -> Vec<u8> {
    pattern(2, MUCH)
}

#[track_caller]
fn is(bytes: &[u8], right: &[u8]) {
    assert!(bytes == right, "{} bytes of {}, or others", bytes.len(), right.len());
}

/// The models that a proxy runs on: connections share what they know of the targets, so that none may fork.
fn models() -> impl Iterator<Item = Model> {
    Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks())
}

fn proxy(scene: &Scene, options: &str) -> (Process, SocketAddr) {
    let mut command = scene.command(words(&format!("serve proxy --bind 127.0.0.1:0 {options}")));
    command.stderr(fs::File::create(scene.path("log")).unwrap());
    let mut proxy = Process::start(command);
    let address = proxy.listening();
    (proxy, address)
}

/// Ends the proxy; answers its last line.
#[track_caller]
fn closing(scene: &Scene, mut proxy: Process) -> String {
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.end().code(), Some(0));
    fs::read_to_string(scene.path("log")).unwrap().lines().last().unwrap().to_owned()
}

/// Serves one connection.
fn target<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(HANGS).unwrap();
        serve(stream)
    });
    (address, served)
}

/// Reads to the end, then answers and ends.
fn hears_first(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    stream.write_all(&down()).unwrap();
    heard
}

/// Says all and ends, then reads to the end.
fn speaks_first(mut stream: TcpStream) -> Vec<u8> {
    stream.write_all(&down()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(HANGS).unwrap();
    stream
}

/// Listens no more. A program that another test starts has the socket as well, until it is that program.
fn close(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    drop(listener);
    common::until("nobody listens", || TcpStream::connect(address).is_err());
    address
}

#[test]
fn three_megabytes_go_each_way_whoever_ends_first_on_every_model() {
    let scene = Scene::new();
    for model in models() {
        let (address, heard) = target(hears_first);
        let (process, at) = proxy(&scene, &format!("--to {address} --model {model}"));
        let mut stream = connect(at);
        stream.write_all(&up()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        is(&back, &down());
        is(&heard.join().unwrap(), &up());
        let last = closing(&scene, process);
        let sum = format!("proxied up={MUCH} down={MUCH} unserved=0 targets={address} served=1 failed=0");
        assert!(last.contains(&sum), "{model}: {last}");

        let (address, heard) = target(speaks_first);
        let (process, at) = proxy(&scene, &format!("--to {address} --model {model}"));
        let mut stream = connect(at);
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        is(&back, &down());
        stream.write_all(&up()).unwrap();
        drop(stream);
        is(&heard.join().unwrap(), &up());
        assert!(closing(&scene, process).contains("served=1"), "{model}");
    }
}

/// Runs a program of the system with what it is to send; `None` where it is missing and may be.
#[track_caller]
fn run(program: &str, arguments: &[&str], package: &str, input: Vec<u8>) -> Option<Vec<u8>> {
    let spawned = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(env::var_os("CI").is_none(), "`{program}` is not installed (package {package})");
            eprintln!("skipped: `{program}` is not installed (package {package})");
            return None;
        }
        Err(error) => panic!("`{program}` cannot be started: {error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        // Whoever has heard the end may want no more.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    Some(output.stdout)
}

#[test]
fn socat_and_nc_get_three_megabytes_for_three_on_every_model() {
    let scene = Scene::new();
    for model in models() {
        for serve in [hears_first, speaks_first] {
            for program in ["socat", "nc"] {
                let (address, heard) = target(serve);
                let (process, at) = proxy(&scene, &format!("--to {address} --model {model}"));
                let (host, port, to) = (at.ip().to_string(), at.port().to_string(), format!("TCP:{at}"));
                let back = match program {
                    "socat" => run(program, &["-t", "60", "-", &to], "socat", up()),
                    _ => run(program, &["-N", &host, &port], "netcat-openbsd", up()),
                };
                let Some(back) = back else {
                    // Nobody else comes.
                    drop(connect(at));
                    continue;
                };
                is(&back, &down());
                is(&heard.join().unwrap(), &up());
                assert!(closing(&scene, process).contains("served=1"), "{model}, {program}");
            }
        }
    }
}

/// Answers one request of HTTP: what was put, or what there is to get.
fn web(mut stream: TcpStream) -> Vec<u8> {
    let (mut heard, mut block) = (Vec::new(), [0; 1 << 16]);
    let head = loop {
        let count = stream.read(&mut block).unwrap();
        assert!(count > 0, "the request is cut off");
        heard.extend_from_slice(&block[..count]);
        if let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8(heard[..head].to_vec()).unwrap();
    let body = if text.starts_with("PUT") { MUCH } else { 0 };
    while heard.len() < head + body {
        let count = stream.read(&mut block).unwrap();
        heard.extend_from_slice(&block[..count]);
    }
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\nConnection: close\r\n\r\n");
    stream.write_all(&[answer.as_bytes(), &down()].concat()).unwrap();
    heard.split_off(head)
}

#[test]
fn curl_gets_and_puts_through_a_proxy_that_speaks_tls_with_a_pair_of_pem_files() {
    let scene = Scene::new();
    scene.ok(words(&format!("keys --out {}", scene.path("keys").display())));
    let server = scene.path("keys/server-1");
    let file = |name: &str| server.join(name).display().to_string();
    fs::write(scene.path("body"), up()).unwrap();
    let body = scene.path("body").display().to_string();
    for (puts, sent) in [(true, up()), (false, Vec::new())] {
        let (address, heard) = target(web);
        let options = format!("--to {address} --cert {} --key {}", file("cert.pem"), file("key.pem"));
        let (process, at) = proxy(&scene, &options);
        let resolve = format!("server-1:{}:127.0.0.1", at.port());
        let (url, authority) = (format!("https://server-1:{}/", at.port()), file("ca.pem"));
        let mut arguments = vec!["-sS", "--noproxy", "*", "--resolve", &resolve, "--cacert", &authority];
        arguments.extend(["-H", "Expect:"]);
        if puts {
            arguments.extend(["-T", &body]);
        }
        arguments.push(&url);
        let Some(back) = run("curl", &arguments, "curl", Vec::new()) else { return };
        is(&back, &down());
        is(&heard.join().unwrap(), &sent);
        assert!(closing(&scene, process).contains("served=1"));
    }
}

#[test]
fn both_sides_may_be_tls_and_a_target_with_other_keys_is_no_target() {
    let scene = Scene::new();
    scene.ok(words(&format!("keys --out {}", scene.path("keys").display())));
    scene.ok(words(&format!("keys --out {}", scene.path("others").display())));
    let keys = |place: &str| scene.path(place).display().to_string();
    let echo = |place: &str| {
        let line = format!("serve echo --bind 127.0.0.1:0 --keys {}", keys(place));
        let mut echo = scene.serve(words(&line));
        let address = echo.listening();
        (echo, address)
    };
    let (_right, right) = echo("keys/server-2");
    let (_wrong, wrong) = echo("others/server-2");
    let (process, at) = proxy(
        &scene,
        &format!("--to {wrong},{right} --keys {} --to-keys {}", keys("keys/server-1"), keys("keys/client")),
    );
    // The load generator checks every byte.
    let line = format!("load {at} --keys {} --connections 4 --seconds 1 --json -", keys("keys/client"));
    let report: serde_json::Value = serde_json::from_str(&scene.ok(words(&line))).unwrap();
    assert_eq!(report["wrong"].as_u64().unwrap_or(0), 0, "{report}");
    let last = closing(&scene, process);
    assert!(last.contains(&format!("{wrong} served=0 failed=")), "{last}");
    assert!(last.contains("unserved=0") && last.contains(&format!("{right} served=4 failed=0")), "{last}");
}

#[test]
fn connections_are_spread_and_who_cannot_be_reached_is_left_out_and_comes_back() {
    let scene = Scene::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let [first, second] = [&gone, &there].map(|listener| listener.local_addr().unwrap());
    let (process, at) = proxy(&scene, &format!("--to {first},{second}"));
    // Both serve: each has half of them.
    let clients: Vec<_> = (0..6).map(|_| connect(at)).collect();
    let served = [&gone, &there].map(|listener| [(); 3].map(|()| listener.accept().unwrap().0));
    drop((clients, served));
    close(gone);
    // One is gone: everybody is served by the other.
    for _ in 0..4 {
        let mut client = connect(at);
        let (mut stream, _) = there.accept().unwrap();
        stream.write_all(b"here").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    // It is back, and is found to be.
    let back = TcpListener::bind(first).unwrap();
    back.set_nonblocking(true).unwrap();
    let mut found = false;
    common::until("the target is found again", || {
        let _client = connect(at);
        thread::sleep(Duration::from_millis(20));
        found = back.accept().is_ok();
        found
    });
    let last = closing(&scene, process);
    assert!(last.contains("unserved=0"), "{last}");
}

#[test]
fn who_cannot_be_served_at_all_is_reset_and_counted() {
    let scene = Scene::new();
    let nobody = close(TcpListener::bind("127.0.0.1:0").unwrap());
    let (process, at) = proxy(&scene, &format!("--to {nobody} -v"));
    for _ in 0..3 {
        let error = connect(at).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let last = closing(&scene, process);
    assert!(last.contains(&format!("unserved=3 targets={nobody} served=0 failed=3")), "{last}");
    let log = fs::read_to_string(scene.path("log")).unwrap();
    assert!(log.contains("no target can be reached") && log.contains("refused"), "{log}");
}

#[test]
fn a_model_that_forks_is_refused_with_the_reason() {
    let scene = Scene::new();
    for model in ["process", "prefork"] {
        let line = format!("serve proxy --to 127.0.0.1:1 --bind 127.0.0.1:0 --model {model}");
        assert!(scene.fails(words(&line)).contains("share state"), "{model}");
    }
}
