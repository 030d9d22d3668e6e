//! What comes out of a backlog in which some have broken off, and for which the system has no room.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use bytes::BytesMut;

use roadstead_proto::{
    address::Address,
    budget::Budget,
    input::Input,
    output::Output,
    service::{Done, Scope, Session},
    session::Context,
};

use super::*;

/// A listener at which these wait; a failure in place of some.
struct Backlog {
    waiting: VecDeque<Option<Failure>>,
    shed: usize,
    /// Whether each that was closed was reset.
    closed: Vec<bool>,
}

impl Backlog {
    fn of(waiting: impl IntoIterator<Item = Option<Failure>>) -> Self {
        Self { waiting: waiting.into_iter().collect(), shed: 0, closed: Vec::new() }
    }
}

impl Net for Backlog {
    type ListenSocket = ();
    type Stream = ();

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn accept(&mut self, (): &()) -> io::Result<((), Address)> {
        match self.waiting.pop_front() {
            Some(None) => Ok(((), ([192, 0, 2, 1], 7).into())),
            Some(Some(failure)) => Err(io::Error::other(failure)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
    fn shed(&mut self, (): &()) -> bool {
        self.shed += 1;
        true
    }
    fn connect(&mut self, _: &Address) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn connected(&mut self, (): &()) -> io::Result<()> {
        Ok(())
    }
    fn receive(&mut self, (): &(), _: &mut BytesMut, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn send(&mut self, (): &(), _: &Output) -> io::Result<u64> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn shutdown(&mut self, (): &()) {}
    fn close(&mut self, (): (), reset: bool) {
        self.closed.push(reset);
    }
}

fn name<T>(taken: &Taken<T>) -> &'static str {
    match taken {
        Taken::One(..) => "one",
        Taken::Lost => "lost",
        Taken::Shed => "shed",
        Taken::Empty => "empty",
        Taken::Exhausted => "exhausted",
    }
}

#[test]
fn who_waits_behind_one_that_has_broken_off_is_taken_too_when_the_listener_is_closed() {
    let waiting =
        [None, Some(Failure::Passing), None, Some(Failure::NoDescriptors), None, Some(Failure::NoRoom), None];
    let taken = last(&mut Backlog::of(waiting), &());
    assert_eq!(taken.iter().map(name).collect::<Vec<_>>(), ["one", "lost", "one", "shed", "one"]);
}

#[test]
fn a_newcomer_for_whom_there_is_no_descriptor_is_turned_away() {
    for (failure, taken, shed) in [
        (Failure::Empty, "empty", 0),
        (Failure::Passing, "lost", 0),
        (Failure::NoDescriptors, "shed", 1),
        (Failure::NoRoom, "exhausted", 0),
        (Failure::Other, "exhausted", 0),
    ] {
        let mut net = Backlog::of([Some(failure)]);
        assert_eq!((name(&take(&mut net, &())), net.shed), (taken, shed), "{failure}");
    }
}

/// Panics over every other connection.
#[derive(Default)]
struct Moody(AtomicBool);

impl Service for Moody {
    type Session = Silent;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Silent {
        assert!(!self.0.fetch_not(SeqCst), "not you");
        Silent
    }
}

struct Silent;

impl Session for Silent {
    type Reply = ();
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[test]
fn whoever_is_not_let_in_is_reset_and_counted_as_refused_and_takes_up_nobodys_place() {
    let shared = Shared::new(Budget::default().connections(2));
    let listener = Listener::new((), Arc::new(Moody::default()), Arc::clone(&shared), None);
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let mut net = Backlog::of([None, None, None, None, None, Some(Failure::NoDescriptors), None]);
    let mut came = || match next(&mut net, &listener, &mut host) {
        Accepted::Admitted((), endpoint) => Some(endpoint),
        Accepted::Refused => None,
        Accepted::Empty | Accepted::Exhausted => panic!("somebody waits"),
    };
    let (first, panicked, second, over) = (came(), came(), came(), came());
    assert!(first.is_some() && panicked.is_none() && second.is_some() && over.is_none());
    drop(first);
    assert!(came().is_none(), "the service panics over it");
    assert!(came().is_none(), "there is no descriptor for it");
    let third = came();
    assert!(third.is_some() && shared.gate.open() == 2);
    host.report();
    let counted = shared.snapshot();
    assert_eq!((counted.accepted, counted.refused), (3, 4));
    assert_eq!(net.closed, [true; 3]);
}
