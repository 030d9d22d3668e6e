//! Requests that wait, and the passes over the rows that answer them: range by range, each in the turn of a job, and
//! whoever is the last answers.

use std::{
    marker::PhantomData,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use roadstead_proto::{Job, Step, Ticket, frame::Limits};

use super::{
    answers::{Allowance, Answers, Reply},
    batch::{self, Batch},
    cut::Cut,
    questions::{FetchQuery, SearchQuery, SharedQuery},
    ranges::added,
    resharing::{Resharing, Seed},
    store::{Store, StoreError},
};
use crate::{
    agreed::{
        refusal::CODE_STORE,
        wire::{Kind, Refusal},
    },
    arithmetic::lines::COLUMN,
};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) answers: Arc<Answers>,
    pub(crate) fetches: Batch<Pass<FetchQuery>>,
    pub(crate) searches: Batch<Pass<SearchQuery>>,
    pub(crate) shared: Batch<Pass<(SharedQuery, Seed)>>,
    pub(crate) resharing: Option<Resharing>,
}

/// A request that waits for its pass.
#[derive(Debug)]
pub(crate) struct Waiting<Q> {
    pub(crate) query: Q,
    pub(crate) ticket: Ticket<Reply>,
    pub(crate) allowance: Allowance,
}

/// What it takes to answer one.
type Answer = (Ticket<Reply>, Allowance);

/// What is asked, of which several are answered in one pass.
pub(crate) trait Question: Sized + Send + Sync + 'static {
    /// What a range of rows gives for all of them.
    type Part: Send;

    fn batch(shared: &Shared) -> &Batch<Pass<Self>>;
    /// Into which ranges a pass is cut.
    fn cut(store: &Store, workers: usize) -> Cut;
    fn compute(store: &Store, questions: &[Self], rows: Range<usize>) -> Result<Self::Part, StoreError>;
    /// Answers all from the parts, which are in the order of the rows.
    fn answer(shared: &Shared, questions: &[Self], parts: Vec<Self::Part>, answers: Vec<Answer>);
    fn counter(&self) -> u64;
}

/// A job for the requests of one kind, until none waits. Between two ranges it is the turn of others.
pub(crate) struct Passes<Q: Question> {
    shared: Arc<Shared>,
    cut: Cut,
    gone: bool,
    question: PhantomData<fn(Q)>,
}

impl<Q: Question> Passes<Q> {
    pub(crate) fn new(shared: Arc<Shared>, cut: Cut) -> Self {
        Self { shared, cut, gone: false, question: PhantomData }
    }
}

impl<Q: Question> Job for Passes<Q> {
    type Reply = ();

    fn run(&mut self, _: Duration) -> Step<()> {
        let (shared, cut) = (&self.shared, self.cut);
        let step = Q::batch(shared).turn(cut, |pass, number| pass.compute(shared, number));
        self.gone = step == Step::Done(());
        step
    }
}

impl<Q: Question> Drop for Passes<Q> {
    fn drop(&mut self) {
        if !self.gone {
            Q::batch(&self.shared).lose_job();
        }
    }
}

/// Requests that are answered together.
pub(crate) struct Pass<Q: Question> {
    cut: Cut,
    waiting: Mutex<Vec<Waiting<Q>>>,
    begun: OnceLock<Begun<Q>>,
}

struct Begun<Q: Question> {
    questions: Vec<Q>,
    progress: Mutex<Progress<Q>>,
}

struct Progress<Q: Question> {
    parts: Vec<Option<Q::Part>>,
    missing: usize,
    /// Nothing once they are used, or lost.
    answers: Option<Vec<Answer>>,
}

impl<Q: Question> batch::Pass for Pass<Q> {
    type Item = Waiting<Q>;

    fn new(items: Vec<Waiting<Q>>, cut: Cut) -> Self {
        Self { cut, waiting: Mutex::new(items), begun: OnceLock::new() }
    }
}

impl<Q: Question> Pass<Q> {
    /// Computes a range; the last one answers. Nothing is computed that nobody waits for any more.
    fn compute(&self, shared: &Shared, number: usize) {
        let begun = self.begun.get_or_init(|| self.begin());
        if !begun.is_awaited() {
            return;
        }
        let Begun { questions, progress } = begun;
        let mut losing = Losing(Some(progress));
        let found = Q::compute(&shared.store, questions, self.cut.range(number));
        let (parts, answers) = match found {
            Ok(part) => {
                let mut progress = lock(progress);
                progress.parts[number] = Some(part);
                progress.missing -= 1;
                if progress.missing > 0 {
                    losing.0 = None;
                    return;
                }
                (progress.parts.drain(..).flatten().collect(), progress.answers.take())
            }
            Err(error) => {
                let answers = lock(progress).answers.take();
                refuse_all(&error, questions.iter().map(Q::counter), answers.unwrap_or_default());
                (Vec::new(), None)
            }
        };
        losing.0 = None;
        if let Some(answers) = answers {
            Q::answer(shared, questions, parts, answers);
        }
    }

    /// The requests whose clients are still there.
    fn begin(&self) -> Begun<Q> {
        let (questions, answers) = living(std::mem::take(&mut *lock(&self.waiting)));
        let count = self.cut.count();
        let parts = (0..count).map(|_| None).collect();
        let progress = Progress { parts, missing: count, answers: Some(answers) };
        Begun { questions, progress: Mutex::new(progress) }
    }
}

impl<Q: Question> Begun<Q> {
    /// False if all have been refused or lost, or have left: then their memory is free.
    fn is_awaited(&self) -> bool {
        let mut progress = lock(&self.progress);
        let mut answers = progress.answers.iter().flatten();
        let awaited = answers.any(|(ticket, _)| !ticket.is_cancelled());
        let left = if awaited { None } else { progress.answers.take() };
        drop(progress);
        drop(left);
        awaited
    }
}

/// Loses the requests of a pass in which a range panics: whoever asked is told at once.
struct Losing<'a, Q: Question>(Option<&'a Mutex<Progress<Q>>>);

impl<Q: Question> Drop for Losing<'_, Q> {
    fn drop(&mut self) {
        let lost = self.0.and_then(|progress| lock(progress).answers.take());
        drop(lost);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Question for FetchQuery {
    type Part = Vec<Vec<[u8; COLUMN]>>;

    fn batch(shared: &Shared) -> &Batch<Pass<Self>> {
        &shared.fetches
    }

    fn cut(store: &Store, workers: usize) -> Cut {
        store.cut_components(workers)
    }

    fn compute(store: &Store, questions: &[Self], rows: Range<usize>) -> Result<Self::Part, StoreError> {
        Ok(store.fetch_rows(questions, rows))
    }

    fn answer(shared: &Shared, questions: &[Self], parts: Vec<Self::Part>, answers: Vec<Answer>) {
        let bodies = shared.store.fetched(questions, parts);
        for (body, (ticket, allowance)) in bodies.into_iter().zip(answers) {
            ticket.finish(Reply::new(Kind::Fetched, body, allowance));
        }
    }

    fn counter(&self) -> u64 {
        self.counter
    }
}

impl Question for SearchQuery {
    type Part = Vec<Vec<u8>>;

    fn batch(shared: &Shared) -> &Batch<Pass<Self>> {
        &shared.searches
    }

    fn cut(store: &Store, workers: usize) -> Cut {
        store.cut_shares(workers)
    }

    fn compute(store: &Store, questions: &[Self], rows: Range<usize>) -> Result<Self::Part, StoreError> {
        store.search_rows(questions, rows)
    }

    /// Nothing is put together: the answers are sent as the pieces that they were written in.
    fn answer(_: &Shared, questions: &[Self], parts: Vec<Self::Part>, answers: Vec<Answer>) {
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        for (question, (ticket, allowance)) in questions.iter().zip(answers) {
            let pieces = parts.iter_mut().filter_map(Iterator::next).collect();
            ticket.finish(Reply::woven(Kind::Searched, pieces, question.vectors.len(), allowance));
        }
    }

    fn counter(&self) -> u64 {
        self.counter
    }
}

/// A pass begins to share what came of it. The tickets are finished when the others have sent their parts, so the next
/// pass does not wait for the network.
impl Question for (SharedQuery, Seed) {
    type Part = Vec<Vec<u32>>;

    fn batch(shared: &Shared) -> &Batch<Pass<Self>> {
        &shared.shared
    }

    fn cut(store: &Store, workers: usize) -> Cut {
        store.cut_shares(workers)
    }

    fn compute(store: &Store, questions: &[Self], rows: Range<usize>) -> Result<Self::Part, StoreError> {
        store.combine_rows(questions.iter().map(|(query, _)| query), rows)
    }

    fn answer(shared: &Shared, questions: &[Self], parts: Vec<Self::Part>, answers: Vec<Answer>) {
        let Some(resharing) = &shared.resharing else { return };
        let server = (shared.store.party(), shared.store.manifest());
        for ((question, sums), answer) in questions.iter().zip(&added(parts)).zip(answers) {
            resharing.begin(server, question, sums, answer);
        }
    }

    fn counter(&self) -> u64 {
        self.0.counter
    }
}

/// The requests whose clients are still there, and what it takes to answer them.
fn living<Q>(waiting: Vec<Waiting<Q>>) -> (Vec<Q>, Vec<Answer>) {
    let living = waiting.into_iter().filter(|waiting| !waiting.ticket.is_cancelled());
    living.map(|Waiting { query, ticket, allowance }| (query, (ticket, allowance))).unzip()
}

/// Refuses requests because the server's own shares cannot be read.
fn refuse_all(error: &StoreError, counters: impl Iterator<Item = u64>, answers: Vec<Answer>) {
    tracing::error!(%error, "the search shares cannot be read");
    for (counter, (ticket, allowance)) in counters.zip(answers) {
        let text = "the server cannot read its search shares".into();
        let body = Refusal { counter, code: CODE_STORE, text }.encode();
        ticket.finish(Reply::new(Kind::Refusal, body, allowance));
    }
}

#[cfg(test)]
mod tests;
