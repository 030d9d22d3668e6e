//! Workers that do the reads and writes themselves, under all that can happen to a connection at once: requests that
//! come while others are worked on, tickets that other threads finish, timers, resets, and a drain in the midst of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    ops::Deref,
    sync::{Arc, Barrier, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Close, Context, Done, Input, JobId, Lost, Model, Peer, Ready, Running, Scope, Server, Service,
    Session, Ticket,
    server::{Io, StartError, Trigger},
};
use rustix::io::{read, retry_on_intr};

/// Answers each byte once, in one of four ways, which the byte says: at once, by a job, by a ticket that another thread
/// finishes, or when a timer fires.
struct Mixed(Mutex<mpsc::Sender<(Ticket<u8>, u8)>>);

struct MixedSession {
    later: mpsc::Sender<(Ticket<u8>, u8)>,
    at_the_timer: Vec<u8>,
}

impl Service for Mixed {
    type Session = MixedSession;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> MixedSession {
        MixedSession { later: self.0.lock().unwrap().clone(), at_the_timer: Vec::new() }
    }
}

impl Session for MixedSession {
    type Reply = u8;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let byte = input.bytes()[0];
        input.consume(1);
        match byte % 4 {
            0 => cx.output().write(&[byte]),
            1 => drop(cx.run(0, move || byte).map_err(|_| Close::abort("busy"))?),
            2 => {
                let ticket = cx.ticket().map_err(|_| Close::abort("busy"))?;
                self.later.send((ticket, byte)).map_err(|_| Close::abort("nobody finishes tickets"))?;
            }
            _ => {
                self.at_the_timer.push(byte);
                cx.wake_at(Some(cx.now() + Duration::from_micros(300)));
            }
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<u8, Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[reply.map_err(|_| Close::abort("lost"))?]);
        Ok(())
    }

    fn ready(&mut self, ready: Ready, cx: &mut Context<'_, Self>) -> Done {
        match ready {
            Ready::Timer => cx.output().write(&std::mem::take(&mut self.at_the_timer)),
            Ready::Draining => cx.finish(),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        if self.at_the_timer.is_empty() {
            cx.finish();
        }
        Ok(())
    }
}

/// A running server that ends with the test, or fails it: what its end waits for may be what is broken.
struct Started(Option<Running>);

impl Started {
    /// Has it end in this way.
    fn end(&mut self, how: impl FnOnce(Running) + Send + 'static) {
        let Some(server) = self.0.take() else { return };
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            how(server);
            ended.send(())
        });
        let ended = end.recv_timeout(Duration::from_secs(60)).is_ok();
        assert!(ended || thread::panicking(), "the server does not end");
    }
}

impl Deref for Started {
    type Target = Running;
    fn deref(&self) -> &Running {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end(drop);
    }
}

/// A server with few workers, and a thread that finishes its tickets.
fn start() -> Started {
    let (later, tickets) = mpsc::channel::<(Ticket<u8>, u8)>();
    thread::spawn(move || tickets.into_iter().for_each(|(ticket, byte)| ticket.finish(byte)));
    Started(Some(server(later).model(Model::Epoll).start().unwrap()))
}

fn server(later: mpsc::Sender<(Ticket<u8>, u8)>) -> Server<Mixed> {
    let budget = Budget::default().jobs(100_000);
    Server::new(Mixed(Mutex::new(later))).bind("127.0.0.1:0").budget(budget).io(Io::Workers).workers(3)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends `rounds` bursts without waiting for answers in between, and reads as many bytes as it has sent.
fn visit(address: SocketAddr, seed: u8, rounds: usize) {
    let stream = connect(address);
    let bytes: Vec<u8> = (0..rounds * 8).map(|at| seed.wrapping_add((at * 7) as u8)).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for burst in bytes.chunks(1 + usize::from(seed % 9)) {
                (&stream).write_all(burst).unwrap();
            }
        });
        let mut answers = vec![0; bytes.len()];
        (&stream).read_exact(&mut answers).unwrap();
        let mut expected = bytes.clone();
        expected.sort_unstable();
        answers.sort_unstable();
        assert!(answers == expected, "each byte is answered once");
    });
    match seed % 3 {
        0 => {}
        1 => {
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!((&stream).read_to_end(&mut Vec::new()).unwrap(), 0);
        }
        _ => reset(&stream),
    }
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Asks for something of each kind and is gone before the answers.
fn leave_early(address: SocketAddr, seed: u8) {
    let mut stream = connect(address);
    stream.write_all(&[seed, seed.wrapping_add(1), seed.wrapping_add(2), seed.wrapping_add(3)]).unwrap();
    if seed.is_multiple_of(2) {
        reset(&stream);
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came to this: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn every_byte_is_answered_once_whoever_answers_and_whoever_leaves() {
    let server = start();
    let address = server.addresses()[0];
    thread::scope(|scope| {
        for client in 0..16u8 {
            scope.spawn(move || {
                for round in 0..12u8 {
                    let seed = client.wrapping_mul(37).wrapping_add(round);
                    visit(address, seed, 40);
                    leave_early(address, seed);
                }
            });
        }
    });
    eventually("all have come and gone", || {
        let (all, stats) = (2 * 16 * 12, server.stats());
        stats.accepted == all && stats.closed == all && server.open() == 0 && server.buffered() == 0
    });
}

#[test]
fn connections_that_move_much_do_not_keep_the_others_from_their_turn() {
    let server = start();
    let address = server.addresses()[0];
    let mut small = connect(address);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let stream = connect(address);
                let body = vec![4; 8 << 20];
                thread::scope(|scope| {
                    scope.spawn(|| (&stream).write_all(&body).unwrap());
                    let mut back = vec![0; body.len()];
                    (&stream).read_exact(&mut back).unwrap();
                    assert!(back == body, "what comes back is what was sent");
                });
            });
        }
        for byte in 0..200u8 {
            let mut back = [!byte];
            small.write_all(&[byte]).unwrap();
            small.read_exact(&mut back).unwrap();
            assert_eq!(back, [byte]);
        }
    });
}

#[test]
fn a_drain_in_the_midst_of_everything_leaves_nobody() {
    for number in 0..20u8 {
        let mut server = start();
        let address = server.addresses()[0];
        thread::scope(|scope| {
            for client in 0..8u8 {
                scope.spawn(move || {
                    let mut stream = connect(address);
                    let mut back = [0; 64];
                    // Sooner or later the server has ended it, in whatever way.
                    for at in (0..=u8::MAX).cycle() {
                        let sent = stream.write_all(&[client, at, at.wrapping_add(1)]);
                        if sent.is_err()
                            || matches!(retry_on_intr(|| read(&stream, &mut back)), Ok(0) | Err(_))
                        {
                            return;
                        }
                    }
                });
            }
            eventually("they are served", || server.open() == 8 && server.stats().bytes_in > 100);
            match number % 2 {
                0 => server.end(|server| {
                    assert_eq!(server.drain(Duration::from_secs(30)).unwrap().accepted, 8);
                }),
                _ => server.end(drop),
            }
        });
    }
}

/// Answers a zero by a job that waits for others at a barrier, and everything else at once.
struct Meeting(Arc<Barrier>);

struct MeetingSession(Arc<Barrier>);

impl Service for Meeting {
    type Session = MeetingSession;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> MeetingSession {
        MeetingSession(Arc::clone(&self.0))
    }
}

impl Session for MeetingSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let byte = input.bytes()[0];
        input.consume(1);
        if byte > 0 {
            cx.output().write(&[byte]);
            return Ok(());
        }
        let barrier = Arc::clone(&self.0);
        let meets = move || {
            barrier.wait();
        };
        cx.run(0, meets).map(drop).map_err(|_| Close::abort("busy"))
    }

    fn reply(&mut self, _: JobId, reply: Result<(), Lost>, cx: &mut Context<'_, Self>) -> Done {
        reply.map_err(|_| Close::abort("lost"))?;
        cx.output().write(&[0]);
        Ok(())
    }
}

fn meet(workers: usize, jobs: usize) -> (Started, TcpStream, Arc<Barrier>) {
    let barrier = Arc::new(Barrier::new(jobs));
    let server = Server::new(Meeting(Arc::clone(&barrier))).bind("127.0.0.1:0").model(Model::Epoll);
    let server = Started(Some(server.io(Io::Workers).workers(workers).start().unwrap()));
    let stream = connect(server.addresses()[0]);
    (server, stream, barrier)
}

#[test]
fn the_jobs_of_one_connection_are_done_by_as_many_workers_as_there_are() {
    // Each waits for three others: four of the eight are done at once, and then the other four.
    let (_server, mut stream, _) = meet(4, 4);
    for _ in 0..8 {
        let mut answers = [1; 8];
        stream.write_all(&[0; 8]).unwrap();
        stream.read_exact(&mut answers).unwrap();
        assert_eq!(answers, [0; 8]);
    }
}

#[test]
fn while_a_job_is_done_its_connection_is_served() {
    let (_server, mut stream, barrier) = meet(2, 2);
    let mut answer = [0];
    stream.write_all(&[0]).unwrap();
    for byte in 1..9 {
        stream.write_all(&[byte]).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [byte]);
    }
    barrier.wait();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0]);
}

#[test]
fn only_epoll_that_tells_once_has_such_workers() {
    let refused = |server: Server<Mixed>| match server.start() {
        Err(error @ StartError::Model { .. }) => error.to_string(),
        other => panic!("it is refused, not {other:?}"),
    };
    let model = refused(server(mpsc::channel().0).model(Model::Poll));
    assert!(model.contains("`poll`") && model.contains("only `epoll`"), "{model}");
    let levels = refused(server(mpsc::channel().0).model(Model::Epoll).trigger(Trigger::Level));
    assert!(levels.contains("told of a connection once"), "{levels}");
}
