//! What the clients have set: one map, which holds no more than it may.

use std::collections::HashMap;

use bytes::Bytes;

/// What an entry costs beside its bytes: its place in the map, of which at least as many are free, and two allocations.
const ENTRY: usize = 256;

pub(crate) struct Store {
    limit: usize,
    values: HashMap<Bytes, Bytes>,
    used: usize,
}

/// Why nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unchanged {
    #[error("the store holds {0} bytes at most: delete something first")]
    Full(usize),
    #[error("the value is no integer of 64 bits, or the greatest")]
    NoInteger,
}

impl Store {
    /// An empty one that holds at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, values: HashMap::new(), used: 0 }
    }

    /// The value of `key`, shared and not copied.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.values.get(key).cloned()
    }

    pub(crate) fn set(&mut self, key: Bytes, value: Bytes) -> Result<(), Unchanged> {
        let before = self.values.get(&key).map_or(0, |old| cost(&key, old));
        let used = self.used - before + cost(&key, &value);
        if used > self.limit {
            return Err(Unchanged::Full(self.limit));
        }
        self.used = used;
        self.values.insert(key, value);
        Ok(())
    }

    /// Whether there was such a key.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some((key, value)) = self.values.remove_entry(key) else { return false };
        self.used -= cost(&key, &value);
        true
    }

    /// Adds one to the number that is the value of `key`, or 0 if it has none.
    pub(crate) fn increment(&mut self, key: Bytes) -> Result<i64, Unchanged> {
        let number = match self.values.get(&key) {
            Some(value) => str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            None => Some(0),
        };
        let next = number.and_then(|number: i64| number.checked_add(1)).ok_or(Unchanged::NoInteger)?;
        self.set(key, next.to_string().into())?;
        Ok(next)
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    ENTRY + key.len() + value.len()
}
