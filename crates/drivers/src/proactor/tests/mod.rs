//! The loop itself, over a completion queue that does what it is told and when.
#![forbid(unsafe_code)]

mod parts;

use std::{collections::BTreeMap, sync::atomic::Ordering::SeqCst};

use roadstead_proto::{
    address::Address,
    blob::FileRange,
    budget::Budget,
    connection::{BLOCK, dialling::outgoing},
    host::Shared,
    input::Input,
    output::Lent,
    service::{Done, Peer, Ready, Scope, Service, Session},
    session::Context,
};

use super::{
    emulated::{Direct, Emulated},
    *,
};
use crate::{
    net::{Failure, REST},
    reactor::tests::{Eager, Torrent, Waits},
};

/// As much as a connection may have to send, in bytes: a part of what all may send at once.
const LARGE: usize = 1 << 20;
/// How many such sends there may be in flight.
const AT_ONCE: usize = (8 << 20) / LARGE;

/// Keeps what it is asked for; the test says what is done.
#[derive(Default)]
struct Obedient {
    now: Duration,
    accepts: usize,
    /// Who waits when it is deafened.
    in_backlog: usize,
    named: Vec<Token>,
    sends: Vec<Token>,
    lent: BTreeMap<Token, Box<Lent>>,
    receives: Vec<(Token, usize)>,
    reads: Vec<(Token, Box<FileRange>)>,
    cancelled: Vec<Token>,
    closed: Vec<Token>,
    done: Vec<Completion<()>>,
}

impl CompletionQueue for Obedient {
    type Stream = ();

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }
    fn now(&self) -> Duration {
        self.now
    }
    fn accept(&mut self, _: usize) {
        self.accepts += 1;
    }
    fn deafen(&mut self, accepts: bool) {
        let come = (0..if accepts { self.in_backlog } else { 0 })
            .map(|_| Completion::Accepted(0, Taken::One((), guest()), None));
        self.done.extend(come);
    }
    fn adopt(&mut self, (): (), token: Token) -> io::Result<()> {
        self.named.push(token);
        Ok(())
    }
    fn connect(&mut self, _: Address, _: Token) {}
    fn receive(&mut self, token: Token, credit: usize) {
        self.receives.push((token, credit));
    }
    fn send(&mut self, token: Token, lent: Box<Lent>) {
        self.sends.push(token);
        self.lent.insert(token, lent);
    }
    fn read(&mut self, token: Token, range: Box<FileRange>) {
        self.reads.push((token, range));
    }
    fn shutdown(&mut self, _: Token) {}
    fn look(&mut self, token: Token) {
        self.done.push(Completion::Looked(token));
    }
    fn cancel(&mut self, token: Token) {
        self.cancelled.push(token);
    }
    fn close(&mut self, token: Token, _: bool) {
        self.closed.push(token);
    }
    fn refuse(&mut self, (): ()) {}
    fn has_done(&self) -> bool {
        !self.done.is_empty()
    }
    fn wait(&mut self, done: &mut Vec<Completion<()>>, _: Option<Duration>) -> io::Result<()> {
        done.append(&mut self.done);
        Ok(())
    }
}

/// Who comes.
fn guest() -> Peer {
    Peer { address: ([192, 0, 2, 1], 7).into() }
}

/// Has much to say as soon as it is opened.
struct Loud;

impl Service for Loud {
    type Session = Loud;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Loud {
        Loud
    }
}

impl Session for Loud {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().send(vec![0; LARGE]);
        }
        Ok(())
    }
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

fn start() -> Proactor<Obedient> {
    // Room enough that it is read from all the same.
    let shared = Shared::new(Budget::default().buffer_each(8 * LARGE));
    let open = accept::opener(Arc::new(Loud), Arc::clone(&shared), None);
    let host = Host::alone(shared, 1);
    Proactor::new(Obedient::default(), host, Arc::default(), vec![open])
}

impl Proactor<Obedient> {
    /// One turn in which this is done.
    fn happen(&mut self, done: impl IntoIterator<Item = Completion<()>>) {
        self.completions.done.extend(done);
        assert!(self.turn().unwrap());
    }

    /// So many come at once; answers their names.
    fn admit(&mut self, count: usize) -> Vec<Token> {
        let before = self.completions.named.len();
        self.happen((0..count).map(|_| Completion::Accepted(0, Taken::One((), guest()), None)));
        self.completions.named[before..].to_vec()
    }

    /// One turn in which the sends of these are done.
    fn send(&mut self, tokens: &[Token]) {
        let done: Vec<_> = tokens.iter().flat_map(|&token| [sent(token), self.home(token)]).collect();
        self.happen(done);
    }

    /// One turn in which the peers of these prove to have no room.
    fn fill(&mut self, tokens: &[Token]) {
        let full = Completion::Full;
        let done: Vec<_> = tokens.iter().flat_map(|&token| [full(token), self.home(token)]).collect();
        self.happen(done);
    }

    /// What was lent to the last send comes home.
    fn home(&mut self, token: Token) -> Completion<()> {
        Completion::Released(token, self.completions.lent.remove(&token).unwrap_or_else(Lent::new))
    }
}

fn sent(token: Token) -> Completion<()> {
    Completion::Sent(token, Ok(LARGE as u64))
}

#[test]
fn a_session_without_a_connection_that_comes_late_to_a_drain_is_told_of_it() {
    let mut proactor = start();
    let (orders, wake_queue) =
        (Arc::clone(&proactor.state.orders), Arc::clone(&proactor.state.host.wake_queue));
    proactor.admit(1);
    orders.drain(&wake_queue);
    proactor.happen([]);
    let (told, shared) = (Arc::default(), Arc::clone(&proactor.state.host.shared));
    let address = ([192, 0, 2, 1], 7).into();
    let (late, _) = outgoing(&shared, address, None, Waits(Arc::clone(&told))).unwrap();
    orders.attend(late, &wake_queue);
    proactor.happen([]);
    assert!(told.load(SeqCst));
}

#[test]
fn who_waits_in_the_backlog_of_a_loop_without_connections_is_let_in_when_it_drains() {
    let mut proactor = start();
    proactor.completions.in_backlog = 1;
    proactor.state.orders.drain(&proactor.state.host.wake_queue);
    proactor.happen([]);
    proactor.happen([]);
    assert_eq!(proactor.completions.named.len(), 1);
}

#[test]
fn a_loop_that_cedes_its_listeners_asks_for_nobody_else_and_serves_on_who_was_accepted_by_then() {
    let mut proactor = start();
    proactor.completions.in_backlog = 1;
    let (orders, wake_queue) =
        (Arc::clone(&proactor.state.orders), Arc::clone(&proactor.state.host.wake_queue));
    orders.cede(&wake_queue);
    proactor.happen([]);
    let asked = proactor.completions.accepts;
    let late = proactor.admit(1);
    proactor.happen([Completion::Accepted(0, Taken::Exhausted, None)]);
    assert_eq!((proactor.completions.named.len(), proactor.completions.accepts), (1, asked));
    assert!(proactor.timeout().is_none_or(|wait| wait > REST), "no listener rests");
    proactor.send(&late);
    assert!(proactor.turn().unwrap() && proactor.completions.closed.is_empty());
}

#[test]
fn as_many_accepts_are_outstanding_at_first_as_the_budget_says() {
    for (bounds, first) in [(4..=64, 4), (1..=9, 1), (7..=7, 7), (0..=0, 1)] {
        let shared = Shared::new(Budget::default().accepts(bounds));
        let open = accept::opener(Arc::new(Loud), Arc::clone(&shared), None);
        let host = Host::alone(shared, 1);
        let proactor = Proactor::new(Obedient::default(), host, Arc::default(), vec![open]);
        assert_eq!(proactor.completions.accepts, first);
    }
}

#[test]
fn no_listener_that_rests_keeps_a_loop_awake_that_drains() {
    let mut proactor = start();
    let exhausted = || Completion::Accepted(0, Taken::Exhausted, None);
    proactor.admit(1);
    proactor.happen([exhausted()]);
    assert_eq!(proactor.timeout(), Some(REST));
    proactor.state.orders.drain(&proactor.state.host.wake_queue);
    // Of those that are asked for some hear only then that there is no room.
    for done in [None, Some(exhausted())] {
        proactor.happen(done);
        proactor.completions.now += REST;
        proactor.happen([]);
        assert!(proactor.timeout().is_none_or(|wait| wait > REST));
    }
}

#[test]
fn sends_beyond_the_cap_wait_in_order_of_arrival() {
    let mut proactor = start();
    let tokens = proactor.admit(AT_ONCE + 3);
    assert_eq!(proactor.completions.sends, tokens[..AT_ONCE]);
    proactor.send(&tokens[1..2]);
    assert_eq!(proactor.completions.sends[AT_ONCE..], tokens[AT_ONCE..=AT_ONCE]);
    proactor.send(&[tokens[0], tokens[2]]);
    assert_eq!(proactor.completions.sends, tokens);
}

#[test]
fn who_waits_for_room_at_its_peer_keeps_nobody_waiting_and_has_its_turn_when_there_is_room() {
    let mut proactor = start();
    let tokens = proactor.admit(AT_ONCE + 2);
    proactor.fill(&tokens[..2]);
    assert_eq!(proactor.completions.sends, tokens);
    proactor.happen([Completion::Room(tokens[1])]);
    assert_eq!(proactor.completions.sends.len(), tokens.len(), "the others have taken its place");
    proactor.send(&tokens[2..3]);
    assert_eq!(proactor.completions.sends[tokens.len()..], [tokens[1]]);
}

#[test]
fn who_waits_for_room_and_closes_is_closed_whatever_it_hears_last() {
    let mut proactor = start();
    let tokens = proactor.admit(2);
    let reset = |token| Completion::Received {
        token,
        result: Err(io::ErrorKind::ConnectionReset.into()),
        more: false,
    };
    proactor.fill(&tokens);
    proactor.happen(tokens.iter().map(|&token| reset(token)));
    assert_eq!(proactor.completions.cancelled, tokens);
    assert_eq!(proactor.completions.closed, [], "something is in flight");
    let cancelled = Completion::Sent(tokens[1], Err(io::ErrorKind::Interrupted.into()));
    proactor.happen([Completion::Room(tokens[0]), cancelled]);
    assert_eq!(proactor.completions.closed, tokens);
}

#[test]
fn what_is_lent_is_charged_until_it_comes_back() {
    let mut proactor = start();
    let tokens = proactor.admit(1);
    let reset = Err(io::ErrorKind::ConnectionReset.into());
    proactor.happen([Completion::Received { token: tokens[0], result: reset, more: false }]);
    assert_eq!(proactor.completions.closed, [], "its send is in flight");
    assert_eq!(proactor.state.host.shared.memory.used(), LARGE);
    proactor.happen([sent(tokens[0])]);
    assert_eq!(proactor.completions.closed, tokens, "nothing is in flight for its socket any more");
    assert_eq!(proactor.state.host.shared.memory.used(), LARGE, "the system may still need it");
    let home = proactor.home(tokens[0]);
    proactor.happen([home]);
    assert_eq!((proactor.state.host.shared.memory.used(), proactor.state.connections.is_empty()), (0, true));
}

#[test]
fn what_was_sent_and_has_not_come_home_keeps_its_pages_and_nobody_from_sending_on() {
    let mut proactor = start();
    let tokens = proactor.admit(AT_ONCE + 1);
    let (last, before) = (tokens[AT_ONCE], AT_ONCE);
    proactor.happen([sent(tokens[0])]);
    assert_eq!(proactor.completions.sends.len(), before, "its pages are pinned still");
    let home = proactor.home(tokens[0]);
    proactor.happen([home]);
    assert_eq!(proactor.completions.sends[before..], [last]);
    assert_eq!(proactor.state.host.shared.memory.used(), LARGE * AT_ONCE);
}

#[test]
fn what_was_sent_in_part_goes_on_when_the_rest_has_come_home() {
    let mut proactor = start();
    let tokens = proactor.admit(1);
    for part in [LARGE - 1, 1] {
        let asked = proactor.completions.sends.len();
        proactor.happen([Completion::Sent(tokens[0], Ok(part as u64))]);
        assert_eq!(proactor.completions.sends.len(), asked, "the rest is lent");
        let home = proactor.home(tokens[0]);
        proactor.happen([home]);
    }
    assert_eq!(proactor.completions.sends.len(), 2);
    assert_eq!(proactor.state.host.shared.memory.used(), 0, "and nothing is charged when all was sent");
}

#[test]
fn what_is_not_in_flight_cannot_be_done() {
    let mut proactor = start();
    let tokens = proactor.admit(1);
    let none = || Completion::Connected(tokens[0], Ok(()));
    let home = proactor.home(tokens[0]);
    proactor.happen([none(), Completion::Room(tokens[0]), sent(tokens[0]), home]);
    let full = Completion::Full(tokens[0]);
    let home = proactor.home(tokens[0]);
    proactor.happen([sent(tokens[0]), full, Completion::Room(tokens[0]), home, none()]);
    assert_eq!(proactor.completions.closed, []);
    let reset = || {
        let reset = Err(io::ErrorKind::ConnectionReset.into());
        Completion::Received { token: tokens[0], result: reset, more: false }
    };
    proactor.happen([reset(), reset(), sent(tokens[0])]);
    assert_eq!(proactor.completions.closed, tokens, "once, when its receive had ended");
    let others = proactor.admit(AT_ONCE + 1);
    assert_eq!(proactor.completions.sends[1..], others[..AT_ONCE], "nothing is pinned twice, or for ever");
}

#[test]
fn who_closes_leaves_the_line() {
    let mut proactor = start();
    let tokens = proactor.admit(AT_ONCE + 2);
    let reset = Err(io::ErrorKind::ConnectionReset.into());
    proactor.happen([Completion::Received { token: tokens[AT_ONCE], result: reset, more: false }]);
    assert_eq!(proactor.completions.closed, [tokens[AT_ONCE]], "nothing of it was in flight any more");
    proactor.send(&tokens[..1]);
    assert_eq!(proactor.completions.sends[AT_ONCE..], [tokens[AT_ONCE + 1]]);
}

#[test]
fn what_the_system_had_no_room_for_is_sent_after_a_rest_and_more_by_and_by() {
    let mut proactor = start();
    let tokens = proactor.admit(AT_ONCE);
    let exhausted = |token| Completion::Sent(token, Err(io::Error::other(Failure::NoRoom)));
    let done: Vec<_> = tokens.iter().flat_map(|&token| [exhausted(token), proactor.home(token)]).collect();
    proactor.happen(done);
    assert_eq!(proactor.completions.sends.len(), AT_ONCE, "not at once");
    assert_eq!(proactor.timeout(), Some(REST));
    proactor.completions.now = REST;
    // The network is looked at before anything that is due.
    (0..3).for_each(|_| proactor.happen([]));
    assert_eq!(proactor.completions.sends.len(), AT_ONCE + 1, "one after the other");
    for number in AT_ONCE..2 * AT_ONCE {
        let token = proactor.completions.sends[number];
        proactor.send(&[token]);
    }
    let mut again = proactor.completions.sends[AT_ONCE..].to_vec();
    again.sort();
    assert_eq!(again, tokens, "nobody was forgotten");
    assert_eq!(proactor.completions.closed, []);
}

#[test]
fn more_accepts_are_outstanding_when_all_were_taken_and_none_while_the_listener_rests() {
    let mut proactor = start();
    let few = proactor.completions.accepts;
    proactor.admit(few - 1);
    assert_eq!(proactor.completions.accepts, 2 * few - 1, "as many as before");
    proactor.admit(few);
    assert_eq!(proactor.completions.accepts, 4 * few - 1, "twice as many");
    proactor.happen((0..2 * few).map(|_| Completion::Accepted(0, Taken::Exhausted, None)));
    assert_eq!(proactor.completions.accepts, 4 * few - 1, "it rests");
    assert_eq!(proactor.timeout(), Some(REST));
    proactor.completions.now = REST;
    proactor.happen([]);
    assert_eq!(proactor.completions.accepts, 5 * few - 1, "and listens again, for no more than at first");
}

#[test]
fn a_burst_of_bytes_takes_no_more_blocks_than_there_are_and_everybody_has_a_turn() {
    const ALL: usize = 100;
    let net = Torrent::new(0);
    let mut completions = Emulated::new(net, Eager::default(), Direct, vec![]);
    for number in 0..ALL {
        completions.adopt(number as u8, Token(number as u64)).unwrap();
        completions.receive(Token(number as u64), BLOCK);
    }
    let (mut served, mut done) = (Vec::new(), Vec::new());
    while served.len() < ALL {
        completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
        assert!((1..=32).contains(&done.len()), "{} blocks at once", done.len());
        for done in done.drain(..) {
            let Completion::Received { token, result: Ok(block), more: false } = done else {
                panic!("a block for each")
            };
            assert_eq!(block.len(), BLOCK);
            served.push(token);
        }
    }
    served.sort();
    served.dedup();
    assert_eq!(served.len(), ALL);
    assert!(!completions.has_done(), "nobody waits for anything");
}

#[test]
fn who_stands_in_line_for_a_block_is_not_overtaken_by_who_has_had_one() {
    let mut completions = Emulated::new(Torrent::new(0), Eager::default(), Direct, vec![]);
    let (last, mut done) = (Token(32), Vec::new());
    for number in 0..=32 {
        completions.adopt(number, Token(number.into())).unwrap();
        completions.receive(Token(number.into()), BLOCK);
    }
    completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
    done.clear();
    (0..32).for_each(|number| completions.receive(Token(number), BLOCK));
    completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
    assert!(matches!(&done[0], Completion::Received { token, .. } if *token == last));
}

#[test]
fn a_wait_for_room_that_is_cancelled_is_over_once_and_lends_nothing() {
    let mut completions = Emulated::new(Torrent::new(0), Eager::default(), Direct, vec![]);
    let (token, mut done) = (Token(1), Vec::new());
    completions.adopt(1, token).unwrap();
    completions.send(token, Lent::new());
    completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
    assert!(matches!(done[..], [Completion::Full(_), Completion::Released(..)]));
    done.clear();
    (0..2).for_each(|_| completions.cancel(token));
    completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
    assert!(matches!(done[..], [Completion::Sent(_, Err(_))]));
}

#[test]
fn who_waits_for_a_block_has_not_been_looked_at_until_it_has_one() {
    let mut completions = Emulated::new(Torrent::new(0), Eager::default(), Direct, vec![]);
    for number in 0..=32 {
        completions.adopt(number, Token(number.into())).unwrap();
        completions.receive(Token(number.into()), BLOCK);
    }
    let (last, mut lent, mut done) = (Token(32), Vec::new(), Vec::new());
    completions.wait(&mut lent, Some(Duration::ZERO)).unwrap();
    assert_eq!(lent.len(), 32);
    completions.look(last);
    completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
    assert!(done.is_empty());
    lent.pop();
    assert!(completions.has_done(), "there is a block for it");
    completions.wait(&mut done, Some(Duration::ZERO)).unwrap();
    let [Completion::Received { token: received, .. }, Completion::Looked(looked)] = &done[..] else {
        panic!("{} completions", done.len())
    };
    assert_eq!((*received, *looked), (last, last));
    done.clear();
    assert!(!completions.has_done(), "it stood in line once");
}
