//! What a session has submitted is done to its end although the connection is gone: others may wait for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Context, Done, Input, Job, Model, Peer, Scope, Server, Service, Session, Step, model::Core, server::Io,
};

/// Submits a job for every byte, and says that it has.
#[derive(Clone, Default)]
struct Submit {
    done: Arc<AtomicUsize>,
}

/// So many slices, and then it is counted as done.
struct Slices {
    left: u32,
    done: Arc<AtomicUsize>,
}

impl Job for Slices {
    type Reply = ();

    fn run(&mut self, _: Duration) -> Step<()> {
        if self.left > 0 {
            self.left -= 1;
            thread::sleep(Duration::from_millis(1));
            return Step::More;
        }
        self.done.fetch_add(1, SeqCst);
        Step::Done(())
    }
}

impl Service for Submit {
    type Session = Submit;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Submit {
        self.clone()
    }
}

impl Session for Submit {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let count = input.bytes().len();
        for _ in 0..count {
            cx.submit(0, Slices { left: 40, done: Arc::clone(&self.done) });
        }
        cx.output().write(input.bytes());
        input.consume(count);
        Ok(())
    }
}

#[test]
fn what_was_submitted_is_done_although_its_connection_is_gone() {
    let here = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    let loops = here.flat_map(|model| [(model, Io::Loop, 0), (model, Io::Loop, 2)]);
    for (model, io, workers) in loops.chain([(Model::Epoll, Io::Workers, 2)]) {
        let service = Submit::default();
        let server = Server::new(service.clone()).bind("127.0.0.1:0").model(model).io(io).workers(workers);
        let server = server.start().unwrap();
        let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"abc").unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let begun = Instant::now();
        while service.done.load(SeqCst) < 3 {
            let name = model.name();
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{name}, {io:?}, {workers} workers: a job is lost"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Says how many jobs are run at once, for every byte.
struct Counts;

impl Service for Counts {
    type Session = Counts;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Counts {
        Counts
    }
}

impl Session for Counts {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let workers = u8::try_from(cx.workers()).unwrap();
        cx.output().write(&[workers]);
        input.consume(1);
        Ok(())
    }
}

#[test]
fn a_session_knows_how_many_of_its_jobs_are_run_at_once() {
    for model in [Model::Threads, Model::Epoll, Model::Emulated] {
        for (workers, known) in [(0, 1), (1, 1), (3, 3)] {
            let server = Server::new(Counts).bind("127.0.0.1:0").model(model).workers(workers);
            let server = server.start().unwrap();
            let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(b"?").unwrap();
            let mut told = [0];
            stream.read_exact(&mut told).unwrap();
            assert_eq!(told, [known], "{}, {workers} workers", model.name());
        }
    }
}

#[test]
fn a_loop_that_has_drained_does_what_was_submitted_on_it_before_it_ends() {
    let here = Model::ALL.into_iter().filter(|model| model.obstacle().is_none());
    for model in here.filter(|model| model.core() != Core::Blocking) {
        let service = Submit::default();
        let server = Server::new(service.clone()).bind("127.0.0.1:0").model(model).loops(2).start().unwrap();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(b"ab").unwrap();
            stream.read_exact(&mut [0; 2]).unwrap();
        }
        server.drain(Duration::from_secs(30)).unwrap();
        assert_eq!(service.done.load(SeqCst), 4, "{model}");
    }
}
