//! `roadstead serve` on the models that fork: what the death of one process costs the others.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use common::{Process, Scene, until, words};
use rustix::process::{Pid, Signal, kill_process};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Whether four bytes come back.
fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ahoy").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"ahoy"
}

fn open(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    assert!(echoes(&mut stream));
    stream
}

/// The children of a process and the letter of the state of each, also of those that nobody has waited for.
fn children(parent: &Process) -> Vec<(Pid, char)> {
    let parent = parent.pid().as_raw_nonzero().to_string();
    let stat = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()? == parent).then(|| (Pid::from_raw(pid.parse().unwrap()).unwrap(), state))
    };
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    entries.filter_map(|name| stat(name.to_str()?)).collect()
}

fn live(parent: &Process, count: usize) {
    until("so many children live, and none is dead", || {
        let children = children(parent);
        children.len() == count && children.iter().all(|&(_, state)| state != 'Z')
    });
}

fn serve(scene: &Scene, line: &str) -> (Process, SocketAddr) {
    let mut command = scene.command(words(&format!("-v serve echo --bind 127.0.0.1:0 {line}")));
    command.stderr(File::create(scene.path("log")).unwrap());
    let mut server = Process::start(command);
    let address = server.listening();
    (server, address)
}

fn ends(scene: &Scene, mut server: Process) -> String {
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    scene.nothing_lives();
    fs::read_to_string(scene.path("log")).unwrap()
}

#[test]
fn a_killed_child_takes_its_own_connection_only() {
    let scene = Scene::new();
    let (server, address) = serve(&scene, "--model process");
    let mut streams = (0..6).map(|_| open(address)).collect::<Vec<_>>();
    live(&server, 6);
    kill_process(children(&server)[2].0, Signal::KILL).unwrap();
    live(&server, 5);
    streams.retain_mut(echoes);
    assert_eq!(streams.len(), 5);
    drop(open(address));
    drop(streams);
    live(&server, 0);
    let log = ends(&scene, server);
    assert!(log.contains("was killed by signal 9"), "{log}");
    assert!(log.contains("accepted=7 refused=0 closed=7 failed=1"), "{log}");
}

#[test]
fn killed_workers_are_replaced_while_the_others_serve() {
    let scene = Scene::new();
    let (server, address) = serve(&scene, "--model prefork --workers 4");
    live(&server, 4);
    let (over, broken, right) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let kills = 24;
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut stream = connect(address);
                while !over.load(SeqCst) {
                    if echoes(&mut stream) {
                        right.fetch_add(1, SeqCst);
                    } else {
                        broken.fetch_add(1, SeqCst);
                        stream = connect(address);
                    }
                }
            });
        }
        for kill in 0..kills {
            let before = right.load(SeqCst);
            until("somebody is served", || right.load(SeqCst) > before + 20);
            let children = children(&server);
            // Which one follows from nothing in the server.
            if let Some((child, _)) = children.get(kill * 7 % children.len().max(1)) {
                let _ = kill_process(*child, Signal::KILL);
            }
        }
        over.store(true, SeqCst);
    });
    assert!(broken.load(SeqCst) <= kills, "only the connections of the killed fail");
    live(&server, 4);
    // Each serves one, so that all four serve now.
    let mut streams = (0..4).map(|_| open(address)).collect::<Vec<_>>();
    assert!(streams.iter_mut().all(echoes));
    drop(streams);
    let log = ends(&scene, server);
    assert!(log.contains("worker-") && log.contains("was killed by signal 9"), "{log}");
}

#[test]
fn what_a_killed_child_had_is_given_back() {
    let scene = Scene::new();
    for line in ["--model process --connections 1", "--model prefork --workers 3 --connections 1"] {
        let (server, address) = serve(&scene, line);
        for _ in 0..3 {
            let mut held = None;
            until("there is room", || {
                let mut stream = connect(address);
                held = echoes(&mut stream).then_some(stream);
                held.is_some()
            });
            assert!(!echoes(&mut connect(address)), "{line}: it has no room for a second");
            // One child of `process`, all of `prefork`: one of them has the connection.
            for (child, _) in children(&server) {
                // It may have ended already.
                let _ = kill_process(child, Signal::KILL);
            }
            assert!(!echoes(&mut held.unwrap()));
        }
        ends(&scene, server);
    }
}

#[test]
fn connections_of_one_address_are_counted_over_all_processes() {
    let scene = Scene::new();
    for line in ["--model process --per-address 2", "--model prefork --workers 4 --per-address 2"] {
        let (server, address) = serve(&scene, line);
        let mut two = [open(address), open(address)];
        assert!(!echoes(&mut connect(address)), "{line}");
        assert!(two.iter_mut().all(echoes));
        drop(two);
        until("there is room again", || echoes(&mut connect(address)));
        assert!(!ends(&scene, server).contains("refused=0 "), "{line}");
    }
}

#[test]
fn children_end_with_their_parent() {
    let scene = Scene::new();
    for line in ["--model process", "--model prefork --workers 3"] {
        let (mut server, address) = serve(&scene, line);
        let mut stream = open(address);
        server.kill();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "{line}: it is told to finish");
        drop(stream);
        scene.nothing_lives();
    }
}

#[test]
fn who_is_to_end_with_a_process_that_has_ended_already_does_not_begin() {
    let scene = Scene::new();
    let mut parent = Command::new("true").spawn().unwrap();
    parent.wait().unwrap();
    let mut command =
        scene.command(words(&format!("serve echo --bind 127.0.0.1:0 --with-parent {}", parent.id())));
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    assert_eq!(server.stdout.take().unwrap().read(&mut first).unwrap(), 0, "it listens");
    let ended = server.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert_eq!(said, "roadstead: the process that started this one has ended\n");
}

#[test]
fn a_signal_to_all_of_them_is_a_drain_too() {
    let scene = Scene::new();
    for line in ["--model process", "--model prefork --workers 3"] {
        let (mut server, address) = serve(&scene, line);
        let mut stream = open(address);
        for pid in scene.living() {
            // Who had nothing to do may have ended by the parent's order already.
            let _ = kill_process(pid, Signal::INT);
        }
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "{line}: it is told to finish");
        drop(stream);
        assert_eq!(server.end().code(), Some(0), "{line}");
        scene.nothing_lives();
    }
}
