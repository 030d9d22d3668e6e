//! What comes on a link, with single bytes changed, and cut: refused, or no part of what is gathered, or, where only
//! TLS tells a change, the bytes of the message alone.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use roadstead_proto::{frame::HEAD, guard::Guarded};

use crate::{
    GatherError,
    hub::Hub,
    link::tests::{KEY, Line, hello, part},
    options::{Member, MemberId, Options, PART},
};

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
        Line::open(&self.hub).hear(wire)
    }

    /// What was gathered until now; `None` if the message is missing.
    fn gathered(&self) -> Option<Vec<u8>> {
        self.hub.expire(Duration::ZERO);
        self.told.try_recv().unwrap().ok()
    }
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
