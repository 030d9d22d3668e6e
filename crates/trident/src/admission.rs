//! What a server demands of one client connection before it works: the right manifest, its own nonce, a counter that
//! rises, and well-formed requests.
//!
//! Any refusal is final: the connection says why and is closed.

use std::sync::Arc;

use roadstead::frame::FrameError;
use thiserror::Error;

use crate::dpf::{Key, KeyError};
use crate::manifest::Digest;
use crate::mask::{Masks, Nonce, Purpose};
use crate::party::Party;
use crate::prg::Expander;
use crate::reshare::query_id;
use crate::selector;
use crate::store::Store;
use crate::wire::{self, BodyError, COUNTER, Hello, Kind, Refusal, Welcome};

/// A fetch that was admitted. It owns all that it needs, so that requests of many connections are answered together.
#[derive(Debug)]
pub struct FetchQuery {
    pub(crate) counter: u64,
    pub(crate) keys: [Key; 2],
    pub(crate) expander: Arc<Expander>,
    pub(crate) masks: Arc<Masks>,
}

/// A search that was admitted.
pub struct SearchQuery {
    pub(crate) counter: u64,
    pub(crate) vectors: Vec<Vec<u32>>,
    pub(crate) masks: Arc<Masks>,
}

/// A fetch whose result stays shared, admitted.
#[derive(Debug)]
pub struct SharedQuery {
    pub(crate) counter: u64,
    pub(crate) keys: [selector::Key; 2],
    pub(crate) expander: Arc<Expander>,
    id: u128,
}

impl SharedQuery {
    /// The counter of the request.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Its name between the servers; see [`query_id`].
    pub fn id(&self) -> u128 {
        self.id
    }
}

impl FetchQuery {
    /// The counter of the request.
    pub fn counter(&self) -> u64 {
        self.counter
    }
}

impl SearchQuery {
    /// The counter of the request.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Whether the client wants to check the scores.
    pub fn checked(&self) -> bool {
        self.vectors.len() > 1
    }
}

/// Without the vectors: what three servers print must not add up to a query.
impl std::fmt::Debug for SearchQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchQuery")
            .field("counter", &self.counter)
            .field("checked", &self.checked())
            .finish_non_exhaustive()
    }
}

/// What a server does next.
#[derive(Debug)]
pub enum Admitted {
    /// Send this body as [`Kind::Welcome`].
    Welcome(Vec<u8>),
    /// Nothing: the session is complete and requests may come.
    Ready,
    /// Answer with [`Store::fetch`].
    Fetch(FetchQuery),
    /// Answer with [`Store::search`].
    Search(SearchQuery),
    /// Compute with [`Store::combine`], share that anew among the servers, and answer with this server's share.
    FetchShare(SharedQuery),
}

/// Why a connection is refused; the client's fault each time.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Another version of the protocol.
    #[error("the client speaks version {0}, this server {v}; update the older one", v = wire::VERSION)]
    Version(u16),
    /// The client takes this server for another.
    #[error("the client wants {wanted}, this is {this}; check the order of the addresses")]
    Party {
        /// Whom the client wants.
        wanted: Party,
        /// Who this is.
        this: Party,
    },
    /// Client and server hold different sharings.
    #[error("the client's manifest is {theirs}, this server's {ours}; both must come from one run of share")]
    Manifest {
        /// Digest of the client's.
        theirs: Digest,
        /// Digest of the server's.
        ours: Digest,
    },
    /// A message at the wrong time.
    #[error("a message of kind {0:?} is not allowed now")]
    Order(Kind),
    /// The nonce in this server's place is not the one it issued.
    #[error("the nonce in the place of {0} was not issued to this connection")]
    Nonce(Party),
    /// A counter that does not rise.
    #[error("counter {got} is not above {last}")]
    Counter {
        /// Counter received.
        got: u64,
        /// Highest counter before.
        last: u64,
    },
    /// A malformed selection key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A malformed body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The collection has no search shares.
    #[error("this collection was shared for fetching only")]
    NoSearch,
    /// Nothing is proven about a client that has to prove it.
    #[error("the client has proven nothing about itself: this sharing is served over TLS only")]
    Unproven,
    /// A server in the place of a client.
    #[error(
        "the certificate is that of {0}: a server of the sharing may not ask for what it holds a share of"
    )]
    Server(Party),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Refused {
    /// The number that stands for this refusal on the wire.
    pub fn code(&self) -> u16 {
        match self {
            Self::Version(_) => 1,
            Self::Party { .. } => 2,
            Self::Manifest { .. } => 3,
            Self::Order(_) => 4,
            Self::Nonce(_) => 5,
            Self::Counter { .. } => 6,
            Self::Key(_) => 7,
            Self::Body(_) => 8,
            Self::NoSearch => 9,
            Self::Unproven => 10,
            Self::Server(_) => 11,
            Self::Frame(_) => 12,
        }
    }

    /// The message that tells the client.
    pub fn refusal(&self) -> Refusal {
        Refusal { counter: 0, code: self.code(), text: self.to_string() }
    }
}

enum Stage {
    Hello,
    Nonces,
    Requests { fetch: Arc<Masks>, search: Arc<Masks>, expander: Arc<Expander>, nonces: [Nonce; 3] },
    Refused,
}

/// One connection's way from hello to requests.
pub struct Admission {
    nonce: Nonce,
    stage: Stage,
    last_counter: u64,
}

impl Admission {
    /// The state of a new connection. `nonce` must be fresh and from the system's randomness: masks repeat if it does.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, stage: Stage::Hello, last_counter: 0 }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// The reason for which the connection is to be closed; every later message is refused too.
    pub fn receive(&mut self, store: &Store, kind: Kind, body: &[u8]) -> Result<Admitted, Refused> {
        let admitted = match (&self.stage, kind) {
            (Stage::Hello, Kind::Hello) => self.hello(store, body),
            (Stage::Nonces, Kind::Nonces) => self.nonces(store, body),
            (Stage::Requests { fetch, expander, .. }, Kind::Fetch) => {
                let (masks, expander) = (Arc::clone(fetch), Arc::clone(expander));
                self.fetch(store, masks, expander, body)
            }
            (Stage::Requests { search, .. }, Kind::Search) => {
                let masks = Arc::clone(search);
                self.search(store, masks, body)
            }
            (Stage::Requests { expander, nonces, .. }, Kind::FetchShare) => {
                let (expander, nonces) = (Arc::clone(expander), *nonces);
                self.fetch_share(store, &nonces, expander, body)
            }
            _ => Err(Refused::Order(kind)),
        };
        if admitted.is_err() {
            self.stage = Stage::Refused;
        }
        admitted
    }

    fn hello(&mut self, store: &Store, body: &[u8]) -> Result<Admitted, Refused> {
        let hello = Hello::parse(body)?;
        if hello.version != wire::VERSION {
            return Err(Refused::Version(hello.version));
        }
        if hello.party != store.party() {
            return Err(Refused::Party { wanted: hello.party, this: store.party() });
        }
        if hello.digest != store.digest() {
            return Err(Refused::Manifest { theirs: hello.digest, ours: store.digest() });
        }
        self.stage = Stage::Nonces;
        let welcome = Welcome {
            version: wire::VERSION,
            party: store.party(),
            digest: store.digest(),
            nonce: self.nonce,
        };
        Ok(Admitted::Welcome(welcome.encode()))
    }

    fn nonces(&mut self, store: &Store, body: &[u8]) -> Result<Admitted, Refused> {
        let nonces = wire::parse_nonces(body)?;
        if nonces[store.party().index()] != self.nonce {
            return Err(Refused::Nonce(store.party()));
        }
        let masks = |purpose| Arc::new(Masks::new(store.keys(), &store.digest(), purpose, &nonces));
        let (fetch, search) = (masks(Purpose::FetchDirect), masks(Purpose::SearchScan));
        let expander = Arc::new(Expander::new(&store.digest(), &nonces));
        self.stage = Stage::Requests { fetch, search, expander, nonces };
        Ok(Admitted::Ready)
    }

    /// Consumes the counter of a request, whatever becomes of it.
    fn consume(&mut self, counter: u64) -> Result<(), Refused> {
        if counter <= self.last_counter {
            return Err(Refused::Counter { got: counter, last: self.last_counter });
        }
        self.last_counter = counter;
        Ok(())
    }

    fn fetch(
        &mut self,
        store: &Store,
        masks: Arc<Masks>,
        expander: Arc<Expander>,
        body: &[u8],
    ) -> Result<Admitted, Refused> {
        let domain = store.manifest().domain();
        let length = domain.key_len();
        let (counter, keys) = wire::counter("fetch", body)?;
        self.consume(counter)?;
        wire::exactly("fetch", body, COUNTER + 2 * length)?;
        let (first, second) = keys.split_at(length);
        let keys = [Key::parse(first, domain)?, Key::parse(second, domain)?];
        Ok(Admitted::Fetch(FetchQuery { counter, keys, expander, masks }))
    }

    fn fetch_share(
        &mut self,
        store: &Store,
        nonces: &[Nonce; 3],
        expander: Arc<Expander>,
        body: &[u8],
    ) -> Result<Admitted, Refused> {
        let manifest = store.manifest();
        let domain = manifest.search.then(|| manifest.selector_domain()).ok_or(Refused::NoSearch)?;
        let (counter, keys) = wire::counter("fetch", body)?;
        self.consume(counter)?;
        wire::exactly("fetch", body, wire::fetch_share_len(manifest))?;
        let (first, second) = keys.split_at(domain.key_len());
        let keys = [selector::Key::parse(first, domain)?, selector::Key::parse(second, domain)?];
        let id = query_id(&store.digest(), nonces, counter);
        Ok(Admitted::FetchShare(SharedQuery { counter, keys, expander, id }))
    }

    fn search(&mut self, store: &Store, masks: Arc<Masks>, body: &[u8]) -> Result<Admitted, Refused> {
        let manifest = store.manifest();
        let width = manifest.search.then(|| manifest.search_width()).ok_or(Refused::NoSearch)?;
        let (counter, rest) = wire::counter("search", body)?;
        self.consume(counter)?;
        let checked = match rest.first() {
            Some(0) => false,
            Some(1) => true,
            Some(&other) => return Err(BodyError::Value { what: "checked flag", got: other.into() }.into()),
            None => {
                return Err(BodyError::Length { what: "search", got: body.len(), want: COUNTER + 1 }.into());
            }
        };
        wire::exactly("search", body, COUNTER + 1 + 4 * wire::vectors(checked) * width)?;
        let elements = wire::parse_elements(&rest[1..])?;
        let vectors = elements.chunks_exact(width).map(<[u32]>::to_vec).collect();
        Ok(Admitted::Search(SearchQuery { counter, vectors, masks }))
    }
}
