//! What one end of a link says, and when: greetings, parts in their turn, confirmations and signs of life.

use std::{io::IoSlice, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    budget::Budget,
    connection::{Connection, Endpoint, Event, Op},
    frame::{Fields, Frame, Parsed},
    host::{Host, Shared},
    service::Peer,
    ticket::Token,
};

use crate::{
    hub::Hub,
    link::{LAZY, Link},
    options::{Key, Member, MemberId, Options, PART, Strategy, cost},
    spread::Dialled,
    stats::PeerStats,
    wire,
};

const HELLO: u8 = 1;
const PART_OF: u8 = 2;
const CREDIT: u8 = 3;
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

/// Member 9's end of a link, and what it has said.
struct End {
    hub: Arc<Hub>,
    connection: Connection<Link>,
    host: Host,
    now: Duration,
}

/// Kinds and bodies of messages.
type Messages = Vec<(u8, Vec<u8>)>;

/// Member 9's, whose peers are members 2 and 3.
fn hub(options: Options) -> Arc<Hub> {
    Hub::new(MemberId(9), [2, 3].map(|id| Member::new(id, ADDRESS.into())).into(), None, options)
}

impl End {
    /// A link that a peer has opened, or that was opened to the peer in this place.
    fn open(hub: &Arc<Hub>, dialled: Option<usize>) -> Self {
        let shared = Shared::new(Budget::default());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let permit = shared.gate.admit(None).unwrap();
        let link = Link::new(Arc::clone(hub), ADDRESS.into(), dialled.map(|to| Dialled { to, on: 0 }));
        let mut connection = match dialled {
            Some(_) => Connection::outgoing(link, ADDRESS.into(), shared, permit).0,
            None => Connection::accepted(link, Peer { address: ADDRESS.into() }, shared, permit),
        };
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        Self { hub: Arc::clone(hub), connection, host, now: Duration::ZERO }
    }

    /// What it says now, and whether it goes on.
    fn says(&mut self) -> (Messages, bool) {
        let mut said = Vec::new();
        while let Some(op) = self.connection.next() {
            match op {
                Op::Send => {
                    let mut slices = [IoSlice::new(&[]); 64];
                    let (count, _) = self.connection.output().gather(&mut slices);
                    let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                    said.extend_from_slice(&bytes);
                    let sent = Event::Sent(bytes.len() as u64);
                    self.connection.handle(self.now, sent, &mut self.host);
                }
                Op::Shutdown | Op::Close { .. } => return (frames(&said), false),
                _ => {}
            }
        }
        (frames(&said), true)
    }

    fn hear(&mut self, wire: &[u8]) -> (Messages, bool) {
        self.connection.handle(self.now, Event::Received(&mut BytesMut::from(wire)), &mut self.host);
        self.says()
    }

    fn at(&mut self, now: Duration) -> (Messages, bool) {
        self.now = now;
        self.connection.handle(now, Event::Tick, &mut self.host);
        self.connection.handle(now, Event::Woken, &mut self.host);
        self.says()
    }

    /// The other side ends it, and this one follows.
    fn ended(mut self) {
        self.connection.handle(self.now, Event::Ended, &mut self.host);
        while self.says().1 && self.connection.deadline().is_some() {
            let later = self.connection.deadline().unwrap().max(self.now);
            self.at(later);
        }
    }

    fn stats(&self) -> PeerStats {
        self.hub.stats().peers[0].1.clone()
    }
}

fn frames(mut wire: &[u8]) -> Messages {
    let mut messages = Vec::new();
    while !wire.is_empty() {
        let Ok(Parsed::Frame(frame)) = Frame::parse(wire, &wire::LIMITS) else { panic!("half a message") };
        messages.push((frame.kind, frame.body.to_vec()));
        wire = &wire[frame.len()..];
    }
    messages
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind, &Fields::new(), body);
    wire
}

/// The first word of `from` to `to`, which lets the other send so much.
fn hello(version: u8, [from, to]: [u8; 2], strategy: Strategy, allowance: u64) -> Vec<u8> {
    let [s0, s1] = strategy.code();
    framed(HELLO, &[&[version, from, to, s0, s1][..], &allowance.to_le_bytes()].concat())
}

/// A message of one part.
fn message(query: u128, length: usize) -> Vec<u8> {
    let numbers = [length as u32, 0].map(u32::to_le_bytes).concat();
    framed(PART_OF, &[&query.to_le_bytes()[..], &[0; 4], &numbers, &vec![7; length]].concat())
}

fn credit(received: u64, taken: u64) -> Vec<u8> {
    [received.to_le_bytes(), taken.to_le_bytes()].concat()
}

/// A link of member 2's, which lets us send so much.
fn met(options: Options, allowance: u64) -> End {
    let strategy = options.strategy;
    let mut end = End::open(&hub(options), None);
    assert!(end.hear(&hello(1, [2, 9], strategy, allowance)).1);
    end
}

fn send(end: &End, query: u128, length: usize) {
    end.hub.send(0, Key { query, round: 0 }, vec![7; length].into()).unwrap();
}

/// The queries of the parts among `messages`.
fn parts(messages: &Messages) -> Vec<u8> {
    messages.iter().filter(|(kind, _)| *kind == PART_OF).map(|(_, body)| body[0]).collect()
}

#[test]
fn each_side_greets_once_and_whoever_was_dialled_has_to_be_the_one_who_answers() {
    let options = Options::with(Strategy::Pool(3));
    let (allowance, strategy) = (options.allowance(), options.strategy);
    let greeting = |to| frames(&hello(1, [9, to], strategy, allowance));
    let mut came = End::open(&hub(options.clone()), None);
    assert_eq!(came.says(), (vec![], true), "who has come speaks first");
    assert_eq!(came.hear(&hello(1, [2, 9], strategy, 1)), (greeting(2), true));
    for (from, right) in [(3, true), (2, false), (9, false), (4, false)] {
        let mut dialled = End::open(&hub(options.clone()), Some(1));
        assert_eq!(dialled.says(), (greeting(3), true));
        assert_eq!(dialled.hear(&hello(1, [from, 9], strategy, 1)), (vec![], right), "{from} answers");
    }
    for version in [0, 2] {
        let mut came = End::open(&hub(options.clone()), None);
        assert!(!came.hear(&hello(version, [2, 9], strategy, 1)).1, "version {version}");
    }
    for other in [Strategy::Pool(2), Strategy::Pool(4), Strategy::Multiplexed] {
        let mut came = End::open(&hub(options.clone()), None);
        assert!(!came.hear(&hello(1, [2, 9], other, 1)).1, "{other}");
    }
}

#[test]
fn who_says_anything_before_its_name_is_refused_and_counted() {
    for wire in [message(1, 5), framed(CREDIT, &credit(0, 0))] {
        let hub = hub(Options::default());
        let mut end = End::open(&hub, None);
        assert_eq!(end.hear(&wire), (vec![], false));
        drop(end);
        assert_eq!(hub.stats().refused, 1);
    }
}

#[test]
fn what_came_is_confirmed_soon_or_at_once_where_the_next_message_waits_for_that() {
    for (strategy, at_once) in [(Strategy::Multiplexed, false), (Strategy::Shared, true)] {
        let mut end = met(Options::with(strategy), 1 << 30);
        let confirmed = (vec![(CREDIT, credit(6, 0))], true);
        // An empty message counts as one byte.
        let said = end.hear(&[message(1, 5), message(2, 0)].concat());
        assert_eq!(said, if at_once { confirmed.clone() } else { (vec![], true) }, "{strategy}");
        assert_eq!(end.at(LAZY - Duration::from_nanos(1)), (vec![], true));
        assert_eq!(end.at(LAZY), if at_once { (vec![], true) } else { confirmed }, "{strategy}");
        assert_eq!((end.stats().bytes_in, end.stats().messages_in), (6, 2));
        assert_eq!(end.at(2 * LAZY), (vec![], true), "once is enough");
    }
}

#[test]
fn an_eighth_of_the_window_is_confirmed_without_delay() {
    let mut end = met(Options { window: 8 * PART, ..Options::default() }, 1 << 30);
    assert_eq!(end.hear(&message(1, PART - 1)), (vec![], true));
    assert_eq!(end.hear(&message(2, 1)), (vec![(CREDIT, credit(PART as u64, 0))], true));
}

#[test]
fn an_eighth_of_the_allowance_that_was_taken_is_told_without_delay_and_once() {
    let options = Options { largest: PART, per_peer: 8 * cost(PART), ..Options::default() };
    assert_eq!(options.allowance(), 8 * cost(PART) as u64);
    let mut end = met(options, 1 << 30);
    // Nobody wants these any more, so they are taken as soon as they come.
    (1..4).for_each(|query| end.hub.forget(Key { query, round: 0 }));
    assert_eq!(end.hear(&message(1, PART - 1)), (vec![], true));
    let taken = (cost(PART - 1) + cost(1)) as u64;
    assert_eq!(end.hear(&message(2, 1)), (vec![(CREDIT, credit(PART as u64, taken))], true));
    assert_eq!(end.hear(&message(3, 1)), (vec![], true), "of that it was told");
}

#[test]
fn a_sign_of_life_is_given_when_nothing_was_said_for_a_fifth_of_the_silence_that_ends_a_link() {
    let silence = Duration::from_secs(5);
    let second = Duration::from_secs(1);
    let mut end = met(Options { silence, ..Options::default() }, 1 << 30);
    let sign = |received| (vec![(CREDIT, credit(received, 0))], true);
    assert_eq!(end.at(second - Duration::from_nanos(1)), (vec![], true));
    assert_eq!(end.at(second), sign(0));
    // What is sent is a sign as well.
    send(&end, 1, 5);
    assert_eq!(parts(&end.at(second * 3 / 2).0), [1]);
    assert_eq!(end.at(second * 2), (vec![], true));
    assert_eq!(end.at(second * 5 / 2), sign(0));
    // And what is heard is one of the other side's.
    end.now = second * 4;
    assert!(end.hear(&framed(CREDIT, &credit(5, 0))).1);
    assert!(end.at(second * 9 - Duration::from_nanos(1)).1);
    assert!(!end.at(second * 9).1);
}

#[test]
fn one_message_travels_at_a_time_where_it_has_a_connection_of_its_own_and_the_next_when_it_is_confirmed() {
    for strategy in [Strategy::Shared, Strategy::Pool(2)] {
        let mut end = met(Options::with(strategy), 1 << 30);
        (1..3).for_each(|query| send(&end, query, 5));
        assert_eq!(parts(&end.at(LAZY).0), [1], "{strategy}");
        assert_eq!(parts(&end.hear(&framed(CREDIT, &credit(4, 0))).0), []);
        assert_eq!(parts(&end.hear(&framed(CREDIT, &credit(5, 0))).0), [2]);
    }
}

#[test]
fn a_link_for_one_message_carries_that_of_who_has_opened_it_and_ends_when_it_is_confirmed() {
    let hub = hub(Options::with(Strategy::PerQuery));
    let mut came = End::open(&hub, None);
    hub.send(0, Key { query: 1, round: 0 }, "ahoy".into()).unwrap();
    assert_eq!(parts(&came.hear(&hello(1, [2, 9], Strategy::PerQuery, 1 << 30)).0), []);
    let mut waits = End::open(&self::hub(Options::with(Strategy::PerQuery)), Some(0));
    let word = [hello(1, [2, 9], Strategy::PerQuery, 1 << 30), framed(CREDIT, &credit(0, 0))].concat();
    assert!(waits.hear(&word).1, "it has carried nothing yet");
    let mut dialled = End::open(&hub, Some(0));
    hub.send(0, Key { query: 2, round: 0 }, "ahoy".into()).unwrap();
    let (said, goes_on) = dialled.hear(&hello(1, [2, 9], Strategy::PerQuery, 1 << 30));
    assert!(goes_on && parts(&said) == [1], "{said:?}");
    assert_eq!(dialled.hear(&framed(CREDIT, &credit(0, 0))), (vec![], true));
    let (said, goes_on) = dialled.hear(&framed(CREDIT, &credit(4, 0)));
    assert!(!goes_on && parts(&said).is_empty(), "the second has a link of its own");
    dialled.ended();
    assert_eq!((came.stats().messages_out, came.stats().lost), (1, 0), "its end is no loss");
}

#[test]
fn a_link_that_the_peer_ends_is_lost_unless_it_was_for_one_message_that_was_confirmed() {
    for (strategy, confirmed, lost) in
        [(Strategy::PerQuery, 4, 0), (Strategy::PerQuery, 0, 1), (Strategy::Multiplexed, 4, 1)]
    {
        let hub = hub(Options::with(strategy));
        let mut dialled = End::open(&hub, Some(0));
        hub.send(0, Key { query: 1, round: 0 }, "ahoy".into()).unwrap();
        let (said, _) = dialled.hear(&hello(1, [2, 9], strategy, 1 << 30));
        assert_eq!(parts(&said), [1]);
        dialled.hear(&framed(CREDIT, &credit(confirmed, 0)));
        dialled.ended();
        let (_, peer) = &hub.stats().peers[0];
        assert_eq!((peer.lost, peer.trouble.is_some()), (lost, lost > 0), "{strategy}, {confirmed}");
    }
}

#[test]
fn large_messages_take_turns_and_of_one_key_the_second_is_given_up() {
    let mut end = met(Options::default(), 1 << 30);
    (1..3).for_each(|query| send(&end, query, 3 * PART));
    send(&end, 1, 2 * PART);
    let (said, goes_on) = end.at(LAZY);
    assert_eq!((parts(&said), goes_on), (vec![1, 2, 1, 2, 1, 2], true));
    assert_eq!(end.stats().expired, 1);
    send(&end, 7, 5);
    assert_eq!(parts(&end.at(2 * LAZY).0), [7]);
    assert_eq!(end.stats().most_ahead, 6 * PART as u64);
}

#[test]
fn no_more_is_begun_than_the_other_side_has_memory_for_and_an_eighth_of_that_is_for_small_messages() {
    let large = PART + 1;
    let seven_eighths = cost(large) as u64;
    for (less, begun) in [(0, vec![1, 1]), (1, vec![])] {
        // The greatest allowance of which seven eighths are one byte less, and the least of which they are enough.
        let allowance = (seven_eighths * 8).div_ceil(7) - 2 * less;
        let mut end = met(Options::default(), allowance);
        send(&end, 1, large);
        assert_eq!(parts(&end.at(LAZY).0), begun, "{allowance}");
    }
    for (allowance, begun) in [(cost(5), vec![1]), (cost(5) - 1, vec![]), (2 * cost(5), vec![1, 2])] {
        let mut end = met(Options::default(), allowance as u64);
        (1..4).for_each(|query| send(&end, query, 5));
        assert_eq!(parts(&end.at(LAZY).0), begun, "{allowance}");
    }
    let mut end = met(Options::default(), cost(5) as u64);
    (1..3).for_each(|query| send(&end, query, 5));
    assert_eq!(parts(&end.at(LAZY).0), [1]);
    assert_eq!(parts(&end.hear(&framed(CREDIT, &credit(5, cost(5) as u64 - 1))).0), []);
    assert_eq!(parts(&end.hear(&framed(CREDIT, &credit(5, cost(5) as u64))).0), [2]);
}
