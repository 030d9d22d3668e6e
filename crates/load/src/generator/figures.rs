//! What a load shows: while it runs, and in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use roadstead::Address;
use serde::{Serialize, Serializer};

use super::fault::Fault;
use crate::measure::Latency;

/// From this share of its core on, the generator is what is measured and not the server.
pub const CPU_SHARE_MAX: f64 = 0.9;
/// Of less time than this the generator's own start is too large a part to say so.
pub const CPU_SHARE_TIME: Duration = Duration::from_millis(100);

/// So many in that time: none in none.
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// How far a running load is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the first message.
    pub elapsed: Duration,
    /// Part done, 0 to 1.
    pub fraction: f64,
    /// Messages that came back as they were sent.
    pub right: u64,
    /// Messages that came back changed.
    pub wrong: u64,
    /// Messages that did not come back.
    pub failed: u64,
}

/// What a load showed. In the closed loop by count and in the open loop, `right + wrong + failed` is the number
/// of messages planned, unless it was stopped.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The server.
    #[serde(serialize_with = "as_text")]
    pub target: Address,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub kind: &'static str,
    /// Messages per second asked for, in the open loop.
    pub rate: Option<f64>,
    /// Connections asked for that carry messages.
    pub connections: usize,
    /// Silent connections asked for.
    pub idle: usize,
    /// Whether a layer, such as TLS, was spoken.
    pub layered: bool,
    /// Most messages in flight on one connection.
    pub depth: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Connections opened, silent ones included.
    pub connected: usize,
    /// Connections that could not be opened, by reason.
    pub connect_errors: BTreeMap<Fault, u64>,
    /// Connections lost before the end, by reason.
    pub lost: BTreeMap<Fault, u64>,
    /// Messages that came back as they were sent.
    pub right: u64,
    /// Messages of which a byte came back changed.
    pub wrong: u64,
    /// Messages that did not come back.
    pub failed: u64,
    /// The failed messages by reason.
    pub failures: BTreeMap<Fault, u64>,
    /// Time from the first message to the planned end, or to the last answer if that came later.
    pub seconds: f64,
    /// Right messages per second.
    pub messages_per_second: f64,
    /// Latencies of right messages.
    #[serde(flatten)]
    pub latency: Latency,
    /// Right messages in flight on average.
    pub overlap: f64,
    /// Share of one core that the generator used.
    pub client_cpu_share: f64,
    /// Whether that is so much that the generator was measured and not the server ([`CPU_SHARE_MAX`],
    /// [`CPU_SHARE_TIME`]).
    pub client_is_limit: bool,
}

impl LoadReport {
    /// Whether every connection opened and held and every message came back right.
    pub fn is_clean(&self) -> bool {
        self.wrong == 0 && self.failed == 0 && self.connect_errors.is_empty() && self.lost.is_empty()
    }
}

fn as_text<S: Serializer>(address: &Address, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_clean_if_nothing_was_wrong_failed_or_lost() {
        let clean = || LoadReport {
            target: ([127, 0, 0, 1], 7).into(),
            kind: "closed",
            rate: None,
            connections: 1,
            idle: 1,
            layered: false,
            depth: 1,
            size: 1,
            connected: 2,
            connect_errors: BTreeMap::new(),
            lost: BTreeMap::new(),
            right: 1,
            wrong: 0,
            failed: 0,
            failures: BTreeMap::new(),
            seconds: 1.0,
            messages_per_second: 1.0,
            latency: Latency::UNKNOWN,
            overlap: 1.0,
            client_cpu_share: 1.0,
            client_is_limit: true,
        };
        assert!(clean().is_clean());
        let one = || BTreeMap::from([(Fault::Closed, 1)]);
        for bad in [
            LoadReport { wrong: 1, ..clean() },
            LoadReport { failed: 1, ..clean() },
            LoadReport { connect_errors: one(), ..clean() },
            LoadReport { lost: one(), ..clean() },
        ] {
            assert!(!bad.is_clean(), "{bad:?}");
        }
    }
}
