//! A connection without sockets, and the rig that plays the loop.
//!
//! The rig watches from outside, with books of its own, that the contract between a loop and a connection is kept.

mod caps;
mod cases;
mod half_close;
mod machine;
mod pace;
mod probe;
mod reference;

use std::{
    io::IoSlice,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::BytesMut;

use super::{Connection, Endpoint, Event, Op, Operation, Pending, Phase};
use crate::flight::REST;

use crate::{
    address::Address,
    budget::Budget,
    host::{Host, Shared},
    service::{Closed, Done, JobId, Lost, Peer, Ready, Session},
    ticket::{Ticket, Token, Waker},
};
use probe::{Log, Probe};

const FIRST_BYTE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(2);
const EACH: usize = 1000;
const HIGH_WATER: usize = EACH / 4;

fn budget() -> Budget {
    Budget::default()
        .buffer_each(EACH)
        .jobs(3)
        .first_byte(FIRST_BYTE)
        .idle(IDLE)
        .slowest(0)
        .connect(CONNECT)
        .linger(LINGER)
}

/// Plays the loop: keeps what is in flight, and checks every answer against books of its own.
struct Rig {
    connection: Connection<Probe>,
    host: Host,
    shared: Arc<Shared>,
    log: Arc<Mutex<Log>>,
    outgoing: bool,
    now: Duration,
    receiving: Option<usize>,
    sending: bool,
    /// The system had no room for these, a receive or a send, which rest until then.
    rests: (bool, bool),
    rest: Option<Duration>,
    /// What the peer has sent and the connection has not taken, and whether its end is behind that.
    wire: Vec<u8>,
    peer_ended: bool,
    end_heard: bool,
    delivered: Vec<u8>,
    sent: Vec<u8>,
    open: bool,
    /// When it was asked to be begun again, and to where.
    redials: Vec<(Duration, Address)>,
    spoken: bool,
    /// When something was due when it was settled last.
    due: Duration,
    active: Duration,
    shut: Option<Duration>,
    /// Our end was sent, and the session reads on.
    half_closed: bool,
    /// Since when the peer's end is awaited that is to be first.
    yielded: Option<Duration>,
    closed: Option<bool>,
}

impl Rig {
    fn new(budget: Budget, outgoing: bool) -> Self {
        let (log, shared) = (Arc::new(Mutex::new(Log::default())), Shared::new(budget));
        let host = Host::alone(Arc::clone(&shared), 1);
        let probe = Probe { log: Arc::clone(&log) };
        let address: Address = "192.0.2.1:7".parse().unwrap();
        let permit = shared.gate.admit(None).unwrap();
        let mut connection = if outgoing {
            let (connection, waker) = Connection::outgoing(probe, address, Arc::clone(&shared), permit);
            log.lock().unwrap().wakers.push(waker);
            connection
        } else {
            Connection::accepted(probe, Peer { address }, Arc::clone(&shared), permit)
        };
        let now = Duration::from_secs(100);
        connection.place(Token(1), &host.wake_queue, now);
        Self {
            connection,
            host,
            shared,
            log,
            outgoing,
            now,
            receiving: None,
            sending: false,
            rests: (false, false),
            rest: None,
            wire: Vec::new(),
            peer_ended: false,
            end_heard: false,
            delivered: Vec::new(),
            sent: Vec::new(),
            open: false,
            redials: Vec::new(),
            spoken: false,
            due: Duration::MAX,
            active: now,
            shut: None,
            half_closed: false,
            yielded: None,
            closed: None,
        }
    }

    /// A rig whose connection is open.
    fn opened(budget: Budget) -> Self {
        let mut rig = Self::new(budget, false);
        rig.open();
        rig
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn open(&mut self) {
        if !self.open && self.closed.is_none() {
            (self.open, self.active) = (true, self.now);
            self.happen(Event::Opened);
        }
    }

    /// The peer sends `bytes`; the connection gets what it asked for.
    fn bytes(&mut self, bytes: &[u8]) {
        self.wire.extend_from_slice(bytes);
        self.deliver(usize::MAX);
    }

    /// Hands over at most `most` of what waits, if a receive is in flight.
    fn deliver(&mut self, most: usize) {
        while let Some(asked) = self.receiving
            && !self.wire.is_empty()
            && most > 0
        {
            let some = self.wire.drain(..asked.min(most).min(self.wire.len())).collect::<Vec<_>>();
            self.receiving = None;
            if self.shut.or(self.yielded).is_none() {
                (self.active, self.spoken) = (self.now, true);
                self.delivered.extend_from_slice(&some);
            }
            let mut block = BytesMut::from(&some[..]);
            self.happen(Event::Received(&mut block));
            assert!(block.is_empty(), "the loop gets its block back empty");
            if most < usize::MAX {
                break;
            }
        }
        if self.peer_ended && self.wire.is_empty() && self.receiving.take().is_some() {
            self.end_heard = true;
            self.happen(Event::Ended);
        }
    }

    /// The peer takes up to `most` bytes of what is being sent.
    fn take(&mut self, most: usize) {
        if !std::mem::take(&mut self.sending) {
            return;
        }
        let output = self.connection.output();
        let mut front = match output.front_file() {
            Some(range) => vec![b'F'; range.len as usize],
            None => {
                let mut slices = [IoSlice::new(&[]); 4];
                let (count, _) = output.gather(&mut slices);
                slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
            }
        };
        front.truncate(most);
        self.sent.extend_from_slice(&front);
        if !front.is_empty() {
            (self.active, self.spoken) = (self.now, true);
        }
        self.happen(Event::Sent(front.len() as u64));
    }

    fn take_all(&mut self) {
        while self.sending {
            self.take(usize::MAX);
        }
    }

    /// The system has no room for what is in flight.
    fn exhaust(&mut self, operation: Operation) {
        let was_in_flight = match operation {
            Operation::Receive => self.receiving.take().is_some(),
            Operation::Send => std::mem::take(&mut self.sending),
            Operation::Connect => !self.open && self.rest.is_none(),
        };
        if was_in_flight {
            self.rests.0 |= operation == Operation::Receive;
            self.rests.1 |= operation == Operation::Send;
            self.rest = Some(self.now + REST);
            self.happen(Event::Exhausted(operation));
        }
    }

    /// Something happens, the connection is asked what to do, and every invariant is checked.
    fn happen(&mut self, event: Event<'_>) {
        let replies = self.log().replies.len();
        if matches!(event, Event::Tick) && self.rest.is_some_and(|rest| rest <= self.now) {
            (self.rests, self.rest) = ((false, false), None);
        }
        self.connection.handle(self.now, event, &mut self.host);
        if self.log().replies.len() > replies {
            self.active = self.now;
        }
        // As a loop does: a connection may have to be closed for what it holds when it has asked for all that it wants.
        self.collect();
        let settled = self.connection.settle(self.now, &mut self.host);
        let due = self.connection.deadline().unwrap_or(Duration::MAX);
        assert!(!settled.has(Pending::NO_SOONER) || due >= self.due, "{due:?} is sooner than {:?}", self.due);
        self.due = due;
        self.collect();
        let lingers = matches!(self.connection.phase, Phase::Lingering(_));
        if lingers && self.half_closed {
            self.assert_owes_nothing();
            self.shut.get_or_insert(self.now);
        }
        if lingers && self.shut.or(self.yielded).is_none() {
            assert!(self.log().yields, "it lingers without an end of its own");
            self.assert_owes_nothing();
            self.yielded = Some(self.now);
        }
        self.check();
    }

    fn collect(&mut self) {
        while let Some(op) = self.connection.next() {
            assert!(self.closed.is_none(), "{op:?} after the close");
            match op {
                Op::Receive(most) => {
                    assert!(!self.rests.0, "a receive before the rest is over");
                    assert!(most > 0 && self.receiving.is_none(), "two receives in flight");
                    assert!(!self.end_heard, "a receive behind the peer's end");
                    assert!(self.shut.is_some() || !self.log().flooded, "a flooded connection is read from");
                    self.receiving = Some(most);
                }
                Op::Send => {
                    assert!(!self.rests.1, "a send before the rest is over");
                    assert!(
                        !self.sending && !self.half_closed && self.shut.or(self.yielded).is_none(),
                        "two sends in flight, or one behind the end"
                    );
                    self.sending = true;
                }
                Op::Shutdown => {
                    assert!(!self.half_closed && self.shut.or(self.yielded).is_none());
                    let silent = self.log().silent;
                    self.half_closed = silent;
                    if self.half_closed {
                        assert_eq!(self.sent.len(), self.log().written.len(), "everything has gone out");
                    } else {
                        assert!(!self.end_heard);
                        self.assert_owes_nothing();
                        self.shut = Some(self.now);
                    }
                }
                Op::Close { reset } => {
                    if !reset {
                        self.assert_owes_nothing();
                    }
                    self.closed = Some(reset);
                }
                Op::Redial => {
                    assert!(self.rest.is_none() && !self.open);
                    self.redials.push((self.now, self.connection.address().clone()));
                }
                Op::Connect(..) => unreachable!("the probe opens none"),
                Op::Read => unreachable!("it has no layer"),
            }
        }
    }

    fn assert_owes_nothing(&self) {
        let log = self.log();
        let wished = log.finished || log.violated || self.half_closed && self.end_heard;
        assert!(wished, "the end was the session's wish");
        assert_eq!(self.sent.len(), log.written.len(), "everything has gone out");
        assert!(log.violated || log.taken == log.replies.len(), "every ticket has come back");
    }

    fn check(&self) {
        let (log, connection) = (self.log(), &self.connection);
        assert!(log.written.starts_with(&self.sent), "the order of writing is the order of sending");
        assert!(self.delivered.starts_with(&log.consumed), "the order of coming is the order of reading");
        assert!(connection.held.len() <= EACH && connection.output.buffered() <= EACH);
        assert!(connection.held.size <= EACH, "{} allocated", connection.held.size);
        if self.closed.is_none() && self.shut.is_none() {
            assert_eq!(connection.control.outstanding, log.taken - log.replies.len());
        }
        let told = usize::from(self.closed.is_some() && !log.panicked);
        assert_eq!(log.closed.len(), told, "the end is told once, and at once");
        assert_eq!(self.closed.is_some(), connection.phase == Phase::Closed);
        let rest = self.rest.filter(|_| self.closed.is_none());
        let deadline = [self.deadline(&log), rest].into_iter().flatten().min();
        assert_eq!(connection.deadline(), deadline, "deadlines are exact");
        assert!(!log.babbles || log.closed.first().is_some_and(|why| why.contains("behind its own end")));
        if self.closed.is_some() {
            assert_eq!(self.shared.gate.open(), 0);
        } else {
            let chunks = log.chunks.iter().map(|chunk| chunk.len()).sum::<usize>();
            assert!(
                self.shared.memory.used() >= connection.held.len() + connection.output.buffered() + chunks
            );
        }
    }

    /// When something is due, by the rig's own books.
    fn deadline(&self, log: &Log) -> Option<Duration> {
        let start = Duration::from_secs(100);
        match self.shut.or(self.yielded) {
            _ if self.closed.is_some() => None,
            _ if !self.open => Some(start + if self.outgoing { CONNECT } else { FIRST_BYTE }),
            Some(at) => Some(at + LINGER),
            None if !self.outgoing && !self.spoken => {
                [log.timer, Some(start + FIRST_BYTE)].into_iter().flatten().min()
            }
            None => {
                let owes = self.sent.len() < log.written.len();
                let works = log.taken > log.replies.len();
                let waits = !works && (!self.outgoing || self.end_heard && !log.ended);
                let idle = (owes || waits).then(|| self.active + IDLE);
                [log.timer, idle].into_iter().flatten().min()
            }
        }
    }

    /// The loop takes who was woken, and tells the connection.
    fn take_calls(&mut self) {
        let mut woken = Vec::new();
        self.host.wake_queue.take(&mut woken);
        assert!(
            woken.len() <= 2,
            "a burst wakes once, and once more if it began before the connection was open"
        );
        for _ in woken {
            self.happen(Event::Woken);
        }
    }

    /// Time goes on to the next deadline, and it is told.
    fn jump(&mut self) {
        if let Some(deadline) = self.connection.deadline() {
            self.now = self.now.max(deadline);
            self.happen(Event::Tick);
        }
    }

    fn why(&self) -> Option<String> {
        self.log().closed.first().cloned()
    }

    /// Everybody lets go: nothing may be left on any account.
    fn dismantle(self) {
        let Self { connection, host, shared, log, .. } = self;
        drop((connection, host));
        let held = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(held.closed.len(), usize::from(!held.panicked));
        assert!(held.wakers.iter().all(Waker::is_closed));
        assert!(held.tickets.iter().all(Ticket::is_cancelled));
        drop(held);
        assert_eq!((shared.gate.open(), shared.memory.used(), shared.jobs.used()), (0, 0, 0));
    }
}
