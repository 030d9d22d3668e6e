//! A loop that the system fails: whoever holds the server learns of it, and a drain is no success.
//!
//! Alone in its process, because it takes descriptors from under the engine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{self, Read, Write},
    mem,
    net::TcpStream,
    ops::{RangeBounds, RangeInclusive},
    os::fd::{FromRawFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use roadstead::{
    Context, Done, Input, Model, Peer, Scope, Server, Service, Session,
    server::{Broken, DrainError, Io},
};

struct Echo;

impl Service for Echo {
    type Session = Echo;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Echo {
        Echo
    }
}

impl Session for Echo {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

/// Puts a file where these loops have their epoll instances, in the order in which they were made.
fn take_away_epoll(loops: impl RangeBounds<usize>) {
    let null = fs::File::open("/dev/null").unwrap();
    let is_epoll = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("eventpoll"))
    };
    let all = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.filter(is_epoll).collect();
    all.sort_by_key(|path| path.file_name().map(|name| name.to_str().unwrap().parse::<u32>().unwrap()));
    for path in all.into_iter().enumerate().filter(|(at, _)| loops.contains(at)).map(|(_, path)| path) {
        let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: the descriptor is open, and is not closed here.
        let mut place = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::dup2(&null, &mut place).unwrap();
        mem::forget(place);
    }
}

#[test]
fn what_becomes_of_a_server_whose_loops_break() {
    who_holds_a_server_learns_that_its_loop_has_ended_and_a_drain_is_an_error();
    for (first, last) in [(0, 0), (1, 1), (2, 2)] {
        where_one_loop_breaks_the_others_do_not_go_on(first..=last);
    }
}

fn where_one_loop_breaks_the_others_do_not_go_on(which: RangeInclusive<usize>) {
    let server = Server::new(Echo).model(Model::Epoll).loops(3).bind("127.0.0.1:0").start().unwrap();
    let mut streams: Vec<_> = (0..6).map(|_| TcpStream::connect(server.addresses()[0]).unwrap()).collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    take_away_epoll(which);
    for stream in &mut streams {
        let _ = stream.write_all(b"?");
    }
    assert!(matches!(server.wait(), Err(Broken::System(_))));
    // All of them end, although nobody has let go of the server.
    for stream in &mut streams {
        while let Ok(1) = stream.read(&mut [0; 1]) {}
        let ended = stream.read(&mut [0; 1]);
        assert!(!matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{ended:?}");
    }
}

fn who_holds_a_server_learns_that_its_loop_has_ended_and_a_drain_is_an_error() {
    let settings = [
        (Model::Epoll, Io::Loop, 0),
        (Model::Epoll, Io::Loop, 2),
        (Model::Epoll, Io::Workers, 2),
        (Model::Emulated, Io::Loop, 0),
    ];
    for (model, io, workers) in settings {
        let server = Server::new(Echo).model(model).io(io).workers(workers).bind("127.0.0.1:0");
        let server = server.start().unwrap();
        let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        assert!(server.ended().is_none(), "{model}, {io:?}");
        take_away_epoll(..);
        // Calls the loop out of its wait.
        let _second = TcpStream::connect(server.addresses()[0]);
        let _ = stream.write_all(b"?");
        let broken = server.wait().unwrap_err();
        assert!(matches!(broken, Broken::System(_)), "{model}, {io:?}: {broken}");
        assert!(matches!(server.ended(), Some(Err(Broken::System(_)))));
        while matches!(stream.read(&mut [0; 1]), Ok(1)) {}
        let drained = server.drain(Duration::from_secs(30));
        assert!(matches!(drained, Err(DrainError::Broken(Broken::System(_)))), "{model}: {drained:?}");
    }
}
