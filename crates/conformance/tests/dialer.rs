//! Connections that no server's session has opened: the dialer's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead::{Budget, Closed, Context, Dialer, Done, Input, Ready, Server, Session};
use roadstead_conformance::{
    client::eventually,
    far::{deaf, nobody},
};
use roadstead_services::echo::Echo;

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
    let (empty, _kept) = nobody();
    dialer.connect(empty, refused.clone()).unwrap();
    assert!(refused.fate().contains("refused"));
    let (far, _full) = deaf();
    dialer.connect(far, unanswered.clone()).unwrap();
    assert_eq!(unanswered.fate(), "the peer did not answer the connection in time");
    // Whose connection nothing but its stop ends.
    let patience = Duration::from_secs(3600);
    let dialer = Dialer::start(Budget::default().connect(patience).connections(1)).unwrap();
    dialer.connect(far, stopped.clone()).unwrap();
    assert!(dialer.connect(far, Caller::default()).is_err(), "the budget has room for one");
    drop(dialer);
    assert_eq!(stopped.fate(), "the server stopped");
}
