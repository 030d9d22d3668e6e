//! Members of an exchange in one process, over real sockets.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    exchange::{self, Exchange, Key, Member, MemberId, Options, Strategy},
    layer::Credentials,
    tls::Keys,
};
use roadstead_keys::{Authority, Role};

/// Nothing here takes as long; what does hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const STRATEGIES: [Strategy; 4] =
    [Strategy::Shared, Strategy::PerQuery, Strategy::Pool(4), Strategy::Multiplexed];

pub(crate) fn key(query: u128) -> Key {
    Key { query, round: 0 }
}

/// What member number `sender` has to say in a query: of that length, and like no other.
pub(crate) fn payload(query: u128, sender: usize, length: usize) -> Vec<u8> {
    let first = query as usize * 31 + sender * 7;
    (0..length).map(|at| (first + at + at / 256) as u8).collect()
}

/// Keys of `authority` for `name`.
pub(crate) fn issue(authority: &Authority, name: &str, role: Role) -> Keys {
    let issued = authority.issue(name, role).unwrap();
    Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()).unwrap()
}

pub(crate) struct Cluster {
    list: Vec<Member>,
    options: Options,
    /// Each member's; none where links are plain.
    keys: Vec<Keys>,
    running: Vec<Option<Exchange>>,
}

impl Cluster {
    pub(crate) fn start(count: u8, options: Options) -> Self {
        Self::start_with(count, Vec::new(), options)
    }

    /// A cluster whose members have keys of one authority.
    pub(crate) fn start_secure(count: u8, authority: &Authority, options: Options) -> Self {
        let keys = (1..=count).map(|id| issue(authority, &format!("server-{id}"), Role::Server));
        Self::start_with(count, keys.collect(), options)
    }

    pub(crate) fn start_with(count: u8, keys: Vec<Keys>, options: Options) -> Self {
        let listen = |_| exchange::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let listeners: Vec<_> = (0..count).map(listen).collect();
        let list: Vec<Member> =
            (1..).zip(&listeners).map(|(id, listener)| Member::new(id, listener.address())).collect();
        let start = |(id, listener)| {
            let keys = keys.get(usize::from(id) - 1).map(|keys| keys as &dyn Credentials);
            exchange::start(MemberId(id), &list, listener, keys, options.clone()).unwrap()
        };
        let running = (1..).zip(listeners).map(start).map(Some).collect();
        Self { list, options, keys, running }
    }

    pub(crate) fn member(&self, at: usize) -> &Exchange {
        self.running[at].as_ref().unwrap()
    }

    pub(crate) fn keys(&self) -> &[Keys] {
        &self.keys
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Exchange> {
        self.running.iter().flatten()
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.running[at] = None;
    }

    /// Starts a member again, on the port that it had.
    pub(crate) fn revive(&mut self, at: usize) {
        let Member { id, address, .. } = self.list[at];
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match exchange::listen(address) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(20));
        };
        let keys = self.keys.get(at).map(|keys| keys as &dyn Credentials);
        let options = self.options.clone();
        self.running[at] = Some(exchange::start(id, &self.list, listener, keys, options).unwrap());
    }

    /// One query of all members.
    pub(crate) fn all_right(&self, key: &Key, length: usize) {
        let (tell, told) = mpsc::channel();
        for at in 0..self.running.len() {
            let tell = tell.clone();
            self.ask(at, *key, length, move |right| tell.send(right).unwrap());
        }
        for _ in 0..self.running.len() {
            told.recv_timeout(PATIENCE).unwrap().unwrap();
        }
    }

    /// Member `at` takes part in a query, and says what was wrong with what it gathered.
    fn ask(
        &self,
        at: usize,
        key: Key,
        length: usize,
        done: impl FnOnce(Result<(), String>) + Send + 'static,
    ) {
        let member = self.member(at);
        member.send_all(key, payload(key.query, at, length)).unwrap();
        let count = self.running.len() - 1;
        member.gather(key, PATIENCE, move |result| {
            done(result.map_err(|error| error.to_string()).and_then(|messages| {
                let right = messages
                    .iter()
                    .all(|(id, message)| message[..] == payload(key.query, usize::from(id.0) - 1, length));
                if right && messages.len() == count { Ok(()) } else { Err(format!("{key:?}: wrong")) }
            }));
        });
    }

    /// `count` queries, so many at a time on every member.
    pub(crate) fn level(&self, level: usize, count: u128, length: impl Fn(u128) -> usize + Sync) {
        static NEXT: Mutex<u128> = Mutex::new(1 << 64);
        let first = {
            let mut next = NEXT.lock().unwrap();
            *next += count;
            *next - count
        };
        let failed = Arc::new(Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for at in 0..self.running.len() {
                for worker in 0..level as u128 {
                    let (failed, length) = (Arc::clone(&failed), &length);
                    scope.spawn(move || {
                        for query in (worker..count).step_by(level) {
                            let (tell, told) = mpsc::channel();
                            self.ask(at, key(first + query), length(query), move |right| {
                                let _ = tell.send(right);
                            });
                            if let Err(why) = told.recv_timeout(PATIENCE).unwrap() {
                                failed.lock().unwrap().push(why);
                            }
                        }
                    });
                }
            }
        });
        assert_eq!(*failed.lock().unwrap(), [""; 0]);
    }

    pub(crate) fn wait(&self, what: &str, happened: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !happened() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Nothing waits, and no message is held.
    pub(crate) fn expect_empty(&self) {
        let is_empty = |member: &Exchange| {
            let stats = member.stats();
            let queued: usize = stats.peers.iter().map(|(_, peer)| peer.queued).sum();
            stats.waiting + stats.held + queued == 0
        };
        self.wait("memory was left behind", || self.members().all(is_empty));
    }
}

/// After every test all accounts are asked for.
impl Drop for Cluster {
    fn drop(&mut self) {
        // One that has failed is not asked about anything else.
        if !thread::panicking() {
            self.expect_empty();
        }
    }
}
