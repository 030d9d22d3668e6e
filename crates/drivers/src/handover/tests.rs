//! Who is handed a connection, and what becomes of those that are on their way.
#![forbid(unsafe_code)]

use roadstead_proto::{
    budget::Budget,
    host::Shared,
    input::Input,
    service::{Done, Peer, Scope, Service, Session},
    session::Context,
};

use super::*;
use crate::accept::opener;

struct Silent;

impl Service for Silent {
    type Session = Silent;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Silent {
        Silent
    }
}

impl Session for Silent {
    type Reply = ();
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

/// A connection that the budget of `shared` has admitted.
fn handed(stream: usize, shared: &Arc<Shared>) -> Handed<usize> {
    let peer = Peer { address: ([192, 0, 2, 1], 9).into() };
    let permit = shared.gate.admit(peer.address.ip()).unwrap();
    Handed { stream, peer, permit, open: opener(Arc::new(Silent), Arc::clone(shared), None) }
}

fn anybody() -> Arc<Shared> {
    Shared::new(Budget::default())
}

/// A loop that hands connections to as many others, and what these have.
fn with_others(count: usize) -> (Handover<usize>, Vec<Handover<usize>>) {
    let inboxes: Vec<_> = (0..count).map(|_| Arc::<Inbox<usize>>::default()).collect();
    let other = |inbox: &Arc<_>| Other { inbox: Arc::clone(inbox), wake_queue: WakeQueue::new() };
    let others = inboxes.iter().map(other).collect();
    let theirs = inboxes.into_iter().map(|inbox| Handover::new(inbox, Vec::new())).collect();
    (Handover::of_listener(others), theirs)
}

#[test]
fn each_goes_to_the_loop_that_has_fewest_counting_what_is_on_its_way() {
    let (mut first, mut others) = with_others(2);
    let (shared, mut own) = (anybody(), 0);
    let mut come = |first: &mut Handover<_>, count: usize| {
        for stream in 0..count {
            own += usize::from(first.hand(handed(stream, &shared), own).is_some());
        }
        own
    };
    assert_eq!(come(&mut first, 6), 2);
    assert_eq!(others.iter_mut().map(|other| other.take().len()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(come(&mut first, 3), 3, "what was taken is counted still");
    others[0].take();
    others[0].has(0);
    assert_eq!(come(&mut first, 3), 3, "all go to the one that has none");
    assert_eq!(others[0].take().len(), 3);
    others[0].has(2);
    others[1].take();
    others[1].has(7);
    assert_eq!(come(&mut first, 4), 5, "two and three, and one of five");
    assert_eq!((others[0].take().len(), others[1].take().len()), (2, 0));
}

#[test]
fn nothing_is_handed_to_a_loop_that_has_ended_and_what_lay_there_is_given_back() {
    let (mut first, mut others) = with_others(1);
    let shared = anybody();
    assert!(first.hand(handed(1, &shared), 1).is_none());
    assert_eq!(others[0].close().iter().map(|handed| handed.stream).collect::<Vec<_>>(), [1]);
    assert!(first.hand(handed(2, &shared), 5).is_some_and(|back| back.stream == 2));
    let (mut first, others) = with_others(1);
    drop(others);
    assert!(
        first.hand(handed(3, &shared), 5).is_some_and(|back| back.stream == 3),
        "nor to one that has broken"
    );
}

#[test]
fn nothing_is_over_before_the_last_was_handed_over_and_taken() {
    let shared = anybody();
    let (mut first, mut others) = with_others(2);
    assert!(first.is_over() && !others[0].is_over());
    assert!(first.hand(handed(1, &shared), 1).is_none());
    first.end();
    assert!(!others[0].is_over() && others[1].is_over());
    assert!(first.hand(handed(2, &shared), 5).is_some());
    assert_eq!(others[0].take().len(), 1);
    assert!(others[0].is_over());
}

#[test]
fn a_loop_that_is_late_is_handed_so_many_and_no_more() {
    let shared = anybody();
    let (mut first, mut others) = with_others(1);
    let mut come = |count: usize| {
        (0..count).filter(|&stream| first.hand(handed(stream, &shared), 1000).is_none()).count()
    };
    assert_eq!([come(63), come(1), come(1)], [63, 1, 0]);
    assert_eq!(others[0].take().len(), 64);
    assert_eq!(come(1), 1);
}

#[test]
fn whoever_is_on_the_way_is_counted_and_given_back_if_nobody_takes_them() {
    let shared = anybody();
    let (mut first, mut others) = with_others(1);
    for stream in 0..3 {
        assert!(first.hand(handed(stream, &shared), 5).is_none());
    }
    assert_eq!(shared.gate.open(), 3);
    drop(others[0].take());
    assert_eq!(shared.gate.open(), 0);
    assert!(first.hand(handed(4, &shared), 5).is_none());
    drop((first, others));
    assert_eq!((shared.gate.open(), shared.gate.addresses()), (0, 0));
}
