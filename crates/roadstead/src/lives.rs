//! The threads behind a server, a dialer or an exchange, whatever the model.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    accept::Door,
    blocking::{
        crew::{self, Crew, Spawner},
        iterative::Iterative,
        pool::{self, Pool},
        threads::Threads,
    },
    connection::Endpoint,
    host::{Host, Seeds, Shared},
    model::Model,
    orders::Orders,
    os::Os,
    proactor::{
        Proactor,
        aio::Requests,
        emulated::Direct,
        readiness::{Hands, Ready},
    },
    queue::{Jobs, Queue, Workers},
    reactor::{
        Poller, Reactor,
        epoll::{Epoll, Trigger},
        poll::Poll,
        select::Select,
        signal::Signal,
        spin::Spin,
    },
    ticket::Bell,
};

/// Which loops, and who runs their jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) model: Model,
    pub(crate) workers: usize,
    pub(crate) queue: Queue,
    pub(crate) trigger: Trigger,
}

impl Shape {
    /// A loop that runs its own jobs in the order they come.
    pub(crate) fn of(model: Model) -> Self {
        Self { model, workers: 0, queue: Queue::default(), trigger: Trigger::default() }
    }
}

/// The threads behind a server or a dialer, whatever the model.
#[derive(Debug)]
pub(crate) struct Lives {
    kind: Kind,
    units: Option<Units>,
    thread: Option<JoinHandle<io::Result<()>>>,
    /// Closed when the loops have ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

enum Kind {
    Reactor { orders: Arc<Orders>, bell: Arc<Bell> },
    Blocking(Arc<Crew>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Reactor { .. } => "reactor",
            Kind::Blocking(_) => "blocking",
        })
    }
}

/// What a reactor is made of besides its poller.
type Parts = (Os, Host, Arc<Orders>, Vec<Door<OwnedFd>>);

/// Starts the thread of a reactor; `ending` is closed when it has ended.
fn react<P: Poller<Os> + Send + 'static>(
    poller: P,
    (net, host, orders, doors): Parts,
    ending: mpsc::Sender<()>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let mut reactor = Reactor::new(net, poller, host, orders, doors)?;
    thread::Builder::new().name("reactor".into()).spawn(move || {
        let result = reactor.run();
        drop(ending);
        result
    })
}

/// Starts the thread of a proactor; `ending` is closed when it has ended.
fn proact<H: Hands<Os> + Send + 'static>(
    poller: Epoll,
    hands: H,
    (net, host, orders, doors): Parts,
    ending: mpsc::Sender<()>,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let (listeners, doors) = doors.into_iter().map(|door| (door.listener, door.open)).unzip();
    let mut proactor = Proactor::new(Ready::new(net, poller, hands, listeners), host, orders, doors);
    thread::Builder::new().name("proactor".into()).spawn(move || {
        let result = proactor.run();
        drop(ending);
        result
    })
}

impl Lives {
    pub(crate) fn start(shape: Shape, shared: Arc<Shared>, doors: Vec<Door<OwnedFd>>) -> io::Result<Self> {
        let Shape { model, workers, queue, trigger } = shape;
        let epoch = Instant::now();
        let seeds = Seeds::new()?;
        let spawner: Option<Box<dyn Spawner>> = match model {
            Model::Iterative => Some(Box::new(Iterative)),
            Model::Threads => Some(Box::new(Threads)),
            Model::Pool => Some(Box::new(Pool::start(if workers > 0 { workers } else { pool::SIZE })?)),
            _ => None,
        };
        let units =
            if workers > 0 && model != Model::Pool { Some(Units::start(workers, queue)?) } else { None };
        let workers = units.as_ref().map(|units| Arc::clone(&units.workers));
        let jobs = move || workers.as_ref().map_or_else(|| Jobs::inline(queue), Workers::attach);
        let (ending, ended) = mpsc::channel();
        let (kind, thread) = if let Some(spawner) = spawner {
            let make = Box::new(move || seeds.host(Arc::clone(&shared), jobs()));
            let crew = Crew::new(epoch, make as Box<crew::MakeHost>, spawner)?;
            let thread = crew.start(doors, ending)?;
            (Kind::Blocking(crew), thread)
        } else {
            let orders = Arc::new(Orders::default());
            let tuning = shared.tuning;
            let host = seeds.host(shared, jobs());
            let bell = Arc::clone(&host.bell);
            let net = Os::non_blocking(epoch, tuning);
            let parts = (net, host, Arc::clone(&orders), doors);
            let thread = match model {
                Model::Spin => react(Spin::default(), parts, ending),
                Model::Select => react(Select::new(&bell)?, parts, ending),
                Model::Signal => react(Signal::new(&bell)?, parts, ending),
                Model::Poll => react(Poll::new(&bell)?, parts, ending),
                Model::Emulated => proact(Epoll::new(&bell, Trigger::Edge)?, Direct, parts, ending),
                Model::Aio => proact(Epoll::new(&bell, Trigger::Edge)?, Requests::new(&bell), parts, ending),
                _ => react(Epoll::new(&bell, trigger)?, parts, ending),
            };
            (Kind::Reactor { orders, bell }, thread?)
        };
        Ok(Self { kind, units, thread: Some(thread), ended: Mutex::new(ended) })
    }

    pub(crate) fn drain(&self) {
        match &self.kind {
            Kind::Reactor { orders, bell } => orders.drain(bell),
            Kind::Blocking(crew) => crew.order(crew::Orders::Drain),
        }
    }

    /// Opens a connection from outside of any session.
    pub(crate) fn connect(&self, address: SocketAddr, endpoint: Box<dyn Endpoint>) {
        match &self.kind {
            Kind::Reactor { orders, bell } => orders.connect(address, endpoint, bell),
            Kind::Blocking(crew) => crew.connect(address, endpoint),
        }
    }

    /// Drives a session that has no connection, on a reactor's loop.
    pub(crate) fn attend(&self, endpoint: Box<dyn Endpoint>) -> io::Result<()> {
        match &self.kind {
            Kind::Reactor { orders, bell } => {
                orders.attend(endpoint, bell);
                Ok(())
            }
            Kind::Blocking(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Waits for the loops to end. False if the time was over before.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience)
            == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    pub(crate) fn stop(&mut self) {
        match &self.kind {
            Kind::Reactor { orders, bell } => orders.stop(bell),
            Kind::Blocking(crew) => crew.order(crew::Orders::Stop),
        }
        // A session may hold the last handle of its own loop, which then ends by itself.
        let elsewhere = |thread: &JoinHandle<_>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(elsewhere) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a server's loop ended early"),
                Err(_) => tracing::error!("a server's loop panicked"),
            }
        }
        self.units = None;
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The logic units. Dropping them lets each finish the job it is at, and waits for that.
#[derive(Debug)]
struct Units {
    workers: Arc<Workers>,
    threads: Vec<JoinHandle<()>>,
}

impl Units {
    fn start(count: usize, queue: Queue) -> io::Result<Self> {
        let (workers, threads) = Workers::start(count, queue)?;
        Ok(Self { workers, threads })
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.workers.stop();
        for thread in self.threads.drain(..) {
            // A logic unit catches its jobs' panics, so there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}
