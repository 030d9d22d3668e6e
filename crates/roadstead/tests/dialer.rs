//! Connections that no server's session has opened: the dialer's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    mem,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use roadstead::{Budget, Closed, Context, Dialer, Done, Input, Peer, Ready, Server, Service, Session};

/// Sends back what comes.
struct Echo;

impl Service for Echo {
    type Session = Self;
    fn open(&self, _: &Peer) -> Self {
        Self
    }
}

impl Session for Echo {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came to this: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The session at a dialer's end: says what it is given, and remembers what it hears.
#[derive(Clone, Default)]
struct Caller {
    say: Arc<Mutex<Vec<u8>>>,
    heard: Arc<Mutex<Vec<u8>>>,
    closed: Arc<Mutex<Option<String>>>,
}

impl Session for Caller {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.heard.lock().unwrap().extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }

    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&mem::take(&mut *self.say.lock().unwrap()));
        Ok(())
    }

    fn closed(self, why: &Closed) {
        *self.closed.lock().unwrap() = Some(why.to_string());
    }
}

impl Caller {
    fn fate(&self) -> String {
        eventually("the call is over", || self.closed.lock().unwrap().is_some());
        self.closed.lock().unwrap().clone().unwrap()
    }
}

#[test]
fn a_dialer_carries_what_other_threads_put_before_it() {
    let server = Server::new(Echo).bind("127.0.0.1:0").start().unwrap();
    let (dialer, caller) = (Dialer::start(Budget::default()).unwrap(), Caller::default());
    let waker = dialer.connect(server.addresses()[0], caller.clone()).unwrap();
    for count in 1..=50 {
        caller.say.lock().unwrap().extend_from_slice(b"word ");
        waker.wake();
        eventually("it is echoed", || caller.heard.lock().unwrap().len() == 5 * count);
    }
    drop(server);
    caller.fate();
    assert!(waker.is_closed());
}

#[test]
fn a_dialer_says_why_a_connection_cannot_be_had() {
    let patience = Duration::from_millis(300);
    let dialer = Dialer::start(Budget::default().connect(patience).connections(1)).unwrap();
    let (refused, unanswered, stopped) = (Caller::default(), Caller::default(), Caller::default());
    dialer.connect(nobody(), refused.clone()).unwrap();
    assert!(refused.fate().contains("refused"));
    let (far, _full) = deaf();
    dialer.connect(far, unanswered.clone()).unwrap();
    assert!(dialer.connect(far, Caller::default()).is_err(), "the budget has room for one");
    assert_eq!(unanswered.fate(), "the peer did not answer the connection in time");
    dialer.connect(far, stopped.clone()).unwrap();
    drop(dialer);
    assert_eq!(stopped.fate(), "the server stopped");
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener that answers no more connections, and those that fill its backlog.
fn deaf() -> (SocketAddr, impl Sized) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let filling = (0..8)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect::<Vec<_>>();
    thread::sleep(Duration::from_millis(50));
    (address.as_socket().unwrap(), (listener, filling))
}
