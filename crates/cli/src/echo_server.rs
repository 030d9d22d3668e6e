//! An echo server of this program, as a process that a command starts and stops.

use std::{
    env,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::outcome::Result;

/// How long it has to end after it was asked to: its own patience, and a little.
const PATIENCE: Duration = Duration::from_secs(12);

/// A running server. Dropping it stops it.
pub(crate) struct EchoServer {
    child: Child,
    address: SocketAddr,
}

impl EchoServer {
    /// Starts a server with these options of `serve echo`, on a port that the system chooses. It leads a process group.
    pub(crate) fn start(options: &[String]) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let parent = std::process::id().to_string();
        command
            .args(["serve", "echo", "--bind", "127.0.0.1:0", "--with-parent", &parent])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C reaches us alone: we stop the server when what was begun is measured.
            .process_group(0);
        if env::var_os("ROADSTEAD_LOG").is_none() {
            // What is done to it on purpose is no news.
            command.env("ROADSTEAD_LOG", "error");
        }
        let mut child =
            command.spawn().map_err(|error| format!("the server could not be started: {error}"))?;
        let Some(address) = listening(&mut child) else {
            child.kill()?;
            child.wait()?;
            return Err("the server did not start".into());
        };
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it, and does not wait for its end.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Asks it to end, and waits until it has; kills it if it does not.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(ended) = self.child.try_wait()? {
            return Ok(ended);
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(ended) = self.child.try_wait()? {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

fn listening(child: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    line.trim_end().strip_prefix("listening on ")?.parse().ok()
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // It may have been stopped already, and then there is nothing to do.
        let _ = self.stop();
    }
}
