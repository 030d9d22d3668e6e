//! How a product of shares becomes shares again: between servers, and one message to each.
//!
//! Server b's sums are its points on parabolas, whose values at zero are the results: `3 m1 - 3 m2 + m3`. It shares its
//! term of that on fresh lines, one point for each server. The three points that a server holds then add up to its
//! point on a line that meets zero in the result. Gennaro, Rabin, Rabin: "Simplified VSS and fast-track multiparty
//! computations" (1998), with the check left to the client's secret multiples.

use rand::CryptoRng;
use thiserror::Error;

use super::manifest::{Digest, Manifest};
use super::wire::{self, BodyError};
use crate::arithmetic::{
    field::{add, mul},
    mask::Nonce,
    party::Party,
    selector::PAYLOAD,
    shamir,
};

pub use super::wire::message_len;

/// The name of a query between servers: 128 bits of BLAKE3 over the manifest's digest, the three nonces and the
/// counter. Each of the three servers has a part in it that is fresh, and nothing in it depends on what is asked.
pub fn query_id(digest: &Digest, nonces: &[Nonce; 3], counter: u64) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key("roadstead trident query id v1");
    hasher.update(&digest.0);
    hasher.update(nonces.as_flattened());
    hasher.update(&counter.to_le_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    u128::from_le_bytes(id)
}

/// Shares the sums of `party` with fresh randomness: the messages for servers 1, 2, 3, its own among them.
pub fn reshare(party: Party, sums: &[u32], rng: &mut impl CryptoRng) -> [Vec<u8>; 3] {
    let mut messages: [Vec<u8>; 3] = std::array::from_fn(|_| Vec::with_capacity(4 * sums.len()));
    for &sum in sums {
        for (message, share) in messages.iter_mut().zip(shamir::share(mul(party.coefficient(), sum), rng)) {
            message.extend_from_slice(&share.to_le_bytes());
        }
    }
    messages
}

/// A message of another server is not what it should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{party} sent a malformed part: {error}")]
pub struct PartError {
    /// Which server.
    pub party: Party,
    /// What is wrong with it.
    pub error: BodyError,
}

/// Adds the messages of servers 1, 2, 3 up to a share of the result, as the body of a [`wire::Kind::FetchedShare`].
///
/// # Errors
/// A message of another length, or with an element that is not below p.
pub fn add_up(manifest: &Manifest, counter: u64, messages: [&[u8]; 3]) -> Result<Vec<u8>, PartError> {
    let mut share = vec![0; PAYLOAD * manifest.dim];
    for (party, message) in Party::ALL.into_iter().zip(messages) {
        let part = wire::exactly("part of a row", message, message_len(manifest))
            .and_then(wire::parse_elements)
            .map_err(|error| PartError { party, error })?;
        share.iter_mut().zip(part).for_each(|(sum, element)| *sum = add(*sum, element));
    }
    let mut body = Vec::with_capacity(wire::fetched_share_len(manifest));
    body.extend_from_slice(&counter.to_le_bytes());
    body.extend(share.iter().flat_map(|element| element.to_le_bytes()));
    Ok(body)
}
