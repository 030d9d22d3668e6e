//! The threads behind a server, a dialer or an exchange, whatever the model.
#![forbid(unsafe_code)]

use std::{
    fmt, io, mem,
    os::fd::OwnedFd,
    panic::resume_unwind,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use roadstead_drivers::{
    accept::Listener,
    blocking::{
        server::{BlockingServer, MakeHost, Spawner},
        server_handle::ServerHandle,
    },
    orders::{Order, Orders},
    proactor::{
        CompletionQueue, Proactor,
        readiness::{ReadyIo, ReadyQueue},
    },
    reactor::{
        Poller, Reactor,
        workers::{Io, Worker},
    },
};
use roadstead_proto::{
    connection::Endpoint,
    guard,
    host::Shared,
    queue::{Queue, SharedQueue},
    ticket::WakeQueue,
};

use crate::{
    ending::{Ended, Ending},
    host::on_system,
    pollers::{
        epoll::{Epoll, Trigger},
        poll::Poll,
    },
    sockets::{Os, WaitingOs, unix::SocketFile},
    threads::{
        STACK, Threads,
        datagrams::{self, Spoken},
        jobs::JobThreads,
        kept::{AtEnd, Kept},
        loops::{LoopParts, Loops, Make, Makes, Plan, Run},
    },
};

/// How long a loop that is told to stop is waited for, unless it is waited for as long as it takes: enough for all that
/// is no job.
const MOMENT: Duration = Duration::from_millis(500);

/// Which loops, and who runs their jobs: by default one, its own, in the order they come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// How many loops, where a model has loops of many connections; none is one.
    pub loops: usize,
    /// Whether each of them stays on a processor.
    pub pin: bool,
    /// How many threads run jobs, or receive and send; none: the loop does.
    pub workers: usize,
    /// In which order jobs run.
    pub queue: Queue,
    /// When epoll tells of a connection.
    pub trigger: Trigger,
    /// Who receives and sends.
    pub io: Io,
}

/// The threads behind a server or a dialer, whatever the model.
#[derive(Debug)]
pub struct ServerThreads {
    kind: Kind,
    job_threads: Option<JobThreads>,
    threads: Vec<JoinHandle<()>>,
    ended: Ended,
    kept: Kept,
    /// Also held by each loop of datagrams.
    speaking: Arc<()>,
}

enum Kind {
    Loops(Arc<Loops>),
    /// With the loops of datagrams.
    Blocking(Arc<BlockingServer<WaitingOs>>, Arc<Loops>),
}

impl Kind {
    fn order(&self, order: Order) {
        let (Kind::Loops(loops) | Kind::Blocking(_, loops)) = self;
        loops.order(order);
        if let Kind::Blocking(server, _) = self {
            server.raise(order);
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Loops(_) => "loops",
            Kind::Blocking(..) => "blocking",
        })
    }
}

/// Where a server hears of those who come.
#[derive(Default)]
pub struct Sockets {
    /// The listeners of each loop that has any: of the first, which then hands each connection to the loop that has
    /// fewest, or of every loop.
    pub listeners: Vec<Vec<Listener<OwnedFd>>>,
    /// The files of those that have one.
    pub files: Vec<SocketFile>,
    /// The datagram sockets of each loop that has any.
    pub datagrams: Vec<Vec<Spoken>>,
}

/// What a model is given to begin with.
pub struct Parts {
    shape: Shape,
    shared: Arc<Shared>,
    listeners: Vec<Vec<Listener<OwnedFd>>>,
    datagrams: Vec<Vec<Spoken>>,
    speaking: Arc<()>,
    kept: Kept,
    ending: Ending,
}

/// A model that has begun.
pub struct Begun {
    kind: Kind,
    job_threads: Option<JobThreads>,
    threads: Vec<JoinHandle<()>>,
}

impl Parts {
    /// Takes the number of workers that was asked for, if one was, so that no logic units are started.
    pub fn take_workers(&mut self) -> Option<usize> {
        Some(mem::take(&mut self.shape.workers)).filter(|&workers| workers > 0)
    }

    fn has_datagrams_alone(&self) -> bool {
        self.listeners.iter().all(Vec::is_empty) && !self.datagrams.is_empty()
    }

    /// Begins with threads that wait, each for one connection, or for one socket of datagrams.
    pub fn blocking(self, spawner: impl Spawner<WaitingOs> + 'static) -> io::Result<Begun> {
        let alone = self.has_datagrams_alone();
        let Self { shape, shared, listeners, datagrams, speaking, kept, ending } = self;
        let job_threads = JobThreads::of(shape.workers, shape.queue, &ending)?;
        let jobs = || JobThreads::jobs(job_threads.as_ref(), shape.queue);
        let (own, at_end) = (jobs(), Arc::new(AtEnd::new(job_threads.as_ref(), kept)));
        let (net, common) = (WaitingOs::new(Instant::now(), shared.tuning), Arc::clone(&shared));
        let make: Box<MakeHost> =
            Box::new(move || on_system(Arc::clone(&common), own()).with_workers(shape.workers));
        let server = BlockingServer::new(net, make, Box::new(spawner), Box::new(super::each::Threads))?;
        let (accepting, stopped) = (Arc::clone(&server), Arc::clone(&server));
        let plan = Plan {
            connections: 0,
            shared,
            listeners: Vec::new(),
            pin: false,
            workers: shape.workers,
            ending: ending.clone(),
            broken: Arc::new(move || stopped.raise(Order::Stop)),
        };
        let makes = datagrams::makes(datagrams, &speaking, Poll::new);
        let (loops, mut threads) = Loops::start(plan, makes, jobs(), &at_end)?;
        if alone {
            return Ok(Begun { kind: Kind::Loops(loops), job_threads, threads });
        }
        let beside = Arc::clone(&loops);
        server.listen(listeners.into_iter().flatten().collect());
        let thread = thread::Builder::new().name("accept".into()).spawn(move || {
            accepting.run(|accept| {
                let well = ending.follow(accept);
                if !well {
                    beside.order(Order::Stop);
                }
                well
            });
            drop(at_end);
        });
        threads.push(thread.inspect_err(|_| loops.order(Order::Stop))?);
        Ok(Begun { kind: Kind::Blocking(server, loops), job_threads, threads })
    }

    /// Begins with the loops of a reactor, each around a poller that `make` makes, and so those of datagrams.
    pub fn reactor<P: Poller<Os> + 'static>(
        self,
        make: impl FnOnce(&WakeQueue, Shape) -> io::Result<P> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let (shape, poller) = (self.shape, make.clone());
        self.reactor_beside(make, move |wake_queue| poller(wake_queue, shape))
    }

    /// Begins with the loops of a reactor, each around a poller that `make` makes; those of datagrams around what
    /// `poller` makes.
    pub fn reactor_beside<P: Poller<Os> + 'static, D: Poller<Os> + 'static>(
        self,
        make: impl FnOnce(&WakeQueue, Shape) -> io::Result<P> + Clone + Send + 'static,
        poller: impl FnOnce(&WakeQueue) -> io::Result<D> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let shape = self.shape;
        let make = move |parts| {
            let LoopParts { net, host, orders, listeners, handover } = parts;
            let poller = make(&host.wake_queue, shape)?;
            let mut reactor = Reactor::new(net, poller, host, orders, listeners)?.one_of(handover);
            Ok(Box::new(move || reactor.run()) as Run)
        };
        self.looped("reactor", make, poller)
    }

    /// Who is to receive and send.
    pub fn io(&self) -> Io {
        self.shape.io
    }

    /// Begins with the loop of a reactor that leaves the connections to workers.
    pub fn reactor_with_workers(mut self) -> io::Result<Begun> {
        let workers = match self.take_workers() {
            Some(workers) => workers,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let (queue, shared) = (self.shape.queue, Arc::clone(&self.shared));
        let make: Make = Box::new(move |parts| {
            let LoopParts { net, host, orders, listeners, .. } = parts;
            let line = SharedQueue::new(queue.discipline());
            let poller = epoll(&host.wake_queue)?;
            let stop = Stop { orders: Arc::clone(&orders), wake_queue: Arc::clone(&host.wake_queue) };
            let workers = (0..workers).map(|_| {
                let host = on_system(Arc::clone(&shared), line.jobs(0));
                let host = host.with_workers(workers).counting_apart();
                (Worker::new(net.another(), host, &line), stop.clone())
            });
            let workers = workers.collect::<Vec<_>>().into_iter();
            let mut reactor = Reactor::with_workers(net, poller, host, orders, listeners, Arc::clone(&line))?;
            let bodies = workers.map(|(mut worker, stop)| move || stop.if_it_panics(|| worker.run()));
            let threads = Threads::start("worker", STACK, bodies, || line.stop())?;
            let mut threads = JobThreads { queue: line, threads };
            Ok(Box::new(move || {
                let ran = reactor.run();
                if threads.end() { ran } else { Err(io::Error::other("a worker panicked")) }
            }))
        });
        self.start(vec![("reactor", make)], Poll::new)
    }

    /// Begins with the loops of a proactor, each around a completion queue on epoll, with the [`ReadyIo`] that `make`
    /// makes.
    pub fn proactor<H: ReadyIo<Os> + 'static>(
        self,
        make: impl FnOnce(&Arc<WakeQueue>) -> H + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let make = |net, wake_queue: &Arc<WakeQueue>, sockets| {
            Ok(ReadyQueue::new(net, epoll(wake_queue)?, make(wake_queue), sockets))
        };
        self.completions(make, Poll::new)
    }

    /// Begins with the loops of a proactor, each around a completion queue that `make` makes; those of datagrams around
    /// what `poller` makes.
    pub fn completions<Q: CompletionQueue<Stream = OwnedFd> + 'static, P: Poller<Os> + 'static>(
        self,
        make: impl FnOnce(Os, &Arc<WakeQueue>, Vec<OwnedFd>) -> io::Result<Q> + Clone + Send + 'static,
        poller: impl FnOnce(&WakeQueue) -> io::Result<P> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let make = move |parts| {
            let LoopParts { net, host, orders, listeners, handover } = parts;
            let (sockets, openers) =
                listeners.into_iter().map(|listener| (listener.socket, listener.open)).unzip();
            let completions = make(net, &host.wake_queue, sockets)?;
            let mut proactor = Proactor::new(completions, host, orders, openers).one_of(handover);
            Ok(Box::new(move || proactor.run()) as Run)
        };
        self.looped("proactor", make, poller)
    }

    /// Begins with as many loops as are asked for, each of which `make` makes.
    fn looped<P: Poller<Os> + 'static>(
        self,
        name: &'static str,
        make: impl FnOnce(LoopParts) -> io::Result<Run> + Clone + Send + 'static,
        poller: impl FnOnce(&WakeQueue) -> io::Result<P> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let loops = self.shape.loops.max(1);
        let makes = (0..loops).map(|_| (name, Box::new(make.clone()) as Make)).collect();
        self.start(makes, poller)
    }

    /// Begins with a loop for each of `makes`, if there are to be connections, and those of datagrams, each around what
    /// `poller` makes.
    fn start<P: Poller<Os> + 'static>(
        self,
        mut makes: Makes,
        poller: impl FnOnce(&WakeQueue) -> io::Result<P> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        if self.has_datagrams_alone() {
            makes.clear();
        }
        let Self { shape, shared, listeners, datagrams, speaking, kept, ending } = self;
        let job_threads = JobThreads::of(shape.workers, shape.queue, &ending)?;
        let jobs = JobThreads::jobs(job_threads.as_ref(), shape.queue);
        let at_end = Arc::new(AtEnd::new(job_threads.as_ref(), kept));
        let plan = Plan {
            connections: makes.len(),
            shared,
            listeners,
            pin: shape.pin,
            workers: shape.workers,
            ending,
            broken: Arc::new(|| {}),
        };
        makes.extend(datagrams::makes(datagrams, &speaking, poller));
        let (loops, threads) = Loops::start(plan, makes, jobs, &at_end)?;
        Ok(Begun { kind: Kind::Loops(loops), job_threads, threads })
    }
}

/// A poller for connections of models that ask for none of their own.
fn epoll(wake_queue: &WakeQueue) -> io::Result<Epoll> {
    Epoll::new(wake_queue, Trigger::Edge)
}

/// What a worker stops its loop by.
#[derive(Clone)]
struct Stop {
    orders: Arc<Orders>,
    wake_queue: Arc<WakeQueue>,
}

impl Stop {
    /// What panics in a worker is no session, for that is caught: the server ends, as with a loop that panics. Its
    /// connections are told so by workers, hence this one works on until they are gone. That comes to an end, for each
    /// panic costs the connection whose turn it was.
    fn if_it_panics(self, mut work: impl FnMut()) {
        let mut panicked = None;
        while let Err(said) = guard::catch(&mut work) {
            panicked.get_or_insert(said);
            self.orders.stop(&self.wake_queue);
        }
        if let Some(said) = panicked {
            resume_unwind(Box::new(said));
        }
    }
}

impl ServerThreads {
    /// Starts the threads of a model that begins like this.
    pub fn start(
        begin: fn(Parts) -> io::Result<Begun>,
        shape: Shape,
        shared: Arc<Shared>,
        sockets: Sockets,
    ) -> io::Result<Self> {
        let Sockets { listeners, files, datagrams } = sockets;
        let (ending, ended) = Ending::new()?;
        let kept = Kept::of(listeners.iter().flatten(), files, &shared)?;
        let speaking = Arc::new(());
        let parts = Parts {
            shape,
            shared,
            listeners,
            datagrams,
            speaking: Arc::clone(&speaking),
            kept: kept.clone(),
            ending,
        };
        let Begun { kind, job_threads, threads } = begin(parts)?;
        Ok(Self { kind, job_threads, threads, ended, kept, speaking })
    }

    /// Takes the listening sockets from the loops, with all who wait there: they let nobody in any more. None if that
    /// was so already.
    pub fn take_listeners(&self) -> Vec<OwnedFd> {
        let taken = self.kept.hand_over();
        self.kind.order(Order::Cede);
        taken
    }

    /// Has the loops let nobody in and end when all are gone.
    pub fn drain(&self) {
        self.kept.close();
        self.kind.order(Order::Drain);
    }

    /// Opens a connection from outside of any session.
    pub fn connect(&self, endpoint: Box<dyn Endpoint>) {
        match &self.kind {
            Kind::Loops(loops) => loops.connect(endpoint),
            Kind::Blocking(server, _) => Arc::clone(server).connect(endpoint),
        }
    }

    /// Drives sessions that have no connection, one on each loop.
    pub fn attend(&self, endpoints: Vec<Box<dyn Endpoint>>) -> io::Result<()> {
        match &self.kind {
            Kind::Loops(loops) => {
                loops.attend(endpoints);
                Ok(())
            }
            Kind::Blocking(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether a loop of datagrams has not ended.
    pub fn have_datagrams(&self) -> bool {
        Arc::strong_count(&self.speaking) > 1
    }

    /// What becomes of the threads.
    pub fn ended(&self) -> &Ended {
        &self.ended
    }

    /// Has the loops end, and does not wait for it.
    pub fn order_stop(&self) {
        self.kept.close();
        self.kind.order(Order::Stop);
    }

    /// Has the loops end, waits for that a moment, and leaves behind who is in a job: it ends with that. False if
    /// somebody is.
    pub fn leave(&mut self) -> bool {
        self.order_stop();
        let over = self.ended.are_over(MOMENT);
        if !over {
            self.threads.clear();
            self.job_threads.iter_mut().for_each(|job_threads| job_threads.threads.leave());
        }
        over
    }

    /// Has the loops end, and waits for it.
    fn stop(&mut self) {
        self.order_stop();
        // A session or a job may hold the last handle of what it runs on, which then ends by itself; and so may the
        // service that a loop lets go of when it ends.
        let awaited =
            |thread: &JoinHandle<_>| !guard::is_inside() && thread.thread().id() != thread::current().id();
        for thread in self.threads.drain(..).filter(awaited) {
            // What panics there is told of there.
            let _ = thread.join();
        }
        self.job_threads = None;
    }
}

impl Drop for ServerThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_stops_its_loop_works_on_to_the_end_and_says_what_the_first_panic_said() {
        let stop = Stop { orders: Arc::default(), wake_queue: WakeQueue::new() };
        let (wake_queue, mut begun) = (Arc::clone(&stop.wake_queue), 0);
        let works = || {
            begun += 1;
            assert!(begun > 3, "panic {begun} of the test, which is meant");
        };
        let said = guard::catch(|| stop.if_it_panics(works)).unwrap_err();
        assert_eq!((begun, &*said), (4, "panic 1 of the test, which is meant"));
        assert!(!wake_queue.begin_sleep(), "the loop is not called");
    }

    #[test]
    fn a_worker_that_ends_stops_nothing() {
        let stop = Stop { orders: Arc::default(), wake_queue: WakeQueue::new() };
        let wake_queue = Arc::clone(&stop.wake_queue);
        stop.if_it_panics(|| {});
        assert!(wake_queue.begin_sleep());
    }
}
