//! Starting a server, watching it, and letting it drain.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
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
    budget::Budget,
    connection::Endpoint,
    host::{Host, Seeds, Shared},
    layer::Layers,
    model::Model,
    orders::Orders,
    os::{self, Os},
    proactor::{
        Proactor,
        aio::Requests,
        emulated::Direct,
        readiness::{Hands, Ready},
    },
    queue::{Jobs, Queue, Workers},
    reactor::{Poller, Reactor, epoll::Epoll, poll::Poll, select::Select, signal::Signal, spin::Spin},
    service::Service,
    stats::Snapshot,
    ticket::Bell,
    tuning::Tuning,
};

/// How to run a [`Service`]. See the crate's first page for an example.
pub struct Server<S: Service> {
    pub(crate) service: S,
    addresses: Vec<io::Result<Vec<SocketAddr>>>,
    names: Vec<String>,
    pub(crate) model: Option<Model>,
    pub(crate) budget: Budget,
    pub(crate) workers: usize,
    pub(crate) queue: Queue,
    backlog: i32,
    pub(crate) tuning: Tuning,
    pub(crate) layers: Option<Arc<dyn Layers>>,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{}", in_words(.address, .source))]
    Bind {
        /// What was asked for.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The model cannot run here.
    #[error("the model `{model}` cannot run here: {why}")]
    Model {
        /// Which.
        model: Model,
        /// What stands in the way.
        why: &'static str,
    },
    /// The system has not given the threads or descriptors that the loops need.
    #[error("the server's loops could not be started: {0}")]
    System(#[from] io::Error),
}

fn in_words(address: &str, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("address {address} is in use"),
        io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {address}: ports below 1024 need privileges, choose another")
        }
        io::ErrorKind::AddrNotAvailable => format!("this machine has no address {address}"),
        _ => format!("cannot listen on {address}: {source}"),
    }
}

/// The connections that were still open when the time to drain was over. They have been reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} connections had not finished when the time to drain was over, and were reset")]
pub struct Undrained(pub usize);

/// Why a server that ran in the foreground came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended, with connections that had not finished.
    #[error(transparent)]
    Undrained(#[from] Undrained),
    /// A second signal came while it drained.
    #[error("ended at once by a second signal")]
    Interrupted,
    /// Its parent process could not go on.
    #[error("the parent of the server's processes could not go on: {0}")]
    System(#[from] io::Error),
}

impl<S: Service> Server<S> {
    /// A server of `service` that listens nowhere yet.
    pub fn new(service: S) -> Self {
        Self {
            service,
            addresses: Vec::new(),
            names: Vec::new(),
            model: None,
            budget: Budget::default(),
            workers: 0,
            queue: Queue::default(),
            backlog: os::BACKLOG,
            tuning: Tuning::default(),
            layers: None,
        }
    }

    /// Listens on `address` (`127.0.0.1:7007`, `[::1]:0`) as well. Port 0 lets the system choose.
    #[must_use]
    pub fn bind(mut self, address: impl ToSocketAddrs + fmt::Display) -> Self {
        self.names.push(address.to_string());
        self.addresses.push(address.to_socket_addrs().map(Iterator::collect));
        self
    }

    /// Runs on `model` instead of [`Model::best`].
    #[must_use]
    pub fn model(mut self, model: Model) -> Self {
        self.model = Some(model);
        self
    }

    /// Puts a layer, such as [TLS](crate::tls::Acceptor), between the wire and every session.
    #[must_use]
    pub fn layer(mut self, layers: impl Layers + 'static) -> Self {
        self.layers = Some(Arc::new(layers));
        self
    }

    /// The hard limits.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Threads that run deferred jobs. With none, the default, the I/O thread runs them at the end of each turn. For
    /// [`Model::Pool`] and [`Model::Prefork`], whose threads or processes run their jobs themselves: how many those are,
    /// by default 64 and 16.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Which of the deferred jobs that wait is next. Default [`Queue::Fcfs`]. Where connections do not share a queue
    /// (the blocking models, without worker threads) it is among the jobs of one.
    #[must_use]
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// Connections that may wait in the system to be accepted. Default 1,024.
    #[must_use]
    pub fn backlog(mut self, backlog: i32) -> Self {
        self.backlog = backlog;
        self
    }

    /// How its sockets are set up.
    #[must_use]
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Listens on all addresses.
    pub(crate) fn listen(&self) -> Result<Vec<OwnedFd>, StartError> {
        let mut listeners = Vec::new();
        for (name, addresses) in self.names.iter().zip(&self.addresses) {
            let failed = |source| StartError::Bind { address: name.clone(), source };
            let unknown = |error: &io::Error| failed(io::Error::new(error.kind(), error.to_string()));
            for address in addresses.as_ref().map_err(unknown)? {
                listeners.push(os::listen(*address, self.backlog, self.tuning).map_err(failed)?);
            }
        }
        Ok(listeners)
    }

    /// Listens, and starts the threads that serve. Returns at once; the server runs until it is drained or dropped.
    ///
    /// # Errors
    /// [`StartError`], and nothing listens then.
    pub fn start(self) -> Result<Running, StartError> {
        let model = self.model.unwrap_or_else(Model::best);
        if let Some(why) = model.obstacle() {
            return Err(StartError::Model { model, why });
        }
        if model.forks() {
            let why = "it forks: use `Server::run`, in a process without other threads";
            return Err(StartError::Model { model, why });
        }
        let listeners = self.listen()?;
        let addresses = listeners.iter().map(os::local_address).collect::<io::Result<Vec<_>>>()?;
        let shared = Shared::tuned(self.budget, self.tuning);
        let service = Arc::new(self.service);
        let doors = listeners
            .into_iter()
            .map(|listener| {
                Door::new(listener, Arc::clone(&service), Arc::clone(&shared), self.layers.clone())
            })
            .collect();
        let lives = Lives::start(model, Arc::clone(&shared), self.workers, self.queue, doors)?;
        Ok(Running { lives, shared, addresses, model })
    }
}

/// A server that runs. Dropping it stops it at once; [`Running::drain`] lets it finish.
#[derive(Debug)]
pub struct Running {
    lives: Lives,
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    model: Model,
}

impl Running {
    /// Where it listens, with the ports that the system chose, in the order they were asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// On what it runs.
    pub fn model(&self) -> Model {
        self.model
    }

    /// What it has counted.
    pub fn stats(&self) -> Snapshot {
        self.shared.stats().snapshot()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.gate.open()
    }

    /// Bytes that its connections hold between turns.
    pub fn buffered(&self) -> usize {
        self.shared.memory.used()
    }

    /// Accepts no more, tells every session, and waits for them to finish. Blocks for at most about `patience`.
    ///
    /// # Errors
    /// [`Undrained`] if some had not finished; they are reset.
    pub fn drain(mut self, patience: Duration) -> Result<Snapshot, Undrained> {
        self.lives.drain();
        let done = self.lives.wait(patience);
        let left = self.open();
        self.lives.stop();
        if done || left == 0 { Ok(self.stats()) } else { Err(Undrained(left)) }
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
    pub(crate) fn start(
        model: Model,
        shared: Arc<Shared>,
        workers: usize,
        queue: Queue,
        doors: Vec<Door<OwnedFd>>,
    ) -> io::Result<Self> {
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
                Model::Emulated => proact(Epoll::new(&bell)?, Direct, parts, ending),
                Model::Aio => proact(Epoll::new(&bell)?, Requests::new(&bell), parts, ending),
                _ => react(Epoll::new(&bell)?, parts, ending),
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
    fn wait(&self, patience: Duration) -> bool {
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
