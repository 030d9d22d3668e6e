//! One journal for many sessions: what waits together is written together.
//!
//! A session leaves its record in the line, with a ticket, and one job sees to the line: it takes what waits there,
//! appends it in one piece, and finishes the tickets. While it waits for the disk more comes into the line. So a session
//! waits for nothing, a burst costs one sync, and a record is answered for when it is durable.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    compaction::Compaction,
    error::JournalError,
    log::Journal,
    record::{BATCH, HEAD},
};
use crate::{
    queue::{Job, Step},
    session::{Busy, Context, Session},
    ticket::JobId,
};

/// A [`Journal`] that the sessions of a service share.
///
/// Records are in the log in the order in which they were left, and answered for in that order; who hears of one knows
/// that all before it are durable. At most [`BATCH`] bytes wait.
///
/// The disk is asked by a job, and where the loop runs its jobs itself, all its connections wait for that: have a worker
/// (`Server::workers`).
///
/// ```
/// # use roadstead_proto as roadstead;
/// use std::time::Duration;
/// use roadstead::{Close, Context, Done, Input, JobId, Lost, Session, journal::{JournalError, SharedJournal}};
///
/// /// Notes down whatever it receives, and says so when it is durable.
/// struct Notes { journal: SharedJournal }
///
/// impl Session for Notes {
///     type Reply = Result<(), JournalError>;
///
///     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
///         match self.journal.append(cx, input.bytes().to_vec(), |noted| noted) {
///             Ok(_) => input.consume(usize::MAX),
///             // It is left unread, and given to us again then.
///             Err(_) => cx.wake_at(Some(cx.now() + Duration::from_millis(10))),
///         }
///         Ok(())
///     }
///
///     fn reply(&mut self, _: JobId, noted: Result<Self::Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
///         match noted {
///             Ok(Ok(())) => cx.output().write(b"noted\n"),
///             Ok(Err(error)) => return Err(Close::abort(error.to_string())),
///             Err(lost) => return Err(Close::abort(lost.to_string())),
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct SharedJournal(Arc<Shared>);

struct Shared {
    /// Held while the disk is asked, by the one job that does.
    journal: Mutex<Journal>,
    /// Held for a moment.
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Wish>,
    /// What the records in it come to, with their heads.
    bytes: usize,
    /// There is a job for it.
    attended: bool,
}

/// What a session has asked for.
enum Wish {
    Append(Vec<u8>, Answer),
    Compact(Keep, Answer),
}

type Answer = Box<dyn FnOnce(Result<(), JournalError>) + Send>;
type Keep = Box<dyn FnOnce(&mut Compaction) -> Result<(), JournalError> + Send>;

impl SharedJournal {
    /// Shares `journal`.
    pub fn new(journal: Journal) -> Self {
        Self(Arc::new(Shared { journal: Mutex::new(journal), line: Mutex::default() }))
    }

    /// Leaves a record to be appended. What `answer` makes of the outcome comes to [`Session::reply`].
    ///
    /// # Errors
    /// [`Busy`] when as many tickets are outstanding as the budget allows, or as many bytes wait as may.
    pub fn append<S: Session>(
        &self,
        cx: &mut Context<'_, S>,
        record: Vec<u8>,
        answer: impl FnOnce(Result<(), JournalError>) -> S::Reply + Send + 'static,
    ) -> Result<JobId, Busy> {
        let cost = HEAD + record.len();
        self.ask(cx, cost, answer, |answer| Wish::Append(record, answer))
    }

    /// Leaves the wish to replace all records that were left before by those that `keep` appends: see
    /// [`Journal::compact`].
    ///
    /// # Errors
    /// [`Busy`] when as many tickets are outstanding as the budget allows.
    pub fn compact<S: Session>(
        &self,
        cx: &mut Context<'_, S>,
        keep: impl FnOnce(&mut Compaction) -> Result<(), JournalError> + Send + 'static,
        answer: impl FnOnce(Result<(), JournalError>) -> S::Reply + Send + 'static,
    ) -> Result<JobId, Busy> {
        self.ask(cx, 0, answer, |answer| Wish::Compact(Box::new(keep), answer))
    }

    fn ask<S: Session>(
        &self,
        cx: &mut Context<'_, S>,
        cost: usize,
        answer: impl FnOnce(Result<(), JournalError>) -> S::Reply + Send + 'static,
        wish: impl FnOnce(Answer) -> Wish,
    ) -> Result<JobId, Busy> {
        let mut line = self.0.line();
        // One that is larger than all that may wait is refused by the journal.
        if line.bytes > 0 && line.bytes + cost > BATCH {
            return Err(Busy);
        }
        let ticket = cx.ticket()?;
        let id = ticket.id();
        line.waiting.push_back(wish(Box::new(move |done| ticket.finish(answer(done)))));
        line.bytes += cost;
        if !line.attended {
            line.attended = true;
            drop(line);
            cx.submit(cost as u64, Attendant(Some(Arc::clone(&self.0))));
        }
        Ok(id)
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what waits, up to a compaction or that alone.
    fn attend(&self) {
        let (records, answers) = self.line().take_records();
        if !answers.is_empty() {
            return self.append(records, answers);
        }
        let Some(Wish::Compact(keep, answer)) = self.line().waiting.pop_front() else { return };
        let done = self.journal().compact(keep);
        answer(done);
    }

    fn append(&self, records: Vec<Vec<u8>>, answers: Vec<Answer>) {
        let mut journal = self.journal();
        let outcomes =
            match journal.append(&records) {
                // One of them is too much, and not the fault of the others.
                Err(
                    JournalError::Full { .. } | JournalError::TooLarge { .. } | JournalError::TooMany { .. },
                ) if records.len() > 1 => records.iter().map(|record| journal.append(&[record])).collect(),
                done => vec![done; records.len()],
            };
        drop(journal);
        answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| answer(outcome));
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The records that are first in the line.
    fn take_records(&mut self) -> (Vec<Vec<u8>>, Vec<Answer>) {
        let mut taken = (Vec::new(), Vec::new());
        while let Some(Wish::Append(..)) = self.waiting.front()
            && let Some(Wish::Append(record, answer)) = self.waiting.pop_front()
        {
            self.bytes -= HEAD + record.len();
            taken.0.push(record);
            taken.1.push(answer);
        }
        taken
    }
}

/// The job that sees to a line, until nothing waits there.
struct Attendant(Option<Arc<Shared>>);

impl Job for Attendant {
    type Reply = ();

    fn run(&mut self, _: Duration) -> Step<()> {
        let Some(shared) = &self.0 else { return Step::Done(()) };
        shared.attend();
        let mut line = shared.line();
        if !line.waiting.is_empty() {
            return Step::More;
        }
        line.attended = false;
        drop(line);
        self.0 = None;
        Step::Done(())
    }
}

impl Drop for Attendant {
    /// It was lost, by a panic or with the server's queue: nobody comes for what waits, and those who asked hear of it.
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            let lost = std::mem::take(&mut *shared.line());
            drop(lost);
        }
    }
}

impl fmt::Debug for SharedJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedJournal").finish_non_exhaustive()
    }
}
