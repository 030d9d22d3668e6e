//! What the spawners in one process share: the thread that accepts, and the count of those that live.
//!
//! Connections that a session opens itself have a spawner of their own, with a thread for each whoever serves the others:
//! a session that waits for one must not keep it from being served.
#![forbid(unsafe_code)]

use std::{
    io, mem,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::Duration,
};

use slab::Slab;

use roadstead_proto::{
    connection::Endpoint,
    host::Host,
    ticket::{Bell, Token},
};

use super::{
    company::Company,
    connection::{Blocking, Handle},
    wait::WaitingNet,
};
use crate::{
    accept::{self, Accepted, Door, Taken},
    net::REST,
    orders::{Order, Ordered},
};

/// One thread accepts.
const TOKEN: Token = Token(0);

/// Makes a host for a thread.
pub type MakeHost = dyn Fn() -> Host + Send + Sync;

/// Who waits for a connection.
pub trait Spawner<N: WaitingNet>: Send + Sync {
    /// Has `connection` driven to its end, by this thread or by another.
    ///
    /// # Errors
    /// If there is nobody to be had; the connection is closed then.
    fn serve(&self, connection: Living<N>) -> io::Result<()>;

    /// All connections have ended and no more will come.
    fn end(&self) {}
}

/// Those who serve the connections of one process.
pub struct Crew<N: WaitingNet> {
    net: N,
    host: Box<MakeHost>,
    spawner: Box<dyn Spawner<N>>,
    /// For those that a session opens.
    outgoing: Box<dyn Spawner<N>>,
    ordered: Ordered,
    living: Mutex<Slab<Handle>>,
    left: Condvar,
    /// Calls the thread that accepts.
    bell: Arc<Bell>,
    interrupt: N::Interrupt,
    doors: Mutex<Doors<N>>,
}

/// What the thread that accepts listens on, as long as it does.
struct Doors<N: WaitingNet> {
    open: Weak<[Door<N::Listener>]>,
    /// Who waited when they were closed, and at which.
    last: Vec<(usize, Taken<N::Stream>)>,
}

impl<N: WaitingNet> Crew<N> {
    /// Nobody yet. `spawner` has those who come served, `outgoing` those that their sessions open.
    pub fn new(
        mut net: N,
        host: Box<MakeHost>,
        spawner: Box<dyn Spawner<N>>,
        outgoing: Box<dyn Spawner<N>>,
    ) -> io::Result<Arc<Self>> {
        let bell = Bell::new();
        Ok(Arc::new(Self {
            interrupt: net.interrupt(&bell)?,
            bell,
            net,
            host,
            spawner,
            outgoing,
            ordered: Ordered::default(),
            living: Mutex::default(),
            left: Condvar::new(),
            doors: Mutex::new(Doors { open: Weak::<[Door<N::Listener>; 0]>::new(), last: Vec::new() }),
        }))
    }

    /// Tells every thread, and the one that accepts, which may be serving: nobody is to wait for it in vain.
    pub fn raise(&self, order: Order) {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        self.ordered.raise(order);
        if let Some(open) = doors.open.upgrade() {
            self.close(&open, &mut doors.last);
        }
        drop(doors);
        for (_, handle) in self.living.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.order();
        }
        self.bell.ring(TOKEN);
    }

    /// Nobody comes any more. Who waits already is kept for the thread that accepts: it may be serving, and must not be
    /// waited for by those who come later.
    fn close(&self, doors: &[Door<N::Listener>], last: &mut Vec<(usize, Taken<N::Stream>)>) {
        let mut net = self.net.accepting();
        for (number, door) in doors.iter().enumerate() {
            let waited = accept::last(&mut net, &door.listener);
            last.extend(waited.into_iter().map(|taken| (number, taken)));
            net.hang_up(&door.listener);
        }
    }

    /// Has `doors` closed by whoever orders anything but serving, until the thread that accepts lets go of them.
    pub fn watch(&self, doors: Vec<Door<N::Listener>>) -> Arc<[Door<N::Listener>]> {
        let doors = Arc::from(doors);
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).open = Arc::downgrade(&doors);
        doors
    }

    /// Accepts until there is anything else to do, as `follow` has it done, and waits until no connection is left. Where
    /// nobody can be accepted any more, which `follow` says, nobody is served either.
    pub fn run(
        self: &Arc<Self>,
        doors: Arc<[Door<N::Listener>]>,
        follow: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> bool,
    ) {
        if !follow(&mut || self.accept(&doors)) {
            self.raise(Order::Stop);
        }
        drop(doors);
        self.end();
    }

    /// Accepts, and has served, until there is anything else to do.
    pub fn accept(self: &Arc<Self>, doors: &[Door<N::Listener>]) -> io::Result<()> {
        let mut host = (self.host)();
        let mut net = self.net.accepting();
        while self.ordered.get() == Order::Serve {
            self.wait(&mut net, doors, None)?;
            let mut exhausted = false;
            for door in doors {
                if self.ordered.get() != Order::Serve {
                    break;
                }
                exhausted |= !self.have_served(accept::next(&mut net, door, &mut host), &mut host);
            }
            host.report();
            if exhausted {
                self.wait(&mut net, &[], Some(REST))?;
            }
        }
        let last = mem::take(&mut self.doors.lock().unwrap_or_else(PoisonError::into_inner).last);
        for (number, taken) in last {
            if self.ordered.get() == Order::Stop {
                host.count.refused += 1;
            } else {
                self.have_served(accept::decide(taken, &mut net, &doors[number], &mut host), &mut host);
            }
        }
        host.report();
        Ok(())
    }

    /// Waits for somebody to come, for an order, or until the time is over.
    fn wait(&self, net: &mut N, doors: &[Door<N::Listener>], timeout: Option<Duration>) -> io::Result<()> {
        if !self.bell.fall_asleep() {
            return Ok(());
        }
        let waited = net.wait_for_any(doors.iter().map(|door| &door.listener), &self.interrupt, timeout);
        self.bell.wake_up();
        waited
    }

    /// False if the system has no room to let anybody in.
    fn have_served(self: &Arc<Self>, accepted: Accepted<N::Stream>, host: &mut Host) -> bool {
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
    pub fn serve_one(self: &Arc<Self>, stream: N::Stream, endpoint: Box<dyn Endpoint>) {
        self.accepted(stream, endpoint).run();
    }

    /// Waits until no connection is left, and lets those go who have served them.
    pub fn end(&self) {
        self.wait_for_all();
        self.spawner.end();
        self.outgoing.end();
    }

    /// Waits until no connection is left.
    pub fn wait_for_all(&self) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        while !living.is_empty() {
            living = self.left.wait(living).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn accepted(self: &Arc<Self>, stream: N::Stream, endpoint: Box<dyn Endpoint>) -> Living<N> {
        self.register(Blocking::accepted(
            Arc::<Self>::clone(self),
            self.net.another(),
            stream,
            endpoint,
            (self.host)(),
        ))
    }

    fn register(self: &Arc<Self>, connection: Blocking<N>) -> Living<N> {
        let key = self.living.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.handle());
        Living { connection: Some(connection), crew: Arc::clone(self), key }
    }
}

impl<N: WaitingNet> Company for Crew<N> {
    fn order(&self) -> Order {
        self.ordered.get()
    }

    fn connect(self: Arc<Self>, address: SocketAddr, endpoint: Box<dyn Endpoint>) {
        let mut host = (self.host)();
        host.count.connected += 1;
        host.report();
        let connection =
            Blocking::outgoing(Arc::<Self>::clone(&self), self.net.another(), address, endpoint, host);
        warn(self.outgoing.serve(self.register(connection)));
    }
}

fn warn(served: io::Result<()>) {
    if let Err(error) = served {
        tracing::warn!(%error, "nobody could be had to serve a connection; it is closed");
    }
}

/// A connection that is counted as living until this is dropped.
pub struct Living<N: WaitingNet> {
    connection: Option<Blocking<N>>,
    crew: Arc<Crew<N>>,
    key: usize,
}

impl<N: WaitingNet> Living<N> {
    /// Drives the connection to its end.
    pub fn run(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.run();
        }
    }
}

impl<N: WaitingNet> Drop for Living<N> {
    fn drop(&mut self) {
        drop(self.connection.take());
        self.crew.living.lock().unwrap_or_else(PoisonError::into_inner).try_remove(self.key);
        self.crew.left.notify_all();
    }
}
