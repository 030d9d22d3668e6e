//! The system's sockets for threads that wait, each for one of them.
//!
//! A call that must not wait says so by a flag. Two calls have no word for what is wanted of them: `recv` for how long
//! it is to wait, and `sendfile` for that it is not to. They go by what was set of the socket, which remembers it here,
//! so that it is not set again for every message.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    io, iter,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    event::{PollFd, PollFlags},
    io::{Errno, ioctl_fionbio},
    net::{RecvFlags, sockopt},
};

use roadstead_drivers::{
    blocking::wait::{Found, WaitingNet, Wants},
    net::{Failure, Net},
};
use roadstead_proto::{address::Address, output::Output, ticket::WakeQueue, tuning::Tuning};

use crate::{sockets::Os, wait::poll, wake_fd::WakeFd};

/// The system's network, for threads that wait.
#[derive(Debug)]
pub struct WaitingOs(Os);

/// A connected socket that a thread may wait in.
#[derive(Debug)]
pub struct WaitingStream {
    socket: OwnedFd,
    /// Calls wait that have no flag against it.
    waits: Cell<bool>,
    /// How long a receive waits at most, if that was set.
    patience: Cell<Option<Duration>>,
}

impl WaitingStream {
    fn new(socket: OwnedFd, waits: bool) -> Self {
        Self { socket, waits: Cell::new(waits), patience: Cell::new(None) }
    }

    fn let_wait(&self, waits: bool) -> io::Result<()> {
        if self.waits.get() != waits {
            ioctl_fionbio(&self.socket, !waits)?;
            self.waits.set(waits);
        }
        Ok(())
    }

    fn receive_within(&self, patience: Duration) -> io::Result<()> {
        if self.patience.replace(Some(patience)) != Some(patience) {
            sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(patience))?;
        }
        Ok(())
    }
}

impl WaitingOs {
    /// For a thread that accepts nothing. `epoch` is the moment that all threads of a server count from.
    pub fn new(epoch: Instant, tuning: Tuning) -> Self {
        Self(Os::blocking(epoch, tuning))
    }
}

impl Net for WaitingOs {
    type ListenSocket = OwnedFd;
    type Stream = WaitingStream;

    fn classify(error: &io::Error) -> Failure {
        Os::classify(error)
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn accept(&mut self, listener: &OwnedFd) -> io::Result<(WaitingStream, Address)> {
        let (socket, address) = self.0.accept(listener)?;
        Ok((WaitingStream::new(socket, true), address))
    }

    fn shed(&mut self, listener: &OwnedFd) -> bool {
        self.0.shed(listener)
    }

    fn connect(&mut self, address: &Address) -> io::Result<WaitingStream> {
        Ok(WaitingStream::new(self.0.connect(address)?, false))
    }

    fn connected(&mut self, stream: &WaitingStream) -> io::Result<()> {
        super::connected(&stream.socket)
    }

    fn receive(&mut self, stream: &WaitingStream, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        super::receive(&stream.socket, block, most, RecvFlags::DONTWAIT)
    }

    fn send(&mut self, stream: &WaitingStream, output: &Output) -> io::Result<u64> {
        if output.front_file().is_some() {
            stream.let_wait(false)?;
        }
        super::send(&stream.socket, output)
    }

    fn shutdown(&mut self, stream: &WaitingStream) {
        super::shutdown(&stream.socket);
    }

    fn close(&mut self, stream: WaitingStream, reset: bool) {
        super::close(stream.socket, reset);
    }
}

impl WaitingNet for WaitingOs {
    type Wakeup = WakeFd;

    fn another(&self) -> Self {
        Self(self.0.another())
    }

    fn accepting(&self) -> Self {
        Self(self.0.accepting())
    }

    fn interrupt(&mut self, wake_queue: &WakeQueue) -> io::Result<WakeFd> {
        WakeFd::new(wake_queue)
    }

    fn alarm(&mut self) -> io::Result<WakeFd> {
        WakeFd::alarm()
    }

    fn ring(&self, alarm: &WakeFd) {
        alarm.ring();
    }

    fn receive_within(
        &mut self,
        stream: &WaitingStream,
        block: &mut BytesMut,
        most: usize,
        patience: Duration,
    ) -> io::Result<usize> {
        stream.let_wait(true)?;
        stream.receive_within(patience)?;
        super::receive(&stream.socket, block, most, RecvFlags::empty())
    }

    fn wait(
        &mut self,
        stream: Option<&WaitingStream>,
        wants: Wants,
        interrupt: Option<&WakeFd>,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Found>> {
        let socket = stream.map(|stream| PollFd::new(&stream.socket, flags(wants)));
        let wakeup = interrupt.map(|interrupt| PollFd::new(interrupt, PollFlags::IN));
        let mut fds: Vec<_> = socket.into_iter().chain(wakeup).collect();
        let polled = poll(&mut fds, timeout);
        let is_still = stream.is_some() && flags(wants).is_empty() && polled == Ok(Some(1));
        if is_still && fds[0].revents() == PollFlags::HUP {
            // Both sides have ended. That is told over and over, whether it was asked for or not: poll(2).
            return self.wait(None, wants, interrupt, timeout);
        }
        if let Some(interrupt) = interrupt.filter(|_| fds.last().is_some_and(|fd| !fd.revents().is_empty())) {
            interrupt.heard();
        }
        match polled {
            Err(Errno::INTR) => Ok(Some(Found::default())),
            Err(error) => Err(error.into()),
            Ok(None) => Ok(None),
            Ok(Some(_)) => Ok(Some(stream.map_or_else(Found::default, |_| found(fds[0].revents())))),
        }
    }

    fn wait_for_any<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a OwnedFd>,
        interrupt: &WakeFd,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let listeners = listeners.map(|listener| PollFd::new(listener, PollFlags::IN));
        let mut fds: Vec<_> = iter::once(PollFd::new(interrupt, PollFlags::IN)).chain(listeners).collect();
        let polled = poll(&mut fds, timeout);
        if !fds[0].revents().is_empty() {
            interrupt.heard();
        }
        match polled {
            Err(error) if error != Errno::INTR => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn broken_by(&mut self, stream: &WaitingStream) -> io::Error {
        match sockopt::socket_error(&stream.socket) {
            Ok(Err(error)) | Err(error) => error.into(),
            Ok(Ok(())) => Errno::CONNRESET.into(),
        }
    }
}

/// What a poll is to tell of a socket.
fn flags(wants: Wants) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, wants.receive);
    flags.set(PollFlags::OUT, wants.send);
    flags
}

/// What it has told.
fn found(came: PollFlags) -> Found {
    Found {
        any: !came.is_empty(),
        readable: came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        broken: came.contains(PollFlags::ERR),
    }
}
