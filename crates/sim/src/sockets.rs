//! The simulated network as a loop sees it: its sockets and its poller.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use bytes::BytesMut;

use roadstead_drivers::{
    net::{Failure, Net},
    reactor::{Poller, Readiness},
};
use roadstead_proto::{Address, output::Output, ticket::Token};

use crate::{
    fate::End,
    others::Others,
    world::{Clock, World},
};

/// Slices gathered, and bytes of a file offered, per send.
const SLICES: usize = 16;
const FILE_PART: usize = 64 << 10;

/// The world as all its nodes share it. Everything happens in one thread.
pub(crate) type Shared = Rc<RefCell<World>>;

/// The sockets of one node.
pub(super) struct Sockets {
    pub(super) world: Shared,
    pub(crate) clock: Clock,
    pub(super) node: usize,
    pub(crate) others: Others,
}

impl Sockets {
    /// Asks the network, and lets the node's other threads go on before the answer is looked at.
    fn ask<T>(&self, question: impl FnOnce(&mut World) -> T) -> T {
        let answer = question(&mut self.world.borrow_mut());
        self.others.go_on();
        answer
    }
}

/// The poller of one loop.
pub(super) struct Watcher {
    pub(super) world: Shared,
    pub(super) poller: usize,
}

/// A listening socket, closed when dropped.
pub(crate) struct ListenSocket {
    pub(super) world: Shared,
    pub(crate) number: usize,
}

impl Drop for ListenSocket {
    fn drop(&mut self) {
        self.world.borrow_mut().close_listener(self.number);
    }
}

impl Net for Sockets {
    type ListenSocket = ListenSocket;
    type Stream = End;

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn accept(&mut self, listener: &ListenSocket) -> io::Result<(End, Address)> {
        self.ask(|world| world.accept(listener.number))
    }

    fn shed(&mut self, listener: &ListenSocket) -> bool {
        self.ask(|world| world.turn_away(listener.number))
    }

    fn connect(&mut self, address: &Address) -> io::Result<End> {
        self.ask(|world| world.connect(self.node, address))
    }

    fn connected(&mut self, stream: &End) -> io::Result<()> {
        self.ask(|world| world.connected(*stream))
    }

    fn receive(&mut self, stream: &End, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        block.clear();
        block.reserve(most);
        self.ask(|world| world.receive(*stream, block, most))
    }

    fn send(&mut self, stream: &End, output: &Output) -> io::Result<u64> {
        let mut offered = offer(output)?;
        self.ask(|world| world.send(*stream, &mut offered))
    }

    fn shutdown(&mut self, stream: &End) {
        self.ask(|world| world.shutdown(*stream));
    }

    fn close(&mut self, stream: End, reset: bool) {
        self.ask(|world| world.close(stream, reset));
    }
}

/// The bytes that one send would offer to the system.
fn offer(output: &Output) -> io::Result<BytesMut> {
    if let Some(range) = output.front_file() {
        return range.read(FILE_PART);
    }
    let mut slices = [io::IoSlice::new(&[]); SLICES];
    let (count, _) = output.gather(&mut slices);
    let mut offered = BytesMut::new();
    slices[..count].iter().for_each(|slice| offered.extend_from_slice(slice));
    Ok(offered)
}

impl Poller<Sockets> for Watcher {
    fn listen(&mut self, listener: &ListenSocket, token: Token) -> io::Result<()> {
        self.world.borrow_mut().watch_listener(listener.number, self.poller, Some(token));
        Ok(())
    }

    fn ignore(&mut self, listener: &ListenSocket) {
        self.world.borrow_mut().watch_listener(listener.number, self.poller, None);
    }

    fn add(&mut self, stream: &End, token: Token) -> io::Result<()> {
        self.world.borrow_mut().watch(*stream, self.poller, token);
        Ok(())
    }

    fn interest(&mut self, stream: &End, _: Token, receive: bool, send: bool) -> io::Result<()> {
        self.world.borrow_mut().want(*stream, receive, send);
        Ok(())
    }

    fn remove(&mut self, stream: &End) {
        self.world.borrow_mut().unwatch(*stream);
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, _: Option<Duration>, _: bool) -> io::Result<()> {
        // The run lets time pass, and takes a turn only when there is a reason to; so there is nothing to wait for.
        self.world.borrow_mut().wait(self.poller, ready);
        Ok(())
    }
}
