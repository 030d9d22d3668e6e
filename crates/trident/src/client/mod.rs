//! The library client: three connections kept, many questions in flight on each.
//!
//! ```no_run
//! use std::{net::SocketAddr, sync::Arc};
//! use roadstead::{Dialer, tls::Keys};
//! use roadstead_trident::{client::{Client, Options}, query::Collection};
//!
//! let collection = Arc::new(Collection::open("shares/client".as_ref())?);
//! let servers = [7101, 7102, 7103].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
//! let keys = Keys::load("keys/client".as_ref())?;
//! let client = Client::new(collection, servers, Some(&keys), Options::default(), Dialer::start)?;
//! let row = client.fetch(123)?;
//! let nearest = client.search(&row.values(), 10)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Client`] may be used from any number of threads at once; each call blocks its own thread until the answer is
//! there or the deadline has passed. The three connections belong together (their nonces make the servers' masks), so
//! the loss of one ends all three: what is in flight fails with the name of the lost server, and the next question
//! connects anew. So it does after a deadline has passed, as a connection may be dead without saying so. Attempts
//! that fail are 50 ms apart: the questions that come in between wait for the next.
//!
//! Each connection is TLS with the one server whose public key the manifest names; see [`trust`].

mod asker;
pub mod query;
pub mod shared;
#[cfg(test)]
mod tests;
mod thirds;
mod trio;
mod verdict;

use std::{
    fmt, io,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use chacha20::ChaCha20Rng;

use roadstead_proto::{
    Address, Budget,
    connection::dialling::{Dial, dial},
    frame,
    stats::Snapshot,
};
use roadstead_tls::{Connector, Keys};

use crate::{
    agreed::{
        trust::{self, TrustError},
        wire::{self, Kind},
    },
    arithmetic::{party::Party, prg::Expander},
    entropy::{self, Entropy},
};
use asker::Asker;
use query::{AnswerError, Body, Collection, Neighbour, QueryError, Row, Scores};
use shared::SharedFetch;
use thirds::Thirds;
use trio::{Fault, Trio, Waiting};

/// How a row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// From XOR-shared records: the smallest work and the original bytes. Needs the answers of all three servers.
    #[default]
    Direct,
    /// From the shares that searches use, with the servers' exchanging theirs: the row stays shared among them, and any
    /// two right answers are enough, whatever the third server says and however fast. All three must be up and reach
    /// each other all the same. Floats come back rounded; see [`SharedFetch::finish`].
    Exchange,
}

impl Protocol {
    /// Both, with the names that commands and reports use.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Direct, "direct"), (Self::Exchange, "exchange")];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(protocol, _)| protocol == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found
            .map(|(protocol, _)| *protocol)
            .ok_or_else(|| format!("there is no protocol `{name}`; there are direct and exchange"))
    }
}

/// What a client may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// From the question to the answer, connecting included. Default 10 s.
    pub deadline: Duration,
    /// Whether every score of a search is checked. An unchecked search costs a third, and is private only against
    /// servers that follow the protocol: one that does not can falsify scores, and find the nearest row from what the
    /// client does next. Default true.
    pub checked: bool,
    /// How rows are read. Default [`Protocol::Direct`].
    pub protocol: Protocol,
}

impl Default for Options {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), checked: true, protocol: Protocol::Direct }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys do not go with the collection.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The system has no thread, descriptors or randomness left.
    #[error("the client could not be started: {0}")]
    System(#[from] io::Error),
}

/// Why there is no answer. The variants say whose doing it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The question cannot be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The answers are not believed.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A server refused.
    #[error("{party} at {address} refused: {text}")]
    Refused {
        /// Which.
        party: Party,
        /// Where it was expected.
        address: Address,
        /// In its words.
        text: String,
    },
    /// A server cannot be reached, or was lost.
    #[error("{party} at {address} is not available: {why}")]
    Unavailable {
        /// Which.
        party: Party,
        /// Where it was expected.
        address: Address,
        /// What happened.
        why: String,
    },
    /// The system has none to hide the question with.
    #[error("this machine gave no randomness to ask with: {0}")]
    Randomness(String),
    /// The deadline passed.
    #[error("no answer within {:?} from {}", .deadline, names(.missing))]
    Deadline {
        /// How long was waited.
        deadline: Duration,
        /// Who had not answered.
        missing: Vec<(Party, Address)>,
    },
}

fn names(missing: &[(Party, Address)]) -> String {
    let names: Vec<String> = missing.iter().map(|(party, address)| format!("{party} at {address}")).collect();
    names.join(", ")
}

/// A client of three servers.
pub struct Client {
    collection: Arc<Collection>,
    servers: [Address; 3],
    connectors: Option<[Connector; 3]>,
    options: Options,
    entropy: Entropy,
    dialer: Box<dyn Dial>,
    trio: Mutex<Option<Arc<Trio>>>,
    /// How many there were so far.
    trios: AtomicU64,
    thirds: Arc<Thirds>,
}

impl Client {
    /// A client of `servers`, in the order of their parties, that shows them `keys`. Connects with the first question,
    /// through what `dialer` starts within the budget that the client needs: `roadstead::Dialer::start`.
    ///
    /// # Errors
    /// [`StartError`] if the manifest asks for keys and there are none, or there are and it does not name the servers'
    /// keys, or a server without them is not on this machine; or what the system says.
    pub fn new<D: Dial + 'static>(
        collection: Arc<Collection>,
        servers: [impl Into<Address>; 3],
        keys: Option<&Keys>,
        options: Options,
        dialer: impl FnOnce(Budget) -> io::Result<D>,
    ) -> Result<Self, StartError> {
        let (manifest, servers) = (collection.manifest(), servers.map(Into::into));
        let connectors = trust::connectors(manifest, keys, &servers)?;
        let largest = wire::max_answer(manifest).max(wire::max_request(manifest)) + frame::HEAD;
        let budget = Budget::default()
            .connections(256)
            .buffer_each((4 * largest).max(1 << 20))
            .buffer_all((256 * largest).clamp(256 << 20, 4 << 30));
        let dialer = Box::new(dialer(budget)?);
        let (trio, trios, thirds) = Default::default();
        let entropy = entropy::system;
        Ok(Self { collection, servers, connectors, options, entropy, dialer, trio, trios, thirds })
    }

    /// What the collection is.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Reads row `index`. No server learns which.
    ///
    /// # Errors
    /// [`ClientError`]; a row that is not the one that was shared is never answered.
    pub fn fetch(&self, index: usize) -> Result<Row, ClientError> {
        match self.options.protocol {
            Protocol::Direct => {
                let deadline = self.deadline();
                let (fetch, waiting) =
                    self.ask((Kind::Fetch, 3), deadline, |(counter, expander), random| {
                        self.collection.fetch(index, counter, expander, random)
                    })?;
                let answers = waiting.wait(deadline).map_err(|fault| self.explain(fault))?;
                Ok(fetch.finish(answers.all())?)
            }
            Protocol::Exchange => self.fetch_shared(index),
        }
    }

    fn fetch_shared(&self, index: usize) -> Result<Row, ClientError> {
        let deadline = self.deadline();
        let (fetch, waiting) =
            self.ask((Kind::FetchShare, SharedFetch::ENOUGH), deadline, |(counter, expander), random| {
                self.collection.fetch_shared(index, counter, expander, random)
            })?;
        let answers = waiting.wait(deadline).map_err(|fault| self.explain(fault))?;
        let found = match fetch.finish(answers.bodies()) {
            Ok(found) => match waiting.release(fetch.third(answers.bodies())) {
                Some(all) => fetch.finish(all.bodies())?,
                None => found,
            },
            // One of the two is wrong, or both: the third shows which two go together.
            Err(error) => match waiting.wait(deadline) {
                Ok(all) => fetch.finish(all.bodies())?,
                Err(_) => return Err(error.into()),
            },
        };
        if let Some(odd) = found.odd {
            self.thirds.count(&odd);
        }
        Ok(found.row)
    }

    /// The `k` rows nearest to `query`, nearest first. No server learns the query, or which rows they are.
    ///
    /// # Errors
    /// [`ClientError`]; in a checked search a wrong score is never answered.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Neighbour>, ClientError> {
        Ok(self.scores(query)?.nearest(k))
    }

    /// The score of every row.
    ///
    /// # Errors
    /// As [`Client::search`].
    pub fn scores(&self, query: &[f32]) -> Result<Scores, ClientError> {
        let checked = self.options.checked;
        let deadline = self.deadline();
        let (search, waiting) = self.ask((Kind::Search, 3), deadline, |(counter, _), random| {
            self.collection.search(query, checked, counter, random)
        })?;
        let answers = waiting.wait(deadline).map_err(|fault| self.explain(fault))?;
        Ok(search.finish(answers.all())?)
    }

    /// How often the answer of server 1, 2, 3 did not go with the two others, from which a row was read by
    /// [`Protocol::Exchange`]. The row was right; but one of the three does not compute with what it was given: it need
    /// not be the one that is counted, as one of the others may have sent that a wrong part of its share.
    pub fn contradictions(&self) -> [u64; 3] {
        self.thirds.contradictions()
    }

    /// Waits for the third answers to what was read so far, at most for `patience`; then says
    /// [`contradictions`](Self::contradictions).
    pub fn settle(&self, patience: Duration) -> [u64; 3] {
        let begun = Instant::now();
        while self.thirds.waiting() > 0 && begun.elapsed() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        self.contradictions()
    }

    /// What its connections have moved.
    pub fn stats(&self) -> Snapshot {
        self.dialer.shared().snapshot()
    }

    /// Nobody waits longer than that, and a clock can count to it.
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.deadline.min(Duration::from_secs(u32::MAX.into()))
    }

    fn ask<Q>(
        &self,
        what: (Kind, usize),
        deadline: Instant,
        question: impl FnOnce((u64, &Expander), &mut ChaCha20Rng) -> Result<(Q, [Body; 3]), QueryError>,
    ) -> Result<(Q, Waiting), ClientError> {
        let trio = self.trio(deadline)?;
        // From the system for every question: a copy of this memory that is resumed must not ask another on the same
        // keys.
        let mut random =
            entropy::generator(self.entropy).map_err(|error| ClientError::Randomness(error.to_string()))?;
        let asked = trio.ask(what, deadline, |counter, expander| question((counter, expander), &mut random));
        Ok(asked.map_err(|fault| self.explain(fault))??)
    }

    /// The living connections, or new ones.
    fn trio(&self, deadline: Instant) -> Result<Arc<Trio>, ClientError> {
        let mut current = self.trio.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = current.clone() {
            if !last.is_over() {
                return Ok(last);
            }
            drop(current);
            thread::sleep(last.pause().min(deadline.saturating_duration_since(Instant::now())));
            current = self.trio.lock().unwrap_or_else(PoisonError::into_inner);
            // Whatever becomes of them: nobody waits for a second attempt.
            if let Some(next) = current.as_ref().filter(|next| !Arc::ptr_eq(next, &last)) {
                return Ok(Arc::clone(next));
            }
        }
        let number = self.trios.fetch_add(1, Relaxed);
        let trio = Arc::new(Trio::new(number, Arc::clone(&self.thirds), self.collection.digest()));
        for (party, address) in Party::ALL.into_iter().zip(&self.servers) {
            let asker = Asker::new(Arc::clone(&trio), party, &self.collection);
            let dialled = match &self.connectors {
                Some(connectors) => dial(&*self.dialer, address, Some(&connectors[party.index()]), asker),
                None => dial(&*self.dialer, address, None, asker),
            };
            match dialled {
                Ok(waker) => trio.add(party, waker),
                Err(busy) => trio.fail(Fault::Lost { party, why: busy.to_string() }),
            }
        }
        *current = Some(Arc::clone(&trio));
        Ok(trio)
    }

    fn explain(&self, fault: Fault) -> ClientError {
        let address = |party: Party| self.servers[party.index()].clone();
        match fault {
            Fault::Lost { party, why } => ClientError::Unavailable { party, address: address(party), why },
            Fault::Refused { party, text } => ClientError::Refused { party, address: address(party), text },
            Fault::Silent(missing) => ClientError::Deadline {
                deadline: self.options.deadline,
                missing: missing.into_iter().map(|party| (party, address(party))).collect(),
            },
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(trio) = self.trio.lock().unwrap_or_else(PoisonError::into_inner).take() {
            trio.fail(Fault::Lost { party: Party::ALL[0], why: "the client was dropped".into() });
        }
    }
}
