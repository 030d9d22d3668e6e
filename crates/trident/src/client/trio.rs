//! Three connections whose nonces belong together, the questions in flight on them, and how they fail as one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use roadstead_proto::{Chunk, Waker, frame::HEAD};

use super::query::Body;
use super::thirds::{self, Thirds};
use crate::{
    agreed::{
        manifest::Digest,
        wire::{self, Kind},
    },
    arithmetic::{mask::Nonce, party::Party, prg::Expander},
};

/// Bytes of questions that may be unsent at once. Well below the high-water mark of any connection: a client that stops
/// reading because its questions are not taken, and a server that stops taking them because its answers are not read,
/// would wait for each other.
const UNSENT: usize = 128 << 10;
/// From an attempt to connect that failed to the next. Without it connections to two servers would pile up in their
/// handshakes while the third is away.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a question has no answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A connection could not be had, or was lost.
    Lost { party: Party, why: String },
    /// A server refused, in these words.
    Refused { party: Party, text: String },
    /// These had not answered in time.
    Silent(Vec<Party>),
}

/// One generation of three connections. Nothing here is `Debug`: what waits for three servers adds up to the question.
pub(super) struct Trio {
    /// Tells this trio from others of its client.
    number: u64,
    thirds: Arc<Thirds>,
    digest: Digest,
    made: Instant,
    state: Mutex<State>,
    /// All three nonces are there, or the trio is down.
    decided: Condvar,
}

struct State {
    nonces: [Option<Nonce>; 3],
    /// Made of all three nonces.
    expander: Option<Arc<Expander>>,
    wakers: [Option<Waker>; 3],
    outbox: [VecDeque<(Kind, Body)>; 3],
    counter: u64,
    flying: HashMap<u64, Flight>,
    /// A deadline has passed, so a connection may be dead without saying so: no question is asked here any more, and
    /// with the last one that is in flight the trio goes down.
    given_up: Option<Fault>,
    down: Option<Fault>,
}

/// A question on its way.
struct Flight {
    /// So many answers are enough for now.
    needed: usize,
    answers: [Option<Arc<Answer>>; 3],
    /// In the order they came, one of each server.
    refusals: Vec<(Party, Fault)>,
    landed: mpsc::SyncSender<Result<Answers, Fault>>,
}

/// The body of one server's answer, within the buffer it was received in.
pub(super) struct Answer {
    pub(super) chunk: Chunk,
    pub(super) body: std::ops::Range<usize>,
}

/// Those that were needed, or more.
pub(super) struct Answers([Option<Arc<Answer>>; 3]);

impl Answers {
    pub(super) fn bodies(&self) -> [Option<&[u8]>; 3] {
        self.0.each_ref().map(|answer| answer.as_ref().map(|answer| &answer.chunk[answer.body.clone()]))
    }

    /// The bodies of a question that needed all three.
    pub(super) fn all(&self) -> [&[u8]; 3] {
        self.bodies().map(Option::unwrap_or_default)
    }
}

/// A question that was sent: wait for its answers.
pub(super) struct Waiting {
    trio: Arc<Trio>,
    counter: u64,
    landing: mpsc::Receiver<Result<Answers, Fault>>,
}

impl Waiting {
    /// Blocks until enough have answered, the trio is down, or the deadline has passed. Where fewer than three were
    /// enough, it can be called again for all three, until the question is [released](Self::release).
    pub(super) fn wait(&self, deadline: Instant) -> Result<Answers, Fault> {
        match self.landing.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(landed) => landed,
            Err(_) => {
                let fault = self.trio.forget(self.counter);
                // It may have landed at the last moment.
                let landed = self.landing.try_recv().ok();
                landed.unwrap_or_else(|| Err(fault.unwrap_or_else(|| Fault::Silent(Party::ALL.to_vec()))))
            }
        }
    }

    /// What it has landed with since it was asked last, if it has.
    #[cfg(test)]
    pub(super) fn landed(&self) -> Option<Result<Answers, Fault>> {
        self.landing.try_recv().ok()
    }

    /// Two answers were enough, by which `third` is known, and the third is only compared when it comes. All three, if
    /// it has come already.
    pub(super) fn release(&self, third: Option<(Party, thirds::Digest)>) -> Option<Answers> {
        self.trio.release(self.counter, third);
        self.landing.try_recv().ok()?.ok()
    }
}

impl Trio {
    pub(super) fn new(number: u64, thirds: Arc<Thirds>, digest: Digest) -> Self {
        let state = State {
            nonces: [None; 3],
            expander: None,
            wakers: [None, None, None],
            outbox: Default::default(),
            counter: 0,
            flying: HashMap::new(),
            given_up: None,
            down: None,
        };
        let (made, decided) = (Instant::now(), Condvar::new());
        Self { number, thirds, digest, made, state: Mutex::new(state), decided }
    }

    /// The connection to `party` is being made; `waker` wakes its session.
    pub(super) fn add(&self, party: Party, waker: Waker) {
        let mut state = self.state();
        state.wakers[party.index()] = Some(waker);
        // What was decided before the waker was known has to be heard as well.
        state.wake(party);
    }

    /// Whether the next question has to be asked on other connections.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.down.is_some() || state.given_up.is_some()
    }

    /// How long to wait before the next three: nothing if these had come to be.
    pub(super) fn pause(&self) -> Duration {
        let ready = self.state().all_nonces().is_some();
        if ready { Duration::ZERO } else { PAUSE.saturating_sub(self.made.elapsed()) }
    }

    /// Ends the three: every question in flight fails with `fault`. The first fault is the one that counts.
    pub(super) fn fail(&self, fault: Fault) {
        self.end(&mut self.state(), fault);
        self.decided.notify_all();
    }

    fn end(&self, state: &mut State, fault: Fault) {
        state.fail(fault);
        // They would come on these connections.
        self.thirds.forget(self.number);
    }

    /// A question has left: the last one takes a trio that was given up with it.
    fn settle(&self, state: &mut State) {
        if state.flying.is_empty()
            && let Some(fault) = state.given_up.clone()
        {
            self.end(state, fault);
        }
    }

    /// `party` has welcomed us with `nonce`. With the third nonce the trio is ready, and all three are told. False if
    /// it did so before: the others would be told twice, refuse, and be named for it.
    pub(super) fn welcome(&self, party: Party, nonce: Nonce) -> bool {
        let mut state = self.state();
        if state.nonces[party.index()].is_some() {
            return false;
        }
        state.nonces[party.index()] = Some(nonce);
        if let Some(nonces) = state.all_nonces() {
            state.expander = Some(Arc::new(Expander::new(&self.digest, &nonces)));
            for party in Party::ALL {
                state.send(party, Kind::Nonces, Body::new(wire::encode_nonces(&nonces)));
            }
            self.decided.notify_all();
        }
        true
    }

    /// Sends a question once the trio is ready. The counter is used up whatever becomes of it.
    pub(super) fn ask<Q, E>(
        self: &Arc<Self>,
        (kind, needed): (Kind, usize),
        deadline: Instant,
        question: impl FnOnce(u64, &Expander) -> Result<(Q, [Body; 3]), E>,
    ) -> Result<Result<(Q, Waiting), E>, Fault> {
        let (mut state, expander) = self.ready(deadline)?;
        state.counter += 1;
        let counter = state.counter;
        let (question, bodies) = match question(counter, &expander) {
            Ok(question) => question,
            Err(error) => return Ok(Err(error)),
        };
        // It may land with two answers, and then with three.
        let (landed, landing) = mpsc::sync_channel(2);
        let flight = Flight { needed, answers: [None, None, None], refusals: Vec::new(), landed };
        state.flying.insert(counter, flight);
        // Under the lock, so that counters rise on every connection in the order they were given out.
        for (party, body) in Party::ALL.into_iter().zip(bodies) {
            state.send(party, kind, body);
        }
        Ok(Ok((question, Waiting { trio: Arc::clone(self), counter, landing })))
    }

    fn ready(&self, deadline: Instant) -> Result<(MutexGuard<'_, State>, Arc<Expander>), Fault> {
        let mut state = self.state();
        loop {
            if let Some(fault) = &state.down {
                return Err(fault.clone());
            }
            if let Some(expander) = state.expander.clone() {
                return Ok((state, expander));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let silent = Party::ALL.into_iter().filter(|party| state.nonces[party.index()].is_none());
                let fault = Fault::Silent(silent.collect());
                state.fail(fault.clone());
                self.decided.notify_all();
                return Err(fault);
            }
            state = self.decided.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What the session of `party` has to send while `unsent` bytes are on their way, or that it has to close.
    pub(super) fn take(&self, party: Party, mut unsent: usize) -> Option<Vec<(Kind, Body)>> {
        let mut state = self.state();
        if state.down.is_some() {
            return None;
        }
        let outbox = &mut state.outbox[party.index()];
        let fitting = outbox.iter().take_while(|(_, body)| {
            let fits = unsent == 0 || unsent + HEAD + body.len() <= UNSENT;
            unsent += HEAD + body.len();
            fits
        });
        let count = fitting.count();
        Some(outbox.drain(..count).collect())
    }

    /// An answer of `party` to question `counter`. False if no such question was ever asked.
    pub(super) fn answer(&self, party: Party, counter: u64, answer: Answer) -> bool {
        let mut state = self.state();
        if counter == 0 || counter > state.counter {
            return false;
        }
        // A question that has landed or was given up is no longer in flight; a late answer is only compared.
        let Some(flight) = state.flying.get_mut(&counter) else {
            drop(state);
            self.thirds.hear((self.number, counter), party, &answer.chunk[answer.body]);
            return true;
        };
        // Whoever answers does not refuse.
        flight.refusals.retain(|(refuser, _)| *refuser != party);
        flight.answers[party.index()] = Some(Arc::new(answer));
        let came = flight.answers.iter().flatten().count();
        if came >= flight.needed {
            let _ = flight.landed.try_send(Ok(Answers(flight.answers.clone())));
            flight.needed = Party::ALL.len();
            if came + flight.refusals.len() == Party::ALL.len() {
                state.flying.remove(&counter);
                self.settle(&mut state);
            }
        }
        true
    }

    /// Whoever has asked question `counter` waits for nothing more; of `third` it is known what it has to answer.
    fn release(&self, counter: u64, third: Option<(Party, thirds::Digest)>) {
        let mut state = self.state();
        // Under the lock, so that an answer finds either the flight or what it has to be.
        if state.flying.remove(&counter).is_some()
            && let Some((party, expected)) = third
        {
            self.thirds.expect((self.number, counter), party, expected);
        }
        self.settle(&mut state);
    }

    /// `party` refuses question `counter` alone. The others may be enough, however often it says so.
    pub(super) fn refuse(&self, party: Party, counter: u64, text: String) {
        let mut state = self.state();
        let Some(flight) = state.flying.get_mut(&counter) else { return };
        let spoke = flight.answers[party.index()].is_some();
        if spoke || flight.refusals.iter().any(|(refuser, _)| *refuser == party) {
            return;
        }
        flight.refusals.push((party, Fault::Refused { party, text }));
        if flight.refusals.len() + flight.needed > Party::ALL.len()
            && let Some(Flight { refusals, landed, .. }) = state.flying.remove(&counter)
        {
            // The first is the nearest to the cause.
            if let Some((_, fault)) = refusals.into_iter().next() {
                let _ = landed.try_send(Err(fault));
            }
            state.withdraw(counter);
            self.settle(&mut state);
        }
    }

    /// The deadline of question `counter` has passed: who had not answered. `None` if it has landed after all.
    fn forget(&self, counter: u64) -> Option<Fault> {
        let mut state = self.state();
        let Flight { answers, refusals, .. } = state.flying.remove(&counter)?;
        let silent = Party::ALL.into_iter().filter(|party| answers[party.index()].is_none());
        let refused = refusals.into_iter().next().map(|(_, fault)| fault);
        let fault = refused.unwrap_or_else(|| Fault::Silent(silent.collect()));
        state.withdraw(counter);
        state.given_up.get_or_insert_with(|| fault.clone());
        self.settle(&mut state);
        Some(fault)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn all_nonces(&self) -> Option<[Nonce; 3]> {
        let [Some(first), Some(second), Some(third)] = self.nonces else { return None };
        Some([first, second, third])
    }

    fn fail(&mut self, fault: Fault) {
        if self.down.is_some() {
            return;
        }
        for (_, flight) in self.flying.drain() {
            // A questioner that has given up does not listen.
            let _ = flight.landed.try_send(Err(fault.clone()));
        }
        self.down = Some(fault);
        Party::ALL.into_iter().for_each(|party| self.wake(party));
    }

    /// Nobody waits for this question: whoever has not been told of it need not be.
    fn withdraw(&mut self, counter: u64) {
        for outbox in &mut self.outbox {
            outbox.retain(|(kind, body)| *kind == Kind::Nonces || !body.starts_with(&counter.to_le_bytes()));
        }
    }

    fn send(&mut self, party: Party, kind: Kind, body: Body) {
        self.outbox[party.index()].push_back((kind, body));
        self.wake(party);
    }

    fn wake(&self, party: Party) {
        if let Some(waker) = &self.wakers[party.index()] {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
