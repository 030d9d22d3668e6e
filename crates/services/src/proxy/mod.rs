//! A proxy: bytes both ways between whoever comes and one of several targets, with the end of each side and its
//! failure.
//!
//! A connection has two sessions, joined by a [`Forward`]: the near one was accepted, and the far one it opens to a
//! target. What the near side sends meanwhile waits between them, so that a target that cannot be reached costs it
//! nothing but time: the next is tried, until each was. A connection that was opened is never tried again elsewhere,
//! since nobody but the target knows what it has done with what it was sent.
#![forbid(unsafe_code)]

mod targets;

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use roadstead_proto::{
    Address, Close, Closed, Context, Done, Forward, Input, Layers, Peer, Ready, Scope, Service, Session,
    Waker,
};

pub use targets::TargetCounts;
use targets::{Seat, Targets};

/// Passes on what comes to one of its targets.
#[derive(Clone)]
pub struct Proxy(Arc<Parts>);

/// What all connections of a proxy have in common.
struct Parts {
    targets: Arc<Targets>,
    layers: Option<Arc<dyn Layers>>,
    up: AtomicU64,
    down: AtomicU64,
    unserved: AtomicU64,
}

/// What a proxy has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that clients have sent, of connections that are over.
    pub up: u64,
    /// Bytes that targets have sent, of connections that are over.
    pub down: u64,
    /// Clients for whom no target could be reached.
    pub unserved: u64,
    /// Each target, in the order in which they were given.
    pub targets: Vec<TargetCounts>,
}

impl Proxy {
    /// A proxy before `targets`, with which it speaks through a layer of `layers`, such as TLS, if there are some.
    pub fn new(targets: &[Address], layers: Option<Arc<dyn Layers>>) -> Self {
        let [up, down, unserved] = [(); 3].map(|()| AtomicU64::new(0));
        Self(Arc::new(Parts { targets: Targets::new(targets), layers, up, down, unserved }))
    }

    /// What it has come to so far. All clones count together.
    pub fn counts(&self) -> Counts {
        let Parts { targets, up, down, unserved, .. } = &*self.0;
        let [up, down, unserved] = [up, down, unserved].map(|count| count.load(Relaxed));
        Counts { up, down, unserved, targets: targets.counts() }
    }
}

impl Service for Proxy {
    type Session = Near;
    /// Which target has fewest connections is known of all together.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> Near {
        let (forward, far) = Forward::pair();
        Near { proxy: self.clone(), forward, far: Some(far), link: Arc::default(), sent: 0 }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("targets", &self.0.targets).finish_non_exhaustive()
    }
}

/// What the two sessions tell each other of the opening of the second.
#[derive(Default)]
struct Link {
    /// The numbers of the targets that were tried.
    tried: Vec<usize>,
    /// A target could not be reached: what is given back of it.
    unopened: Option<Unopened>,
    /// Calls the near session.
    waker: Option<Waker>,
}

struct Unopened {
    seat: Seat,
    forward: Forward,
    why: String,
}

type Shared = Arc<Mutex<Link>>;

fn lock(link: &Shared) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The side of whoever came.
pub struct Near {
    proxy: Proxy,
    forward: Forward,
    /// The other side, for as long as no target is being reached.
    far: Option<Forward>,
    link: Shared,
    sent: u64,
}

impl Near {
    /// Opens a connection to the target that is next.
    fn dial(&mut self, why: Option<String>, cx: &mut Context<'_, Self>) -> Done {
        let Some(forward) = self.far.take() else { return Ok(()) };
        let seat = self.proxy.0.targets.choose(&lock(&self.link).tried, cx.now());
        let Some(seat) = seat else {
            self.proxy.0.unserved.fetch_add(1, Relaxed);
            let why = why.unwrap_or_else(|| "there is none".into());
            tracing::warn!(peer = %cx.peer().address, %why, "no target can be reached");
            return Err(Close::abort(format!("no target can be reached: {why}")));
        };
        lock(&self.link).tried.push(seat.number);
        let address = seat.address.clone();
        let (proxy, link) = (self.proxy.clone(), Arc::clone(&self.link));
        let far = Far { seat, forward, opened: false, proxy, link, sent: 0 };
        let dialled = match &self.proxy.0.layers {
            Some(layers) => cx.connect_through(address, &**layers, far),
            None => cx.connect(address, far),
        };
        dialled.map(drop).map_err(|busy| Close::abort(busy.to_string()))
    }

    /// Tries the next target if one could not be reached.
    fn try_again(&mut self, cx: &mut Context<'_, Self>) -> Done {
        let Some(Unopened { seat, forward, why }) = lock(&self.link).unopened.take() else { return Ok(()) };
        tracing::debug!(target = %seat.address, %why, "a target cannot be reached");
        let why = format!("{}: {why}", seat.address);
        seat.failed(cx.now());
        self.far = Some(forward);
        self.dial(Some(why), cx)
    }
}

impl Session for Near {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.sent += input.len() as u64;
        self.forward.received(input, cx)
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            lock(&self.link).waker = Some(cx.waker());
            self.dial(None, cx)?;
        }
        self.try_again(cx)?;
        self.forward.called(cx)
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.forward.ended();
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.proxy.0.up.fetch_add(self.sent, Relaxed);
        // Nobody tries another target for it.
        let left = mem::take(&mut *lock(&self.link));
        drop(left);
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near").field("forward", &self.forward).finish_non_exhaustive()
    }
}

/// The side of a target.
struct Far {
    seat: Seat,
    forward: Forward,
    opened: bool,
    proxy: Proxy,
    link: Shared,
    sent: u64,
}

impl Session for Far {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.sent += input.len() as u64;
        self.forward.received(input, cx)
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            self.opened = true;
            self.seat.reached();
        }
        self.forward.called(cx)
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.forward.ended();
        Ok(())
    }

    fn closed(self, why: &Closed) {
        let Self { seat, forward, opened, proxy, link, sent } = self;
        proxy.0.down.fetch_add(sent, Relaxed);
        // A server that ends tries nothing any more.
        if opened || matches!(why, Closed::Stopped) {
            return;
        }
        let mut link = lock(&link);
        if let Some(waker) = link.waker.clone() {
            link.unopened = Some(Unopened { seat, forward, why: why.to_string() });
            drop(link);
            waker.wake();
        }
    }
}
