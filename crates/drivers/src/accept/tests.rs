//! What comes out of a backlog in which some have broken off, and for which the system has no room.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use bytes::BytesMut;

use roadstead_proto::output::Output;

use super::*;

/// A listener at which these wait; a failure in place of some.
struct Backlog {
    waiting: VecDeque<Option<Failure>>,
    shed: usize,
}

impl Backlog {
    fn of(waiting: impl IntoIterator<Item = Option<Failure>>) -> Self {
        Self { waiting: waiting.into_iter().collect(), shed: 0 }
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
    fn accept(&mut self, (): &()) -> io::Result<((), SocketAddr)> {
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
    fn connect(&mut self, _: SocketAddr) -> io::Result<()> {
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
    fn close(&mut self, (): (), _: bool) {}
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
        (Failure::HungUp, "exhausted", 0),
        (Failure::NoDescriptors, "shed", 1),
        (Failure::NoRoom, "exhausted", 0),
        (Failure::Other, "exhausted", 0),
    ] {
        let mut net = Backlog::of([Some(failure)]);
        assert_eq!((name(&take(&mut net, &())), net.shed), (taken, shed), "{failure}");
    }
}
