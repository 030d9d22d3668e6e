//! A server of the three, as a service of the engine: requests that wait together are answered in one pass.
//!
//! A session parses and admits; it never computes. What it admits goes into a [`Batch`] that all connections share,
//! with a ticket for the answer, and one task empties the batch. So the requests that arrived in one turn of the loop,
//! on however many connections, and those that come while a pass is running, share the next pass.
#![forbid(unsafe_code)]

use std::{fmt, sync::Arc};

use roadstead::{
    Budget, Close, Context, Done, Frame, Input, JobId, Lost, Peer, Scope, Service, Session, Ticket,
    frame::{Fields, Limits, Parsed},
};

use crate::{
    admission::{Admission, Admitted, FetchQuery, Refused, SearchQuery},
    batch::Batch,
    store::Store,
    wire::{self, BodyError, COUNTER, Kind, Refusal},
};

/// Fetches answered in one pass over the components: more gain nothing and delay the first.
const FETCHES: usize = 16;
/// Searches answered in one pass over the search shares.
const SEARCHES: usize = 4;

/// The code of a refusal that concerns one request and is the server's doing, not the client's.
pub const CODE_BUSY: u16 = 100;
/// The code of a refusal because the server's own shares could not be read.
pub const CODE_STORE: u16 = 101;

/// One of the three servers.
#[derive(Debug, Clone)]
pub struct Trident(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    limits: Limits,
    fetches: Batch<(FetchQuery, Ticket<Reply>)>,
    searches: Batch<(SearchQuery, Ticket<Reply>)>,
}

impl Trident {
    /// A server of the shares in `store`.
    pub fn new(store: Store) -> Self {
        let limits = Limits { fields: 0, body: wire::max_request(store.manifest()) };
        Self(Arc::new(Shared { store, limits, fetches: Batch::new(FETCHES), searches: Batch::new(SEARCHES) }))
    }

    /// A budget that fits the collection: a connection may have as many answers under way as sixteen of the largest,
    /// in 32 MiB, or four of the largest where those are more.
    pub fn budget(&self) -> Budget {
        let largest = wire::max_answer(self.0.store.manifest()) + wire::max_request(self.0.store.manifest()) + 64;
        let each = (16 * largest).clamp(1 << 20, 32 << 20).max(4 * largest);
        Budget::default().connections(1_000).buffer_each(each).buffer_all((8 * each).max(256 << 20))
    }
}

impl Service for Trident {
    type Session = TridentSession;
    /// Requests of all connections are answered together.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> TridentSession {
        TridentSession { shared: Arc::clone(&self.0), admission: None, owed: 0 }
    }
}

/// One client's connection.
pub struct TridentSession {
    shared: Arc<Shared>,
    /// Made with the first message, when randomness for its nonce is at hand.
    admission: Option<Box<Admission>>,
    /// Bytes of the answers that are being computed: they will all want room in the output.
    owed: usize,
}

impl fmt::Debug for TridentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TridentSession").field("owed", &self.owed).finish_non_exhaustive()
    }
}

/// An answer on its way back to its connection.
#[derive(Debug)]
pub struct Reply {
    kind: Kind,
    body: Vec<u8>,
    /// What was reserved for it.
    owed: usize,
}

impl Session for TridentSession {
    type Reply = Reply;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let frame = match Frame::parse(input.bytes(), &self.shared.limits)? {
            Parsed::Need(bytes) => {
                input.need(bytes);
                return Ok(());
            }
            Parsed::Frame(frame) => frame,
        };
        let kind = Kind::try_from(frame.kind).map_err(|error| refuse(&error.into(), cx))?;
        let owed = self.answer_len(kind, frame.body);
        if self.owed + owed > cx.output().room() {
            // Left unread: shown again when an answer has gone out.
            return Ok(());
        }
        let admission = self.admission.get_or_insert_with(|| {
            let mut nonce = [0; 16];
            cx.random(&mut nonce);
            Box::new(Admission::new(nonce))
        });
        let admitted = admission.receive(&self.shared.store, kind, frame.body);
        let length = frame.len();
        input.consume(length);
        match admitted.map_err(|refused| refuse(&refused, cx))? {
            Admitted::Welcome(body) => Frame::send(cx.output(), Kind::Welcome as u8, &body),
            Admitted::Ready => {}
            Admitted::Fetch(query) => {
                let counter = query.counter();
                self.enqueue(counter, owed, cx, |shared, ticket| shared.fetches.put((query, ticket)), answer_fetches);
            }
            Admitted::Search(query) => {
                let counter = query.counter();
                self.enqueue(counter, owed, cx, |shared, ticket| shared.searches.put((query, ticket)), answer_searches);
            }
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let reply = reply.map_err(|lost| Close::abort(lost.to_string()))?;
        self.owed -= reply.owed;
        Frame::begin(cx.output(), reply.kind as u8, &Fields::new(), reply.body.len());
        cx.output().send(reply.body);
        Ok(())
    }
}

impl TridentSession {
    /// Bytes of the frame that will answer, headroom included.
    fn answer_len(&self, kind: Kind, body: &[u8]) -> usize {
        let manifest = self.shared.store.manifest();
        let body = match kind {
            Kind::Fetch => wire::fetched_len(manifest),
            Kind::Search => wire::searched_len(manifest, body.get(COUNTER) == Some(&1)),
            _ => wire::Welcome::LEN,
        };
        body.max(COUNTER + 2 + wire::MAX_TEXT) + roadstead::frame::HEAD
    }

    /// Puts a request before the logic unit: `put` into its batch, and `answer` the batch if nobody is about to.
    fn enqueue(
        &mut self,
        counter: u64,
        owed: usize,
        cx: &mut Context<'_, Self>,
        put: impl FnOnce(&Shared, Ticket<Reply>) -> bool,
        answer: fn(&Shared),
    ) {
        let Ok(ticket) = cx.ticket() else {
            let refusal = Refusal { counter, code: CODE_BUSY, text: "the server is busy; try again".into() };
            return Frame::send(cx.output(), Kind::Refusal as u8, &refusal.encode());
        };
        self.owed += owed;
        if put(&self.shared, ticket) {
            let shared = Arc::clone(&self.shared);
            cx.submit(1, move || answer(&shared));
        }
    }
}

/// The last word to a client that broke the protocol, and the reason for which its connection is closed.
fn refuse(refused: &Refused, cx: &mut Context<'_, TridentSession>) -> Close {
    tracing::warn!(peer = %cx.peer().address, reason = %refused, "client refused");
    Frame::send(cx.output(), Kind::Refusal as u8, &refused.refusal().encode());
    Close::violation(refused.to_string())
}

fn answer_fetches(shared: &Shared) {
    let owed = wire::fetched_len(shared.store.manifest()).max(COUNTER + 2 + wire::MAX_TEXT) + roadstead::frame::HEAD;
    shared.fetches.empty(|waiting| {
        let (queries, tickets): (Vec<_>, Vec<_>) = waiting.into_iter().filter(|(_, ticket)| !ticket.is_cancelled()).unzip();
        for (body, ticket) in shared.store.fetch(&queries).into_iter().zip(tickets) {
            ticket.finish(Reply { kind: Kind::Fetched, body, owed });
        }
    });
}

fn answer_searches(shared: &Shared) {
    shared.searches.empty(|waiting| {
        let (queries, tickets): (Vec<_>, Vec<_>) = waiting.into_iter().filter(|(_, ticket)| !ticket.is_cancelled()).unzip();
        let owed = |query: &SearchQuery| {
            wire::searched_len(shared.store.manifest(), query.checked()).max(COUNTER + 2 + wire::MAX_TEXT)
                + roadstead::frame::HEAD
        };
        match shared.store.search(&queries) {
            Ok(bodies) => {
                for ((body, query), ticket) in bodies.into_iter().zip(&queries).zip(tickets) {
                    ticket.finish(Reply { kind: Kind::Searched, body, owed: owed(query) });
                }
            }
            Err(error) => {
                tracing::error!(%error, "the search shares cannot be read");
                for (query, ticket) in queries.iter().zip(tickets) {
                    let text = "the server cannot read its search shares".into();
                    let body = Refusal { counter: query.counter(), code: CODE_STORE, text }.encode();
                    ticket.finish(Reply { kind: Kind::Refusal, body, owed: owed(query) });
                }
            }
        }
    });
}

impl From<BodyError> for Close {
    fn from(error: BodyError) -> Self {
        Close::violation(error.to_string())
    }
}
