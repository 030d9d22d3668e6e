//! One connection of the proactor's loop: what is in flight for it, and how what it asks for is submitted.
#![forbid(unsafe_code)]

use std::{io, mem, time::Duration};

use roadstead_proto::{
    connection::{Driven, Endpoint, Event, Op, Outgoing},
    host::Host,
    ticket::Token,
};

use super::{
    blocks::Block,
    completions::CompletionQueue,
    in_flight::{InFlight, Sending},
    incoming::{Incoming, News},
    sends::{Lines, Place, Sends, pages, part, weight},
};
use crate::connections::Timed;

/// How much of its output a connection lends at once: what was sent, and what is being sent.
const LOANS: usize = 2;

/// One connection of the loop: what is in flight for it, and what it is to hear or do once that has come back.
pub(crate) struct LoopConnection {
    pub(crate) endpoint: Driven,
    pub(crate) in_flight: InFlight,
    pub(super) incoming: Incoming,
    /// How many sends there were whose output has not come home.
    pub(super) lent: usize,
    /// Where its send, or what it has to read for one, waits for others.
    pub(crate) waits: Option<Place>,
    /// It is a read that waits.
    pub(super) reads: bool,
    /// Its send waits for what was lent before to come home.
    pub(super) resumes: bool,
    /// Its deadline had passed at this time; it hears so once the completion queue was asked whether anything had come.
    pub(super) overdue: Option<Duration>,
    /// The server drains; it hears so once the completion queue was asked whether anything had come.
    pub(crate) drains: bool,
    /// There is a socket to close. A session without a connection has none.
    pub(crate) socket: bool,
    /// It wants to be closed once nothing is in flight; whether with a reset.
    pub(super) closing: Option<bool>,
}

impl LoopConnection {
    pub(crate) fn new(endpoint: Box<dyn Endpoint>, socket: bool) -> Self {
        Self {
            endpoint: Driven::new(endpoint),
            in_flight: InFlight::default(),
            incoming: Incoming::default(),
            lent: 0,
            waits: None,
            reads: false,
            resumes: false,
            overdue: None,
            drains: false,
            socket,
            closing: None,
        }
    }
}

impl LoopConnection {
    /// Something came: the connection hears of as much as it has asked for, and the rest is kept for it.
    pub(super) fn receive(&mut self, mut block: Block, now: Duration, host: &mut Host) {
        let Some(most) = self.incoming.take_asked() else { return self.keep(&block, now, host) };
        let rest = (block.len() > most).then(|| block.split_off(most));
        self.endpoint.handle(now, Event::Received(&mut block), host);
        if let Some(rest) = rest {
            self.keep(&rest, now, host);
        }
    }

    /// Keeps what came before it was asked for.
    pub(super) fn keep(&mut self, bytes: &[u8], now: Duration, host: &mut Host) {
        if !self.incoming.keep(bytes, &host.shared.memory) {
            self.endpoint.handle(now, Event::Failed(host.shared.memory.exceeded()), host);
        }
    }

    /// Nothing comes any more: the peer has ended, or this is why.
    pub(super) fn receive_last(&mut self, last: io::Result<()>, now: Duration, host: &mut Host) {
        if self.incoming.take_asked().is_some() {
            self.endpoint.handle(now, told(last), host);
        } else if !self.incoming.keep_last(last, &host.shared.memory) {
            self.endpoint.handle(now, Event::Failed(host.shared.memory.exceeded()), host);
        }
    }

    /// Lets the connection hear of what it has asked for and came before. False if there is nothing like that.
    pub(super) fn hear_early(&mut self, now: Duration, host: &mut Host) -> bool {
        let Some(news) = self.incoming.next() else { return false };
        match news {
            News::Bytes(mut bytes) => self.endpoint.handle(now, Event::Received(&mut bytes), host),
            News::Last(last) => self.endpoint.handle(now, told(last), host),
        }
        true
    }
}

fn told(last: io::Result<()>) -> Event<'static> {
    last.map_or_else(Event::Failed, |()| Event::Ended)
}

impl Timed for LoopConnection {
    fn deadline(&self) -> Option<Duration> {
        self.endpoint.deadline().filter(|_| self.closing.is_none() && self.overdue.is_none())
    }

    fn correct(&mut self, from: Duration, to: Duration) {
        self.endpoint.correct(from, to);
    }
}

/// Takes the operations a connection asks for. `Some` when it asks to be closed.
pub(crate) fn submit<P: CompletionQueue>(
    connection: &mut LoopConnection,
    token: Token,
    completions: &mut P,
    lines: &mut Lines,
    connects: &mut Vec<Outgoing>,
) -> Option<bool> {
    while let Some(op) = connection.endpoint.next() {
        match op {
            Op::Connect(outgoing) => connects.push(*outgoing),
            Op::Redial => {
                connection.in_flight.connect = true;
                completions.connect(connection.endpoint.address().clone(), token);
            }
            Op::Close { reset } => return Some(reset),
            // A session without a connection hears nothing, and has nobody to finish with.
            Op::Shutdown if !connection.socket => return Some(false),
            _ if !connection.socket => {}
            Op::Receive(most) => {
                if connection.incoming.ask(most) && connection.in_flight.receive.is_none() {
                    connection.in_flight.receive = Some(most);
                    completions.receive(token, most);
                }
            }
            Op::Send => begin_send(connection, token, completions, &mut lines.sends),
            Op::Read => begin_read(connection, token, completions, &mut lines.reads),
            Op::Shutdown => completions.shutdown(token),
        }
    }
    None
}

/// Begins a send, or has it wait: for what was lent to come home, or for others.
pub(super) fn begin_send<P: CompletionQueue>(
    connection: &mut LoopConnection,
    token: Token,
    completions: &mut P,
    sends: &mut Sends,
) {
    connection.resumes = connection.endpoint.output().is_lent() || connection.lent >= LOANS;
    if connection.resumes {
        return;
    }
    let pages = connection.waits_for();
    match sends.begin(token, pages) {
        Ok(()) => send(connection, token, completions, sends, pages),
        Err(place) => connection.waits = Some(place),
    }
}

/// Begins to read a part of a file, or has that wait for others.
fn begin_read<P: CompletionQueue>(
    connection: &mut LoopConnection,
    token: Token,
    completions: &mut P,
    reads: &mut Sends,
) {
    connection.reads = true;
    let pages = connection.waits_for();
    match reads.begin(token, pages) {
        Ok(()) => connection.begin_waiting(token, completions, reads, pages),
        Err(place) => connection.waits = Some(place),
    }
}

impl LoopConnection {
    /// How many pages its read, or its send, takes.
    pub(super) fn waits_for(&self) -> usize {
        match self.endpoint.file().filter(|_| self.reads) {
            Some(range) => pages(part(&range)),
            None => pages(weight(self.endpoint.output())),
        }
    }

    /// Begins its read, or its send, which pins so many pages.
    pub(super) fn begin_waiting<P: CompletionQueue>(
        &mut self,
        token: Token,
        completions: &mut P,
        line: &mut Sends,
        pages: usize,
    ) {
        self.waits = None;
        match self.endpoint.file().filter(|_| mem::take(&mut self.reads)) {
            Some(range) => {
                self.in_flight.read = Some(pages);
                completions.read(token, Box::new(range));
            }
            None => send(self, token, completions, line, pages),
        }
    }
}

/// Begins a send that pins so many pages.
fn send<P: CompletionQueue>(
    connection: &mut LoopConnection,
    token: Token,
    completions: &mut P,
    sends: &mut Sends,
    pages: usize,
) {
    connection.in_flight.send = Sending::Works;
    connection.lent += 1;
    completions.send(token, sends.lend(&mut connection.endpoint, pages));
}
