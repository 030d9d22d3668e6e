//! The same random schedules of bytes for every model: what comes out must not tell which of them it was.

use std::{collections::BTreeMap, io::Write, thread};

use roadstead_conformance::{
    asks::{ANSWER, ECHO, JOB, SLICES},
    chance::{Chance, Pieces},
    child::Child,
    client::{End, end_of, frame, pattern, read_frame},
    setting::Setting,
    wire::Wire,
};

scenarios! {
    random_schedules_are_answered_alike (Everything): "10 seeds of up to 30 messages, cut anywhere: the answers that follow from them, whatever the model",
}

/// The bodies of what is answered at once, in order; and how often each kind and body comes later, in whatever order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    at_once: Vec<Vec<u8>>,
    later: BTreeMap<(u8, Vec<u8>), usize>,
}

/// What is sent, cut where it is cut; and what is answered.
struct Schedule {
    pieces: Pieces,
    answers: Answers,
}

impl Schedule {
    /// The schedule of a seed: up to thirty frames in pieces that know nothing of them.
    fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let (mut wire, mut answers) = (Vec::new(), Answers::default());
        for _ in 0..1 + chance.below(30) {
            let size = chance.one_of(&[0, 1, 300, 20_000, 200_000]);
            let (kind, n, body, answer) = match chance.below(4) {
                0 => {
                    let n = chance.below(1000);
                    (JOB, n, vec![], n.to_le_bytes().to_vec())
                }
                1 => (SLICES, 1 + chance.below(20), vec![], 0u64.to_le_bytes().to_vec()),
                2 => (ANSWER, size, vec![], vec![b'a'; size as usize]),
                _ => (ECHO, chance.below(1000), pattern(size as usize), pattern(size as usize)),
            };
            wire.extend(frame(kind, n, &body));
            answers.add(kind, answer);
        }
        let pieces = chance.cut(wire, &[1, 7, 100, 5_000, 100_000], 300);
        Self { pieces, answers }
    }

    /// What is answered when it is sent over `stream`.
    fn play(&self, mut stream: Wire) -> Answers {
        let mut sending = stream.another();
        thread::scope(|scope| {
            scope.spawn(move || {
                for (rest, piece) in &self.pieces {
                    thread::sleep(*rest);
                    sending.write_all(piece).unwrap();
                }
                sending.finish().unwrap();
            });
            let mut answers = Answers::default();
            for _ in 0..self.answers.count() {
                let (kind, body) = read_frame(&mut stream);
                answers.add(kind, body);
            }
            assert_eq!(end_of(&mut stream), End::Orderly);
            answers
        })
    }
}

impl Answers {
    fn add(&mut self, kind: u8, body: Vec<u8>) {
        match kind {
            ECHO | ANSWER => self.at_once.push(body),
            _ => *self.later.entry((kind, body)).or_default() += 1,
        }
    }

    fn count(&self) -> usize {
        self.at_once.len() + self.later.values().sum::<usize>()
    }
}

fn random_schedules_are_answered_alike(setting: &Setting) {
    let child = Child::start(setting, "desk");
    for seed in 0..10 {
        let schedule = Schedule::of(seed);
        assert!(schedule.play(child.connect()) == schedule.answers, "seed {seed}");
    }
}
