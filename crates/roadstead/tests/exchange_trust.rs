//! The exchange with keys: it works as without, and whoever cannot prove to be a member is refused with a reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "exchange/cluster.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod cluster;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Mutex, MutexGuard, Once, PoisonError, mpsc},
    time::Duration,
};

use roadstead::{
    Budget, Closed, Context, Dialer, Done, Frame, Input, Ready, Session,
    exchange::{self, Exchange, ExchangeError, GatherError, Member, MemberId, Options},
    frame::Fields,
    tls::{Connector, Expect, Keys},
};
use roadstead_keys::{Authority, Role};

use cluster::{Cluster, PATIENCE, STRATEGIES, issue, key};

fn authority() -> Authority {
    Authority::new("cluster").unwrap()
}

#[test]
fn every_strategy_works_with_keys_also_after_the_loss_of_a_member() {
    for strategy in STRATEGIES {
        let mut cluster = Cluster::start_secure(3, &authority(), Options::with(strategy));
        for length in [0, 500, (16 << 10) + 1, 300_000] {
            cluster.all_right(&key(length as u128), length);
        }
        cluster.expect_empty();
        cluster.kill(1);
        cluster.revive(1);
        cluster.level(16, 160, |query| if query % 16 == 3 { 100_000 } else { 500 });
    }
}

#[test]
fn pins_take_the_place_of_names() {
    let authority = authority();
    let keys: Vec<Keys> = ["a", "b"].map(|name| issue(&authority, name, Role::Server)).into();
    let listen = |_: &Keys| exchange::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let listeners: Vec<_> = keys.iter().map(listen).collect();
    let members: Vec<Member> = (1..)
        .zip(&listeners)
        .zip(&keys)
        .map(|((id, listener), keys)| Member { pin: Some(keys.pin()), ..Member::new(id, listener.address()) })
        .collect();
    let start = |((id, listener), keys): ((u8, _), &Keys)| {
        exchange::start(MemberId(id), &members, listener, Some(keys), Options::default()).unwrap()
    };
    let running: Vec<Exchange> = (1..).zip(listeners).zip(&keys).map(start).collect();
    running[0].send_all(key(1), "ahoy").unwrap();
    let (tell, told) = mpsc::channel();
    running[1].gather(key(1), PATIENCE, move |result| tell.send(result.map(drop)).unwrap());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(()));
}

#[test]
fn only_with_keys_may_others_reach_it() {
    let listen = || exchange::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let far =
        [Member::new(1, "127.0.0.1:1".parse().unwrap()), Member::new(2, "192.0.2.1:9".parse().unwrap())];
    let error = exchange::start(MemberId(1), &far, listen(), None, Options::default()).unwrap_err();
    assert!(matches!(error, ExchangeError::Open(address) if address == far[1].address), "{error}");
    // Nor may it be heard by more than this machine.
    let open = exchange::listen("0.0.0.0:0".parse().unwrap()).unwrap();
    let address = open.address();
    let error = exchange::start(MemberId(1), &far[..1], open, None, Options::default()).unwrap_err();
    assert!(matches!(error, ExchangeError::Open(named) if named == address), "{error}");
    let keys = issue(&authority(), "server-1", Role::Server);
    exchange::start(MemberId(1), &far[..1], listen(), Some(&keys), Options::default()).unwrap();
}

#[test]
fn a_member_of_another_cluster_is_refused_by_both_sides() {
    let _alone = alone();
    let (ours, theirs) = (authority(), authority());
    let keys = vec![issue(&ours, "server-1", Role::Server), issue(&theirs, "server-2", Role::Server)];
    let cluster = Cluster::start_with(2, keys, Options::default());
    for (at, peer) in [(0, MemberId(2)), (1, MemberId(1))] {
        let (tell, told) = mpsc::channel();
        let asked = key(at as u128);
        cluster.wait("the other was tried", || cluster.member(at).stats().refused + lost(&cluster, at) > 0);
        cluster.member(at).gather(asked, Duration::from_millis(50), move |result| {
            tell.send(result.map(drop)).unwrap();
        });
        match told.recv_timeout(PATIENCE).unwrap() {
            Err(GatherError::Missing { missing, .. }) => assert_eq!(missing[0].id, peer),
            other => panic!("{other:?}"),
        }
    }
    // The one with the higher number dials, and sees what is wrong; the other is told by its alert.
    let trouble = cluster.member(1).stats().peers[0].1.trouble.clone().unwrap();
    assert!(trouble.contains("not of the expected authority"), "{trouble}");
    assert_eq!(cluster.member(1).stats().peers[0].1.up + cluster.member(0).stats().peers[0].1.up, 0);
}

fn lost(cluster: &Cluster, at: usize) -> u64 {
    cluster.member(at).stats().peers[0].1.lost
}

/// Says its words to a member, and tells how that ended.
struct Stranger {
    words: Vec<u8>,
    tell: mpsc::Sender<String>,
}

impl Session for Stranger {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&self.words);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        Ok(())
    }

    fn closed(self, why: &Closed) {
        let _ = self.tell.send(why.to_string());
    }
}

/// A hello of member `from` to member 2, on a multiplexed link.
fn hello(from: u8) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut body = vec![1, from, 2, 4, 0];
    body.extend_from_slice(&(1u64 << 30).to_le_bytes());
    Frame::encode(&mut wire, 1, &Fields::new(), &body);
    wire
}

#[test]
fn whoever_cannot_prove_to_be_a_member_is_refused_with_a_reason_in_the_log() {
    let _alone = alone();
    let (ours, theirs) = (authority(), authority());
    let mut options = Options::default();
    options.largest = 100_000;
    let cluster = Cluster::start_secure(3, &ours, options);
    cluster.all_right(&key(1), 500);
    let (address, pin) = (cluster.member(1).address(), cluster.keys()[1].pin());
    let endless = [hello(1), vec![0xff; 1 << 20]].concat();
    let cases = [
        (None, hello(1), "shows no certificate"),
        (Some(issue(&theirs, "server-1", Role::Server)), hello(1), "not of the expected authority"),
        (
            Some(issue(&ours, "client", Role::Client)),
            hello(1),
            "its certificate is for \"client\", not for server-1",
        ),
        (
            Some(issue(&ours, "server-3", Role::Server)),
            hello(1),
            "its certificate is for \"server-3\", not for server-1",
        ),
        (
            Some(issue(&ours, "server-9", Role::Server)),
            hello(9),
            "it says that it is server 9, who is not expected here",
        ),
        (Some(issue(&ours, "server-1", Role::Server)), endless, "a link between members was refused"),
    ];
    for (at, (keys, words, reason)) in cases.into_iter().enumerate() {
        log().clear();
        let ended = visit(address, Connector::new(keys.as_ref(), Expect::Pin(pin)).unwrap(), words);
        cluster.wait(reason, || log().contains(reason));
        cluster.level(4, 16, |_| 500);
        assert!(!ended.is_empty(), "case {at}");
    }
    log().clear();
    let mut plain = TcpStream::connect(address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(&hello(1)).unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    cluster.wait("the log says so", || log().contains("does not speak TLS"));
    cluster.level(4, 16, |_| 500);
}

/// How it ends when somebody says `words` there.
fn visit(address: SocketAddr, connector: Connector, words: Vec<u8>) -> String {
    let (tell, told) = mpsc::channel();
    let dialer = Dialer::start(Budget::default().buffer_each(4 << 20)).unwrap();
    dialer.connect_through(address, &connector, Stranger { words, tell }).unwrap();
    told.recv_timeout(PATIENCE).unwrap()
}

/// For tests that look at the log, or write what others look for.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

static LOG: Mutex<String> = Mutex::new(String::new());

/// What this process has logged since it was cleared.
fn log() -> MutexGuard<'static, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| Lines).init();
    });
    LOG.lock().unwrap()
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
