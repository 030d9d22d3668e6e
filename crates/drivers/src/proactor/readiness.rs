//! A completion queue on a system that only tells of readiness: it accepts, connects, and knows when an operation may
//! begin. What then carries it out is a [`ReadyIo`], in which the completion queues that stand on this one differ.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, io, mem, rc::Rc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{address::Address, blob::FileRange, budget::give_back, output::Lent, ticket::Token};

use super::{
    blocks::{Block, Blocks},
    completions::{Completion, CompletionQueue},
    direction::Direction,
};
use crate::{
    accept::{self, Taken},
    connections::Table,
    net::{Failure, Net},
    reactor::{Poller, Readiness},
};

/// Does operations on sockets that are ready, at once or in a while. Of each socket it has at most one of each kind.
pub trait ReadyIo<N: Net> {
    /// Receives into `block`. One that stays empty is the peer's end.
    fn receive(&mut self, net: &mut N, task: Receive<'_, N::Stream>) -> Progress<io::Result<Block>>;
    /// Sends from the front of what is lent.
    fn send(&mut self, net: &mut N, task: Send<'_, N::Stream>) -> Progress<io::Result<u64>>;
    /// Reads the first bytes of a part of a file, at most a [`BLOCK`](roadstead_proto::connection::BLOCK).
    fn read(&mut self, token: Token, range: Box<FileRange>) -> Progress<io::Result<BytesMut>>;
    /// The next operation that was not done at once and is now.
    fn finished(&mut self) -> Option<Finished>;
    /// How long a wait may be before [`ReadyIo::finished`] is asked again; `None`: as long as nothing interrupts it.
    fn patience(&self) -> Option<Duration>;
    /// Nothing is to be done for a while: gives back what is kept for the next operations and was not needed of late.
    fn trim(&mut self);
}

/// A receive that may be begun.
pub struct Receive<'a, S> {
    /// Whose it is.
    pub token: Token,
    /// On what.
    pub stream: &'a S,
    /// Into what: it is empty, and has the room.
    pub block: Block,
    /// The most bytes that it may be.
    pub most: usize,
}

/// A send that may be begun.
pub struct Send<'a, S> {
    /// Whose it is.
    pub token: Token,
    /// On what.
    pub stream: &'a S,
    /// What is to be sent. It is needed until the send is done.
    pub lent: &'a Lent,
}

/// How far an operation has come.
pub enum Progress<T> {
    /// It is over.
    Done(T),
    /// [`ReadyIo::finished`] will tell.
    Later,
}

/// An operation that is done in the end.
pub enum Finished {
    /// What a receive came to.
    Received(Token, io::Result<Block>),
    /// What a send came to.
    Sent(Token, io::Result<u64>),
    /// What was read of a file.
    Read(Token, io::Result<BytesMut>),
}

/// The completion queue: sockets, what is asked of each, and what is known of its readiness.
pub struct ReadyQueue<N: Net, P: Poller<N>, H: ReadyIo<N>> {
    net: N,
    poller: P,
    ready_io: H,
    listeners: Vec<Listening<N::ListenSocket>>,
    sockets: Table<Socket<N::Stream>>,
    ready: Vec<Readiness>,
    done: Vec<Completion<N::Stream>>,
    blocks: Rc<Blocks>,
    /// Who may receive and waits for a block.
    waiting: VecDeque<Token>,
    moved: bool,
}

/// A listener, and how many connections are asked of it.
struct Listening<L> {
    socket: L,
    asked: usize,
    /// The poller tells of its backlog.
    heard: bool,
}

struct Socket<S> {
    stream: S,
    connecting: bool,
    /// It waits for a block.
    waits: bool,
    receive: Direction<usize>,
    /// What is lent to a send is boxed: an idle socket keeps no room for it.
    send: Direction<Box<Lent>>,
    /// The peer has no room for a send, which waits for that.
    full: bool,
    /// That wait is over, and the send is not asked for again yet.
    roomy: bool,
    /// What is in flight is being tried: see [`CompletionQueue::look`].
    looks: bool,
    /// The interest that the poller knows of.
    told: (bool, bool),
}

impl<N: Net, P: Poller<N>, H: ReadyIo<N>> ReadyQueue<N, P, H> {
    /// Sockets of `net`, which `poller` tells of.
    pub fn new(net: N, poller: P, ready_io: H, listeners: Vec<N::ListenSocket>) -> Self {
        let listeners =
            listeners.into_iter().map(|listener| Listening { socket: listener, asked: 0, heard: false });
        Self {
            net,
            poller,
            ready_io,
            listeners: listeners.collect(),
            sockets: Table::default(),
            ready: Vec::new(),
            done: Vec::new(),
            blocks: Blocks::new(),
            waiting: VecDeque::new(),
            moved: true,
        }
    }

    /// Registers a stream under its name.
    fn register(&mut self, stream: N::Stream, token: Token, connecting: bool) -> io::Result<()> {
        self.poller.add(&stream, token)?;
        let socket = Socket {
            stream,
            connecting,
            waits: false,
            receive: Direction::new(false),
            // A fresh socket has room; if it has not, the first send says so.
            send: Direction::new(!connecting),
            full: false,
            roomy: false,
            looks: false,
            told: (false, false),
        };
        self.sockets.insert(token, socket);
        Ok(())
    }

    /// Begins what can be begun for a connection, and tells the poller what else is wanted.
    fn advance(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        if socket.connecting {
            if socket.send.ready {
                match self.net.connected(&socket.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send.ready = false,
                    result => {
                        socket.connecting = false;
                        self.done.push(Completion::Connected(token, result));
                    }
                }
            }
        } else {
            self.begin_send(token);
            self.begin_receive(token);
        }
        self.want(token);
        self.end_look(token);
    }

    /// Tells that all in flight was tried, as soon as it was.
    fn end_look(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        let tries = socket.receive.busy || socket.send.busy || socket.waits || socket.roomy;
        if socket.looks && !tries {
            socket.looks = false;
            self.done.push(Completion::Looked(token));
        }
    }

    fn begin_send(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        if let Some(lent) = socket.send.begin() {
            match self.ready_io.send(&mut self.net, Send { token, stream: &socket.stream, lent }) {
                Progress::Later => socket.send.busy = true,
                Progress::Done(result) => self.sent(token, result),
            }
        }
        self.note_room(token);
    }

    /// A send for which there is no room gives up what it would send; when there is room again it is told.
    fn note_room(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        if socket.send.ready {
            if mem::take(&mut socket.full) {
                socket.roomy = true;
                self.done.push(Completion::Room(token));
            }
        } else if let Some(lent) = socket.send.asked.take_if(|_| !socket.send.busy) {
            socket.full = true;
            self.done.extend([Completion::Full(token), Completion::Released(token, lent)]);
        }
    }

    fn begin_receive(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        let Some(&most) = socket.receive.begin() else { return };
        // Nobody overtakes who stands in line.
        let block = if self.waiting.is_empty() { self.blocks.lend(most) } else { None };
        match block {
            Some(block) => self.receive_into(token, block, most),
            None if !mem::replace(&mut socket.waits, true) => self.waiting.push_back(token),
            None => {}
        }
    }

    fn receive_into(&mut self, token: Token, block: Block, most: usize) {
        let Some(socket) = self.sockets.get(token) else { return };
        let task = Receive { token, stream: &socket.stream, block, most };
        match self.ready_io.receive(&mut self.net, task) {
            Progress::Later => socket.receive.busy = true,
            Progress::Done(result) => self.received(token, result),
        }
    }

    /// Begins the receives that waited, as many as there are blocks for.
    fn begin_waiting(&mut self) {
        while self.blocks.are_left()
            && let Some(token) = self.waiting.pop_front()
        {
            let Some(socket) = self.sockets.get(token) else { continue };
            socket.waits = false;
            if let Some(&most) = socket.receive.begin()
                && let Some(block) = self.blocks.lend(most)
            {
                self.receive_into(token, block, most);
            }
            self.advance(token);
        }
    }

    /// Tells the poller what it does not know of a connection's wishes.
    fn want(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        let sends = socket.send.asked.is_some() || socket.full || socket.connecting;
        let wanted = (socket.receive.asked.is_some(), sends);
        if wanted != mem::replace(&mut socket.told, wanted)
            && let Err(error) = self.poller.interest(&socket.stream, token, wanted.0, wanted.1)
        {
            tracing::warn!(%error, "the poller lost a connection");
            self.cancel(token);
        }
    }

    fn sent(&mut self, token: Token, result: io::Result<u64>) {
        let Some(socket) = self.sockets.get(token) else { return };
        if let Some((lent, result)) = socket.send.end(result) {
            self.done.extend([Completion::Sent(token, result), Completion::Released(token, lent)]);
        }
    }

    fn received(&mut self, token: Token, result: io::Result<Block>) {
        let Some(socket) = self.sockets.get(token) else { return };
        if let Some((_, result)) = socket.receive.end(result) {
            self.done.push(Completion::Received { token, result, more: false });
        }
    }

    /// Takes what the [`ReadyIo`] has finished meanwhile.
    fn finish(&mut self) {
        while let Some(finished) = self.ready_io.finished() {
            let token = match finished {
                Finished::Received(token, result) => {
                    self.received(token, result);
                    token
                }
                Finished::Sent(token, result) => {
                    self.sent(token, result);
                    token
                }
                Finished::Read(token, result) => {
                    self.done.push(Completion::Read(token, result));
                    token
                }
            };
            self.advance(token);
        }
    }

    /// Takes what was asked for out of a listener's backlog.
    fn take(&mut self, number: usize) {
        while let Some(listening) = self.listeners.get_mut(number).filter(|listening| listening.asked > 0) {
            let taken = accept::take(&mut self.net, &listening.socket);
            match taken {
                Taken::Empty => return,
                // The others that are asked for would fare no better.
                Taken::Exhausted => {
                    let all = mem::take(&mut listening.asked);
                    self.done.extend((0..all).map(|_| Completion::Accepted(number, Taken::Exhausted, None)));
                }
                taken => {
                    give_back(&mut listening.asked, 1);
                    self.done.push(Completion::Accepted(number, taken, None));
                }
            }
        }
    }

    /// Has the poller tell no more of listeners of which no connection is asked.
    fn ignore_unasked(&mut self) {
        for listening in self.listeners.iter_mut().filter(|listening| listening.heard && listening.asked == 0)
        {
            listening.heard = false;
            self.poller.ignore(&listening.socket);
        }
    }
}

impl<N: Net, P: Poller<N>, H: ReadyIo<N>> CompletionQueue for ReadyQueue<N, P, H> {
    type Stream = N::Stream;

    fn classify(error: &io::Error) -> Failure {
        N::classify(error)
    }

    fn now(&self) -> Duration {
        self.net.now()
    }

    fn accept(&mut self, listener: usize) {
        let Some(listening) = self.listeners.get_mut(listener) else { return };
        if !listening.heard && self.poller.listen(&listening.socket, Token::of_listener(listener)).is_err() {
            return self.done.push(Completion::Accepted(listener, Taken::Exhausted, None));
        }
        listening.heard = true;
        listening.asked += 1;
    }

    fn deafen(&mut self, accepts: bool) {
        for (number, listening) in self.listeners.drain(..).enumerate() {
            if listening.heard {
                self.poller.ignore(&listening.socket);
            }
            if !accepts {
                continue;
            }
            let last = accept::last(&mut self.net, &listening.socket);
            self.done.extend(last.into_iter().map(|taken| Completion::Accepted(number, taken, None)));
        }
    }

    fn adopt(&mut self, stream: N::Stream, token: Token) -> io::Result<()> {
        self.register(stream, token, false)
    }

    fn connect(&mut self, address: Address, token: Token) {
        let begun = self.net.connect(&address).and_then(|stream| self.register(stream, token, true));
        match begun {
            Ok(()) => self.advance(token),
            Err(error) => self.done.push(Completion::Connected(token, Err(error))),
        }
    }

    fn receive(&mut self, token: Token, most: usize) {
        match self.sockets.get(token) {
            Some(socket) => socket.receive.asked = Some(most),
            None => {
                let gone = io::ErrorKind::NotConnected.into();
                self.done.push(Completion::Received { token, result: Err(gone), more: false });
            }
        }
        self.advance(token);
    }

    fn send(&mut self, token: Token, lent: Box<Lent>) {
        match self.sockets.get(token) {
            Some(socket) => (socket.send.asked, socket.roomy) = (Some(lent), false),
            None => {
                let gone = io::ErrorKind::NotConnected.into();
                self.done.extend([Completion::Sent(token, Err(gone)), Completion::Released(token, lent)]);
            }
        }
        self.advance(token);
    }

    fn read(&mut self, token: Token, range: Box<FileRange>) {
        if let Progress::Done(result) = self.ready_io.read(token, range) {
            self.done.push(Completion::Read(token, result));
        }
    }

    fn shutdown(&mut self, token: Token) {
        if let Some(socket) = self.sockets.get(token) {
            self.net.shutdown(&socket.stream);
        }
    }

    fn look(&mut self, token: Token) {
        match self.sockets.get(token) {
            Some(socket) => {
                socket.receive.hear(true);
                socket.send.hear(true);
                socket.looks = true;
            }
            None => self.done.push(Completion::Looked(token)),
        }
        self.advance(token);
    }

    fn cancel(&mut self, token: Token) {
        let Some(socket) = self.sockets.get(token) else { return };
        let cancelled = || io::Error::from(io::ErrorKind::Interrupted);
        if mem::take(&mut socket.connecting) {
            self.done.push(Completion::Connected(token, Err(cancelled())));
        }
        let lent = socket.send.cancel();
        if mem::take(&mut socket.full) || lent.is_some() {
            self.done.push(Completion::Sent(token, Err(cancelled())));
        }
        self.done.extend(lent.map(|lent| Completion::Released(token, lent)));
        if socket.receive.cancel().is_some() {
            self.done.push(Completion::Received { token, result: Err(cancelled()), more: false });
        }
    }

    fn close(&mut self, token: Token, reset: bool) {
        if let Some(socket) = self.sockets.remove(token) {
            self.poller.remove(&socket.stream);
            self.net.close(socket.stream, reset);
        }
    }

    fn refuse(&mut self, stream: N::Stream) {
        self.net.close(stream, true);
    }

    fn has_done(&self) -> bool {
        !self.done.is_empty() || !self.waiting.is_empty() && self.blocks.are_left()
    }

    fn wait(&mut self, done: &mut Vec<Completion<N::Stream>>, timeout: Option<Duration>) -> io::Result<()> {
        self.ignore_unasked();
        self.begin_waiting();
        self.finish();
        let timeout = match self.done.is_empty() {
            true => [timeout, self.ready_io.patience()].into_iter().flatten().min(),
            false => Some(Duration::ZERO),
        };
        if timeout != Some(Duration::ZERO) {
            self.blocks.trim();
            self.ready_io.trim();
        }
        let mut ready = mem::take(&mut self.ready);
        let idle = !mem::take(&mut self.moved);
        self.poller.wait(&mut ready, timeout, idle)?;
        for ready in ready.drain(..) {
            if let Some(number) = ready.token.listener() {
                self.take(number);
            } else if let Some(socket) = self.sockets.get(ready.token) {
                socket.receive.hear(ready.readable);
                socket.send.hear(ready.writable);
                self.advance(ready.token);
            }
        }
        self.ready = ready;
        self.finish();
        self.moved = !self.done.is_empty();
        done.append(&mut self.done);
        Ok(())
    }
}
