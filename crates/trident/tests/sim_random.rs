//! A server whose system has no randomness half of the time: a connection without a nonce is none, and sums that cannot
//! be shared on fresh lines are not shared.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use roadstead_proto::{Closed, Context, Done, Frame, Input, Ready, Session, frame::Limits, frame::Parsed};
use roadstead_sim::{Faults, Sim, seeds};
use roadstead_trident::{
    field::sub,
    mask::Nonce,
    party::Party,
    peers::{self, Absent, Peers},
    prg::Expander,
    query::Collection,
    server::Trident,
    share::{CLIENT_DIR, server_dir},
    store::Store,
    wire::{self, Hello, Kind, VERSION, Welcome},
};

use common::{SEARCH, byte_rows, elements, rng, share_rows};

const FIRST: Party = Party::ALL[0];
const VISITORS: usize = 20;
/// Fetches of each.
const FETCHES: usize = 3;

/// What came out of a server.
#[derive(Default)]
struct Seen {
    nonces: HashSet<Nonce>,
    /// Of the lines on which it has shared its sums.
    slopes: HashSet<Vec<u32>>,
    refused: usize,
    lost: usize,
}

/// The peers of the first server, who take what they are sent and send nothing.
struct Deaf(Arc<Mutex<Seen>>);

impl Peers for Deaf {
    fn exchange(&self, _: u128, messages: [(Party, Bytes); 2], _: Duration, done: peers::Done) {
        let [second, third] = messages.map(|(_, message)| elements(&message));
        let slopes = second.iter().zip(&third).map(|(second, third)| sub(*third, *second)).collect();
        assert!(
            self.0.lock().unwrap().slopes.insert(slopes),
            "sums are shared on lines that were used before"
        );
        done(Err(Absent { missing: Vec::new(), why: "they are deaf".into() }));
    }
}

struct Visitor {
    collection: Arc<Collection>,
    seen: Arc<Mutex<Seen>>,
    refused: usize,
}

impl Visitor {
    fn ask(&self, nonce: Nonce, cx: &mut Context<'_, Self>) {
        assert!(self.seen.lock().unwrap().nonces.insert(nonce), "a nonce was issued before");
        let nonces = [nonce, [2; 16], [3; 16]];
        Frame::send(cx.output(), Kind::Nonces as u8, &wire::encode_nonces(&nonces));
        let expander = Expander::new(&self.collection.digest(), &nonces);
        for counter in 1..=FETCHES as u64 {
            let (_, bodies) = self.collection.fetch_shared(3, counter, &expander, &mut rng(counter)).unwrap();
            Frame::send(cx.output(), Kind::FetchShare as u8, &bodies[0]);
        }
    }
}

impl Session for Visitor {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            let hello = Hello { version: VERSION, party: FIRST, digest: self.collection.digest() };
            Frame::send(cx.output(), Kind::Hello as u8, &hello.encode());
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        while let Parsed::Frame(frame) = Frame::parse(input.bytes(), &Limits { fields: 0, body: 1 << 10 })? {
            match Kind::try_from(frame.kind).unwrap() {
                Kind::Welcome => self.ask(Welcome::parse(frame.body).unwrap().nonce, cx),
                Kind::Refusal => self.refused += 1,
                other => panic!("{other:?} without peers"),
            }
            let length = frame.len();
            input.consume(length);
        }
        if self.refused == FETCHES {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        let mut seen = self.seen.lock().unwrap();
        seen.refused += self.refused;
        seen.lost += usize::from(self.refused < FETCHES);
    }
}

#[test]
fn no_nonce_and_no_line_is_used_twice_though_the_system_has_no_randomness_half_of_the_time() {
    let dir = tempfile::tempdir().unwrap();
    share_rows(&byte_rows(30, 2, 1), dir.path(), SEARCH, 2);
    let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
    // Over all runs.
    let seen: Arc<Mutex<Seen>> = Arc::default();
    Sim::check(seeds(10), |sim| {
        let address = SocketAddr::from(([10, 0, 0, 1], 7101));
        let store = Store::open(&server_dir(dir.path(), FIRST), FIRST, u64::MAX).unwrap();
        let server = Trident::with_peers(store, Deaf(Arc::clone(&seen)), roadstead_trident::peers::PATIENCE);
        let faults = Faults { unseeded: 0.5, ..Faults::none() };
        let mut sim = sim.faults(faults).budget(server.budget()).serve(address, server);
        for _ in 0..VISITORS {
            let (collection, seen) = (Arc::clone(&collection), Arc::clone(&seen));
            sim = sim.client(address, Visitor { collection, seen, refused: 0 });
        }
        sim.run(Duration::from_secs(900)).map(drop)
    });
    let seen = seen.lock().unwrap();
    assert!(seen.lost > VISITORS && seen.refused > 0 && seen.refused <= seen.slopes.len());
    assert!(seen.nonces.len() < 10 * VISITORS, "all had a nonce");
}
