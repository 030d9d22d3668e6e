//! A server's sums of one query, shared with the other two: what is sent, and what is done when theirs come or do not.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chacha20::ChaCha20Rng;
use rand::SeedableRng;
use zeroize::Zeroizing;

use roadstead_proto::Ticket;

use super::{
    answers::{Allowance, Reply},
    outages::Outages,
    peers::{Done, Peers},
    questions::SharedQuery,
};
use crate::{
    agreed::{
        manifest::Manifest,
        refusal::CODE_PEERS,
        reshare::{add_up, reshare},
        wire::{Kind, Refusal},
    },
    arithmetic::party::Party,
};

/// How long a server waits for the others' parts of a row.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the lines follow from on which a server shares its sums of one query. The session draws it when it admits the
/// query: then it comes from the system, or in the simulator from its seed, and a copy of the memory in which it waits
/// can only share the same sums on the same lines again.
pub(crate) type Seed = Zeroizing<[u8; 32]>;

/// What a server needs to share its sums with the others.
pub(crate) struct Resharing {
    peers: Box<dyn Peers>,
    outages: Arc<Outages>,
}

impl Resharing {
    pub(crate) fn new(peers: impl Peers) -> Self {
        Self { peers: Box::new(peers), outages: Arc::new(Outages::new(PATIENCE)) }
    }

    /// Sends the others their parts of `sums`, and answers the client when theirs are there.
    pub(crate) fn begin(
        &self,
        (party, manifest): (Party, &Manifest),
        (query, seed): &(SharedQuery, Seed),
        sums: &[u32],
        answer: (Ticket<Reply>, Allowance),
    ) {
        let messages = reshare(party, sums, &mut ChaCha20Rng::from_seed(**seed)).map(Bytes::from);
        let own = messages[party.index()].clone();
        let [next, previous] = [party.next(), party.previous()];
        let others = [next, previous].map(|other| (other, messages[other.index()].clone()));
        let (counter, manifest) = (query.counter(), manifest.clone());
        let outages = Arc::clone(&self.outages);
        let done: Done = Box::new(move |gathered| {
            let share =
                gathered.map_err(|absent| (absent.to_string(), absent.missing)).and_then(|gathered| {
                    let mut parts = [own.as_ref(); 3];
                    gathered.iter().for_each(|(from, part)| parts[from.index()] = part);
                    add_up(&manifest, counter, parts).map_err(|error| (error.to_string(), vec![error.party]))
                });
            let (ticket, allowance) = answer;
            ticket.finish(match share {
                Ok(body) => {
                    note_shared(&outages);
                    Reply { kind: Kind::FetchedShare, body, allowance }
                }
                Err((text, because_of)) => {
                    note_failed(&outages, &because_of, &text);
                    let body = Refusal { counter, code: CODE_PEERS, text }.encode();
                    Reply { kind: Kind::Refusal, body, allowance }
                }
            });
        });
        self.peers.exchange(query.id(), others, PATIENCE, done);
    }
}

fn note_shared(outages: &Outages) {
    for (server, failed) in outages.shared(Instant::now()) {
        tracing::info!(%server, failed, "results are shared with the server again");
    }
}

fn note_failed(outages: &Outages, because_of: &[Party], reason: &str) {
    tracing::debug!(reason, "a result could not be shared");
    for &server in because_of {
        if outages.failed(server, Instant::now()) {
            tracing::warn!(%server, reason, "results cannot be shared with a server; said once until they can");
        }
    }
}

impl fmt::Debug for Resharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resharing").finish_non_exhaustive()
    }
}
