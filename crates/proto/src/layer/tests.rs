//! How a connection ends through a layer, told event by event.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;

use super::{End, Identity, Layer, Layers, batch::BATCH, through};
use crate::flight::REST;

use crate::{
    address::Address,
    budget::Budget,
    connection::{Connection, Endpoint, Event, Op, Operation},
    host::{Host, Shared},
    input::Input,
    service::{Closed, Done, Peer, Session},
    session::Context,
    ticket::Token,
};

const LINGER: Duration = Duration::from_secs(2);

/// A layer in which a byte is itself, but for the greeting at the beginning, the end, what is answered at length, and
/// what cannot be understood.
#[derive(Debug, Default)]
struct Letters {
    open: bool,
    ended: bool,
    /// Which question it panics over.
    breaks: Option<Question>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Question {
    Open,
    Ended,
    Identity,
}

impl Letters {
    fn answer<T>(&self, question: Question, answer: T) -> T {
        assert_ne!(self.breaks, Some(question), "asked for too much");
        answer
    }
}

impl Layers for Letters {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        Ok(Box::new(Self { breaks: self.breaks, ..Self::default() }))
    }
}

impl Layer for Letters {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, reply: &mut BytesMut) -> io::Result<()> {
        for byte in wire.split() {
            match byte {
                b'H' => self.open = true,
                b'E' => self.ended = true,
                b'R' => reply.extend_from_slice(&[b'r'; BATCH]),
                b'?' => {
                    reply.extend_from_slice(b"?");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "not understood"));
                }
                byte => plain.extend_from_slice(&[byte]),
            }
        }
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(plain);
        Ok(())
    }

    fn finish(&mut self, _: &mut [u8], wire: &mut BytesMut) {
        wire.extend_from_slice(b"E");
    }

    fn is_open(&self) -> bool {
        self.answer(Question::Open, self.open)
    }

    fn has_ended(&self) -> bool {
        self.answer(Question::Ended, self.ended)
    }

    fn identity(&self) -> Option<Identity> {
        self.answer(Question::Identity, None)
    }
}

/// Finishes when it is asked to.
struct Obedient(Arc<Mutex<Vec<String>>>);

impl Session for Obedient {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if input.bytes().contains(&b'l') {
            cx.output().file(Arc::new(Vec::new()), 3, 2 * BATCH as u64);
        }
        if input.bytes().contains(&b'w') {
            cx.output().write(&[7; 300_000]);
        }
        if input.bytes().contains(&b'f') {
            cx.finish();
        }
        if input.bytes().contains(&b'h') {
            cx.finish_sending();
        }
        input.consume(usize::MAX);
        Ok(())
    }

    fn closed(self, why: &Closed) {
        self.0.lock().unwrap().push(why.to_string());
    }
}

struct Rig {
    endpoint: Box<dyn Endpoint>,
    host: Host,
    shared: Arc<Shared>,
    ends: Arc<Mutex<Vec<String>>>,
}

impl Rig {
    /// The only connection that its server may hold, with the handshake behind it.
    fn open() -> Self {
        let mut rig = Self::through(&Letters::default());
        assert_eq!(rig.at(0, Event::Opened), ["Receive(65536)"]);
        assert_eq!(rig.bytes(b"H"), ["Receive(65536)"]);
        rig
    }

    /// The only connection that its server may hold.
    fn through(layers: &Letters) -> Self {
        let shared = Shared::new(Budget::default().connections(1).linger(LINGER));
        let host = Host::alone(Arc::clone(&shared), 1);
        let (ends, address) = (Arc::default(), Address::from(([192, 0, 2, 1], 7)));
        let permit = shared.gate.admit(None).unwrap();
        let session = Obedient(Arc::clone(&ends));
        let connection =
            Connection::accepted(session, Peer { address: address.clone() }, Arc::clone(&shared), permit);
        let endpoint = through(layers, Box::new(connection), End::Accepted(address), Arc::clone(&shared));
        let mut rig = Self { endpoint, host, shared, ends };
        rig.endpoint.place(Token(1), rig.host.wake_queue(), Duration::ZERO);
        rig
    }

    /// What is asked for after `event`, so many seconds after the beginning.
    fn at(&mut self, second: u64, event: Event<'_>) -> Vec<String> {
        let now = Duration::from_secs(second);
        self.endpoint.handle(now, event, &mut self.host);
        let mut ops = self.ops();
        self.endpoint.settle(now, &mut self.host);
        ops.extend(self.ops());
        ops
    }

    fn bytes(&mut self, bytes: &[u8]) -> Vec<String> {
        self.at(0, Event::Received(&mut BytesMut::from(bytes)))
    }

    fn ops(&mut self) -> Vec<String> {
        let next = || self.endpoint.next().map(|op| in_words(&op, &*self.endpoint));
        std::iter::from_fn(next).collect()
    }

    fn ends(&self) -> Vec<String> {
        self.ends.lock().unwrap().clone()
    }
}

fn in_words(op: &Op, endpoint: &dyn Endpoint) -> String {
    match op {
        Op::Close { reset: true } => "Reset".into(),
        Op::Close { reset: false } => "Close".into(),
        Op::Read => {
            let range = endpoint.file().unwrap();
            format!("Read({}, {})", range.offset, range.len)
        }
        op => format!("{op:?}"),
    }
}

/// So many bytes of a file.
fn part(count: usize) -> io::Result<BytesMut> {
    Ok(BytesMut::zeroed(count))
}

#[test]
fn a_handshake_that_nobody_looked_at_in_time_has_that_time_again_and_not_for_ever() {
    let mut rig = Rig::through(&Letters::default());
    rig.at(0, Event::Opened);
    let first_byte = Budget::default().first_byte.as_secs();
    let late = first_byte + 5;
    rig.at(late, Event::Received(&mut BytesMut::from("h")));
    assert_eq!(rig.at(late, Event::Tick), [""; 0], "it has spoken in time");
    assert_eq!(rig.at(late + first_byte - 1, Event::Tick), [""; 0]);
    rig.at(late + first_byte, Event::Received(&mut BytesMut::from("h")));
    assert_eq!(rig.at(late + first_byte, Event::Tick), ["Reset"]);
}

#[test]
fn every_phase_but_the_last_has_its_deadline() {
    let first_byte = Some(Budget::default().first_byte);
    let mut shaking = Rig::through(&Letters::default());
    assert_eq!(shaking.endpoint.deadline(), first_byte, "while it is opened");
    shaking.at(0, Event::Opened);
    assert_eq!(shaking.endpoint.deadline(), first_byte, "while hands are shaken");
    shaking.bytes(b"?");
    assert_eq!(shaking.endpoint.deadline(), Some(LINGER), "while it is told why it is refused");
    assert_eq!(shaking.at(1, Event::Tick), [""; 0]);
    assert_eq!((&shaking.at(2, Event::Tick)[..], shaking.endpoint.deadline()), (&["Reset".into()][..], None));
    let mut open = Rig::open();
    assert_eq!(open.endpoint.deadline(), first_byte, "while it is silent");
    open.bytes(b"f");
    open.at(1, Event::Sent(1));
    assert_eq!(open.endpoint.deadline(), Some(LINGER), "while its end is awaited");
    let mut over = Rig::open();
    over.bytes(b"E");
    assert_eq!(over.endpoint.deadline(), Some(LINGER), "while its last word leaves");
}

#[test]
fn a_stranger_who_takes_no_answer_is_not_read_from_for_ever() {
    let mut rig = Rig::through(&Letters::default());
    rig.at(0, Event::Opened);
    assert_eq!(rig.bytes(b"RR"), ["Send", "Receive(65536)"]);
    assert_eq!(rig.bytes(b"R"), [""; 0]);
    assert_eq!(rig.at(0, Event::Sent(BATCH as u64)), ["Send", "Receive(65536)"]);
}

#[test]
fn what_the_system_has_no_room_for_is_asked_for_again_after_a_rest() {
    for operation in [Operation::Send, Operation::Receive] {
        let mut rig = Rig::open();
        assert_eq!(rig.bytes(b"f"), ["Send", "Receive(65536)"]);
        assert_eq!(rig.at(0, Event::Exhausted(operation)), [""; 0]);
        assert_eq!(rig.endpoint.deadline(), Some(REST), "{operation:?}");
        rig.endpoint.handle(REST, Event::Tick, &mut rig.host);
        let again = if operation == Operation::Send { "Send" } else { "Receive(65536)" };
        assert_eq!(rig.ops(), [again]);
    }
}

#[test]
fn the_end_is_said_before_sending_ends() {
    let mut rig = Rig::open();
    assert_eq!(rig.bytes(b"f"), ["Send", "Receive(65536)"]);
    assert_eq!(rig.at(0, Event::Sent(1)), ["Shutdown"]);
    assert_eq!(rig.at(0, Event::Ended), ["Close"]);
    assert_eq!(rig.ends(), ["finished"]);
}

#[test]
fn the_end_is_said_although_the_peer_has_ended_before_it_was_taken() {
    let mut rig = Rig::open();
    assert_eq!(rig.bytes(b"f"), ["Send", "Receive(65536)"]);
    assert_eq!(rig.at(0, Event::Ended), [""; 0], "its last word has not left");
    assert_eq!(rig.at(0, Event::Sent(1)), ["Close"]);
    assert_eq!(rig.ends(), ["finished"]);
}

#[test]
fn a_peer_that_does_not_end_is_not_waited_for() {
    let mut rig = Rig::open();
    rig.bytes(b"f");
    assert_eq!(rig.at(0, Event::Sent(1)), ["Shutdown"]);
    assert_eq!(rig.at(1, Event::Tick), [""; 0]);
    assert_eq!(rig.at(2, Event::Tick), ["Close"]);
}

#[test]
fn what_cannot_be_understood_after_our_end_is_not_answered() {
    let mut rig = Rig::open();
    rig.bytes(b"f");
    assert_eq!(rig.at(0, Event::Sent(1)), ["Shutdown"]);
    assert_eq!(rig.bytes(b"?"), ["Receive(65536)"], "there is nothing to answer any more");
    assert_eq!(rig.at(0, Event::Ended), ["Close"]);
    assert_eq!(rig.ends(), ["finished"]);
}

#[test]
fn who_has_only_finished_sending_reads_on_and_hears_of_what_goes_wrong() {
    for (then, ops, why) in [
        (&b"E"[..], "Close", "finished"),
        (b"?", "Reset", "not understood"),
        (b"", "Reset", "the connection was cut off: the peer's end was not announced"),
    ] {
        let mut rig = Rig::open();
        assert_eq!(rig.bytes(b"h"), ["Send", "Receive(65536)"]);
        assert_eq!(rig.at(0, Event::Sent(1)), ["Shutdown"]);
        assert_eq!(rig.bytes(b"more"), ["Receive(65536)"], "it reads on");
        let event = &mut BytesMut::from(then);
        let event = if then.is_empty() { Event::Ended } else { Event::Received(event) };
        assert_eq!(rig.at(0, event), [ops]);
        assert_eq!(rig.ends(), [why]);
    }
}

#[test]
fn who_does_not_take_the_end_keeps_its_place_for_as_long_as_that_is_waited_for() {
    let mut rig = Rig::open();
    assert_eq!(rig.bytes(b"E"), ["Send"]);
    assert_eq!(rig.ends(), ["finished"]);
    assert_eq!(rig.shared.gate.open(), 1);
    assert_eq!(rig.at(1, Event::Tick), [""; 0]);
    assert_eq!(rig.at(2, Event::Tick), ["Reset"]);
    assert_eq!(rig.shared.gate.open(), 0);
}

#[test]
fn who_does_not_take_the_end_is_not_waited_for_if_others_need_its_place() {
    let mut rig = Rig::open();
    rig.endpoint.handle(Duration::ZERO, Event::Received(&mut BytesMut::from("E")), &mut rig.host);
    assert_eq!(rig.ops(), ["Send"]);
    let newcomer = rig.shared.gate.admit(None).unwrap();
    rig.endpoint.settle(Duration::ZERO, &mut rig.host);
    assert_eq!(rig.ops(), ["Reset"]);
    drop(newcomer);
    assert_eq!(rig.shared.gate.open(), 0);
}

#[test]
fn what_cannot_be_understood_is_answered_once() {
    let mut rig = Rig::open();
    assert_eq!(rig.bytes(b"?"), ["Send", "Receive(65536)"]);
    assert_eq!(rig.at(0, Event::Sent(1)), ["Shutdown"]);
    assert_eq!(rig.bytes(b"?"), ["Receive(65536)"]);
    assert_eq!(rig.at(0, Event::Ended), ["Reset"]);
    assert!(rig.ends()[0].contains("not understood"), "{:?}", rig.ends());
}

#[test]
fn a_layer_that_panics_over_a_question_ends_its_connection_and_nothing_else() {
    for question in [Question::Open, Question::Ended, Question::Identity] {
        let mut rig = Rig::through(&Letters { breaks: Some(question), ..Letters::default() });
        rig.at(0, Event::Opened);
        rig.bytes(b"H");
        assert_eq!(rig.at(0, Event::Ended), ["Reset"], "{question:?}");
        assert_eq!(rig.ends(), ["the connection's layer panicked"], "{question:?}");
        assert_eq!(rig.shared.gate.open(), 0);
    }
}

#[test]
fn what_is_lent_is_charged_until_it_comes_back() {
    let mut rig = Rig::open();
    assert_eq!(rig.bytes(b"?"), ["Send", "Receive(65536)"]);
    let charged = rig.shared.memory.used();
    assert!(charged > 0);
    rig.endpoint.handle(Duration::from_secs(9), Event::Tick, &mut rig.host);
    assert_eq!(rig.ops(), ["Reset"]);
    assert_eq!(rig.shared.memory.used(), charged, "the send is in flight");
    drop(rig.endpoint);
    assert_eq!(rig.shared.memory.used(), 0);
}

#[test]
fn a_file_is_read_a_part_at_a_time_and_nothing_is_sent_while_it_is() {
    let mut rig = Rig::open();
    assert_eq!(rig.bytes(b"l"), [format!("Read(3, {})", 2 * BATCH)]);
    assert_eq!(rig.at(0, Event::Tick), [""; 0], "one part at a time");
    assert_eq!(rig.at(0, Event::Read(&mut part(BATCH))), ["Send"]);
    assert_eq!(rig.at(0, Event::Sent(BATCH as u64 - 1)), ["Send"]);
    assert_eq!(rig.at(0, Event::Sent(1)), [format!("Read({}, {BATCH})", 3 + BATCH)]);
    assert_eq!(rig.at(0, Event::Read(&mut part(300))), ["Send"], "a file may be read in smaller parts");
    assert_eq!(rig.at(0, Event::Sent(300)), [format!("Read({}, {})", 303 + BATCH, BATCH - 300)]);
    rig.at(0, Event::Read(&mut part(BATCH - 300)));
    assert_eq!(rig.at(0, Event::Sent(BATCH as u64 - 300)), ["Receive(65536)"], "that was all");
    assert_eq!(rig.shared.memory.used(), 0);
}

#[test]
fn a_file_that_cannot_be_read_ends_its_connection() {
    let mut rig = Rig::open();
    rig.bytes(b"l");
    let mut gone = Err(io::Error::other("the disk is gone"));
    assert_eq!(rig.at(0, Event::Read(&mut gone)), ["Reset"]);
    assert_eq!(rig.ends(), ["the disk is gone"]);
}

#[test]
fn a_last_word_leaves_when_what_is_being_read_has_come_also_if_nobody_needs_it() {
    for readable in [true, false] {
        let mut rig = Rig::open();
        rig.bytes(b"R");
        assert_eq!(rig.at(0, Event::Sent(BATCH as u64)), [""; 0]);
        assert_eq!(rig.bytes(b"l"), [format!("Read(3, {})", 2 * BATCH)]);
        assert_eq!(rig.bytes(b"?"), ["Receive(65536)"], "the layer fails, and has something to say");
        let mut read = if readable { part(10) } else { Err(io::Error::other("gone")) };
        assert_eq!(rig.at(0, Event::Read(&mut read)), ["Send"]);
        assert_eq!(rig.at(0, Event::Sent(1)), ["Shutdown"]);
        assert_eq!(rig.at(0, Event::Ended), ["Reset"]);
        assert!(rig.ends()[0].contains("not understood"), "{:?}", rig.ends());
    }
}

#[test]
fn what_is_opened_and_not_asked_for_yet_is_charged() {
    let used = |more: usize| {
        let mut rig = Rig::open();
        // So much is said to it that it asks for no more, and what came with that is left.
        let block = [&b"w"[..], &vec![b'x'; crate::flight::BLOCK - 1 + more]].concat();
        assert_eq!(rig.bytes(&block), ["Send"]);
        rig.shared.memory.used()
    };
    let none = used(0);
    assert!(used(5000) >= none + 5000, "5000 bytes are kept");
}
