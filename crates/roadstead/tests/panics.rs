//! Whatever of a service's panics, be it only when it is dropped, costs its own connection or job and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    error::Error,
    fmt,
    io::{self, Read, Write},
    mem,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{self, Sender},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use roadstead::{
    Blob, Budget, Close, Closed, Context, Done, Identity, Input, Job, JobId, Layer, Layers, Lost, Model,
    Peer, Scope, Server, Service, Session, Step, server::Io,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop of the test that is meant to panic");
    }
}

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &[b'o'; 1000]
    }
}

impl Blob for Bomb {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        panic!("a file of the test that is meant to panic")
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a text of the test that is meant to panic")
    }
}

impl Error for Bomb {}

/// Everything that it makes is a bomb too.
struct Mine {
    far: SocketAddr,
    ends: Mutex<Sender<String>>,
    _bomb: Bomb,
}

struct MineSession {
    far: SocketAddr,
    ends: Sender<String>,
    _bomb: Bomb,
}

impl Service for Mine {
    type Session = MineSession;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> MineSession {
        MineSession { far: self.far, ends: self.ends.lock().unwrap().clone(), _bomb: Bomb }
    }
}

/// Replies with its letter, at once or in its second slice.
struct Work {
    letter: u8,
    slices: u8,
    _bomb: Bomb,
}

impl Job for Work {
    type Reply = (u8, Bomb);
    fn run(&mut self, _: Duration) -> Step<(u8, Bomb)> {
        if let Some(left) = self.slices.checked_sub(1) {
            self.slices = left;
            return Step::More;
        }
        Step::Done((self.letter, Bomb))
    }
}

struct Alone(Work);

impl Job for Alone {
    type Reply = ();
    fn run(&mut self, slice: Duration) -> Step<()> {
        match self.0.run(slice) {
            Step::Done(reply) => {
                mem::forget(reply);
                Step::Done(())
            }
            Step::More => Step::More,
        }
    }
}

impl Session for MineSession {
    type Reply = (u8, Bomb);

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let letter = input.bytes()[0];
        input.consume(1);
        let work = Work { letter, slices: u8::from(letter == b's'), _bomb: Bomb };
        match letter {
            b'j' | b's' => _ = cx.defer(0, work).map_err(|_| Close::abort("no room for a job"))?,
            b'a' => {
                cx.submit(0, Alone(work));
                cx.output().write(b"a");
            }
            b'o' => {
                mem::forget(work);
                cx.output().send(Bytes::from_owner(Bomb));
            }
            b'f' => {
                mem::forget(work);
                cx.output().file(Arc::new(Bomb), 0, 1);
            }
            _ => {
                mem::forget(work);
                let far = Far(self.ends.clone(), Bomb);
                cx.connect_through(self.far, &Panicking, far).map_err(|_| Close::abort("no room"))?;
                cx.output().write(b"c");
            }
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<(u8, Bomb), Lost>, cx: &mut Context<'_, Self>) -> Done {
        let (letter, bomb) = reply.map_err(|_| Close::abort("a job is lost"))?;
        mem::forget(bomb);
        cx.output().write(&[letter]);
        Ok(())
    }
}

/// The far end of what a session dials.
struct Far(Sender<String>, Bomb);

impl Session for Far {
    type Reply = ();
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
    fn closed(self, why: &Closed) {
        let _ = self.0.send(why.to_string());
    }
}

#[derive(Debug)]
struct Panicking;

impl Layers for Panicking {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        panic!("a layer of the test that cannot be made")
    }
}

/// Passes on what comes. Of some connections it has a complaint that panics as soon as it is read.
#[derive(Debug)]
struct Plain(Bomb);

impl Layers for Plain {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        Ok(Box::new(Plain(Bomb)))
    }
}

impl Layer for Plain {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, _: &mut BytesMut) -> io::Result<()> {
        match wire.first() {
            Some(b'!') => Err(io::Error::other(Bomb)),
            Some(b'?') => panic!("a layer of the test that is meant to panic"),
            _ => {
                plain.extend_from_slice(wire);
                wire.clear();
                Ok(())
            }
        }
    }
    fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(plain);
        Ok(())
    }
    fn finish(&mut self, _: &mut [u8], _: &mut BytesMut) {}
    fn is_open(&self) -> bool {
        true
    }
    fn has_ended(&self) -> bool {
        false
    }
    fn identity(&self) -> Option<Identity> {
        None
    }
}

#[test]
fn whatever_panics_costs_its_own_connection_or_job_and_nothing_else() {
    let here = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    let loops = here.flat_map(|model| [(model, Io::Loop, 0), (model, Io::Loop, 2)]);
    for (model, io, workers) in loops.chain([(Model::Epoll, Io::Workers, 2)]) {
        for layered in [false, true] {
            serve(model, io, workers, layered);
        }
    }
}

fn serve(model: Model, io: Io, workers: usize, layered: bool) {
    let name = format!("{model}, {io:?}, {workers} workers, layered: {layered}");
    let (ends, ended) = mpsc::channel();
    let far = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = Mine { far: far.local_addr().unwrap(), ends: Mutex::new(ends), _bomb: Bomb };
    let budget = Budget::default().linger(Duration::from_millis(50));
    let mut server =
        Server::new(service).model(model).io(io).workers(workers).budget(budget).bind("127.0.0.1:0");
    if layered {
        server = server.layer(Plain(Bomb));
    }
    let server = server.start().unwrap();
    let connect = || {
        let stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let ask = |stream: &mut TcpStream, letter: u8, length: usize| {
        stream.write_all(&[letter]).unwrap();
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{name}, {}: {error}", letter as char));
        assert!(answer.iter().all(|&byte| byte == letter), "{name}");
    };
    // More often than there are threads to lose.
    for _ in 0..4 {
        let mut stream = connect();
        for (letter, length) in [(b'j', 1), (b's', 1), (b'a', 1), (b'o', 1000), (b'c', 1)] {
            ask(&mut stream, letter, length);
        }
        let why = ended.recv_timeout(PATIENCE).unwrap();
        assert!(why.contains("layer panicked"), "{name}: {why}");
        // What is under way when it is gone.
        stream.write_all(b"jsoj").unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        for first in [b"f", b"!", b"?"].into_iter().filter(|&first| first == b"f" || layered) {
            let mut stream = connect();
            stream.write_all(first).unwrap();
            assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "{name}: it is closed");
        }
    }
    let mut last = connect();
    ask(&mut last, b'j', 1);
    assert!(server.ended().is_none(), "{name}");
    let drained = server.drain(PATIENCE);
    assert!(drained.is_ok(), "{name}: {drained:?}");
}
