//! Three server processes on this machine, started and stopped by us.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use roadstead::exchange::Strategy;
use roadstead_load::process::{Usage, cpu_time};
use roadstead_trident::{kernels::Kernel, party::Party, share::server_dir};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Result, roads::Roads};

/// How long a server has to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(12);

/// How the servers of a cluster reach each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    pub(crate) strategy: Strategy,
    /// One way.
    pub(crate) delay: Duration,
}

/// Three running servers. Dropping it stops them.
pub(crate) struct Cluster {
    servers: Vec<Child>,
    addresses: Vec<SocketAddr>,
    /// What each says, behind its address; only of servers that know each other.
    figures: Mutex<Vec<BufReader<ChildStdout>>>,
    _roads: Option<Roads>,
}

impl Cluster {
    /// Starts a server on each server directory below `shares`, on ports that the system chooses.
    pub(crate) fn start(shares: &Path, kernel: Option<Kernel>, between: Option<Between>) -> Result<Self> {
        let roads = between.map(|between| Roads::new(between.delay)).transpose()?;
        let mut cluster =
            Self { servers: Vec::new(), addresses: Vec::new(), figures: Mutex::default(), _roads: None };
        for party in Party::ALL {
            let peers = between.map(|between| between.strategy).zip(roads.as_ref());
            cluster.servers.push(spawn(shares, party, kernel, peers)?);
        }
        cluster._roads = roads;
        // All three load their shares at once.
        for (party, server) in Party::ALL.into_iter().zip(&mut cluster.servers) {
            let mut out = BufReader::new(server.stdout.take().ok_or("a server without an output")?);
            let address =
                address(&mut out, "listening on ").ok_or_else(|| format!("{party} did not start"))?;
            cluster.addresses.push(address);
            if between.is_some() {
                address_of_peers(&mut out, party)?;
            }
            cluster.figures.get_mut().unwrap_or_else(PoisonError::into_inner).push(out);
        }
        Ok(cluster)
    }

    /// Bytes of messages that the servers have sent each other, and links that they have opened, until now.
    pub(crate) fn exchanged(&self) -> Result<(u64, u64)> {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut bytes, mut opened) = (0, 0);
        for (server, out) in self.servers.iter().zip(figures.iter_mut()) {
            let Some(mut ask) = server.stdin.as_ref() else { continue };
            ask.write_all(b"figures\n")?;
            let mut line = String::new();
            out.read_line(&mut line)?;
            let (sent, links) = line.trim_end().split_once(' ').ok_or("a server did not tell its figures")?;
            bytes += sent.parse::<u64>()?;
            opened += links.parse::<u64>()?;
        }
        Ok((bytes, opened))
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

fn spawn(
    shares: &Path,
    party: Party,
    kernel: Option<Kernel>,
    peers: Option<(Strategy, &Roads)>,
) -> Result<Child> {
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
        .stdin(if peers.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        // Ctrl-C reaches us alone: we stop the servers when what is in flight has come back.
        .process_group(0);
    if let Some(kernel) = kernel {
        command.args(["--kernel", kernel.name()]);
    }
    if let Some((strategy, roads)) = peers {
        command.args(roads.arguments(party.index())).args(["--exchange", &strategy.to_string()]);
    }
    Ok(command.spawn().map_err(|error| format!("{party} could not be started: {error}"))?)
}

fn address(out: &mut impl BufRead, before: &str) -> Option<SocketAddr> {
    let mut line = String::new();
    out.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(before)?.parse().ok()
}

/// The line that follows when a server listens for others.
fn address_of_peers(out: &mut impl BufRead, party: Party) -> Result<()> {
    let found = address(out, "listening for servers on ");
    found.map(drop).ok_or_else(|| format!("{party} does not listen for the others").into())
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
