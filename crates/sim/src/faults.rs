//! How unkind the simulated world is.

use std::time::Duration;

use crate::{dice::Dice, fate::Fate};

/// The network cuts a connection within so many bytes of its beginning, if at all.
const CUT_WITHIN: u64 = 32 << 10;
/// Or within this time.
const CUT_BY: Duration = Duration::from_millis(500);

/// How often what goes wrong. Probabilities are from 0 to 1.
///
/// Everything here is something a real network or kernel may do. The first group loses nothing: a service must give
/// its whole answer under it. The second cuts connections: a service must not hang, leak, or invent a byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// The shortest and longest one-way delay. Each direction of each connection draws its own.
    pub delay: (Duration, Duration),
    /// Per send: its bytes arrive in several pieces, at different times. Per completion of a proactor's: what was
    /// received is brought in parts, and what was lent comes home late.
    pub split: f64,
    /// Per send: only a part is taken, or nothing although there was room. Above zero, socket buffers may be tiny too.
    pub short: f64,
    /// Per wait: something is said to be ready that is not, or is told of only by the next wait. Per call: interrupted.
    pub spurious: f64,
    /// Per turn of a node: it stands still for a while and finds everything at once.
    pub pause: f64,
    /// Per connect, accept, receive and send: the system has no room for it now (`ENOBUFS`, `ENOMEM`).
    pub scarce: f64,

    /// Per connection: the network ends one direction, behind some bytes; what is sent there afterwards is lost.
    pub half_close: f64,
    /// Per connection: both ends see a reset, after some bytes or some time.
    pub reset: f64,
    /// Per connection: refused although somebody listens.
    pub refuse: f64,
    /// Per connection: never answered.
    pub unanswered: f64,
    /// Per accept: the connection breaks in the backlog, or no descriptor is left.
    pub exhausted: f64,
    /// Per draw of a session: the system has no randomness for it
    /// ([`Context::random`](roadstead_proto::Context::random)).
    pub unseeded: f64,
}

impl Faults {
    /// A kind world: constant delays, whole sends, nothing lost.
    pub fn none() -> Self {
        let delay = Duration::from_micros(50);
        Self {
            delay: (delay, delay),
            split: 0.0,
            short: 0.0,
            spurious: 0.0,
            pause: 0.0,
            scarce: 0.0,
            half_close: 0.0,
            reset: 0.0,
            refuse: 0.0,
            unanswered: 0.0,
            exhausted: 0.0,
            unseeded: 0.0,
        }
    }

    /// Everything that loses nothing: pieces, short sends, tiny buffers, delays, false readiness, pauses.
    pub fn gentle() -> Self {
        Self {
            delay: (Duration::from_micros(5), Duration::from_millis(20)),
            split: 0.4,
            short: 0.3,
            spurious: 0.1,
            pause: 0.05,
            scarce: 0.002,
            ..Self::none()
        }
    }

    /// All of it, also what cuts connections. About half of them stay whole.
    pub fn harsh() -> Self {
        Self {
            delay: (Duration::from_micros(5), Duration::from_millis(100)),
            split: 0.7,
            short: 0.5,
            spurious: 0.3,
            pause: 0.1,
            scarce: 0.01,
            half_close: 0.2,
            reset: 0.2,
            refuse: 0.04,
            unanswered: 0.03,
            exhausted: 0.05,
            unseeded: 0.0,
        }
    }

    /// One of the three, as a seed decides: what a simulation does if it is told nothing else.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        [Self::none(), Self::gentle(), Self::harsh()][dice.below(3)]
    }

    /// What they have in store for a connection, as a seed decides.
    pub(super) fn fate(&self, dice: &mut Dice) -> Fate {
        if dice.chance(self.refuse) {
            [Fate::Refuse, Fate::RefuseAtOnce][dice.below(2)]
        } else if dice.chance(self.unanswered) {
            Fate::Ignore
        } else if dice.chance(self.half_close) {
            Fate::HalfClose(dice.below(2), dice.scale(0, CUT_WITHIN))
        } else if dice.chance(self.reset) {
            match dice.below(2) {
                0 => Fate::ResetAt(dice.time((Duration::ZERO, CUT_BY))),
                _ => Fate::Reset(dice.below(2), dice.scale(0, CUT_WITHIN)),
            }
        } else {
            Fate::Nothing
        }
    }
}
