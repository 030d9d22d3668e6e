//! The loops of a server, each on a thread of its own: how they are started together, and told together.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

use roadstead_drivers::{
    accept::Listener,
    handover::{Handover, Inbox, Other},
    orders::{Order, Orders},
};
use roadstead_proto::{
    connection::Endpoint,
    host::{Host, Shared},
    queue::Jobs,
    ticket::WakeQueue,
};

use crate::{ending::Ending, host::on_system, processors, sockets::Os};

/// One loop as other threads see it.
struct Loop {
    orders: Arc<Orders>,
    wake_queue: Arc<WakeQueue>,
    inbox: Arc<Inbox<OwnedFd>>,
}

/// All loops of a server: first those of connections, then those of datagrams.
pub(super) struct Loops {
    all: Vec<Loop>,
    /// How many of them have connections.
    connections: usize,
    /// How many of them listen: the first, which hands connections to the others; or each.
    listening: usize,
}

/// What one loop is made of, on its thread.
pub(super) struct LoopParts {
    pub(super) net: Os,
    pub(super) host: Host,
    pub(super) orders: Arc<Orders>,
    pub(super) listeners: Vec<Listener<OwnedFd>>,
    pub(super) handover: Handover<OwnedFd>,
}

/// Makes a loop on its thread, because a system may bind a queue to the thread that makes it.
pub(super) type Make = Box<dyn FnOnce(LoopParts) -> io::Result<Run> + Send>;

/// Runs it to its end.
pub(super) type Run = Box<dyn FnMut() -> io::Result<()>>;

/// The loops to be started, by kind: the name of their threads, and what makes each.
pub(super) type Makes = Vec<(&'static str, Make)>;

/// How loops are started.
pub(super) struct Plan {
    /// How many of them have connections: the first.
    pub(super) connections: usize,
    /// What they share.
    pub(super) shared: Arc<Shared>,
    /// The listeners of each loop that has any.
    pub(super) listeners: Vec<Vec<Listener<OwnedFd>>>,
    /// Whether each is to stay on a processor.
    pub(super) pin: bool,
    /// How many threads run their jobs; none if they do.
    pub(super) workers: usize,
    /// Who learns of their end.
    pub(super) ending: Ending,
    /// Has all else of the server end, where one of them has broken.
    pub(super) broken: Arc<dyn Fn() + Send + Sync>,
}

impl Loops {
    /// Starts a loop for each of `makes`. `jobs` makes what a loop puts its jobs into. Each thread drops a clone of `held`
    /// when its loop has ended.
    pub(super) fn start(
        plan: Plan,
        makes: Makes,
        jobs: impl Fn() -> Jobs,
        held: &(impl Clone + Send + 'static),
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let Plan { connections, shared, listeners, pin, workers, ending, broken } = plan;
        let listening = listeners.len().min(connections);
        let epoch = Instant::now();
        let host = || on_system(Arc::clone(&shared), jobs()).with_workers(workers).counting_apart();
        let hosts: Vec<_> = makes.iter().map(|_| host()).collect();
        let all = hosts.iter().map(Loop::of).collect();
        let (loops, mut listeners) = (Arc::new(Self { all, connections, listening }), listeners.into_iter());
        let (mut threads, mut made, mut begin) = (Vec::new(), Ok(()), Vec::new());
        for (number, ((name, make), host)) in makes.into_iter().zip(hosts).enumerate() {
            let net = Os::non_blocking(epoch, shared.tuning);
            let parts = LoopParts {
                net: if number < listening { net } else { net.another() },
                host,
                orders: Arc::clone(&loops.all[number].orders),
                listeners: listeners.next().unwrap_or_default(),
                handover: loops.handover(number),
            };
            let (go, begins) = mpsc::channel();
            begin.push(go);
            let held = (held.clone(), ending.clone(), Arc::clone(&broken));
            let (is_made, body) = loops.body(make, parts, pin.then_some(number), begins, held);
            made = thread::Builder::new().name(format!("{name}-{number}")).spawn(body).and_then(|thread| {
                threads.push(thread);
                is_made.recv().map_err(|_| io::Error::other("the loop panicked before it began"))?
            });
            if made.is_err() {
                break;
            }
        }
        if let Err(error) = made {
            // They end without having begun.
            drop(begin);
            threads.into_iter().for_each(|thread| _ = thread.join());
            return Err(error);
        }
        // A thread that is gone has said why.
        begin.into_iter().for_each(|go| _ = go.send(()));
        Ok((loops, threads))
    }

    /// What the thread of a loop does, and how it is learnt that the loop was made. It `begins` when all are made, so
    /// that a server that cannot be started has served nobody.
    fn body(
        self: &Arc<Self>,
        make: Make,
        parts: LoopParts,
        pin: Option<usize>,
        begins: mpsc::Receiver<()>,
        (held, ending, broken): (impl Send + 'static, Ending, Arc<dyn Fn() + Send + Sync>),
    ) -> (mpsc::Receiver<io::Result<()>>, impl FnOnce() + Send + 'static) {
        let ((made, is_made), loops) = (mpsc::channel(), Arc::clone(self));
        let body = move || {
            // Whoever starts it waits for what is sent.
            let well = ending.follow(|| {
                let loop_made = pin.map_or(Ok(()), processors::pin).and_then(|()| make(parts));
                match loop_made {
                    Ok(mut run) => {
                        let _ = made.send(Ok(()));
                        if begins.recv().is_ok() { run() } else { Ok(()) }
                    }
                    Err(error) => {
                        let _ = made.send(Err(error));
                        Ok(())
                    }
                }
            });
            // A server of which a part has broken serves nobody.
            if !well {
                loops.order(Order::Stop);
                broken();
            }
            drop(held);
        };
        (is_made, body)
    }

    /// Of the loop of that number.
    fn handover(&self, number: usize) -> Handover<OwnedFd> {
        if number >= self.listening.max(1) {
            return Handover::new(Arc::clone(&self.all[number].inbox), Vec::new());
        }
        let others = if self.listening == 1 { &self.all[1..self.connections] } else { &[] };
        Handover::of_listener(others.iter().map(Loop::as_other).collect())
    }

    /// Has all of them follow an order.
    pub(super) fn order(&self, order: Order) {
        for Loop { orders, wake_queue, .. } in &self.all {
            match order {
                Order::Serve => {}
                Order::Cede => orders.cede(wake_queue),
                Order::Drain => orders.drain(wake_queue),
                Order::Stop => orders.stop(wake_queue),
            }
        }
    }

    /// Opens a connection from outside of any session, on the first.
    pub(super) fn connect(&self, endpoint: Box<dyn Endpoint>) {
        if let Some(first) = self.all.first() {
            first.orders.connect(endpoint, &first.wake_queue);
        }
    }

    /// Drives sessions that have no connection, one on each: the last first, so that whoever is on the first finds the
    /// others there.
    pub(super) fn attend(&self, endpoints: Vec<Box<dyn Endpoint>>) {
        for (one, endpoint) in self.all.iter().zip(endpoints).rev() {
            one.orders.attend(endpoint, &one.wake_queue);
        }
    }
}

impl Loop {
    fn of(host: &Host) -> Self {
        Self { orders: Arc::default(), wake_queue: Arc::clone(&host.wake_queue), inbox: Arc::default() }
    }

    fn as_other(&self) -> Other<OwnedFd> {
        Other { inbox: Arc::clone(&self.inbox), wake_queue: Arc::clone(&self.wake_queue) }
    }
}
