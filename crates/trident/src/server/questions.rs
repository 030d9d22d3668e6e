//! What clients ask, once it was admitted. A question owns all that it needs, so that those of many connections are
//! answered together.

use std::{fmt, sync::Arc};

use crate::arithmetic::{dpf::Key, mask::Masks, prg::Expander, selector};

/// A fetch.
#[derive(Debug)]
pub struct FetchQuery {
    pub(crate) counter: u64,
    pub(crate) keys: [Key; 2],
    pub(crate) expander: Arc<Expander>,
    pub(crate) masks: Arc<Masks>,
}

/// A search.
pub struct SearchQuery {
    pub(crate) counter: u64,
    pub(crate) vectors: Vec<Vec<u32>>,
    pub(crate) masks: Arc<Masks>,
}

/// A fetch whose result stays shared.
#[derive(Debug)]
pub struct SharedQuery {
    pub(crate) counter: u64,
    pub(crate) keys: [selector::Key; 2],
    pub(crate) expander: Arc<Expander>,
    pub(crate) id: u128,
}

impl SharedQuery {
    /// The counter of the request.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Its name between the servers; see [`query_id`](crate::agreed::reshare::query_id).
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
impl fmt::Debug for SearchQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchQuery")
            .field("counter", &self.counter)
            .field("checked", &self.checked())
            .finish_non_exhaustive()
    }
}
