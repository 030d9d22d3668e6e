//! A server and its clients event by event: how much each may ask at once, what it is refused, and how long it may take
//! next to nothing of its answers while others wait for the memory.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, io::IoSlice, iter, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    Budget, Frame, Peer, Service, connection::Connection, connection::Endpoint, connection::Event,
    connection::Op, frame::Fields, frame::HEAD, frame::Limits, frame::Parsed, host::Host, host::Shared,
    ticket::Token,
};
use roadstead_trident::{
    party::Party,
    query::Collection,
    server::{CODE_NO_PEERS, CODE_STORE, Trident, TridentSession},
    share::{CLIENT_DIR, SEARCH_FILE, server_dir},
    store::Store,
    wire::{self, Hello, Kind, Refusal, Welcome},
};

use common::{SEARCH, byte_rows, expander, rng, share_rows};

const PARTY: Party = Party::ALL[0];

/// A server without a network: its connections, and the thread that they share.
struct Setting {
    trident: Trident,
    collection: Collection,
    shared: Arc<Shared>,
    host: Host,
    dir: tempfile::TempDir,
}

impl Setting {
    /// A server of rows of one element.
    fn of(rows: usize) -> Self {
        Self::with(rows, u64::MAX, |budget| budget)
    }

    /// The same with so many bytes of memory for search shares, and another budget.
    fn with(rows: usize, search_memory: u64, change: impl FnOnce(Budget) -> Budget) -> Self {
        Self::shaped((rows, 1), search_memory, change)
    }

    fn shaped(
        (rows, dim): (usize, usize),
        search_memory: u64,
        change: impl FnOnce(Budget) -> Budget,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        share_rows(&byte_rows(rows, dim, 1), dir.path(), SEARCH, 2);
        let collection = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
        let store = Store::open(&server_dir(dir.path(), PARTY), PARTY, search_memory).unwrap();
        let trident = Trident::new(store);
        let shared = Shared::new(change(trident.budget()));
        let host = Host::alone(Arc::clone(&shared), 1);
        Self { trident, collection, shared, host, dir }
    }

    /// A client that may ask.
    fn client(&mut self) -> Client {
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let permit = self.shared.gate.admit(None).unwrap();
        let session = self.trident.open(&peer);
        let mut connection = Connection::accepted(session, peer, Arc::clone(&self.shared), permit);
        connection.place(Token(1), self.host.wake_queue(), Duration::ZERO);
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
            Kind::FetchShare => {
                setting.collection.fetch_shared(0, self.asked, &expander(), random).unwrap().1[0].clone()
            }
            _ => setting.collection.fetch(0, self.asked, &expander(), random).unwrap().1[0].clone(),
        };
        self.say(second, &framed(kind, &body), setting);
    }

    /// Takes all that is there for it; answers the first message of that, if it is a refusal.
    fn take(&mut self, setting: &mut Setting) -> Option<Refusal> {
        let mut slices = [IoSlice::new(&[]); 8];
        let (count, _) = self.connection.output().gather(&mut slices);
        let bytes = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
        let Parsed::Frame(frame) = Frame::parse(&bytes, &Limits { fields: 0, body: 1 << 20 }).unwrap() else {
            panic!("no message came");
        };
        let refusal = (frame.kind == Kind::Refusal as u8).then(|| Refusal::parse(frame.body).unwrap());
        let all = self.connection.output().buffered() as u64;
        self.happen(0, Event::Sent(all), setting);
        refusal
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

#[test]
fn a_client_has_sixty_four_questions_under_way_and_the_next_when_an_answer_has_gone_out() {
    let mut setting = Setting::of(10);
    let mut client = setting.client();
    let each = HEAD + wire::fetched_len(setting.collection.manifest());
    (0..65).for_each(|_| client.ask(0, Kind::Fetch, &mut setting));
    setting.work();
    assert_eq!(client.answered(0, &mut setting), 64 * each, "one is left unread");
    client.take(&mut setting);
    setting.work();
    assert_eq!(client.answered(0, &mut setting), each);
    client.take(&mut setting);
    // As many as would fill its memory many times, if what was answered were still owed.
    for _ in 0..50 {
        (0..64).for_each(|_| client.ask(0, Kind::Fetch, &mut setting));
        setting.work();
        assert_eq!(client.answered(0, &mut setting), 64 * each);
        client.take(&mut setting);
    }
}

#[test]
fn a_refused_question_is_answered_with_its_number_and_the_reason() {
    let mut setting = Setting::with(1_000, 0, |budget| budget);
    let mut client = setting.client();
    client.ask(0, Kind::FetchShare, &mut setting);
    let Some(refusal) = client.take(&mut setting) else { panic!("there are no peers") };
    assert_eq!((refusal.counter, refusal.code), (1, CODE_NO_PEERS));
    client.ask(0, Kind::Search, &mut setting);
    setting.work();
    client.answered(0, &mut setting);
    assert_eq!(client.take(&mut setting), None, "the shares can be read");
    let shares = server_dir(setting.dir.path(), PARTY).join(SEARCH_FILE);
    fs::File::options().write(true).open(shares).unwrap().set_len(7).unwrap();
    (0..2).for_each(|_| client.ask(0, Kind::Search, &mut setting));
    setting.work();
    client.answered(0, &mut setting);
    let Some(refusal) = client.take(&mut setting) else { panic!("the shares are cut off") };
    assert_eq!((refusal.counter, refusal.code), (3, CODE_STORE));
}

#[test]
fn a_message_longer_than_any_request_is_refused_before_it_has_come() {
    let mut setting = Setting::of(1_000);
    let most = wire::max_request(setting.collection.manifest());
    for (length, code) in [(most, 8), (most + 1, 12)] {
        let mut client = setting.client();
        let body = [&1_u64.to_le_bytes()[..], &vec![0; length - 8]].concat();
        client.happen(0, Event::Received(&mut BytesMut::from(&framed(Kind::Fetch, &body)[..])), &mut setting);
        let refusal = client.take(&mut setting).unwrap();
        assert_eq!((refusal.counter, refusal.code), (0, code), "{length}");
    }
}

#[test]
fn who_could_never_be_answered_is_not_kept_waiting() {
    let mut setting = Setting::with(1_000, u64::MAX, |budget| budget.buffer_each(2_000));
    let mut client = setting.client();
    client.ask(0, Kind::Fetch, &mut setting);
    setting.work();
    assert!(client.answered(0, &mut setting) > 0);
    client.take(&mut setting);
    client.asked += 1;
    let body = setting.collection.search(&[7.0], true, client.asked, &mut rng(1)).unwrap().1[0].clone();
    let search = framed(Kind::Search, &body);
    assert!(!client.happen(0, Event::Received(&mut BytesMut::from(&search[..])), &mut setting));
}

/// A question of every kind, where the memory of a connection is just enough for its answer, and one byte less.
#[test]
fn an_answer_has_room_to_its_last_byte_or_is_not_begun() {
    let (rows, dim) = (2_000, 600);
    for kind in [Kind::Fetch, Kind::Search, Kind::FetchShare] {
        let length = |setting: &Setting| {
            let manifest = setting.collection.manifest();
            HEAD + match kind {
                Kind::Fetch => wire::fetched_len(manifest),
                Kind::Search => wire::searched_len(manifest, true),
                _ => wire::fetched_share_len(manifest),
            }
        };
        let enough = length(&Setting::shaped((rows, dim), u64::MAX, |budget| budget));
        for less in [0, 1] {
            let mut setting =
                Setting::shaped((rows, dim), u64::MAX, |budget| budget.buffer_each(enough - less));
            let mut client = setting.client();
            let random = &mut rng(1);
            let body = match kind {
                Kind::Search => setting.collection.search(&vec![7.0; dim], true, 1, random).unwrap().1,
                Kind::FetchShare => setting.collection.fetch_shared(0, 1, &expander(), random).unwrap().1,
                _ => setting.collection.fetch(0, 1, &expander(), random).unwrap().1,
            };
            let wire = framed(kind, &body[0]);
            let mut open = true;
            for part in wire.chunks(400) {
                open &= client.happen(0, Event::Received(&mut BytesMut::from(part)), &mut setting);
            }
            assert_eq!(open, less == 0, "{kind:?} with {less} bytes less than {enough}");
        }
    }
}

#[test]
fn who_has_taken_all_that_was_due_keeps_what_came_since_though_others_wait() {
    let mut setting = Setting::of(80_000);
    let mut client = setting.client();
    client.ask(0, Kind::Search, &mut setting);
    setting.work();
    assert!(client.answered(0, &mut setting) > 1 << 19);
    client.take(&mut setting);
    client.ask(1, Kind::Fetch, &mut setting);
    setting.work();
    assert!(client.answered(1, &mut setting) > 0);
    // More than the memory for answers, but no more than each may have of it.
    let mut others = [setting.client(), setting.client()];
    for other in &mut others {
        (0..10).for_each(|_| other.ask(2, Kind::Search, &mut setting));
    }
    assert!(client.happen(3, Event::Tick, &mut setting), "of what was due three seconds ago nothing is left");
    assert!(!client.happen(6, Event::Tick, &mut setting), "what came since is due by then");
}
