//! Whoever closes first keeps TIME_WAIT: the session's choice, as the system counts it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use roadstead::{Budget, Context, Done, Input, Model, Peer, Running, Scope, Server, Service, Session};

const VISITS: usize = 20;
const ANSWER: &[u8] = b"bye";

/// Answers once, and ends first or has the peer do so.
#[derive(Clone, Copy)]
struct Farewell {
    after_peer: bool,
}

impl Service for Farewell {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Self {
        *self
    }
}

impl Session for Farewell {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        cx.output().write(ANSWER);
        if self.after_peer {
            cx.finish_after_peer();
        } else {
            cx.finish();
        }
        Ok(())
    }
}

/// Connections of the server's port that wait for late segments, by what the system says: proc_pid_net(5).
fn time_waits(server: SocketAddr) -> usize {
    const TIME_WAIT: &str = "06";
    let port = format!(":{:04X}", server.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().skip(1));
    rows.filter_map(|mut row| Some((row.next()?, row.nth(1)?)))
        .filter(|(local, state)| local.ends_with(&port) && *state == TIME_WAIT)
        .count()
}

/// A server on a port at which nothing waits yet: the system may give one again that another has left so.
fn start(model: Model, after_peer: bool) -> (Running, SocketAddr) {
    // The peer's end is waited for, however long it takes to come.
    let budget = Budget::default().linger(Duration::from_secs(3600));
    let attempt = |_| {
        let server = Server::new(Farewell { after_peer }).bind("127.0.0.1:0").model(model);
        let server = server.budget(budget.clone()).start().unwrap();
        let address = server.addresses()[0];
        (time_waits(address) == 0).then_some((server, address))
    };
    (0..100).find_map(attempt).expect("a port that nobody has used")
}

/// How many TIME_WAITs so many visits leave with the server.
fn left_behind(model: Model, after_peer: bool) -> usize {
    let (server, address) = start(model, after_peer);
    for _ in 0..VISITS {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"?").unwrap();
        let mut answer = [0; ANSWER.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, ANSWER);
        if !after_peer {
            assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "the server ends first");
        }
    }
    let begun = Instant::now();
    while server.stats().closed < VISITS as u64 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{model}: they do not close");
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(server.stats().failed, 0, "{model}");
    time_waits(address)
}

#[test]
fn whoever_ends_first_keeps_time_wait() {
    for model in [Model::Iterative, Model::Threads, Model::Epoll, Model::Emulated, Model::Aio] {
        assert_eq!(left_behind(model, false), VISITS, "{model}: the server ends first");
        assert_eq!(left_behind(model, true), 0, "{model}: the peer ends first");
    }
}
