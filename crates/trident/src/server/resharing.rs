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

/// What the lines follow from on which a server shares its sums of one query. The session draws it when it admits the
/// query: then it comes from the system, or in the simulator from its seed, and a copy of the memory in which it waits
/// can only share the same sums on the same lines again.
pub(crate) type Seed = Zeroizing<[u8; 32]>;

/// What a server needs to share its sums with the others.
pub(crate) struct Resharing {
    peers: Box<dyn Peers>,
    /// How long it waits for the others' parts.
    patience: Duration,
    outages: Arc<Outages>,
}

impl Resharing {
    pub(crate) fn new(peers: impl Peers, patience: Duration) -> Self {
        Self { peers: Box::new(peers), patience, outages: Arc::new(Outages::new(patience)) }
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
                    Reply::new(Kind::FetchedShare, body, allowance)
                }
                Err((text, because_of)) => {
                    note_failed(&outages, &because_of, &text);
                    let body = Refusal { counter, code: CODE_PEERS, text }.encode();
                    Reply::new(Kind::Refusal, body, allowance)
                }
            });
        });
        self.peers.exchange(query.id(), others, self.patience, done);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use roadstead_proto::{
        Budget, Context, Done as Ended, Input, Ready, Session, connection::Connection, connection::Endpoint,
        connection::Event, host::Host, host::Shared, ticket::Token,
    };

    use super::*;
    use crate::{
        agreed::manifest::{Digest, Element, SharingId},
        arithmetic::{prg::Expander, selector::Key},
        server::{answers::Answers, peers::Absent},
    };

    const ME: Party = Party::ALL[1];

    /// Takes a ticket as soon as it is open, and keeps what is replied.
    #[derive(Clone, Default)]
    struct Asks(Arc<Mutex<Asked>>);

    #[derive(Default)]
    struct Asked {
        ticket: Option<Ticket<Reply>>,
        reply: Option<Reply>,
    }

    impl Session for Asks {
        type Reply = Reply;

        fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Ended {
            if why == Ready::Opened {
                self.0.lock().unwrap().ticket = Some(cx.ticket().unwrap());
            }
            Ok(())
        }

        fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Ended {
            Ok(())
        }

        fn reply(
            &mut self,
            _: roadstead_proto::JobId,
            reply: Result<Reply, roadstead_proto::Lost>,
            _: &mut Context<'_, Self>,
        ) -> Ended {
            self.0.lock().unwrap().reply = reply.ok();
            Ok(())
        }
    }

    /// What the others send for a query, or why they do not.
    struct Others(Arc<Mutex<Result<[Vec<u8>; 2], Absent>>>);

    const PATIENCE: Duration = Duration::from_millis(1_234);

    impl Peers for Others {
        fn exchange(&self, query: u128, messages: [(Party, Bytes); 2], patience: Duration, done: Done) {
            assert_eq!(patience, PATIENCE);
            assert_eq!((query, messages.each_ref().map(|(to, _)| *to)), (7, [ME.next(), ME.previous()]));
            match &*self.0.lock().unwrap() {
                Ok([next, previous]) => done(Ok([(ME.next(), next), (ME.previous(), previous)])),
                Err(absent) => done(Err(absent.clone())),
            }
        }
    }

    /// What the client of a query is replied.
    fn replied(resharing: &Resharing, manifest: &Manifest, sums: &[u32]) -> Reply {
        let asks = Asks::default();
        let shared = Shared::new(Budget::default());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let permit = shared.gate.admit(None).unwrap();
        let address = ([192, 0, 2, 1], 7).into();
        let (mut connection, _) = Connection::outgoing(asks.clone(), address, shared, permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        let ticket = asks.0.lock().unwrap().ticket.take().unwrap();
        let domain = manifest.selector_domain();
        let keys = [(); 2].map(|()| Key::parse(&vec![0; domain.key_len()], domain).unwrap());
        let expander = Arc::new(Expander::new(&Digest([1; 32]), &[[2; 16]; 3]));
        let query = SharedQuery { counter: 5, keys, expander, id: 7 };
        let allowance = Answers::new(1 << 20).reserve(100, || panic!("there is room")).unwrap();
        resharing.begin((ME, manifest), &(query, Seed::new([9; 32])), sums, (ticket, allowance));
        connection.handle(Duration::ZERO, Event::Woken, &mut host);
        asks.0.lock().unwrap().reply.take().unwrap()
    }

    #[test]
    fn a_share_is_the_sum_of_three_parts_and_who_costs_a_query_is_away_until_a_result_is_shared() {
        let manifest = Manifest::new(SharingId([4; 16]), 1, 1, Element::U8, true).unwrap();
        let sums = [3, 4, 5];
        let said = Arc::new(Mutex::new(Ok([vec![0; 12], vec![0; 12]])));
        let outages = Arc::new(Outages::new(Duration::ZERO));
        let resharing = Resharing {
            outages: Arc::clone(&outages),
            ..Resharing::new(Others(Arc::clone(&said)), PATIENCE)
        };
        let begins = |party| outages.failed(party, Instant::now());
        let [next, previous] = [ME.next(), ME.previous()];

        // Those of the others are zeros, so what is left is its own.
        let own = reshare(ME, &sums, &mut ChaCha20Rng::from_seed([9; 32]));
        let reply = replied(&resharing, &manifest, &sums);
        let body = reply.body.concat();
        assert_eq!((reply.kind, &body[..8]), (Kind::FetchedShare, &5_u64.to_le_bytes()[..]));
        assert_eq!(body[8..], own[ME.index()]);

        let refusal = |reply: Reply| {
            assert_eq!(reply.kind, Kind::Refusal);
            let Refusal { counter, code, text } = Refusal::parse(&reply.body.concat()).unwrap();
            assert_eq!((counter, code), (5, CODE_PEERS));
            text
        };
        *said.lock().unwrap() = Err(Absent { missing: vec![previous], why: "gone".into() });
        assert!(refusal(replied(&resharing, &manifest, &sums)).contains("took no part: gone"));
        assert!(!begins(previous), "it is away already");
        assert!(begins(next), "it is not the one");

        *said.lock().unwrap() = Ok([vec![0; 12], vec![0; 12]]);
        assert_eq!(replied(&resharing, &manifest, &sums).kind, Kind::FetchedShare);
        assert!(begins(previous) && begins(next), "both were back");

        *said.lock().unwrap() = Ok([vec![0; 12], vec![0; 12]]);
        replied(&resharing, &manifest, &sums);
        *said.lock().unwrap() = Ok([vec![0; 11], vec![0; 12]]);
        assert!(
            refusal(replied(&resharing, &manifest, &sums)).contains(&format!("{next} sent a malformed part"))
        );
        assert!(!begins(next) && begins(previous), "whose part it was");
    }
}
