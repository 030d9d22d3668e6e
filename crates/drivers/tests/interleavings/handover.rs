//! What one loop hands to another: it is found, or it comes back, whenever the other ends.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/handover/inbox.rs"]
mod included;

use std::sync::Arc;

use included::{Handed, Inbox};
use loom::thread;

use crate::{
    accept::Open,
    budget::Permit,
    play,
    service::Peer,
    ticket::{Loop, Token},
};

/// What calls the loop; which number it has does not matter here.
const CALLED: Token = Token(7);

fn handed(stream: usize) -> Handed<usize> {
    Handed { stream, peer: Peer, permit: Permit, open: Arc::new(Open) }
}

#[test]
fn a_loop_finds_whatever_was_handed_to_it_before_it_sleeps_and_knows_how_many_it_has() {
    play(3, || {
        let (home, inbox) = (Loop::new(), Arc::<Inbox<usize>>::default());
        let (wake_queue, theirs) = (Arc::clone(&home.wake_queue), Arc::clone(&inbox));
        let acceptor = thread::spawn(move || {
            for stream in 0..2 {
                assert!(theirs.load().is_some_and(|load| load >= stream), "none on its way is forgotten");
                assert!(theirs.put(handed(stream)).is_ok());
                wake_queue.wake(CALLED);
            }
        });
        let mut found = Vec::new();
        while found.len() < 2 {
            if home.turn().contains(&CALLED) {
                found.extend(inbox.take().into_iter().map(|handed| handed.stream));
                inbox.has(found.len());
            }
        }
        acceptor.join().unwrap();
        assert_eq!((found, inbox.load()), (vec![0, 1], Some(2)));
    });
}

#[test]
fn what_is_handed_to_a_loop_that_ends_is_with_one_of_the_two() {
    play(3, || {
        let inbox = Arc::<Inbox<usize>>::default();
        let theirs = Arc::clone(&inbox);
        let acceptor = thread::spawn(move || theirs.put(handed(1)).err().map(|back| back.stream));
        let mut found: Vec<_> = inbox.take().into_iter().map(|handed| handed.stream).collect();
        found.extend(inbox.close().into_iter().map(|handed| handed.stream));
        found.extend(acceptor.join().unwrap());
        assert_eq!((found, inbox.load()), (vec![1], None));
    });
}
