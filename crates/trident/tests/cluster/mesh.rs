//! Messages between three servers of one process, without a network: a test decides what becomes of each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;

use roadstead_trident::{
    party::Party,
    peers::{Absent, Done, Peers},
};

/// What becomes of a message from one server to another; `None` loses it.
type Rule = Box<dyn FnMut(Party, Party, Bytes) -> Option<Bytes> + Send>;

/// The links between three servers. Dropping it ends its thread.
pub(crate) struct Mesh {
    shared: Arc<Shared>,
    clock: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    stopped: AtomicBool,
}

struct State {
    rule: Rule,
    /// How long a message is waited for, if the server waits longer.
    patience: Duration,
    queries: HashMap<(u128, Party), Query>,
}

/// A query as one server sees it.
#[derive(Default)]
struct Query {
    parts: Vec<(Party, Bytes)>,
    waits: Option<(Done, Instant)>,
    begun: Option<Instant>,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let rule: Rule = Box::new(|_, _, message| Some(message));
        let state = Mutex::new(State { rule, patience: Duration::MAX, queries: HashMap::new() });
        let shared = Arc::new(Shared { state, stopped: AtomicBool::new(false) });
        let ticking = Arc::clone(&shared);
        let clock = thread::spawn(move || {
            while !ticking.stopped.load(SeqCst) {
                thread::sleep(Duration::from_millis(5));
                ticking.expire();
            }
        });
        Self { shared, clock: Some(clock) }
    }

    /// Decides by `rule` from now on.
    pub(crate) fn rule(&self, rule: impl FnMut(Party, Party, Bytes) -> Option<Bytes> + Send + 'static) {
        self.shared.state.lock().unwrap().rule = Box::new(rule);
    }

    /// Waits no longer than this for a message from now on, where the server would.
    pub(crate) fn patience(&self, patience: Duration) {
        self.shared.state.lock().unwrap().patience = patience;
    }

    /// Lets every message pass again, however late.
    pub(crate) fn heal(&self) {
        self.rule(|_, _, message| Some(message));
        self.patience(Duration::MAX);
    }

    /// Queries of which something is kept.
    pub(crate) fn open(&self) -> usize {
        self.shared.state.lock().unwrap().queries.len()
    }

    /// The end of the links at one server.
    pub(crate) fn port(&self, party: Party) -> Port {
        Port { shared: Arc::clone(&self.shared), party }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.clock.take().unwrap().join().unwrap();
    }
}

pub(crate) struct Port {
    shared: Arc<Shared>,
    party: Party,
}

impl Peers for Port {
    fn exchange(&self, query: u128, messages: [(Party, Bytes); 2], patience: Duration, done: Done) {
        let mut guard = self.shared.state.lock().unwrap();
        let state = &mut *guard;
        let now = Instant::now();
        for (to, message) in messages {
            if let Some(message) = (state.rule)(self.party, to, message) {
                let of = state.queries.entry((query, to)).or_default();
                of.begun.get_or_insert(now);
                of.parts.push((self.party, message));
            }
        }
        let patience = patience.min(state.patience);
        let own = state.queries.entry((query, self.party)).or_default();
        own.waits = Some((done, now + patience));
        let whole: Vec<_> = state
            .queries
            .extract_if(|_, of| of.waits.is_some() && of.parts.len() == 2)
            .map(|(_, of)| of)
            .collect();
        drop(guard);
        for Query { mut parts, waits, .. } in whole {
            parts.sort_by_key(|(from, _)| *from);
            let [(first, one), (second, two)] = parts.as_slice() else { unreachable!("there are two") };
            if let Some((done, _)) = waits {
                done(Ok([(*first, one), (*second, two)]));
            }
        }
    }
}

/// How long a message is kept for a server that does not ask for it.
const UNCLAIMED: Duration = Duration::from_secs(10);

impl Shared {
    fn expire(&self) {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        let over = |of: &Query| match (&of.waits, of.begun) {
            (Some((_, deadline)), _) => now >= *deadline,
            (None, begun) => begun.is_some_and(|begun| now >= begun + UNCLAIMED),
        };
        let expired: Vec<_> = state.queries.extract_if(|_, of| over(of)).collect();
        drop(state);
        for ((_, party), Query { parts, waits, .. }) in expired {
            let came = |other: Party| parts.iter().any(|(from, _)| *from == other);
            let missing = Party::ALL.into_iter().filter(|other| *other != party && !came(*other)).collect();
            if let Some((done, _)) = waits {
                done(Err(Absent { missing, why: "its message did not come".into() }));
            }
        }
    }
}
