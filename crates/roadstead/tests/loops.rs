//! Several loops of one server: who comes is spread over them, stays where it is, and is nobody's loss when the server
//! drains, stops or breaks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Barrier, Mutex, mpsc},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Context, Done, Input, Model, Peer, Ready, Scope, Server, Service, Session, Waker,
    model::Core,
    server::{Io, Running, Spread, StartError},
};

/// The models that have loops and run here.
fn models() -> impl Iterator<Item = Model> {
    Model::ALL.into_iter().filter(|model| model.core() != Core::Blocking && model.obstacle().is_none())
}

/// Echoes, and notes on which thread each of its sessions is called.
#[derive(Clone, Default)]
struct Where(Arc<Mutex<HashMap<SocketAddr, Vec<ThreadId>>>>);

struct Here {
    peer: SocketAddr,
    places: Where,
}

impl Where {
    fn note(&self, peer: SocketAddr) {
        self.0.lock().unwrap().entry(peer).or_default().push(thread::current().id());
    }

    /// How many sessions each thread has had, the fewest first. Fails if one was on two.
    fn counts(&self) -> Vec<usize> {
        let mut counts = HashMap::<_, usize>::new();
        for threads in self.0.lock().unwrap().values() {
            assert!(threads.iter().all(|thread| *thread == threads[0]), "a connection stays on its loop");
            *counts.entry(threads[0]).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    }
}

impl Service for Where {
    type Session = Here;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, peer: &Peer) -> Here {
        self.note(peer.address.socket().unwrap());
        Here { peer: peer.address.socket().unwrap(), places: self.clone() }
    }
}

impl Session for Here {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.places.note(self.peer);
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

fn start<S: Service>(service: S, model: Model, loops: usize) -> Running {
    Server::new(service).model(model).loops(loops).bind("127.0.0.1:0").start().unwrap()
}

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn echo(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn sixty_four_long_connections_over_two_loops_are_thirty_two_and_thirty_two() {
    for (model, loops, expected) in
        models().flat_map(|model| [(model, 2, vec![32, 32]), (model, 3, vec![21, 21, 22])])
    {
        let places = Where::default();
        let server = start(places.clone(), model, loops);
        assert_eq!(server.loops(), loops);
        let streams: Vec<_> = (0..64).map(|_| connect(&server)).collect();
        for round in 0..3 {
            streams.iter().for_each(|stream| echo(stream, format!("round {round}").as_bytes()));
        }
        assert_eq!(places.counts(), expected, "{model}");
        assert_eq!(server.open(), 64, "{model}");
        drop(streams);
        let counted = server.drain(Duration::from_secs(30)).unwrap();
        assert_eq!(
            (counted.accepted, counted.closed, counted.open, counted.buffered),
            (64, 64, 0, 0),
            "{model}"
        );
        assert_eq!((counted.bytes_in, counted.bytes_out), (64 * 3 * 7, 64 * 3 * 7), "{model}");
    }
}

#[test]
fn who_goes_makes_room_on_the_loop_that_had_them() {
    for model in [Model::Epoll, Model::Emulated] {
        let places = Where::default();
        let server = start(places.clone(), model, 2);
        let mut streams: Vec<_> = (0..20).map(|_| connect(&server)).collect();
        streams.iter().for_each(|stream| echo(stream, b"here"));
        let of = |stream: &TcpStream| places.0.lock().unwrap()[&stream.local_addr().unwrap()][0];
        // The loop that listens is the first that has one, and knows by itself how many it has.
        let stays = streams.remove(1);
        let other = of(&stays);
        assert_ne!(of(&streams[0]), other, "{model}");
        streams.retain(|stream| of(stream) != other);
        assert_eq!(streams.len(), 10, "{model}");
        eventually("they are gone", || server.open() == 11);
        // The loop says so at the end of the turn.
        echo(&stays, b"a turn later");
        let more: Vec<_> = (0..9).map(|_| connect(&server)).collect();
        more.iter().for_each(|stream| echo(stream, b"here"));
        let there = more.iter().filter(|stream| of(stream) == other).count();
        assert_eq!(there, 9, "{model}: all come to the loop that had one");
    }
}

#[test]
fn where_the_system_spreads_them_each_loop_has_some_and_each_is_served() {
    for model in models() {
        let places = Where::default();
        let server = Server::new(places.clone()).model(model).loops(2).spread(Spread::Kernel);
        let server = server.bind("127.0.0.1:0").bind("[::1]:0").start().unwrap();
        assert_eq!(server.addresses().len(), 2, "one for each address, however many listen there");
        let streams: Vec<_> =
            (0..64).map(|number| TcpStream::connect(server.addresses()[number % 2]).unwrap()).collect();
        streams.iter().for_each(|stream| echo(stream, b"there"));
        let counts = places.counts();
        assert!(counts.len() == 2 && counts.iter().sum::<usize>() == 64, "{model}: {counts:?}");
        drop(streams);
        server.drain(Duration::from_secs(30)).unwrap();
    }
}

#[test]
fn limits_are_those_of_all_loops_together() {
    for (model, spread) in models().flat_map(|model| Spread::ALL.map(|spread| (model, spread))) {
        let budget = Budget::default().per_address(10).connections(12);
        let server = Server::new(Where::default()).model(model).loops(3).spread(spread).budget(budget);
        let server = server.bind("127.0.0.1:0").start().unwrap();
        let streams: Vec<_> = (0..30).map(|_| connect(&server)).collect();
        let served = |mut stream: &TcpStream| {
            stream.write_all(b"?").is_ok() && matches!(stream.read(&mut [0; 1]), Ok(1))
        };
        let served: Vec<_> = streams.iter().filter(|stream| served(stream)).collect();
        assert_eq!((served.len(), server.open()), (10, 10), "{model}, {spread}");
        eventually("all others are refused", || server.stats().refused == 20);
    }
}

#[test]
fn who_waits_when_a_server_drains_is_served_whichever_loop_they_are_for() {
    for (model, spread) in models().flat_map(|model| Spread::ALL.map(|spread| (model, spread))) {
        let server = Server::new(Where::default()).model(model).loops(3).spread(spread).bind("127.0.0.1:0");
        let server = server.start().unwrap();
        let mut streams: Vec<_> = (0..40).map(|_| connect(&server)).collect();
        for stream in &mut streams {
            stream.write_all(b"last words").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let drained = server.drain(Duration::from_secs(30)).unwrap();
        for stream in &mut streams {
            let mut back = String::new();
            stream.read_to_string(&mut back).unwrap();
            assert_eq!(back, "last words", "{model}, {spread}");
        }
        assert_eq!((drained.accepted, drained.closed, drained.failed), (40, 40, 0), "{model}, {spread}");
    }
}

#[test]
fn a_stop_reaches_all_loops() {
    for model in models() {
        let server = start(Where::default(), model, 3);
        let streams: Vec<_> = (0..9).map(|_| connect(&server)).collect();
        streams.iter().for_each(|stream| echo(stream, b"here"));
        drop(server);
        for mut stream in streams {
            let end = stream.read(&mut [0; 1]).map_err(|error| error.kind());
            assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{model}: {end:?}");
        }
    }
}

/// Its sessions wait for each other, so that they must be on as many threads.
struct Together(Arc<Barrier>);

struct Waiting(Arc<Barrier>);

impl Service for Together {
    type Session = Waiting;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Waiting {
        Waiting(Arc::clone(&self.0))
    }
}

impl Session for Waiting {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.0.wait();
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

#[test]
fn as_many_sessions_are_at_work_at_the_same_time_as_there_are_loops() {
    for model in models() {
        let server = start(Together(Arc::new(Barrier::new(3))), model, 3);
        let mut streams: Vec<_> = (0..3).map(|_| connect(&server)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"!").unwrap());
        for stream in &mut streams {
            stream.read_exact(&mut [0; 1]).unwrap();
        }
    }
}

/// Wakes the session of the connection that came before it, on whichever loop that is.
#[derive(Clone, Default)]
struct Chain(Arc<Mutex<Option<Waker>>>);

struct Link {
    chain: Chain,
}

impl Service for Chain {
    type Session = Link;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Link {
        Link { chain: self.clone() }
    }
}

impl Session for Link {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        let before = self.chain.0.lock().unwrap().replace(cx.waker());
        before.iter().for_each(Waker::wake);
        cx.output().write(b".");
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if matches!(why, Ready::Woken) {
            cx.output().write(b"woken");
            cx.finish();
        }
        Ok(())
    }
}

#[test]
fn a_waker_works_from_another_loop() {
    for model in models() {
        let server = start(Chain::default(), model, 2);
        let mut streams: Vec<_> = (0..20).map(|_| connect(&server)).collect();
        for stream in &mut streams {
            stream.write_all(b"!").unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
        }
        streams.pop();
        for mut stream in streams {
            let mut back = String::new();
            stream.read_to_string(&mut back).unwrap();
            assert_eq!(back, "woken", "{model}");
        }
    }
}

#[test]
fn who_asks_for_loops_where_there_are_none_is_told_why() {
    for (model, io) in [(Model::Threads, Io::Loop), (Model::Pool, Io::Loop), (Model::Epoll, Io::Workers)] {
        let server = Server::new(Where::default()).model(model).io(io).loops(2).bind("127.0.0.1:0");
        assert!(matches!(server.start(), Err(StartError::Model { .. })), "{model}");
        let server = Server::new(Where::default()).model(model).io(io).bind("127.0.0.1:0").start().unwrap();
        assert_eq!(server.loops(), 1, "{model}");
    }
}

#[test]
fn pinned_loops_each_stay_on_a_processor() {
    /// Tells on which processors its thread may run.
    struct Processors(mpsc::Sender<Vec<usize>>);
    impl Service for Processors {
        type Session = Here;
        const SCOPE: Scope = Scope::Process;
        fn open(&self, peer: &Peer) -> Here {
            let set = rustix::thread::sched_getaffinity(None).unwrap();
            let all = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor));
            self.0.send(all.collect()).unwrap();
            Here { peer: peer.address.socket().unwrap(), places: Where::default() }
        }
    }
    let (tell, told) = mpsc::channel();
    let server = Server::new(Processors(tell)).model(Model::Epoll).loops(2).pin(true).bind("127.0.0.1:0");
    let server = server.start().unwrap();
    let streams: Vec<_> = (0..2).map(|_| connect(&server)).collect();
    streams.iter().for_each(|stream| echo(stream, b"here"));
    let mut processors: Vec<_> = told.try_iter().collect();
    assert!(processors.iter().all(|all| all.len() == 1), "{processors:?}");
    processors.sort();
    processors.dedup();
    let there_are = thread::available_parallelism().unwrap().get();
    assert_eq!(processors.len(), there_are.min(2), "{processors:?}");
}
