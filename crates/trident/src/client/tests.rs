//! A client whose servers say nothing: what comes from them, the tests say.

use std::{convert::Infallible, iter};

use bytes::BytesMut;

use roadstead_proto::{
    Frame, connection::Connection, connection::Endpoint, connection::Event, connection::Op, frame::Fields,
    host::Host, host::Shared, ticket::Token, ticket::Waker,
};

use super::*;
use crate::{
    entropy,
    owner::{
        data::{DataError, Generated, Rows},
        share::{self, CLIENT_DIR},
    },
};

const FIRST: Party = Party::ALL[0];
const SECOND: Party = Party::ALL[1];
const THIRD: Party = Party::ALL[2];

/// Opens no connection, and gives none up.
struct Nowhere {
    shared: Arc<Shared>,
    begun: Mutex<Vec<Box<dyn Endpoint>>>,
}

impl Nowhere {
    fn new(budget: Budget) -> Self {
        Self { shared: Shared::new(budget), begun: Mutex::default() }
    }
}

impl Dial for Nowhere {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn begin(&self, endpoint: Box<dyn Endpoint>) {
        self.begun.lock().unwrap().push(endpoint);
    }
}

struct Silent {
    client: Client,
    _dir: tempfile::TempDir,
}

impl Silent {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = share::Options { search: true, ..Default::default() };
        share::share(&mut Generated::new(40, 1), dir.path(), options, |_, _| {}).unwrap();
        let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
        let servers = [1, 2, 3].map(|number| Address::from(([127, 0, 0, 1], number)));
        let options = Options { deadline: Duration::from_secs(2), ..Options::default() };
        let client =
            Client::new(collection, servers, None, options, |budget| Ok(Nowhere::new(budget))).unwrap();
        Self { client, _dir: dir }
    }

    /// Connections that all three servers have welcomed.
    fn welcomed(&self) -> Three {
        let trio = self.client.trio(soon()).unwrap();
        Party::ALL.into_iter().for_each(|party| assert!(trio.welcome(party, [party.number(); 16])));
        let wires = Party::ALL.map(|party| self.connect(&trio, party));
        Three { trio, wires }
    }

    /// The connection of `trio` to `party`, without a network.
    fn connect(&self, trio: &Arc<Trio>, party: Party) -> Wire {
        let asker = Asker::new(Arc::clone(trio), party, &self.client.collection);
        let shared = Shared::new(Budget::default());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let permit = shared.gate.admit(None).unwrap();
        let address = self.client.servers[party.index()].clone();
        let (mut connection, waker) = Connection::outgoing(asker, address, shared, permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        assert!(iter::from_fn(|| connection.next()).any(|op| matches!(op, Op::Receive(_))));
        Wire { connection, host, waker }
    }
}

/// A trio, and its connections without a network.
struct Three {
    trio: Arc<Trio>,
    wires: [Wire; 3],
}

struct Wire {
    connection: Connection<Asker>,
    host: Host,
    waker: Waker,
}

impl Wire {
    /// The answer to question `counter` comes. False if the connection ends with that.
    fn hear(&mut self, counter: u64, text: &[u8]) -> bool {
        let mut wire = Vec::new();
        Frame::encode(&mut wire, Kind::FetchedShare as u8, &Fields::new(), &answer(counter, text));
        let received = Event::Received(&mut BytesMut::from(&wire[..]));
        self.connection.handle(Duration::ZERO, received, &mut self.host);
        iter::from_fn(|| self.connection.next()).any(|op| matches!(op, Op::Receive(_)))
    }
}

impl Three {
    /// `party` answers question `counter`. False if the connection ends with that.
    fn hear(&mut self, party: Party, counter: u64, text: &[u8]) -> bool {
        self.wires[party.index()].hear(counter, text)
    }

    /// Asks what so many answers are enough for.
    fn asked(&self, needed: usize) -> Waiting {
        let question = |counter, _: &Expander| Ok::<_, Infallible>((counter, Default::default()));
        let Ok(Ok((_, waiting))) = self.trio.ask((Kind::FetchShare, needed), soon(), question) else {
            panic!("the question was not asked");
        };
        waiting
    }

    /// Asks what two answers are enough for, and gets those of the first two servers. Who answers third has to say
    /// `third`.
    fn ask(&mut self, third: &[u8]) -> u64 {
        let question = |counter, _: &Expander| Ok::<_, Infallible>((counter, Default::default()));
        let Ok(Ok((counter, waiting))) = self.trio.ask((Kind::FetchShare, 2), soon(), question) else {
            panic!("the question was not asked");
        };
        assert!(self.hear(FIRST, counter, b"a share") && self.hear(SECOND, counter, b"a share"));
        assert!(waiting.wait(soon()).is_ok());
        let expected = *blake3::hash(&answer(counter, third)).as_bytes();
        assert!(waiting.release(Some((THIRD, expected))).is_none());
        counter
    }
}

fn answer(counter: u64, text: &[u8]) -> Vec<u8> {
    [&counter.to_le_bytes(), text].concat()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn without_randomness_nothing_is_asked() {
    let mut silent = Silent::new();
    silent.client.entropy = entropy::tests::none;
    let three = silent.welcomed();
    let query = vec![0.0; silent.client.collection.manifest().dim];
    for protocol in [Protocol::Direct, Protocol::Exchange] {
        silent.client.options.protocol = protocol;
        let refused = [silent.client.fetch(3).map(drop), silent.client.search(&query, 1).map(drop)];
        for refused in refused {
            let empty = matches!(&refused, Err(ClientError::Randomness(why)) if why == "the pool is empty");
            assert!(empty, "{refused:?}");
        }
    }
    let question = |counter, _: &Expander| Ok::<_, Infallible>((counter, Default::default()));
    let asked = three.trio.ask((Kind::Fetch, 3), soon(), question);
    assert!(matches!(asked, Ok(Ok((1, _)))), "a question has left");
}

#[test]
fn a_stale_third_answer_is_never_compared_with_a_new_question() {
    let silent = Silent::new();
    let mut old = silent.welcomed();
    let counter = old.ask(b"the old share");
    old.trio.fail(Fault::Lost { party: FIRST, why: "it was restarted".into() });
    let mut new = silent.welcomed();
    assert!(!Arc::ptr_eq(&old.trio, &new.trio));
    assert_eq!(new.ask(b"the new share"), counter, "the questions have one number");
    // On the old connection, which is about to end: right for the old question, wrong for the new one.
    assert!(!old.hear(THIRD, counter, b"the old share"));
    assert_eq!((silent.client.contradictions(), silent.client.thirds.waiting()), ([0; 3], 1));
    assert!(new.hear(THIRD, counter, b"the new share"));
    assert_eq!((silent.client.contradictions(), silent.client.thirds.waiting()), ([0; 3], 0));
}

#[test]
fn nobody_waits_for_the_third_answers_of_connections_that_are_gone() {
    let silent = Silent::new();
    let mut old = silent.welcomed();
    (0..3).for_each(|_| _ = old.ask(b"a share"));
    assert_eq!(silent.client.thirds.waiting(), 3);
    old.trio.fail(Fault::Lost { party: SECOND, why: "it was restarted".into() });
    silent.welcomed().ask(b"a share");
    assert_eq!(silent.client.thirds.waiting(), 0, "these connections are gone as well");
    let mut living = silent.welcomed();
    living.ask(b"a share");
    drop(old);
    assert_eq!(silent.client.thirds.waiting(), 1);
}

#[test]
fn every_byte_of_a_third_answer_counts_and_each_is_compared_with_its_own_question() {
    let silent = Silent::new();
    let mut three = silent.welcomed();
    let share = *b"a share of a row";
    for at in 0..share.len() {
        let mut other = share;
        other[at] ^= 1 << (at % 8);
        let [first, second, third] = [&share, &other, &share].map(|share| three.ask(share));
        // They come in another order than they were asked, and the last is wrong.
        assert!(three.hear(THIRD, second, &other) && three.hear(THIRD, first, &share));
        assert_eq!(silent.client.contradictions(), [0, 0, at as u64]);
        assert!(three.hear(THIRD, third, &other));
        assert_eq!(silent.client.contradictions(), [0, 0, at as u64 + 1]);
    }
    assert_eq!(silent.client.thirds.waiting(), 0);
}

/// Who is among the answers with which a question has landed, if it has.
fn landed(waiting: &Waiting) -> Option<[bool; 3]> {
    waiting.landed().map(|answers| answers.unwrap().bodies().map(|body| body.is_some()))
}

#[test]
fn only_questions_that_were_asked_are_answered() {
    let silent = Silent::new();
    for (counter, was_asked) in [(0, false), (1, true), (2, true), (3, false), (u64::MAX, false)] {
        let mut three = silent.welcomed();
        let _asked = [three.asked(3), three.asked(3)];
        assert_eq!(three.hear(FIRST, counter, b"a share"), was_asked, "{counter}");
    }
}

#[test]
fn a_question_that_two_answers_were_enough_for_lands_again_with_the_third() {
    let silent = Silent::new();
    let mut three = silent.welcomed();
    let waiting = three.asked(2);
    assert!(three.hear(FIRST, 1, b"a share") && landed(&waiting).is_none(), "one answer is not enough");
    assert!(three.hear(THIRD, 1, b"a share"));
    assert_eq!(landed(&waiting), Some([true, false, true]));
    assert!(three.hear(THIRD, 1, b"a share") && landed(&waiting).is_none(), "it has said so before");
    assert!(three.hear(SECOND, 1, b"a share"));
    assert_eq!(landed(&waiting), Some([true; 3]));
}

#[test]
fn who_has_answered_does_not_refuse_and_who_has_refused_may_still_answer() {
    let silent = Silent::new();
    let mut three = silent.welcomed();
    let [all, two] = [three.asked(3), three.asked(2)];
    assert!(three.hear(FIRST, 1, b"a share"));
    three.trio.refuse(FIRST, 1, "after all not".into());
    assert!(three.hear(SECOND, 1, b"a share") && three.hear(THIRD, 1, b"a share"));
    assert_eq!(landed(&all), Some([true; 3]));
    three.trio.refuse(SECOND, 2, "busy".into());
    assert!(three.hear(SECOND, 2, b"a share"));
    three.trio.refuse(THIRD, 2, "busy".into());
    assert!(two.landed().is_none(), "one has refused, and one has not said anything yet");
    assert!(three.hear(FIRST, 2, b"a share"));
    assert_eq!(landed(&two), Some([true, true, false]));
}

#[test]
fn at_the_deadline_those_are_named_who_had_not_answered_or_the_first_who_refused() {
    let silent = Silent::new();
    let mut three = silent.welcomed();
    let waiting = three.asked(3);
    assert!(three.hear(SECOND, 1, b"a share"));
    assert!(matches!(waiting.wait(Instant::now()), Err(Fault::Silent(silent)) if silent == [FIRST, THIRD]));
    let three = silent.welcomed();
    let waiting = three.asked(2);
    three.trio.refuse(THIRD, 1, "busy".into());
    let ended = waiting.wait(Instant::now());
    assert!(matches!(ended, Err(Fault::Refused { party, text }) if (party, &text[..]) == (THIRD, "busy")));
}

#[test]
fn every_fault_names_the_address_of_its_own_server() {
    let silent = Silent::new();
    for (party, address) in Party::ALL.into_iter().zip(&silent.client.servers) {
        let (why, text) = ("it went".to_owned(), "it said no".to_owned());
        for (fault, said) in [
            (Fault::Lost { party, why }, format!("{party} at {address} is not available: it went")),
            (Fault::Refused { party, text }, format!("{party} at {address} refused: it said no")),
            (Fault::Silent(vec![party]), format!("no answer within 2s from {party} at {address}")),
        ] {
            assert_eq!(silent.client.explain(fault).to_string(), said);
        }
    }
    let [one, _, three] = &silent.client.servers;
    let said = silent.client.explain(Fault::Silent(vec![FIRST, THIRD])).to_string();
    assert!(said.ends_with(&format!("from {FIRST} at {one}, {THIRD} at {three}")), "{said}");
}

#[test]
fn whoever_asks_at_once_after_a_loss_shares_the_next_three_connections() {
    let silent = Silent::new();
    let lost = silent.client.trio(soon()).unwrap();
    lost.fail(Fault::Lost { party: FIRST, why: "it was restarted".into() });
    // They had not come to be, so all pause before the next.
    let next: Vec<Arc<Trio>> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| silent.client.trio(soon()).unwrap());
        let asking: Vec<_> = (0..8).map(|_| ask()).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert!(next.iter().all(|trio| Arc::ptr_eq(trio, &next[0]) && !Arc::ptr_eq(trio, &lost)));
    assert_eq!(silent.client.trios.load(Relaxed), 2);
    assert!(Arc::ptr_eq(&silent.client.trio(soon()).unwrap(), &next[0]), "it lives");
}

#[test]
fn a_client_that_is_dropped_ends_its_connections_and_what_waits_on_them() {
    let silent = Silent::new();
    let three = silent.welcomed();
    let waiting = three.asked(3);
    drop(silent);
    let ended = waiting.landed();
    assert!(matches!(&ended, Some(Err(Fault::Lost { why, .. })) if why == "the client was dropped"));
    assert!(three.trio.is_over() && three.trio.take(SECOND, 0).is_none());
}

#[test]
fn settling_ends_when_nothing_is_awaited_or_with_the_patience() {
    let silent = Silent::new();
    assert_eq!(silent.client.settle(Duration::from_secs(3600)), [0; 3]);
    let mut three = silent.welcomed();
    let counter = three.ask(b"a share");
    assert_eq!(silent.client.settle(Duration::ZERO), [0; 3]);
    assert!(three.hear(THIRD, counter, b"another share"));
    assert_eq!(silent.client.settle(Duration::from_secs(3600)), [0, 0, 1]);
}

#[test]
fn a_client_may_buffer_a_few_of_the_largest_answers_and_no_less_than_is_reasonable() {
    let dir = tempfile::tempdir().unwrap();
    let options = share::Options { search: true, ..Default::default() };
    share::share(&mut Generated::new(40, 1), dir.path(), options, |_, _| {}).unwrap();
    let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
    let servers = [1, 2, 3].map(|number| Address::from(([127, 0, 0, 1], number)));
    let mut asked = None;
    let dialer = |budget: Budget| {
        asked = Some((budget.connections, budget.buffer_each, budget.buffer_all));
        Ok(Nowhere::new(budget))
    };
    Client::new(collection, servers, None, Options::default(), dialer).unwrap();
    assert_eq!(asked, Some((256, 1 << 20, 256 << 20)));
}

/// So many rows of one byte.
struct Narrow(usize);

impl Rows for Narrow {
    fn rows(&self) -> usize {
        self.0
    }

    fn dim(&self) -> usize {
        1
    }

    fn read(&mut self, _: usize, out: &mut [f32]) -> Result<(), DataError> {
        out.fill(1.0);
        Ok(())
    }
}

#[test]
fn a_client_of_large_answers_may_buffer_four_of_them_on_a_connection_and_256_in_all() {
    let dir = tempfile::tempdir().unwrap();
    let options = share::Options { search: true, ..Default::default() };
    share::share(&mut Narrow(150_000), dir.path(), options, |_, _| {}).unwrap();
    let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
    let largest = wire::max_answer(collection.manifest()) + frame::HEAD;
    assert!(256 * largest > 256 << 20 && largest > wire::max_request(collection.manifest()));
    let servers = [1, 2, 3].map(|number| Address::from(([127, 0, 0, 1], number)));
    let mut asked = None;
    let dialer = |budget: Budget| {
        asked = Some((budget.buffer_each, budget.buffer_all));
        Ok(Nowhere::new(budget))
    };
    Client::new(collection, servers, None, Options::default(), dialer).unwrap();
    assert_eq!(asked, Some((4 * largest, 256 * largest)));
}

#[test]
fn protocols_have_the_names_that_they_are_chosen_by() {
    for (protocol, name) in [(Protocol::Direct, "direct"), (Protocol::Exchange, "exchange")] {
        assert_eq!((protocol.to_string(), name.parse::<Protocol>()), (name.to_owned(), Ok(protocol)));
    }
    assert!("Direct".parse::<Protocol>().is_err() && "".parse::<Protocol>().is_err());
    let Options { deadline, checked, protocol } = Options::default();
    assert_eq!((deadline, checked, protocol), (Duration::from_secs(10), true, Protocol::Direct));
}

#[test]
fn when_no_more_connections_may_be_made_that_is_said_at_once() {
    let silent = Silent::new();
    let gate = &silent.client.dialer.shared().gate;
    let held: Vec<_> = iter::from_fn(|| gate.admit(None).ok()).collect();
    let refused = silent.client.fetch(0).unwrap_err();
    let address = &silent.client.servers[0];
    assert!(
        matches!(&refused, ClientError::Unavailable { party, address: at, .. } if (*party, at) == (FIRST, address)),
        "{refused}"
    );
    drop(held);
    assert!(!silent.client.trio(soon()).unwrap().is_over(), "the next question connects");
}

#[test]
fn what_is_still_unsent_makes_the_next_question_wait() {
    let silent = Silent::new();
    let Three { trio, mut wires } = silent.welcomed();
    let length = 100 << 10;
    let large =
        |_: u64, _: &Expander| Ok::<_, Infallible>(((), [(); 3].map(|()| Body::new(vec![7; length]))));
    let _waiting = [(); 2].map(|()| trio.ask((Kind::Fetch, 3), soon(), large).ok());
    let Wire { connection, host, waker } = &mut wires[FIRST.index()];
    let mut unsent = |event| {
        waker.wake();
        connection.handle(Duration::ZERO, event, host);
        while connection.next().is_some() {}
        connection.output().buffered()
    };
    let one = unsent(Event::Woken);
    assert!((length..2 * length).contains(&one), "{one}");
    assert_eq!(unsent(Event::Woken), one, "nothing has left");
    unsent(Event::Sent(one as u64));
    assert!((length..2 * length).contains(&unsent(Event::Woken)));
}

#[test]
fn an_answer_is_as_long_as_one_can_be_and_no_longer() {
    let silent = Silent::new();
    let most = wire::max_answer(silent.client.collection.manifest());
    for (length, is_taken) in [(most - 1, true), (most, true), (most + 1, false), (most + 500, false)] {
        let mut three = silent.welcomed();
        let _asked = three.asked(3);
        let text = vec![7; length - answer(1, b"").len()];
        assert_eq!(three.hear(FIRST, 1, &text), is_taken, "{length} of {most}");
    }
}

#[test]
fn a_deadline_that_no_clock_can_count_to_is_one_that_it_can() {
    let mut silent = Silent::new();
    for deadline in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX) + 1)] {
        silent.client.options.deadline = deadline;
        let left = silent.client.deadline().saturating_duration_since(Instant::now());
        let cap = Duration::from_secs(u32::MAX.into());
        assert!(left <= cap && left > cap - Duration::from_secs(600), "{left:?}");
    }
    silent.client.options.deadline = Duration::ZERO;
    assert!(silent.client.deadline() <= Instant::now());
}

#[test]
fn nobody_pauses_beyond_the_deadline() {
    let silent = Silent::new();
    // Whoever had paused would find nothing left of the pause. So would one whom the machine held up for as long, but
    // not always.
    let was_cut = || {
        let lost = silent.client.trio(soon()).unwrap();
        lost.fail(Fault::Lost { party: FIRST, why: "it was restarted".into() });
        let next = silent.client.trio(Instant::now()).unwrap();
        assert!(!Arc::ptr_eq(&next, &lost));
        !lost.pause().is_zero()
    };
    assert!((0..100).any(|_| was_cut()));
}
