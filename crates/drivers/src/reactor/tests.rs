//! The loop itself, on a network that never runs dry.
#![forbid(unsafe_code)]

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use roadstead_proto::{
    address::Address,
    budget::Budget,
    connection::dialling::outgoing,
    host::Shared,
    input::Input,
    output::Output,
    queue::{Job, Step},
    service::{Close, Done, JobId, Lost, Peer, Ready, Scope, Service, Session},
    session::Context,
};

use super::{connection::TURN, *};
use crate::net::{Failure, REST};

/// As many connections as asked for, each of which always has more to receive.
pub(crate) struct Torrent {
    backlog: u8,
    received: [u64; 256],
    clock: Clock,
}

type Clock = Arc<Mutex<Duration>>;

impl Torrent {
    pub(crate) fn new(backlog: u8) -> Self {
        let clock = Arc::new(Mutex::new(Duration::from_secs(1)));
        Self { backlog, received: [0; 256], clock }
    }
}

impl Net for Torrent {
    type ListenSocket = ();
    type Stream = u8;

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }
    fn now(&self) -> Duration {
        *self.clock.lock().unwrap()
    }
    fn accept(&mut self, (): &()) -> io::Result<(u8, Address)> {
        self.backlog = self.backlog.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        Ok((self.backlog, Address::from(([192, 0, 2, self.backlog], 7))))
    }
    fn shed(&mut self, (): &()) -> bool {
        false
    }
    fn connect(&mut self, _: &Address) -> io::Result<u8> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn connected(&mut self, _: &u8) -> io::Result<()> {
        Ok(())
    }
    fn receive(&mut self, stream: &u8, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        block.clear();
        block.resize(most, 0);
        self.received[usize::from(*stream)] += most as u64;
        assert!(self.received[usize::from(*stream)] < 1 << 30, "a turn has no end");
        Ok(most)
    }
    fn send(&mut self, _: &u8, _: &Output) -> io::Result<u64> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn shutdown(&mut self, _: &u8) {}
    fn close(&mut self, _: u8, _: bool) {}
}

/// Says in every turn that everybody is readable: each time is news, as with an edge-triggered poller.
#[derive(Default)]
pub(crate) struct Eager(Vec<Token>);

impl Poller<Torrent> for Eager {
    fn listen(&mut self, (): &(), token: Token) -> io::Result<()> {
        self.0.push(token);
        Ok(())
    }
    fn ignore(&mut self, (): &()) {}
    fn add(&mut self, _: &u8, token: Token) -> io::Result<()> {
        self.0.push(token);
        Ok(())
    }
    fn interest(&mut self, _: &u8, _: Token, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, _: &u8) {}
    fn wait(&mut self, ready: &mut Vec<Readiness>, _: Option<Duration>, _: bool) -> io::Result<()> {
        ready.extend(self.0.iter().map(|&token| Readiness {
            token,
            readable: true,
            writable: false,
            more: false,
        }));
        Ok(())
    }
}

struct Discard;

impl Service for Discard {
    type Session = Discard;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Discard {
        Discard
    }
}

impl Session for Discard {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        Ok(())
    }
}

#[test]
fn a_turn_takes_more_from_a_backlog_the_longer_that_does_not_empty() {
    let shared = Shared::new(Budget::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let net = Torrent::new(200);
    let host = Host::alone(shared, 1);
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::default(), vec![listener]).unwrap();
    let mut taken = || {
        let before = reactor.net.backlog;
        assert!(reactor.turn().unwrap());
        before - reactor.net.backlog
    };
    assert_eq!([taken(), taken(), taken(), taken(), taken(), taken(), taken()], [4, 8, 16, 32, 64, 64, 12]);
}

#[test]
fn a_turn_hands_over_no_more_than_it_would_take() {
    let shared = Shared::new(Budget::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let (mut net, mut poller) = (Torrent::new(200), Eager::default());
    let mut listeners = Listeners::new(vec![listener], &Budget::default(), &mut poller).unwrap();
    let mut host = Host::alone(shared, 1);
    let mut handed = || {
        let before = net.backlog;
        assert!(listeners.next(0, &mut net, &mut poller, &mut host, |_| None).is_none());
        before - net.backlog
    };
    assert_eq!([handed(), handed(), handed()], [4, 8, 16]);
}

#[test]
fn everybody_has_the_same_share_of_every_turn() {
    let shared = Shared::new(Budget::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let net = Torrent::new(3);
    let host = Host::alone(shared, 1);
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::default(), vec![listener]).unwrap();
    for _ in 0..50 {
        assert!(reactor.turn().unwrap());
        assert!(reactor.busy.len() <= 3, "{} places for three connections", reactor.busy.len());
    }
    let received = &reactor.net.received[..3];
    let (least, most) = (received.iter().min().unwrap(), received.iter().max().unwrap());
    assert!(most - least <= 2 * TURN, "{received:?}");
    assert!(*most <= 51 * 2 * TURN, "a turn gives no more than its share: {received:?}");
    assert_eq!(reactor.timeout(), Some(Duration::ZERO), "they have more");
}

/// Without room for listeners, as a system that is short of memory, for a number of times.
#[derive(Default)]
struct Cramped {
    attempts: u8,
    heard: bool,
}

impl Poller<Torrent> for Cramped {
    fn listen(&mut self, (): &(), _: Token) -> io::Result<()> {
        self.attempts += 1;
        // The first is at the start, when a failure may be told to whoever starts it.
        self.heard = !(2..=4).contains(&self.attempts);
        if self.heard { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }
    fn ignore(&mut self, (): &()) {
        self.heard = false;
    }
    fn add(&mut self, _: &u8, _: Token) -> io::Result<()> {
        Ok(())
    }
    fn interest(&mut self, _: &u8, _: Token, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, _: &u8) {}
    fn wait(&mut self, _: &mut Vec<Readiness>, _: Option<Duration>, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn listeners_outlive_a_poller_that_has_no_room_for_them() {
    let shared = Shared::new(Budget::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let mut poller = Cramped::default();
    let mut listeners = Listeners::new(vec![listener], &Budget::default(), &mut poller).unwrap();
    let mut net = Torrent::new(0);
    listeners.rest(&mut poller, net.now());
    let mut rests = 0;
    while let Some(until) = listeners.resting() {
        assert!(!poller.heard && rests < 9);
        rests += 1;
        listeners.wake(&mut poller, until);
    }
    assert!(poller.heard && rests == 4, "after {rests} rests");
    assert!(listeners.next(0, &mut net, &mut poller, &mut Host::alone(shared, 1), Some).is_none());
}

/// Takes no connection, and notes of which it is to tell no more.
#[derive(Default)]
struct Closed(Eager, Vec<u8>);

impl Poller<Torrent> for Closed {
    fn listen(&mut self, (): &(), token: Token) -> io::Result<()> {
        self.0.listen(&(), token)
    }
    fn ignore(&mut self, (): &()) {}
    fn add(&mut self, _: &u8, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::OutOfMemory.into())
    }
    fn interest(&mut self, _: &u8, _: Token, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, stream: &u8) {
        self.1.push(*stream);
    }
    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, idle: bool) -> io::Result<()> {
        self.0.wait(ready, timeout, idle)
    }
}

#[test]
fn a_poller_that_cannot_take_a_connection_is_to_forget_it() {
    let shared = Shared::new(Budget::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let net = Torrent::new(2);
    let host = Host::alone(Arc::clone(&shared), 1);
    let mut reactor = Reactor::new(net, Closed::default(), host, Arc::default(), vec![listener]).unwrap();
    assert!(reactor.turn().unwrap());
    assert_eq!((&reactor.poller.1[..], shared.gate.open()), (&[1, 0][..], 0));
}

/// Has a job of an hour done for all that comes, and notes when it is told of that.
#[derive(Clone)]
struct Slow {
    clock: Clock,
    told: Arc<Mutex<Vec<Duration>>>,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl Service for Slow {
    type Session = Slow;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Slow {
        self.clone()
    }
}

impl Session for Slow {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        let clock = Arc::clone(&self.clock);
        cx.run(0, move || *clock.lock().unwrap() += HOUR).map_err(|_| Close::abort("busy"))?;
        Ok(())
    }
    fn reply(&mut self, _: JobId, _: Result<(), Lost>, cx: &mut Context<'_, Self>) -> Done {
        self.told.lock().unwrap().push(cx.now());
        Ok(())
    }
}

#[test]
fn what_a_reply_sets_counts_from_the_end_of_its_job() {
    let (shared, net) = (Shared::new(Budget::default()), Torrent::new(1));
    let slow = Slow { clock: Arc::clone(&net.clock), told: Arc::default() };
    let listener = Listener::new((), Arc::new(slow.clone()), Arc::clone(&shared), None);
    let begun = net.now();
    let host = Host::alone(shared, 1);
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::default(), vec![listener]).unwrap();
    while slow.told.lock().unwrap().is_empty() {
        assert!(reactor.turn().unwrap());
    }
    assert!(slow.told.lock().unwrap()[0] >= begun + HOUR);
}

/// Sets a timer with the first bytes, and reads on.
#[derive(Clone)]
struct Timed {
    is_set: bool,
    fired: Arc<AtomicBool>,
}

impl Service for Timed {
    type Session = Timed;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Timed {
        self.clone()
    }
}

impl Session for Timed {
    type Reply = ();
    fn ready(&mut self, why: Ready, _: &mut Context<'_, Self>) -> Done {
        self.fired.fetch_or(why == Ready::Timer, SeqCst);
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if !mem::replace(&mut self.is_set, true) {
            cx.wake_at(Some(cx.now() + Duration::from_secs(1)));
        }
        input.consume(usize::MAX);
        Ok(())
    }
}

#[test]
fn a_timer_rings_although_the_peer_never_pauses() {
    let (shared, net) = (Shared::new(Budget::default()), Torrent::new(1));
    let (clock, fired) = (Arc::clone(&net.clock), Arc::<AtomicBool>::default());
    let timed = Timed { is_set: false, fired: Arc::clone(&fired) };
    let listener = Listener::new((), Arc::new(timed), Arc::clone(&shared), None);
    let host = Host::alone(shared, 1);
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::default(), vec![listener]).unwrap();
    for _ in 0..3 {
        assert!(reactor.turn().unwrap());
    }
    assert!(!fired.load(SeqCst), "its time has not come");
    *clock.lock().unwrap() += Duration::from_secs(1);
    for _ in 0..3 {
        assert!(reactor.turn().unwrap());
    }
    assert!(fired.load(SeqCst));
}

/// Finishes when it is told of a drain.
pub(crate) struct Waits(pub Arc<AtomicBool>);

impl Session for Waits {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Draining {
            self.0.store(true, SeqCst);
            cx.finish();
        }
        Ok(())
    }
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[test]
fn a_session_without_a_connection_that_comes_late_to_a_drain_is_told_of_it() {
    let (shared, orders) = (Shared::new(Budget::default()), Arc::<Orders>::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let host = Host::alone(Arc::clone(&shared), 1);
    let wake_queue = Arc::clone(&host.wake_queue);
    let net = Torrent::new(1);
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::clone(&orders), vec![listener]).unwrap();
    assert!(reactor.turn().unwrap());
    orders.drain(&wake_queue);
    assert!(reactor.turn().unwrap(), "somebody is still there");
    let told = Arc::default();
    let address = ([192, 0, 2, 1], 7).into();
    let (late, _) = outgoing(&shared, address, None, Waits(Arc::clone(&told))).unwrap();
    orders.attend(late, &wake_queue);
    assert!(reactor.turn().unwrap() && told.load(SeqCst));
}

#[test]
fn a_listener_that_rests_is_a_reason_to_wake_and_listens_again_then() {
    let shared = Shared::new(Budget::default());
    let listener = Listener::new((), Arc::new(Discard), Arc::clone(&shared), None);
    let (host, net) = (Host::alone(shared, 1), Torrent::new(0));
    let clock = Arc::clone(&net.clock);
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::default(), vec![listener]).unwrap();
    let now = reactor.net.now();
    reactor.listeners.rest(&mut reactor.poller, now);
    assert_eq!(reactor.timeout(), Some(REST));
    *clock.lock().unwrap() += REST;
    assert!(reactor.turn().unwrap() && reactor.listeners.resting().is_none());
}

/// Submits a job that never ends.
struct Toils;

impl Job for Toils {
    type Reply = ();
    fn run(&mut self, _: Duration) -> Step<()> {
        Step::More
    }
}

impl Session for Toils {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.submit(0, Toils);
        }
        Ok(())
    }
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[test]
fn a_loop_that_has_a_job_to_go_on_with_does_not_sleep() {
    let (shared, orders) = (Shared::new(Budget::default()), Arc::<Orders>::default());
    let host = Host::alone(Arc::clone(&shared), 1);
    let (toils, _) = outgoing(&shared, ([192, 0, 2, 1], 7).into(), None, Toils).unwrap();
    orders.attend(toils, &host.wake_queue);
    let mut reactor = Reactor::new(Torrent::new(0), Eager::default(), host, orders, vec![]).unwrap();
    for _ in 0..3 {
        assert!(reactor.turn().unwrap());
        assert_eq!(reactor.timeout(), Some(Duration::ZERO));
    }
}
