//! What is to be asked by datagram, of whom, how fast and for how long; and what that showed.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use super::{
    load::{CONNECTIONS_MAX, IN_FLIGHT_MAX, Load, LoadError, Mode},
    questions::NUMBER,
};
use crate::measure::Latency;

/// The longest datagram of IPv4.
pub const DATAGRAM_MAX: usize = 65_507;
/// The shortest that can be told from others.
pub const DATAGRAM_MIN: usize = NUMBER;

/// What to ask, of whom, how fast and for how long.
#[derive(Clone, Debug)]
pub struct DatagramLoad {
    /// The server.
    pub target: SocketAddr,
    /// Sockets that ask, each from a port of its own.
    pub peers: usize,
    /// Most questions of a peer in flight.
    pub depth: usize,
    /// Bytes of a datagram.
    pub size: usize,
    /// Closed or open loop, and its end.
    pub mode: Mode,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// The core that the calling thread is kept on while the load runs.
    pub core: Option<usize>,
}

/// What a load of datagrams showed: `sent` is `right + wrong + late + lost`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatagramReport {
    /// The server.
    pub target: SocketAddr,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub kind: &'static str,
    /// Datagrams per second asked for, in the open loop.
    pub rate: Option<f64>,
    /// Sockets that asked.
    pub peers: usize,
    /// Most questions of a peer in flight.
    pub depth: usize,
    /// Bytes of a datagram.
    pub size: usize,
    /// Questions that the system took.
    pub sent: u64,
    /// Answers that came in time, as their questions were sent.
    pub right: u64,
    /// Questions of which the answer was changed, cut or lengthened.
    pub wrong: u64,
    /// Answers that were right, and came when nobody waited any more.
    pub late: u64,
    /// Questions that were never answered.
    pub lost: u64,
    /// Answers that came again.
    pub duplicate: u64,
    /// Datagrams that were no answer to anything.
    pub unasked: u64,
    /// How often the network said that nobody receives there.
    pub unreachable: u64,
    /// Time from the first question to the planned end, or to the last answer if that came later.
    pub seconds: f64,
    /// Right answers per second.
    pub messages_per_second: f64,
    /// Latencies of right answers.
    #[serde(flatten)]
    pub latency: Latency,
    /// Share of one core that the generator used.
    pub client_cpu_share: f64,
    /// Whether that is so much that the generator was measured and not the server ([`CPU_SHARE_MAX`](super::CPU_SHARE_MAX),
    /// [`CPU_SHARE_TIME`](super::CPU_SHARE_TIME)).
    pub client_is_limit: bool,
}

impl DatagramReport {
    /// Nothing was asked yet.
    pub(super) fn empty(load: &DatagramLoad) -> Self {
        let &DatagramLoad { target, peers, depth, size, mode, .. } = load;
        let (kind, rate) = match mode {
            Mode::ClosedFor(_) | Mode::ClosedCount(_) => ("closed", None),
            Mode::Open { per_second, .. } => ("open", Some(per_second)),
        };
        Self {
            target,
            kind,
            rate,
            peers,
            depth,
            size,
            sent: 0,
            right: 0,
            wrong: 0,
            late: 0,
            lost: 0,
            duplicate: 0,
            unasked: 0,
            unreachable: 0,
            seconds: 0.0,
            messages_per_second: 0.0,
            latency: Latency::UNKNOWN,
            client_cpu_share: 0.0,
            client_is_limit: false,
        }
    }

    /// Whether every question had its answer, once and in time, and nothing else came.
    pub fn is_clean(&self) -> bool {
        self.right == self.sent && self.duplicate + self.unasked + self.unreachable == 0
    }
}

impl DatagramLoad {
    /// One peer, one datagram of 128 bytes at a time, for five seconds.
    pub fn new(target: SocketAddr) -> Self {
        let Load { depth, size, mode, timeout, .. } = Load::new(target);
        Self { target, peers: 1, depth, size, mode, timeout, core: None }
    }

    pub(super) fn check(&self) -> Result<(), LoadError> {
        let bounds = [
            ("peers", self.peers, 1, CONNECTIONS_MAX),
            ("depth", self.depth, 1, IN_FLIGHT_MAX / self.peers.max(1)),
            ("size", self.size, DATAGRAM_MIN, DATAGRAM_MAX),
        ];
        for (what, given, least, most) in bounds {
            if !(least..=most).contains(&given) {
                let allowed = format!("{least} to {most}");
                return Err(LoadError::Invalid { what, allowed, given: given.to_string() });
            }
        }
        // What is left has no other bounds than for streams.
        Load { mode: self.mode, timeout: self.timeout, ..Load::new(self.target) }.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        let load = DatagramLoad::new(([127, 0, 0, 1], 9).into());
        for (wrong, said) in [
            (DatagramLoad { peers: 0, ..load.clone() }, "peers must be 1 to 28000, not 0"),
            (DatagramLoad { size: 7, ..load.clone() }, "size must be 8 to 65507, not 7"),
            (DatagramLoad { size: 65_508, ..load.clone() }, "size must be 8 to 65507, not 65508"),
            (DatagramLoad { timeout: Duration::ZERO, ..load.clone() }, "timeout must be above 0, not 0"),
        ] {
            assert_eq!(wrong.check().unwrap_err().to_string(), said);
        }
        assert!(load.check().is_ok());
    }
}
