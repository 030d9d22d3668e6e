//! State that the connections of several loops share: a loop that stands still in the midst of an operation keeps no
//! other from its connections, and what these ask for meanwhile is done by the one that stands, when it goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, VecDeque},
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Actor, Asked, AtEnd, Close, Context, DatagramContext, DatagramService, DatagramSession, Done, Input,
    JobId, Lost, Model, Peer, Scope, Server, Service, Session,
    datagrams::{Arrivals, Path},
};

/// Bytes of an answer.
const ANSWER: usize = 32;
/// So long, and nobody comes any more.
const TOO_LONG: Duration = Duration::from_secs(60);

/// What a byte asks for: the name of its thread; an operation that stands still until it is released; one that does not.
const THREAD: u8 = b't';
const STAND: u8 = b's';
const ADD: u8 = b'a';

type Stand = Arc<Mutex<(Sender<()>, Receiver<()>)>>;

struct Sums {
    sum: Actor<u64>,
    stand: Stand,
}

struct Sum {
    sum: Actor<u64>,
    stand: Stand,
}

impl Service for Sums {
    type Session = Sum;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Sum {
        Sum { sum: self.sum.clone(), stand: Arc::clone(&self.stand) }
    }
}

impl Sum {
    fn say(text: &str, cx: &mut Context<'_, Self>) {
        cx.output().write(format!("{text:ANSWER$}").as_bytes());
    }

    fn ask(
        &self,
        operation: impl FnOnce(&mut u64) -> String + Send + 'static,
        cx: &mut Context<'_, Self>,
    ) -> Done {
        match self.sum.ask(cx, 0, operation) {
            Ok(Asked::Done(said)) => Self::say(&said.unwrap(), cx),
            Ok(Asked::Later(_)) => Self::say("later", cx),
            Err(busy) => return Err(Close::abort(busy.to_string())),
        }
        Ok(())
    }
}

/// Who does an operation, and what the sum was.
fn add(sum: &mut u64) -> String {
    *sum += 1;
    format!("{sum} {:?}", thread::current().id())
}

impl Session for Sum {
    type Reply = String;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let asked = input.bytes()[0];
        input.consume(1);
        match asked {
            THREAD => Self::say(&format!("{:?}", thread::current().id()), cx),
            ADD => self.ask(add, cx)?,
            _ => {
                let stand = Arc::clone(&self.stand);
                let operation = move |sum: &mut u64| {
                    let stand = stand.lock().unwrap();
                    stand.0.send(()).unwrap();
                    stand.1.recv_timeout(TOO_LONG).unwrap();
                    add(sum)
                };
                self.ask(operation, cx)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, said: Result<String, Lost>, cx: &mut Context<'_, Self>) -> Done {
        Self::say(&said.unwrap(), cx);
        Ok(())
    }
}

fn answered(stream: &mut TcpStream) -> String {
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer.to_vec()).unwrap().trim_end().to_owned()
}

fn ask(stream: &mut TcpStream, what: u8) -> String {
    stream.write_all(&[what]).unwrap();
    answered(stream)
}

#[test]
fn a_loop_that_stands_still_in_an_operation_keeps_no_other_from_its_connections() {
    for model in [Model::Epoll, Model::Emulated] {
        let ((begin, begun), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let service = Sums { sum: Actor::default(), stand: Arc::new(Mutex::new((begin, goes_on))) };
        let server = Server::new(service).model(model).loops(2).bind("127.0.0.1:0").start().unwrap();
        let address = server.addresses()[0];
        let mut streams: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        streams.iter().for_each(|stream| stream.set_read_timeout(Some(TOO_LONG)).unwrap());
        let mut stands = streams.remove(0);
        let its = ask(&mut stands, THREAD);
        let theirs: Vec<_> = streams.iter_mut().map(|stream| ask(stream, THREAD)).collect();
        stands.write_all(&[STAND]).unwrap();
        begun.recv_timeout(TOO_LONG).unwrap();
        let mut others: Vec<_> =
            streams.into_iter().zip(theirs).filter(|(_, thread)| *thread != its).collect();
        assert_eq!(others.len(), 2, "{model}: one is on the loop that stands");
        for (stream, thread) in &mut others {
            // The loop goes on, and so does the session itself.
            assert_eq!(ask(stream, ADD), "later", "{model}");
            assert_eq!(ask(stream, THREAD), *thread, "{model}");
        }
        go_on.send(()).unwrap();
        assert_eq!(answered(&mut stands), format!("1 {its}"), "{model}");
        for (number, (stream, thread)) in (2..).zip(&mut others) {
            assert_eq!(answered(stream), format!("{number} {its}"), "{model}: done by the one that stood");
            assert_eq!(ask(stream, THREAD), *thread, "{model}");
        }
        drop((stands, others));
        server.drain(TOO_LONG).unwrap();
    }
}

/// Who is here, each by a number.
type Room = BTreeSet<u64>;

#[derive(Default)]
struct Rooms {
    room: Actor<Room>,
    came: AtomicU64,
}

/// Comes in with its first byte, and answers each with how many are here; `x` panics.
struct Guest {
    room: Actor<Room>,
    number: u64,
    leaves: Option<AtEnd<Room>>,
}

impl Service for Rooms {
    type Session = Guest;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Guest {
        Guest { room: self.room.clone(), number: self.came.fetch_add(1, Relaxed), leaves: None }
    }
}

impl Guest {
    fn say(here: usize, cx: &mut Context<'_, Self>) {
        cx.output().write(format!("{here:<ANSWER$}").as_bytes());
    }
}

impl Session for Guest {
    type Reply = usize;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        assert!(input.bytes()[0] != b'x', "a session that is meant to panic");
        let Self { room, number, leaves } = self;
        let number = *number;
        // Before it comes in: it may close before it hears that it has.
        leaves.get_or_insert_with(|| room.at_end(move |room| _ = room.remove(&number)));
        let come = move |room: &mut Room| {
            room.insert(number);
            room.len()
        };
        match room.ask(cx, 0, come) {
            Ok(Asked::Done(here)) => Self::say(here.unwrap(), cx),
            Ok(Asked::Later(_)) => {}
            Err(_) => {
                cx.wake_at(Some(cx.now() + Duration::from_millis(1)));
                return Ok(());
            }
        }
        input.consume(1);
        Ok(())
    }

    fn reply(&mut self, _: JobId, here: Result<usize, Lost>, cx: &mut Context<'_, Self>) -> Done {
        Self::say(here.unwrap(), cx);
        Ok(())
    }
}

#[test]
fn who_leaves_is_forgotten_at_once_however_many_loops_and_others_there_are() {
    for model in [Model::Epoll, Model::Emulated] {
        let service = Rooms::default();
        let server = Server::new(service).model(model).loops(3).bind("127.0.0.1:0").start().unwrap();
        let address = server.addresses()[0];
        let come = move || {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(TOO_LONG)).unwrap();
            stream
        };
        let mut stays = come();
        ask(&mut stays, b'?');
        let crowd = |_| {
            thread::spawn(move || {
                for round in 0..50 {
                    let mut stream = come();
                    ask(&mut stream, b'?');
                    match round % 3 {
                        0 => stream.write_all(b"x").unwrap(),
                        1 => drop(stream),
                        _ => _ = ask(&mut stream, b'?'),
                    }
                }
            })
        };
        (0..6).map(crowd).collect::<Vec<_>>().into_iter().for_each(|guest| guest.join().unwrap());
        let until = Instant::now() + TOO_LONG;
        while ask(&mut stays, b'?') != "1" {
            assert!(Instant::now() < until, "{model}: somebody who has left is here");
            thread::sleep(Duration::from_millis(1));
        }
        drop(stays);
        server.drain(TOO_LONG).unwrap();
    }
}

/// Adds to the sum for each datagram, and answers what it came to; at once that this will be later, if it is.
struct Tally {
    sum: Actor<u64>,
    waits: VecDeque<Path>,
}

impl DatagramService for Tally {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: SocketAddr) -> Self {
        Self { sum: self.sum.clone(), waits: VecDeque::new() }
    }
}

impl DatagramSession for Tally {
    type Reply = String;
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch {
            match self.sum.ask(cx, 0, add) {
                Ok(Asked::Done(said)) => cx.send(&mut datagram.path, said.unwrap().as_bytes()).unwrap(),
                Ok(Asked::Later(_)) => {
                    cx.send(&mut datagram.path, b"later").unwrap();
                    self.waits.push_back(datagram.path);
                }
                Err(busy) => panic!("{busy}"),
            }
        }
    }

    fn reply(&mut self, _: JobId, said: Result<String, Lost>, cx: &mut DatagramContext<'_, Self>) {
        let mut path = self.waits.pop_front().unwrap();
        cx.send(&mut path, said.unwrap().as_bytes()).unwrap();
    }
}

#[test]
fn a_session_of_datagrams_asks_as_others_do_and_goes_on_while_a_connection_has_the_actor() {
    for model in [Model::Epoll, Model::Threads, Model::Emulated] {
        let ((begin, begun), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
        let service = Sums { sum: Actor::default(), stand: Arc::new(Mutex::new((begin, goes_on))) };
        let tally = Tally { sum: service.sum.clone(), waits: VecDeque::new() };
        let server = Server::new(service).model(model).bind("127.0.0.1:0");
        let server = server.bind_datagrams("127.0.0.1:0", tally).start().unwrap();
        let mut stands = TcpStream::connect(server.addresses()[0]).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.datagram_addresses()[0]).unwrap();
        client.set_read_timeout(Some(TOO_LONG)).unwrap();
        let hear = || {
            let mut answer = [0; ANSWER];
            let length = client.recv(&mut answer).unwrap();
            String::from_utf8(answer[..length].to_vec()).unwrap()
        };
        client.send(b"!").unwrap();
        assert!(hear().starts_with("1 "), "{model}");
        stands.write_all(&[STAND]).unwrap();
        begun.recv_timeout(TOO_LONG).unwrap();
        for _ in 0..2 {
            client.send(b"!").unwrap();
            assert_eq!(hear(), "later", "{model}");
        }
        go_on.send(()).unwrap();
        let stood = answered(&mut stands);
        let its = stood.strip_prefix("2 ").unwrap();
        assert_eq!([hear(), hear()], [format!("3 {its}"), format!("4 {its}")], "{model}: done by who stood");
        drop(stands);
        server.drain(TOO_LONG).unwrap();
    }
}
