//! Thousands of connections come and go, and a thousand at once: no descriptor, thread or charge stays behind.
//!
//! Alone in its process, because it counts what the process has. One test, so that nothing runs beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Close, Context, Done, Input, Model, Peer, Running, Server, Service, Session, server::Io,
};

struct Echo;
struct EchoSession;

impl Service for Echo {
    type Session = EchoSession;
    fn open(&self, _: &Peer) -> EchoSession {
        EchoSession
    }
}

impl Session for EchoSession {
    type Reply = u8;

    /// Echoes; a waker and a job in between, so that every part of the engine is used.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        drop(cx.waker());
        let byte = input.bytes()[0];
        input.consume(1);
        cx.run(0, move || byte).map_err(|_| Close::abort("busy"))?;
        Ok(())
    }

    fn reply(
        &mut self,
        _: roadstead::JobId,
        reply: Result<u8, roadstead::Lost>,
        cx: &mut Context<'_, Self>,
    ) -> Done {
        cx.output().write(&[reply.map_err(|_| Close::abort("lost"))?]);
        Ok(())
    }
}

/// Descriptors and threads of this process.
fn held() -> (usize, usize) {
    let count = |path| fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never came to this: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn start(model: Model, workers: usize, io: Io) -> Running {
    let budget = Budget::default().jobs(1000);
    let server = Server::new(Echo).bind("127.0.0.1:0").model(model).workers(workers).io(io);
    server.budget(budget).start().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// One connection that ends in one of five ways.
fn visit(address: SocketAddr, way: usize) {
    let mut stream = connect(address);
    let mut byte = [way as u8];
    if way != 0 {
        stream.write_all(&byte).unwrap();
    }
    match way {
        0 => {}
        1 => stream.read_exact(&mut byte).unwrap(),
        2 => {
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 1);
        }
        3 => {}
        _ => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
    }
}

fn come_and_go(model: Model, workers: usize, io: Io) {
    let server = start(model, workers, io);
    let address = server.addresses()[0];
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || (0..500).for_each(|number| visit(address, number % 5)));
        }
    });
    eventually("all have come and gone", || {
        let counted = server.stats();
        counted.accepted == 2000 && counted.closed == 2000 && server.open() == 0 && server.buffered() == 0
    });
}

fn a_thousand_at_once(model: Model, workers: usize, io: Io) {
    let server = start(model, workers, io);
    let mut streams = (0..1000).map(|_| connect(server.addresses()[0])).collect::<Vec<_>>();
    for round in 0..3u8 {
        streams.iter_mut().for_each(|stream| stream.write_all(&[round]).unwrap());
        for stream in &mut streams {
            let mut byte = [!round];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    }
    assert_eq!(server.open(), 1000);
    drop(streams);
    eventually("all have gone", || server.open() == 0 && server.buffered() == 0);
}

#[test]
fn nothing_stays_behind() {
    let settings = [
        (Model::Threads, 0, Io::Loop),
        (Model::Threads, 2, Io::Loop),
        (Model::Epoll, 0, Io::Loop),
        (Model::Epoll, 2, Io::Loop),
        (Model::Epoll, 2, Io::Workers),
    ];
    for (model, workers, io) in settings {
        let before = held();
        come_and_go(model, workers, io);
        a_thousand_at_once(model, workers, io);
        eventually("descriptors and threads are as before", || held() == before);
    }
    let before = held();
    Server::new(Echo).bind("127.0.0.1:0").bind("192.0.2.1:1").workers(2).start().unwrap_err();
    eventually("a failed start leaves nothing", || held() == before);
}
