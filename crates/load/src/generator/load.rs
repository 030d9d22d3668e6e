//! What is to be sent, to whom, how fast and for how long; and what cannot be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use roadstead::Address;
use roadstead::layer::Layers;

/// Most connections, active and idle, that one pair of addresses has ports for.
pub const CONNECTIONS_MAX: usize = 28_000;

/// Most messages in flight over all connections: what bounds the generator's memory, at 8 bytes each.
pub const IN_FLIGHT_MAX: usize = 1 << 24;

/// What to send, to whom, how fast and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub target: Address,
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

impl Load {
    /// One connection, one message of 128 bytes at a time, for five seconds.
    pub fn new(target: impl Into<Address>) -> Self {
        Self {
            target: target.into(),
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

    pub(super) fn check(&self) -> Result<(), LoadError> {
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

/// Why a load could not be run at all. What goes wrong while it runs is in the [`LoadReport`](super::LoadReport).
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
        target: Address,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_at_and_above() {
        let with = |connections, idle, depth, size| {
            let mut load = Load::new(([127, 0, 0, 1], 9));
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

    #[test]
    fn a_rate_and_every_time_are_more_than_none_and_have_an_end() {
        let mut load = Load::new(([127, 0, 0, 1], 9));
        let second = Duration::from_secs(1);
        for (per_second, duration, wrong) in [
            (1e-9, Duration::from_nanos(1), None),
            (0.0, second, Some("rate must be above 0, not 0")),
            (-1.0, second, Some("rate must be above 0, not -1")),
            (f64::INFINITY, second, Some("rate must be above 0, not inf")),
            (1.0, Duration::ZERO, Some("duration must be above 0, not 0")),
        ] {
            load.mode = Mode::Open { per_second, duration };
            assert_eq!(load.check().err().map(|error| error.to_string()).as_deref(), wrong);
        }
    }
}
