//! Listening sockets that a server is given, shares with others, and hands over to its successor.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Context, Done, Input, Model, Peer, Ready, Running, Scope, Server, Service, Session,
    server::{Io, NotAListener, Spread, StartError},
};

/// Who is not done then, hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Echoes, and begins with its name.
struct Named(u8);

struct Line(u8);

impl Service for Named {
    type Session = Line;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Line {
        Line(self.0)
    }
}

impl Session for Line {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[self.0]);
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

/// All models that run in this process, and who does their I/O.
fn settings() -> impl Iterator<Item = (Model, Io)> {
    let models = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    models.map(|model| (model, Io::Loop)).chain([(Model::Epoll, Io::Workers)])
}

fn server(name: u8, (model, io): (Model, Io)) -> Server<Named> {
    Server::new(Named(name)).model(model).io(io)
}

/// The name of who serves a connection.
fn ask(stream: &mut TcpStream) -> io::Result<u8> {
    let mut answer = [0; 2];
    stream.set_read_timeout(Some(HANGS))?;
    stream.write_all(b"!")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(answer[1], b'!');
    Ok(answer[0])
}

fn who_serves(address: SocketAddr) -> u8 {
    ask(&mut TcpStream::connect(address).unwrap()).unwrap()
}

/// Somebody who comes to a socket is accepted there.
fn accepts(listener: &TcpListener) {
    let address = listener.local_addr().unwrap();
    let _peer = TcpStream::connect(address).unwrap();
    let begun = Instant::now();
    while let Err(error) = listener.accept() {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(begun.elapsed() < HANGS, "nobody comes");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn whoever_else_has_a_socket_goes_on_accepting_when_a_server_lets_go_of_it() {
    for setting in settings() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for drains in [true, false] {
            let running = server(b'a', setting).listener(listener.try_clone().unwrap()).start().unwrap();
            assert_eq!((running.addresses(), who_serves(address)), (&[address][..], b'a'));
            if drains {
                running.drain(HANGS).unwrap();
            } else {
                drop(running);
            }
            accepts(&listener);
        }
        drop(listener);
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{setting:?} holds on to it");
    }
}

#[test]
fn two_servers_of_one_socket_serve_whoever_comes_also_when_one_of_them_has_gone() {
    for setting in settings() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let start = |name| server(name, setting).listener(listener.try_clone().unwrap()).start().unwrap();
        let (first, second) = (start(b'a'), start(b'b'));
        assert!((0..20).all(|_| [b'a', b'b'].contains(&who_serves(address))));
        second.drain(HANGS).unwrap();
        assert!((0..20).all(|_| who_serves(address) == b'a'), "{setting:?}");
        let third = start(b'c');
        first.drain(HANGS).unwrap();
        assert!((0..20).all(|_| who_serves(address) == b'c'), "{setting:?}");
        assert_eq!(third.stats().refused, 0);
    }
}

/// Clients that connect for every request, until they are told to end.
struct Clients {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    /// Those that had said nothing yet when their server drained, and were ended in good order.
    ended: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Clients {
    fn of(address: SocketAddr) -> Self {
        let over = Arc::<AtomicBool>::default();
        let [asked, ended] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
        let client = |_| {
            let (over, asked, ended) = (Arc::clone(&over), Arc::clone(&asked), Arc::clone(&ended));
            thread::spawn(move || {
                while !over.load(SeqCst) {
                    let mut stream = TcpStream::connect(address).unwrap();
                    match ask(&mut stream) {
                        Err(error) if error.kind() == ErrorKind::UnexpectedEof => &ended,
                        answered => answered.map(|_| &asked).unwrap(),
                    }
                    .fetch_add(1, Relaxed);
                }
            })
        };
        let threads = (0..4).map(client).collect();
        Self { over, asked, ended, threads }
    }

    /// Waits until so many more requests were answered.
    fn ask(&self, more: usize) {
        let (until, begun) = (self.asked.load(Relaxed) + more, Instant::now());
        while self.asked.load(Relaxed) < until {
            assert!(begun.elapsed() < HANGS && !self.threads.iter().any(thread::JoinHandle::is_finished));
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many connections there were.
    fn end(self) -> usize {
        self.over.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.asked.load(Relaxed) + self.ended.load(Relaxed)
    }
}

/// A successor on the sockets of `old`.
fn succeed(old: &Running, name: u8, setting: (Model, Io)) -> Running {
    old.take_listeners().into_iter().fold(server(name, setting), Server::listener).start().unwrap()
}

#[test]
fn a_server_hands_over_to_its_successor_and_nobody_who_comes_meanwhile_is_turned_away() {
    for setting in settings() {
        let mut running = server(0, setting).bind("127.0.0.1:0").start().unwrap();
        let clients = Clients::of(running.addresses()[0]);
        let mut served = 0;
        for name in 1..5 {
            clients.ask(20);
            let successor = succeed(&running, name, setting);
            let drained = running.drain(HANGS).unwrap();
            assert!(drained.accepted > 0 && drained.refused == 0, "{setting:?}: {drained:?}");
            served += drained.accepted;
            running = successor;
        }
        clients.ask(20);
        let asked = clients.end();
        let drained = running.drain(HANGS).unwrap();
        assert_eq!(served + drained.accepted, asked as u64, "{setting:?}");
    }
}

#[test]
fn a_server_of_which_every_loop_listens_hands_over_all_of_its_sockets() {
    for model in [Model::Epoll, Model::Emulated] {
        let server = |name| server(name, (model, Io::Loop)).loops(2).spread(Spread::Kernel);
        let old = server(1).bind("127.0.0.1:0").start().unwrap();
        let clients = Clients::of(old.addresses()[0]);
        clients.ask(20);
        let sockets = old.take_listeners();
        assert_eq!(sockets.len(), 2);
        let new = sockets.into_iter().fold(server(2), Server::listener).start().unwrap();
        clients.ask(20);
        let before = old.drain(HANGS).unwrap();
        clients.ask(20);
        let asked = clients.end();
        assert_eq!(new.take_listeners().len(), 2, "two loops have each of them, which stay two");
        let after = new.drain(HANGS).unwrap();
        assert_eq!(before.accepted + after.accepted, asked as u64, "{model}");
    }
}

#[test]
fn who_is_in_stays_and_who_waits_is_the_successors() {
    for setting in settings() {
        let old = server(b'a', setting).bind("127.0.0.1:0").start().unwrap();
        let address = old.addresses()[0];
        let mut stays = TcpStream::connect(address).unwrap();
        assert_eq!(ask(&mut stays).unwrap(), b'a');
        let taken = old.take_listeners();
        // Who comes before the loop has heard of it may be served by either.
        let begun = Instant::now();
        let mut waiting = loop {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            stream.write_all(b"!").unwrap();
            if setting.0 == Model::Iterative || stream.read_exact(&mut [0; 2]).is_err() {
                break stream;
            }
            assert!(begun.elapsed() < HANGS, "{setting:?} goes on accepting");
        };
        assert!(old.take_listeners().is_empty() && old.ended().is_none());
        let new = taken.into_iter().fold(server(b'b', setting), Server::listener).start().unwrap();
        assert_eq!(new.addresses(), [address]);
        waiting.set_read_timeout(Some(HANGS)).unwrap();
        let mut answer = [0; 2];
        waiting.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"b!", "{setting:?}");
        drop(waiting);
        assert_eq!((ask(&mut stays).unwrap(), who_serves(address)), (b'a', b'b'), "{setting:?}");
        drop(stays);
        old.drain(HANGS).unwrap();
        assert_eq!(who_serves(address), b'b');
        new.drain(HANGS).unwrap();
        assert!(TcpStream::connect(address).is_err(), "{setting:?}: nobody has it any more");
    }
}

/// Is busy for as long as the other side of the channel lives, and says when it has begun.
struct Busy(Arc<(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>)>);

impl Service for Busy {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Session for Busy {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.0.0.send(()).unwrap();
        let _ = self.0.1.lock().unwrap().recv();
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

#[test]
fn who_waits_is_the_successors_also_if_a_busy_server_is_ended_before_it_has_heard_of_it() {
    // Where whoever accepts is busy itself: elsewhere it may accept until it has heard.
    let busy = |&(model, io): &(Model, Io)| io == Io::Loop && ![Model::Threads, Model::Pool].contains(&model);
    let settings = settings().filter(busy);
    for (setting, drains) in settings.flat_map(|setting| [true, false].map(|drains| (setting, drains))) {
        let (tell, begun) = mpsc::channel();
        let (busy, free) = mpsc::channel();
        let old = Server::new(Busy(Arc::new((tell, Mutex::new(free))))).loops(1);
        let old = old.model(setting.0).io(setting.1).bind("127.0.0.1:0").start().unwrap();
        let address = old.addresses()[0];
        let mut first = TcpStream::connect(address).unwrap();
        first.write_all(b"!").unwrap();
        begun.recv().unwrap();
        let taken = old.take_listeners();
        let mut waits = TcpStream::connect(address).unwrap();
        let ends = thread::spawn(move || if drains { drop(old.drain(HANGS)) } else { drop(old) });
        thread::sleep(Duration::from_millis(50));
        drop(busy);
        ends.join().unwrap();
        let _new = taken.into_iter().fold(server(b'b', setting), Server::listener).start().unwrap();
        assert_eq!(ask(&mut waits).unwrap(), b'b', "{setting:?}, {drains}");
    }
}

/// Goes on after it was told of a drain.
struct Stays;

impl Service for Stays {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Self {
        Self
    }
}

impl Session for Stays {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(b"s");
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
    fn ready(&mut self, _: Ready, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[test]
fn whoever_comes_is_refused_while_a_server_that_drains_waits_for_others() {
    for (model, io) in settings() {
        let server = Server::new(Stays).model(model).io(io).bind("127.0.0.1:0").start().unwrap();
        let address = server.addresses()[0];
        let mut stays = TcpStream::connect(address).unwrap();
        ask(&mut stays).unwrap();
        let drains = thread::spawn(move || server.drain(HANGS));
        let begun = Instant::now();
        let refused = loop {
            match TcpStream::connect(address) {
                Ok(_) => thread::sleep(Duration::from_millis(1)),
                Err(error) => break error,
            }
            assert!(begun.elapsed() < HANGS, "whoever comes waits for nothing on {model}");
        };
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{model}");
        ask(&mut stays).unwrap();
        drop(stays);
        drains.join().unwrap().unwrap();
    }
}

#[test]
fn a_server_without_anybody_left_lives_on_until_it_is_drained() {
    for setting in settings() {
        let old = server(b'a', setting).bind("127.0.0.1:0").start().unwrap();
        assert_eq!(who_serves(old.addresses()[0]), b'a');
        drop(old.take_listeners());
        thread::sleep(Duration::from_millis(100));
        assert!(old.ended().is_none(), "{setting:?}");
        assert_eq!(old.drain(HANGS).unwrap().accepted, 1);
    }
}

#[test]
fn what_is_no_listening_socket_is_refused_in_a_line_and_nothing_listens() {
    let bound = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = bound.local_addr().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    type Expected = fn(&NotAListener) -> bool;
    let unfit: [(OwnedFd, Expected); 3] = [
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), |why| matches!(why, NotAListener::NoStream)),
        (stream.into(), |why| matches!(why, NotAListener::Deaf)),
        (std::fs::File::open("/dev/null").unwrap().into(), |why| matches!(why, NotAListener::NoSocket)),
    ];
    for (socket, expected) in unfit {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = Server::new(Named(0)).bind(free).listener(socket);
        assert!(format!("{server:?}").contains(", descriptor "));
        let error = server.start().unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("the socket that was given to listen on (descriptor "), "{said}");
        assert!(!said.contains('\n'), "{said}");
        assert!(matches!(error, StartError::Listener { why, .. } if expected(&why)));
        assert!(TcpStream::connect(free).is_err());
    }
}
