//! `uring`: the kernel does the I/O and tells when it is done. io_uring(7).
//!
//! Each operation is submitted by itself and completes once. A silent peer holds no memory: what is asked for first is
//! a poll, and only a socket that has something is received from, without waiting, into one of the few blocks there
//! are. A send to a peer without room becomes a poll likewise.
//!
//! Where the kernel does not know an operation on some socket (`EINVAL`, `EOPNOTSUPP`), the plain call is made instead.

mod operation;
mod probe;
mod readiness;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::net::RecvFlags;
use socket2::SockAddr;

use roadstead_drivers::{
    accept::{self, Taken},
    connections::Table,
    net::{Failure, Net},
    proactor::{
        Completion, CompletionQueue,
        blocks::{Block, Blocks},
    },
};
use roadstead_proto::{
    address::Address,
    blob::{self, FileRange},
    connection::BLOCK,
    output::Lent,
    service::Peer,
    ticket::{Token, WakeQueue},
};

use crate::{
    file::File,
    scheduling::Scheduling,
    sockets::{self, Os, address::to_system},
    wake_fd::WakeFd,
};
use operation::{Operation, Ring, accepted, filled};
pub use probe::obstacle;
pub use readiness::RingPoller;
use socket::{Poll, Receiving, Sending, Socket};

/// How long the end of the listeners waits for accepts that it has cancelled, in all and at a stretch.
const PATIENCE: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(10);

/// The completion queue: a ring, and what is asked of each socket.
pub struct Uring {
    /// Goes first, so that all operations are over when the sockets that they work on are closed.
    ring: Ring,
    net: Os,
    wake_fd: WakeFd,
    listeners: Vec<OwnedFd>,
    sockets: Table<Socket>,
    done: Vec<Completion<OwnedFd>>,
    blocks: Rc<Blocks>,
    /// Who may receive and waits for a block.
    waiting: VecDeque<Token>,
    /// For whom what is in flight is being tried: see [`CompletionQueue::look`].
    looks: Vec<Token>,
    /// One of them has not been submitted yet.
    submits: bool,
    scheduling: Scheduling,
}

fn cancelled() -> io::Error {
    io::ErrorKind::Interrupted.into()
}

/// Whether the kernel does not know the operation, or not on such a socket.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn was_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

/// Whether it is to be tried again when the socket is ready.
fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What a poll came to. One that was cancelled says no more than that it is over.
fn polled(result: io::Result<u32>) -> io::Result<()> {
    match result {
        Err(error) if !was_cancelled(&error) => Err(error),
        _ => Ok(()),
    }
}

impl Uring {
    /// Sockets of `net`, on a ring of the thread that calls.
    pub fn new(net: Os, wake_queue: &Arc<WakeQueue>, listeners: Vec<OwnedFd>) -> io::Result<Self> {
        let (mut ring, wake_fd) = (Ring::new(probe::ring()?), WakeFd::new(wake_queue)?);
        ring.begin(Operation::Wake, &wake_fd);
        Ok(Self {
            ring,
            net,
            wake_fd,
            listeners,
            sockets: Table::default(),
            done: Vec::new(),
            blocks: Blocks::new(),
            waiting: VecDeque::new(),
            looks: Vec::new(),
            submits: false,
            scheduling: Scheduling::new(),
        })
    }

    /// Handles all that is done.
    fn reap(&mut self) {
        while let Some((operation, result)) = self.ring.next() {
            match operation {
                Operation::Wake => {
                    self.wake_fd.heard();
                    self.ring.begin(Operation::Wake, &self.wake_fd);
                }
                Operation::Accept(number, peer) => self.accepted(number, accepted(*peer, result)),
                Operation::Backlog(number) => self.backlog(number, result),
                Operation::Connect(token, address) => self.connected(token, &address, result),
                Operation::Deciding(token) => self.decided(token, result.map(|_| ())),
                Operation::Readable(token) => self.readable(token, polled(result)),
                Operation::Receive(token, block, most) => self.received(token, block, most, result),
                Operation::Writable(token) => self.writable(token, polled(result)),
                Operation::Read(token, block, range) => self.has_read(token, block, &range, result),
                Operation::Send(token, lent, _) => self.sent(token, lent, result.map(u64::from)),
            }
        }
    }

    fn accepted(&mut self, number: usize, result: io::Result<(OwnedFd, Address)>) {
        let taken = match result {
            Ok((stream, address)) => Taken::One(stream, Peer { address }),
            Err(error) if was_cancelled(&error) => return,
            Err(error) if Os::classify(&error) == Failure::Passing => Taken::Lost,
            // Where descriptors are short that is so whether somebody waits or not.
            Err(_) => {
                if let Some(listener) = self.listeners.get(number) {
                    self.ring.begin(Operation::Backlog(number), listener);
                }
                return;
            }
        };
        self.done.push(Completion::Accepted(number, taken, None));
    }

    /// Somebody waits whom the kernel could not accept by itself.
    fn backlog(&mut self, number: usize, result: io::Result<u32>) {
        let Some(listener) = self.listeners.get(number) else { return };
        let taken = match result {
            Ok(_) => accept::take(&mut self.net, listener),
            Err(error) if was_cancelled(&error) => return,
            Err(_) => Taken::Exhausted,
        };
        match taken {
            Taken::Empty => self.accept(number),
            taken => self.done.push(Completion::Accepted(number, taken, None)),
        }
    }

    fn connected(&mut self, token: Token, address: &SockAddr, result: io::Result<u32>) {
        let Some(socket) = self.sockets.get(token) else { return };
        let result = match result {
            Err(error) if is_unknown(&error) && !socket.cancelled => {
                sockets::begin_connect(&socket.stream, address)
            }
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
            result => result.map(|_| ()),
        };
        self.decided(token, result);
    }

    /// A connection that was begun may be decided.
    fn decided(&mut self, token: Token, result: io::Result<()>) {
        let Some(socket) = self.sockets.get(token) else { return };
        let result = match socket.cancelled {
            true => Err(cancelled()),
            false => result.and_then(|()| sockets::connected(&socket.stream)),
        };
        socket.connect = match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Some(self.ring.begin(Operation::Deciding(token), &socket.stream))
            }
            result => {
                self.done.push(Completion::Connected(token, result));
                None
            }
        };
    }

    /// Waits until there is something to receive.
    fn await_bytes(&mut self, token: Token, most: usize) {
        let Some(socket) = self.sockets.get(token) else { return };
        let name = self.ring.begin(Operation::Readable(token), &socket.stream);
        socket.receive = Receiving::Polls(Poll { name, hurries: false }, most);
    }

    fn readable(&mut self, token: Token, result: io::Result<()>) {
        let Some(socket) = self.sockets.get(token) else { return };
        let Receiving::Polls(_, most) = socket.receive else { return };
        match result {
            Ok(()) if !socket.cancelled => self.begin_receive(token, most),
            result => self.end_receive(token, result.err().unwrap_or_else(cancelled)),
        }
    }

    /// A receive for which there is no block yet fails.
    fn end_receive(&mut self, token: Token, error: io::Error) {
        if let Some(socket) = self.sockets.get(token) {
            socket.receive = Receiving::Idle;
        }
        self.done.push(Completion::Received { token, result: Err(error), more: false });
    }

    /// Begins a receive, or has it stand in line for a block.
    fn begin_receive(&mut self, token: Token, most: usize) {
        let Some(socket) = self.sockets.get(token) else { return };
        // Nobody overtakes who stands in line.
        let block = if self.waiting.is_empty() { self.blocks.lend(most) } else { None };
        match block {
            Some(block) => self.receive_into(token, block, most),
            None => {
                socket.receive = Receiving::Waits(most);
                self.waiting.push_back(token);
            }
        }
    }

    fn receive_into(&mut self, token: Token, block: Block, most: usize) {
        let Some(socket) = self.sockets.get(token) else { return };
        socket.receive = Receiving::Works;
        self.ring.begin(Operation::Receive(token, block, most), &socket.stream);
    }

    /// Begins the receives that stand in line, as many as there are blocks for.
    fn begin_waiting(&mut self) {
        while self.blocks.are_left()
            && let Some(token) = self.waiting.pop_front()
        {
            if let Some(&mut Socket { receive: Receiving::Waits(most), .. }) = self.sockets.get(token)
                && let Some(block) = self.blocks.lend(most)
            {
                self.receive_into(token, block, most);
            }
        }
    }

    fn received(&mut self, token: Token, mut block: Block, most: usize, result: io::Result<u32>) {
        let Some(socket) = self.sockets.get(token) else { return };
        socket.receive = Receiving::Idle;
        let result = match result {
            Err(error) if is_unknown(&error) => {
                sockets::receive(&socket.stream, &mut block, most, RecvFlags::DONTWAIT)
            }
            result => filled(&mut block, result),
        };
        match result {
            Err(error) if is_early(&error) && !socket.cancelled => self.await_bytes(token, most),
            result => {
                self.done.push(Completion::Received { token, result: result.map(|_| block), more: false })
            }
        }
    }

    fn sent(&mut self, token: Token, lent: Box<Lent>, result: io::Result<u64>) {
        let Some(socket) = self.sockets.get(token) else { return };
        socket.send = Sending::Idle;
        let result = match result {
            Err(error) if is_unknown(&error) => sockets::send(&socket.stream, &lent),
            result => result,
        };
        match result {
            Err(error) if is_early(&error) && !socket.cancelled => {
                let name = self.ring.begin(Operation::Writable(token), &socket.stream);
                socket.send = Sending::Full(Poll { name, hurries: false });
                self.done.push(Completion::Full(token));
            }
            result => self.done.push(Completion::Sent(token, result)),
        }
        self.done.push(Completion::Released(token, lent));
    }

    fn has_read(&mut self, token: Token, mut block: BytesMut, range: &FileRange, result: io::Result<u32>) {
        let part = match result {
            Err(error) if is_unknown(&error) || is_early(&error) => range.read(BLOCK),
            result => filled(&mut block, result).and_then(|_| blob::some(block)),
        };
        self.done.push(Completion::Read(token, part));
    }

    fn writable(&mut self, token: Token, result: io::Result<()>) {
        let Some(socket) = self.sockets.get(token) else { return };
        match result {
            Ok(()) if !socket.cancelled => {
                socket.send = Sending::Roomy;
                self.done.push(Completion::Room(token));
            }
            // What it would have sent has come home already.
            result => {
                socket.send = Sending::Idle;
                let error = result.err().unwrap_or_else(cancelled);
                self.done.push(Completion::Sent(token, Err(error)));
            }
        }
    }

    /// Tells who was looked for, once all that was in flight there was tried.
    fn end_looks(&mut self) {
        let Self { looks, sockets, done, .. } = self;
        looks.retain(|&token| {
            let socket = sockets.get(token);
            let tries = socket.as_ref().is_some_and(|socket| socket.tries());
            if !tries {
                socket.into_iter().for_each(|socket| socket.looks = false);
                done.push(Completion::Looked(token));
            }
            tries
        });
    }
}

impl CompletionQueue for Uring {
    type Stream = OwnedFd;

    fn classify(error: &io::Error) -> Failure {
        Os::classify(error)
    }

    fn now(&self) -> Duration {
        self.net.now()
    }

    fn accept(&mut self, listener: usize) {
        if let Some(socket) = self.listeners.get(listener) {
            self.ring.begin(Operation::accept(listener), socket);
        }
    }

    fn deafen(&mut self, accepts: bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let names = self.ring.listening();
            if names.is_empty() || Instant::now() > until {
                break;
            }
            names.into_iter().for_each(|name| self.ring.cancel(name));
            if self.ring.enter(Some(MOMENT)).is_err() {
                break;
            }
            self.reap();
        }
        for (number, listener) in mem::take(&mut self.listeners).into_iter().enumerate() {
            let last = if accepts { accept::last(&mut self.net, &listener) } else { Vec::new() };
            self.done.extend(last.into_iter().map(|taken| Completion::Accepted(number, taken, None)));
        }
    }

    fn adopt(&mut self, stream: OwnedFd, token: Token) -> io::Result<()> {
        self.sockets.insert(token, Socket::new(stream));
        Ok(())
    }

    fn connect(&mut self, address: Address, token: Token) {
        let to = self.net.unconnected(&address).and_then(|stream| Ok((stream, to_system(&address)?)));
        let (stream, to) = match to {
            Ok(to) => to,
            Err(error) => return self.done.push(Completion::Connected(token, Err(error))),
        };
        let mut socket = Socket::new(stream);
        if to.is_unix() {
            // Decided at once. In the ring it would wait for as long as the listener has no room.
            let result = sockets::begin_connect(&socket.stream, &to);
            self.sockets.insert(token, socket);
            return self.decided(token, result);
        }
        socket.connect = Some(self.ring.begin(Operation::Connect(token, Box::new(to)), &socket.stream));
        self.sockets.insert(token, socket);
    }

    fn receive(&mut self, token: Token, most: usize) {
        match self.sockets.get(token) {
            Some(_) => self.await_bytes(token, most),
            None => self.end_receive(token, io::ErrorKind::NotConnected.into()),
        }
    }

    fn send(&mut self, token: Token, lent: Box<Lent>) {
        let Some(socket) = self.sockets.get(token) else {
            let gone = io::ErrorKind::NotConnected.into();
            return self.done.extend([Completion::Sent(token, Err(gone)), Completion::Released(token, lent)]);
        };
        if lent.front_file().is_some() {
            let result = sockets::send(&socket.stream, &lent);
            return self.sent(token, lent, result);
        }
        socket.send = Sending::Works;
        self.ring.begin(Operation::send(token, lent), &socket.stream);
    }

    fn read(&mut self, token: Token, range: Box<FileRange>) {
        let same = FileRange::clone(&range);
        match File::of(&same) {
            Some(file) => _ = self.ring.begin(Operation::read(token, range), file),
            // What is no file of the system's reads itself.
            None => self.done.push(Completion::Read(token, range.read(BLOCK))),
        }
    }

    fn shutdown(&mut self, token: Token) {
        if let Some(socket) = self.sockets.get(token) {
            self.net.shutdown(&socket.stream);
        }
    }

    /// A poll that is cancelled is over, and what it was for is tried then.
    fn look(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else {
            return self.done.push(Completion::Looked(token));
        };
        for poll in socket.polls() {
            poll.hurries = true;
            self.ring.cancel(poll.name);
        }
        if !mem::replace(&mut socket.looks, true) {
            self.looks.push(token);
        }
        self.submits = true;
    }

    fn cancel(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        socket.cancelled = true;
        socket.polls().for_each(|poll| self.ring.cancel(poll.name));
        if let Some(name) = socket.connect {
            self.ring.cancel(name);
        }
        if let Receiving::Waits(_) = socket.receive {
            self.end_receive(token, cancelled());
        }
    }

    fn close(&mut self, token: Token, reset: bool) {
        if let Some(socket) = self.sockets.remove(token) {
            self.net.close(socket.stream, reset);
        }
    }

    fn refuse(&mut self, stream: OwnedFd) {
        self.net.close(stream, true);
    }

    fn has_done(&self) -> bool {
        !self.done.is_empty() || !self.waiting.is_empty() && self.blocks.are_left()
    }

    fn wait(&mut self, done: &mut Vec<Completion<OwnedFd>>, timeout: Option<Duration>) -> io::Result<()> {
        self.begin_waiting();
        let hurries = mem::take(&mut self.submits) || !self.done.is_empty();
        let timeout = if hurries { Some(Duration::ZERO) } else { timeout };
        if timeout != Some(Duration::ZERO) {
            self.blocks.trim();
        }
        self.ring.enter(timeout)?;
        self.reap();
        self.end_looks();
        self.scheduling.heard(self.done.len());
        done.append(&mut self.done);
        Ok(())
    }
}
