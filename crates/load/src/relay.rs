//! A TCP relay that makes two programs on one machine as far apart as a network would: every byte, every end and
//! every reset arrives a fixed time later, in each direction. Its links can be paused and cut.
//!
//! It is a loop of its own rather than sessions of the engine, because a delay must not depend on what it is used to
//! measure, and because it needs what sessions do not have: waits finer than the reactor's milliseconds (ppoll(2)),
//! resets that are passed on in their turn, and links that fall silent without anybody being told.

mod connection;
mod line;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use connection::Connection;

/// Most connections at a time; more wait until one has ended.
pub const CONNECTIONS_MAX: usize = 4_096;

/// How long no connection is accepted after one could not be, as when there are no descriptors left.
const REST: Duration = Duration::from_millis(50);

/// Least time between two turns of the loop: under load, segments that arrive meanwhile share a turn.
const PACE: Duration = Duration::from_micros(200);

/// Bytes received in one call.
const BLOCK: usize = 64 << 10;

/// A relay could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a relay to {target}: {source}")]
pub struct RelayError {
    /// Where it should have forwarded to.
    pub target: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A running relay from a port on 127.0.0.1 to a target, on a thread of its own. Dropping it resets its connections.
///
/// Every byte arrives `delay` after the relay got it or a fraction of a millisecond later, never sooner and in order,
/// and so do ends and resets. Bandwidth is not limited: up to 32 MiB are under way in each direction of a connection;
/// beyond that the relay reads no more. *Connecting* costs its round trip too: the kernel answers it at once, but what
/// is sent on a connection leaves no sooner than it could far away. A client whose target refuses is reset, and the
/// next one tries the target anew.
///
/// ```
/// use std::{io::{Read, Write}, net::{TcpListener, TcpStream}, time::{Duration, Instant}};
/// use roadstead_load::relay::Relay;
///
/// let delay = Duration::from_millis(5);
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let relay = Relay::start(server.local_addr()?, delay)?;
/// let mut client = TcpStream::connect(relay.address())?;
/// let start = Instant::now();
/// client.write_all(b"far away")?;
/// let mut bytes = [0; 8];
/// server.accept()?.0.read_exact(&mut bytes)?;
/// assert!(start.elapsed() >= delay);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Relay {
    address: SocketAddr,
    target: SocketAddr,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes that a relay has delivered since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From clients to the target.
    pub to_target: u64,
    /// From the target to clients.
    pub to_clients: u64,
}

impl Relay {
    /// Starts a relay to `target` on a port that the system chooses.
    pub fn start(target: SocketAddr, delay: Duration) -> Result<Self, RelayError> {
        Self::try_start(target, delay).map_err(|source| RelayError { target, source })
    }

    fn try_start(target: SocketAddr, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control::new()?);
        let relay = Loop {
            listener,
            target,
            delay,
            control: control.clone(),
            start: Instant::now(),
            connections: Vec::new(),
            resting: None,
            block: vec![0; BLOCK],
        };
        let thread = thread::Builder::new().name("relay".into()).spawn(move || relay.run())?;
        Ok(Self { address, target, control, thread: Some(thread) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has been delivered until now.
    pub fn traffic(&self) -> Traffic {
        let [to_target, to_clients] = &self.control.delivered;
        Traffic { to_target: to_target.load(Relaxed), to_clients: to_clients.load(Relaxed) }
    }

    /// Resets all connections soon, on both sides and without the delay. What is under way is lost. Later ones are
    /// relayed as ever.
    pub fn sever(&self) {
        self.control.severed.store(true, SeqCst);
        self.control.wake();
    }

    /// Stops accepting and forwarding, soon: the network is silent, and nobody is told. Nothing is lost.
    pub fn pause(&self) {
        self.control.paused.store(true, SeqCst);
        self.control.wake();
    }

    /// Ends a pause. What was due in it is delivered at once.
    pub fn resume(&self) {
        self.control.paused.store(false, SeqCst);
        self.control.wake();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("address", &self.address).field("target", &self.target).finish()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.control.stopped.store(true, SeqCst);
        self.control.wake();
        if let Some(thread) = self.thread.take() {
            // It only fails if the loop has panicked, and there is nothing left to stop then.
            let _ = thread.join();
        }
    }
}

/// What the relay's owner and its loop share.
struct Control {
    wake_fd: OwnedFd,
    paused: AtomicBool,
    severed: AtomicBool,
    stopped: AtomicBool,
    /// To the target, to clients.
    delivered: [AtomicU64; 2],
}

impl Control {
    fn new() -> io::Result<Self> {
        Ok(Self {
            wake_fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            paused: AtomicBool::new(false),
            severed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            delivered: Default::default(),
        })
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.wake_fd, &1u64.to_ne_bytes());
    }

    fn heard(&self) {
        // Fails only when it is unreadable already.
        let _ = rustix::io::read(&self.wake_fd, &mut [0; 8]);
    }
}

struct Loop {
    listener: TcpListener,
    target: SocketAddr,
    delay: Duration,
    control: Arc<Control>,
    start: Instant,
    connections: Vec<Connection>,
    /// Until when nothing is accepted.
    resting: Option<Duration>,
    block: Vec<u8>,
}

impl Loop {
    fn run(mut self) {
        loop {
            let turn = self.start.elapsed();
            let paused = self.control.paused.load(SeqCst);
            let ready = self.wait(paused);
            if self.control.stopped.load(SeqCst) {
                break;
            }
            if self.control.severed.swap(false, SeqCst) {
                // Those in the backlog have connected, for all that their clients know.
                self.accept();
                self.connections.drain(..).for_each(Connection::reset);
            } else if !paused {
                self.forward(&ready);
                self.accept();
            }
            thread::sleep((turn + PACE).saturating_sub(self.start.elapsed()));
        }
        self.connections.drain(..).for_each(Connection::reset);
    }

    /// Waits until there is something to do; answers for each connection what its two sockets are ready for.
    fn wait(&self, paused: bool) -> Vec<[PollFlags; 2]> {
        let mut polled = vec![PollFd::new(&self.control.wake_fd, PollFlags::IN)];
        let mut places = Vec::new();
        let now = self.start.elapsed();
        let mut deadline = None;
        if !paused {
            deadline = self.connections.iter().filter_map(Connection::deadline).min();
            match self.resting {
                Some(until) if until > now => deadline = Some(deadline.map_or(until, |d| d.min(until))),
                _ if self.connections.len() >= CONNECTIONS_MAX => {}
                _ => polled.push(PollFd::new(&self.listener, PollFlags::IN)),
            }
            for (index, connection) in self.connections.iter().enumerate() {
                for (side, (socket, wish)) in connection.wishes().into_iter().enumerate() {
                    // A socket in the set is told of errors even if nothing was asked: it would never let us sleep.
                    if !wish.is_empty() {
                        places.push((polled.len(), index, side));
                        polled.push(PollFd::from_borrowed_fd(socket, wish));
                    }
                }
            }
        }
        let timeout = deadline.and_then(|d| Timespec::try_from(d.saturating_sub(now)).ok());
        let mut ready = vec![[PollFlags::empty(); 2]; self.connections.len()];
        // An interrupted wait is as good as one that came to its end.
        if poll(&mut polled, timeout.as_ref()).is_ok() {
            if !polled[0].revents().is_empty() {
                self.control.heard();
            }
            for (place, index, side) in places {
                ready[index][side] = polled[place].revents();
            }
        }
        ready
    }

    fn forward(&mut self, ready: &[[PollFlags; 2]]) {
        let (start, block, delivered) = (self.start, &mut self.block, &self.control.delivered);
        let mut ready = ready.iter();
        self.connections.retain_mut(|connection| {
            let flags = ready.next().copied().unwrap_or([PollFlags::empty(); 2]);
            connection.forward(flags, &|| start.elapsed(), block, delivered)
        });
    }

    fn accept(&mut self) {
        let now = self.start.elapsed();
        if self.resting.is_some_and(|until| until > now) {
            return;
        }
        self.resting = None;
        while self.connections.len() < CONNECTIONS_MAX {
            match self.listener.accept() {
                // A client whose target refuses at once is closed by dropping it here.
                Ok((client, _)) => {
                    let connection = Connection::open(client, self.target, self.delay, self.start.elapsed());
                    self.connections.extend(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.resting = Some(now + REST);
                    return;
                }
            }
        }
    }
}
