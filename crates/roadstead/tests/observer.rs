//! What an observer sees of a server: what each loop counts, jobs on their way, and whether anybody is let in.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Context, Done, Input, JobId, Lost, Model, Observer, Peer, Scope, Server, Service, Session, Ticket,
};

/// Answers each byte when a job has met the test at its barrier, twice.
struct Meets(Arc<Barrier>);

impl Service for Meets {
    type Session = Meets;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Meets {
        Meets(Arc::clone(&self.0))
    }
}

impl Session for Meets {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        for _ in 0..input.len() {
            let barrier = Arc::clone(&self.0);
            let meets = move || {
                barrier.wait();
                barrier.wait();
            };
            cx.run(1, meets).unwrap();
        }
        input.consume(usize::MAX);
        Ok(())
    }

    fn reply(&mut self, _: JobId, _: Result<(), Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(b"!");
        Ok(())
    }
}

#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} never happens");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn jobs_are_seen_to_wait_and_to_run_and_each_loop_and_refusal_is_counted() {
    let barrier = Arc::new(Barrier::new(2));
    let server = Server::new(Meets(Arc::clone(&barrier))).bind("127.0.0.1:0").model(Model::Epoll);
    let server = server.loops(2).workers(1).budget(Budget::default().per_address(1)).start().unwrap();
    let observer = server.observer();
    let mut client = TcpStream::connect(server.addresses()[0]).unwrap();
    client.write_all(b"???").unwrap();
    for left in (0..3).rev() {
        barrier.wait();
        until("all that was asked is queued", || observer.all().waiting == left);
        assert_eq!(observer.all().running, 1);
        barrier.wait();
    }
    client.read_exact(&mut [0; 3]).unwrap();
    until("all jobs are done", || (observer.all().waiting, observer.all().running) == (0, 0));
    let mut second = TcpStream::connect(server.addresses()[0]).unwrap();
    assert!(!matches!(second.read(&mut [0]), Ok(1..)), "one from an address");
    until("the refusal is counted", || observer.all().refused_address == 1);
    let loops = observer.loops();
    assert_eq!(loops.len(), 2);
    assert_eq!(loops.iter().map(|one| one.accepted).sum::<u64>(), 1);
    // One that nobody was handed to is in its first sleep, and has told nothing yet.
    assert!(loops.iter().all(|one| one.waits >= one.sleeps), "{loops:?}");
    assert!(loops.iter().any(|one| one.sleeps > 0), "{loops:?}");
    drop(client);
    server.drain(Duration::from_secs(20)).unwrap();
    let all = observer.all();
    assert_eq!((all.open, all.closed, all.finished), (0, 1, 1), "what was counted is kept");
    // The first of a loop is timed, and it has met the test.
    let times = all.job_times;
    assert!(times.tasks == 1 && times.waited + times.ran > Duration::ZERO, "{times:?}");
}

/// Leaves a ticket to the test for each byte, and answers when it comes back.
#[derive(Clone)]
struct Waits(mpsc::Sender<Ticket<()>>);

impl Service for Waits {
    type Session = Waits;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Waits {
        self.clone()
    }
}

impl Session for Waits {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        (0..input.len()).for_each(|_| self.0.send(cx.ticket().unwrap()).unwrap());
        input.consume(usize::MAX);
        Ok(())
    }

    fn reply(&mut self, _: JobId, _: Result<(), Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(b"!");
        Ok(())
    }
}

#[test]
fn who_waits_for_somebody_else_is_seen_to_be_blocked_on_every_model() {
    for model in Model::ALL.into_iter().filter(|model| !model.forks() && model.obstacle().is_none()) {
        let (sender, tickets) = mpsc::channel();
        let server = Server::new(Waits(sender)).bind("127.0.0.1:0").model(model).start().unwrap();
        let observer = server.observer();
        let mut client = TcpStream::connect(server.addresses()[0]).unwrap();
        client.write_all(b"???").unwrap();
        for left in (0..3).rev() {
            let ticket = tickets.recv_timeout(Duration::from_secs(60)).unwrap();
            until("all have been taken", || observer.all().awaited == 3);
            let all = observer.all();
            assert_eq!((all.blocked, all.waiting, all.running), (left + 1, 0, 0), "{model}");
            ticket.finish(());
            client.read_exact(&mut [0]).unwrap();
            assert_eq!(observer.all().blocked, left, "{model}");
        }
        drop(client);
        server.drain(Duration::from_secs(20)).unwrap();
    }
}

#[test]
fn nobody_is_let_in_once_a_server_drains_has_ceded_its_listeners_or_is_gone() {
    let models = [Model::Epoll, Model::Threads, Model::Emulated];
    let start = |model| {
        let service = Meets(Arc::new(Barrier::new(1)));
        let server = Server::new(service).bind("127.0.0.1:0").model(model).start().unwrap();
        let observer: Observer = server.observer();
        assert!(observer.lets_in(), "{model}");
        (server, observer)
    };
    for model in models {
        let (server, observer) = start(model);
        assert_eq!(server.take_listeners().len(), 1);
        assert!(!observer.lets_in(), "{model}: they are another's");
        drop(server);
        let (server, observer) = start(model);
        server.drain(Duration::from_secs(20)).unwrap();
        assert!(!observer.lets_in(), "{model}: it has drained");
        let (server, observer) = start(model);
        drop(server);
        assert!(!observer.lets_in(), "{model}: it is gone");
    }
}
