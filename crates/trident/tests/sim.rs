//! Three servers that share results over an exchange, and clients, in the simulator: a row that a client accepts is the
//! row, whoever cannot answer says so, and nothing is left behind.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;

use roadstead_exchange::{Exchange, Member, MemberId, Options, Simulated, Strategy};
use roadstead_proto::{
    Budget, Close, Closed, Context, Done, Frame, Input, Ready, Session, Waker, frame::Limits, frame::Parsed,
};
use roadstead_sim::{Failure, Faults, Report, Sim, seeds};
use roadstead_trident::{
    mask::Nonce,
    party::Party,
    prg::Expander,
    query::{Body, Collection, Fetch},
    server::{CODE_PEERS, Trident},
    share::{CLIENT_DIR, server_dir},
    shared::{Odd, SharedFetch},
    store::Store,
    wire::{self, Hello, Kind, Refusal, VERSION, Welcome},
};

use common::{SEARCH, byte_rows, rng, share_rows};

const STRATEGIES: [Strategy; 4] =
    [Strategy::Shared, Strategy::PerQuery, Strategy::Pool(2), Strategy::Multiplexed];
/// Enough for three ranges.
const ROWS: usize = 3_000;
/// Virtual time that no run of these tests needs.
const LIMIT: Duration = Duration::from_secs(900);

/// Where the server of a party is for clients, and for the other servers.
fn address(party: Party, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, party.number()], port))
}

/// What the owner has shared.
struct Shares {
    rows: Vec<Vec<f32>>,
    dir: TempDir,
    collection: Arc<Collection>,
}

impl Shares {
    fn new() -> Self {
        let (rows, dir) = (byte_rows(ROWS, 8, 1), tempfile::tempdir().unwrap());
        share_rows(&rows, dir.path(), SEARCH, 2);
        let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
        Self { rows, dir, collection }
    }

    fn server(&self, party: Party, peers: Exchange) -> Trident {
        let store = Store::open(&server_dir(self.dir.path(), party), party, u64::MAX).unwrap();
        Trident::with_peers(store.with_ranges(1), peers, roadstead_trident::peers::PATIENCE)
    }
}

/// A question of a client, and what came back from each server: an answer, or the code of a refusal.
struct Question {
    row: Vec<f32>,
    kind: Kind,
    bodies: [Body; 3],
    way: Way,
    /// Whose shares of results arrive changed.
    liar: Option<Party>,
    answers: [Option<Result<Vec<u8>, u16>>; 3],
}

/// What it takes to finish.
enum Way {
    Direct(Fetch),
    Shared(SharedFetch),
}

impl Question {
    /// Half of the questions want their results to stay shared.
    fn new(client: &Client, expander: &Expander, counter: u64) -> Self {
        let Client { collection, rows, seed, liar, .. } = client;
        let mut random = rng(seed * 100 + counter);
        let index = (seed * 37 + 1_009 * counter) as usize % rows.len();
        let (row, liar) = (rows[index].clone(), *liar);
        let (kind, way, bodies) = if (seed + counter).is_multiple_of(2) {
            let (fetch, bodies) = collection.fetch(index, counter, expander, &mut random).unwrap();
            (Kind::Fetch, Way::Direct(fetch), bodies)
        } else {
            let (fetch, bodies) = collection.fetch_shared(index, counter, expander, &mut random).unwrap();
            (Kind::FetchShare, Way::Shared(fetch), bodies)
        };
        Self { row, kind, bodies, way, liar, answers: [None, None, None] }
    }

    /// Takes what `party` answers. What enough answers give at any time is the row.
    fn take(&mut self, party: Party, mut answer: Vec<u8>) {
        if self.liar == Some(party) && self.kind == Kind::FetchShare {
            *answer.last_mut().unwrap() ^= 1;
        }
        assert!(self.answers[party.index()].replace(Ok(answer)).is_none(), "{party} answered twice");
        assert!(self.values().is_none_or(|values| values == self.row), "a wrong row was believed");
    }

    /// The row, if enough came for it. Whatever is put together is believed; nothing can be if one of two has lied.
    fn values(&self) -> Option<Vec<f32>> {
        let bodies = self.answers.each_ref().map(|answer| answer.as_ref()?.as_deref().ok());
        match &self.way {
            Way::Direct(fetch) => {
                let [Some(first), Some(second), Some(third)] = bodies else { return None };
                Some(fetch.finish([first, second, third]).unwrap().values())
            }
            Way::Shared(fetch) if bodies.iter().flatten().count() >= SharedFetch::ENOUGH => {
                let lied = self.liar.filter(|party| bodies[party.index()].is_some());
                let all = bodies.iter().all(Option::is_some);
                match fetch.finish(bodies) {
                    Ok(found) => {
                        assert_eq!(found.odd, lied.map(Odd::Contradicts));
                        Some(found.row.values())
                    }
                    Err(_) => {
                        assert!(lied.is_some() && !all, "two right answers were not enough");
                        None
                    }
                }
            }
            Way::Shared(_) => None,
        }
    }
}

/// A client: what its three connections share.
struct Client {
    collection: Arc<Collection>,
    rows: Vec<Vec<f32>>,
    liar: Option<Party>,
    seed: u64,
    nonces: [Option<Nonce>; 3],
    wakers: [Option<Waker>; 3],
    /// Asked when all nonces are known.
    questions: Vec<Question>,
    /// Connections that were lost before everything on them was answered.
    lost: [bool; 3],
}

impl Client {
    /// The nonces of all three connections, when they are known.
    fn all_nonces(&self) -> Option<[Nonce; 3]> {
        let [first, second, third] = self.nonces;
        Some([first?, second?, third?])
    }

    fn ask(&mut self, nonces: &[Nonce; 3]) {
        if self.questions.is_empty() {
            let expander = Expander::new(&self.collection.digest(), nonces);
            let question = |counter| Question::new(self, &expander, counter);
            self.questions = (1..=3).map(question).collect();
        }
    }

    fn is_answered(&self, party: Party) -> bool {
        !self.questions.is_empty()
            && self.questions.iter().all(|question| question.answers[party.index()].is_some())
    }
}

/// One of its connections.
struct Link {
    client: Arc<Mutex<Client>>,
    hello: Hello,
    limits: Limits,
    asked: bool,
}

impl Link {
    fn new(client: &Arc<Mutex<Client>>, party: Party, collection: &Collection) -> Self {
        let hello = Hello { version: VERSION, party, digest: collection.digest() };
        let limits = Limits { fields: 0, body: wire::max_answer(collection.manifest()) };
        Self { client: Arc::clone(client), hello, limits, asked: false }
    }

    fn at(&self) -> usize {
        self.hello.party.index()
    }

    fn go_on(&mut self, cx: &mut Context<'_, Self>) -> Done {
        let mut client = self.client.lock().unwrap();
        if let Some(nonces) = client.all_nonces().filter(|_| !self.asked) {
            client.ask(&nonces);
            Frame::send(cx.output(), Kind::Nonces as u8, &wire::encode_nonces(&nonces));
            for question in &client.questions {
                Frame::send(cx.output(), question.kind as u8, &question.bodies[self.hello.party.index()]);
            }
            self.asked = true;
        }
        if client.is_answered(self.hello.party) {
            cx.finish();
        }
        // Without the nonces of all nobody can be asked anything.
        if !self.asked && client.lost.contains(&true) {
            return Err(Close::abort("another connection is lost"));
        }
        Ok(())
    }
}

impl Session for Link {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            Frame::send(cx.output(), Kind::Hello as u8, &self.hello.encode());
            self.client.lock().unwrap().wakers[self.at()] = Some(cx.waker());
        }
        self.go_on(cx)
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        while let Parsed::Frame(frame) = Frame::parse(input.bytes(), &self.limits)? {
            let (at, mut client) = (self.at(), self.client.lock().unwrap());
            match Kind::try_from(frame.kind).unwrap() {
                Kind::Welcome => {
                    client.nonces[at] = Some(Welcome::parse(frame.body).unwrap().nonce);
                    client.wakers.iter().flatten().for_each(Waker::wake);
                }
                Kind::Refusal => {
                    let Refusal { counter, code, text } = Refusal::parse(frame.body).unwrap();
                    assert_eq!(code, CODE_PEERS, "{text}");
                    let question = &mut client.questions[counter as usize - 1];
                    assert!(question.answers[at].replace(Err(code)).is_none(), "{counter} twice");
                }
                _ => {
                    let (counter, _) = wire::counter("answer", frame.body).unwrap();
                    let party = self.hello.party;
                    client.questions[counter as usize - 1].take(party, frame.body.to_vec());
                }
            }
            drop(client);
            let length = frame.len();
            input.consume(length);
        }
        self.go_on(cx)
    }

    fn closed(self, _: &Closed) {
        let mut client = self.client.lock().unwrap();
        client.lost[self.hello.party.index()] = !client.is_answered(self.hello.party);
        client.wakers.iter().flatten().for_each(Waker::wake);
    }
}

type Clients = [Arc<Mutex<Client>>; 2];

/// Two clients ask three questions each. A pass is cut into one to three ranges, which are computed in any order.
fn play(shares: &Shares, sim: Sim, liar: Option<Party>) -> Result<(Report, Clients), Failure> {
    let seed = sim.seed();
    let mut sim = sim.workers(1 + seed as usize / STRATEGIES.len() % 3);
    let members = Party::ALL.map(|party| Member::new(party.number(), address(party, 7201)));
    let mut options = Options::with(STRATEGIES[seed as usize % STRATEGIES.len()]);
    (options.silence, options.connect) = (Duration::from_secs(2), Duration::from_secs(1));
    let mut exchanges = Vec::new();
    for party in Party::ALL {
        let exchange = sim.exchange(MemberId(party.number()), &members, options.clone()).unwrap();
        let server = shares.server(party, exchange.clone());
        sim = sim.budget(server.budget()).serve(address(party, 7101), server);
        exchanges.push(exchange);
    }
    let clients = [0, 1].map(|number| {
        Arc::new(Mutex::new(Client {
            collection: Arc::clone(&shares.collection),
            rows: shares.rows.clone(),
            liar,
            seed: seed * 2 + number,
            nonces: [None; 3],
            wakers: [None, None, None],
            questions: Vec::new(),
            lost: [false; 3],
        }))
    });
    for client in &clients {
        for party in Party::ALL {
            sim = sim.client(address(party, 7101), Link::new(client, party, &shares.collection));
        }
    }
    Ok((sim.run(LIMIT)?, clients))
}

/// How many of all questions have their rows, and how many of these without the answers of all three.
fn outcome(clients: &Clients) -> (usize, usize) {
    let (mut right, mut by_two) = (0, 0);
    for client in clients {
        for question in &client.lock().unwrap().questions {
            let whole = question.answers.iter().all(|answer| matches!(answer, Some(Ok(_))));
            right += usize::from(question.values().is_some());
            by_two += usize::from(question.values().is_some() && !whole);
        }
    }
    (right, by_two)
}

#[test]
fn a_row_that_a_client_accepts_is_the_row_and_whoever_waits_is_told() {
    let shares = Shares::new();
    let (right, by_two, refused, lost) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    Sim::check(seeds(400), |sim| {
        let (report, clients) = play(&shares, sim, None)?;
        let (all, few) = outcome(&clients);
        let cut = report.connections.iter().any(|link| link.cut.is_some());
        assert!(cut || (all, few) == (6, 0), "{all} of 6 are right although no connection was lost");
        right.update(|sum| sum + all);
        by_two.update(|sum| sum + few);
        for client in &clients {
            let client = client.lock().unwrap();
            let answers = client.questions.iter().flat_map(|question| &question.answers);
            refused.update(|sum| sum + answers.filter(|answer| matches!(answer, Some(Err(_)))).count());
            lost.update(|sum| sum + client.lost.iter().filter(|lost| **lost).count());
        }
        Ok(())
    });
    // A few seeds may all be of one kind, many may not: all kinds are to be tested.
    let kinds = [right.get(), by_two.get(), refused.get(), lost.get()];
    assert!(seeds(400).count() < 400 || !kinds.contains(&0), "{kinds:?}");
}

/// The answers come in every order: the liar's is often among the first two.
#[test]
fn a_server_that_lies_to_the_client_costs_no_row_whenever_all_three_answer() {
    let shares = Shares::new();
    Sim::check(seeds(120), |sim| {
        let liar = Party::ALL[sim.seed() as usize % 3];
        let (report, clients) = play(&shares, sim, Some(liar))?;
        let cut = report.connections.iter().any(|link| link.cut.is_some());
        let (right, _) = outcome(&clients);
        assert!(cut || right == 6, "{right} of 6 are right although no connection was lost");
        Ok(())
    });
}

#[test]
fn whatever_link_between_the_servers_is_lost_wherever_all_three_answer() {
    let shares = Shares::new();
    // One with each strategy.
    Sim::check(seeds(100).step_by(25), |sim| {
        let world = || Sim::new(sim.seed()).faults(Faults::none());
        let (whole, clients) = play(&shares, world(), None)?;
        assert_eq!(outcome(&clients), (6, 0));
        let between =
            |number: &usize| whole.connections[*number].address.socket().is_some_and(|at| at.port() == 7201);
        for number in (0..whole.connections.len()).filter(between) {
            let link = &whole.connections[number];
            for (to_server, flow) in [(true, link.up), (false, link.down)] {
                for after in (0..flow.arrived).step_by(13) {
                    let (report, clients) = play(&shares, world().cut(number, to_server, after), None)?;
                    assert!(report.connections[number].cut.is_some());
                    assert_eq!(outcome(&clients), (6, 0), "{number} cut after {after} of {flow:?}");
                }
            }
        }
        Ok(())
    });
}

/// Nobody is left waiting, and nothing is kept: the run looks at both.
#[test]
fn servers_that_drain_in_the_middle_of_a_pass_answer_what_was_asked() {
    let shares = Shares::new();
    let (right, all) = (Cell::new(0), Cell::new(0));
    Sim::check(seeds(120), |sim| {
        let after = Duration::from_micros(50 << (sim.seed() % 16));
        let (_, clients) = play(&shares, sim.drain_after(after), None)?;
        right.update(|sum| sum + outcome(&clients).0);
        all.update(|sum| sum + 6);
        Ok(())
    });
    // A few seeds may all be of one kind, many may not.
    assert!(seeds(120).count() < 120 || (1..all.get()).contains(&right.get()), "{right:?} of {all:?}");
}

/// Says nothing, and ends when the server does.
struct Silent;

impl Session for Silent {
    type Reply = ();

    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[test]
fn a_server_that_drains_does_not_wait_for_a_client_that_asks_nothing() {
    let (shares, [party, ..]) = (Shares::new(), Party::ALL);
    let store = Store::open(&server_dir(shares.dir.path(), party), party, u64::MAX).unwrap();
    let sim = Sim::new(1).faults(Faults::none()).serve(address(party, 7), Trident::new(store));
    let sim = sim.client(address(party, 7), Silent).drain_after(Duration::from_secs(1));
    let report = sim.run(LIMIT).unwrap();
    assert_eq!(report.stats[0].accepted, 1);
    assert!(report.took < Budget::default().first_byte, "it is told to go, not found silent");
}
