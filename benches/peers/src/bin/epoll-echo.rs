//! An echo server (RFC 862) as plain edge-triggered epoll loops, one to a thread: about the least that can be done.
//!
//! `epoll-echo [IP:PORT [LOOPS]]`, by default `127.0.0.1:0` and one; prints `listening on IP:PORT` first. Several loops
//! listen each for themselves (SO_REUSEPORT).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{self, AddressFamily, SocketType, sockopt};

/// Bytes read at once; all connections share the buffer.
const BUFFER: usize = 64 * 1024;

/// Events taken from the system at once.
const EVENTS: usize = 256;

/// A connection and what it has still to be sent.
struct Connection {
    socket: TcpStream,
    unsent: Vec<u8>,
}

impl Connection {
    /// Does all that can be done without waiting. `Ok(false)`: the peer has finished and has all its answers.
    fn pump(&mut self, buffer: &mut [u8], ending: bool) -> io::Result<bool> {
        loop {
            if !self.unsent.is_empty() {
                let count = self.socket.write(&self.unsent)?;
                self.unsent.drain(..count);
                continue;
            }
            let count = self.socket.read(buffer)?;
            if count == 0 {
                return Ok(false);
            }
            let sent = match self.socket.write(&buffer[..count]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.unsent.extend_from_slice(&buffer[sent..count]);
            // A short read emptied the socket: whatever comes later is a new edge. An end that is known
            // already is not announced again.
            if count < buffer.len() && self.unsent.is_empty() && !ending {
                return Ok(true);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &impl std::os::fd::AsFd,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let (socket, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let index = socket.as_raw_fd() as usize;
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(index as u64), edges)?;
        if connections.len() <= index {
            connections.resize_with(index + 1, || None);
        }
        connections[index] = Some(Connection { socket, unsent: Vec::new() });
    }
}

/// As the standard library listens, but that others may beside it.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, 4096)?;
    Ok(socket.into())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let loops: usize = arguments.next().map_or(Ok(1), |count| count.parse().map_err(io::Error::other))?;
    let listener = listen(address.parse().map_err(io::Error::other)?)?;
    let address = listener.local_addr()?;
    let others = (1..loops).map(|_| listen(address)).collect::<io::Result<Vec<_>>>()?;
    println!("listening on {address}");
    for other in others {
        thread::spawn(move || serve(&other));
    }
    serve(&listener)
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listening = listener.as_raw_fd() as u64;
    epoll::add(&epoll, listener, EventData::new_u64(listening), EventFlags::IN)?;
    // Descriptors are small and dense, so they are the index.
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(EVENTS);
    let mut buffer = vec![0; BUFFER];
    loop {
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in events.drain(..) {
            // Copied out: the system's structure is packed.
            let (token, flags) = (event.data.u64(), event.flags);
            if token == listening {
                if let Err(error) = accept(listener, &epoll, &mut connections) {
                    eprintln!("accept: {error}");
                }
                continue;
            }
            let slot = &mut connections[token as usize];
            let Some(connection) = slot else { continue };
            let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
            match connection.pump(&mut buffer, ending) {
                Ok(true) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(false) | Err(_) => *slot = None,
            }
        }
    }
}
