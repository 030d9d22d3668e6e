//! Messages that say of themselves whether they are right: a hash over query, sender and body, and the body.

use bytes::Bytes;

/// Bytes of the hash at the front.
pub(crate) const HASH: usize = 32;
/// Bodies begin at this many different places of the base.
const PLACES: usize = 64 << 10;

/// Where bodies are cut from: making one costs a copy and a hash.
pub(crate) struct Base(Vec<u8>);

impl Base {
    /// A base for messages of up to `longest` bytes, the same in every process.
    pub(crate) fn new(longest: usize) -> Self {
        let mut bytes = vec![0; longest + PLACES];
        blake3::Hasher::new().update(b"roadstead bench exchange").finalize_xof().fill(&mut bytes);
        Self(bytes)
    }

    /// The message of `sender` in a query, of `length` bytes.
    pub(crate) fn message(&self, query: u128, sender: u8, length: usize) -> Bytes {
        let place = (query as usize).wrapping_mul(7919).wrapping_add(usize::from(sender) * 104_729) % PLACES;
        let body = &self.0[place..place + length - HASH];
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(&hash(query, sender, body));
        message.extend_from_slice(body);
        message.into()
    }
}

/// Whether this is the message of `sender` in that query, whole.
pub(crate) fn is_right(message: &[u8], query: u128, sender: u8, length: usize) -> bool {
    message.len() == length
        && message.split_first_chunk().is_some_and(|(said, body)| hash(query, sender, body) == *said)
}

fn hash(query: u128, sender: u8, body: &[u8]) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&query.to_le_bytes()).update(&[sender]).update(body);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_right_only_as_what_it_is() {
        let base = Base::new(500);
        let message = base.message(7, 1, 500);
        assert!(is_right(&message, 7, 1, 500));
        assert!(!is_right(&message, 8, 1, 500) && !is_right(&message, 7, 2, 500));
        assert!(!is_right(&message[..499], 7, 1, 499) && !is_right(&message, 7, 1, 501));
        let mut changed = message.to_vec();
        changed[499] ^= 1;
        assert!(!is_right(&changed, 7, 1, 500));
    }
}
