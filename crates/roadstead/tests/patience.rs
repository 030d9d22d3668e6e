//! A drain ends when its patience does, whatever runs then; what is left behind ends by itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Close, Context, Done, Input, Job, Model, Peer, Ready, Running, Scope, Server, Service, Session,
    Step,
    server::Snapshot,
    server::{DrainError, Io, Undrained},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Does one job, which says that it has begun and ends when the test lets it.
#[derive(Clone)]
struct Slow {
    begun: Sender<()>,
    may_end: Arc<Mutex<Receiver<()>>>,
}

impl Job for Slow {
    type Reply = ();
    fn run(&mut self, _: Duration) -> Step<()> {
        self.begun.send(()).unwrap();
        // The test is over.
        let _ = self.may_end.lock().unwrap().recv();
        Step::Done(())
    }
}

impl Service for Slow {
    type Session = Slow;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Slow {
        self.clone()
    }
}

impl Session for Slow {
    type Reply = ();
    /// A job whose reply is waited for, or one that is nobody's.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        match input.bytes()[0] {
            b'd' => _ = cx.defer(0, self.clone()).map_err(|_| Close::abort("no room for a job"))?,
            _ => cx.submit(0, self.clone()),
        }
        input.consume(usize::MAX);
        Ok(())
    }
}

fn settings() -> Vec<(Model, Io, usize)> {
    let here = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    let loops = here.flat_map(|model| [(model, Io::Loop, 0), (model, Io::Loop, 2)]);
    loops.chain([(Model::Epoll, Io::Workers, 2)]).collect()
}

/// A server at its job, the client that has asked for it, and what lets it end.
fn at_work(
    setting: (Model, Io, usize),
    job: &[u8],
) -> (Running, TcpStream, Sender<()>, Arc<Mutex<Receiver<()>>>) {
    let (begun, has_begun) = mpsc::channel();
    let (let_end, may_end) = mpsc::channel();
    let may_end = Arc::new(Mutex::new(may_end));
    let (model, io, workers) = setting;
    let server = Server::new(Slow { begun, may_end: Arc::clone(&may_end) }).bind("127.0.0.1:0");
    // The clients do not answer the server's end with theirs.
    let budget = Budget::default().linger(Duration::from_millis(50));
    let server = server.model(model).io(io).workers(workers).budget(budget).start().unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(job).unwrap();
    has_begun.recv_timeout(PATIENCE).unwrap();
    (server, stream, let_end, may_end)
}

/// What a drain comes to, which must not depend on who waits for it.
fn drained(server: Running, patience: Duration) -> Result<Snapshot, DrainError> {
    let (sender, drained) = mpsc::channel();
    thread::spawn(move || sender.send(server.drain(patience)).is_ok());
    drained.recv_timeout(PATIENCE).expect("the drain does not end")
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_drain_does_not_wait_for_a_job_that_takes_longer_and_the_job_ends_by_itself() {
    for setting in settings() {
        let (server, mut stream, let_end, service) = at_work(setting, b"d");
        match drained(server, Duration::from_millis(10)) {
            Err(DrainError::Undrained(left)) => {
                let Undrained { connections, working, counts, .. } = left;
                assert_eq!((connections, working, counts.accepted), (1, true, 1), "{setting:?}");
            }
            other => panic!("{setting:?}: {other:?}"),
        }
        drop(let_end);
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "{setting:?}: it is closed");
        eventually("what was left behind lets go of the service", || Arc::strong_count(&service) == 1);
    }
}

#[test]
fn a_job_without_a_connection_is_left_behind_as_well() {
    for setting in settings() {
        let (server, stream, let_end, service) = at_work(setting, b"s");
        drop(stream);
        match drained(server, Duration::from_millis(10)) {
            Err(DrainError::Undrained(left)) => assert!(left.working, "{setting:?}"),
            other => panic!("{setting:?}: {other:?}"),
        }
        drop(let_end);
        eventually("what was left behind lets go of the service", || Arc::strong_count(&service) == 1);
    }
}

#[test]
fn a_drain_waits_for_a_job_that_ends_in_time() {
    for setting in settings() {
        let (server, _stream, let_end, _) = at_work(setting, b"d");
        let drain = thread::spawn(move || server.drain(PATIENCE));
        thread::sleep(Duration::from_millis(10));
        drop(let_end);
        let drained = drain.join().unwrap();
        assert!(drained.is_ok(), "{setting:?}: {drained:?}");
    }
}

/// Hears nothing of a drain.
struct Deaf;

impl Service for Deaf {
    type Session = Deaf;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Deaf {
        Deaf
    }
}

impl Session for Deaf {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        Ok(())
    }
    fn ready(&mut self, _: Ready, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

#[test]
fn who_is_let_in_only_to_be_reset_has_not_been_drained() {
    for (model, io, workers) in settings() {
        // Whether a client is open, in the backlog or further out when the patience is over is different each time.
        for round in 0..20 {
            let server =
                Server::new(Deaf).bind("127.0.0.1:0").model(model).io(io).workers(workers).start().unwrap();
            let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
            stream.write_all(b"half of a question").unwrap();
            match drained(server, Duration::ZERO) {
                Ok(counts) => assert_eq!(counts.stopped, 0, "{model} {io:?}, round {round}: {counts:?}"),
                Err(DrainError::Undrained(left)) => {
                    let at_it = left.connections == 1 || left.working;
                    assert!(at_it, "{model} {io:?}, round {round}: {left:?}")
                }
                Err(other) => panic!("{model} {io:?}, round {round}: {other}"),
            }
        }
    }
}

/// Says that it has been opened, and goes on when the test lets it; then echoes.
#[derive(Clone)]
struct Opening {
    opened: Sender<()>,
    may_go_on: Arc<Mutex<Receiver<()>>>,
}

impl Service for Opening {
    type Session = Opening;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Opening {
        self.clone()
    }
}

impl Session for Opening {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened => {
                self.opened.send(()).unwrap();
                // The test is over.
                let _ = self.may_go_on.lock().unwrap().recv();
            }
            Ready::Draining => cx.finish(),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn who_has_asked_is_answered_by_a_drain_that_comes_while_its_session_opens() {
    for (model, io, workers) in settings() {
        let (opened, has_opened) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let service = Opening { opened, may_go_on: Arc::new(Mutex::new(may_go_on)) };
        let server =
            Server::new(service).bind("127.0.0.1:0").model(model).io(io).workers(workers).start().unwrap();
        let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"asked").unwrap();
        has_opened.recv_timeout(PATIENCE).unwrap();
        let drain = thread::spawn(move || server.drain(PATIENCE));
        // Time for the order, which nothing outside shows while a loop stands still.
        thread::sleep(Duration::from_millis(20));
        drop(go_on);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"asked", "{model} {io:?}");
        drop(stream);
        assert!(drain.join().unwrap().is_ok(), "{model} {io:?}");
    }
}

#[test]
fn many_listeners_end_no_later_than_one() {
    for model in [Model::Iterative, Model::Threads, Model::Pool] {
        let mut server =
            Server::new(Slow { begun: mpsc::channel().0, may_end: Arc::new(Mutex::new(mpsc::channel().1)) });
        // 50 ms for each would be more than the patience.
        for _ in 0..300 {
            server = server.bind("127.0.0.1:0");
        }
        let server = server.model(model).start().unwrap();
        drop(TcpStream::connect(server.addresses()[0]).unwrap());
        eventually("somebody has come and gone", || server.stats().closed == 1);
        // Whoever accepts waits for the next by now.
        thread::sleep(Duration::from_millis(50));
        let drained = server.drain(Duration::from_secs(10));
        assert!(drained.is_ok(), "{model}: {drained:?}");
    }
}
