//! What comes on a link, with single bytes changed, and cut: refused, or no part of what is gathered, or, where only TLS
//! tells a change, the bytes of the message alone.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::BytesMut;

use super::{
    GatherError,
    hub::Hub,
    link::Link,
    options::{Key, Member, MemberId, Options, PART},
};
use crate::{
    budget::Budget,
    connection::{Connection, Endpoint, Event, Op},
    frame::{Fields, Frame, HEAD},
    guard::Guarded,
    host::{Host, Shared},
    service::Peer,
    ticket::Token,
};

const KEY: Key = Key { query: 1, round: 0 };

/// Member 9, whose only peer is member 2, and what it gathers of [`KEY`].
struct Nine {
    hub: Arc<Hub>,
    told: mpsc::Receiver<Result<Vec<u8>, GatherError>>,
}

impl Nine {
    fn new() -> Self {
        let peer = Member::new(2, ([127, 0, 0, 1], 9).into());
        let hub = Hub::new(MemberId(9), vec![peer], None, Options::default());
        let (tell, told) = mpsc::channel();
        let tell = move |result: Result<super::Gathered, _>| {
            let bytes = result.map(|gathered| gathered[0].1.to_vec());
            tell.send(bytes).unwrap();
        };
        hub.gather(KEY, Duration::ZERO, Guarded::new(Box::new(tell)));
        Self { hub, told }
    }

    /// Member 2 opens a link and says this. False if it is closed for it.
    fn hear(&self, wire: &[u8]) -> bool {
        let shared = Shared::new(Budget::default());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let permit = shared.gate.admit(None).unwrap();
        let address = ([127, 0, 0, 1], 9).into();
        let link = Link::new(Arc::clone(&self.hub), address, None);
        let mut connection = Connection::accepted(link, Peer { address }, shared, permit);
        connection.place(Token(1), host.bell(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        connection.handle(Duration::ZERO, Event::Received(&mut BytesMut::from(wire)), &mut host);
        // What it has said itself leaves first.
        while let Some(op) = connection.next() {
            match op {
                Op::Send => {
                    let sent = connection.output().buffered() as u64;
                    connection.handle(Duration::ZERO, Event::Sent(sent), &mut host);
                }
                Op::Shutdown | Op::Close { .. } => return false,
                _ => {}
            }
        }
        true
    }

    /// What was gathered until now; `None` if the message is missing.
    fn gathered(&self) -> Option<Vec<u8>> {
        self.hub.expire(Duration::ZERO);
        self.told.try_recv().unwrap().ok()
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind, &Fields::new(), body);
    wire
}

fn hello() -> Vec<u8> {
    let [s0, s1] = Options::default().strategy.code();
    frame(1, &[&[1, 2, 9, s0, s1][..], &(1u64 << 30).to_le_bytes()].concat())
}

fn part(message: &[u8], offset: usize) -> Vec<u8> {
    let bytes = &message[offset..message.len().min(offset + PART)];
    let numbers = [message.len() as u32, offset as u32].map(u32::to_le_bytes).concat();
    frame(2, &[&KEY.query.to_le_bytes()[..], &KEY.round.to_le_bytes(), &numbers, bytes].concat())
}

#[test]
fn every_byte_of_a_link_counts_but_those_that_only_tls_can_tell() {
    let message = b"a share of a row";
    let (hello, part) = (hello(), part(message, 0));
    let wire = [&hello[..], &part].concat();
    let nine = Nine::new();
    assert!(nine.hear(&wire) && nine.gathered().is_some_and(|gathered| gathered == message));
    let allowance = hello.len() - 8..hello.len();
    let key = hello.len() + HEAD..hello.len() + HEAD + 20;
    let bytes = wire.len() - message.len()..wire.len();
    for at in 0..wire.len() {
        let mut wire = wire.clone();
        wire[at] ^= 1 << (at % 8);
        let nine = Nine::new();
        let goes_on = nine.hear(&wire);
        let gathered = nine.gathered();
        match gathered {
            // How much may be sent before it is taken is the peer's affair.
            Some(gathered) if allowance.contains(&at) => assert_eq!(gathered, message),
            Some(gathered) => assert!(bytes.contains(&at) && gathered == wire[bytes.clone()], "byte {at}"),
            // Of another query, which nobody asks for.
            None if key.contains(&at) => assert!(goes_on),
            None => assert!(!goes_on, "byte {at}"),
        }
    }
}

#[test]
fn a_message_that_is_cut_anywhere_is_not_gathered() {
    let wire = [hello(), part(b"ahoy", 0)].concat();
    for length in 0..wire.len() {
        let nine = Nine::new();
        nine.hear(&wire[..length]);
        assert_eq!(nine.gathered(), None, "{length} bytes");
        assert_eq!(nine.hub.stats().held, 0);
    }
}

/// What a lost link had brought of a message is of no use to the next.
#[test]
fn parts_of_two_links_are_never_put_together() {
    let message: Vec<u8> = (0..2 * PART + 5).map(|at| (at / 3) as u8).collect();
    let parts = [0, PART, 2 * PART].map(|offset| part(&message, offset));
    for lost_after in 1..3 {
        let nine = Nine::new();
        assert!(nine.hear(&[hello(), parts[..lost_after].concat()].concat()));
        assert!(
            !nine.hear(&[hello(), parts[lost_after..].concat()].concat()),
            "it goes on where another was"
        );
        assert_eq!(nine.hub.stats().held, 0);
        // The peer sends again over a new link what was not confirmed on the lost one.
        assert!(nine.hear(&[hello(), parts.concat()].concat()));
        assert!(nine.gathered().is_some_and(|gathered| gathered == message));
    }
    let [first, second, third] = &parts;
    for wrong in
        [[first, third, second], [second, first, third], [first, second, second], [first, first, second]]
    {
        let nine = Nine::new();
        let wire: Vec<u8> = [hello()].iter().chain(wrong).flatten().copied().collect();
        assert!(!nine.hear(&wire));
        assert_eq!(nine.gathered(), None);
    }
}
