//! The blocking connections of one process: who accepts them, who serves them, and which of them live.
//!
//! Connections that a session opens itself have a spawner of their own, with a thread for each whoever serves the
//! others: a session that waits for one must not keep it from being served.
#![forbid(unsafe_code)]

use std::{
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use slab::Slab;

use roadstead_proto::{
    connection::Endpoint,
    host::Host,
    stats::Refusal,
    ticket::{Token, WakeQueue},
};

use super::{
    connection::{Blocking, Handle},
    server_handle::ServerHandle,
    wait::WaitingNet,
};
use crate::{
    accept::{self, Accepted, Listener, Open, Taken},
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
    fn serve(&self, connection: LiveConnection<N>) -> io::Result<()>;

    /// All connections have ended and no more will come.
    fn end(&self) {}
}

/// The blocking connections of one process, and the thread that accepts them.
pub struct BlockingServer<N: WaitingNet> {
    net: N,
    host: Box<MakeHost>,
    spawner: Box<dyn Spawner<N>>,
    /// For those that a session opens.
    outgoing: Box<dyn Spawner<N>>,
    ordered: Ordered,
    live: Mutex<Slab<Handle>>,
    left: Condvar,
    /// Calls the thread that accepts.
    wake_queue: Arc<WakeQueue>,
    interrupt: N::Wakeup,
    /// Calls all threads that serve when it drains.
    alarm: N::Wakeup,
    listening: Mutex<Listening<N>>,
}

/// What the thread that accepts listens on, as long as it does. It holds them only while it is at them, and not while
/// it serves: whoever gives an order can then close them.
struct Listening<N: WaitingNet> {
    open: Option<Arc<Vec<Listener<N::ListenSocket>>>>,
    last: Last<N::Stream>,
}

/// Who waited when the listeners were closed, and what makes their endpoints.
type Last<S> = Vec<(Arc<Open>, Taken<S>)>;

impl<N: WaitingNet> BlockingServer<N> {
    /// Nobody yet. `spawner` has those who come served, `outgoing` those that their sessions open.
    pub fn new(
        mut net: N,
        host: Box<MakeHost>,
        spawner: Box<dyn Spawner<N>>,
        outgoing: Box<dyn Spawner<N>>,
    ) -> io::Result<Arc<Self>> {
        let wake_queue = WakeQueue::new();
        Ok(Arc::new(Self {
            interrupt: net.interrupt(&wake_queue)?,
            alarm: net.alarm()?,
            wake_queue,
            net,
            host,
            spawner,
            outgoing,
            ordered: Ordered::default(),
            live: Mutex::default(),
            left: Condvar::new(),
            listening: Mutex::new(Listening { open: None, last: Vec::new() }),
        }))
    }

    /// Tells every thread, and the one that accepts, which may be serving: nobody is to wait for it in vain.
    pub fn raise(&self, order: Order) {
        let mut listening = self.listening();
        self.ordered.raise(order);
        if let Some(open) = listening.open.take() {
            listening.last.extend(self.let_go(open));
        }
        drop(listening);
        if order >= Order::Drain {
            self.net.ring(&self.alarm);
        }
        for (_, handle) in self.live.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handle.order();
        }
        self.wake_queue.wake(TOKEN);
    }

    fn listening(&self) -> MutexGuard<'_, Listening<N>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever lets go of the listeners last closes them, and takes those who wait, unless they are another's. To have
    /// them hung up instead would be quicker, and would end the accepts of every other process that has the same sockets.
    fn let_go(&self, listeners: Arc<Vec<Listener<N::ListenSocket>>>) -> Last<N::Stream> {
        let Some(listeners) = Arc::into_inner(listeners) else { return Vec::new() };
        let mut last = Vec::new();
        if self.ordered.has_ceded() {
            return last;
        }
        let mut net = self.net.accepting();
        for Listener { socket, open } in listeners {
            let waited = accept::last(&mut net, &socket);
            last.extend(waited.into_iter().map(|taken| (Arc::clone(&open), taken)));
        }
        last
    }

    /// Has `listeners` accepted from, until anything but serving is ordered.
    pub fn listen(&self, listeners: Vec<Listener<N::ListenSocket>>) {
        let mut listening = self.listening();
        if self.ordered.get() == Order::Serve {
            listening.open = Some(Arc::new(listeners));
        }
    }

    /// Does something at the listeners; `None` if nobody is let in any more.
    fn at_listeners<T>(&self, act: impl FnOnce(&[Listener<N::ListenSocket>]) -> T) -> Option<T> {
        let listeners = self.listening().open.clone()?;
        let done = act(&listeners);
        let last = self.let_go(listeners);
        if !last.is_empty() {
            self.listening().last.extend(last);
        }
        Some(done)
    }

    /// Accepts until there is anything else to do, as `follow` has it done, and waits until no connection is left.
    /// Where nobody can be accepted any more, which `follow` says, nobody is served either.
    pub fn run(self: &Arc<Self>, follow: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> bool) {
        if !follow(&mut || self.accept()) {
            self.raise(Order::Stop);
        }
        self.end();
    }

    /// Accepts, and has served, until there is anything else to do.
    pub fn accept(self: &Arc<Self>) -> io::Result<()> {
        let mut host = (self.host)();
        let mut net = self.net.accepting();
        while let Some(waited) = self.at_listeners(|all| self.wait(&mut net, all, None).map(|()| all.len())) {
            let mut exhausted = false;
            for number in 0..waited? {
                let next = self.at_listeners(|all| accept::next(&mut net, &all[number], &mut host));
                let Some(accepted) = next else { break };
                exhausted |= !self.have_served(accepted, &mut host);
            }
            host.report();
            if exhausted {
                self.wait(&mut net, &[], Some(REST))?;
            }
        }
        while self.ordered.get() < Order::Drain {
            self.wait(&mut net, &[], None)?;
        }
        let last = mem::take(&mut self.listening().last);
        for (open, taken) in last {
            if self.ordered.get() == Order::Stop {
                host.count.refuse(Refusal::Stopped);
            } else {
                self.have_served(accept::decide(taken, &mut net, &*open, &mut host), &mut host);
            }
        }
        host.report();
        Ok(())
    }

    /// Waits for somebody to come, for an order, or until the time is over.
    fn wait(
        &self,
        net: &mut N,
        listeners: &[Listener<N::ListenSocket>],
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if !self.wake_queue.begin_sleep() {
            // There is one name on it, and the order that it was called for is looked at next.
            self.wake_queue.take(&mut Vec::new());
            return Ok(());
        }
        let waited =
            net.wait_for_any(listeners.iter().map(|listener| &listener.socket), &self.interrupt, timeout);
        self.wake_queue.end_sleep();
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
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        while !live.is_empty() {
            live = self.left.wait(live).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn accepted(self: &Arc<Self>, stream: N::Stream, endpoint: Box<dyn Endpoint>) -> LiveConnection<N> {
        self.register(Blocking::accepted(
            Arc::<Self>::clone(self),
            self.net.another(),
            self.alarm.clone(),
            stream,
            endpoint,
            (self.host)(),
        ))
    }

    fn register(self: &Arc<Self>, connection: Blocking<N>) -> LiveConnection<N> {
        let key = self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.handle());
        LiveConnection { connection: Some(connection), server: Arc::clone(self), key }
    }
}

impl<N: WaitingNet> ServerHandle for BlockingServer<N> {
    fn order(&self) -> Order {
        self.ordered.get()
    }

    fn connect(self: Arc<Self>, endpoint: Box<dyn Endpoint>) {
        let mut host = (self.host)();
        host.count.connected += 1;
        host.report();
        let (net, alarm) = (self.net.another(), self.alarm.clone());
        let connection = Blocking::outgoing(Arc::<Self>::clone(&self), net, alarm, endpoint, host);
        warn(self.outgoing.serve(self.register(connection)));
    }
}

fn warn(served: io::Result<()>) {
    if let Err(error) = served {
        tracing::warn!(%error, "nobody could be had to serve a connection; it is closed");
    }
}

/// A connection that is counted as living until this is dropped.
pub struct LiveConnection<N: WaitingNet> {
    connection: Option<Blocking<N>>,
    server: Arc<BlockingServer<N>>,
    key: usize,
}

impl<N: WaitingNet> LiveConnection<N> {
    /// Drives the connection to its end.
    pub fn run(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.run();
        }
    }
}

impl<N: WaitingNet> Drop for LiveConnection<N> {
    fn drop(&mut self) {
        drop(self.connection.take());
        self.server.live.lock().unwrap_or_else(PoisonError::into_inner).try_remove(self.key);
        self.server.left.notify_all();
    }
}
