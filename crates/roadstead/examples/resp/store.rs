//! What the clients have set: one map that all connections share, and that holds no more than it may.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// What an entry costs beside its bytes: its place in the map, of which at least as many are free, and two allocations.
const ENTRY: usize = 256;

pub(crate) struct Store {
    limit: usize,
    /// Held for one look-up at a time, so that a session that waits for it waits for no other session's work.
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
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
        Self { limit, entries: Mutex::default() }
    }

    /// The value of `key`, shared and not copied.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.entries().values.get(key).cloned()
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), Unchanged> {
        self.entries().set(key, value, self.limit)
    }

    /// Whether there was such a key.
    pub(crate) fn remove(&self, key: &[u8]) -> bool {
        let mut entries = self.entries();
        let Some((key, value)) = entries.values.remove_entry(key) else { return false };
        entries.used -= cost(&key, &value);
        true
    }

    /// Adds one to the number that is the value of `key`, or 0 if it has none.
    pub(crate) fn increment(&self, key: &[u8]) -> Result<i64, Unchanged> {
        let mut entries = self.entries();
        let number = match entries.values.get(key) {
            Some(value) => str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            None => Some(0),
        };
        let next = number.and_then(|number: i64| number.checked_add(1)).ok_or(Unchanged::NoInteger)?;
        entries.set(key, next.to_string().as_bytes(), self.limit)?;
        Ok(next)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn set(&mut self, key: &[u8], value: &[u8], limit: usize) -> Result<(), Unchanged> {
        let before = self.values.get(key).map_or(0, |old| cost(key, old));
        let used = self.used - before + cost(key, value);
        if used > limit {
            return Err(Unchanged::Full(limit));
        }
        self.used = used;
        let value = Bytes::copy_from_slice(value);
        match self.values.get_mut(key) {
            Some(old) => *old = value,
            None => _ = self.values.insert(Bytes::copy_from_slice(key), value),
        }
        Ok(())
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    ENTRY + key.len() + value.len()
}
