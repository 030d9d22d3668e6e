//! One relayed connection: two sockets, and a delay line for each direction.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::line::{DelayLine, End};
use crate::itself::is_its_own_peer;

/// Receives of one direction in one turn, so that a fast connection does not hold up the others.
const RECEIVES: usize = 16;

/// What arrives on socket `i` goes through line `i` to socket `1 - i`; socket 0 is the client's.
pub(super) struct Connection {
    sockets: [TcpStream; 2],
    lines: [DelayLine; 2],
    /// Whether the line's end has been passed on.
    over: [bool; 2],
    /// Whether the line has bytes that are due and its receiver takes no more.
    blocked: [bool; 2],
    connecting: bool,
}

impl Connection {
    /// Begins to connect to `target` for `client`, which came at `now`; if that fails at once the client is reset.
    ///
    /// The kernel has answered the client at once. Far away, its first byte could leave when the target's answer was
    /// back, and the target's when the client's confirmation had come (RFC 9293, figure 6).
    pub(super) fn open(
        client: TcpStream,
        target: SocketAddr,
        delay: Duration,
        now: Duration,
    ) -> Option<Self> {
        // Without, a small segment would wait for the acknowledgement of the one before, on top of the delay.
        let tuned = client.set_nonblocking(true).and_then(|()| client.set_nodelay(true));
        match tuned.and_then(|()| begin(target)) {
            Ok((server, connecting)) => Some(Self {
                sockets: [client, server],
                lines: [2, 3].map(|trips| DelayLine::new(now + delay * trips, delay)),
                over: [false; 2],
                blocked: [false; 2],
                connecting,
            }),
            Err(_) => {
                reset(&client);
                None
            }
        }
    }

    /// Ends both sides now.
    pub(super) fn reset(self) {
        self.sockets.iter().for_each(reset);
    }

    /// When there is something to do whatever the sockets say.
    pub(super) fn deadline(&self) -> Option<Duration> {
        if self.connecting {
            return None;
        }
        (0..2).filter(|&from| !self.over[from]).filter_map(|from| self.lines[from].deadline()).min()
    }

    /// What is waited for on each socket.
    pub(super) fn wishes(&self) -> [(BorrowedFd<'_>, PollFlags); 2] {
        [0, 1].map(|side| {
            let mut wish = PollFlags::empty();
            wish.set(PollFlags::IN, !self.connecting && self.lines[side].room() > 0);
            wish.set(PollFlags::OUT, self.blocked[1 - side] || (self.connecting && side == 1));
            (self.sockets[side].as_fd(), wish)
        })
    }

    /// Takes what has arrived and passes on what is due; false when the connection is over.
    pub(super) fn forward(
        &mut self,
        ready: [PollFlags; 2],
        clock: &dyn Fn() -> Duration,
        block: &mut [u8],
        delivered: &[AtomicU64; 2],
    ) -> bool {
        if self.connecting {
            if ready[1].is_empty() {
                return true;
            }
            if !matches!(self.sockets[1].take_error(), Ok(None)) || is_its_own_peer(&self.sockets[1]) {
                self.sockets.iter().for_each(reset);
                return false;
            }
            self.connecting = false;
        }
        for from in 0..2 {
            if !ready[from].is_empty() {
                self.receive(from, clock, block);
            }
            if ready[1 - from].intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP) {
                self.blocked[from] = false;
            }
            if !self.over[from] && !self.send(from, clock, &delivered[from]) {
                self.sockets.iter().for_each(reset);
                return false;
            }
        }
        self.over != [true; 2]
    }

    fn receive(&mut self, from: usize, clock: &dyn Fn() -> Duration, block: &mut [u8]) {
        let line = &mut self.lines[from];
        for _ in 0..RECEIVES {
            let room = line.room().min(block.len());
            if room == 0 {
                return;
            }
            let received = (&self.sockets[from]).read(&mut block[..room]);
            // The time after the call: a byte that came during it must not be early.
            let now = clock();
            match received {
                Ok(0) => line.finish(now, End::Finished),
                Ok(count) => {
                    line.push(now, &block[..count]);
                    // The socket was emptied, most likely; if not, the next wait says so.
                    if count < room {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => line.finish(now, End::Reset),
            }
        }
    }

    /// False when a reset has arrived where it goes.
    fn send(&mut self, from: usize, clock: &dyn Fn() -> Duration, delivered: &AtomicU64) -> bool {
        let now = clock();
        while !self.blocked[from] {
            let bytes = self.lines[from].ready(now);
            if bytes.is_empty() {
                break;
            }
            match (&self.sockets[1 - from]).write(bytes) {
                Ok(count) => {
                    self.lines[from].consume(count);
                    delivered.fetch_add(count as u64, Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked[from] = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.receiver_is_gone(from, now);
                    return true;
                }
            }
        }
        match self.lines[from].end(now) {
            Some(End::Reset) => return false,
            Some(End::Finished) => {
                // A receiver that is gone is found when the other direction is read.
                let _ = self.sockets[1 - from].shutdown(Shutdown::Write);
                self.over[from] = true;
            }
            None => {}
        }
        true
    }

    /// Its reset travels back to the sender. The failed write may have consumed the error that a read would have told.
    fn receiver_is_gone(&mut self, from: usize, now: Duration) {
        let back = 1 - from;
        self.over[from] = true;
        self.blocked[from] = false;
        // What still arrives has nowhere to go, and the line needs no more room for it.
        self.lines[from].finish(now, End::Finished);
        self.over[back] = false;
        self.lines[back].finish(now, End::Reset);
    }
}

/// A socket that connects to `target`, and whether it is still about it.
fn begin(target: SocketAddr) -> io::Result<(TcpStream, bool)> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let connecting = match connect(&socket, &target) {
        Ok(()) => false,
        Err(Errno::INPROGRESS) => true,
        Err(error) => return Err(error.into()),
    };
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok((socket, connecting))
}

/// Makes the close that follows a reset.
fn reset(socket: &TcpStream) {
    // Where it is refused the peer gets an ordinary end, which is all that is left.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
