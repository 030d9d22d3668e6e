//! One simulated connection: two pipes, two ends, and what the seed has planned for it.

use std::{collections::VecDeque, io, time::Duration};

use bytes::Bytes;

use roadstead_drivers::reactor::Readiness;
use roadstead_proto::{Address, ticket::Token};

use crate::{
    dice::Dice,
    fate::{Cut, Fate},
    faults::Faults,
};

/// What a connection's sockets buffer at most in one direction, in bytes.
const BUFFER: u64 = 1 << 20;

/// A connection.
pub(crate) struct Wire {
    pub(crate) address: Address,
    pub(crate) opened: Duration,
    /// By the side that receives.
    pub(super) pipes: [Pipe; 2],
    pub(super) sides: [Side; 2],
    pub(super) fate: Fate,
    /// What the network did to it.
    pub(crate) cut: Option<Cut>,
}

/// One direction: what is on its way, and what has arrived and waits to be received.
pub(super) struct Pipe {
    pub(super) flights: VecDeque<Flight>,
    pub(super) inbox: VecDeque<u8>,
    pub(super) delay: Duration,
    /// Nothing may arrive before what was sent earlier.
    pub(super) latest: Duration,
    pub(crate) capacity: usize,
    /// Bytes on their way or in the inbox.
    pub(crate) used: usize,
    /// The sender was told that it would block, and is to hear when it would not.
    pub(super) starved: bool,
    pub(crate) finished: bool,
    pub(super) end_arrived: bool,
    /// The network has ended this direction: what is sent is lost.
    pub(crate) lost: bool,
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    pub(crate) received: u64,
}

/// What travels.
pub(crate) enum Flight {
    Bytes(Bytes),
    End,
}

impl Pipe {
    fn draw(faults: &Faults, dice: &mut Dice, now: Duration) -> Self {
        let capacity = if dice.chance(faults.short) { dice.scale(64, BUFFER) } else { BUFFER };
        Self {
            flights: VecDeque::new(),
            inbox: VecDeque::new(),
            delay: dice.time(faults.delay),
            latest: now,
            capacity: capacity as usize,
            used: 0,
            starved: false,
            finished: false,
            end_arrived: false,
            lost: false,
            sent: 0,
            arrived: 0,
            received: 0,
        }
    }
}

/// What one end's kernel knows.
pub(crate) struct Side {
    pub(super) node: usize,
    /// Which poller watches it, if one does.
    pub(super) poller: usize,
    /// The name under which that watches it.
    pub(crate) token: Option<Token>,
    pub(crate) interest: (bool, bool),
    /// Noted in the poller's list of what has changed.
    pub(crate) changed: bool,
    /// The connection is established, as far as this end knows.
    pub(crate) decided: bool,
    pub(crate) broken: Option<io::ErrorKind>,
    pub(crate) closed: Option<Duration>,
}

impl Side {
    fn new(node: usize) -> Self {
        Self {
            node,
            poller: 0,
            token: None,
            interest: (false, false),
            changed: false,
            decided: false,
            broken: None,
            closed: None,
        }
    }
}

impl Wire {
    pub(crate) fn draw(
        address: Address,
        nodes: (usize, usize),
        faults: &Faults,
        dice: &mut Dice,
        now: Duration,
    ) -> Self {
        Self {
            address,
            opened: now,
            pipes: [Pipe::draw(faults, dice, now), Pipe::draw(faults, dice, now)],
            sides: [Side::new(nodes.0), Side::new(nodes.1)],
            fate: faults.fate(dice),
            cut: None,
        }
    }

    /// What a poller would say of one side; `None` if nothing.
    pub(crate) fn readiness(&self, side: usize) -> Option<Readiness> {
        let here = &self.sides[side];
        let (inward, outward) = (&self.pipes[side], &self.pipes[1 - side]);
        let broken = here.broken.is_some();
        let readiness = Readiness {
            token: here.token?,
            readable: broken || here.decided && (!inward.inbox.is_empty() || inward.end_arrived),
            writable: broken || here.decided && outward.used < outward.capacity,
            more: broken || here.decided && inward.end_arrived,
        };
        (readiness.readable || readiness.writable).then_some(readiness)
    }
}
