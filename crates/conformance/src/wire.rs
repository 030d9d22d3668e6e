//! A client's end of a connection, plain or through TLS: what is done to it means the same on both.

use std::{
    ffi::OsStr,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, SockAddr, Socket, Type};

use roadstead::Address;

use crate::PATIENCE;

/// Connects to an address, whatever it is of.
pub fn reach(address: &Address) -> io::Result<OwnedFd> {
    let name = match address {
        Address::Ip(address) => return Ok(TcpStream::connect(address)?.into()),
        Address::Unix(name) => name.sun_path().unwrap(),
    };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(&SockAddr::unix(OsStr::from_bytes(name))?)?;
    Ok(socket.into())
}

/// A blocking connection whose directions may be used by two threads. Dropped, it ends in good order.
pub struct Wire {
    socket: Socket,
    tls: Option<Arc<Tls>>,
    /// Received records that were not opened yet.
    came: Vec<u8>,
    /// The handshake went wrong: whoever reads or writes hears of it, as without TLS.
    failed: Option<ErrorKind>,
}

struct Tls {
    session: Mutex<ClientConnection>,
    /// Records that the socket has not taken; `None` after the last. Locked while they leave, so that they stay in
    /// order.
    unsent: Mutex<Option<Vec<u8>>>,
}

impl Wire {
    /// Speaks over `socket`, as a client of a server with that name if that is given.
    pub fn new(socket: impl Into<OwnedFd>, tls: Option<(Arc<ClientConfig>, &'static str)>) -> Self {
        let mut socket = Socket::from(socket.into());
        if socket.domain().unwrap() != Domain::UNIX {
            socket.set_tcp_nodelay(true).unwrap();
        }
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut failed = None;
        let tls = tls.map(|(config, name)| {
            let mut session = ClientConnection::new(config, name.try_into().unwrap()).unwrap();
            failed = session.complete_io(&mut socket).err().map(|error| error.kind());
            Arc::new(Tls { session: Mutex::new(session), unsent: Mutex::new(Some(Vec::new())) })
        });
        Self { socket, tls, came: Vec::new(), failed }
    }

    /// The same connection, for another thread.
    pub fn another(&self) -> Self {
        let socket = self.socket.try_clone().unwrap();
        Self { socket, tls: self.tls.clone(), came: Vec::new(), failed: self.failed }
    }

    /// Sends `whole` and, together with it, `cut` but for the last byte of what goes over the wire for that. Nothing
    /// may follow but the end.
    pub fn write_cut(&mut self, whole: &[u8], cut: &[u8]) -> io::Result<()> {
        let Some(tls) = &self.tls else {
            return self.write_all(&[whole, &cut[..cut.len() - 1]].concat());
        };
        let mut unsent = Vec::new();
        let mut session = tls.session();
        for bytes in [whole, cut] {
            session.writer().write_all(bytes)?;
            while session.wants_write() {
                session.write_tls(&mut unsent)?;
            }
        }
        drop(session);
        unsent.pop();
        self.push(&mut unsent)
    }

    /// Says that nothing follows.
    pub fn finish(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            let mut unsent = tls.unsent.lock().unwrap();
            if let Some(mut last) = unsent.take() {
                let mut session = tls.session();
                session.send_close_notify();
                while session.wants_write() {
                    session.write_tls(&mut last)?;
                }
                // The peer may take nothing before the other thread has read.
                drop(session);
                self.push(&mut last)?;
            }
        }
        self.socket.shutdown(Shutdown::Write)
    }

    /// Ends without a word.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
        self.say_nothing_more();
    }

    /// Breaks off as a network may without a reset: through TLS only the wire ends, which is no end of what goes over
    /// it. Without TLS it would be one, so that a reset is all that is left.
    pub fn cut(self) {
        match &self.tls {
            Some(_) => self.say_nothing_more(),
            None => self.reset(),
        }
    }

    fn say_nothing_more(&self) {
        if let Some(tls) = &self.tls {
            *tls.unsent.lock().unwrap() = None;
        }
    }

    /// The certificate that the server has shown; `None` without TLS.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        Some(self.tls.as_ref()?.session().peer_certificates()?.first()?.to_vec())
    }

    /// Where it comes from.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// Has calls fail that would wait.
    pub fn set_nonblocking(&self) {
        self.socket.set_nonblocking(true).unwrap();
    }

    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn push(&self, unsent: &mut Vec<u8>) -> io::Result<()> {
        while !unsent.is_empty() {
            let count = uninterrupted(|| (&self.socket).write(unsent))?;
            unsent.drain(..count);
        }
        Ok(())
    }
}

/// Calls again where a signal came instead of an answer: a call with a time limit is never restarted by the system,
/// whatever the signal's handler asks for (signal(7), "Interruption of system calls").
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl Tls {
    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap()
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let Some(tls) = &self.tls else { return uninterrupted(|| self.socket.read(bytes)) };
        loop {
            match tls.session().reader().read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if self.came.is_empty() {
                self.came.resize(16 << 10, 0);
                let count = uninterrupted(|| self.socket.read(&mut self.came));
                self.came.truncate(*count.as_ref().unwrap_or(&0));
                count?;
            }
            // It takes no more than fits beside what was not read yet.
            let mut session = tls.session();
            let count = session.read_tls(&mut &self.came[..])?;
            self.came.drain(..count);
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let Some(tls) = &self.tls else { return uninterrupted(|| self.socket.write(bytes)) };
        let mut unsent = tls.unsent.lock().unwrap();
        let unsent = unsent.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        self.push(unsent)?;
        let mut session = tls.session();
        let count = session.writer().write(bytes)?;
        while session.wants_write() {
            session.write_tls(unsent)?;
        }
        drop(session);
        match self.push(unsent) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(tls) = &self.tls
            && Arc::strong_count(tls) == 1
            && tls.unsent.lock().unwrap().is_some()
        {
            let _ = self.finish();
        }
    }
}
