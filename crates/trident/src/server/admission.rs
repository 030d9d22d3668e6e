//! What a server demands of one client connection before it works: the right manifest, its own nonce, a counter that
//! rises, and well-formed requests.
//!
//! Any refusal is final: the connection says why and is closed.

use std::sync::Arc;

use super::store::Store;
use crate::{
    agreed::{
        reshare::query_id,
        wire::{self, BodyError, COUNTER, Hello, Kind, Welcome},
    },
    arithmetic::{
        dpf::Key,
        mask::{Masks, Nonce, Purpose},
        prg::Expander,
        selector,
    },
};

pub use super::questions::{FetchQuery, SearchQuery, SharedQuery};
pub use crate::agreed::refusal::Refused;

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
