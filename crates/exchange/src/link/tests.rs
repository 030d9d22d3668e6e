//! One end of a link, told what comes: what it sends, what it believes, and when it is closed.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    Address,
    budget::Budget,
    connection::{Connection, Endpoint, Event, Op},
    frame::{Fields, Frame},
    host::{Host, Shared},
    service::Peer,
    ticket::Token,
};

use crate::{
    hub::Hub,
    link::Link,
    options::{Key, Member, MemberId, Options, PART, Strategy, cost},
    stats::PeerStats,
};

pub(crate) const KEY: Key = Key { query: 1, round: 0 };

/// A link that member 2 has opened to member 9.
pub(crate) struct Line {
    connection: Connection<Link>,
    host: Host,
}

impl Line {
    pub(crate) fn open(hub: &Arc<Hub>) -> Self {
        let shared = Shared::new(Budget::default());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let permit = shared.gate.admit(None).unwrap();
        let address = Address::from(([127, 0, 0, 1], 9));
        let link = Link::new(Arc::clone(hub), address.clone(), None);
        let mut connection = Connection::accepted(link, Peer { address }, shared, permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        Self { connection, host }
    }

    /// Member 2 says this. False if the link is closed for it.
    pub(crate) fn hear(&mut self, wire: &[u8]) -> bool {
        self.happen(Event::Received(&mut BytesMut::from(wire)))
    }

    fn happen(&mut self, event: Event<'_>) -> bool {
        self.connection.handle(Duration::ZERO, event, &mut self.host);
        // What it says itself leaves first.
        while let Some(op) = self.connection.next() {
            match op {
                Op::Send => {
                    let sent = self.connection.output().buffered() as u64;
                    self.connection.handle(Duration::ZERO, Event::Sent(sent), &mut self.host);
                }
                Op::Shutdown | Op::Close { .. } => return false,
                _ => {}
            }
        }
        true
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind, &Fields::new(), body);
    wire
}

/// The first word of member 2.
pub(crate) fn hello() -> Vec<u8> {
    let [s0, s1] = Strategy::Multiplexed.code();
    frame(1, &[&[1, 2, 9, s0, s1][..], &(1u64 << 30).to_le_bytes()].concat())
}

/// A part of a message of [`KEY`].
pub(crate) fn part(message: &[u8], offset: usize) -> Vec<u8> {
    let bytes = &message[offset..message.len().min(offset + PART)];
    let numbers = [message.len() as u32, offset as u32].map(u32::to_le_bytes).concat();
    frame(2, &[&KEY.query.to_le_bytes()[..], &KEY.round.to_le_bytes(), &numbers, bytes].concat())
}

/// So many bytes have been received, and as many were taken.
fn credit(received: usize, taken: usize) -> Vec<u8> {
    frame(3, [received, taken].map(|count| (count as u64).to_le_bytes()).as_flattened())
}

/// Member 9's, whose only peer is member 2.
fn hub(options: Options) -> Arc<Hub> {
    Hub::new(MemberId(9), vec![Member::new(2, ([127, 0, 0, 1], 9).into())], None, options)
}

/// A link on which member 2 has said who it is, to which this was to be sent.
fn sending(messages: &[usize]) -> (Arc<Hub>, Line) {
    let hub = hub(Options::default());
    for (query, length) in (0..).zip(messages) {
        hub.send(0, Key { query, round: 0 }, vec![7; *length].into()).unwrap();
    }
    let mut line = Line::open(&hub);
    assert!(line.hear(&hello()));
    (hub, line)
}

fn stats(hub: &Hub) -> PeerStats {
    hub.stats().peers[0].1.clone()
}

#[test]
fn a_message_is_confirmed_with_its_last_byte_and_not_before() {
    for confirmed in 0..=5 {
        let (hub, mut line) = sending(&[5]);
        assert!(line.hear(&credit(confirmed, 0)));
        drop(line);
        // What was not is sent again over the next link.
        let whole = confirmed == 5;
        assert_eq!((stats(&hub).messages_out, stats(&hub).queued > 0), (whole.into(), !whole));
    }
}

#[test]
fn who_confirms_what_was_not_sent_is_not_believed() {
    let begun = cost(5);
    for (received, taken, believed) in [(5, begun, true), (6, 0, false), (5, begun + 1, false)] {
        let (_hub, mut line) = sending(&[5]);
        assert_eq!(line.hear(&credit(received, taken)), believed, "{received}, {taken}");
    }
    for (received, taken) in [(4, begun), (5, begun - 1)] {
        let (_hub, mut line) = sending(&[5]);
        assert!(line.hear(&credit(5, begun)) && line.hear(&credit(5, begun)));
        assert!(!line.hear(&credit(received, taken)), "it takes back what it has said");
    }
}

#[test]
fn no_more_is_under_way_than_the_window_and_of_that_a_quarter_is_for_small_messages() {
    let window = Options::default().window;
    let (hub, mut line) = sending(&[2 * window]);
    assert_eq!(stats(&hub).bytes_out, (window - window / 4) as u64);
    for query in 0..window / PART {
        hub.send(0, Key { query: 9 + query as u128, round: 0 }, vec![7; PART].into()).unwrap();
    }
    assert!(line.happen(Event::Woken));
    assert_eq!(stats(&hub).bytes_out, window as u64);
    assert!(line.hear(&credit(PART, 0)));
    assert_eq!(stats(&hub).bytes_out, (window + PART) as u64);
}

#[test]
fn a_message_may_be_as_large_as_agreed_and_no_larger() {
    let largest = 2 * PART;
    for (length, taken) in [(largest, true), (largest + 1, false)] {
        let mut line = Line::open(&hub(Options { largest, ..Options::default() }));
        assert_eq!(line.hear(&[hello(), part(&vec![7; length], 0)].concat()), taken, "{length} bytes");
    }
}

#[test]
fn who_introduces_itself_twice_is_turned_away() {
    let hub = hub(Options::default());
    let mut line = Line::open(&hub);
    assert!(line.hear(&hello()));
    assert_eq!(stats(&hub).up, 1);
    assert!(!line.hear(&hello()));
    drop(line);
    assert_eq!(stats(&hub).up, 0);
}

#[test]
fn a_link_in_whose_place_the_peer_has_opened_another_is_closed() {
    let hub = hub(Options::default());
    let [mut first, mut second] = [(); 2].map(|()| Line::open(&hub));
    assert!(first.hear(&hello()) && first.happen(Event::Woken));
    assert!(second.hear(&hello()));
    assert!(!first.happen(Event::Woken));
    assert!(second.happen(Event::Woken));
    assert_eq!(stats(&hub).up, 1);
}
