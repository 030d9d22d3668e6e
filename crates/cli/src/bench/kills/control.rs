//! The control of the measurement: a process that does nothing, killed together with one that serves.
//!
//! Both have libraries mapped, and the system has to undo that before either has ended. What keeps it from it (such as
//! a page-out daemon that has locked a library's mappings and waits for a core) keeps every process from ending, and
//! from being forked. So the time that the control took is the system's, whatever the server does.

use std::{
    io,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Instant,
};

/// It waits for input, and ends with whoever could send it some.
pub(super) struct Control(Child);

impl Control {
    pub(super) fn begin() -> io::Result<Self> {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        Ok(Self(child))
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
