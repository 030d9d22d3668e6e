//! A connection's layer beside a list of its records: what is said to have been sent and to have come is what whole
//! records have carried, wherever the wire cuts them, and the end comes behind all.

use std::{
    io::{self, IoSlice},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use proptest::{collection::vec, prelude::*};

use super::{End, Identity, Layer, layered::Layered};
use crate::{
    address::Address,
    budget::Budget,
    connection::{BLOCK, Endpoint, Event, Op, Pending},
    host::{Host, Shared},
    output::{Lent, Output},
    ticket::{Token, WakeQueue},
};

/// A record: how long it is and how long its padding, then both. One without a length is the end.
const HEAD: usize = 6;

fn record(plain: &[u8], padding: u16) -> Vec<u8> {
    let head = [&(plain.len() as u32).to_le_bytes()[..], &padding.to_le_bytes()[..]].concat();
    [head, plain.to_vec(), vec![0; padding.into()]].concat()
}

/// Takes one whole record from the front, if there is one.
fn parse(wire: &mut BytesMut) -> Option<BytesMut> {
    let (length, padding) = wire.get(..HEAD).map(|head| head.split_at(4))?;
    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
    let padding = usize::from(u16::from_le_bytes(padding.try_into().unwrap()));
    if wire.len() < HEAD + length + padding {
        return None;
    }
    wire.advance(HEAD);
    let plain = wire.split_to(length);
    wire.advance(padding);
    Some(plain)
}

/// What the layer and the connection inside have said and heard.
#[derive(Debug, Default)]
struct Seen {
    /// The records that were sealed: bytes of the connection's, and on the wire.
    sealed: Vec<(usize, usize)>,
    /// What the connection is to write, to ask for, and whether that was all.
    write: Vec<u8>,
    wants: usize,
    finishes: bool,
    /// What it was told of.
    sent: u64,
    read: Vec<u8>,
    ended: bool,
    failed: Option<String>,
}

type Shown = Arc<Mutex<Seen>>;

#[derive(Debug)]
struct Padded {
    padding: u16,
    ended: bool,
    seen: Shown,
}

impl Layer for Padded {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, _: &mut BytesMut) -> io::Result<()> {
        while let Some(more) = parse(wire) {
            self.ended |= more.is_empty();
            plain.extend_from_slice(&more);
        }
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        let record = record(plain, self.padding);
        self.seen.lock().unwrap().sealed.push((plain.len(), record.len()));
        wire.extend_from_slice(&record);
        Ok(())
    }

    fn finish(&mut self, _: &mut [u8], wire: &mut BytesMut) {
        wire.extend_from_slice(&record(&[], 0));
    }

    fn is_open(&self) -> bool {
        true
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn identity(&self) -> Option<Identity> {
        None
    }
}

/// Stands for the connection inside.
#[derive(Debug)]
struct Inner {
    address: Address,
    output: Output,
    sending: bool,
    seen: Shown,
}

impl Endpoint for Inner {
    fn place(&mut self, _: Token, _: &Arc<WakeQueue>, _: Duration) {}

    fn handle(&mut self, _: Duration, event: Event<'_>, _: &mut Host) -> Pending {
        let mut seen = self.seen.lock().unwrap();
        match event {
            Event::Woken => self.output.write(&mem::take(&mut seen.write)),
            Event::Sent(count) => {
                self.sending = false;
                seen.sent += count;
                self.output.advance(count);
            }
            Event::Received(block) => {
                assert!(!seen.ended, "bytes behind the end");
                seen.read.extend_from_slice(block);
            }
            Event::Ended => assert!(!mem::replace(&mut seen.ended, true), "the end is told twice"),
            Event::Failed(error) => seen.failed = Some(error.to_string()),
            _ => {}
        }
        Pending::ANY
    }

    fn address(&self) -> &Address {
        &self.address
    }

    fn next(&mut self) -> Option<Op> {
        let mut seen = self.seen.lock().unwrap();
        if seen.wants > 0 {
            return Some(Op::Receive(mem::take(&mut seen.wants)));
        }
        if !self.sending && !self.output.is_empty() {
            self.sending = true;
            return Some(Op::Send);
        }
        (self.output.is_empty() && mem::take(&mut seen.finishes)).then_some(Op::Shutdown)
    }

    fn correct(&mut self, _: Duration, _: Duration) {}

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn output(&self) -> &Output {
        &self.output
    }

    fn lend(&mut self, _: &mut Lent) {}
    fn take_back(&mut self, _: &mut Lent) {}

    fn settle(&mut self, _: Duration, _: &mut Host) -> Pending {
        Pending::ANY
    }

    fn is_quiet(&self) -> bool {
        false
    }

    fn awaits_end(&self) -> bool {
        false
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Want(usize),
    Finish,
    /// The peer takes so many bytes of the wire.
    Take(usize),
    /// It sends a record, and its end behind the last.
    Record(usize),
    End,
    /// So many bytes of the wire arrive.
    Deliver(usize),
}

struct Rig {
    endpoint: Layered,
    host: Host,
    seen: Shown,
    padding: u16,
    receiving: bool,
    sending: bool,
    finishes: bool,
    shut: bool,
    written: Vec<u8>,
    taken: BytesMut,
    /// What the peer has said, what of that is on its way, and what has arrived.
    said: Vec<u8>,
    ends: bool,
    wire: BytesMut,
    arrived: BytesMut,
    came: usize,
    end_came: bool,
    /// What is to have been read, and what is waited for.
    read: usize,
    wants: usize,
    end_told: bool,
}

impl Rig {
    fn new(padding: u16) -> Self {
        let (shared, seen) = (Shared::new(Budget::default()), Shown::default());
        let address = ([192, 0, 2, 1], 7).into();
        let inner =
            Inner { address, output: Output::new(usize::MAX), sending: false, seen: Arc::clone(&seen) };
        let layer = Padded { padding, ended: false, seen: Arc::clone(&seen) };
        let end = End::Accepted(([192, 0, 2, 1], 7).into());
        let endpoint = Layered::new(Box::new(inner), Box::new(layer), end, Arc::clone(&shared));
        let mut rig = Self {
            endpoint,
            host: Host::alone(shared, 1),
            seen,
            padding,
            receiving: false,
            sending: false,
            finishes: false,
            shut: false,
            written: Vec::new(),
            taken: BytesMut::new(),
            said: Vec::new(),
            ends: false,
            wire: BytesMut::new(),
            arrived: BytesMut::new(),
            came: 0,
            end_came: false,
            read: 0,
            wants: 0,
            end_told: false,
        };
        rig.happen(Event::Opened);
        rig
    }

    fn happen(&mut self, event: Event<'_>) {
        self.endpoint.handle(Duration::ZERO, event, &mut self.host);
        while let Some(op) = self.endpoint.next() {
            match op {
                Op::Receive(_) => assert!(!mem::replace(&mut self.receiving, true)),
                Op::Send => assert!(!self.shut && !mem::replace(&mut self.sending, true)),
                Op::Read => panic!("there is no file"),
                Op::Shutdown => self.shut = true,
                op => panic!("{op:?}"),
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write(count) if !self.finishes => {
                let more: Vec<u8> = (0..count).map(|at| (self.written.len() + at) as u8).collect();
                self.written.extend_from_slice(&more);
                self.seen.lock().unwrap().write = more;
                self.happen(Event::Woken);
            }
            Step::Want(count) if self.wants == 0 && !self.end_told => {
                self.wants = count;
                self.seen.lock().unwrap().wants = count;
                self.happen(Event::Woken);
            }
            Step::Finish if !mem::replace(&mut self.finishes, true) => {
                self.seen.lock().unwrap().finishes = true;
                self.happen(Event::Woken);
            }
            Step::Take(most) if self.sending => {
                let mut slices = [IoSlice::new(&[]); 16];
                let (count, _) = self.endpoint.output().gather(&mut slices);
                let front =
                    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
                let count = most.min(front.len());
                self.taken.extend_from_slice(&front[..count]);
                self.sending = false;
                self.happen(Event::Sent(count as u64));
            }
            Step::Record(count) if !self.ends => {
                let plain: Vec<u8> = (0..count).map(|at| (self.said.len() + at) as u8).collect();
                self.said.extend_from_slice(&plain);
                self.wire.extend_from_slice(&record(&plain, self.padding));
            }
            Step::End if !mem::replace(&mut self.ends, true) => self.wire.extend_from_slice(&record(&[], 0)),
            Step::Deliver(most) if self.receiving && !self.wire.is_empty() => {
                let mut block = self.wire.split_to(most.min(self.wire.len()));
                self.arrived.extend_from_slice(&block);
                self.receiving = false;
                self.happen(Event::Received(&mut block));
            }
            _ => {}
        }
    }

    fn compare(&mut self) {
        while let Some(plain) = parse(&mut self.arrived) {
            self.came += plain.len();
            self.end_came |= plain.is_empty();
        }
        if self.wants > 0 && self.read < self.came {
            self.read += mem::take(&mut self.wants).min(self.came - self.read);
        } else if self.wants > 0 && self.end_came {
            (self.wants, self.end_told) = (0, true);
        }
        let (seen, mut left) = (self.seen.lock().unwrap(), self.taken.len());
        assert_eq!((&seen.read[..], seen.ended), (&self.said[..self.read], self.end_told));
        // The last byte of a record's is sent when all of the record is.
        let sent = |&(plain, wire): &(usize, usize)| {
            let taken = left.min(wire);
            left -= taken;
            if taken == wire { plain } else { taken.min(plain - 1) }
        };
        assert_eq!(seen.sent as usize, seen.sealed.iter().map(sent).sum::<usize>());
        assert_eq!(seen.failed, None);
        let mut taken = self.taken.clone();
        let records: Vec<_> = std::iter::from_fn(|| parse(&mut taken)).collect();
        assert!(self.written.starts_with(&records.concat()), "the peer reads what was written");
        if self.shut {
            assert!(
                taken.is_empty() && records.last().is_some_and(|last| last.is_empty()),
                "the end goes first"
            );
            assert_eq!(records.concat().len(), self.written.len());
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop_oneof![4 => 1..40_usize, 2 => 1..3000_usize, 1 => 60_000..70_000_usize];
    prop_oneof![
        4 => some().prop_map(Step::Write),
        6 => some().prop_map(Step::Want),
        1 => Just(Step::Finish),
        8 => prop_oneof![0..12_usize, some()].prop_map(Step::Take),
        4 => prop_oneof![1..40_usize, 1..3000_usize].prop_map(Step::Record),
        1 => Just(Step::End),
        8 => prop_oneof![1..12_usize, some()].prop_map(Step::Deliver),
    ]
}

proptest! {
    #[test]
    fn what_a_layer_carries_is_sent_and_has_come_when_whole_records_have(
        padding in prop_oneof![0..3_u16, 0..300_u16],
        steps in vec(step(), 0..80),
    ) {
        let mut rig = Rig::new(padding);
        for step in &steps {
            rig.step(step);
            rig.compare();
        }
    }
}

#[test]
fn a_record_may_be_held_that_is_as_long_as_the_room_and_none_that_is_longer() {
    const ROOM: usize = 80 << 10;
    for (length, fails) in [(ROOM - 1, false), (ROOM, false), (ROOM + 1, true)] {
        let mut rig = Rig::new(0);
        rig.step(&Step::Want(1));
        let record = record(&vec![7; length - HEAD + 1], 0);
        for part in record[..length].chunks(BLOCK) {
            assert!(mem::take(&mut rig.receiving));
            rig.happen(Event::Received(&mut BytesMut::from(part)));
        }
        assert_eq!(rig.shut, fails, "{length} bytes of a record that has one more");
    }
}
