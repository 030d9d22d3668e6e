//! Whatever comes, a socket does what its model does; and nobody is sent more than three times what came from there.

use std::{collections::HashMap, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::{
    model::{Limits, Model},
    probe::{Act, Alone, Heard, peer},
};
use crate::{
    budget::Budget,
    datagrams::{DatagramEndpoint, DatagramEvent, outbox::EACH},
};

#[derive(Debug, Clone)]
enum Step {
    Come(Vec<(usize, usize, Act)>),
    /// The first ticket comes back: finished, or dropped.
    Reply(Option<usize>),
    Left,
    Undeliverable,
    Leave,
    Pass(u64),
    Drain,
    Stop,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Nothing),
        8 => (0..700_usize).prop_map(Act::Answer),
        2 => (0..5_000_usize).prop_map(Act::Validated),
        4 => (0..1_500_usize).prop_map(Act::Keep),
        4 => (0..900_usize).prop_map(Act::Hear),
        2 => (0..2_500_usize).prop_map(Act::Hold),
        1 => Just(Act::Forget),
        4 => Just(Act::Defer),
        2 => (0..9_000_u64).prop_map(Act::Timer),
        1 => prop_oneof![3 => Just(Act::Panic), 1 => Just(Act::Finish)],
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => vec((1..5_usize, 0..300_usize, act()), 1..6).prop_map(Step::Come),
        4 => prop::option::of(0..900_usize).prop_map(Step::Reply),
        10 => Just(Step::Left),
        1 => Just(Step::Undeliverable),
        8 => Just(Step::Leave),
        5 => (0..6_000_u64).prop_map(Step::Pass),
        1 => prop_oneof![5 => Just(Step::Drain), 1 => Just(Step::Stop)],
    ]
}

struct Rig {
    alone: Alone,
    model: Model,
    /// What came from, and went to, each peer that was never validated, with headers.
    moved: HashMap<usize, (usize, usize)>,
}

impl Rig {
    fn new() -> Self {
        let (each, all, idle) = (4_000, 5_000, Duration::from_secs(5));
        let linger = Duration::from_secs(2);
        let budget = Budget::default().connections(3).buffer_each(each).buffer_all(all).jobs(3);
        let budget = budget.idle(idle).linger(linger);
        let mut alone = Alone::open(budget);
        alone.come(&[(9, 0, Act::Keep(0))]);
        let size = alone.shared.memory.used();
        alone.come(&[(9, 0, Act::Forget)]);
        alone.heard();
        let model = Model::new(Limits { peers: 3, each, all, jobs: 3, idle, linger, size });
        Self { alone, model, moved: HashMap::new() }
    }

    fn step(&mut self, step: &Step) {
        let Self { alone, model, .. } = self;
        match step {
            Step::Come(datagrams) => {
                alone.come(datagrams);
                model.come(datagrams);
                self.count(datagrams);
            }
            Step::Reply(answer) => self.reply(*answer),
            Step::Left => {
                alone.happen(DatagramEvent::Left(1));
                model.gone(true);
            }
            Step::Undeliverable => {
                alone.happen(DatagramEvent::Undeliverable);
                model.gone(false);
            }
            Step::Leave => {
                alone.leave();
                model.leave();
            }
            Step::Pass(millis) => {
                alone.heard();
                alone.pass(Duration::from_millis(*millis));
                let mut told = alone.heard();
                told.retain(|heard| matches!(heard, Heard::Forgotten(_)));
                told.sort_by_key(|heard| match heard {
                    Heard::Forgotten(who) => *who,
                    _ => peer(0),
                });
                let forgotten = model.pass(Duration::from_millis(*millis));
                assert_eq!(told, forgotten.into_iter().map(Heard::Forgotten).collect::<Vec<_>>());
            }
            Step::Drain => {
                alone.happen(DatagramEvent::Drain);
                model.drain();
            }
            Step::Stop => {
                alone.happen(DatagramEvent::Stop);
                model.stop();
            }
        }
        self.compare();
    }

    fn reply(&mut self, answer: Option<usize>) {
        let ticket = self.alone.probe.desk().tickets.pop_front();
        let Some((ticket, path)) = ticket else { return };
        let cancelled = ticket.is_cancelled();
        match answer {
            Some(length) => ticket.finish((path, length)),
            None => drop(ticket),
        }
        self.alone.wake();
        if cancelled {
            self.model.strays -= 1;
        } else {
            self.model.reply(answer);
        }
    }

    fn count(&mut self, datagrams: &[(usize, usize, Act)]) {
        for &(number, length, act) in datagrams {
            let (came, went) = self.moved.entry(number).or_default();
            *came += length + 28;
            if matches!(act, Act::Validated(_)) {
                *went = usize::MAX;
            }
        }
    }

    fn compare(&mut self) {
        let Self { alone, model, moved } = self;
        let socket = &alone.socket;
        assert_eq!(alone.waits(), model.waits.iter().copied().collect::<Vec<_>>());
        assert_eq!((socket.is_over(), socket.flooded), (model.over, model.flooded));
        assert_eq!(socket.receives(), !model.over && !model.flooded && !model.finishes);
        let mut known: Vec<_> = model.peers.iter().map(|known| known.who).collect();
        known.sort();
        assert_eq!(socket.peers.iter().map(|(who, ())| who).collect::<Vec<_>>(), known);
        assert_eq!(alone.shared.gate.open(), known.len());
        assert_eq!(alone.shared.memory.used(), model.used());
        assert_eq!(alone.shared.jobs.used(), model.tickets.len() + model.strays);
        let count = &alone.host.count;
        assert_eq!((count.datagrams_withheld, count.datagrams_dropped), (model.withheld, model.dropped));
        // Whoever was heard is looked at too early, never too late.
        let deadline = socket.deadline();
        assert!(deadline.is_some() == model.deadline().is_some() && deadline <= model.deadline());
        assert!(socket.outbox().held() <= model.limits.each);
        for (&number, &(came, went)) in &*moved {
            let waits = alone.waits().into_iter().filter(|(to, _)| *to == peer(number));
            let bytes: usize = waits.map(|(_, length)| length + 28).sum();
            assert!(went == usize::MAX || bytes <= 3 * came, "peer {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn a_socket_does_what_its_model_does(steps in vec(step(), 0..80)) {
        let mut rig = Rig::new();
        steps.iter().for_each(|step| rig.step(step));
        rig.alone.happen(DatagramEvent::Stop);
        rig.alone.probe.desk().tickets.clear();
        let shared = &rig.alone.shared;
        prop_assert_eq!((shared.gate.open(), shared.memory.used(), shared.jobs.used()), (0, 0, 0));
    }
}

#[test]
fn an_entry_counts_for_what_it_takes() {
    assert!(EACH >= size_of::<usize>() * 4);
}
