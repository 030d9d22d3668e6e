//! The same schedule of bytes for every model: what comes out must not tell which of them it was.

use std::{collections::BTreeMap, io::Write, thread, time::Duration};

use roadstead::{Budget, Model};

use crate::{
    client::{frame, pattern, read_frame},
    desk::{ANSWER, Desk, ECHO, JOB, SLICES},
    setting::Setting,
};

/// The bodies of what is answered at once, in order; and how often each kind and body came later, in whatever order.
type Answers = (Vec<Vec<u8>>, BTreeMap<(u8, Vec<u8>), usize>);

/// What is sent, cut where it is cut, with a rest before each piece.
struct Schedule {
    pieces: Vec<(Duration, Vec<u8>)>,
    answers: usize,
}

impl Schedule {
    /// The schedule of a seed: up to thirty frames in pieces that know nothing of them.
    fn of(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let answers = 1 + below(30) as usize;
        let mut wire = Vec::new();
        for _ in 0..answers {
            let size = [0, 1, 300, 20_000, 200_000][below(5) as usize];
            wire.extend(match below(4) {
                0 => frame(JOB, below(1000), b""),
                1 => frame(SLICES, 1 + below(20), b""),
                2 => frame(ANSWER, size, b""),
                _ => frame(ECHO, below(1000), &pattern(size as usize)),
            });
        }
        let mut pieces = Vec::new();
        while !wire.is_empty() {
            let most = [1, 7, 100, 5_000, 100_000][below(5) as usize];
            let rest = wire.split_off(wire.len().min(1 + below(most) as usize));
            pieces.push((Duration::from_micros(below(3) * below(300)), std::mem::replace(&mut wire, rest)));
        }
        Self { pieces, answers }
    }

    /// What `setting` answers.
    fn play(&self, setting: Setting) -> Answers {
        let server = setting.start(Desk::default(), Budget::default());
        let mut stream = setting.connect(server.addresses()[0]);
        let mut sending = stream.another();
        thread::scope(|scope| {
            scope.spawn(move || {
                for (rest, piece) in &self.pieces {
                    thread::sleep(*rest);
                    sending.write_all(piece).unwrap();
                }
                sending.finish().unwrap();
            });
            let (mut at_once, mut later) = (Vec::new(), BTreeMap::new());
            for _ in 0..self.answers {
                match read_frame(&mut stream) {
                    (ECHO | ANSWER, body) => at_once.push(body),
                    answer => *later.entry(answer).or_default() += 1,
                }
            }
            assert_eq!(crate::client::end_of(&mut stream), crate::client::End::Orderly);
            (at_once, later)
        })
    }
}

#[test]
fn every_model_answers_the_same() {
    let models = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    let settings: Vec<_> = models
        .flat_map(|model| {
            [(0, false), (2, true)].map(|(workers, tls)| Setting { workers, tls, ..Setting::of(model) })
        })
        .collect();
    for seed in 0..20 {
        let schedule = Schedule::of(seed);
        let expected = schedule.play(settings[0]);
        for &setting in &settings[1..] {
            assert!(schedule.play(setting) == expected, "seed {seed}: {setting:?} answers otherwise");
        }
    }
}
