//! The loop and a worker, each of whose steps the test takes, on a network that never runs dry.
#![forbid(unsafe_code)]

use std::{
    io, mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead_proto::{
    budget::Budget,
    host::{Host, Shared},
    input::Input,
    queue::{Queue, SharedQueue},
    service::{Done, Peer, Ready, Scope, Service, Session},
    session::Context,
    ticket::Token,
};

use super::Worker;
use crate::{
    accept::Listener,
    orders::Orders,
    reactor::{Poller, Reactor, Readiness, tests::Torrent},
};

/// Tells of each connection once, and of nobody who waits to be let in.
#[derive(Default)]
struct Once(Vec<Token>);

impl Poller<Torrent> for Once {
    fn listen(&mut self, (): &(), _: Token) -> io::Result<()> {
        Ok(())
    }
    fn ignore(&mut self, (): &()) {}
    fn add(&mut self, _: &u8, token: Token) -> io::Result<()> {
        self.0.push(token);
        Ok(())
    }
    fn interest(&mut self, _: &u8, _: Token, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, _: &u8) {}
    fn wait(&mut self, ready: &mut Vec<Readiness>, _: Option<Duration>, _: bool) -> io::Result<()> {
        let news = mem::take(&mut self.0).into_iter();
        ready.extend(news.map(|token| Readiness { token, readable: true, writable: true, more: false }));
        Ok(())
    }
}

/// Notes what it hears, and finishes in a drain.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<&'static str>>>);

impl Notes {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
    fn take(&self) -> Vec<&'static str> {
        mem::take(&mut self.0.lock().unwrap())
    }
}

impl Service for Notes {
    type Session = Notes;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Notes {
        self.clone()
    }
}

impl Session for Notes {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened => self.note("opened"),
            Ready::Draining => {
                self.note("draining");
                cx.finish();
            }
            _ => {}
        }
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        self.note("bytes");
        Ok(())
    }
}

#[test]
fn who_is_let_in_by_a_drain_is_heard_before_it_is_told() {
    let (shared, orders, notes) =
        (Shared::new(Budget::default()), Arc::<Orders>::default(), Notes::default());
    let listener = Listener::new((), Arc::new(notes.clone()), Arc::clone(&shared), None);
    let line = SharedQueue::new(Queue::default().discipline());
    let mut worker = Worker::new(Torrent::new(0), Host::alone(Arc::clone(&shared), 1), &line);
    let host = Host::alone(shared, 2);
    orders.drain(host.wake_queue());
    let (net, poller, listeners) = (Torrent::new(1), Once::default(), vec![listener]);
    let mut reactor = Reactor::with_workers(net, poller, host, orders, listeners, line).unwrap();
    assert!(reactor.turn().unwrap());
    while worker.step() {}
    assert_eq!(notes.take(), ["opened"], "nothing has been heard of what it says");
    assert!(reactor.turn().unwrap() && worker.step());
    assert_eq!(notes.take(), ["bytes", "draining"]);
}
