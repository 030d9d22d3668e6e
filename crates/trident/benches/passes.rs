//! What a second worker gains in a pass of one server, beside what a second thread gains in a bare scan of the same
//! bytes: no pass can gain much more than the memory of the machine does.
//!
//! `cargo bench -p roadstead-trident --bench passes -- [rows [rounds]]`, 1,000,000 rows of 128 bytes and 12 rounds
//! unless it is told otherwise; it takes 2.5 GB of disk and as much memory, and a machine that does nothing else. One
//! store is served twice on loopback, with one and with two workers. In each round each of the four has its turn, the
//! other way round every second time. A pass is measured from the question to the first bytes of its answer.

#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use roadstead::{
    Frame, Model, Server,
    frame::{Fields, HEAD, Limits, Parsed},
};
use roadstead_trident::{
    data::{Generated, Rows},
    party::Party,
    prg::Expander,
    query::Collection,
    server::Trident,
    share::{self, CLIENT_DIR, SEARCH_FILE, component_file, server_dir},
    store::Store,
    wire::{self, Hello, Kind, VERSION, Welcome, encode_nonces},
};

const PARTY: Party = Party::ALL[0];

/// What is asked.
#[derive(Clone, Copy)]
enum Op {
    Fetch,
    Search { checked: bool },
}

const OPS: [(&str, Op); 3] = [
    ("fetch", Op::Fetch),
    ("search, unchecked", Op::Search { checked: false }),
    ("search, checked", Op::Search { checked: true }),
];

/// A connection to a server with so many workers.
struct Client<'a> {
    stream: TcpStream,
    collection: &'a Collection,
    expander: Expander,
    random: ChaCha20Rng,
    query: Vec<f32>,
    counter: u64,
}

impl<'a> Client<'a> {
    fn new(address: SocketAddr, collection: &'a Collection, query: &[f32]) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = Hello { version: VERSION, party: PARTY, digest: collection.digest() };
        send(&mut stream, Kind::Hello, &hello.encode());
        let body = receive(&mut stream, |_| {});
        let mut nonces = [[3; 16]; 3];
        nonces[PARTY.index()] = Welcome::parse(&body).unwrap().nonce;
        send(&mut stream, Kind::Nonces, &encode_nonces(&nonces));
        let expander = Expander::new(&collection.digest(), &nonces);
        let random = ChaCha20Rng::seed_from_u64(1);
        Self { stream, collection, expander, random, query: query.into(), counter: 0 }
    }

    /// How long it takes until the answer begins, in milliseconds.
    fn ask(&mut self, op: Op) -> f64 {
        self.counter += 1;
        let (counter, random) = (self.counter, &mut self.random);
        let (kind, bodies) = match op {
            Op::Fetch => {
                let index = counter as usize * 7_919 % self.collection.manifest().rows;
                (Kind::Fetch, self.collection.fetch(index, counter, &self.expander, random).unwrap().1)
            }
            Op::Search { checked } => {
                (Kind::Search, self.collection.search(&self.query, checked, counter, random).unwrap().1)
            }
        };
        let (begun, mut took) = (Instant::now(), 0.0);
        send(&mut self.stream, kind, &bodies[PARTY.index()]);
        let answer = receive(&mut self.stream, |_| took = begun.elapsed().as_secs_f64() * 1e3);
        assert_eq!(wire::counter("answer", &answer).unwrap().0, counter);
        took
    }
}

fn send(stream: &mut TcpStream, kind: Kind, body: &[u8]) {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind as u8, &Fields::new(), body);
    stream.write_all(&wire).unwrap();
}

/// The body of a frame; `begins` is called when the first bytes are there.
fn receive(stream: &mut TcpStream, begins: impl FnOnce(&[u8])) -> Vec<u8> {
    let mut wire = vec![0; HEAD];
    stream.read_exact(&mut wire).unwrap();
    begins(&wire);
    let limits = Limits { fields: 0, body: usize::MAX >> 1 };
    if let Parsed::Need(length) = Frame::parse(&wire, &limits).unwrap() {
        wire.resize(length, 0);
        stream.read_exact(&mut wire[HEAD..]).unwrap();
    }
    wire.split_off(HEAD)
}

/// Adds up words with so many threads, in milliseconds.
fn scan(words: &[u64], threads: usize) -> f64 {
    let begun = Instant::now();
    thread::scope(|scope| {
        for part in words.chunks(words.len().div_ceil(threads)) {
            scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))));
        }
    });
    begun.elapsed().as_secs_f64() * 1e3
}

fn words(files: &[PathBuf]) -> Vec<u64> {
    let bytes: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap()).collect();
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2].midpoint(values[(values.len() - 1) / 2])
}

/// One round after the other: times of a scan with one thread and with two, and of a pass with one worker and with two.
fn rounds(count: usize, words: &[u64], op: Op, clients: &mut [Client<'_>; 2]) -> [Vec<f64>; 4] {
    let mut times = [(); 4].map(|()| Vec::new());
    for round in 0..=count {
        let order = if round % 2 == 0 { [0, 1, 2, 3] } else { [3, 2, 1, 0] };
        for which in order {
            let took = if which < 2 { scan(words, which + 1) } else { clients[which - 2].ask(op) };
            // The first one is for warming up.
            if round > 0 {
                times[which].push(took);
            }
        }
    }
    times
}

/// Shares so many rows, and gives one of them back to be searched for.
fn shared(dir: &Path, rows: usize) -> Vec<f32> {
    let mut table = Generated::new(rows, 1);
    let options = share::Options { search: true, ..share::Options::default() };
    share::share(&mut table, dir, options, |_, _| {}).unwrap();
    let mut query = vec![0.0; table.dim()];
    table.read(rows / 2, &mut query).unwrap();
    query
}

fn main() {
    let numbers: Vec<usize> = env::args().filter_map(|word| word.parse().ok()).collect();
    let (rows, count) =
        (numbers.first().copied().unwrap_or(1_000_000), numbers.get(1).copied().unwrap_or(12).max(2));
    let dir = tempfile::tempdir().unwrap();
    let query = shared(dir.path(), rows);
    let server = server_dir(dir.path(), PARTY);
    let collection = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
    let trident = Trident::new(Store::open(&server, PARTY, u64::MAX).unwrap());
    let budget = trident.budget();
    let servers = [1, 2].map(|workers| {
        let server = Server::new(trident.clone()).bind("127.0.0.1:0").model(Model::Epoll).loops(1);
        server.workers(workers).budget(budget.clone()).start().unwrap()
    });
    let mut clients =
        servers.each_ref().map(|server| Client::new(server.addresses()[0], &collection, &query));
    println!("{rows} rows, medians of {count} rounds, in ms; gain: one to two, and its least and most");
    println!(
        "{:<18}{:>9}{:>9}{:>22}{:>9}{:>9}{:>22}{:>28}",
        "", "scan, 1", "2", "gain", "pass, 1", "2", "gain", "gain of pass to scan's"
    );
    for (name, op) in OPS {
        let files = match op {
            Op::Fetch => PARTY.components().map(|(number, _)| server.join(component_file(number))).to_vec(),
            Op::Search { .. } => vec![server.join(SEARCH_FILE)],
        };
        let times = rounds(count, &words(&files), op, &mut clients);
        let ratio =
            |one: &[f64], two: &[f64]| one.iter().zip(two).map(|(one, two)| one / two).collect::<Vec<_>>();
        let [scans, passes] = [ratio(&times[0], &times[1]), ratio(&times[2], &times[3])];
        let told = |ratios: &[f64]| {
            let least = ratios.iter().copied().fold(f64::MAX, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            format!("{:.2} ({least:.2}-{most:.2})", median(ratios.to_vec()))
        };
        let both = ratio(&passes, &scans);
        let [scan_1, scan_2, pass_1, pass_2] = times.map(median);
        println!(
            "{name:<18}{scan_1:>9.1}{scan_2:>9.1}{:>22}{pass_1:>9.1}{pass_2:>9.1}{:>22}{:>28}",
            told(&scans),
            told(&passes),
            told(&both)
        );
    }
}
