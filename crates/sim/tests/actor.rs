//! State that clients share, in any network and on any loops: what they ask for is done one after the other, each
//! client's in its order, and each hears what it came to. A plain map does the same once more, to compare.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use roadstead_proto::{
    Actor, Asked, AtEnd, Budget, Busy, Close, Closed, Context, Done, Input, JobId, Lost, Peer, Ready, Scope,
    Service, Session,
};
use roadstead_sim::{Sim, seeds};

/// A client, the number of its request, and a key.
const REQUEST: usize = 3;
/// The same, and how often that key was named before.
const ANSWER: usize = 4;
const EACH: u8 = 40;
const KEYS: u8 = 4;

/// Counts by key, and keeps what was done in its order, and which clients' sessions have left.
#[derive(Default)]
struct Counts {
    left: Arc<Mutex<Vec<u8>>>,
    by_key: [u8; KEYS as usize],
    done: Arc<Mutex<Vec<[u8; REQUEST]>>>,
}

impl Counts {
    fn count(&mut self, requests: &[[u8; REQUEST]]) -> Vec<u8> {
        let mut answers = Vec::new();
        for request in requests {
            assert!(!self.left.lock().unwrap().contains(&request[0]), "nothing is done for who has left");
            let count = &mut self.by_key[usize::from(request[2])];
            answers.extend(request);
            answers.push(*count);
            *count += 1;
            self.done.lock().unwrap().push(*request);
        }
        answers
    }
}

struct Counting {
    counts: Actor<Counts>,
    came: Arc<Mutex<Vec<u8>>>,
    /// How often somebody was to wait, or to come again.
    later: Arc<Mutex<[u32; 2]>>,
}

struct Desk {
    counts: Actor<Counts>,
    came: Arc<Mutex<Vec<u8>>>,
    leaves: Option<AtEnd<Counts>>,
    later: Arc<Mutex<[u32; 2]>>,
    waits: bool,
}

impl Service for Counting {
    type Session = Desk;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Desk {
        let (counts, came, later) = (self.counts.clone(), Arc::clone(&self.came), Arc::clone(&self.later));
        Desk { counts, came, leaves: None, later, waits: false }
    }
}

impl Session for Desk {
    type Reply = Vec<u8>;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let requests = input.bytes().as_chunks::<REQUEST>().0.to_vec();
        if self.waits || requests.is_empty() {
            return Ok(());
        }
        let used = requests.len() * REQUEST;
        let client = requests[0][0];
        self.leaves.get_or_insert_with(|| {
            self.came.lock().unwrap().push(client);
            self.counts.at_end(move |counts| counts.left.lock().unwrap().push(client))
        });
        match self.counts.ask(cx, used, move |counts| counts.count(&requests)) {
            Ok(Asked::Done(answers)) => cx.output().write(&answers.unwrap()),
            Ok(Asked::Later(_)) => {
                self.waits = true;
                self.later.lock().unwrap()[0] += 1;
            }
            Err(Busy) => {
                self.later.lock().unwrap()[1] += 1;
                cx.wake_at(Some(cx.now() + Duration::from_millis(1)));
                return Ok(());
            }
        }
        input.consume(used);
        Ok(())
    }

    fn reply(&mut self, _: JobId, answers: Result<Vec<u8>, Lost>, cx: &mut Context<'_, Self>) -> Done {
        self.waits = false;
        cx.output().write(&answers.map_err(|lost| Close::abort(lost.to_string()))?);
        Ok(())
    }
}

/// Says all its requests, and tells what it has heard.
struct Client {
    number: u8,
    heard: Vec<u8>,
    tell: mpsc::Sender<(u8, Vec<u8>)>,
}

impl Session for Client {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            let key = |index: u8| (index * self.number) % KEYS;
            (0..EACH).for_each(|index| cx.output().write(&[self.number, index, key(index)]));
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        if self.heard.len() == usize::from(EACH) * ANSWER {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send((self.number, self.heard)).unwrap();
    }
}

/// What each client is answered if this is done in this order. It has asked for one thing after the other.
fn expected(done: &[[u8; REQUEST]]) -> BTreeMap<u8, Vec<u8>> {
    let (mut counts, mut answers) = (BTreeMap::<u8, u8>::new(), BTreeMap::<u8, Vec<u8>>::new());
    for &[client, index, key] in done {
        let count = counts.entry(key).or_default();
        let own = answers.entry(client).or_default();
        assert_eq!(
            own.len(),
            usize::from(index) * ANSWER,
            "client {client} has asked for this once and before"
        );
        own.extend([client, index, key, *count]);
        *count += 1;
    }
    answers
}

#[test]
fn every_client_hears_what_its_requests_came_to_in_their_order() {
    let server = SocketAddr::from(([10, 0, 0, 1], 7007));
    let (at_once, later, again) = (Cell::new(0), Cell::new(0), Cell::new(0));
    Sim::check(seeds(2_000), |sim| {
        let seed = sim.seed();
        let (done, put_off) = (Arc::default(), Arc::<Mutex<[u32; 2]>>::default());
        let (came, left) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let counts = Counts { done: Arc::clone(&done), left: Arc::clone(&left), ..Counts::default() };
        let counts = Actor::new(counts);
        let service =
            Counting { counts: counts.clone(), came: Arc::clone(&came), later: Arc::clone(&put_off) };
        let (tell, told) = mpsc::channel();
        // Also with fewer tickets than clients.
        let budget = Budget::default().jobs(if seed % 5 == 0 { 1 } else { 100 });
        let clients = 1 + (seed % 6) as u8;
        let mut sim = sim.budget(budget).serve(server, service);
        for number in 1..=clients {
            sim = sim.client(server, Client { number, heard: Vec::new(), tell: tell.clone() });
        }
        let report = sim.run(Duration::from_secs(600))?;
        let expected = expected(&done.lock().unwrap());
        let whole = report.connections.iter().all(|connection| connection.cut.is_none());
        for (client, heard) in told.try_iter() {
            let expected = expected.get(&client).map_or(&[][..], Vec::as_slice);
            assert!(
                expected.starts_with(&heard),
                "seed {seed}, client {client}: {heard:?}, not {expected:?}"
            );
            assert!(!whole || heard.len() == usize::from(EACH) * ANSWER, "seed {seed}: an answer is missing");
        }
        assert_eq!(counts.waiting(), 0, "seed {seed}");
        let [came, left] = [came, left].map(|all| {
            let mut all = all.lock().unwrap().clone();
            all.sort_unstable();
            all
        });
        assert_eq!(came, left, "seed {seed}: each session that has come is told of once when it has gone");
        let [waited, refused] = *put_off.lock().unwrap();
        at_once.set(at_once.get() + u32::from(waited == 0));
        later.set(later.get() + waited);
        again.set(again.get() + refused);
        Ok(())
    });
    let all = (at_once.get(), later.get(), again.get());
    assert!(
        all.0 > 0 && all.1 > 0 && all.2 > 0,
        "runs without waiting, requests that waited, refused: {all:?}"
    );
}
