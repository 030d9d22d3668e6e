//! A load generator for servers that send back what they get, over TCP or by datagram ([`DatagramLoad`]): it measures
//! them and checks every byte.
//!
//! One thread, one epoll loop. A *closed* loop keeps `depth` messages in flight on every connection and so finds
//! the capacity of a server; an *open* loop sends at a fixed rate, come what may, and counts latency from the
//! moment at which a message was due, so that a server that stalls cannot hide it (no coordinated omission).
//!
//! Memory is bounded by connections and depth; neither the size nor the number of messages matters.
//!
//! ```no_run
//! use std::{net::SocketAddr, ops::ControlFlow, time::Duration};
//! use roadstead_load::generator::{Load, Mode};
//!
//! let mut load = Load::new(SocketAddr::from(([127, 0, 0, 1], 7007)));
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
mod datagram_load;
mod datagrams;
mod descriptors;
mod fault;
mod figures;
mod load;
mod pattern;
mod plan;
mod questions;
mod run;
mod stream;
mod waiting;
mod wire;

use std::ops::ControlFlow;

pub use datagram_load::{DATAGRAM_MAX, DATAGRAM_MIN, DatagramLoad, DatagramReport};
pub use descriptors::allow_connections;
pub use fault::Fault;
pub use figures::{CPU_SHARE_MAX, CPU_SHARE_TIME, LoadReport, Progress};
pub use load::{CONNECTIONS_MAX, IN_FLIGHT_MAX, Load, LoadError, Mode};

use crate::machine;

impl Load {
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
}
