//! A server of the three, as a service of the engine: requests that wait together are answered in one pass.
//!
//! A session parses and admits; it never computes. What it admits goes into a batch that all connections share, with
//! a ticket for the answer, and jobs empty the batch. So the requests that arrived in one turn of the loop, on however
//! many connections, and those that come while a pass is running, share the next pass. With several workers a pass is
//! cut into ranges of rows, so that all of them have a part in it.

pub mod admission;
mod answers;
mod batch;
mod cut;
mod outages;
mod passes;
pub mod peers;
mod questions;
mod ranges;
mod resharing;
mod search_shares;
pub mod store;

use std::{fmt, sync::Arc, time::Duration};

use roadstead_proto::{
    Budget, Close, Context, Done, Frame, Input, JobId, Lost, Peer, Ready, Scope, Service, Session,
    frame::Fields, frame::HEAD, frame::Limits, frame::Parsed,
};

pub use crate::agreed::refusal::{CODE_NO_PEERS, CODE_PEERS, CODE_STORE};
use crate::agreed::{
    manifest::Manifest,
    refusal::Refused,
    trust,
    wire::{self, COUNTER, Kind, Refusal},
};
use admission::{Admission, Admitted};
pub use answers::Reply;
use answers::{Allowance, Answers, Place};
use batch::Batch;
use passes::{Passes, Question, Shared, Waiting};
use peers::Peers;
use resharing::{Resharing, Seed};
use store::Store;

/// Fetches answered in one pass over the rows: more gain nothing and delay the first.
const FETCHES: usize = 16;
/// Fetches whose results stay shared: those that are computed leave together, so with more all of a client's would be on
/// the road at once, and the processors idle; with fewer the rows are read more often.
const SHARED: usize = 8;
/// Searches answered in one pass over the search shares.
const SEARCHES: usize = 4;

/// Bytes that answers may hold together, unless a single one is larger.
const ANSWERS: usize = 16 << 20;

/// Connections open at once.
const CONNECTIONS: usize = 1_000;
/// Requests of one connection that are admitted and not answered: several passes, so that none is waited for. The rest
/// is left unread, so that one client's flood cannot use up the tickets of all.
const QUESTIONS: usize = 64;

/// How long an answer may wait to be taken by its client while other clients wait for memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// One of the three servers. What it speaks with its clients, [`trust::acceptor`] says.
#[derive(Debug, Clone)]
pub struct Trident(Arc<Shared>);

impl Trident {
    /// A server of the shares in `store`, without peers: it refuses fetches whose results stay shared.
    pub fn new(store: Store) -> Self {
        Self::of(store, None)
    }

    /// A server of the shares in `store` that shares results with `peers`, and waits for their parts of a row as long as
    /// `patience` says, by default [`peers::PATIENCE`]; then it refuses the fetch, with the names of who is missing.
    pub fn with_peers(store: Store, peers: impl Peers, patience: Duration) -> Self {
        Self::of(store, Some(Resharing::new(peers, patience)))
    }

    fn of(store: Store, resharing: Option<Resharing>) -> Self {
        let limits = Limits { fields: 0, body: wire::max_request(store.manifest()) };
        let answers = Answers::new(ANSWERS.max(wire::max_answer(store.manifest())));
        let (fetches, searches, shared) = (Batch::new(FETCHES), Batch::new(SEARCHES), Batch::new(SHARED));
        Self(Arc::new(Shared { store, limits, answers, fetches, searches, shared, resharing }))
    }

    /// A budget that fits the collection: a connection may have as many answers under way as sixteen of the largest,
    /// in 32 MiB, or four of the largest where those are more.
    pub fn budget(&self) -> Budget {
        budget(self.0.store.manifest())
    }
}

fn budget(manifest: &Manifest) -> Budget {
    let largest = wire::max_answer(manifest) + wire::max_request(manifest) + 64;
    let each = (16 * largest).clamp(1 << 20, 32 << 20).max(4 * largest);
    let budget = Budget::default().connections(CONNECTIONS).jobs(CONNECTIONS * QUESTIONS);
    budget.buffer_each(each).buffer_all((8 * each).max(256 << 20))
}

impl Service for Trident {
    type Session = TridentSession;
    /// Requests of all connections are answered together.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> TridentSession {
        TridentSession {
            shared: Arc::clone(&self.0),
            admission: None,
            asked: 0,
            owed: 0,
            line: None,
            written: 0,
            due: None,
        }
    }
}

/// One client's connection.
pub struct TridentSession {
    shared: Arc<Shared>,
    /// Made with the first message, when randomness for its nonce is at hand.
    admission: Option<Box<Admission>>,
    /// Requests whose answers are being computed.
    asked: usize,
    /// Bytes of those answers: they will all want room in the output.
    owed: usize,
    /// Where it waits for memory for the answer to what it left unread.
    line: Option<Place>,
    /// Bytes of answers written so far.
    written: usize,
    /// How many of them have to be gone when the timer fires.
    due: Option<usize>,
}

impl fmt::Debug for TridentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TridentSession").field("owed", &self.owed).finish_non_exhaustive()
    }
}

impl Session for TridentSession {
    type Reply = Reply;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let parsed = Frame::parse(input.bytes(), &self.shared.limits);
        let frame = match parsed.map_err(|error| refuse(&error.into(), cx))? {
            Parsed::Need(bytes) => {
                input.need(bytes);
                return Ok(());
            }
            Parsed::Frame(frame) => frame,
        };
        let kind = Kind::try_from(frame.kind).map_err(|error| refuse(&error.into(), cx))?;
        if self.admission.is_none() {
            let asks = trust::may_ask(self.shared.store.manifest(), cx.identity());
            asks.map_err(|refused| refuse(&refused, cx))?;
        }
        let Some(allowance) = self.reserve(kind, frame.body, cx)? else {
            // Left unread: shown again when an answer has gone out.
            return Ok(());
        };
        if self.admission.is_none() {
            let mut nonce = [0; 16];
            cx.random(&mut nonce)?;
            self.admission = Some(Box::new(Admission::new(nonce)));
        }
        let Some(admission) = &mut self.admission else { return Ok(()) };
        let admitted = admission.receive(&self.shared.store, kind, frame.body);
        let length = frame.len();
        input.consume(length);
        let admitted = admitted.map_err(|refused| refuse(&refused, cx))?;
        self.serve(admitted, allowance, cx)
    }

    fn reply(&mut self, _: JobId, reply: Result<Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let reply = reply.map_err(|lost| Close::abort(lost.to_string()))?;
        self.asked -= 1;
        self.owed -= reply.reserved;
        self.written = self.written.wrapping_add(HEAD + reply.len());
        if self.due.is_none() {
            self.watch(cx);
        }
        Frame::begin(cx.output(), reply.kind as u8, &Fields::new(), reply.len());
        reply.body.into_iter().for_each(|piece| cx.output().send(piece));
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Timer => return self.press(cx),
            Ready::Draining => cx.finish(),
            _ => {}
        }
        Ok(())
    }
}

impl TridentSession {
    /// Does what was admitted: at once, or by putting it before the logic unit.
    fn serve(&mut self, admitted: Admitted, allowance: Allowance, cx: &mut Context<'_, Self>) -> Done {
        match admitted {
            Admitted::Welcome(body) => Frame::send(cx.output(), Kind::Welcome as u8, &body),
            Admitted::Ready => {}
            Admitted::Fetch(query) => self.enqueue(query, allowance, cx)?,
            Admitted::FetchShare(query) if self.shared.resharing.is_some() => {
                let mut seed = Seed::default();
                cx.random(&mut *seed)?;
                self.enqueue((query, seed), allowance, cx)?;
            }
            Admitted::FetchShare(query) => {
                let text = "this server was started without its peers, which this protocol needs".into();
                let refusal = Refusal { counter: query.counter(), code: CODE_NO_PEERS, text };
                Frame::send(cx.output(), Kind::Refusal as u8, &refusal.encode());
            }
            Admitted::Search(query) => self.enqueue(query, allowance, cx)?,
        }
        Ok(())
    }

    /// What is written until now has to be gone in a while.
    fn watch(&mut self, cx: &mut Context<'_, Self>) {
        self.due = Some(self.written);
        cx.wake_at(Some(cx.now() + PATIENCE));
    }

    /// A client that does not take its answers may keep the memory for them until others need it.
    fn press(&mut self, cx: &mut Context<'_, Self>) -> Done {
        let unsent = cx.output().buffered();
        let overdue = self.due.take().is_some_and(|due| self.written.wrapping_sub(due) < unsent);
        if overdue && self.shared.answers.is_short() {
            return Err(Close::abort("it does not take its answers, and others wait for the memory"));
        }
        if unsent > 0 {
            self.watch(cx);
        }
        Ok(())
    }

    /// Memory for the answer to this message, if there is some: for the connection and for the server.
    fn reserve(
        &mut self,
        kind: Kind,
        body: &[u8],
        cx: &mut Context<'_, Self>,
    ) -> Result<Option<Allowance>, Close> {
        if self.asked >= QUESTIONS {
            return Ok(None);
        }
        let manifest = self.shared.store.manifest();
        let body = match kind {
            Kind::Fetch => wire::fetched_len(manifest),
            Kind::Search => wire::searched_len(manifest, body.get(COUNTER) == Some(&1)),
            Kind::FetchShare => wire::fetched_share_len(manifest),
            _ => wire::Welcome::LEN,
        };
        let bytes = HEAD + body.max(COUNTER + 2 + wire::MAX_TEXT);
        if self.owed + bytes > cx.output().room() {
            let hopeless = self.owed == 0 && cx.output().is_empty();
            return if hopeless {
                Err(Close::abort("the budget has no room for a single answer"))
            } else {
                Ok(None)
            };
        }
        if let Some(place) = &self.line {
            let granted = place.granted();
            if granted.is_some() {
                self.line = None;
            }
            return Ok(granted);
        }
        match self.shared.answers.reserve(bytes, || cx.waker()) {
            Ok(allowance) => Ok(Some(allowance)),
            Err(place) => {
                self.line = Some(place);
                Ok(None)
            }
        }
    }

    /// Puts a request before the logic units: into its batch, which as many of them see to as have a part in its pass.
    fn enqueue<Q: Question>(&mut self, query: Q, allowance: Allowance, cx: &mut Context<'_, Self>) -> Done {
        let ticket = cx.ticket().map_err(|busy| Close::violation(busy.to_string()))?;
        self.asked += 1;
        self.owed += allowance.bytes();
        let workers = cx.workers();
        let cut = Q::cut(&self.shared.store, workers);
        let missing =
            Q::batch(&self.shared).put(Waiting { query, ticket, allowance }, workers.min(cut.count()));
        for _ in 0..missing {
            cx.submit(1, Passes::<Q>::new(Arc::clone(&self.shared), cut));
        }
        Ok(())
    }
}

/// The last word to a client that broke the protocol, and the reason for which its connection is closed.
fn refuse(refused: &Refused, cx: &mut Context<'_, TridentSession>) -> Close {
    tracing::warn!(peer = %cx.peer().address, reason = %refused, "client refused");
    Frame::send(cx.output(), Kind::Refusal as u8, &refused.refusal().encode());
    Close::violation(refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agreed::manifest::{Element, SharingId},
        arithmetic::party::Party,
        owner::{data::Generated, share},
    };

    #[test]
    fn a_connection_may_buffer_sixteen_of_the_largest_answers_or_as_many_as_are_reasonable() {
        for (rows, each) in [
            (1, |_| 1 << 20),
            (50_000, |largest| 16 * largest),
            (300_000, |_| 32 << 20),
            (3_000_000, |largest| 4 * largest),
        ] as [(usize, fn(usize) -> usize); 4]
        {
            let manifest = Manifest::new(SharingId([0; 16]), rows, 8, Element::U8, true).unwrap();
            let each = each(wire::max_answer(&manifest) + wire::max_request(&manifest) + 64);
            let budget = budget(&manifest);
            assert_eq!((budget.buffer_each, budget.buffer_all), (each, (8 * each).max(256 << 20)), "{rows}");
            assert_eq!((budget.connections, budget.jobs), (1_000, 64_000));
        }
    }

    #[test]
    fn a_pass_answers_sixteen_fetches_or_eight_whose_results_stay_shared_or_four_searches() {
        let dir = tempfile::tempdir().unwrap();
        let options = share::Options { search: true, ..Default::default() };
        share::share(&mut Generated::new(40, 1), dir.path(), options, |_, _| {}).unwrap();
        let party = Party::ALL[1];
        let store = Store::open(&share::server_dir(dir.path(), party), party, u64::MAX).unwrap();
        let Trident(shared) = Trident::new(store);
        let most = |batch: &dyn fmt::Debug| format!("{batch:?}");
        for (batch, count) in
            [(most(&shared.fetches), 16), (most(&shared.searches), 4), (most(&shared.shared), 8)]
        {
            assert_eq!(batch, format!("Batch {{ most: {count}, .. }}"));
        }
    }
}
