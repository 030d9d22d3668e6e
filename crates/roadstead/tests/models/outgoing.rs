//! Connections that a server's session, or nobody's session, opens to somebody else.

use std::{
    io::{Read, Write},
    mem,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Closed, Context, Dialer, Done, Input, Peer, Ready, Server, Service, Session, Waker,
    tls::Connector,
};

use crate::{
    client::{End, PATIENCE, echo, end_of, eventually, pattern},
    desk::Echo,
    setting::Setting,
};

on_every_model!(
    a_relay_carries_both_ways_and_both_ends,
    a_refused_connection_says_so,
    an_unanswered_connection_is_given_up_in_time,
    a_far_side_that_closes_is_heard_of,
    a_drain_ends_both_sides,
    a_stop_while_connecting_waits_for_nothing,
);

/// What the two sides of a relayed connection share.
#[derive(Default)]
struct Pipe {
    /// To the far side, and back.
    bytes: [Vec<u8>; 2],
    ended: [bool; 2],
    wakers: [Option<Waker>; 2],
    closed: Option<String>,
}

/// One side: reads for the other, and writes what the other has read.
struct Side {
    pipe: Arc<Mutex<Pipe>>,
    me: usize,
    far: Option<Far>,
}

/// Where the far side is, and what it is spoken with through.
#[derive(Clone)]
struct Far(SocketAddr, Option<Connector>);

impl Side {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap()
    }

    fn wake_other(&self) {
        if let Some(waker) = &self.pipe().wakers[1 - self.me] {
            waker.wake();
        }
    }

    fn pump(&mut self, cx: &mut Context<'_, Self>) {
        let mut pipe = self.pipe();
        let bytes = mem::take(&mut pipe.bytes[1 - self.me]);
        cx.output().write(&bytes);
        if pipe.ended[1 - self.me] {
            cx.finish();
        }
    }
}

impl Session for Side {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.pipe().bytes[self.me].extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        self.wake_other();
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened
            && let Some(Far(address, connector)) = &self.far
        {
            let side = Side { pipe: Arc::clone(&self.pipe), me: 1, far: None };
            let waker = match connector {
                Some(connector) => cx.connect_through(*address, connector, side),
                None => cx.connect(*address, side),
            }
            .unwrap();
            self.pipe().wakers = [Some(cx.waker()), Some(waker)];
        }
        if why == Ready::Draining {
            cx.finish();
        }
        self.pump(cx);
        Ok(())
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.pipe().ended[self.me] = true;
        self.wake_other();
        Ok(())
    }

    fn closed(self, why: &Closed) {
        if self.me == 1 {
            self.pipe().closed = Some(why.to_string());
        }
        self.pipe().ended[self.me] = true;
        self.wake_other();
    }
}

struct Relay {
    far: Far,
    last: Arc<Mutex<Arc<Mutex<Pipe>>>>,
}

impl Relay {
    fn to(setting: Setting, far: SocketAddr) -> Self {
        Self { far: Far(far, setting.connector()), last: Arc::default() }
    }
}

impl Service for Relay {
    type Session = Side;
    fn open(&self, _: &Peer) -> Side {
        let pipe = Arc::default();
        *self.last.lock().unwrap() = Arc::clone(&pipe);
        Side { pipe, me: 0, far: Some(self.far.clone()) }
    }
}

/// How the far side of the last relayed connection ended.
fn fate(last: &Mutex<Arc<Mutex<Pipe>>>) -> String {
    let mut why = None;
    eventually("the far side is closed", || {
        why = last.lock().unwrap().lock().unwrap().closed.clone();
        why.is_some()
    });
    why.unwrap()
}

fn a_relay_carries_both_ways_and_both_ends(setting: Setting) {
    let far = setting.start(Echo::default(), Budget::default());
    let near = setting.start(Relay::to(setting, far.addresses()[0]), Budget::default());
    let mut stream = setting.connect(near.addresses()[0]);
    echo(&mut stream, b"there and back");
    for _ in 0..20 {
        echo(&mut stream, &pattern(100_000));
    }
    stream.finish().unwrap();
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    eventually("both sides are gone", || near.open() == 0 && far.open() == 0);
    let counted = near.drain(PATIENCE).unwrap();
    assert_eq!((counted.connected, counted.closed, counted.failed), (1, 2, 0));
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A listener that answers no more connections, and those that fill its backlog.
fn deaf() -> (SocketAddr, impl Sized) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let filling = (0..8)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect::<Vec<_>>();
    std::thread::sleep(Duration::from_millis(50));
    (address.as_socket().unwrap(), (listener, filling))
}

fn a_refused_connection_says_so(setting: Setting) {
    let relay = Relay::to(setting, nobody());
    let last = Arc::clone(&relay.last);
    let near = setting.start(relay, Budget::default());
    let mut stream = setting.connect(near.addresses()[0]);
    assert_eq!(end_of(&mut stream), End::Orderly);
    assert!(fate(&last).contains("refused"));
    drop(stream);
    eventually("both sides are gone", || near.open() == 0);
    let counted = near.drain(PATIENCE).unwrap();
    assert_eq!((counted.connected, counted.closed), (1, 2));
}

fn an_unanswered_connection_is_given_up_in_time(setting: Setting) {
    let (far, _full) = deaf();
    let patience = Duration::from_millis(300);
    let relay = Relay::to(setting, far);
    let last = Arc::clone(&relay.last);
    let near = setting.start(relay, Budget::default().connect(patience));
    let begun = Instant::now();
    let mut stream = setting.connect(near.addresses()[0]);
    assert_eq!(end_of(&mut stream), End::Orderly);
    assert_eq!(fate(&last), "the peer did not answer the connection in time");
    assert!(begun.elapsed() >= patience);
}

fn a_far_side_that_closes_is_heard_of(setting: Setting) {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    // The far side of this one is no server of ours.
    let relay = Relay::to(Setting { tls: false, ..setting }, far.local_addr().unwrap());
    let near = setting.start(relay, Budget::default());
    let mut stream = setting.connect(near.addresses()[0]);
    let (mut other, _) = far.accept().unwrap();
    other.write_all(b"goodbye").unwrap();
    drop(other);
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "goodbye");
}

fn a_drain_ends_both_sides(setting: Setting) {
    let far = setting.start(Echo::default(), Budget::default());
    // The client does not end before the drain has.
    let budget = Budget::default().linger(Duration::from_millis(200));
    let near = setting.start(Relay::to(setting, far.addresses()[0]), budget);
    let mut stream = setting.connect(near.addresses()[0]);
    echo(&mut stream, b"there and back");
    near.drain(PATIENCE).unwrap();
    assert_eq!(end_of(&mut stream), End::Orderly);
    eventually("the far server has nobody", || far.open() == 0);
}

fn a_stop_while_connecting_waits_for_nothing(setting: Setting) {
    let (far, _full) = deaf();
    let relay = Relay::to(setting, far);
    let last = Arc::clone(&relay.last);
    // An hour: were the stop to wait for the answer, the test would never end.
    let near = setting.start(relay, Budget::default().connect(Duration::from_secs(3600)));
    let _stream = setting.connect(near.addresses()[0]);
    eventually("it is being connected", || near.open() == 2);
    drop(near);
    assert_eq!(fate(&last), "the server stopped");
}

/// The session at a dialer's end: says what it is given, and remembers what it hears.
#[derive(Clone, Default)]
struct Caller {
    say: Arc<Mutex<Vec<u8>>>,
    heard: Arc<Mutex<Vec<u8>>>,
    closed: Arc<Mutex<Option<String>>>,
}

impl Session for Caller {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.heard.lock().unwrap().extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }

    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&mem::take(&mut *self.say.lock().unwrap()));
        Ok(())
    }

    fn closed(self, why: &Closed) {
        *self.closed.lock().unwrap() = Some(why.to_string());
    }
}

impl Caller {
    fn fate(&self) -> String {
        eventually("the call is over", || self.closed.lock().unwrap().is_some());
        self.closed.lock().unwrap().clone().unwrap()
    }
}

#[test]
fn a_dialer_carries_what_other_threads_put_before_it() {
    let server = Server::new(Echo::default()).bind("127.0.0.1:0").start().unwrap();
    let (dialer, caller) = (Dialer::start(Budget::default()).unwrap(), Caller::default());
    let waker = dialer.connect(server.addresses()[0], caller.clone()).unwrap();
    for count in 1..=50 {
        caller.say.lock().unwrap().extend_from_slice(b"word ");
        waker.wake();
        eventually("it is echoed", || caller.heard.lock().unwrap().len() == 5 * count);
    }
    drop(server);
    caller.fate();
    assert!(waker.is_closed());
}

#[test]
fn a_dialer_says_why_a_connection_cannot_be_had() {
    let patience = Duration::from_millis(300);
    let dialer = Dialer::start(Budget::default().connect(patience).connections(1)).unwrap();
    let (refused, unanswered, stopped) = (Caller::default(), Caller::default(), Caller::default());
    dialer.connect(nobody(), refused.clone()).unwrap();
    assert!(refused.fate().contains("refused"));
    let (far, _full) = deaf();
    dialer.connect(far, unanswered.clone()).unwrap();
    assert!(dialer.connect(far, Caller::default()).is_err(), "the budget has room for one");
    assert_eq!(unanswered.fate(), "the peer did not answer the connection in time");
    dialer.connect(far, stopped.clone()).unwrap();
    drop(dialer);
    assert_eq!(stopped.fate(), "the server stopped");
}
