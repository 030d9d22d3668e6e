//! The control of the measurement: a server that nobody asks, killed together with a process of the one that serves.
//!
//! Both have the same files mapped, and the system has to undo that before either has ended. What keeps it from it
//! (such as a page-out daemon that has locked a file's mappings and waits for a core) keeps every process from ending
//! that has the file mapped, and from being forked. So the time that the control took is the system's.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{echo_server::EchoServer, outcome::Result};

pub(super) struct Control(EchoServer);

impl Control {
    pub(super) fn begin() -> Result<Self> {
        EchoServer::start(&["--model".into(), "iterative".into()]).map(Self)
    }

    /// Kills it; the thread answers how many milliseconds it took to end.
    pub(super) fn kill(mut self) -> JoinHandle<io::Result<f64>> {
        let at = Instant::now();
        let killed = self.0.kill();
        thread::spawn(move || {
            killed.and_then(|()| self.0.wait())?;
            Ok(at.elapsed().as_secs_f64() * 1e3)
        })
    }
}
