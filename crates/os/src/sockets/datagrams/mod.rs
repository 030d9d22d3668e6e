//! The system's UDP sockets, asked without waiting, for the loop of datagram sockets. udp(7), ip(7).
//!
//! | file | holds |
//! |---|---|
//! | `socket` | a bound socket, and what it is asked to tell |
//! | `receive`, `send` | many datagrams in one call, of which the system may put some together and cut others |
//! | `errors` | of whom the network has said that nobody is there |
//! | `slots`, `name`, `control` | what such calls are made of; no call allocates |
//!
//! How readiness is learnt is any [`Poller`]'s business. The loop remembers what it was told until a call finds
//! otherwise, so a poller that repeats itself is asked for a change only when the loop has to hear of it again.

mod control;
mod errors;
mod name;
mod receive;
mod send;
mod slots;
mod socket;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use rustix::io::Errno;

use roadstead_drivers::{
    datagrams::DatagramNet,
    net::{Failure, Net},
    reactor::{Poller, Readiness},
};
use roadstead_proto::{
    datagrams::{Batch, Outbox},
    ticket::Token,
};

use crate::sockets::Os;
use send::{Sender, Sent};
use slots::Slots;
pub use socket::{Asked, DatagramSocket, bind};

/// The UDP sockets of one loop.
pub struct DatagramSockets<P> {
    net: Os,
    poller: P,
    watched: Vec<Watched>,
    received: Slots,
    sender: Sender,
    errors: Slots,
    /// Something was received or sent since the last wait.
    moved: bool,
}

/// A socket that the poller knows.
struct Watched {
    socket: Rc<DatagramSocket>,
    token: Token,
    /// What the loop has to hear of.
    receive: bool,
    send: bool,
    /// Who was found to be gone while somebody else was sent to.
    gone: Option<SocketAddr>,
}

impl<P: Poller<Os>> DatagramSockets<P> {
    /// None yet. `poller` tells of them.
    pub(crate) fn new(net: Os, poller: P) -> Self {
        Self {
            net,
            poller,
            watched: Vec::new(),
            received: Slots::default(),
            sender: Sender::default(),
            errors: Slots::default(),
            moved: true,
        }
    }

    /// The loop waits for this: it is to be told of it again.
    fn want(&mut self, socket: &Rc<DatagramSocket>, receive: bool, send: bool) -> io::Result<()> {
        let Self { watched, poller, .. } = self;
        let Some(watched) = watched.iter_mut().find(|watched| Rc::ptr_eq(&watched.socket, socket)) else {
            return Ok(());
        };
        watched.receive |= receive;
        watched.send |= send;
        watched.tell(poller)
    }

    /// Looks for what the network has said, if nothing of that is known already. Whether there is something.
    fn hears(&mut self, socket: &Rc<DatagramSocket>) -> bool {
        let Self { watched, errors, .. } = self;
        let Some(watched) = watched.iter_mut().find(|watched| Rc::ptr_eq(&watched.socket, socket)) else {
            return false;
        };
        watched.gone = watched.gone.or_else(|| errors::unreachable(errors, socket));
        watched.gone.is_some()
    }

    /// Whether something was found that the loop has not asked for yet.
    fn knows(&self, socket: &Rc<DatagramSocket>) -> bool {
        let mut watched = self.watched.iter().filter(|watched| Rc::ptr_eq(&watched.socket, socket));
        watched.any(|watched| watched.gone.is_some())
    }

    fn empty(&mut self, socket: &Rc<DatagramSocket>, error: io::Error, receive: bool) -> io::Error {
        self.want(socket, receive, !receive).err().unwrap_or(error)
    }
}

impl Watched {
    fn tell<P: Poller<Os>>(&self, poller: &mut P) -> io::Result<()> {
        poller.interest(&self.socket.fd, self.token, self.receive, self.send)
    }
}

/// Asked again it may work.
fn passing() -> io::Error {
    io::ErrorKind::Interrupted.into()
}

impl<P: Poller<Os>> DatagramNet for DatagramSockets<P> {
    type Socket = Rc<DatagramSocket>;

    fn classify(error: &io::Error) -> Failure {
        match Errno::from_io_error(error) {
            _ if error.kind() == io::ErrorKind::WouldBlock => Failure::Empty,
            _ if error.kind() == io::ErrorKind::Interrupted => Failure::Passing,
            Some(Errno::NOBUFS | Errno::NOMEM) => Failure::NoRoom,
            _ => Failure::Other,
        }
    }

    fn now(&self) -> Duration {
        self.net.now()
    }

    fn watch(&mut self, socket: &Rc<DatagramSocket>, token: Token) -> io::Result<()> {
        self.poller.add(&socket.fd, token)?;
        let socket = Rc::clone(socket);
        self.watched.push(Watched { socket, token, receive: false, send: false, gone: None });
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        let Self { poller, watched, moved, .. } = self;
        poller.wait(ready, timeout, !std::mem::take(moved))?;
        for told in &*ready {
            let Some(watched) = watched.iter_mut().find(|watched| watched.token == told.token) else {
                continue;
            };
            let before = (watched.receive, watched.send);
            watched.receive &= !told.readable;
            watched.send &= !told.writable;
            if (watched.receive, watched.send) != before {
                watched.tell(poller)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, socket: &Rc<DatagramSocket>, batch: &mut Batch) -> io::Result<()> {
        match receive::receive(&mut self.received, socket, batch) {
            Ok(()) => {
                self.moved = true;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.empty(socket, error, true)),
            // Whatever it was: nothing was asked of the network that it could have refused.
            Err(error) if errors::may_be_told(&error) => Err(passing()),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, socket: &Rc<DatagramSocket>, outbox: &Outbox) -> io::Result<usize> {
        if self.knows(socket) {
            return Err(passing());
        }
        // The first to fail may have failed for another. What was told once is not told again: the second has not.
        for _ in 0..2 {
            match self.sender.send(socket, outbox) {
                Err(error) if errors::may_be_told(&error) => {
                    if self.hears(socket) {
                        return Err(passing());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(self.empty(socket, error, false));
                }
                Err(error) => return Err(error),
                Ok(Sent { datagrams, all }) => {
                    self.moved = true;
                    // What has stopped the system was told to nobody. The next call tells it.
                    if !all {
                        self.hears(socket);
                    }
                    return Ok(datagrams);
                }
            }
        }
        Err(io::Error::other(Failure::Other))
    }

    fn unreachable(&mut self, socket: &Rc<DatagramSocket>) -> Option<SocketAddr> {
        let watched = self.watched.iter_mut().find(|watched| Rc::ptr_eq(&watched.socket, socket));
        let known = watched.and_then(|watched| watched.gone.take());
        known.or_else(|| errors::unreachable(&mut self.errors, socket))
    }

    fn close(&mut self, socket: Rc<DatagramSocket>) {
        self.poller.remove(&socket.fd);
        self.watched.retain(|watched| !Rc::ptr_eq(&watched.socket, &socket));
    }
}
