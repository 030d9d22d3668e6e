//! What a datagram service is, and through which context its sessions answer.
#![forbid(unsafe_code)]

use std::{
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    batch::Arrivals,
    outbox::{EACH, Outbox, Outgoing},
    paced::Paced,
    path::{Path, Withheld, cost, datagrams, longest},
    peers::Peers,
};
use crate::{
    host::Host,
    peer::Scope,
    queue::{Job, Once, Task},
    rate::Bucket,
    session::{Busy, Charged, Ready},
    ticket::{JobId, Lost, Mailbox, Ticket, Token, WakeFlag, Waker},
};

/// The most datagrams that are sent as one: what the system takes of a run of segments.
pub const SEGMENTS: usize = 64;

/// Makes one [`DatagramSession`] for each socket of a server.
pub trait DatagramService: Send + Sync + 'static {
    /// What is said on one socket.
    type Session: DatagramSession;

    /// Where the state of its sockets lives: [`Scope::Process`] if a peer may find what another has left, and no model
    /// that forks runs it then.
    const SCOPE: Scope;

    /// Whether its sessions want to know of each datagram when the kernel received it and what was said of congestion:
    /// [`Datagram::at`](super::Datagram::at), [`Datagram::ecn`](super::Datagram::ecn). Not by default, as it costs a
    /// thirtieth of what an echo does.
    const STAMPED: bool = false;

    /// A socket was bound to `local`: make its session. Must not block.
    fn open(&self, local: SocketAddr) -> Self::Session;
}

/// What is said on one socket, to all of its peers.
///
/// The engine calls one method at a time, never two at once. If one panics the session is gone, with what it remembers
/// of its peers, and the socket has a new one.
pub trait DatagramSession: Send + Sized + 'static {
    /// What a deferred job brings back. `()` where there are none.
    type Reply: Send + 'static;
    /// What is [remembered](Peers) of a peer. `()` where nothing is.
    type Peer: Send + 'static;

    /// These came together. What is not taken out of `batch` is forgotten.
    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>);

    /// A [`Ticket`] of this socket was finished, or dropped: once for each, in the order in which that happened.
    fn reply(&mut self, id: JobId, reply: Result<Self::Reply, Lost>, cx: &mut DatagramContext<'_, Self>) {
        let _ = (id, reply, cx);
    }

    /// Opened, woken, room to send again after [`Unsent::Full`], a deadline it set, the server is draining.
    ///
    /// By default a draining socket finishes as soon as what it owes has been sent.
    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        if why == Ready::Draining {
            cx.finish();
        }
    }

    /// A peer was forgotten, because nothing genuine had come from it for the idle time.
    fn forgotten(&mut self, who: SocketAddr, peer: Self::Peer, cx: &mut DatagramContext<'_, Self>) {
        let _ = (who, peer, cx);
    }

    /// The network says that nobody receives at this address. Take it for a hint: anybody can say so.
    fn unreachable(&mut self, who: SocketAddr, cx: &mut DatagramContext<'_, Self>) {
        let _ = (who, cx);
    }

    /// The socket is about to be closed. Called once for every session, except one that has panicked.
    fn closed(self) {}
}

/// Why nothing was sent. Whoever waits for it will not know; a peer that asks again gets another chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// It would be more than three times what came, and the peer may never have sent that.
    #[error("the answer is larger than three times what came from an address that was not validated")]
    Amplified,
    /// What came had no hops left for an answer that has fewer: two servers may be talking to each other.
    #[error("the request had no hops left for an answer from an address that was not validated")]
    NoHops,
    /// The outbox is full: the system takes less than the session sends. [`Ready::Room`] comes when it has room.
    #[error("as much waits to be sent as a socket may buffer")]
    Full,
    /// No datagram is as long, or no run of segments; or a socket may not buffer as much, whatever waits.
    #[error("no datagram is as long as that, or none that may wait to be sent")]
    TooLong,
    /// Nothing is remembered of this peer.
    #[error("nothing is remembered of this peer")]
    Unknown,
}

/// What a session may do, during one call.
pub struct DatagramContext<'a, S: DatagramSession> {
    pub(super) now: Duration,
    pub(super) local: SocketAddr,
    pub(super) token: Token,
    pub(super) outbox: &'a mut Outbox,
    pub(super) paced: &'a mut Option<Box<Paced>>,
    pub(super) peers: &'a mut Peers<S::Peer>,
    pub(super) control: &'a mut Control,
    pub(super) mailbox: &'a mut Option<Arc<Mailbox<S::Reply>>>,
    pub(crate) host: &'a mut Host,
}

/// Requests that a session makes through its context.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) finish: bool,
    pub(super) timer: Option<Duration>,
    pub(super) next_job: u64,
    pub(super) outstanding: usize,
    /// Something was not sent for want of room.
    pub(super) wants_room: bool,
    /// When to look whether there is room, if nothing leaves before.
    pub(super) room_at: Option<Duration>,
}

impl<S: DatagramSession> DatagramContext<'_, S> {
    /// The time since the engine started. Never goes back.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The wall clock. May jump; use [`DatagramContext::now`] to measure.
    pub fn wall(&self) -> SystemTime {
        (self.host.wall)()
    }

    /// To what the socket is bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Fills `bytes` with randomness fit for keys and nonces (in the simulator: from its seed).
    ///
    /// # Errors
    /// If the system has none.
    pub fn random(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        (self.host.random)(bytes)
    }

    /// Sends one datagram back on a path.
    ///
    /// # Errors
    /// [`Unsent`], and nothing is sent or spent.
    pub fn send(&mut self, path: &mut Path, bytes: &[u8]) -> Result<(), Unsent> {
        self.post(path, bytes, None)
    }

    /// Sends datagrams of `segment` bytes each, of which the last may be shorter: at most [`SEGMENTS`], and together no
    /// longer than one may be. Where the system can, it is told of them at once and cuts them itself.
    ///
    /// # Errors
    /// [`Unsent`], and nothing is sent or spent.
    pub fn send_segments(&mut self, path: &mut Path, segment: usize, bytes: &[u8]) -> Result<(), Unsent> {
        self.post(path, bytes, Some(segment))
    }

    fn post(&mut self, path: &mut Path, bytes: &[u8], segment: Option<usize>) -> Result<(), Unsent> {
        let Self { now, outbox, paced, control, host, peers, .. } = self;
        let bucket = if paced.is_some() { peers.bucket(path.peer()) } else { None };
        let mut post = Post { now: *now, outbox, paced, control, host };
        post.post(path, bucket, bytes, segment)
    }

    /// Sends one datagram to a peer that is remembered, on its path.
    ///
    /// # Errors
    /// [`Unsent`], and nothing is sent or spent.
    pub fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) -> Result<(), Unsent> {
        let Self { now, outbox, paced, control, host, peers, .. } = self;
        let (path, bucket) = peers.way(peer).ok_or(Unsent::Unknown)?;
        let mut post = Post { now: *now, outbox, paced, control, host };
        post.post(path, Some(bucket), bytes, None)
    }

    /// The peers that are remembered.
    pub fn peers(&mut self) -> &mut Peers<S::Peer> {
        self.peers
    }

    /// Receive no more. The socket is closed once every outstanding ticket has come back and all has been sent.
    pub fn finish(&mut self) {
        self.control.finish = true;
    }

    /// Calls [`DatagramSession::ready`] with [`Ready::Timer`] at `when`. One timer per socket: a later call replaces the
    /// earlier one, `None` clears it.
    pub fn wake_at(&mut self, when: Option<Duration>) {
        self.control.timer = when;
    }

    /// A handle by which anybody can wake this session.
    pub fn waker(&mut self) -> Waker {
        Waker(Arc::clone(&self.mailbox().wake_flag))
    }

    /// The right to finish something later, from any thread; the session hears of it in [`DatagramSession::reply`]. An
    /// answer needs the [`Path`] to go back on: move it along.
    ///
    /// # Errors
    /// [`Busy`] when as many tickets are outstanding as the budget allows.
    pub fn ticket(&mut self) -> Result<Ticket<S::Reply>, Busy> {
        let ticket = self.take_ticket()?;
        self.host.shared.tasks.awaits();
        Ok(ticket)
    }

    fn take_ticket(&mut self) -> Result<Ticket<S::Reply>, Busy> {
        let charge = self.host.shared.jobs.charge(1).ok_or(Busy)?;
        let id = JobId(self.control.next_job);
        self.control.next_job += 1;
        self.control.outstanding += 1;
        Ok(Ticket::new(Arc::clone(self.mailbox()), id, charge))
    }

    /// Queues `job` for a logic unit, as [`Context::defer`](crate::Context::defer) does. To the disciplines all jobs of a
    /// socket are of one connection.
    ///
    /// # Errors
    /// [`Busy`] when as many tickets are outstanding as the budget allows.
    pub fn defer(&mut self, cost: u64, job: impl Job<Reply = S::Reply>) -> Result<JobId, Busy> {
        let ticket = self.take_ticket()?;
        let id = ticket.id();
        self.submit_task(Task::deferred(self.token, cost, job, ticket));
        Ok(id)
    }

    /// Queues a closure whose result comes to [`DatagramSession::reply`].
    ///
    /// # Errors
    /// [`Busy`] when as many tickets are outstanding as the budget allows.
    pub fn run(
        &mut self,
        cost: u64,
        work: impl FnOnce() -> S::Reply + Send + 'static,
    ) -> Result<JobId, Busy> {
        self.defer(cost, Once(Some(work)))
    }

    /// Queues a job that answers through tickets it holds, as [`Context::submit`](crate::Context::submit) does, with the
    /// same bound.
    pub fn submit(&mut self, cost: u64, job: impl Job<Reply = ()>) {
        let job = Charged::new(job, self.host);
        self.submit_task(Task::detached(self.token, cost, job));
    }

    /// How many jobs may be run at once.
    pub fn workers(&self) -> usize {
        self.host.workers
    }

    fn submit_task(&mut self, task: Task) {
        self.host.queue(task);
    }

    fn mailbox(&mut self) -> &Arc<Mailbox<S::Reply>> {
        self.mailbox.get_or_insert_with(|| {
            let wake_flag = Arc::new(WakeFlag::default());
            wake_flag.attach(&self.host.wake_queue, self.token);
            Mailbox::new(wake_flag)
        })
    }
}

/// What a datagram goes through before it is in the outbox.
struct Post<'a> {
    now: Duration,
    outbox: &'a mut Outbox,
    paced: &'a mut Option<Box<Paced>>,
    control: &'a mut Control,
    host: &'a mut Host,
}

impl Post<'_> {
    /// Puts into the outbox what there is room and allowance for, now or when the caps let it go. `bucket` is that of a
    /// peer that is remembered.
    fn post(
        &mut self,
        path: &mut Path,
        bucket: Option<&mut Bucket>,
        bytes: &[u8],
        segment: Option<usize>,
    ) -> Result<(), Unsent> {
        let (length, peer, most) = (bytes.len(), path.peer(), self.host.shared.budget.buffer_each);
        if length > longest(peer) || segment == Some(0) || datagrams(length, segment) > SEGMENTS {
            return Err(Unsent::TooLong);
        }
        let count = datagrams(length, segment) as u64;
        if length + EACH > most {
            self.host.count.datagrams_dropped += count;
            return Err(Unsent::TooLong);
        }
        let (cost, known) = (cost(peer, length, segment), bucket.as_deref().copied());
        let until = self.paced.as_ref().and_then(|paced| paced.refuses(known, peer, length, cost, self.now));
        if self.outbox.held() + length + EACH > most || until.is_some() {
            let room_at = &mut self.control.room_at;
            *room_at = (*room_at).into_iter().chain(until).min();
            self.host.count.datagrams_dropped += count;
            self.control.wants_room = true;
            return Err(Unsent::Full);
        }
        let hops = path.spend(length, segment).map_err(|why| {
            self.host.count.datagrams_withheld += count;
            match why {
                Withheld::Allowance => Unsent::Amplified,
                Withheld::Hops => Unsent::NoHops,
            }
        })?;
        let outgoing = Outgoing { to: peer, from: path.local, hops, segment, bytes };
        if let Some(paced) = self.paced {
            let from = paced.take(bucket, peer, cost, self.now);
            if from > self.now {
                paced.push(from, outgoing);
                return Ok(());
            }
        }
        self.outbox.push(outgoing);
        Ok(())
    }
}

impl<S: DatagramSession> fmt::Debug for DatagramContext<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramContext").field("now", &self.now).finish_non_exhaustive()
    }
}
