//! A completion queue that brings what comes in parts or before it is asked for, sends in parts, and is slow to give
//! back what it was lent: to a session it is all the same.

use std::{collections::VecDeque, io::IoSlice, rc::Rc};

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*};

use roadstead_proto::{
    blob::Blob,
    layer::{Identity, Layer, Layers},
};

use super::*;
use crate::proactor::blocks::Blocks;

/// Sends back what it is sent, as long as it is told to.
struct Echo;

impl Service for Echo {
    type Session = Echo;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Echo {
        Echo
    }
}

impl Session for Echo {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }
}

/// As much as the connection may buffer; it is not read from while a quarter of that waits to be sent.
const EACH: usize = 4096;

struct Rig {
    proactor: Proactor<Obedient>,
    blocks: Rc<Blocks>,
    token: Token,
    /// What of the last receive has not come.
    credit: Option<usize>,
    asked: usize,
    /// What is being sent, and what was and has not come home.
    sends: Option<Box<Lent>>,
    full: bool,
    late: VecDeque<Box<Lent>>,
    /// What the connection has sent.
    sent: Vec<u8>,
}

impl Rig {
    /// A connection that comes with these bytes.
    fn new(first: &[u8], budget: Budget) -> Self {
        Self::of(Echo, first, budget)
    }

    fn of(service: impl Service, first: &[u8], budget: Budget) -> Self {
        let shared = Shared::new(budget.buffer_each(EACH));
        let open = accept::opener(Arc::new(service), Arc::clone(&shared), None);
        let host = Host::alone(shared, 1);
        let mut rig = Self {
            proactor: Proactor::new(Obedient::default(), host, Arc::default(), vec![open]),
            blocks: Blocks::new(),
            token: Token(0),
            credit: None,
            asked: 0,
            sends: None,
            full: false,
            late: VecDeque::new(),
            sent: Vec::new(),
        };
        let first = (!first.is_empty()).then(|| rig.block(first));
        rig.happen([Completion::Accepted(0, Taken::One((), guest()), first)]);
        rig
    }

    fn block(&self, bytes: &[u8]) -> Block {
        let mut block = self.blocks.lend(bytes.len()).unwrap();
        block.extend_from_slice(bytes);
        block
    }

    fn happen(&mut self, done: impl IntoIterator<Item = Completion<()>>) {
        self.proactor.happen(done);
        let completions = &mut self.proactor.completions;
        self.token = completions.named[0];
        if let Some(&(_, credit)) = completions.receives.get(self.asked) {
            assert!(self.credit.is_none(), "one receive at a time");
            (self.credit, self.asked) = (Some(credit), self.asked + 1);
        }
        assert_eq!(completions.receives.len(), self.asked);
        if let Some(lent) = completions.lent.remove(&self.token) {
            assert!(self.sends.is_none() && !self.full, "one send at a time");
            self.sends = Some(lent);
        }
    }

    /// So many of `bytes` come, if so many were asked for. Answers how many came.
    fn bring(&mut self, bytes: &[u8], more: bool) -> usize {
        let Some(credit) = self.credit.take() else { return 0 };
        let count = bytes.len().min(credit);
        self.credit = (more && count < credit).then(|| credit - count);
        let result = Ok(self.block(&bytes[..count]));
        self.happen([Completion::Received { token: self.token, result, more: self.credit.is_some() }]);
        assert_eq!(self.blocks.lent(), 0, "nobody holds a block longer than a turn");
        count
    }

    /// So many bytes leave, if so many are lent.
    fn leave(&mut self, count: usize) {
        let Some(lent) = self.sends.take() else { return };
        let mut slices = [IoSlice::new(&[]); 16];
        let (filled, _) = lent.gather(&mut slices);
        let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        let count = count.min(all.len());
        self.sent.extend_from_slice(&all[..count]);
        self.late.push_back(lent);
        self.happen([Completion::Sent(self.token, Ok(count as u64))]);
    }

    fn come_home(&mut self, which: usize) {
        if let Some(lent) = self.late.remove(which % self.late.len().max(1)) {
            self.happen([Completion::Released(self.token, lent)]);
        }
    }

    /// The peer has no room, or has it again.
    fn wait_for_room(&mut self) {
        if mem::take(&mut self.full) {
            self.happen([Completion::Room(self.token)]);
        } else if let Some(lent) = self.sends.take() {
            self.full = true;
            self.happen([Completion::Full(self.token), Completion::Released(self.token, lent)]);
        }
    }

    fn used(&self) -> usize {
        self.proactor.state.host.shared.memory.used()
    }
}

#[test]
fn what_comes_with_a_connection_is_its_first_and_more_is_asked_for_behind_it() {
    let mut rig = Rig::new(b"first", Budget::default());
    assert_eq!(rig.asked, 1);
    assert_eq!(rig.bring(b", then the next", false), 15);
    rig.leave(usize::MAX);
    rig.come_home(0);
    rig.leave(usize::MAX);
    rig.come_home(0);
    assert_eq!(rig.sent, b"first, then the next");
    assert_eq!(rig.used(), 0, "nothing is kept");
}

#[test]
fn no_more_is_lent_at_once_than_what_was_sent_and_what_is_being_sent() {
    let mut rig = Rig::new(&[], Budget::default());
    for lent in 1..=3 {
        assert_eq!(rig.bring(&[lent; 100], false), 100);
        assert_eq!(rig.sends.is_some(), lent < 3);
        rig.leave(usize::MAX);
    }
    rig.come_home(0);
    rig.leave(usize::MAX);
    assert_eq!(rig.sent, [[1; 100], [2; 100], [3; 100]].concat());
}

#[test]
fn an_end_that_comes_with_a_connection_is_heard_when_it_is_opened() {
    let mut rig = Rig::new(&[], Budget::default());
    let end = rig.block(&[]);
    rig.proactor.happen([Completion::Accepted(0, Taken::One((), guest()), Some(end))]);
    let &[_, token] = &rig.proactor.completions.named[..] else { panic!("two have come") };
    assert_eq!(rig.proactor.completions.closed, [token], "it has nothing to say");
}

#[test]
fn parts_that_come_before_they_are_asked_for_are_charged_and_heard_in_order_and_the_end_is_last() {
    let mut rig = Rig::new(&[], Budget::default());
    let more = [&vec![1; EACH / 2][..], &[2; 100], &[3; 100]];
    assert_eq!(rig.bring(more[0], true), EACH / 2);
    // It has more to say than it may, and asks for nothing.
    let used = rig.used();
    for part in &more[1..] {
        assert_eq!(rig.bring(part, true), 100);
    }
    assert!(rig.used() >= used + 200, "what is kept is charged");
    let token = rig.token;
    rig.credit = None;
    let end = Ok(rig.block(&[]));
    rig.happen([Completion::Received { token, result: end, more: false }]);
    assert_eq!(rig.proactor.completions.closed, [], "it has not heard of the end yet");
    while rig.sends.is_some() {
        rig.leave(usize::MAX);
        rig.come_home(0);
    }
    assert!(rig.sent == more.concat());
    assert_eq!((&rig.proactor.completions.closed, rig.used()), (&vec![token], 0));
}

/// Answers so much to whatever it is sent.
struct Verbose;

impl Service for Verbose {
    type Session = Verbose;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Verbose {
        Verbose
    }
}

impl Session for Verbose {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[7; 300]);
        input.consume(usize::MAX);
        Ok(())
    }
}

#[test]
fn what_is_more_than_its_connection_has_asked_for_by_now_is_heard_when_it_asks_again() {
    let mut rig = Rig::of(Verbose, &[], Budget::default());
    assert_eq!(rig.bring(&[1; 10], true), 10);
    // It has room for less than it had.
    assert_eq!(rig.bring(&[2; EACH], true), EACH - 10);
    let heard = |rig: &Rig| rig.proactor.state.host.shared.stats().snapshot().bytes_in as usize;
    assert_eq!(heard(&rig), EACH);
    rig.leave(usize::MAX);
    rig.come_home(0);
    rig.leave(usize::MAX);
    assert_eq!(rig.sent.len(), 900, "it was told of three parts");
}

#[test]
fn what_comes_early_and_is_more_than_all_may_buffer_closes_its_connection() {
    for (spare, closes) in [(200, false), (199, true)] {
        let mut rig = Rig::new(&[], Budget::default().buffer_all(2 * EACH));
        rig.bring(&[1; EACH / 2], true);
        let memory = Arc::clone(&rig.proactor.state.host.shared.memory);
        let _others = memory.charge(memory.limit() - memory.used() - spare).unwrap();
        rig.bring(&[2; 200], true);
        let cancelled = &rig.proactor.completions.cancelled;
        assert_eq!(cancelled.len(), usize::from(closes), "{spare} bytes are left for 200");
    }
}

#[test]
fn an_error_is_heard_behind_what_came_before_it() {
    let mut rig = Rig::new(&[], Budget::default());
    rig.bring(&[1; EACH / 2], true);
    rig.bring(&[2; 100], true);
    let token = rig.token;
    let reset = Err(io::ErrorKind::ConnectionReset.into());
    rig.happen([Completion::Received { token, result: reset, more: false }]);
    assert_eq!(rig.proactor.completions.closed, []);
    rig.leave(EACH / 2);
    rig.come_home(0);
    // What it answers to the last bytes is in flight when it hears of the reset.
    assert_eq!(rig.proactor.completions.cancelled, [token]);
    let counted = rig.proactor.state.host.shared.stats().snapshot();
    assert_eq!(counted.bytes_in, (EACH / 2 + 100) as u64);
}

/// A layer in which a byte is itself.
#[derive(Debug)]
struct Plain;

impl Layers for Plain {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        Ok(Box::new(Plain))
    }
}

impl Layer for Plain {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, _: &mut BytesMut) -> io::Result<()> {
        plain.extend_from_slice(&wire.split());
        Ok(())
    }
    fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(plain);
        Ok(())
    }
    fn finish(&mut self, _: &mut [u8], _: &mut BytesMut) {}
    fn is_open(&self) -> bool {
        true
    }
    fn has_ended(&self) -> bool {
        false
    }
    fn identity(&self) -> Option<Identity> {
        None
    }
}

struct Zeros;

impl Blob for Zeros {
    fn read_at(&self, part: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(part.len())
    }
}

/// Sends a file.
struct Page;

impl Service for Page {
    type Session = Page;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Page {
        Page
    }
}

impl Session for Page {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().file(Arc::new(Zeros), 0, 1 << 20);
        }
        Ok(())
    }
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

/// So many who are each sent a file through a layer.
fn pages(count: usize) -> (Proactor<Obedient>, Vec<Token>) {
    let shared = Shared::new(Budget::default());
    let open = accept::opener(Arc::new(Page), Arc::clone(&shared), Some(Arc::new(Plain)));
    let mut proactor = Proactor::new(Obedient::default(), Host::alone(shared, 1), Arc::default(), vec![open]);
    let tokens = proactor.admit(count);
    (proactor, tokens)
}

/// So many parts of a file are read at once: as much as may be sent.
const READ_AT_ONCE: usize = (8 << 20) / BLOCK;

#[test]
fn what_layers_read_at_once_is_as_much_as_is_sent_at_once_and_keeps_nobody_from_sending() {
    let (mut proactor, tokens) = pages(READ_AT_ONCE + 1);
    let reads = |proactor: &Proactor<Obedient>| proactor.completions.reads.len();
    assert_eq!(reads(&proactor), READ_AT_ONCE);
    let (token, range) = &proactor.completions.reads[0];
    assert_eq!((*token, range.offset, range.len), (tokens[0], 0, 1 << 20));
    proactor.happen([Completion::Read(tokens[0], Ok(BytesMut::zeroed(BLOCK)))]);
    assert_eq!(reads(&proactor), READ_AT_ONCE + 1, "another has its turn");
    assert_eq!(proactor.completions.sends, [tokens[0]], "nobody waits for a disk to send");
    let error = io::Error::other("the disk is gone");
    proactor.happen([Completion::Read(tokens[2], Err(error))]);
    assert_eq!(proactor.completions.closed, [tokens[2]]);
}

#[test]
fn who_closes_while_a_part_of_a_file_is_read_is_closed_when_that_has_come() {
    let (mut proactor, tokens) = pages(READ_AT_ONCE + 1);
    // They are late, all of them.
    proactor.completions.now = Duration::from_secs(3600);
    (0..3).for_each(|_| proactor.happen([]));
    assert_eq!(proactor.completions.cancelled, tokens[..READ_AT_ONCE]);
    let waits = tokens[READ_AT_ONCE];
    assert_eq!(proactor.completions.closed, [waits], "who only waits for others waits no longer");
    proactor.happen([Completion::Read(tokens[0], Ok(BytesMut::zeroed(BLOCK)))]);
    assert_eq!(proactor.completions.closed, [waits, tokens[0]]);
    assert_eq!(proactor.completions.reads.len(), READ_AT_ONCE, "nobody waits any more");
}

proptest! {
    #[test]
    fn to_a_session_it_is_all_the_same_how_bytes_come_and_leave(
        first in 0..3000usize,
        steps in vec((0..5u8, any::<bool>(), 1..2500usize), 0..200),
    ) {
        let said: Vec<u8> = (0..200_000u32).map(|at| (at / 7) as u8).collect();
        let mut rig = Rig::new(&said[..first], Budget::default());
        let mut came = first;
        for (what, more, size) in steps {
            match what {
                0 | 1 => came += rig.bring(&said[came..][..size], more),
                2 => rig.leave(size),
                3 => rig.come_home(size),
                _ => rig.wait_for_room(),
            }
        }
        for _ in 0..400 {
            if rig.full { rig.wait_for_room() }
            rig.leave(usize::MAX);
            rig.come_home(0);
        }
        prop_assert!(rig.sent == said[..came], "{} of {came} bytes", rig.sent.len());
        prop_assert!(rig.credit.is_some(), "it waits for more");
        prop_assert!(rig.used() <= 512, "{} bytes are charged for nothing", rig.used());
    }
}
