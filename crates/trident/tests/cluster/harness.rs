//! Sharings, servers and clients for a test, and a guard against tests that hang.

#![allow(dead_code, unreachable_pub)]

use std::{
    any::Any,
    net::SocketAddr,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use roadstead::{Budget, Dialer, Model, Running, Server, tls::Keys};
use roadstead_keys::{Authority, Role};
use roadstead_trident::{
    client::{Client, ClientError, Options},
    data::Rows,
    manifest::Manifest,
    party::Party,
    peers::Peers,
    query::Collection,
    server::Trident,
    share::{self, CLIENT_DIR, server_dir, share_with},
    store::Store,
    trust::{Pins, acceptor},
};

use super::common::{SEARCH, Table, rng};

/// Both models, with jobs run by the I/O threads and by others.
pub const WAYS: [Way; 4] = [
    Way { model: Model::Epoll, workers: 0 },
    Way { model: Model::Epoll, workers: 2 },
    Way { model: Model::Threads, workers: 0 },
    Way { model: Model::Threads, workers: 2 },
];

/// How servers run.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub model: Model,
    pub workers: usize,
}

/// What an authority has issued to three servers and a client.
pub struct Ring {
    pub authority: Authority,
    pub servers: [Keys; 3],
    pub client: Keys,
}

impl Ring {
    pub fn new() -> Self {
        let authority = Authority::new("cluster").unwrap();
        let servers = [1, 2, 3].map(|number| issued(&authority, &format!("server-{number}"), Role::Server));
        let client = issued(&authority, "client", Role::Client);
        Self { authority, servers, client }
    }

    pub fn pins(&self) -> Pins {
        Pins::new(self.servers.each_ref().map(Keys::pin)).unwrap()
    }
}

pub fn issued(authority: &Authority, name: &str, role: Role) -> Keys {
    let issued = authority.issue(name, role).unwrap();
    Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()).unwrap()
}

/// A sharing in a directory that is gone afterwards, and the keys of its servers and clients where it has some.
pub struct Shares {
    dir: TempDir,
    collection: Arc<Collection>,
    pub ring: Option<Ring>,
}

impl Shares {
    pub fn of(rows: &[Vec<f32>], seed: u64) -> Self {
        Self::with(&mut Table(rows.to_vec()), SEARCH, seed)
    }

    /// A sharing whose servers and clients have keys.
    pub fn over_tls(rows: &[Vec<f32>], seed: u64) -> Self {
        let ring = Ring::new();
        let options = share::Options { pins: Some(ring.pins()), ..SEARCH };
        Self { ring: Some(ring), ..Self::with(&mut Table(rows.to_vec()), options, seed) }
    }

    pub fn with(rows: &mut dyn Rows, options: share::Options, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        share_with(rows, dir.path(), options, &mut rng(seed), |_, _| {}).unwrap();
        let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
        Self { dir, collection, ring: None }
    }

    pub fn store(&self, party: Party) -> Store {
        let store = Store::open(&server_dir(self.dir.path(), party), party, u64::MAX).unwrap();
        store.with_ranges(1)
    }

    pub fn trident(&self, party: Party) -> Trident {
        Trident::new(self.store(party))
    }

    pub fn collection(&self) -> Arc<Collection> {
        Arc::clone(&self.collection)
    }

    pub fn manifest(&self) -> &Manifest {
        self.collection.manifest()
    }

    /// Starts the server of `party` on `address`. With workers its passes are cut into as many ranges as can be.
    pub fn serve_on(&self, address: SocketAddr, party: Party, way: Way) -> Running {
        self.serve_within(address, party, way, |budget| budget)
    }

    pub fn serve_within(
        &self,
        address: SocketAddr,
        party: Party,
        way: Way,
        budget: impl FnOnce(Budget) -> Budget,
    ) -> Running {
        self.start(self.store(party), Trident::new, address, way, budget)
    }

    /// Starts the server of `party` on `address`, with peers.
    pub fn serve_with(&self, address: SocketAddr, party: Party, way: Way, peers: impl Peers) -> Running {
        let trident = |store| Trident::with_peers(store, peers, roadstead_trident::peers::PATIENCE);
        self.start(self.store(party), trident, address, way, |budget| budget)
    }

    fn start(
        &self,
        store: Store,
        trident: impl FnOnce(Store) -> Trident,
        address: SocketAddr,
        way: Way,
        budget: impl FnOnce(Budget) -> Budget,
    ) -> Running {
        let keys = self.ring.as_ref().map(|ring| &ring.servers[store.party().index()]);
        let tls = acceptor(store.manifest(), store.party(), keys, &[address.into()]).unwrap();
        let trident = trident(store);
        let budget = budget(trident.budget());
        let server = Server::new(trident).bind(address).model(way.model).workers(way.workers).budget(budget);
        match tls {
            Some(tls) => server.layer(tls).start().unwrap(),
            None => server.start().unwrap(),
        }
    }

    pub fn client(&self, servers: [SocketAddr; 3], options: Options) -> Client {
        let keys = self.ring.as_ref().map(|ring| &ring.client);
        Client::new(self.collection(), servers, keys, options, Dialer::start).unwrap()
    }

    pub fn serve(&self, way: Way) -> [Running; 3] {
        Party::ALL.map(|party| self.serve_on(any_port(), party, way))
    }
}

/// A port of the system's choice, on an address that is nobody else's and from which no connection of a test comes:
/// when a server has left its port, nobody else gets it before the server is back.
pub fn any_port() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let [high, low] = TAKEN.fetch_add(1, SeqCst).to_be_bytes();
    SocketAddr::from(([127, 2, high, low.max(1)], 0))
}

pub fn addresses(servers: &[Running; 3]) -> [SocketAddr; 3] {
    servers.each_ref().map(|server| server.addresses()[0])
}

pub fn client(shares: &Shares, servers: [SocketAddr; 3]) -> Client {
    shares.client(servers, Options::default())
}

/// A client that gives up after `deadline`.
pub fn hasty(shares: &Shares, servers: [SocketAddr; 3], deadline: Duration) -> Client {
    shares.client(servers, Options { deadline, ..Options::default() })
}

/// Scores of integers, from the definition.
pub fn true_scores(rows: &[Vec<f32>], query: &[f32]) -> Vec<i32> {
    let score = |row: &Vec<f32>| row.iter().zip(query).map(|(&x, &q)| (x * x - 2.0 * q * x) as i32).sum();
    rows.iter().map(score).collect()
}

/// Fails unless `error` is about `party` at `address` and nobody else, in its fields and in its words.
#[track_caller]
pub fn names(error: &ClientError, party: Party, address: SocketAddr) {
    let named = match error {
        ClientError::Refused { party, address, .. } | ClientError::Unavailable { party, address, .. } => {
            vec![(*party, address.clone())]
        }
        ClientError::Deadline { missing, .. } => missing.clone(),
        other => panic!("{other} names no server"),
    };
    assert_eq!(named, [(party, address.into())], "{error}");
    let words = error.to_string();
    assert!(words.contains(&party.to_string()) && words.contains(&address.to_string()), "{words}");
}

/// Far beyond what anything here takes: who is not done then, hangs.
const HANGS: Duration = Duration::from_secs(600);

/// Runs a test in a thread of its own and fails when it hangs.
pub fn guarded(test: impl FnOnce() + Send + 'static) {
    let (done, ending) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done;
        test();
    });
    if ending.recv_timeout(HANGS) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the test hangs");
    }
    thread.join().unwrap_or_else(|panic: Box<dyn Any + Send>| resume_unwind(panic));
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANGS / 2, "{what} never happens");
        thread::sleep(Duration::from_millis(1));
    }
}
