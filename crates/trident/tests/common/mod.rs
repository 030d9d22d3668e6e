//! What several test files need: seeded randomness, a test of uniformity, and three servers in one process.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tempfile::TempDir;

use roadstead_trident::{
    admission::{Admission, Admitted, Refused},
    data::{DataError, Rows},
    kernels::Kernel,
    manifest::{Digest, Manifest},
    party::Party,
    prg::Expander,
    query::{Body, Collection},
    reshare::{add_up, reshare},
    share::{CLIENT_DIR, Options, server_dir, share_with},
    store::Store,
    wire::{self, COUNTER, Hello, Kind},
};

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Fails when counts are unlikely to be of a uniform choice among as many values.
///
/// For k degrees of freedom the statistic has mean k and deviation sqrt(2k); the Laurent-Massart bound says that it
/// exceeds `k + 2*sqrt(k*x) + 2*x` with probability below exp(-x). With x = 14 that is below 10^-6.
pub fn chi_square(counts: &[u64]) {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    assert!(expected >= 5.0, "too few samples for the test to mean anything");
    let statistic: f64 = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    let (freedom, x) = ((counts.len() - 1) as f64, 14.0f64);
    let bound = freedom + 2.0 * (freedom * x).sqrt() + 2.0 * x;
    assert!(statistic < bound, "chi-square {statistic} above {bound} for {freedom} degrees of freedom");
}

/// Fails when bytes are unlikely to be uniform.
pub fn chi_square_bytes(bytes: &[u8]) {
    let mut counts = [0; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    chi_square(&counts);
}

/// Fails when field elements are unlikely to be uniform, by their highest and by their lowest eight bits.
pub fn chi_square_elements(elements: &[u32]) {
    chi_square_bytes(&elements.iter().map(|element| (element >> 23) as u8).collect::<Vec<_>>());
    chi_square_bytes(&elements.iter().map(|element| *element as u8).collect::<Vec<_>>());
}

pub fn elements(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Rows in memory.
pub struct Table(pub Vec<Vec<f32>>);

impl Rows for Table {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn dim(&self) -> usize {
        self.0[0].len()
    }

    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        let dim = self.dim();
        for (out, row) in out.chunks_exact_mut(dim).zip(&self.0[first..]) {
            out.copy_from_slice(row);
        }
        Ok(())
    }
}

/// Random rows of bytes.
pub fn byte_rows(rows: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = rng(seed);
    (0..rows).map(|_| (0..dim).map(|_| f32::from(rng.next_u32() as u8)).collect()).collect()
}

/// Random rows of floats in -1..1.
pub fn float_rows(rows: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = rng(seed);
    let float = |rng: &mut ChaCha20Rng| (f64::from(rng.next_u32()) / f64::from(1u32 << 31) - 1.0) as f32;
    (0..rows).map(|_| (0..dim).map(|_| float(&mut rng)).collect()).collect()
}

/// That of some connections.
pub fn expander() -> Expander {
    Expander::new(&Digest([8; 32]), &[[9; 16]; 3])
}

pub const SEARCH: Options = Options { search: true, replace: false, pins: None };

pub fn share_rows(rows: &[Vec<f32>], out: &Path, options: Options, seed: u64) -> Manifest {
    share_with(&mut Table(rows.to_vec()), out, options, &mut rng(seed), |_, _| {}).unwrap()
}

/// Three servers and a client, with a connection to each that is past its hello.
pub struct Cluster {
    pub dir: TempDir,
    pub client: Collection,
    pub stores: [Store; 3],
    pub connections: [Admission; 3],
    pub expander: Expander,
    pub counter: u64,
    pub rng: ChaCha20Rng,
}

impl Cluster {
    pub fn new(rows: &[Vec<f32>], seed: u64) -> Self {
        Self::of(&mut Table(rows.to_vec()), seed, u64::MAX)
    }

    pub fn of(rows: &mut dyn Rows, seed: u64, search_memory_limit: u64) -> Self {
        let mut rng = rng(seed);
        let dir = tempfile::tempdir().unwrap();
        share_with(rows, dir.path(), SEARCH, &mut rng, |_, _| {}).unwrap();
        let client = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
        let stores = Party::ALL
            .map(|party| Store::open(&server_dir(dir.path(), party), party, search_memory_limit).unwrap());
        let (connections, expander) = connect(&client, &stores, &mut rng);
        Self { dir, client, stores, connections, expander, counter: 0, rng }
    }

    /// The same servers with another kernel and limit, and new connections.
    pub fn reopen(&mut self, kernel: Kernel, search_memory_limit: u64) {
        let open =
            |party| Store::open(&server_dir(self.dir.path(), party), party, search_memory_limit).unwrap();
        self.stores = Party::ALL.map(|party| open(party).with_kernel(kernel));
        self.reconnect();
    }

    /// New connections, with new nonces and the counter at its start.
    pub fn reconnect(&mut self) {
        (self.connections, self.expander) = connect(&self.client, &self.stores, &mut self.rng);
        self.counter = 0;
    }

    /// Sends a request to each server and returns their answers.
    pub fn ask(&mut self, kind: Kind, requests: &[Body; 3]) -> Result<[Vec<u8>; 3], Refused> {
        let mut answers: [Vec<u8>; 3] = Default::default();
        let mut sums: [Vec<u32>; 3] = Default::default();
        for (at, answer) in answers.iter_mut().enumerate() {
            let store = &self.stores[at];
            *answer = match self.connections[at].receive(store, kind, &requests[at])? {
                Admitted::Fetch(query) => store.fetch(&[query]).remove(0),
                Admitted::Search(query) => store.search(&[query]).unwrap().remove(0),
                Admitted::FetchShare(query) => {
                    sums[at] = store.combine(&[query]).unwrap().remove(0);
                    Vec::new()
                }
                other => panic!("{other:?} is no request"),
            };
        }
        if kind == Kind::FetchShare {
            answers = self.exchange(&sums, requests);
        }
        Ok(answers)
    }

    /// What the servers do with their sums: share them anew, and add up what each has of the three.
    pub fn exchange(&mut self, sums: &[Vec<u32>; 3], requests: &[Body; 3]) -> [Vec<u8>; 3] {
        let messages = Party::ALL.map(|party| reshare(party, &sums[party.index()], &mut self.rng));
        let counter = u64::from_le_bytes(requests[0][..COUNTER].try_into().unwrap());
        Party::ALL.map(|party| {
            let parts = messages.each_ref().map(|messages| messages[party.index()].as_slice());
            add_up(self.stores[party.index()].manifest(), counter, parts).unwrap()
        })
    }

    /// New connections with these nonces, and the counter at its start.
    pub fn connect_with(&mut self, nonces: [[u8; 16]; 3]) {
        (self.connections, self.expander) = connect_with(&self.client, &self.stores, &nonces);
        self.counter = 0;
    }

    pub fn next_counter(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

pub fn slices(answers: &[Vec<u8>; 3]) -> [&[u8]; 3] {
    answers.each_ref().map(Vec::as_slice)
}

pub fn connect(
    client: &Collection,
    stores: &[Store; 3],
    rng: &mut ChaCha20Rng,
) -> ([Admission; 3], Expander) {
    let nonces: [[u8; 16]; 3] = std::array::from_fn(|_| {
        let mut nonce = [0; 16];
        rng.fill_bytes(&mut nonce);
        nonce
    });
    connect_with(client, stores, &nonces)
}

fn connect_with(
    client: &Collection,
    stores: &[Store; 3],
    nonces: &[[u8; 16]; 3],
) -> ([Admission; 3], Expander) {
    let connections = Party::ALL.map(|party| {
        let store = &stores[party.index()];
        let mut connection = Admission::new(nonces[party.index()]);
        let hello = Hello { version: wire::VERSION, party, digest: client.digest() };
        connection.receive(store, Kind::Hello, &hello.encode()).unwrap();
        connection.receive(store, Kind::Nonces, &wire::encode_nonces(nonces)).unwrap();
        connection
    });
    (connections, Expander::new(&client.digest(), nonces))
}
