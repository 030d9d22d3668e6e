//! Starting a server, watching it, and letting it drain.
#![forbid(unsafe_code)]

use std::{fmt, io, mem, net::ToSocketAddrs, os::fd::OwnedFd, sync::Arc};

use roadstead_drivers::accept::Listener;
use roadstead_os::{
    audit::Audit,
    sockets,
    threads::server::{Shape, Sockets},
};
use roadstead_proto::{
    address::Address,
    budget::Budget,
    datagrams::DatagramService,
    host::Shared,
    layer::Layers,
    queue::Queue,
    service::{Scope, Service},
    tuning::Tuning,
};

pub use crate::{
    error::{DrainError, RunError, StartError},
    loops::{Spread, UnknownSpread},
    running::Running,
};
use crate::{
    loops::Loops,
    model::Model,
    place::{Listening, Place},
    udp::{Bound, UdpPlace},
};
pub use roadstead_drivers::reactor::workers::Io;
pub use roadstead_os::{
    outcome::{Broken, Undrained},
    pollers::epoll::Trigger,
    sockets::given::NotAListener,
    threads::TooFew,
};
pub use roadstead_proto::{queue::UnknownQueue, stats::Snapshot};

/// How to run a [`Service`]. See the crate's first page for an example.
pub struct Server<S: Service> {
    pub(crate) service: S,
    pub(crate) places: Vec<Place>,
    pub(crate) udp: Vec<UdpPlace>,
    pub(crate) model: Option<Model>,
    pub(crate) budget: Budget,
    pub(crate) loops: Loops,
    pub(crate) workers: usize,
    pub(crate) queue: Queue,
    pub(crate) trigger: Trigger,
    pub(crate) io: Io,
    backlog: i32,
    pub(crate) tuning: Tuning,
    pub(crate) layers: Option<Arc<dyn Layers>>,
    pub(crate) audit: Option<Audit>,
}

/// How it was set up.
impl<S: Service> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.places)
            .field("model", &self.model)
            .field("budget", &self.budget)
            .field("loops", &self.loops)
            .field("workers", &self.workers)
            .field("queue", &self.queue)
            .field("trigger", &self.trigger)
            .field("io", &self.io)
            .field("backlog", &self.backlog)
            .field("tuning", &self.tuning)
            .field("layered", &self.layers.is_some())
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

impl<S: Service> Server<S> {
    /// A server of `service` that listens nowhere yet.
    pub fn new(service: S) -> Self {
        Self {
            service,
            places: Vec::new(),
            udp: Vec::new(),
            model: None,
            budget: Budget::default(),
            loops: Loops::default(),
            workers: 0,
            queue: Queue::default(),
            trigger: Trigger::default(),
            io: Io::default(),
            backlog: sockets::BACKLOG,
            tuning: Tuning::default(),
            layers: None,
            audit: None,
        }
    }

    /// Listens on `address` (`127.0.0.1:7007`, `[::1]:0`) as well. Port 0 lets the system choose.
    ///
    /// `unix:/run/name.sock` is a Unix socket: a file that only this user may connect to (mode 0600, until it is changed),
    /// which is removed when the server lets nobody in any more, and taken over where nobody listens on it. `unix:@name`
    /// is an abstract one (Linux), without a file: whoever is in the network namespace may connect. In both, `\\` and
    /// `\xHH` stand for a backslash and for any byte. Who comes there has no address, so no limit
    /// [per address](Budget::per_address) holds, and sees an end where others see a reset; [`Tuning`] says nothing of
    /// them. With [`Spread::Kernel`] all loops accept at the same socket.
    #[must_use]
    pub fn bind(mut self, address: impl ToSocketAddrs + fmt::Display) -> Self {
        self.places.push(Place::at(address));
        self
    }

    /// Listens on `socket` as well, which somebody else has bound and has listen: a `std::net::TcpListener`, one of
    /// [`activation::sockets`](crate::activation::sockets), or of another server's
    /// [`take_listeners`](Running::take_listeners).
    ///
    /// Other processes may have the same socket, and go on accepting, whatever becomes of this server; whoever comes is
    /// served by one of them. It does not block from then on, also for them, and has the [`Tuning::nodelay`] of the
    /// server that was given it last. Its [backlog](Server::backlog) and the sizes of its buffers are as it was made.
    #[must_use]
    pub fn listener(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.places.push(Place::Socket(socket.into()));
        self
    }

    /// Has `service` speak on UDP sockets that are bound to `address` (`127.0.0.1:7007`, `[::]:7`) as well, beside the
    /// connections: with the same budget, and until the same drain. Port 0 lets the system choose.
    ///
    /// Where the model has loops each has a socket of its own there, on a thread of its own, and the system spreads the
    /// peers over them by a hash of the addresses; on [`Model::Threads`] there is one. A server that listens nowhere
    /// has no threads for connections. The models that fork, or serve one client at a time, refuse it:
    /// [`Model::datagram_obstacle`].
    #[must_use]
    pub fn bind_datagrams(
        mut self,
        address: impl ToSocketAddrs + fmt::Display,
        service: impl DatagramService,
    ) -> Self {
        self.udp.push(UdpPlace::at(address, service));
        self
    }

    /// Runs on `model` instead of [`Model::best`].
    #[must_use]
    pub fn model(mut self, model: Model) -> Self {
        self.model = Some(model);
        self
    }

    /// Puts a layer, such as [TLS](roadstead_tls::Acceptor), between the wire and every session.
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

    /// How many loops, each on a thread of its own, drive the connections of a reactor or a proactor. Each connection
    /// stays on the loop that it has come to, and so does what its session opens. Default: one for each processor that
    /// this process may use. The models that have no loops, and [`Io::Workers`], refuse more than one.
    #[must_use]
    pub fn loops(mut self, loops: usize) -> Self {
        self.loops.count = Some(loops.max(1));
        self
    }

    /// How connections are spread over several [loops](Server::loops). Default [`Spread::Fewest`]; where there are no
    /// loops the other is refused.
    #[must_use]
    pub fn spread(mut self, spread: Spread) -> Self {
        self.loops.spread = spread;
        self
    }

    /// Keeps each loop on one processor: the first on the first that this process may use, and so on, counted round.
    /// Good where nothing else runs on these; otherwise a loop waits for its processor while another is idle. Default:
    /// the system moves them as it sees fit. Threads and programs that are begun on a loop stay where it does.
    #[must_use]
    pub fn pin(mut self, pin: bool) -> Self {
        self.loops.pin = pin;
        self
    }

    /// Threads that run deferred jobs. With none, the default, each loop runs its own at the end of each turn. For
    /// [`Model::Pool`] and [`Model::Prefork`], whose threads or processes run their jobs themselves: how many those
    /// are, by default 64 and 16.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Which of the deferred jobs that wait is next. Default [`Queue::Fcfs`]. Without [`workers`](Server::workers) each
    /// loop has a queue of its own, and on the blocking models each connection: it is among the jobs of one.
    #[must_use]
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// When [`Model::Epoll`] is told of a connection: to compare; every other model refuses [`Trigger::Level`]. Default
    /// [`Trigger::Edge`].
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// Who receives and sends, on [`Model::Epoll`]; every other model refuses [`Io::Workers`]. Then
    /// [`workers`](Server::workers) is how many threads receive, send, and run the sessions and their jobs, by default
    /// one for each processor; and [`queue`](Server::queue) orders the jobs that one of them has before it. Default
    /// [`Io::Loop`].
    #[must_use]
    pub fn io(mut self, io: Io) -> Self {
        self.io = io;
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

    /// Calls `tell` with what is counted and held whenever `signal` comes during [`Server::run`]: for tests, which know
    /// of a process only what it says.
    #[doc(hidden)]
    #[must_use]
    pub fn audit(mut self, signal: i32, tell: fn(&Snapshot)) -> Self {
        self.audit = Some(Audit { signal, tell });
        self
    }

    /// Why no model that forks can run the service, wherever it is started.
    pub(crate) fn unforkable() -> Option<&'static str> {
        (S::SCOPE == Scope::Process)
            .then_some("this service's connections share state, and each child would see a copy of it")
    }

    /// Why its loops, its I/O or its trigger cannot be had on `model`; `None` if all can be.
    pub(crate) fn obstacle(&self, model: Model) -> Option<&'static str> {
        let udp = model.datagram_obstacle().filter(|_| !self.udp.is_empty());
        udp.or_else(|| self.loops.obstacle(model, self.io)).or_else(|| self.unlike(model))
    }

    fn unlike(&self, model: Model) -> Option<&'static str> {
        match self.io {
            Io::Loop if self.trigger == Trigger::Level && model != Model::Epoll => {
                Some("only `epoll` can be asked to tell of a connection for as long as it is ready")
            }
            Io::Loop => None,
            Io::Workers if model != Model::Epoll => {
                Some("its workers cannot do the I/O: only `epoll` can be asked to tell of a connection once")
            }
            Io::Workers if self.trigger == Trigger::Level => {
                Some("workers that do the I/O are told of a connection once, not for as long as it is ready")
            }
            Io::Workers => None,
        }
    }

    /// Listens wherever it is to, so many times at each place.
    pub(crate) fn listen(&mut self, times: usize) -> Result<Listening, StartError> {
        Listening::at(mem::take(&mut self.places), times, self.backlog, self.tuning)
    }

    /// Listens, and starts the threads that serve. Returns at once; the server runs until it is drained or dropped.
    ///
    /// Where the process may not have as many descriptors as connections are allowed, a line in the log says how many
    /// fit.
    ///
    /// # Errors
    /// [`StartError`], and nothing listens then.
    pub fn start(self) -> Result<Running, StartError> {
        let running = self.begin()?;
        running.check_descriptors();
        Ok(running)
    }

    /// The same, and nothing is said of descriptors yet.
    pub(crate) fn begin(mut self) -> Result<Running, StartError> {
        let model = self.model.unwrap_or_else(Model::best);
        if let Some(why) = model.obstacle().or_else(|| self.obstacle(model)) {
            return Err(StartError::Model { model, why });
        }
        if model.forks() {
            let alone = "it forks: use `Server::run`, in a process without other threads";
            return Err(StartError::Model { model, why: Self::unforkable().unwrap_or(alone) });
        }
        model.explain();
        let loops = self.loops.on(model, self.io);
        let Listening { sockets, files } = self.listen(self.loops.listening(loops))?;
        let places = sockets[0].iter().map(sockets::local_address).collect::<io::Result<Vec<_>>>()?;
        let shared = Shared::tuned(self.budget, self.tuning);
        let service = Arc::new(self.service);
        let listener =
            |socket| Listener::new(socket, Arc::clone(&service), Arc::clone(&shared), self.layers.clone());
        let listeners =
            sockets.into_iter().map(|sockets| sockets.into_iter().map(listener).collect()).collect();
        let shape = Shape {
            loops,
            pin: self.loops.pin,
            workers: self.workers,
            queue: self.queue,
            trigger: self.trigger,
            io: self.io,
        };
        let udp = Bound::at(self.udp, model, loops, &shared)?;
        let sockets = Sockets { listeners, files, datagrams: udp.loops };
        let threads = model.entry().start(shape, Arc::clone(&shared), sockets)?;
        let addresses = places.iter().filter_map(Address::socket).collect();
        Ok(Running { threads, shared, places, addresses, udp: udp.addresses, model, loops })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Context, Done, Input, Peer, Scope, Session};

    struct Nothing;

    impl Service for Nothing {
        type Session = Nothing;
        const SCOPE: Scope = Scope::Process;
        fn open(&self, _: &Peer) -> Nothing {
            Nothing
        }
    }

    impl Session for Nothing {
        type Reply = ();
        fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
            Ok(())
        }
    }

    #[test]
    fn io_and_trigger_are_refused_by_every_model_that_does_not_have_them_and_by_each_other() {
        for model in Model::ALL {
            let epoll = model == Model::Epoll;
            let refuses = |io, trigger| Server::new(Nothing).io(io).trigger(trigger).obstacle(model);
            assert_eq!(refuses(Io::Loop, Trigger::Edge), None);
            assert_eq!(refuses(Io::Loop, Trigger::Level).is_none(), epoll, "{model}");
            assert_eq!(refuses(Io::Workers, Trigger::Edge).is_none(), epoll, "{model}");
            let both = refuses(Io::Workers, Trigger::Level).unwrap();
            assert_eq!(both.starts_with("workers that do the I/O"), epoll, "{model}: {both}");
        }
    }

    #[test]
    fn what_is_asked_of_a_server_that_cannot_be_had_is_named_and_nothing_listens() {
        let started = |server: Server<Nothing>| server.start().unwrap_err().to_string();
        let unknown = started(Server::new(Nothing).bind("127.0.0.1:0").bind("nowhere"));
        assert!(unknown.starts_with("cannot listen on nowhere: "), "{unknown}");
        let foreign = started(Server::new(Nothing).bind("192.0.2.1:7"));
        assert_eq!(foreign, "this machine has no address 192.0.2.1:7");
        let forks = started(Server::new(Nothing).model(Model::Prefork));
        assert!(
            forks.starts_with("the model `prefork` cannot run here: this service's connections share"),
            "{forks}"
        );
    }

    #[test]
    fn a_server_listens_where_and_as_it_is_asked_to() {
        let server =
            Server::new(Nothing).bind("127.0.0.1:0").bind("127.0.0.2:0").budget(Budget::default().jobs(3));
        let running = server.model(Model::Poll).start().unwrap();
        let hosts: Vec<_> = running.addresses().iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(
            (&hosts[..], running.model()),
            (&["127.0.0.1".into(), "127.0.0.2".into()][..], Model::Poll)
        );
        assert_eq!((running.open(), running.buffered(), running.shared.jobs.limit()), (0, 0, 3));
        assert!(running.ended().is_none());
        let drained = running.drain(Duration::from_secs(20)).unwrap();
        assert_eq!((drained.accepted, drained.closed), (0, 0));
    }
}
