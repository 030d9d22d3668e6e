//! Three server processes on this machine, started and stopped by us.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use roadstead::{Dialer, exchange::Strategy, tls::Keys};
use roadstead_load::process::{Usage, cpu_time};
use roadstead_trident::{
    client::{Client, Options},
    kernels::Kernel,
    party::Party,
    query::Collection,
    share::{CLIENT_DIR, server_dir},
};

use crate::{outcome::Result, roads::Roads};

/// How long a server has to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(12);

/// A sharing, and with TLS the keys of its servers and its client.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    pub(crate) shares: PathBuf,
    pub(crate) keys: Option<PathBuf>,
}

/// How the servers of a cluster reach each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    pub(crate) strategy: Strategy,
    /// One way.
    pub(crate) delay: Duration,
}

/// Three running servers. Dropping it stops them.
pub(crate) struct Cluster {
    launch: Launch,
    servers: Vec<Child>,
    addresses: Vec<SocketAddr>,
    /// What each says, behind its address.
    figures: Mutex<Vec<BufReader<ChildStdout>>>,
}

/// What servers are started with.
struct Launch {
    scratch: Scratch,
    kernel: Option<Kernel>,
    /// How they reach each other, if they do.
    peers: Option<(Strategy, Roads)>,
}

/// What a server tells of its exchange with the others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Exchanged {
    /// Bytes of messages sent to them.
    pub(crate) bytes: u64,
    /// Links opened to them.
    pub(crate) opened: u64,
    /// Bytes of their messages in memory.
    pub(crate) held: u64,
    /// Queries that wait for their messages.
    pub(crate) waiting: u64,
}

impl Cluster {
    /// Starts a server on each server directory, on ports that the system chooses.
    pub(crate) fn start(scratch: &Scratch, kernel: Option<Kernel>, between: Option<Between>) -> Result<Self> {
        let peers = between.map(|between| Roads::new(between.delay).map(|roads| (between.strategy, roads)));
        let launch = Launch { scratch: scratch.clone(), kernel, peers: peers.transpose()? };
        let mut cluster =
            Self { launch, servers: Vec::new(), addresses: Vec::new(), figures: Mutex::default() };
        for party in Party::ALL {
            cluster.servers.push(cluster.launch.spawn(party, "127.0.0.1:0")?);
        }
        // All three load their shares at once.
        for (party, server) in Party::ALL.into_iter().zip(&mut cluster.servers) {
            let (address, out) = cluster.launch.hear(party, server)?;
            cluster.addresses.push(address);
            cluster.figures.get_mut().unwrap_or_else(PoisonError::into_inner).push(out);
        }
        Ok(cluster)
    }

    /// A client of the three.
    pub(crate) fn client(&self, options: Options) -> Result<Client> {
        let Scratch { shares, keys } = &self.launch.scratch;
        let collection = Arc::new(Collection::open(&shares.join(CLIENT_DIR))?);
        let keys = keys.as_ref().map(|keys| Keys::load(&keys.join("client"))).transpose()?;
        let addresses = <[SocketAddr; 3]>::try_from(self.addresses.as_slice())?;
        Ok(Client::new(collection, addresses, keys.as_ref(), options, Dialer::start)?)
    }

    /// Ends a server without a warning.
    pub(crate) fn kill(&mut self, party: Party) -> Result<()> {
        let server = &mut self.servers[party.index()];
        server.kill()?;
        server.wait()?;
        Ok(())
    }

    /// Starts a server that was killed again, at the address that it had.
    pub(crate) fn revive(&mut self, party: Party) -> Result<()> {
        let at = party.index();
        self.servers[at] = self.launch.spawn(party, &self.addresses[at].to_string())?;
        let (_, out) = self.launch.hear(party, &mut self.servers[at])?;
        self.figures.get_mut().unwrap_or_else(PoisonError::into_inner)[at] = out;
        Ok(())
    }

    /// What the servers have exchanged until now, and hold of it; all three together.
    pub(crate) fn exchanged(&self) -> Result<Exchanged> {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Exchanged::default();
        for (server, out) in self.servers.iter().zip(figures.iter_mut()) {
            let Some(mut ask) = server.stdin.as_ref() else { continue };
            ask.write_all(b"figures\n")?;
            let mut line = String::new();
            out.read_line(&mut line)?;
            let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            let Ok([bytes, opened, held, waiting]) = <[u64; 4]>::try_from(numbers) else {
                return Err("a server did not tell its figures".into());
            };
            all.bytes += bytes;
            all.opened += opened;
            all.held += held;
            all.waiting += waiting;
        }
        Ok(all)
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

impl Launch {
    fn spawn(&self, party: Party, bind: &str) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        let (parent, number) = (std::process::id().to_string(), party.number().to_string());
        command
            .args(["trident", "serve", "--with-parent", &parent, "--bind", bind, "--party", &number])
            .arg("--shares")
            .arg(server_dir(&self.scratch.shares, party))
            .stdin(if self.peers.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            // Ctrl-C reaches us alone: we stop the servers when what is in flight has come back.
            .process_group(0);
        if std::env::var_os("ROADSTEAD_LOG").is_none() {
            // What they have come to is in the report.
            command.env("ROADSTEAD_LOG", "warn");
        }
        if let Some(keys) = &self.scratch.keys {
            command.arg("--keys").arg(server_dir(keys, party));
        }
        if let Some(kernel) = self.kernel {
            command.args(["--kernel", kernel.name()]);
        }
        if let Some((strategy, roads)) = &self.peers {
            command.args(roads.arguments(party.index())).args(["--exchange", &strategy.to_string()]);
        }
        Ok(command.spawn().map_err(|error| format!("{party} could not be started: {error}"))?)
    }

    /// Where a server that was started listens, and what it will say.
    fn hear(&self, party: Party, server: &mut Child) -> Result<(SocketAddr, BufReader<ChildStdout>)> {
        let mut out = BufReader::new(server.stdout.take().ok_or("a server without an output")?);
        let address = address(&mut out, "listening on ").ok_or_else(|| format!("{party} did not start"))?;
        if self.peers.is_some() {
            address_of_peers(&mut out, party)?;
        }
        Ok((address, out))
    }
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

#[cfg(test)]
impl Cluster {
    /// Of no servers.
    pub(crate) fn of_nobody() -> Self {
        let scratch = Scratch { shares: PathBuf::new(), keys: None };
        let launch = Launch { scratch, kernel: None, peers: None };
        Self { launch, servers: Vec::new(), addresses: Vec::new(), figures: Mutex::default() }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of three processes that say `figures` whenever they are asked.
    fn saying(figures: [&str; 3]) -> Cluster {
        let mut cluster = Cluster::of_nobody();
        for figures in figures {
            let line = format!("while read asked; do echo {figures}; done");
            let mut shell = Command::new("sh");
            let shell = shell.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut server = shell.spawn().unwrap();
            let out = BufReader::new(server.stdout.take().unwrap());
            cluster.figures.get_mut().unwrap().push(out);
            cluster.servers.push(server);
        }
        cluster
    }

    #[test]
    fn figures_are_those_of_all_three_each_under_its_name_and_asked_for_again() {
        let cluster = saying(["1 20 300 4000", "2 30 400 5000", "4 50 600 7000"]);
        for _ in 0..2 {
            let Exchanged { bytes, opened, held, waiting } = cluster.exchanged().unwrap();
            assert_eq!((bytes, opened, held, waiting), (7, 100, 1300, 16_000));
        }
        for odd in ["1 2 3", "1 2 3 4 5", "", "1 2 3 x"] {
            assert!(saying(["1 2 3 4", "1 2 3 4", odd]).exchanged().is_err(), "{odd}");
        }
    }

    #[test]
    fn the_server_that_is_killed_is_the_one_that_was_named() {
        let mut cluster = saying(["1 2 3 4"; 3]);
        let [first, second, third] = Party::ALL;
        let lives =
            |cluster: &Cluster| -> Vec<bool> { cluster.usage().iter().map(Option::is_some).collect() };
        assert_eq!(lives(&cluster), [true; 3]);
        cluster.kill(second).unwrap();
        assert_eq!(lives(&cluster), [true, false, true]);
        cluster.kill(first).unwrap();
        cluster.kill(third).unwrap();
        assert_eq!((lives(&cluster), cluster.cpu_time()), (vec![false; 3], Duration::ZERO));
    }

    #[test]
    fn a_server_listens_where_it_says_in_its_first_line_and_for_others_in_its_second() {
        let heard = |text: &str| address(&mut text.as_bytes(), "listening on ");
        assert_eq!(heard("listening on 127.0.0.1:7\n"), Some(([127, 0, 0, 1], 7).into()));
        for odd in ["", "\n", "listening on nowhere\n", "listening for servers on 127.0.0.1:7\n"] {
            assert_eq!(heard(odd), None, "{odd}");
        }
        let party = Party::ALL[1];
        assert!(address_of_peers(&mut &b"listening for servers on 127.0.0.1:7\n"[..], party).is_ok());
        let said = address_of_peers(&mut &b"listening on 127.0.0.1:7\n"[..], party).unwrap_err().to_string();
        assert_eq!(said, "server 2 does not listen for the others");
    }
}
