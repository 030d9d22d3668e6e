//! One socket of the queue: how far its receive and its send are.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use super::operation::Name;

/// A socket, and what is in flight for it.
pub(super) struct Socket {
    pub(super) stream: OwnedFd,
    pub(super) connect: Option<Name>,
    pub(super) receive: Receiving,
    pub(super) send: Sending,
    /// It is among those for whom what is in flight is being tried.
    pub(super) looks: bool,
    /// Nobody waits for more than the end of what is in flight.
    pub(super) cancelled: bool,
}

/// A poll, and whether it was cancelled to try at once what it is for.
#[derive(Clone, Copy)]
pub(super) struct Poll {
    pub(super) name: Name,
    pub(super) hurries: bool,
}

/// How far a receive is, of up to so many bytes.
#[derive(Clone, Copy)]
pub(super) enum Receiving {
    Idle,
    Polls(Poll, usize),
    /// There is something, and no block for it.
    Waits(usize),
    Works,
}

/// How far a send is.
#[derive(Clone, Copy)]
pub(super) enum Sending {
    Idle,
    Works,
    /// The peer has no room.
    Full(Poll),
    /// That wait is over, and the send is not asked for again yet.
    Roomy,
}

impl Socket {
    /// Nothing is in flight for it.
    pub(super) fn new(stream: OwnedFd) -> Self {
        let (receive, send) = (Receiving::Idle, Sending::Idle);
        Self { stream, connect: None, receive, send, looks: false, cancelled: false }
    }

    /// Whether something in flight was not tried yet.
    pub(super) fn tries(&self) -> bool {
        let receives = match self.receive {
            Receiving::Idle => false,
            Receiving::Polls(poll, _) => poll.hurries,
            Receiving::Waits(_) | Receiving::Works => true,
        };
        receives
            || match self.send {
                Sending::Idle => false,
                Sending::Full(poll) => poll.hurries,
                Sending::Works | Sending::Roomy => true,
            }
    }

    /// The polls that are in flight.
    pub(super) fn polls(&mut self) -> impl Iterator<Item = &mut Poll> {
        let receive = match &mut self.receive {
            Receiving::Polls(poll, _) => Some(poll),
            _ => None,
        };
        let send = match &mut self.send {
            Sending::Full(poll) => Some(poll),
            _ => None,
        };
        receive.into_iter().chain(send)
    }
}
