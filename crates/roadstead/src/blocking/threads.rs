//! `threads`: a thread per connection, and one that accepts.
//!
//! The budget refuses a connection before the machine has to: ten thousand threads are the wall that gave C10K its
//! name. Stacks are small because a session does not recurse; they are memory only once touched.
#![forbid(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use slab::Slab;

use super::{Blocking, Handle};
use crate::{
    accept::{self, Accepted, Door},
    connection::{Endpoint, Event},
    host::Host,
    os::{self, Os},
};

/// The stack of a connection's thread, in bytes.
const STACK: usize = 256 << 10;

/// What the server wants of every connection's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orders {
    Serve,
    Drain,
    Stop,
}

/// Makes a host for a thread.
pub(crate) type MakeHost = dyn Fn() -> Host + Send + Sync;

/// The threads of one server.
pub(crate) struct Threads {
    epoch: Instant,
    host: Box<MakeHost>,
    orders: AtomicU8,
    living: Mutex<Slab<Handle>>,
    left: Condvar,
    interrupt: OwnedFd,
}

impl Threads {
    pub(crate) fn new(epoch: Instant, host: Box<MakeHost>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            epoch,
            host,
            orders: AtomicU8::new(Orders::Serve as u8),
            living: Mutex::default(),
            left: Condvar::new(),
            interrupt: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        }))
    }

    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(crate) fn orders(&self) -> Orders {
        match self.orders.load(SeqCst) {
            0 => Orders::Serve,
            1 => Orders::Drain,
            _ => Orders::Stop,
        }
    }

    /// Tells every thread, and the one that accepts.
    pub(crate) fn order(&self, orders: Orders) {
        self.orders.fetch_max(orders as u8, SeqCst);
        for (_, handle) in self.living.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.order();
        }
        // Fails only when the counter is full, and then the wait is interrupted already.
        let _ = rustix::io::write(&self.interrupt, &1u64.to_ne_bytes());
    }

    /// Starts the thread that accepts; it lets go of `ending` when it ends. It ends when there is anything but serving to do, and all others have ended.
    pub(crate) fn start(
        self: &Arc<Self>,
        doors: Vec<Door<OwnedFd>>,
        ending: mpsc::Sender<()>,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        let threads = Arc::clone(self);
        thread::Builder::new().name("accept".into()).spawn(move || {
            let result = threads.accept(&doors);
            drop(doors);
            threads.wait_for_all();
            drop(ending);
            result
        })
    }

    fn accept(self: &Arc<Self>, doors: &[Door<OwnedFd>]) -> io::Result<()> {
        let mut host = (self.host)();
        let mut net = Os::blocking(self.epoch, host.shared.tuning);
        while self.orders() == Orders::Serve {
            let mut fds = vec![PollFd::new(&self.interrupt, PollFlags::IN)];
            fds.extend(doors.iter().map(|door| PollFd::new(&door.listener, PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for door in doors {
                match accept::next(&mut net, door, &mut host) {
                    Accepted::Admitted(stream, endpoint) => self.spawn(stream, endpoint, false),
                    Accepted::Exhausted => thread::sleep(accept::REST),
                    Accepted::Refused | Accepted::Empty => {}
                }
            }
            host.report();
        }
        Ok(())
    }

    fn wait_for_all(&self) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        while !living.is_empty() {
            living = self.left.wait(living).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives a connection its thread. If the system has none left the connection is closed.
    fn spawn(self: &Arc<Self>, stream: OwnedFd, endpoint: Box<dyn Endpoint>, connecting: bool) {
        let connection = Blocking::new(Arc::clone(self), stream, endpoint, connecting, (self.host)());
        let living = self.register(connection.handle());
        let spawned = thread::Builder::new().name("connection".into()).stack_size(STACK).spawn(move || {
            connection.run();
            drop(living);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread could be had for a connection; it is closed");
        }
    }

    /// Opens a connection in a thread of its own and drives `endpoint` on it.
    pub(crate) fn connect(self: &Arc<Self>, address: SocketAddr, mut endpoint: Box<dyn Endpoint>) {
        let mut host = (self.host)();
        host.count.connected += 1;
        match os::connect(address, host.shared.tuning) {
            Ok(stream) => self.spawn(stream, endpoint, true),
            Err(error) => endpoint.handle(self.now(), Event::Failed(error), &mut host),
        }
        host.report();
    }

    fn register(self: &Arc<Self>, handle: Handle) -> Registered {
        let key = self.living.lock().unwrap_or_else(PoisonError::into_inner).insert(handle);
        Registered { threads: Arc::clone(self), key }
    }
}

/// A thread that is counted as living until this is dropped.
struct Registered {
    threads: Arc<Threads>,
    key: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.threads.living.lock().unwrap_or_else(PoisonError::into_inner).try_remove(self.key);
        self.threads.left.notify_all();
    }
}
