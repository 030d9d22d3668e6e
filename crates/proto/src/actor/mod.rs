//! State that many connections use, and that one thread at a time has: an actor.
//!
//! ```text
//! session ── ask ──▶ nobody has it: done here and now ──▶ Asked::Done
//!                └─▶ somebody has it: Mailbox ──▶ done by whoever has it ── Ticket ──▶ Session::reply
//! ```
//! No thread is kept for an actor, and none waits for it. Whoever finds it idle has it, does its own operation, and
//! then what others have left in the mailbox meanwhile; whoever finds it busy leaves its operation there and goes on.
#![forbid(unsafe_code)]

mod asker;
mod mailbox;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    budget::{Charge, Meter},
    datagrams::{DatagramContext, DatagramSession},
    guard::{self, Guarded},
    queue::{Job, Step},
    session::{Busy, Context, Session},
    ticket::{JobId, Lost, Ticket},
};
pub use asker::Asker;
use mailbox::{Comes, Mailbox};

/// Operations that may wait for an actor.
pub const WAITING: usize = mailbox::PLACES;

/// The bytes that these may come to together, as those who ask say.
pub const BYTES: usize = 4 << 20;

/// As many operations of others does one who has the actor before its connections have their turn.
const SHARE: usize = 64;

/// State that many sessions share, on whatever loops they are: what is to be done with it is asked for, and done by one
/// thread at a time, which none of the others waits for.
///
/// Operations are done one after the other, those of a session in the order in which it has asked. An operation must
/// not block: whoever asks while it does gets its reply so much later, and whoever has the actor is its loop. Have few
/// operations that do much: one message for all that a session has read costs what one for a single command does.
///
/// A service with an actor is of [`Scope::Process`](crate::Scope::Process), and the models that fork refuse it. Where
/// one actor has too much to do, have several, and choose by a hash of the key.
///
/// # Panics in an operation
/// Whoever has asked hears that it is [`Lost`], and nobody else hears of it. The state is as the operation has left it,
/// so one that is to be done wholly or not at all changes nothing before it can fail.
///
/// # Who is gone
/// What a connection has asked for is not done any more if it waits when the connection closes. What it was answered
/// for is done. Where the state is to hear that somebody has gone, the session keeps [what tells it](Actor::at_end).
///
/// ```
/// # use roadstead_proto as roadstead;
/// use std::time::Duration;
/// use roadstead::{Actor, Asked, Close, Context, Done, Input, JobId, Lost, Session};
///
/// /// Answers every message with its number among those of all connections.
/// struct Counting { count: Actor<u64>, waits: bool }
///
/// impl Session for Counting {
///     type Reply = u64;
///
///     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
///         if self.waits {
///             // An answer that was given now would overtake the one before it.
///             return Ok(());
///         }
///         let asked = self.count.ask(cx, 0, |count| { *count += 1; *count });
///         match asked {
///             Ok(Asked::Done(number)) => self.answer(number, cx)?,
///             Ok(Asked::Later(_)) => self.waits = true,
///             Err(_) => { cx.wake_at(Some(cx.now() + Duration::from_millis(1))); return Ok(()) }
///         }
///         input.consume(usize::MAX);
///         Ok(())
///     }
///
///     fn reply(&mut self, _: JobId, number: Result<u64, Lost>, cx: &mut Context<'_, Self>) -> Done {
///         self.waits = false;
///         self.answer(number, cx)
///     }
/// }
///
/// impl Counting {
///     fn answer(&self, number: Result<u64, Lost>, cx: &mut Context<'_, Self>) -> Done {
///         let number = number.map_err(|lost| Close::abort(lost.to_string()))?;
///         cx.output().write(format!("{number}\n").as_bytes());
///         Ok(())
///     }
/// }
/// ```
pub struct Actor<S>(Arc<Inner<S>>);

struct Inner<S> {
    mailbox: Mailbox<Message<S>>,
    /// Of what waits.
    bytes: Arc<Meter>,
    /// Only whoever has the actor locks it, and so finds it free.
    state: Mutex<Guarded<S>>,
    /// Operations that have panicked.
    panics: AtomicU64,
}

/// What has become of what was asked for.
#[derive(Debug)]
#[must_use]
pub enum Asked<R> {
    /// It is done. [`Lost`] if it has panicked.
    Done(Result<R, Lost>),
    /// Somebody else has the actor and will do it: the reply comes to [`Session::reply`]. What
    /// the session asks for next may be done sooner than it hears of this.
    Later(JobId),
}

impl<S: Send + 'static> Actor<S> {
    /// Shares `state`.
    pub fn new(state: S) -> Self {
        let state = Mutex::new(Guarded::new(state));
        let (mailbox, bytes) = (Mailbox::new(WAITING), Meter::new(BYTES));
        Self(Arc::new(Inner { mailbox, bytes, state, panics: AtomicU64::new(0) }))
    }

    /// Has `operation` done, which holds about so many `bytes`: here and now if nobody has the actor.
    ///
    /// # Errors
    /// [`Busy`] when somebody has it, and as many operations or bytes wait as may, or as many tickets are outstanding as
    /// the budget allows. What cannot be put off is left unread, and asked for again a little later.
    pub fn ask<C: Asker>(
        &self,
        cx: &mut C,
        bytes: usize,
        operation: impl FnOnce(&mut S) -> C::Reply + Send + 'static,
    ) -> Result<Asked<C::Reply>, Busy> {
        let Self(inner) = self;
        if !cx.is_overtaken() && inner.mailbox.claim() {
            let done = inner.perform(operation);
            self.serve(cx);
            return Ok(Asked::Done(done));
        }
        let charge = inner.bytes.charge(bytes.min(BYTES));
        let (Some(charge), Some(place)) = (charge, inner.mailbox.reserve()) else {
            // Those who wait may be of a server that has ended, and have nobody else.
            if inner.mailbox.look() == Comes::Caller {
                self.serve(cx);
            }
            return Err(Busy);
        };
        let ticket = cx.new_ticket()?;
        let id = ticket.id();
        let operation = move |state: &mut S| {
            if !ticket.is_cancelled() {
                ticket.finish(operation(state));
            }
        };
        let message = Message { operation: Guarded::new(Box::new(operation)), _charge: Some(charge) };
        match place.post(message) {
            // Whoever had it has just let go of it.
            Comes::Caller if !cx.is_overtaken() => self.serve(cx),
            Comes::Caller => cx.queue(Turn::of(inner, true)),
            Comes::Perhaps => cx.queue(Turn::of(inner, false)),
            Comes::Another => {}
        }
        Ok(Asked::Later(id))
    }

    /// Has `operation` done when the answer is dropped: a session keeps that for as long as the state knows of it, and
    /// it is dropped with the session, however its connection ends. It is always done, after what was asked for before;
    /// here and now if nobody has the actor, and else by whoever has it. Nobody hears of it. Have it before the state is
    /// told of the session, which may close before it hears that this was done.
    ///
    /// There is always room for it, so have one for the life of a session, and not one for each thing that a peer asks:
    /// what is dropped while the actor is busy waits there without a limit.
    pub fn at_end(&self, operation: impl FnOnce(&mut S) + Send + 'static) -> AtEnd<S> {
        AtEnd(Some((Arc::clone(&self.0), Box::new(operation))))
    }

    /// How many operations wait.
    pub fn waiting(&self) -> usize {
        self.0.mailbox.taken()
    }

    /// Does its share of what others have left, and leaves the rest to a job.
    fn serve(&self, cx: &mut impl Asker) {
        if self.0.serve() {
            cx.queue(Turn::of(&self.0, true));
        }
    }
}

/// Has something done with an actor's state when it is dropped: see [`Actor::at_end`].
#[must_use]
pub struct AtEnd<S>(Option<(Arc<Inner<S>>, Operation<S>)>);

impl<S> Drop for AtEnd<S> {
    fn drop(&mut self) {
        let Some((inner, operation)) = self.0.take() else { return };
        if inner.mailbox.post_last(Message { operation: Guarded::new(operation), _charge: None }) {
            inner.serve_in_a_hurry();
        }
    }
}

impl<S: Default + Send + 'static> Default for Actor<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S> Clone for Actor<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Inner<S> {
    fn state(&self) -> MutexGuard<'_, Guarded<S>> {
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("only whoever has the actor is at its state"),
        }
    }

    fn perform<R>(&self, operation: impl FnOnce(&mut S) -> R) -> Result<R, Lost> {
        let mut state = self.state();
        guard::call(|| operation(&mut state)).ok_or_else(|| {
            let panics = self.panics.fetch_add(1, Relaxed) + 1;
            // Whoever has found what panics may ask for it without an end.
            if panics.is_power_of_two() {
                tracing::error!(
                    panics,
                    "an operation on shared state panicked; whoever asked was told that it is lost"
                );
            }
            Lost
        })
    }

    /// Does what waits, and lets go of the actor when nothing does. True if there may be more, for which whoever asks
    /// this still has it.
    fn serve(&self) -> bool {
        let mut done = 0;
        while done < SHARE {
            let Some(messages) = self.mailbox.take() else { return false };
            done += messages.len();
            self.perform_all(messages);
        }
        true
    }

    /// Does what waits, and leaves what comes meanwhile to who asks for it, since there is no job to leave it to.
    fn serve_in_a_hurry(&self) {
        while let Some(messages) = self.mailbox.take() {
            self.perform_all(messages);
            if self.mailbox.let_go() {
                return;
            }
        }
    }

    fn perform_all(&self, messages: Vec<Message<S>>) {
        for Message { operation, _charge } in messages {
            let _ = self.perform(operation.into_inner());
        }
    }
}

type Operation<S> = Box<dyn FnOnce(&mut S) + Send>;

/// An operation that waits.
struct Message<S> {
    operation: Guarded<Operation<S>>,
    /// What it holds. Nothing of a last word, of which there is one for each session.
    _charge: Option<Charge>,
}

/// The job that has an actor until nothing waits there, or looks whether somebody has it.
struct Turn<S> {
    inner: Arc<Inner<S>>,
    has: bool,
    over: bool,
}

impl<S> Turn<S> {
    fn of(inner: &Arc<Inner<S>>, has: bool) -> Self {
        Self { inner: Arc::clone(inner), has, over: false }
    }
}

impl<S: Send + 'static> Job for Turn<S> {
    type Reply = ();

    fn run(&mut self, _: Duration) -> Step<()> {
        if !self.has {
            match self.inner.mailbox.look() {
                Comes::Caller => self.has = true,
                Comes::Perhaps => return Step::More,
                Comes::Another => {}
            }
        }
        if self.has && self.inner.serve() {
            return Step::More;
        }
        self.over = true;
        Step::Done(())
    }
}

impl<S> Drop for Turn<S> {
    /// The queue has gone with it. The actor may have others who ask, and who do not know.
    fn drop(&mut self) {
        if self.has && !self.over {
            self.inner.mailbox.hurry();
            self.inner.serve_in_a_hurry();
        }
    }
}

impl<S: Session> asker::Sealed for Context<'_, S> {}

impl<S: Session> Asker for Context<'_, S> {
    type Reply = S::Reply;

    fn new_ticket(&mut self) -> Result<Ticket<S::Reply>, Busy> {
        self.ticket()
    }
    fn queue(&mut self, job: impl Job<Reply = ()>) {
        self.submit(0, job);
    }
    fn is_overtaken(&mut self) -> bool {
        self.host.is_overtaken()
    }
}

impl<S: DatagramSession> asker::Sealed for DatagramContext<'_, S> {}

impl<S: DatagramSession> Asker for DatagramContext<'_, S> {
    type Reply = S::Reply;

    fn new_ticket(&mut self) -> Result<Ticket<S::Reply>, Busy> {
        self.ticket()
    }
    fn queue(&mut self, job: impl Job<Reply = ()>) {
        self.submit(0, job);
    }
    fn is_overtaken(&mut self) -> bool {
        self.host.is_overtaken()
    }
}

impl<S> fmt::Debug for AtEnd<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtEnd").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Actor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor").field("mailbox", &self.0.mailbox).finish_non_exhaustive()
    }
}
