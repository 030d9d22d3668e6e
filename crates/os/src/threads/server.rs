//! The threads behind a server, a dialer or an exchange, whatever the model.
#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    convert::Infallible,
    fmt, io, mem,
    os::fd::OwnedFd,
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::fs::fstat;

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
    queue::{Jobs, Queue, SharedQueue},
    ticket::WakeQueue,
};

use crate::{
    ending::{Ended, Ending},
    host::on_system,
    pollers::epoll::{Epoll, Trigger},
    sockets::{Os, WaitingOs, unix::SocketFile},
    threads::{
        STACK, Threads,
        loops::{LoopParts, Loops, Plan},
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
}

/// The listening sockets once more, for whoever takes them over, and the files of those that have one. They are closed,
/// and the files removed, when the loops let nobody in any more, or have ended: nobody is to wait there in vain.
#[derive(Debug, Clone)]
struct Kept(Arc<Mutex<(Vec<SocketFile>, Vec<OwnedFd>)>>, Arc<Shared>);

impl Kept {
    /// Of a socket that several loops have, one: a successor's loops share it again.
    fn of<'a>(
        listeners: impl Iterator<Item = &'a Listener<OwnedFd>>,
        files: Vec<SocketFile>,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let (mut kept, mut known) = (Vec::new(), HashSet::new());
        for Listener { socket, .. } in listeners {
            if known.insert(fstat(socket)?.st_ino) {
                kept.push(socket.try_clone()?);
            }
        }
        Ok(Self(Arc::new(Mutex::new((files, kept))), Arc::clone(shared)))
    }

    fn take(&self) -> (Vec<SocketFile>, Vec<OwnedFd>) {
        self.1.shut();
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands the sockets over, and with them their files.
    fn hand_over(&self) -> Vec<OwnedFd> {
        let (files, sockets) = self.take();
        files.into_iter().for_each(SocketFile::leave);
        sockets
    }

    /// Removes the files, and then closes the sockets.
    fn close(&self) {
        drop(self.take());
    }
}

enum Kind {
    Loops(Arc<Loops>),
    Blocking(Arc<BlockingServer<WaitingOs>>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Loops(_) => "loops",
            Kind::Blocking(_) => "blocking",
        })
    }
}

/// What a model is given to begin with.
pub struct Parts {
    shape: Shape,
    shared: Arc<Shared>,
    listeners: Vec<Vec<Listener<OwnedFd>>>,
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

    /// Begins with threads that wait, each for one connection.
    pub fn blocking(self, spawner: impl Spawner<WaitingOs> + 'static) -> io::Result<Begun> {
        let Self { shape, shared, listeners, kept, ending } = self;
        let job_threads = JobThreads::of(shape, &ending)?;
        let (jobs, queue) =
            (JobThreads::jobs(job_threads.as_ref(), shape.queue), JobThreads::queue(job_threads.as_ref()));
        let net = WaitingOs::new(Instant::now(), shared.tuning);
        let make: Box<MakeHost> =
            Box::new(move || on_system(Arc::clone(&shared), jobs()).with_workers(shape.workers));
        let server = BlockingServer::new(net, make, Box::new(spawner), Box::new(super::each::Threads))?;
        server.listen(listeners.into_iter().flatten().collect());
        let accepting = Arc::clone(&server);
        let thread = thread::Builder::new().name("accept".into()).spawn(move || {
            accepting.run(|accept| ending.follow(accept));
            kept.close();
            queue.iter().for_each(|queue| queue.stop());
        })?;
        Ok(Begun { kind: Kind::Blocking(server), job_threads, threads: vec![thread] })
    }

    /// Begins with the loops of a reactor, each around a poller that `make` makes.
    pub fn reactor<P: Poller<Os> + 'static>(
        self,
        make: impl FnOnce(&WakeQueue, Shape) -> io::Result<P> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let shape = self.shape;
        self.looped("reactor", move |parts| {
            let LoopParts { net, host, orders, listeners, handover } = parts;
            let poller = make(&host.wake_queue, shape)?;
            let mut reactor = Reactor::new(net, poller, host, orders, listeners)?.one_of(handover);
            Ok(move || reactor.run())
        })
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
        let make = move |parts: LoopParts| {
            let LoopParts { net, host, orders, listeners, .. } = parts;
            let line = SharedQueue::new(queue.discipline());
            let poller = Epoll::new(&host.wake_queue, Trigger::Edge)?;
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
            Ok(move || {
                let ran = reactor.run();
                if threads.end() { ran } else { Err(io::Error::other("a worker panicked")) }
            })
        };
        self.start("reactor", vec![make])
    }

    /// Begins with the loops of a proactor, each around a completion queue on epoll, with the [`ReadyIo`] that `make`
    /// makes.
    pub fn proactor<H: ReadyIo<Os> + 'static>(
        self,
        make: impl FnOnce(&Arc<WakeQueue>) -> H + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        self.completions(|net, wake_queue, sockets| {
            let (poller, ready_io) = (Epoll::new(wake_queue, Trigger::Edge)?, make(wake_queue));
            Ok(ReadyQueue::new(net, poller, ready_io, sockets))
        })
    }

    /// Begins with the loops of a proactor, each around a completion queue that `make` makes.
    pub fn completions<Q: CompletionQueue<Stream = OwnedFd> + 'static>(
        self,
        make: impl FnOnce(Os, &Arc<WakeQueue>, Vec<OwnedFd>) -> io::Result<Q> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        self.looped("proactor", move |parts| {
            let LoopParts { net, host, orders, listeners, handover } = parts;
            let (sockets, openers) =
                listeners.into_iter().map(|listener| (listener.socket, listener.open)).unzip();
            let completions = make(net, &host.wake_queue, sockets)?;
            let mut proactor = Proactor::new(completions, host, orders, openers).one_of(handover);
            Ok(move || proactor.run())
        })
    }

    /// Begins with as many loops as are asked for, each of which `make` makes.
    fn looped<R: FnMut() -> io::Result<()>>(
        self,
        name: &'static str,
        make: impl FnOnce(LoopParts) -> io::Result<R> + Clone + Send + 'static,
    ) -> io::Result<Begun> {
        let loops = self.shape.loops.max(1);
        self.start(name, vec![make; loops])
    }

    /// Begins with a loop for each of `makes`.
    fn start<R: FnMut() -> io::Result<()>>(
        self,
        name: &'static str,
        makes: Vec<impl FnOnce(LoopParts) -> io::Result<R> + Send + 'static>,
    ) -> io::Result<Begun> {
        let Self { shape, shared, listeners, kept, ending } = self;
        let job_threads = JobThreads::of(shape, &ending)?;
        let jobs = JobThreads::jobs(job_threads.as_ref(), shape.queue);
        let at_end = Arc::new(AtEnd { queue: JobThreads::queue(job_threads.as_ref()), kept });
        let plan = Plan { name, shared, listeners, pin: shape.pin, workers: shape.workers, ending };
        let (loops, threads) = Loops::start(plan, makes, jobs, &at_end)?;
        Ok(Begun { kind: Kind::Loops(loops), job_threads, threads })
    }
}

/// What is over when the last loop has ended: the logic units' work, and the listening sockets.
struct AtEnd {
    queue: Option<Arc<SharedQueue>>,
    kept: Kept,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.kept.close();
        self.queue.iter().for_each(|queue| queue.stop());
    }
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
    /// Starts the threads of a model that begins like this, with the listeners of each loop that has any: of the first,
    /// which then hands each connection to the loop that has fewest, or of every loop; and with the files of those that
    /// have one.
    pub fn start(
        begin: fn(Parts) -> io::Result<Begun>,
        shape: Shape,
        shared: Arc<Shared>,
        listeners: Vec<Vec<Listener<OwnedFd>>>,
        files: Vec<SocketFile>,
    ) -> io::Result<Self> {
        let (ending, ended) = Ending::new()?;
        let kept = Kept::of(listeners.iter().flatten(), files, &shared)?;
        let parts = Parts { shape, shared, listeners, kept: kept.clone(), ending };
        let Begun { kind, job_threads, threads } = begin(parts)?;
        Ok(Self { kind, job_threads, threads, ended, kept })
    }

    /// Takes the listening sockets from the loops, with all who wait there: they let nobody in any more. None if that
    /// was so already.
    pub fn take_listeners(&self) -> Vec<OwnedFd> {
        let taken = self.kept.hand_over();
        match &self.kind {
            Kind::Loops(loops) => loops.cede(),
            Kind::Blocking(server) => server.raise(Order::Cede),
        }
        taken
    }

    /// Has the loops let nobody in and end when all are gone.
    pub fn drain(&self) {
        self.kept.close();
        match &self.kind {
            Kind::Loops(loops) => loops.drain(),
            Kind::Blocking(server) => server.raise(Order::Drain),
        }
    }

    /// Opens a connection from outside of any session.
    pub fn connect(&self, endpoint: Box<dyn Endpoint>) {
        match &self.kind {
            Kind::Loops(loops) => loops.connect(endpoint),
            Kind::Blocking(server) => Arc::clone(server).connect(endpoint),
        }
    }

    /// Drives sessions that have no connection, one on each loop.
    pub fn attend(&self, endpoints: Vec<Box<dyn Endpoint>>) -> io::Result<()> {
        match &self.kind {
            Kind::Loops(loops) => {
                loops.attend(endpoints);
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
        self.kept.close();
        match &self.kind {
            Kind::Loops(loops) => loops.stop(),
            Kind::Blocking(server) => server.raise(Order::Stop),
        }
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

/// The logic units. Dropping them lets each finish the job it is at, and waits for that unless it is done in a job.
#[derive(Debug)]
struct JobThreads<T: Send + 'static = Infallible> {
    queue: Arc<SharedQueue<T>>,
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
                queue.work(|never| match never {});
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
        move || shared.as_ref().map_or_else(|| Jobs::Inline(queue.discipline()), |queue| queue.attach())
    }
}

impl<T: Send + 'static> JobThreads<T> {
    /// False if one is known to have panicked.
    fn end(&mut self) -> bool {
        self.queue.stop();
        guard::is_inside() || self.threads.join()
    }
}

impl<T: Send + 'static> Drop for JobThreads<T> {
    fn drop(&mut self) {
        self.end();
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
