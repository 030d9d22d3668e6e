//! Where the processor time of a fetch goes whose result stays shared, phase by phase, without a network: what three
//! servers and their client compute for one, where 1, 8 or 16 are answered in a pass.
//!
//! `cargo bench -p roadstead-trident --bench shared -- [rows [rounds]]`, 10,000 rows of 128 bytes and 40 rounds unless
//! it is told otherwise. What `roadstead trident bench --protocol exchange` shows beyond the sum is the engine's: loops,
//! TLS, messages, threads.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use roadstead_trident::{
    admission::{Admission, Admitted, SharedQuery},
    data::Generated,
    mask::Nonce,
    party::Party,
    prg::Expander,
    query::{Body, Collection},
    reshare::{add_up, reshare},
    selector::{Expansion, Key, Walks},
    share::{self, CLIENT_DIR, server_dir},
    shared::SharedFetch,
    store::Store,
    wire::{self, COUNTER, Hello, Kind, VERSION, encode_nonces},
};

/// Queries of a pass.
const PASSES: [usize; 3] = [1, 8, 16];
const NONCES: [Nonce; 3] = [[1; 16], [2; 16], [3; 16]];

/// What is done for a query, and by how many.
const PHASES: [(&str, u32); 7] = [
    ("client: keys of the selector", 1),
    ("servers: admission", 3),
    ("servers: expansion of the selector", 3),
    ("servers: rows times selector", 3),
    ("servers: sums shared anew", 3),
    ("servers: parts added up", 3),
    ("client: row from two shares, checked", 1),
];

struct Scene {
    collection: Collection,
    store: Store,
    expander: Expander,
    random: ChaCha20Rng,
    counter: u64,
    connection: Admission,
}

impl Scene {
    fn new(rows: usize) -> Self {
        let (dir, party) = (tempfile::tempdir().unwrap(), Party::ALL[0]);
        let options = share::Options { search: true, ..share::Options::default() };
        share::share(&mut Generated::new(rows, 1), dir.path(), options, |_, _| {}).unwrap();
        let collection = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
        let store = Store::open(&server_dir(dir.path(), party), party, u64::MAX).unwrap();
        let expander = Expander::new(&collection.digest(), &NONCES);
        let mut connection = Admission::new(NONCES[0]);
        let hello = Hello { version: VERSION, party, digest: collection.digest() };
        connection.receive(&store, Kind::Hello, &hello.encode()).unwrap();
        connection.receive(&store, Kind::Nonces, &encode_nonces(&NONCES)).unwrap();
        let random = ChaCha20Rng::seed_from_u64(1);
        Self { collection, store, expander, random, counter: 0, connection }
    }

    fn ask(&mut self) -> (SharedFetch, [Body; 3]) {
        self.counter += 1;
        let index = self.counter as usize * 7_919 % self.collection.manifest().rows;
        self.collection.fetch_shared(index, self.counter, &self.expander, &mut self.random).unwrap()
    }

    fn admit(&mut self, body: &[u8]) -> SharedQuery {
        let Admitted::FetchShare(query) =
            self.connection.receive(&self.store, Kind::FetchShare, body).unwrap()
        else {
            panic!("it is a fetch")
        };
        query
    }

    /// How long each phase takes for a pass of so many, at one server or the client.
    fn pass(&mut self, count: usize, walks: &mut Walks) -> [Duration; PHASES.len()] {
        let manifest = self.store.manifest().clone();
        let domain = manifest.selector_domain();
        let (asked, asking) = timed(|| (0..count).map(|_| self.ask()).collect::<Vec<_>>());
        let (queries, admitting) =
            timed(|| asked.iter().map(|(_, bodies)| self.admit(&bodies[0])).collect::<Vec<_>>());
        let keys = asked.iter().map(|(_, bodies)| {
            let (first, second) = bodies[0][COUNTER..].split_at(domain.key_len());
            [first, second].map(|key| Key::parse(key, domain).unwrap())
        });
        let (keys, mut lines) = (keys.collect::<Vec<_>>(), Vec::new());
        let ((), expanding) = timed(|| {
            for keys in &keys {
                let mut expansion = Expansion::new(&self.expander, domain, Party::ALL[0], keys, walks);
                loop {
                    expansion.next_run(&mut lines);
                    if black_box(&lines).is_empty() {
                        break;
                    }
                }
            }
        });
        let (sums, combining) = timed(|| self.store.combine(&queries).unwrap());
        let (parts, sharing) = timed(|| {
            sums.iter().map(|sums| reshare(Party::ALL[0], sums, &mut self.random)).collect::<Vec<_>>()
        });
        let ((), adding) = timed(|| {
            for [first, second, third] in &parts {
                black_box(add_up(&manifest, 1, [first, second, third]).unwrap());
            }
        });
        // Shares of zeros: a row that passes the check, computed as any other.
        let zeros = |(_, bodies): &(SharedFetch, [Body; 3])| {
            let mut answer = bodies[0][..COUNTER].to_vec();
            answer.resize(wire::fetched_share_len(&manifest), 0);
            answer
        };
        let answers: Vec<Vec<u8>> = asked.iter().map(zeros).collect();
        let ((), finishing) = timed(|| {
            for ((fetch, _), answer) in asked.iter().zip(&answers) {
                black_box(fetch.finish([Some(answer), Some(answer), None]).unwrap());
            }
        });
        [asking, admitting, expanding, combining.saturating_sub(expanding), sharing, adding, finishing]
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn main() {
    let numbers: Vec<usize> = env::args().filter_map(|word| word.parse().ok()).collect();
    let rows = numbers.first().copied().unwrap_or(10_000);
    let rounds = numbers.get(1).copied().unwrap_or(40).max(1);
    let (mut scene, mut walks) = (Scene::new(rows), Walks::default());
    // The first ones are for warming up.
    PASSES.iter().for_each(|&count| _ = scene.pass(count, &mut walks));
    let mut times = PASSES.map(|_| PHASES.map(|_| Vec::new()));
    for _ in 0..rounds {
        for (&count, times) in PASSES.iter().zip(&mut times) {
            let pass = scene.pass(count, &mut walks);
            times.iter_mut().zip(pass).for_each(|(times, took)| times.push(took / count as u32));
        }
    }
    let times = times.map(|phases| phases.map(median));
    println!(
        "{rows} rows, {}, us of processor time a query, medians of {rounds} rounds",
        scene.store.kernel()
    );
    println!("{:<40}{:>12}{:>12}{:>12}", "fetches of a pass", PASSES[0], PASSES[1], PASSES[2]);
    let line = |name: &str, figures: [Duration; 3]| {
        let [a, b, c] = figures.map(|time| time.as_secs_f64() * 1e6);
        println!("{name:<40}{a:>12.1}{b:>12.1}{c:>12.1}");
    };
    for (phase, (name, many)) in PHASES.into_iter().enumerate() {
        line(name, times.map(|phases| phases[phase] * many));
    }
    let sum = |phases: [Duration; PHASES.len()]| {
        phases.into_iter().zip(PHASES).map(|(time, (_, many))| time * many).sum::<Duration>()
    };
    line("all", times.map(sum));
}
