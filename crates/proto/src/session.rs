//! What a session is, and through which it answers: output, timers, tickets, jobs, connections of its own.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    budget::{Charge, give_back},
    close::{Close, Closed, Done},
    endpoint::Outgoing,
    host::Host,
    input::Input,
    last_words::LastWords,
    layer::Identity,
    output::Output,
    peer::{Peer, Scope},
    queue::{Job, Once, Step, Task},
    reading::Reading,
    ticket::{JobId, Lost, Mailbox, Ticket, Token, WakeFlag, Waker},
};

/// Makes one [`Session`] per accepted connection.
pub trait Service: Send + Sync + 'static {
    /// The protocol of one connection.
    type Session: Session;

    /// Where the state of this service's connections lives. There is no default, because a wrong one loses data without
    /// a word: of what connections share, each child of a process model would have a copy of its own. So these models
    /// refuse [`Scope::Process`] at start.
    const SCOPE: Scope;

    /// A connection was admitted: make its session. Must not block.
    fn open(&self, peer: &Peer) -> Self::Session;
}

/// A service that does not say where its state lives is none.
///
/// ```compile_fail,E0046
/// # use roadstead::{Context, Done, Input, Peer, Service, Session};
/// struct Line;
/// impl Session for Line {
///     type Reply = ();
///     fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done { Ok(()) }
/// }
/// struct Store;
/// impl Service for Store {
///     type Session = Line;
///     fn open(&self, _: &Peer) -> Line { Line }
/// }
/// ```
#[cfg(doctest)]
struct Unscoped;

/// One connection's protocol.
///
/// The engine calls one method at a time, never two at once. Whatever a method writes to [`Context::output`] is sent
/// in order. When the output passes its high-water mark no further input is delivered until the peer has taken enough.
pub trait Session: Send + Sized + 'static {
    /// What a deferred job brings back. `()` where there are none.
    type Reply: Send + 'static;

    /// New bytes; or unread ones, and something changed since they were left.
    ///
    /// Consume what can be used and leave the rest. Called again at once while it consumes and bytes remain, so a
    /// session may handle a single message per call and leave the pacing to the engine.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done;

    /// A [`Ticket`] of this connection was finished, or dropped.
    ///
    /// Called once for each, in the order in which that happened. It need not be the order in which they were taken:
    /// [`Context::defer`] tells which to expect of jobs.
    fn reply(&mut self, id: JobId, reply: Result<Self::Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let _ = (id, reply, cx);
        Ok(())
    }

    /// Opened, woken, room to send again, a deadline it set, the server is draining.
    ///
    /// By default a draining connection finishes as soon as what it owes has been sent.
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Draining {
            cx.finish();
        }
        Ok(())
    }

    /// The peer has finished sending; answers may still follow, and the connection closes once they have gone out.
    ///
    /// Called when the session has consumed all input, or has left some that nothing outstanding could complete. Where
    /// our side has [finished sending](Context::finish_sending) too, the connection then is over in any case.
    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        cx.finish();
        Ok(())
    }

    /// The connection is gone. Called once for every session, except one that has panicked.
    fn closed(self, why: &Closed) {
        let _ = why;
    }
}

/// Why [`Session::ready`] was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The connection exists; a session that speaks first does it now.
    Opened,
    /// Somebody used this connection's [`Waker`].
    Woken,
    /// The output has fallen below half of its high-water mark after having passed that.
    Room,
    /// The time set with [`Context::wake_at`] has come.
    Timer,
    /// The server is draining: finish what was begun, begin nothing new. A session that does not answer this with
    /// [`Context::finish`] still receives, for as long as the server's patience lasts.
    Draining,
}

/// The budget has no room for this now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the budget has no room for this now: try again when something has finished")]
pub struct Busy;

/// What a session may do, during one call.
pub struct Context<'a, S: Session> {
    pub(crate) now: Duration,
    pub(crate) peer: &'a Peer,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) token: Token,
    pub(crate) output: &'a mut Output,
    pub(crate) control: &'a mut Control,
    pub(crate) mailbox: &'a mut Option<Arc<Mailbox<S::Reply>>>,
    pub(crate) host: &'a mut Host,
}

impl<S: Session> Context<'_, S> {
    /// The time since the engine started. Never goes back.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The wall clock. May jump; use [`Context::now`] to measure.
    pub fn wall(&self) -> SystemTime {
        (self.host.wall)()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// Who the peer has proven to be to the connection's [layer](crate::layer); `None` if it was not asked to.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity
    }

    /// Fills `bytes` with randomness fit for keys and nonces (in the simulator: from its seed).
    ///
    /// The system is asked each time, so that neither a fork nor a snapshot of a virtual machine that is resumed twice
    /// repeats them; where many are needed, use these as a seed.
    ///
    /// # Errors
    /// An abort, if the system has none.
    pub fn random(&mut self, bytes: &mut [u8]) -> Done {
        let random = (self.host.random)(bytes);
        random.map_err(|error| Close::abort(format!("the system gave no randomness: {error}")))
    }

    /// What this connection has to say.
    pub fn output(&mut self) -> &mut Output {
        self.output
    }

    /// Say no more, and read on. The peer learns that nothing follows once the output has gone out and the tickets that
    /// are outstanding now have come back, whose replies are the last that may write.
    ///
    /// What is written in the same call still goes out. Behind that the output is closed: [`Output::room`] is zero, and
    /// a session that writes all the same loses its connection ([`Closed::Unsendable`]), since the peer would miss that
    /// without a word. Tickets that are taken later do not put the end off.
    ///
    /// The session is given all that comes until the peer's end, and then [`Session::end`]. With both ends the
    /// connection is over: it closes once every ticket has come back, whether `end` finishes or not. Until then
    /// deadlines run as ever: of a connection that a peer has opened the idle time, and the lowest rate while a message
    /// is half read; who opened one may wait for its answer as long as it likes. What finishes the session earlier, as
    /// a [drain](Ready::Draining) does by default, also ends its reading. Where [`Context::finish`] was called before,
    /// this changes nothing.
    pub fn finish_sending(&mut self) {
        let control = &mut *self.control;
        if control.last_words.is_none() && !control.finish {
            control.last_words = Some(LastWords::new(control.next_job, control.outstanding));
        }
    }

    /// Read no more. The connection closes once every outstanding ticket has come back and the output has gone out.
    ///
    /// Unless the peer has ended already, this side is the first to: the peer learns that nothing follows, and the
    /// system keeps the connection in TIME_WAIT for a while. [`Context::finish_after_peer`] is the other choice.
    pub fn finish(&mut self) {
        (self.control.finish, self.control.yields) = (true, false);
    }

    /// Like [`Context::finish`], but the peer is to end first: once everything has gone out the connection waits for
    /// the peer's end, and closes then.
    ///
    /// Who ends first keeps TIME_WAIT (RFC 9293, section 3.6): some memory of the kernel and a pair of ports, for about
    /// a minute. A server with many short connections leaves it to its clients, if these can tell from the protocol
    /// that all was said. The price is that it depends on them: one that has not ended within
    /// [`linger`](struct@crate::Budget) is reset, and may lose what it has not read by then. The last of `finish`
    /// and `finish_after_peer` to be called counts. Behind [`Context::finish_sending`] it is too late to be second, and
    /// both are the same.
    pub fn finish_after_peer(&mut self) {
        (self.control.finish, self.control.yields) = (true, self.control.last_words.is_none());
    }

    /// When this session is given what its peer sends, from now on: [`Reading::WithRoom`] unless it says otherwise.
    ///
    /// What is left unread for want of a place is copied and counts as the peer's debt. A session that passes on what
    /// it reads takes it whole, and with [`Reading::Never`] says that this has to be enough, until a
    /// [waker](Context::waker) or a timer has it called and it reads on. The peer then has its idle time anew.
    pub fn read(&mut self, reading: Reading) {
        if self.control.reading == Reading::Never && reading != Reading::Never {
            self.control.resumed = self.now;
        }
        self.control.reading = reading;
    }

    /// Calls [`Session::ready`] with [`Ready::Timer`] at `when` (compare [`Context::now`]).
    /// One timer per session: a later call replaces the earlier one, `None` clears it.
    pub fn wake_at(&mut self, when: Option<Duration>) {
        self.control.timer = when;
    }

    /// A handle by which anybody can wake this session.
    pub fn waker(&mut self) -> Waker {
        Waker(Arc::clone(&self.mailbox().wake_flag))
    }

    /// The right to finish something later, from any thread; the session hears of it in [`Session::reply`]. Of several
    /// tickets it hears in the order in which they were finished or dropped, whatever the order in which they were
    /// taken.
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

    /// Queues `job` for a logic unit; its reply comes to [`Session::reply`]. `cost` is a guess of how long it takes,
    /// in whatever unit the service likes, for the disciplines that want one.
    ///
    /// # The order of replies
    ///
    /// Replies come in the order in which the jobs are done, and never during the call that defers them: what a session
    /// writes at once overtakes what it has deferred. In which order jobs are done depends on who runs them.
    ///
    /// | who runs them | in which order replies come |
    /// |---|---|
    /// | the loop itself, or one worker | that in which the [queue](crate::Queue) takes the jobs: `fcfs`, `rr` and `mlfq` take those of a connection as it deferred them; `sjf` takes the cheapest of those that wait, of equal ones the first, and every sixteenth time the one that has waited longest |
    /// | several workers, also those that receive and send (`Io::Workers`) | any: what is begun later may be done sooner |
    ///
    /// A job that answers [`More`](crate::Step::More) waits anew, and is overtaken by those that are next before it. On
    /// a model with a thread or a process for each connection only the connection's own jobs wait together, unless
    /// there are workers. A protocol whose answers have to come in the order of its requests keeps an answer, by its
    /// [`JobId`], until those before it have come.
    ///
    /// # Errors
    /// [`Busy`] when as many tickets are outstanding as the budget allows.
    pub fn defer(&mut self, cost: u64, job: impl Job<Reply = S::Reply>) -> Result<JobId, Busy> {
        let ticket = self.take_ticket()?;
        let id = ticket.id();
        self.submit_task(Task::deferred(self.token, cost, job, ticket));
        Ok(id)
    }

    /// Queues a closure whose result comes to [`Session::reply`], in the order that [`Context::defer`] tells.
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

    /// Queues a job that answers through tickets it holds, such as passes over what several connections asked for. One
    /// that has [more](crate::Step::More) to do waits anew, so that it cannot keep others from their turn.
    ///
    /// The queue is bounded by the tickets: submit at most one job for each ticket taken, or one for each of the
    /// [workers](Context::workers) while there is a ticket.
    pub fn submit(&mut self, cost: u64, job: impl Job<Reply = ()>) {
        let job = Charged::new(job, self.host);
        self.submit_task(Task::detached(self.token, cost, job));
    }

    /// How many jobs may be run at once: one for each worker, or one where the loop runs them itself. A large
    /// computation that is to use all of them is as many jobs.
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

/// A job without a ticket, on an account of its own until it is gone.
pub(crate) struct Charged<J> {
    job: J,
    _charge: Option<Charge>,
}

impl<J> Charged<J> {
    pub(crate) fn new(job: J, host: &Host) -> Self {
        Self { job, _charge: host.shared.detached.charge(1) }
    }
}

impl<J: Job<Reply = ()>> Job for Charged<J> {
    type Reply = ();
    fn run(&mut self, slice: Duration) -> Step<()> {
        self.job.run(slice)
    }
}

/// Requests a session makes through its context.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) finish: bool,
    /// The session says no more, but for these.
    pub(crate) last_words: Option<LastWords>,
    /// The peer is to end first.
    pub(crate) yields: bool,
    pub(crate) reading: Reading,
    /// When it read on after it had not.
    pub(crate) resumed: Duration,
    pub(crate) timer: Option<Duration>,
    pub(crate) next_job: u64,
    pub(crate) outstanding: usize,
    pub(crate) connects: VecDeque<Box<Outgoing>>,
}

impl Control {
    /// A ticket has come back, and its reply is about to be heard.
    pub(crate) fn comes_back(&mut self, id: JobId) {
        give_back(&mut self.outstanding, 1);
        if let Some(last) = &mut self.last_words {
            last.comes_back(id);
        }
    }

    /// Whether nothing may be written any more.
    pub(crate) fn is_silent(&self) -> bool {
        self.last_words.as_ref().is_some_and(LastWords::are_said)
    }
}

impl<S: Session> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("now", &self.now).field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::BytesMut;

    use super::*;
    use crate::{
        budget::Budget,
        connection::{Connection, Endpoint, Event, Op},
        host::Shared,
        queue::{Jobs, Queue},
    };

    /// Answers everything with a nonce.
    struct Nonces;

    impl Session for Nonces {
        type Reply = ();

        fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
            let mut nonce = [0; 16];
            cx.random(&mut nonce)?;
            cx.output().write(&nonce);
            input.consume(usize::MAX);
            Ok(())
        }
    }

    #[test]
    fn without_randomness_nothing_is_said_and_the_connection_is_aborted() {
        let shared = Shared::new(Budget::default());
        // Once there is some, and then half of what was asked for.
        let mut draws = 0;
        let random = move |bytes: &mut [u8]| {
            draws += 1;
            let filled = if draws == 1 { bytes.len() } else { bytes.len() / 2 };
            bytes[..filled].fill(7);
            if draws == 1 { Ok(()) } else { Err(io::Error::other("the pool is empty")) }
        };
        let jobs = Jobs::Inline(Queue::default().discipline());
        let mut host = Host::new(Arc::clone(&shared), random, SystemTime::now, jobs);
        let permit = shared.gate.admit(None).unwrap();
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let mut connection = Connection::accepted(Nonces, peer, shared, permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        let mut ask = |connection: &mut Connection<_>| {
            connection.handle(Duration::ZERO, Event::Received(&mut BytesMut::from("ahoy")), &mut host);
            let ops: Vec<Op> = std::iter::from_fn(|| connection.next()).collect();
            (connection.output().buffered(), ops)
        };
        assert_eq!(ask(&mut connection).0, 16);
        let (unsent, ops) = ask(&mut connection);
        assert!(unsent == 16 && matches!(ops[..], [Op::Close { reset: true }]), "{unsent} {ops:?}");
    }
}
