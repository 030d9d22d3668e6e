//! What the spawners in one process share: the thread that accepts, and the count of those that live.
//!
//! Connections that a session opens itself have a thread each whatever the spawner is: a session that waits for one
//! must not keep it from being served.
#![forbid(unsafe_code)]

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use rustix::event::{PollFd, PollFlags};
use slab::Slab;

use super::{
    company::{Company, Orders},
    connection::{Blocking, Handle},
    wait::WaitingNet,
};
use crate::{
    accept::{self, Accepted, Door, Taken},
    connection::Endpoint,
    ending::Ending,
    host::Host,
    net::REST,
    os::{self, WaitingOs, WaitingStream},
    wait::wait_for,
};

/// The stack of a connection's thread, in bytes: small, because a session does not recurse; memory only once touched.
pub(crate) const STACK: usize = 256 << 10;

/// Makes a host for a thread.
pub(crate) type MakeHost = dyn Fn() -> Host + Send + Sync;

/// Who waits for a connection that was accepted.
pub(crate) trait Spawner: Send + Sync {
    /// Has `connection` driven to its end, by this thread or by another.
    ///
    /// # Errors
    /// If there is nobody to be had; the connection is closed then.
    fn serve(&self, connection: Living) -> io::Result<()>;

    /// All connections have ended and no more will come.
    fn end(&self) {}
}

/// Those who serve the connections of one process.
pub(crate) struct Crew {
    net: WaitingOs,
    host: Box<MakeHost>,
    spawner: Box<dyn Spawner>,
    orders: AtomicU8,
    living: Mutex<Slab<Handle>>,
    left: Condvar,
    interrupt: OwnedFd,
    doors: Mutex<Doors>,
}

/// What the thread that accepts listens on, as long as it does.
struct Doors {
    open: Weak<[Door<OwnedFd>]>,
    /// Who waited when they were closed, and at which.
    last: Vec<(usize, Taken<WaitingStream>)>,
}

impl Crew {
    pub(crate) fn new(
        net: WaitingOs,
        host: Box<MakeHost>,
        spawner: Box<dyn Spawner>,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            net,
            host,
            spawner,
            orders: AtomicU8::new(Orders::Serve as u8),
            living: Mutex::default(),
            left: Condvar::new(),
            interrupt: os::event()?,
            doors: Mutex::new(Doors { open: Weak::<[Door<OwnedFd>; 0]>::new(), last: Vec::new() }),
        }))
    }

    /// Tells every thread, and the one that accepts, which may be serving: nobody is to wait for it in vain.
    pub(crate) fn order(&self, orders: Orders) {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        self.orders.fetch_max(orders as u8, SeqCst);
        if let Some(open) = doors.open.upgrade() {
            self.close(&open, &mut doors.last);
        }
        drop(doors);
        for (_, handle) in self.living.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.order();
        }
        // Fails only when the counter is full, and then the wait is interrupted already.
        let _ = rustix::io::write(&self.interrupt, &1u64.to_ne_bytes());
    }

    /// Nobody comes any more. Who waits already is kept for the thread that accepts: it may be serving, and must not be
    /// waited for by those who come later.
    fn close(&self, doors: &[Door<OwnedFd>], last: &mut Vec<(usize, Taken<WaitingStream>)>) {
        let mut net = self.net.accepting();
        for (number, door) in doors.iter().enumerate() {
            let waited = accept::last(&mut net, &door.listener);
            last.extend(waited.into_iter().map(|taken| (number, taken)));
            os::hang_up(&door.listener);
        }
    }

    /// Starts the thread that accepts. It ends when there is anything but serving to do, and all others have ended; last
    /// it does `finally`.
    pub(crate) fn start(
        self: &Arc<Self>,
        doors: Vec<Door<OwnedFd>>,
        ending: Ending,
        finally: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let crew = Arc::clone(self);
        let doors = Arc::from(doors);
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).open = Arc::downgrade(&doors);
        thread::Builder::new().name("accept".into()).spawn(move || {
            if !ending.follow(|| crew.accept(&doors)) {
                crew.order(Orders::Stop);
            }
            drop(doors);
            crew.wait_for_all();
            crew.spawner.end();
            finally();
        })
    }

    /// Accepts, and has served, until there is anything else to do.
    pub(crate) fn accept(self: &Arc<Self>, doors: &[Door<OwnedFd>]) -> io::Result<()> {
        let mut host = (self.host)();
        let mut net = self.net.accepting();
        while self.orders() == Orders::Serve {
            let mut fds = vec![PollFd::new(&self.interrupt, PollFlags::IN)];
            fds.extend(doors.iter().map(|door| PollFd::new(&door.listener, PollFlags::IN)));
            wait_for(&mut fds, None)?;
            let mut exhausted = false;
            for door in doors {
                if self.orders() != Orders::Serve {
                    break;
                }
                exhausted |= !self.have_served(accept::next(&mut net, door, &mut host), &mut host);
            }
            host.report();
            if exhausted {
                wait_for(&mut [PollFd::new(&self.interrupt, PollFlags::IN)], Some(Instant::now() + REST))?;
            }
        }
        let last = mem::take(&mut self.doors.lock().unwrap_or_else(PoisonError::into_inner).last);
        for (number, taken) in last {
            if self.orders() == Orders::Stop {
                host.count.refused += 1;
            } else {
                self.have_served(accept::decide(taken, &mut net, &doors[number], &mut host), &mut host);
            }
        }
        host.report();
        Ok(())
    }

    /// False if the system has no room to let anybody in.
    fn have_served(self: &Arc<Self>, accepted: Accepted<WaitingStream>, host: &mut Host) -> bool {
        match accepted {
            Accepted::Admitted(stream, endpoint) => {
                host.report();
                warn(self.spawner.serve(self.accepted(stream, endpoint)));
            }
            Accepted::Exhausted => return false,
            Accepted::Refused | Accepted::Empty => {}
        }
        true
    }

    /// Serves one connection on this thread, to its end.
    pub(crate) fn serve_one(self: &Arc<Self>, stream: WaitingStream, endpoint: Box<dyn Endpoint>) {
        self.accepted(stream, endpoint).run();
    }

    /// Waits until no connection is left.
    pub(crate) fn wait_for_all(&self) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        while !living.is_empty() {
            living = self.left.wait(living).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn accepted(self: &Arc<Self>, stream: WaitingStream, endpoint: Box<dyn Endpoint>) -> Living {
        self.register(Blocking::accepted(
            Arc::<Self>::clone(self),
            self.net.another(),
            stream,
            endpoint,
            (self.host)(),
        ))
    }

    fn register(self: &Arc<Self>, connection: Blocking<WaitingOs>) -> Living {
        let key = self.living.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.handle());
        Living { connection: Some(connection), crew: Arc::clone(self), key }
    }
}

impl Company for Crew {
    fn orders(&self) -> Orders {
        match self.orders.load(SeqCst) {
            0 => Orders::Serve,
            1 => Orders::Drain,
            _ => Orders::Stop,
        }
    }

    fn connect(self: Arc<Self>, address: SocketAddr, endpoint: Box<dyn Endpoint>) {
        let mut host = (self.host)();
        host.count.connected += 1;
        host.report();
        let connection =
            Blocking::outgoing(Arc::<Self>::clone(&self), self.net.another(), address, endpoint, host);
        warn(spawn(self.register(connection)));
    }
}

/// Gives a connection a thread of its own.
pub(crate) fn spawn(connection: Living) -> io::Result<()> {
    let thread = thread::Builder::new().name("connection".into()).stack_size(STACK);
    thread.spawn(move || connection.run()).map(drop)
}

fn warn(served: io::Result<()>) {
    if let Err(error) = served {
        tracing::warn!(%error, "nobody could be had to serve a connection; it is closed");
    }
}

/// A connection that is counted as living until this is dropped.
pub(crate) struct Living {
    connection: Option<Blocking<WaitingOs>>,
    crew: Arc<Crew>,
    key: usize,
}

impl Living {
    /// Drives the connection to its end.
    pub(crate) fn run(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.run();
        }
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        drop(self.connection.take());
        self.crew.living.lock().unwrap_or_else(PoisonError::into_inner).try_remove(self.key);
        self.crew.left.notify_all();
    }
}
