//! Clients that ask on and take next to nothing of their answers, event by event: the memory for answers is limited, and
//! whoever keeps it from others has little time.

#![allow(clippy::unwrap_used)]

mod common;

use std::{io::IoSlice, iter, sync::Arc, time::Duration};

use bytes::BytesMut;
use common::{SEARCH, byte_rows, expander, rng, share_rows};
use roadstead::{
    Frame, Peer, Service,
    connection::{Connection, Endpoint, Event, Op},
    frame::{Fields, Limits, Parsed},
    host::{Host, Shared},
    ticket::Token,
};
use roadstead_trident::{
    party::Party,
    query::Collection,
    server::{Trident, TridentSession},
    share::{CLIENT_DIR, server_dir},
    store::Store,
    wire::{self, Hello, Kind, Welcome},
};

const PARTY: Party = Party::ALL[0];

/// A server without a network: its connections, and the thread that they share.
struct Setting {
    trident: Trident,
    collection: Collection,
    shared: Arc<Shared>,
    host: Host,
    _dir: tempfile::TempDir,
}

impl Setting {
    /// A server of rows of one element.
    fn of(rows: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        share_rows(&byte_rows(rows, 1, 1), dir.path(), SEARCH, 2);
        let collection = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
        let trident = Trident::new(Store::open(&server_dir(dir.path(), PARTY), PARTY, u64::MAX).unwrap());
        let shared = Shared::new(trident.budget());
        let host = Host::alone(Arc::clone(&shared), 1);
        Self { trident, collection, shared, host, _dir: dir }
    }

    /// A client that may ask.
    fn client(&mut self) -> Client {
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let permit = self.shared.gate.admit(None).unwrap();
        let session = self.trident.open(&peer);
        let mut connection = Connection::accepted(session, peer, Arc::clone(&self.shared), permit);
        connection.place(Token(1), self.host.bell(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut self.host);
        let mut client = Client { connection, asked: 0 };
        let hello = Hello { version: wire::VERSION, party: PARTY, digest: self.collection.digest() };
        client.say(0, &framed(Kind::Hello, &hello.encode()), self);
        let mut slices = [IoSlice::new(&[])];
        client.connection.output().gather(&mut slices);
        let Parsed::Frame(frame) = Frame::parse(&slices[0], &Limits { fields: 0, body: 100 }).unwrap() else {
            panic!("no welcome came");
        };
        let mut nonces = [[3; 16]; 3];
        nonces[PARTY.index()] = Welcome::parse(frame.body).unwrap().nonce;
        let all = client.connection.output().buffered() as u64;
        client.happen(0, Event::Sent(all), self);
        client.say(0, &framed(Kind::Nonces, &wire::encode_nonces(&nonces)), self);
        client
    }

    /// Does all work that waits.
    fn work(&mut self) {
        while self.host.run_job() {}
    }
}

struct Client {
    connection: Connection<TridentSession>,
    asked: u64,
}

impl Client {
    /// What happens in this second. False if the connection is closed for it.
    fn happen(&mut self, second: u64, event: Event<'_>, setting: &mut Setting) -> bool {
        let now = Duration::from_secs(second);
        self.connection.handle(now, event, &mut setting.host);
        !iter::from_fn(|| self.connection.next()).any(|op| matches!(op, Op::Close { .. }))
    }

    fn say(&mut self, second: u64, wire: &[u8], setting: &mut Setting) {
        assert!(self.happen(second, Event::Received(&mut BytesMut::from(wire)), setting));
    }

    /// Asks for all scores, or for a row.
    fn ask(&mut self, second: u64, kind: Kind, setting: &mut Setting) {
        self.asked += 1;
        let random = &mut rng(self.asked);
        let body = match kind {
            Kind::Search => setting.collection.search(&[7.0], true, self.asked, random).unwrap().1[0].clone(),
            _ => setting.collection.fetch(0, self.asked, &expander(), random).unwrap().1[0].clone(),
        };
        self.say(second, &framed(kind, &body), setting);
    }

    /// The answers that are ready are put before it: so many bytes are now to be taken.
    fn answered(&mut self, second: u64, setting: &mut Setting) -> usize {
        assert!(self.happen(second, Event::Woken, setting));
        self.connection.output().buffered()
    }
}

fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind as u8, &Fields::new(), body);
    wire
}

#[test]
fn a_client_that_asks_on_and_takes_no_answer_has_no_more_time_than_one_that_is_silent() {
    // The scores of so many rows fit a few times into the memory for answers.
    let mut setting = Setting::of(100_000);
    let mut slow = setting.client();
    slow.ask(0, Kind::Search, &mut setting);
    setting.work();
    let scores = slow.answered(0, &mut setting);
    assert!(scores > 1 << 20);
    // Small answers cost no memory that others wait for.
    slow.ask(2, Kind::Fetch, &mut setting);
    setting.work();
    assert!(slow.answered(2, &mut setting) > scores);
    assert!(slow.happen(3, Event::Tick, &mut setting), "nobody needs the memory");
    let mut others = setting.client();
    (0..20).for_each(|_| others.ask(3, Kind::Search, &mut setting));
    slow.ask(5, Kind::Fetch, &mut setting);
    setting.work();
    slow.answered(5, &mut setting);
    assert!(!slow.happen(6, Event::Tick, &mut setting), "it keeps the memory that others wait for");
}
