//! A log that cannot be written, or that strangers fill.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::Instant,
};

use common::{Process, Scene, words};
use roadstead::Model;
use rustix::process::Signal;

fn models() -> impl Iterator<Item = Model> {
    Model::ALL.into_iter().filter(|model| model.obstacle().is_none())
}

/// Serves `line` on a model, with a log that goes to `log`.
#[track_caller]
fn serve(scene: &Scene, line: &str, model: Model, log: impl Into<Stdio>) -> Process {
    let mut command = scene.command(words(&format!("{line} --bind 127.0.0.1:0 --model {model}")));
    command.stderr(log);
    Process::start(command)
}

#[track_caller]
fn end(mut server: Process) {
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_server_that_says_much_serves_where_it_cannot_be_said() {
    let scene = Scene::new();
    for model in models() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (_, nobody) = io::pipe().unwrap();
        for log in [Stdio::from(full), Stdio::from(nobody)] {
            let mut server = serve(&scene, "-vv serve echo", model, log);
            let mut client = TcpStream::connect(server.listening()).unwrap();
            let mut back = [0; 4];
            client.write_all(b"ahoy").unwrap();
            client.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"ahoy", "{model}");
            drop(client);
            end(server);
        }
    }
}

/// Speaks no TLS, and sees that this is not taken.
fn fail_to_shake_hands(address: SocketAddr) {
    let mut stranger = TcpStream::connect(address).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // However it is ended.
    let _ = stranger.read_to_end(&mut Vec::new());
}

#[test]
fn of_what_strangers_cause_a_few_lines_are_written_and_then_their_number() {
    let scene = Scene::new();
    scene.ok(words(&format!("keys --out {} --servers 1", scene.path("k").display())));
    let line = format!("serve echo --keys {}", scene.path("k/server-1").display());
    const STRANGERS: usize = 300;
    for model in models() {
        let log = scene.path(format!("log of {model}"));
        let mut server = serve(&scene, &line, model, File::create(&log).unwrap());
        let address = server.listening();
        let start = Instant::now();
        (0..STRANGERS).for_each(|_| fail_to_shake_hands(address));
        end(server);
        // The first and the last are begun ones.
        let seconds = start.elapsed().as_secs() as usize + 2;
        let log = std::fs::read_to_string(log).unwrap();
        let (failed, others): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.contains("layer failed"));
        let told = |line: &&str| line.split_once('[')?.1.split(' ').next()?.parse::<usize>().ok();
        let untold: usize = failed.iter().chain(&others).filter_map(told).sum();
        assert_eq!(failed.len() + untold, STRANGERS, "{model}: {log}");
        assert!(failed.len() >= 10 && failed.len() <= 10 * seconds, "{model}: {log}");
    }
}

#[test]
fn an_error_shows_the_words_of_others_as_they_are() {
    let scene = Scene::new();
    let error = scene.fails(["serve", "echo", "--bind", "127.0.0.1:0", "--keys", "a\u{202e}b\nc"]);
    assert!(error.contains("a\\u{202e}b\\nc"), "{error}");
}
