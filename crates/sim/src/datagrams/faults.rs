//! How unkind the simulated network is to datagrams.

use std::time::Duration;

use crate::dice::Dice;

/// How often what goes wrong with datagrams. Probabilities are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DatagramFaults {
    /// The shortest and longest one-way delay. Each datagram draws its own, so that where they differ one overtakes
    /// another.
    pub delay: (Duration, Duration),
    /// Per datagram: it is lost.
    pub loss: f64,
    /// Per datagram: it arrives twice.
    pub duplicate: f64,
    /// Per datagram received: the place for it is too short, and its end is lost.
    pub truncate: f64,
    /// Per datagram: there is congestion on the way.
    pub congestion: f64,
    /// What a way carries, in bytes with headers: what is longer is lost, or the system says so at once, of each way
    /// always the one or always the other.
    pub mtu: usize,
    /// All that is sent goes through this, one behind the other. None: every way is wide enough.
    pub relay: Option<Relay>,
    /// Per call: interrupted; only a part is taken, or nothing, until there is room again. Per wait: something is said
    /// to be ready that is not.
    pub spurious: f64,
    /// Per call: the system has no room for it now (`ENOBUFS`, `ENOMEM`).
    pub scarce: f64,
    /// Per turn of a node: it stands still for a while and finds everything at once.
    pub pause: f64,
}

/// The narrowest place of a network: what comes faster than it passes on waits in a queue, and beyond that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Bytes per second that it passes on, headers counted.
    pub rate: u64,
    /// Bytes that it keeps.
    pub queue: u64,
}

impl DatagramFaults {
    /// A kind network: every datagram arrives once, whole, in order.
    pub fn none() -> Self {
        let delay = Duration::from_micros(50);
        Self {
            delay: (delay, delay),
            loss: 0.0,
            duplicate: 0.0,
            truncate: 0.0,
            congestion: 0.0,
            mtu: usize::MAX,
            relay: None,
            spurious: 0.0,
            scarce: 0.0,
            pause: 0.0,
        }
    }

    /// Every datagram arrives whole, at least once, in any order.
    pub fn gentle() -> Self {
        Self {
            delay: (Duration::from_micros(5), Duration::from_millis(20)),
            duplicate: 0.1,
            congestion: 0.1,
            spurious: 0.1,
            pause: 0.05,
            ..Self::none()
        }
    }

    /// All of it.
    pub fn harsh() -> Self {
        Self {
            delay: (Duration::from_micros(5), Duration::from_millis(100)),
            loss: 0.2,
            duplicate: 0.2,
            truncate: 0.05,
            congestion: 0.3,
            mtu: 1_500,
            relay: None,
            spurious: 0.3,
            scarce: 0.01,
            pause: 0.1,
        }
    }

    /// One of the three, as a seed decides.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        [Self::none(), Self::gentle(), Self::harsh()][dice.below(3)]
    }
}
