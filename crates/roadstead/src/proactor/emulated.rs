//! `emulated`: a reactor that does the I/O on the loop's behalf and hands over what is done.
//!
//! The reference for the other ports: the same promises, made with nothing but readiness. It stands on any network and
//! any poller, so the simulator drives the proactor's loop through it.
#![forbid(unsafe_code)]

use std::{collections::HashMap, io, mem, net::SocketAddr, time::Duration};

use bytes::BytesMut;

use super::{Completion, Port};
use crate::{
    accept::{self, Taken},
    net::Net,
    output::Output,
    reactor::{Poller, Readiness},
    ticket::Token,
};

/// Listeners are named from here on; connections far below.
const LISTENERS: u64 = u64::MAX - 1024;
/// Blocks that are kept for the next receive.
const FREE: usize = 16;

/// The port: sockets, what is asked of each, and what is known of its readiness.
pub(crate) struct Emulated<N: Net, P: Poller<N>> {
    net: N,
    poller: P,
    listeners: Vec<Ear<N::Listener>>,
    sockets: HashMap<Token, Socket<N::Stream>>,
    ready: Vec<Readiness>,
    done: Vec<Completion<N::Stream>>,
    free: Vec<BytesMut>,
    moved: bool,
}

/// A listener, and how many connections are asked of it.
struct Ear<L> {
    listener: L,
    asked: usize,
    /// The poller tells of its backlog.
    heard: bool,
}

struct Socket<S> {
    stream: S,
    connecting: bool,
    receive: Option<usize>,
    send: Option<Output>,
    readable: bool,
    writable: bool,
    /// The interest that the poller knows of.
    told: (bool, bool),
}

impl<N: Net, P: Poller<N>> Emulated<N, P> {
    pub(crate) fn new(net: N, poller: P, listeners: Vec<N::Listener>) -> Self {
        let listeners = listeners.into_iter().map(|listener| Ear { listener, asked: 0, heard: false });
        Self {
            net,
            poller,
            listeners: listeners.collect(),
            sockets: HashMap::new(),
            ready: Vec::new(),
            done: Vec::new(),
            free: Vec::new(),
            moved: true,
        }
    }

    /// Registers a stream under its name.
    fn register(&mut self, stream: N::Stream, token: Token, connecting: bool) -> io::Result<()> {
        self.poller.add(&stream, token)?;
        let socket = Socket {
            stream,
            connecting,
            receive: None,
            send: None,
            readable: false,
            // A fresh socket has room; if it has not, the first send says so.
            writable: !connecting,
            told: (false, false),
        };
        self.sockets.insert(token, socket);
        Ok(())
    }

    /// Does what can be done for a connection, and tells the poller what else is wanted.
    fn advance(&mut self, token: Token) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        if socket.connecting && socket.writable {
            match self.net.connected(&socket.stream) {
                Err(error) if would_block(&error) => socket.writable = false,
                result => {
                    socket.connecting = false;
                    self.done.push(Completion::Connected(token, result));
                }
            }
        }
        if let Some(output) = socket.send.as_ref().filter(|_| socket.writable && !socket.connecting) {
            match whole(|| self.net.send(&socket.stream, output)) {
                Err(error) if would_block(&error) => socket.writable = false,
                result => {
                    socket.send = None;
                    self.done.push(Completion::Sent(token, result));
                }
            }
        }
        if let Some(most) = socket.receive.filter(|_| socket.readable && !socket.connecting) {
            let mut block = self.free.pop().unwrap_or_default();
            match whole(|| self.net.receive(&socket.stream, &mut block, most)) {
                Err(error) if would_block(&error) => {
                    socket.readable = false;
                    self.free.push(block);
                }
                result => {
                    socket.receive = None;
                    self.done.push(Completion::Received(token, block, result));
                }
            }
        }
        let wanted = (socket.receive.is_some(), socket.send.is_some() || socket.connecting);
        if wanted != socket.told {
            socket.told = wanted;
            if let Err(error) = self.poller.interest(&socket.stream, token, wanted.0, wanted.1) {
                self.fail(token, &error);
            }
        }
    }

    /// Completes whatever is in flight for a connection with an error.
    fn fail(&mut self, token: Token, error: &io::Error) {
        let Some(socket) = self.sockets.get_mut(&token) else { return };
        let again = || io::Error::new(error.kind(), error.to_string());
        if mem::take(&mut socket.connecting) {
            self.done.push(Completion::Connected(token, Err(again())));
        }
        if socket.send.take().is_some() {
            self.done.push(Completion::Sent(token, Err(again())));
        }
        if socket.receive.take().is_some() {
            self.done.push(Completion::Received(token, BytesMut::new(), Err(again())));
        }
    }

    /// Takes what was asked for out of a listener's backlog.
    fn take(&mut self, number: usize) {
        while let Some(ear) = self.listeners.get_mut(number).filter(|ear| ear.asked > 0) {
            let taken = accept::take(&mut self.net, &ear.listener);
            if matches!(taken, Taken::Empty) {
                return;
            }
            ear.asked -= 1;
            self.done.push(Completion::Accepted(number, taken));
        }
    }

    /// Has the poller tell no more of listeners of which no connection is asked.
    fn ignore_unasked(&mut self) {
        for ear in self.listeners.iter_mut().filter(|ear| ear.heard && ear.asked == 0) {
            ear.heard = false;
            self.poller.ignore(&ear.listener);
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Makes a call again for as long as a signal interrupts it.
fn whole<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl<N: Net, P: Poller<N>> Port for Emulated<N, P> {
    type Stream = N::Stream;

    fn now(&self) -> Duration {
        self.net.now()
    }

    fn accept(&mut self, listener: usize) {
        let Some(ear) = self.listeners.get_mut(listener) else { return };
        if !ear.heard && self.poller.listen(&ear.listener, Token(LISTENERS + listener as u64)).is_err() {
            return self.done.push(Completion::Accepted(listener, Taken::Exhausted));
        }
        ear.heard = true;
        ear.asked += 1;
    }

    fn deafen(&mut self) {
        for ear in self.listeners.drain(..).filter(|ear| ear.heard) {
            self.poller.ignore(&ear.listener);
        }
    }

    fn adopt(&mut self, stream: N::Stream, token: Token) -> io::Result<()> {
        self.register(stream, token, false)
    }

    fn connect(&mut self, address: SocketAddr, token: Token) {
        let begun = self.net.connect(address).and_then(|stream| self.register(stream, token, true));
        match begun {
            Ok(()) => self.advance(token),
            Err(error) => self.done.push(Completion::Connected(token, Err(error))),
        }
    }

    fn receive(&mut self, token: Token, most: usize) {
        match self.sockets.get_mut(&token) {
            Some(socket) => socket.receive = Some(most),
            None => {
                let gone = io::ErrorKind::NotConnected.into();
                self.done.push(Completion::Received(token, BytesMut::new(), Err(gone)));
            }
        }
        self.advance(token);
    }

    fn send(&mut self, token: Token, output: Output) {
        match self.sockets.get_mut(&token) {
            Some(socket) => socket.send = Some(output),
            None => self.done.push(Completion::Sent(token, Err(io::ErrorKind::NotConnected.into()))),
        }
        self.advance(token);
    }

    fn shutdown(&mut self, token: Token) {
        if let Some(socket) = self.sockets.get(&token) {
            self.net.shutdown(&socket.stream);
        }
    }

    fn cancel(&mut self, token: Token) {
        self.fail(token, &io::ErrorKind::Interrupted.into());
    }

    fn close(&mut self, token: Token, reset: bool) {
        if let Some(socket) = self.sockets.remove(&token) {
            self.poller.remove(&socket.stream);
            self.net.close(socket.stream, reset);
        }
    }

    fn refuse(&mut self, stream: N::Stream) {
        self.net.close(stream, true);
    }

    fn recycle(&mut self, block: BytesMut) {
        if self.free.len() < FREE && block.capacity() > 0 {
            self.free.push(block);
        }
    }

    fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    fn wait(&mut self, done: &mut Vec<Completion<N::Stream>>, timeout: Option<Duration>) -> io::Result<()> {
        self.ignore_unasked();
        let timeout = if self.done.is_empty() { timeout } else { Some(Duration::ZERO) };
        let mut ready = mem::take(&mut self.ready);
        let idle = !mem::take(&mut self.moved);
        self.poller.wait(&mut ready, timeout, idle)?;
        for ready in ready.drain(..) {
            if ready.token.0 >= LISTENERS {
                self.take((ready.token.0 - LISTENERS) as usize);
            } else if let Some(socket) = self.sockets.get_mut(&ready.token) {
                socket.readable |= ready.readable;
                socket.writable |= ready.writable;
                self.advance(ready.token);
            }
        }
        self.ready = ready;
        self.moved = !self.done.is_empty();
        done.append(&mut self.done);
        Ok(())
    }
}
