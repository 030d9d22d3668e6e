//! Passes whose ranges are taken in any order, fail, or panic, and requests of clients that have left.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
};

use roadstead_proto::{
    Budget, Context, Done, Input, JobId, Lost, Ready, Session, connection::Connection, connection::Endpoint,
    connection::Event, host::Host, host::Shared as Accounts, ticket::Token,
};

use super::{batch::Pass as _, *};
use crate::{
    arithmetic::{party::Party, prg::Expander, selector},
    owner::{data::Generated, share},
    server::{
        peers::{self, Peers},
        store::Store,
    },
};

/// What a session has: its ticket, and what became of it.
#[derive(Clone, Default)]
struct Asks(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    ticket: Option<Ticket<Reply>>,
    replies: Vec<Result<Vec<u8>, Lost>>,
}

impl Session for Asks {
    type Reply = Reply;

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            lock(&self.0).ticket = Some(cx.ticket().unwrap());
        }
        Ok(())
    }

    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<Reply, Lost>, _: &mut Context<'_, Self>) -> Done {
        lock(&self.0).replies.push(reply.map(|reply| reply.body.concat()));
        Ok(())
    }
}

/// A connection that waits for an answer.
struct Client {
    asks: Asks,
    connection: Connection<Asks>,
    host: Host,
}

impl Client {
    fn new(name: u64) -> Self {
        let (asks, accounts) = (Asks::default(), Accounts::new(Budget::default()));
        let mut host = Host::alone(Arc::clone(&accounts), 1);
        let permit = accounts.gate.admit(None).unwrap();
        let (mut connection, _) =
            Connection::outgoing(asks.clone(), ([192, 0, 2, 1], 7).into(), accounts, permit);
        connection.place(Token(name), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        assert!(iter::from_fn(|| connection.next()).count() > 0);
        Self { asks, connection, host }
    }

    fn ticket(&self) -> Ticket<Reply> {
        lock(&self.asks.0).ticket.take().unwrap()
    }

    /// What became of its question, if anything did.
    fn replies(&mut self) -> Vec<Result<Vec<u8>, Lost>> {
        self.connection.handle(Duration::ZERO, Event::Woken, &mut self.host);
        lock(&self.asks.0).replies.clone()
    }
}

/// A question whose answer is where the ranges of its pass begin.
#[derive(Debug, PartialEq)]
struct Begins;

/// What the range behind these rows does.
const FAILS: usize = 2_048;
const PANICS: usize = 3_072;

impl Question for Begins {
    type Part = u8;

    fn batch(_: &Shared) -> &Batch<Pass<Self>> {
        unreachable!("the test takes the ranges itself")
    }

    fn cut(_: &Store, _: usize) -> Cut {
        unreachable!("the test cuts")
    }

    fn compute(_: &Store, questions: &[Self], rows: Range<usize>) -> Result<u8, StoreError> {
        assert_eq!(questions, [Begins, Begins]);
        match rows.start {
            FAILS => Err(StoreError::Element { path: "of the test".into() }),
            PANICS => panic!("a range of the test that is meant to fail"),
            start => Ok((start / 1_024) as u8),
        }
    }

    fn answer(_: &Shared, _: &[Self], parts: Vec<u8>, answers: Vec<Answer>) {
        for (ticket, allowance) in answers {
            ticket.finish(Reply::new(Kind::Fetched, parts.clone(), allowance));
        }
    }

    fn counter(&self) -> u64 {
        9
    }
}

fn shared() -> Shared {
    let (dir, party) = (tempfile::tempdir().unwrap(), Party::ALL[0]);
    share::share(&mut Generated::new(5, 1), dir.path(), share::Options::default(), |_, _| {}).unwrap();
    let store = Store::open(&share::server_dir(dir.path(), party), party, 0).unwrap();
    Shared {
        store,
        limits: Limits { fields: 0, body: 100 },
        answers: Answers::new(1 << 20),
        fetches: Batch::new(1),
        searches: Batch::new(1),
        shared: Batch::new(1),
        resharing: None,
    }
}

/// Two clients, and a pass for what they ask over so many ranges of 1,024 rows.
fn two(shared: &Shared, ranges: usize) -> ([Client; 2], Pass<Begins>) {
    let clients = [Client::new(1), Client::new(2)];
    let waits = |client: &Client| {
        let allowance = shared.answers.reserve(1 << 18, || panic!("there is room")).unwrap();
        Waiting { query: Begins, ticket: client.ticket(), allowance }
    };
    let cut = Cut::new(ranges * 1_024, ranges, 1, ranges);
    let pass = Pass::new(clients.iter().map(waits).collect(), cut);
    (clients, pass)
}

/// All memory for answers is free.
fn is_free(shared: &Shared) -> bool {
    !shared.answers.is_short() && shared.answers.reserve(1 << 20, || panic!("not all is free")).is_ok()
}

#[test]
fn whoever_computes_the_last_range_answers_whatever_the_order() {
    for order in [[0, 1], [1, 0]] {
        let shared = shared();
        let (mut clients, pass) = two(&shared, 2);
        pass.compute(&shared, order[0]);
        assert!(clients.iter_mut().all(|client| client.replies().is_empty()), "a range is missing");
        pass.compute(&shared, order[1]);
        for client in &mut clients {
            assert_eq!(client.replies(), [Ok(vec![0, 1])]);
        }
        assert!(is_free(&shared));
    }
}

#[test]
fn a_range_that_panics_loses_the_requests_of_its_pass_at_once_and_no_other_is_computed() {
    let shared = shared();
    let (mut clients, pass) = two(&shared, 4);
    pass.compute(&shared, 0);
    let broken = || pass.compute(&shared, 3);
    assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
    for client in &mut clients {
        assert!(matches!(client.replies()[..], [Err(_)]));
    }
    assert!(is_free(&shared), "although the pass is still there");
    // Would refuse them.
    pass.compute(&shared, 2);
    pass.compute(&shared, 1);
    assert!(clients.iter_mut().all(|client| client.replies().len() == 1));
}

#[test]
fn a_range_that_cannot_be_read_refuses_the_requests_of_its_pass_once_and_at_once() {
    let shared = shared();
    let (mut clients, pass) = two(&shared, 4);
    [1, 2].into_iter().for_each(|number| pass.compute(&shared, number));
    // Would panic.
    [3, 0].into_iter().for_each(|number| pass.compute(&shared, number));
    for client in &mut clients {
        let replies = client.replies();
        let [Ok(body)] = &replies[..] else { panic!("{replies:?}") };
        let Refusal { counter, code, .. } = Refusal::parse(body).unwrap();
        assert_eq!((counter, code), (9, CODE_STORE));
    }
    assert!(is_free(&shared));
}

#[test]
fn nothing_is_computed_for_clients_that_have_left_and_their_memory_is_free() {
    let answers = Answers::new(1 << 20);
    let mut clients: Vec<Client> = (1..4).map(Client::new).collect();
    let waiting: Vec<_> = (1..)
        .zip(&clients)
        .map(|(query, client)| {
            let allowance = answers.reserve(1 << 18, || panic!("there is room")).unwrap();
            Waiting { query, ticket: client.ticket(), allowance }
        })
        .collect();
    drop(clients.remove(1));
    let (queries, served) = living(waiting);
    assert_eq!((queries, served.len()), (vec![1, 3], 2));
    drop(answers.reserve(1 << 19, || panic!("what was for the second is free")).unwrap());
}

#[test]
fn when_all_have_left_in_the_middle_of_a_pass_the_rest_is_not_computed() {
    let shared = shared();
    let ([first, second], pass) = two(&shared, 4);
    pass.compute(&shared, 0);
    drop(first);
    pass.compute(&shared, 1);
    drop(second);
    // Would panic.
    pass.compute(&shared, 3);
    assert!(is_free(&shared), "although the pass is still there");
}

#[test]
fn a_job_that_is_dropped_leaves_nobody_waiting() {
    let shared = Arc::new(shared());
    let mut clients = [Client::new(1), Client::new(2)];
    // Whatever is asked: nothing of it is computed.
    let cut = Cut::whole(5);
    let put = |client: &Client| {
        let allowance = shared.answers.reserve(1 << 18, || panic!("there is room")).unwrap();
        let query = SearchQuery { counter: 1, vectors: Vec::new(), masks: masks() };
        shared.searches.put(Waiting { query, ticket: client.ticket(), allowance }, 2)
    };
    assert_eq!(put(&clients[0]), 2);
    let jobs = [(); 2].map(|()| Passes::<SearchQuery>::new(Arc::clone(&shared), cut));
    assert_eq!(put(&clients[1]), 0);
    let [first, second] = jobs;
    drop(first);
    assert!(clients.iter_mut().all(|client| client.replies().is_empty()), "another may still come");
    drop(second);
    assert!(clients.iter_mut().all(|client| matches!(client.replies()[..], [Err(_)])));
    assert!(is_free(&shared));
}

fn masks() -> Arc<crate::arithmetic::mask::Masks> {
    use crate::arithmetic::mask::{Masks, PairKey, PairKeys, Purpose};
    let keys = PairKeys { next: PairKey::from_bytes(&[1; 32]), previous: PairKey::from_bytes(&[2; 32]) };
    let digest = crate::agreed::manifest::Digest([3; 32]);
    Arc::new(Masks::new(&keys, &digest, Purpose::SearchScan, &[[4; 16]; 3]))
}

/// Hears whose results are shared, and has nobody answer.
struct Hears(Arc<Mutex<Vec<u128>>>);

impl Peers for Hears {
    fn exchange(&self, query: u128, _: [(Party, bytes::Bytes); 2], _: Duration, _: peers::Done) {
        lock(&self.0).push(query);
    }
}

#[test]
fn what_a_pass_gives_is_on_the_road_in_its_order_before_the_next_is_computed() {
    let (dir, party, heard) = (tempfile::tempdir().unwrap(), Party::ALL[0], Arc::default());
    let options = share::Options { search: true, ..share::Options::default() };
    share::share(&mut Generated::new(5, 1), dir.path(), options, |_, _| {}).unwrap();
    let store = Store::open(&share::server_dir(dir.path(), party), party, u64::MAX).unwrap();
    let domain = store.manifest().selector_domain();
    let expander = Arc::new(Expander::new(&store.digest(), &[[4; 16]; 3]));
    let resharing = Some(Resharing::new(Hears(Arc::clone(&heard)), Duration::ZERO));
    let shared = Arc::new(Shared { store, resharing, shared: Batch::new(2), ..shared() });
    let clients: Vec<Client> = (1..6).map(Client::new).collect();
    for (counter, client) in (1..).zip(&clients) {
        let keys = [(); 2].map(|()| selector::Key::parse(&vec![0; domain.key_len()], domain).unwrap());
        let question = SharedQuery { counter, keys, expander: Arc::clone(&expander), id: counter.into() };
        let allowance = shared.answers.reserve(100, || panic!("there is room")).unwrap();
        let waiting = Waiting { query: (question, Seed::default()), ticket: client.ticket(), allowance };
        assert_eq!(shared.shared.put(waiting, 1), usize::from(counter == 1));
    }
    let mut job = Passes::<(SharedQuery, Seed)>::new(Arc::clone(&shared), Cut::whole(5));
    for (step, sent) in [(Step::More, 2), (Step::More, 4), (Step::Done(()), 5)] {
        assert_eq!(job.run(Duration::ZERO), step);
        assert_eq!(*lock(&heard), (1..=sent).collect::<Vec<u128>>());
    }
}
