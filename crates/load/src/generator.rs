//! A load generator for TCP servers that send back what they get: it measures them and checks every byte.
//!
//! One thread, one epoll loop. A *closed* loop keeps `depth` messages in flight on every connection and so finds
//! the capacity of a server; an *open* loop sends at a fixed rate, come what may, and counts latency from the
//! moment at which a message was due, so that a server that stalls cannot hide it (no coordinated omission).
//!
//! Memory is bounded by connections and depth; neither the size nor the number of messages matters.
//!
//! ```no_run
//! use std::{ops::ControlFlow, time::Duration};
//! use roadstead_load::generator::{Load, Mode};
//!
//! let mut load = Load::new("127.0.0.1:7007".parse()?);
//! load.connections = 100;
//! load.mode = Mode::Open { per_second: 20_000.0, duration: Duration::from_secs(10) };
//! let report = load.run(&mut |progress| {
//!     eprint!("\r{:3.0} %", progress.fraction * 100.0);
//!     ControlFlow::Continue(())
//! })?;
//! println!("{} right, p99 {} ms", report.right, report.latency.p99_ms);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connect;
mod descriptors;
mod pattern;
mod plan;
mod run;
mod stream;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use roadstead::layer::Layers;
use serde::Serialize;

pub use descriptors::allow_connections;

use crate::machine;
use crate::measure::Latency;

/// Most connections, active and idle, that one pair of addresses has ports for.
pub const CONNECTIONS_MAX: usize = 28_000;

/// Most messages in flight over all connections: what bounds the generator's memory, at 8 bytes each.
pub const IN_FLIGHT_MAX: usize = 1 << 24;

/// From this share of its core on, the generator is what is measured and not the server.
pub const CPU_SHARE_MAX: f64 = 0.9;
/// Of less time than this the generator's own start is too large a part to say so.
pub const CPU_SHARE_TIME: Duration = Duration::from_millis(100);

/// What to send, to whom, how fast and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub target: SocketAddr,
    /// Connections that carry messages.
    pub connections: usize,
    /// Connections opened beside them that stay silent.
    pub idle: usize,
    /// Most messages in flight on one connection.
    pub depth: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Closed or open loop, and its end.
    pub mode: Mode,
    /// How long a connection may take to open, and the oldest message in flight to be answered.
    pub timeout: Duration,
    /// What stands between the messages and the wire, such as a TLS [`Connector`](roadstead::tls::Connector).
    pub layers: Option<Arc<dyn Layers>>,
    /// The core that the calling thread is kept on while the load runs.
    pub core: Option<usize>,
}

/// When messages are sent, and when that ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// The next message as soon as one is answered, for this long.
    ClosedFor(Duration),
    /// The next message as soon as one is answered, this many in all.
    ClosedCount(u64),
    /// At a fixed rate, spread evenly over the connections.
    Open {
        /// Messages per second over all connections.
        per_second: f64,
        /// For how long messages become due. Those that are late then have one timeout more.
        duration: Duration,
    },
}

/// What went wrong with a connection or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nobody listens at the target.
    Refused,
    /// No connection, or no answer, within the timeout.
    TimedOut,
    /// The server ended the connection.
    Closed,
    /// The server, or the network, reset the connection.
    Reset,
    /// The server sent more than it was sent.
    Unasked,
    /// The layer, such as TLS, failed: what came could not be opened, or the server refused us.
    Layer,
    /// The message was never sent: no connection was left to send it, or no time.
    Unsent,
    /// Any other error of the system.
    Other,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::TimedOut => "not answered in time",
            Self::Closed => "closed by the server",
            Self::Reset => "reset",
            Self::Unasked => "sent more than was asked",
            Self::Layer => "broken off by TLS",
            Self::Unsent => "never sent",
            Self::Other => "another error of the system",
        })
    }
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Reset
            }
            io::ErrorKind::InvalidData => Self::Layer,
            _ => Self::Other,
        }
    }
}

/// Why a load could not be run at all. What goes wrong while it runs is in the [`LoadReport`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The caller asked for something that cannot be.
    #[error("{what} must be {allowed}, not {given}")]
    Invalid {
        /// The field of [`Load`].
        what: &'static str,
        /// What it may be.
        allowed: String,
        /// What it was.
        given: String,
    },
    /// The system does not let this process open so many sockets.
    #[error(
        "{needed} descriptors are needed but {limit} allowed; raise the limit (ulimit -Hn) or use fewer connections"
    )]
    Descriptors {
        /// How many the load takes.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// Not one connection could be opened.
    #[error("cannot connect to {target}: {source}")]
    Unreachable {
        /// The server.
        target: SocketAddr,
        /// What the system said last.
        source: io::Error,
    },
    /// The thread could not be kept on the core.
    #[error("cannot stay on core {core}: {source}; does this machine have it?")]
    Core {
        /// The core asked for.
        core: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A system call failed that has no reason to.
    #[error("{call} failed: {source}")]
    System {
        /// The call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
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
    pub target: SocketAddr,
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
    /// Whether that is so much that the generator was measured and not the server ([`CPU_SHARE_MAX`], [`CPU_SHARE_TIME`]).
    pub client_is_limit: bool,
}

impl LoadReport {
    /// Whether every connection opened and held and every message came back right.
    pub fn is_clean(&self) -> bool {
        self.wrong == 0 && self.failed == 0 && self.connect_errors.is_empty() && self.lost.is_empty()
    }
}

impl Load {
    /// One connection, one message of 128 bytes at a time, for five seconds.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            connections: 1,
            idle: 0,
            depth: 1,
            size: 128,
            mode: Mode::ClosedFor(Duration::from_secs(5)),
            timeout: Duration::from_secs(5),
            layers: None,
            core: None,
        }
    }

    /// Opens the connections, runs the load on the calling thread and closes them.
    /// `progress` is called a few times a second; what it takes is time that the load does not get. When it answers
    /// [`ControlFlow::Break`] no further message is sent, and the report is of those that were.
    pub fn run(
        &self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<LoadReport, LoadError> {
        self.check()?;
        let _pinned = match self.core {
            Some(core) => Some(machine::pin(core).map_err(|source| LoadError::Core { core, source })?),
            None => None,
        };
        let opened = connect::open(self)?;
        run::Run::new(self, opened)?.run(progress)
    }

    fn check(&self) -> Result<(), LoadError> {
        let at_most = |what, given: usize, least: usize, most: usize| {
            if (least..=most).contains(&given) {
                return Ok(());
            }
            Err(LoadError::Invalid { what, allowed: format!("{least} to {most}"), given: given.to_string() })
        };
        at_most("connections", self.connections, 1, CONNECTIONS_MAX)?;
        at_most("idle", self.idle, 0, CONNECTIONS_MAX - self.connections)?;
        at_most("depth", self.depth, 1, IN_FLIGHT_MAX / self.connections)?;
        at_most("size", self.size, 1, u32::MAX as usize)?;
        let positive = |what, given: f64| {
            if given.is_finite() && given > 0.0 {
                return Ok(());
            }
            Err(LoadError::Invalid { what, allowed: "above 0".to_owned(), given: given.to_string() })
        };
        positive("timeout", self.timeout.as_secs_f64())?;
        match self.mode {
            Mode::ClosedFor(duration) => positive("duration", duration.as_secs_f64()),
            Mode::ClosedCount(count) => positive("messages", count as f64),
            Mode::Open { per_second, duration } => {
                positive("rate", per_second)?;
                positive("duration", duration.as_secs_f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_at_and_above() {
        let with = |connections, idle, depth, size| {
            let mut load = Load::new(SocketAddr::from(([127, 0, 0, 1], 9)));
            (load.connections, load.idle, load.depth, load.size) = (connections, idle, depth, size);
            load.check()
        };
        assert!(with(CONNECTIONS_MAX, 0, 1, 1).is_ok());
        assert!(with(1, CONNECTIONS_MAX - 1, IN_FLIGHT_MAX, u32::MAX as usize).is_ok());
        assert!(with(2, CONNECTIONS_MAX - 2, IN_FLIGHT_MAX / 2, 1).is_ok());
        assert!(with(2, CONNECTIONS_MAX - 1, 1, 1).is_err());
        assert!(with(2, 0, IN_FLIGHT_MAX / 2 + 1, 1).is_err());
        let error = with(1, 0, 1, u32::MAX as usize + 1).unwrap_err().to_string();
        assert_eq!(error, "size must be 1 to 4294967295, not 4294967296");
    }
}
