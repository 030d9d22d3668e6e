//! Every order of events, by chance: the rig's books must agree after each of them.

use std::io;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Open,
    Bytes(Bytes),
    Deliver(usize),
    End,
    Take(usize),
    TakeAll,
    Exhaust(bool),
    Finish(Index, u8),
    Lose(Index),
    Wake(Index),
    DropWaker(Index),
    DropChunk(Index),
    AnswerBell,
    Pass(u64),
    Tick,
    Jump,
    Fail,
    Drain,
    Stop,
}

/// Commands of the probe, whole and cut off, with noise between them.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![
        6 => vec(any::<u8>(), 0..120).prop_map(|body| [&[b'e', body.len() as u8][..], &body].concat()),
        4 => vec(any::<u8>(), 0..200).prop_map(|body| [&[b'c', body.len() as u8][..], &body].concat()),
        3 => any::<u8>().prop_map(|count| vec![b'w', count / 2]),
        3 => any::<u8>().prop_map(|count| vec![b'f', count]),
        4 => Just(b"t.".to_vec()),
        2 => Just(b"k.".to_vec()),
        2 => any::<u8>().prop_map(|count| vec![b'm', count]),
        1 => (90..120u8).prop_map(|count| vec![b'n', count]),
        1 => Just(b"x.".to_vec()),
        2 => Just(b"h.".to_vec()),
        1 => Just(b"y.".to_vec()),
        1 => Just(b"v.".to_vec()),
        1 => (0..20u8).prop_map(|dice| vec![if dice == 0 { b'a' } else { b'.' }, 0]),
        2 => vec(any::<u8>(), 0..4),
    ];
    // A cut shifts what is read as a command, and must not make a panic of an argument.
    vec(command, 0..8).prop_map(|commands| {
        commands.concat().into_iter().map(|byte| if byte == b'p' { b'q' } else { byte }).collect()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(Action::Open),
        12 => input().prop_map(|bytes| Action::Bytes(bytes.into())),
        6 => (1..40usize).prop_map(Action::Deliver),
        2 => Just(Action::End),
        8 => (0..300usize).prop_map(Action::Take),
        6 => Just(Action::TakeAll),
        2 => any::<bool>().prop_map(Action::Exhaust),
        4 => any::<(Index, u8)>().prop_map(|(which, reply)| Action::Finish(which, reply)),
        2 => any::<Index>().prop_map(Action::Lose),
        3 => any::<Index>().prop_map(Action::Wake),
        2 => any::<Index>().prop_map(Action::DropWaker),
        2 => any::<Index>().prop_map(Action::DropChunk),
        6 => Just(Action::AnswerBell),
        3 => (0..20_000u64).prop_map(Action::Pass),
        2 => Just(Action::Tick),
        1 => Just(Action::Jump),
        1 => (0..4u8).prop_map(|dice| if dice == 0 { Action::Fail } else { Action::Tick }),
        1 => (0..3u8).prop_map(|dice| if dice == 0 { Action::Drain } else { Action::Tick }),
        1 => (0..6u8).prop_map(|dice| if dice == 0 { Action::Stop } else { Action::Tick }),
    ]
}

fn remove<T>(from: &mut Vec<T>, which: &Index) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(which.index(from.len())))
}

impl Rig {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Open => self.open(),
            Action::Bytes(bytes) if !self.peer_ended => self.wire.extend_from_slice(bytes),
            Action::Bytes(_) => {}
            Action::Deliver(most) => self.deliver(*most),
            Action::End => {
                self.peer_ended = true;
                self.deliver(usize::MAX);
            }
            Action::Take(most) => self.take(*most),
            Action::TakeAll => self.take_all(),
            Action::Exhaust(receive) => {
                self.exhaust(if *receive { Operation::Receive } else { Operation::Send });
            }
            Action::Finish(which, reply) => {
                let ticket = remove(&mut self.log().tickets, which);
                if let Some(ticket) = ticket {
                    ticket.finish(*reply);
                }
            }
            Action::Lose(which) => drop(remove(&mut self.log().tickets, which)),
            Action::Wake(which) => {
                let log = self.log();
                if !log.wakers.is_empty() {
                    log.wakers[which.index(log.wakers.len())].wake();
                }
            }
            Action::DropWaker(which) => drop(remove(&mut self.log().wakers, which)),
            Action::DropChunk(which) => drop(remove(&mut self.log().chunks, which)),
            Action::AnswerBell => self.take_calls(),
            Action::Pass(millis) => self.pass(Duration::from_millis(*millis)),
            Action::Tick => self.happen(Event::Tick),
            Action::Jump => self.jump(),
            Action::Fail => self.happen(Event::Failed(io::ErrorKind::ConnectionReset.into())),
            Action::Drain => self.happen(Event::Drain),
            Action::Stop => self.happen(Event::Stop),
        }
    }

    /// Time passes, and the deadlines in it are told as a loop would.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.connection.deadline().is_some_and(|deadline| deadline <= until) {
            self.jump();
        }
        self.now = until;
    }

    /// Nobody does anything any more: only tickets that come back, and time.
    fn run_out(&mut self) {
        for _ in 0..100 {
            if self.closed.is_some() {
                return;
            }
            self.log().tickets.clear();
            self.take_calls();
            if self.closed.is_none() && self.connection.deadline().is_none() && self.log().tickets.is_empty()
            {
                assert!(self.outgoing, "only who opened a connection may wait for ever");
                self.happen(Event::Stop);
            }
            self.jump();
        }
        panic!("the connection does not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_events_keeps_the_contract(
        outgoing: bool,
        scarce in prop::bool::weighted(0.2),
        actions in vec(action(), 0..120),
    ) {
        let budget = if scarce { budget().buffer_all(1500) } else { budget() };
        let mut rig = Rig::new(budget, outgoing);
        for action in &actions {
            rig.act(action);
        }
        rig.run_out();
        rig.dismantle();
    }
}
