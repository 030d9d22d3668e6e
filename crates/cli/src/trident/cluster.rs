//! Three server processes on this machine, started and stopped by us.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use roadstead_load::process::{Usage, cpu_time};
use roadstead_trident::{kernels::Kernel, party::Party, share::server_dir};
use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How long a server has to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(12);

/// Three running servers. Dropping it stops them.
pub(crate) struct Cluster {
    servers: Vec<Child>,
    addresses: Vec<SocketAddr>,
}

impl Cluster {
    /// Starts a server on each server directory below `shares`, on ports that the system chooses.
    pub(crate) fn start(shares: &Path, kernel: Option<Kernel>) -> Result<Self> {
        let mut cluster = Self { servers: Vec::new(), addresses: Vec::new() };
        for party in Party::ALL {
            cluster.servers.push(spawn(shares, party, kernel)?);
        }
        // All three load their shares at once.
        for (party, server) in Party::ALL.into_iter().zip(&mut cluster.servers) {
            cluster.addresses.push(address(server).ok_or_else(|| format!("{party} did not start"))?);
        }
        Ok(cluster)
    }

    pub(crate) fn addresses(&self) -> Result<[SocketAddr; 3]> {
        Ok(<[SocketAddr; 3]>::try_from(self.addresses.as_slice())?)
    }

    /// CPU time that all three have used. One that has ended counts nothing.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.servers.iter().filter_map(|server| cpu_time(server.id()).ok()).sum()
    }

    /// Memory and CPU time of each that still runs.
    pub(crate) fn usage(&self) -> Vec<Option<Usage>> {
        self.servers.iter().map(|server| Usage::of(server.id()).ok()).collect()
    }
}

fn spawn(shares: &Path, party: Party, kernel: Option<Kernel>) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([
            "trident",
            "serve",
            "--with-parent",
            &std::process::id().to_string(),
            "--bind",
            "127.0.0.1:0",
            "--party",
            &party.number().to_string(),
        ])
        .arg("--shares")
        .arg(server_dir(shares, party))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Ctrl-C reaches us alone: we stop the servers when what is in flight has come back.
        .process_group(0);
    if let Some(kernel) = kernel {
        command.args(["--kernel", kernel.name()]);
    }
    Ok(command.spawn().map_err(|error| format!("{party} could not be started: {error}"))?)
}

fn address(server: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut()?).read_line(&mut line).ok()?;
    line.trim_end().strip_prefix("listening on ")?.parse().ok()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &self.servers {
            // A server that has ended already needs no signal.
            let _ = kill_process(Pid::from_child(server), Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        for server in &mut self.servers {
            while matches!(server.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    let _ = server.kill();
                    let _ = server.wait();
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}
