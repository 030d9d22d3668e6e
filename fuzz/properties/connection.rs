//! In any order of events a connection keeps its part of the contract with the loop: one receive and one send in flight,
//! nothing after the close, the right bytes in the right order, and nothing left on the budget.
//!
//! Two little-endian bytes are the length of what the peer sends, which follows; each byte behind that is an event:
//! three bits which, five bits how much.

use std::{collections::VecDeque, io, io::IoSlice, sync::Arc, time::Duration};

use bytes::BytesMut;
use roadstead_proto::{
    Budget, Peer, connection::BLOCK, connection::Connection, connection::Endpoint, connection::Event,
    connection::Op, connection::Operation, host::Host, host::Shared, ticket::Token,
};

use crate::mirror::{BUFFER, Mirror, frames};

pub(crate) fn check(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let (stream, events) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let shared = Shared::new(Budget::default().buffer_each(BUFFER));
    let mut rig = Rig::new(&shared, stream);
    for event in events {
        rig.event(event & 7, usize::from(event >> 3));
    }
    rig.happen(Event::Stop);
    assert!(rig.closed, "stopped, and still open");
    assert!(frames(&rig.delivered).starts_with(&rig.sent), "an answer that was never asked for");
    drop(rig);
    assert_eq!((shared.gate.open(), shared.memory.used(), shared.jobs.used()), (0, 0, 0));
}

/// Plays the loop, and keeps books of what is in flight.
struct Rig {
    connection: Connection<Mirror>,
    host: Host,
    block: BytesMut,
    now: Duration,
    wire: VecDeque<u8>,
    delivered: Vec<u8>,
    sent: Vec<u8>,
    receiving: Option<usize>,
    sending: bool,
    shut: bool,
    closed: bool,
}

impl Rig {
    fn new(shared: &Arc<Shared>, stream: &[u8]) -> Self {
        let host = Host::alone(Arc::clone(shared), 1);
        let permit = shared.gate.admit(None).expect("it is the first connection");
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let mut connection = Connection::accepted(Mirror, peer, Arc::clone(shared), permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        let mut rig = Self {
            connection,
            host,
            block: BytesMut::with_capacity(BLOCK),
            now: Duration::ZERO,
            wire: stream.iter().copied().collect(),
            delivered: Vec::new(),
            sent: Vec::new(),
            receiving: None,
            sending: false,
            shut: false,
            closed: false,
        };
        rig.happen(Event::Opened);
        rig
    }

    fn event(&mut self, which: u8, amount: usize) {
        match which {
            0 | 1 => self.deliver(1 + amount * if which == 0 { 1 } else { 64 }),
            2 | 3 => self.send(1 + amount * if which == 2 { 1 } else { 64 }),
            4 => {
                self.now += Duration::from_secs(amount as u64);
                self.happen(Event::Tick);
            }
            5 => self.end(),
            6 => self.happen(Event::Woken),
            // Rare by their nature: most conversations should come further.
            _ if amount == 0 => self.happen(Event::Drain),
            _ if amount == 1 => self.happen(Event::Failed(io::ErrorKind::ConnectionReset.into())),
            _ if amount == 2 && self.receiving.take().is_some() => {
                self.happen(Event::Exhausted(Operation::Receive));
            }
            _ if amount == 3 && std::mem::take(&mut self.sending) => {
                self.happen(Event::Exhausted(Operation::Send));
            }
            _ => {}
        }
    }

    fn deliver(&mut self, most: usize) {
        let Some(asked) = self.receiving else { return };
        let count = most.min(asked).min(self.wire.len());
        if count > 0 {
            let mut block = std::mem::take(&mut self.block);
            block.clear();
            block.extend(self.wire.drain(..count));
            self.delivered.extend_from_slice(&block);
            self.receiving = None;
            self.happen(Event::Received(&mut block));
            assert!(block.is_empty(), "the block is given back empty");
            self.block = block;
        }
    }

    fn end(&mut self) {
        if self.receiving.take().is_some() {
            self.wire.clear();
            self.happen(Event::Ended);
        }
    }

    fn send(&mut self, most: usize) {
        if !std::mem::take(&mut self.sending) {
            return;
        }
        let mut slices = [IoSlice::new(&[]); 4];
        let (count, _) = self.connection.output().gather(&mut slices);
        let before = self.sent.len();
        for slice in &slices[..count] {
            let room = most - (self.sent.len() - before);
            self.sent.extend_from_slice(&slice[..room.min(slice.len())]);
        }
        let taken = self.sent.len() - before;
        assert!(taken > 0, "there is something to send");
        self.happen(Event::Sent(taken as u64));
    }

    /// Tells the connection and takes all that it wants then, as a loop does.
    fn happen(&mut self, event: Event<'_>) {
        self.connection.handle(self.now, event, &mut self.host);
        self.take_ops();
        self.connection.settle(self.now, &mut self.host);
        self.take_ops();
    }

    fn take_ops(&mut self) {
        while let Some(op) = self.connection.next() {
            assert!(!self.closed, "{op:?} after the close");
            match op {
                Op::Receive(most) => {
                    assert!(most > 0 && self.receiving.replace(most).is_none(), "two receives in flight");
                }
                Op::Send => {
                    assert!(!self.shut, "a send after the end of sending");
                    assert!(!std::mem::replace(&mut self.sending, true), "two sends in flight");
                }
                Op::Shutdown => {
                    assert!(!std::mem::replace(&mut self.shut, true), "sending ends twice");
                    assert!(self.connection.output().is_empty(), "sending ends before all is sent");
                }
                Op::Connect(..) | Op::Redial => panic!("the session opens no connection"),
                Op::Read => panic!("the session sends no file"),
                Op::Close { .. } => {
                    (self.closed, self.receiving, self.sending) = (true, None, false);
                    assert_eq!(self.connection.deadline(), None);
                }
            }
        }
    }
}
