//! The threads behind a server, a dialer or an exchange, whatever the model.
#![forbid(unsafe_code)]

use std::{
    fmt, io, mem,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
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
        workers::{Dispatcher, Io},
    },
};
use roadstead_proto::{
    connection::Endpoint,
    guard,
    host::{Host, Shared},
    queue::{Jobs, Queue, SharedQueue},
    ticket::WakeQueue,
};

use crate::{
    ending::{Ended, Ending},
    host::on_system,
    pollers::epoll::{Epoll, Trigger},
    sockets::{Os, WaitingOs},
    threads::{STACK, Threads},
};

/// How long a loop that is told to stop is waited for, unless it is waited for as long as it takes: enough for all that
/// is no job.
const MOMENT: Duration = Duration::from_millis(500);

/// Which loops, and who runs their jobs: by default each its own, in the order they come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
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
    thread: Option<JoinHandle<()>>,
    ended: Ended,
}

enum Kind {
    Loop { orders: Arc<Orders>, wake_queue: Arc<WakeQueue> },
    Blocking(Arc<BlockingServer<WaitingOs>>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Loop { .. } => "loop",
            Kind::Blocking(_) => "blocking",
        })
    }
}

/// What a model is given to begin with.
pub struct Parts {
    shape: Shape,
    shared: Arc<Shared>,
    listeners: Vec<Listener<OwnedFd>>,
    ending: Ending,
}

/// A model that has begun.
pub struct Begun {
    kind: Kind,
    job_threads: Option<JobThreads>,
    thread: JoinHandle<()>,
}

impl Parts {
    /// Takes the number of workers that was asked for, if one was, so that no logic units are started.
    pub fn take_workers(&mut self) -> Option<usize> {
        Some(mem::take(&mut self.shape.workers)).filter(|&workers| workers > 0)
    }

    /// Begins with threads that wait, each for one connection.
    pub fn blocking(self, spawner: impl Spawner<WaitingOs> + 'static) -> io::Result<Begun> {
        let Self { shape, shared, listeners, ending } = self;
        let job_threads = JobThreads::of(shape, &ending)?;
        let (jobs, queue) =
            (JobThreads::jobs(job_threads.as_ref(), shape.queue), JobThreads::queue(job_threads.as_ref()));
        let net = WaitingOs::new(Instant::now(), shared.tuning);
        let make: Box<MakeHost> = Box::new(move || on_system(Arc::clone(&shared), jobs()));
        let server = BlockingServer::new(net, make, Box::new(spawner), Box::new(super::each::Threads))?;
        let (listeners, accepting) = (server.watch(listeners), Arc::clone(&server));
        let thread = thread::Builder::new().name("accept".into()).spawn(move || {
            accepting.run(listeners, |accept| ending.follow(accept));
            queue.iter().for_each(|queue| queue.stop());
        })?;
        Ok(Begun { kind: Kind::Blocking(server), job_threads, thread })
    }

    /// Begins with the loop of a reactor, around the poller that `make` makes.
    pub fn reactor<P: Poller<Os> + 'static>(
        self,
        make: impl FnOnce(&WakeQueue, Shape) -> io::Result<P> + Send + 'static,
    ) -> io::Result<Begun> {
        let shape = self.shape;
        self.looped("reactor", move |net, host, orders, listeners| {
            let poller = make(&host.wake_queue, shape)?;
            let mut reactor = Reactor::new(net, poller, host, orders, listeners)?;
            Ok(move || reactor.run())
        })
    }

    /// Who is to receive and send.
    pub fn io(&self) -> Io {
        self.shape.io
    }

    /// Begins with the loop of a reactor that leaves the connections to workers.
    pub fn dispatcher(mut self) -> io::Result<Begun> {
        let workers = match self.take_workers() {
            Some(workers) => workers,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let Self { shape, shared, .. } = &self;
        let host = || on_system(Arc::clone(shared), Jobs::Inline(shape.queue.discipline()));
        let hosts: Vec<_> = (0..workers).map(|_| host()).collect();
        self.looped("reactor", move |net, host, orders, listeners| {
            let poller = Epoll::new(&host.wake_queue, Trigger::Edge)?;
            let one_shot = poller.one_shot();
            let parts =
                hosts.into_iter().map(|host| (net.another(), one_shot.clone(), host)).collect::<Vec<_>>();
            let dispatcher = Dispatcher::new(net, poller, one_shot, host, orders, listeners)?;
            let mut workers = super::io_workers::IoWorkers::start(dispatcher, parts.into_iter())?;
            Ok(move || workers.run())
        })
    }

    /// Begins with the loop of a proactor, around a completion queue on epoll, with the [`ReadyIo`] that `make` makes.
    pub fn proactor<H: ReadyIo<Os> + 'static>(
        self,
        make: impl FnOnce(&Arc<WakeQueue>) -> H + Send + 'static,
    ) -> io::Result<Begun> {
        self.completions(|net, wake_queue, sockets| {
            let (poller, ready_io) = (Epoll::new(wake_queue, Trigger::Edge)?, make(wake_queue));
            Ok(ReadyQueue::new(net, poller, ready_io, sockets))
        })
    }

    /// Begins with the loop of a proactor, around the completion queue that `make` makes.
    pub fn completions<Q: CompletionQueue + 'static>(
        self,
        make: impl FnOnce(Os, &Arc<WakeQueue>, Vec<OwnedFd>) -> io::Result<Q> + Send + 'static,
    ) -> io::Result<Begun> {
        self.looped("proactor", move |net, host, orders, listeners| {
            let (sockets, openers) =
                listeners.into_iter().map(|listener| (listener.socket, listener.open)).unzip();
            let completions = make(net, &host.wake_queue, sockets)?;
            let mut proactor = Proactor::new(completions, host, orders, openers);
            Ok(move || proactor.run())
        })
    }

    /// Begins with the loop that `make` makes, on a thread of its own. It is made there too, because a system may bind a
    /// queue to the thread that makes it.
    fn looped<R: FnMut() -> io::Result<()>>(
        self,
        name: &str,
        make: impl FnOnce(Os, Host, Arc<Orders>, Vec<Listener<OwnedFd>>) -> io::Result<R> + Send + 'static,
    ) -> io::Result<Begun> {
        let Self { shape, shared, listeners, ending } = self;
        let job_threads = JobThreads::of(shape, &ending)?;
        let queue = JobThreads::queue(job_threads.as_ref());
        let net = Os::non_blocking(Instant::now(), shared.tuning);
        let host = on_system(shared, JobThreads::jobs(job_threads.as_ref(), shape.queue)());
        let (orders, wake_queue) = (Arc::new(Orders::default()), Arc::clone(&host.wake_queue));
        let ((made, is_made), ordered) = (mpsc::channel(), Arc::clone(&orders));
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            // Whoever starts it waits for what is sent.
            ending.follow(|| match make(net, host, ordered, listeners) {
                Ok(mut run) => {
                    let _ = made.send(Ok(()));
                    run()
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                    Ok(())
                }
            });
            queue.iter().for_each(|queue| queue.stop());
        })?;
        is_made.recv().map_err(|_| io::Error::other("the loop panicked before it began"))??;
        Ok(Begun { kind: Kind::Loop { orders, wake_queue }, job_threads, thread })
    }
}

impl ServerThreads {
    /// Starts the threads of a model that begins like this.
    pub fn start(
        begin: fn(Parts) -> io::Result<Begun>,
        shape: Shape,
        shared: Arc<Shared>,
        listeners: Vec<Listener<OwnedFd>>,
    ) -> io::Result<Self> {
        let (ending, ended) = Ending::new()?;
        let Begun { kind, job_threads, thread } = begin(Parts { shape, shared, listeners, ending })?;
        Ok(Self { kind, job_threads, thread: Some(thread), ended })
    }

    /// Has the loops let nobody in and end when all are gone.
    pub fn drain(&self) {
        match &self.kind {
            Kind::Loop { orders, wake_queue } => orders.drain(wake_queue),
            Kind::Blocking(server) => server.raise(Order::Drain),
        }
    }

    /// Opens a connection from outside of any session.
    pub fn connect(&self, address: SocketAddr, endpoint: Box<dyn Endpoint>) {
        match &self.kind {
            Kind::Loop { orders, wake_queue } => orders.connect(address, endpoint, wake_queue),
            Kind::Blocking(server) => Arc::clone(server).connect(address, endpoint),
        }
    }

    /// Drives a session that has no connection, on a loop.
    pub fn attend(&self, endpoint: Box<dyn Endpoint>) -> io::Result<()> {
        match &self.kind {
            Kind::Loop { orders, wake_queue } => {
                orders.attend(endpoint, wake_queue);
                Ok(())
            }
            Kind::Blocking(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What becomes of the threads.
    pub fn ended(&self) -> &Ended {
        &self.ended
    }

    /// Has the loops end, and does not wait for it.
    pub fn order_stop(&self) {
        match &self.kind {
            Kind::Loop { orders, wake_queue } => orders.stop(wake_queue),
            Kind::Blocking(server) => server.raise(Order::Stop),
        }
    }

    /// Has the loops end, waits for that a moment, and leaves behind who is in a job: it ends with that. False if
    /// somebody is.
    pub fn leave(&mut self) -> bool {
        self.order_stop();
        let over = self.ended.are_over(MOMENT);
        if !over {
            self.thread = None;
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
        if let Some(thread) = self.thread.take().filter(awaited) {
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

/// The logic units. Dropping them lets each finish the job it is at, and waits for that unless it is done in a job.
#[derive(Debug)]
struct JobThreads {
    queue: Arc<SharedQueue>,
    threads: Threads,
}

impl JobThreads {
    /// As many as are asked for; none if the loops are to run the jobs themselves.
    fn of(shape: Shape, ending: &Ending) -> io::Result<Option<Self>> {
        if shape.workers == 0 {
            return Ok(None);
        }
        let queue = SharedQueue::new(shape.queue.discipline());
        let bodies = (0..shape.workers).map(|_| {
            let (queue, ending) = (Arc::clone(&queue), ending.clone());
            move || {
                queue.work();
                drop(ending);
            }
        });
        let threads = Threads::start("logic", STACK, bodies, || queue.stop())?;
        Ok(Some(Self { queue, threads }))
    }

    /// What is to be told to stop when the loops have ended.
    fn queue(job_threads: Option<&Self>) -> Option<Arc<SharedQueue>> {
        job_threads.map(|job_threads| Arc::clone(&job_threads.queue))
    }

    /// Makes what a loop puts its jobs into.
    fn jobs(job_threads: Option<&Self>, queue: Queue) -> impl Fn() -> Jobs + use<> {
        let shared = Self::queue(job_threads);
        move || shared.as_ref().map_or_else(|| Jobs::Inline(queue.discipline()), SharedQueue::attach)
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        self.queue.stop();
        if !guard::is_inside() {
            self.threads.join();
        }
    }
}
