//! A relay between a client and one server that knows frames, so that a test decides what becomes of each.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use roadstead::frame::HEAD;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Server,
    Client,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on, with whatever was done to it.
    Pass,
    /// It is lost; the connection lives on.
    Lose,
    /// It goes on twice.
    Twice,
    /// So many of its bytes go on, then both connections end.
    Cut(usize),
    /// It goes on after a while.
    Late(Duration),
    /// It goes on after a while, and those behind it may overtake it.
    Overtaken(Duration),
    /// This and all that follows is swallowed; the connections stay open.
    Mute,
}

/// The byte of a frame that says its kind.
pub(crate) const KIND: usize = 5;

type Rule = Box<dyn FnMut(To, &mut Vec<u8>) -> Fate + Send>;

/// A listening relay. Dropping it ends its connections and threads.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    rule: Mutex<Rule>,
    stopped: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// A relay to `server` that lets everything pass.
    pub(crate) fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rule: Rule = Box::new(|_, _| Fate::Pass);
        let shared = Arc::new(Shared {
            server,
            rule: Mutex::new(rule),
            stopped: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let thread = thread::spawn(move || accepting.accept(&listener));
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Decides by `rule` from now on.
    pub(crate) fn rule(&self, rule: impl FnMut(To, &mut Vec<u8>) -> Fate + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// The next frame of `kind` that goes `to` has this `fate`; all others pass.
    pub(crate) fn once(&self, to: To, kind: u8, fate: Fate) {
        let mut over = false;
        self.rule(move |way, frame| {
            if over || way != to || frame[KIND] != kind {
                return Fate::Pass;
            }
            over = true;
            fate
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        for socket in self.shared.sockets.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut pumps = Vec::new();
        loop {
            let (client, _) = listener.accept().unwrap();
            if self.stopped.load(SeqCst) {
                break;
            }
            // A server that is down: the client sees its connection end.
            let Ok(server) = TcpStream::connect(self.server) else { continue };
            for socket in [&client, &server] {
                socket.set_nodelay(true).unwrap();
                self.sockets.lock().unwrap().push(socket.try_clone().unwrap());
            }
            let up = (client.try_clone().unwrap(), server.try_clone().unwrap());
            for (to, (from, into)) in [(To::Server, up), (To::Client, (server, client))] {
                let shared = Arc::clone(self);
                pumps.push(thread::spawn(move || shared.pump(to, from, into)));
            }
        }
        for socket in self.sockets.lock().unwrap().iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        pumps.into_iter().for_each(|pump| pump.join().unwrap());
    }

    fn pump(&self, to: To, mut from: TcpStream, into: TcpStream) {
        let end = self.forward(to, &mut from, &Mutex::new(into.try_clone().unwrap()));
        // An end in good order is passed on as one; anything else ends both.
        let how = if end.is_ok() { Shutdown::Write } else { Shutdown::Both };
        let _ = into.shutdown(how);
        if end.is_err() {
            let _ = from.shutdown(Shutdown::Both);
        }
    }

    fn forward(&self, to: To, from: &mut TcpStream, into: &Mutex<TcpStream>) -> io::Result<()> {
        let write = |bytes: &[u8]| into.lock().unwrap().write_all(bytes);
        thread::scope(|scope| {
            let mut mute = false;
            while let Some(mut frame) = next_frame(from)? {
                if mute {
                    continue;
                }
                let fate = (self.rule.lock().unwrap())(to, &mut frame);
                match fate {
                    Fate::Pass => write(&frame)?,
                    Fate::Lose => {}
                    Fate::Twice => write(&[&frame[..], &frame].concat())?,
                    Fate::Cut(length) => {
                        write(&frame[..length.min(frame.len())])?;
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    Fate::Late(by) => {
                        thread::sleep(by);
                        write(&frame)?;
                    }
                    Fate::Overtaken(by) => {
                        scope.spawn(move || {
                            thread::sleep(by);
                            // The connection may have ended in the meantime.
                            let _ = write(&frame);
                        });
                    }
                    Fate::Mute => mute = true,
                }
            }
            Ok(())
        })
    }
}

/// The next frame as it is, whatever its checksum; `None` at the end.
fn next_frame(from: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; HEAD];
    match from.read_exact(&mut frame[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        first => first?,
    }
    from.read_exact(&mut frame[1..])?;
    let length = |at: &[u8]| at.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    let (fields, body) = (length(&frame[6..8]), length(&frame[8..12]));
    frame.resize(HEAD + fields + body, 0);
    from.read_exact(&mut frame[HEAD..])?;
    Ok(Some(frame))
}
