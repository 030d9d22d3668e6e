//! A connection that speaks through a layer: to the loop it is an endpoint, to the connection inside it is the loop.
//!
//! At most one batch of sealed bytes exists at a time, and only what has left is reported to the connection as sent, so
//! its deadlines and limits mean the same as without a layer. The connection inside hears of its opening after the
//! handshake; until then its own deadline for being opened runs.
#![forbid(unsafe_code)]

mod opening;

use std::{collections::VecDeque, fmt, io, mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use super::{
    batch::{BATCH, with_next_batch},
    contract::{End, Layer, guarded},
    phase::Phase,
};
use crate::{
    address::Address,
    blob::FileRange,
    budget::{Charge, Permit},
    endpoint::{Driven, Endpoint, Event, Op, Pending},
    flight::{BLOCK, Flight, Operation},
    guard::{self, Guarded},
    host::{Host, Shared},
    output::{Lent, Output},
    spare::{Spare, Spares},
    ticket::{Token, WakeQueue},
    unread::Unread,
};

/// The most that may be held back for an incomplete record or handshake message, in bytes.
const HELD: usize = 80 << 10;

pub(super) struct Layered {
    inner: Driven,
    layer: Guarded<Box<dyn Layer>>,
    /// What the layer has said of itself when bytes came last; nothing else changes it.
    is_open: bool,
    has_ended: bool,
    end: End,
    shared: Arc<Shared>,
    phase: Phase,
    /// Bytes of the wire that the layer could not use yet.
    held: Unread,
    /// Plaintext that the connection has not asked for yet.
    plain: Unread,
    /// What goes to the wire.
    wire: Output,
    /// Plaintext that is in `wire` and was not reported as sent.
    sealed: u64,
    /// A part of a file is being read, to be sealed next; and it is to be asked for yet.
    reading: bool,
    read: bool,
    flight: Flight,
    wire_ended: bool,
    /// The connection waits for up to so many bytes; zero: it does not.
    wants: usize,
    /// The connection waits for its output to be sent.
    offers: bool,
    end_told: bool,
    /// The layer has said that nothing follows.
    finished: bool,
    /// What comes means nothing any more.
    deaf: bool,
    /// Finish sending once `wire` is empty.
    shutdown: bool,
    close: Option<bool>,
    /// What the connection asks for that no layer has a part in.
    passed: VecDeque<Op>,
    charge: Option<Charge>,
    /// Its place among the server's connections, once the connection inside has given up its own.
    place: Option<Permit>,
}

impl Layered {
    pub(crate) fn new(
        inner: Box<dyn Endpoint>,
        layer: Box<dyn Layer>,
        end: End,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            inner: Driven::new(inner),
            layer: Guarded::new(layer),
            is_open: false,
            has_ended: false,
            end,
            shared,
            phase: Phase::Connecting,
            held: Unread::default(),
            plain: Unread::default(),
            wire: Output::new(usize::MAX),
            sealed: 0,
            reading: false,
            read: false,
            flight: Flight::default(),
            wire_ended: false,
            wants: 0,
            offers: false,
            end_told: false,
            finished: false,
            deaf: false,
            shutdown: false,
            close: None,
            passed: VecDeque::new(),
            charge: None,
            place: None,
        }
    }

    fn sent(&mut self, count: u64, now: Duration, host: &mut Host) {
        self.flight.sending = false;
        self.wire.advance_into(count, &mut host.spares.sealed);
        let told = if self.wire.is_empty() { self.sealed } else { count.min(self.sealed.saturating_sub(1)) };
        self.sealed -= told;
        if told > 0 && matches!(self.phase, Phase::Open) {
            self.offers = false;
            self.inner.handle(now, Event::Sent(told), host);
        }
    }

    /// Plays the loop for the connection until it has to wait for the wire.
    fn pump(&mut self, now: Duration, host: &mut Host) {
        loop {
            while let Some(op) = self.inner.next() {
                self.note(op, now);
            }
            if !matches!(self.phase, Phase::Open) {
                return;
            }
            if self.wants > 0 && !self.plain.is_empty() {
                self.deliver(now, host);
            } else if self.wants > 0 && self.has_ended && !self.end_told && self.may_end() {
                (self.wants, self.end_told) = (0, true);
                self.inner.handle(now, Event::Ended, host);
            } else if self.offers && self.sealed == 0 && self.wire.is_empty() && !self.reading {
                if self.file().is_some() {
                    (self.reading, self.read) = (true, true);
                    return;
                }
                self.seal_next(now, host);
                if self.sealed > 0 {
                    return;
                }
            } else {
                return;
            }
        }
    }

    /// Who waits for nothing but the peer's end is to be the last to close the wire too.
    fn may_end(&self) -> bool {
        self.wire_ended || !self.inner.awaits_end()
    }

    /// Lets the connection have as much plaintext as it has asked for.
    fn deliver(&mut self, now: Duration, host: &mut Host) {
        let most = mem::take(&mut self.wants);
        if most < self.plain.len() {
            let mut block = self.plain.bytes.split_to(most);
            self.inner.handle(now, Event::Received(&mut block), host);
        } else {
            let Unread { mut bytes, size } = mem::take(&mut self.plain);
            self.inner.handle(now, Event::Received(&mut bytes), host);
            host.spares.opened.put(bytes, size);
        }
    }

    /// Plaintext that the connection has not asked for stays, in a buffer that is not much larger.
    fn keep_plain(&mut self, spare: &mut Spare) {
        if self.plain.size / 2 > self.plain.len() {
            let mut few = Unread::default();
            few.append(&self.plain.bytes, BATCH);
            let Unread { bytes, size } = mem::replace(&mut self.plain, few);
            spare.put(bytes, size);
        }
    }

    fn note(&mut self, op: Op, now: Duration) {
        match op {
            Op::Receive(most) => self.wants = most,
            Op::Send => self.offers = true,
            Op::Shutdown => {
                self.finish();
                self.shutdown = true;
            }
            // Nothing inside has a file read.
            Op::Read => {}
            Op::Connect(_) | Op::Redial => self.passed.push_back(op),
            Op::Close { reset } => {
                // The peer had time to take our end and to answer it.
                let in_vain = self.finished && !self.wire_ended && !self.end_told;
                if reset || in_vain {
                    self.shut(reset);
                } else {
                    self.finish();
                    self.phase = Phase::Closing(now.saturating_add(self.shared.budget.linger));
                }
                (self.held, self.plain) = (Unread::default(), Unread::default());
            }
        }
    }

    fn finish(&mut self) {
        if !mem::replace(&mut self.finished, true) && matches!(self.phase, Phase::Open) {
            let mut last = BytesMut::new();
            // A layer that cannot even say that says nothing: the peer sees that the connection was cut off.
            let _ = guard::call(|| self.layer.finish(&mut self.held.bytes, &mut last));
            if !last.is_empty() {
                self.wire.send(last.freeze());
            }
        }
    }

    fn shut(&mut self, reset: bool) {
        self.phase = Phase::Closed;
        self.place = None;
        // What was lent to an operation stays until that has ended, and so does what it is charged with.
        if let Some(charge) = &mut self.charge {
            charge.change(self.wire.footprint());
        }
        self.close = Some(reset);
    }

    /// A last word that the peer does not take is waited for only as long as nobody else needs the place.
    fn keep_place(&mut self) {
        if matches!(self.phase, Phase::Closing(_)) && self.place.is_none() {
            self.place = self.shared.gate.admit(None).ok();
            if self.place.is_none() {
                self.shut(true);
            }
        }
    }

    /// Seals the next of what the connection has to send.
    fn seal_next(&mut self, now: Duration, host: &mut Host) {
        let Self { inner, layer, held, wire, .. } = self;
        let Spares { opened, sealed, .. } = &mut host.spares;
        let seal = |plain: &[u8]| seal(&mut ***layer, plain, held, wire, sealed);
        let sealed = with_next_batch(inner.output(), opened, seal);
        self.note_sealed(sealed, now, host);
    }

    /// Seals what was read of a file.
    fn has_read(&mut self, part: io::Result<BytesMut>, now: Duration, host: &mut Host) {
        let Self { layer, held, wire, .. } = self;
        let spare = &mut host.spares.sealed;
        let sealed = part.and_then(|part| seal(&mut ***layer, &part, held, wire, spare));
        self.note_sealed(sealed, now, host);
    }

    fn note_sealed(&mut self, sealed: io::Result<usize>, now: Duration, host: &mut Host) {
        match sealed {
            Ok(count) => self.sealed = count as u64,
            Err(error) => self.inner.handle(now, Event::Failed(error), host),
        }
    }

    /// The end of a phase that only lets last words out.
    fn wind_up(&mut self, now: Duration, host: &mut Host) {
        if let Phase::Failing(error, _) = &mut self.phase {
            let error = error.take().unwrap_or_else(|| io::ErrorKind::InvalidData.into());
            self.inner.handle(now, Event::Failed(error), host);
        } else {
            self.shut(!self.wire.is_empty());
        }
    }

    /// Events of a phase that only lets last words out.
    fn handle_late(&mut self, now: Duration, event: Event<'_>, host: &mut Host) {
        let (until, failing) = match &self.phase {
            Phase::Failing(_, until) => (*until, true),
            Phase::Closing(until) => (*until, false),
            _ => (now, false),
        };
        let over = match event {
            Event::Received(block) => {
                self.flight.receiving = false;
                block.clear();
                false
            }
            Event::Sent(count) => {
                self.flight.sending = false;
                self.wire.advance(count);
                !failing && self.wire.is_empty()
            }
            Event::Ended => {
                (self.flight.receiving, self.wire_ended) = (false, true);
                failing
            }
            Event::Failed(_) | Event::Stop => true,
            Event::Tick => until <= now,
            _ => false,
        };
        if over {
            self.wind_up(now, host);
        }
    }

    fn wants_the_wire(&self) -> bool {
        match self.phase {
            Phase::Handshake => self.wire.buffered() <= 2 * BATCH,
            Phase::Open => self.wants > 0 && self.plain.is_empty() && self.wire.buffered() <= 2 * BATCH,
            Phase::Failing(..) => true,
            _ => false,
        }
    }
}

/// Seals `plain` behind what is on its way to the wire; answers how much that was.
fn seal(
    layer: &mut dyn Layer,
    plain: &[u8],
    held: &mut Unread,
    wire: &mut Output,
    spare: &mut Spare,
) -> io::Result<usize> {
    let mut sealed = wire.take_room(plain.len() + plain.len() / 256 + 64, spare);
    guarded(|| layer.seal(plain, &mut held.bytes, &mut sealed))?;
    wire.append(sealed);
    Ok(plain.len())
}

/// What happens to who has been closed.
fn ignore(event: Event<'_>) -> Pending {
    if let Event::Received(block) = event {
        block.clear();
    }
    Pending::ANY
}

impl Endpoint for Layered {
    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration) {
        self.inner.place(token, wake_queue, now);
    }

    fn handle(&mut self, now: Duration, event: Event<'_>, host: &mut Host) -> Pending {
        match event {
            Event::Tick => self.flight.tick(now),
            Event::Read(_) => (self.reading, self.read) = (false, false),
            _ => {}
        }
        match (&self.phase, event) {
            (Phase::Closed, event) => return ignore(event),
            (_, Event::Exhausted(which @ (Operation::Receive | Operation::Send))) => {
                self.flight.rest(which, now)
            }
            (Phase::Failing(..) | Phase::Closing(_), event) => self.handle_late(now, event, host),
            (_, Event::Opened) => {
                self.phase = Phase::Handshake;
                self.inner.handle(now, Event::Shaking, host);
                self.receive(&mut BytesMut::new(), now, host);
            }
            (_, Event::Received(block)) => {
                self.flight.receiving = false;
                if matches!(self.phase, Phase::Handshake) {
                    self.inner.handle(now, Event::Shaking, host);
                }
                if !self.deaf {
                    self.receive(block, now, host);
                }
                block.clear();
            }
            (_, Event::Ended) => {
                self.flight.receiving = false;
                self.ended(now, host);
            }
            (_, Event::Sent(count)) => self.sent(count, now, host),
            (_, Event::Read(part)) => self.has_read(mem::replace(part, Ok(BytesMut::new())), now, host),
            (_, event) => self.inner.handle(now, event, host),
        }
        self.pump(now, host);
        self.keep_plain(&mut host.spares.opened);
        if matches!(self.phase, Phase::Closing(_)) && self.wire.is_empty() {
            self.wind_up(now, host);
        }
        Pending::ANY
    }

    fn address(&self) -> &Address {
        self.inner.address()
    }

    fn next(&mut self) -> Option<Op> {
        if let Some(op) = self.passed.pop_front() {
            return Some(op);
        }
        if let Some(reset) = self.close.take() {
            return Some(Op::Close { reset });
        }
        if matches!(self.phase, Phase::Connecting | Phase::Closed) {
            return None;
        }
        if self.reading {
            if mem::take(&mut self.read) {
                return Some(Op::Read);
            }
        } else if !self.wire.is_empty() {
            if !mem::replace(&mut self.flight.sending, true) {
                return Some(Op::Send);
            }
        } else if mem::take(&mut self.shutdown) {
            return Some(Op::Shutdown);
        }
        if !self.flight.receiving && !self.wire_ended && self.wants_the_wire() {
            self.flight.receiving = true;
            return Some(Op::Receive(BLOCK));
        }
        None
    }

    fn deadline(&self) -> Option<Duration> {
        let patience = match self.phase {
            Phase::Failing(_, until) | Phase::Closing(until) => Some(until),
            Phase::Closed => return None,
            _ => self.inner.deadline(),
        };
        [patience, self.flight.deadline()].into_iter().flatten().min()
    }

    fn output(&self) -> &Output {
        &self.wire
    }

    fn file(&self) -> Option<FileRange> {
        self.inner.output().front_file().cloned()
    }

    fn correct(&mut self, from: Duration, to: Duration) {
        self.inner.correct(from, to);
        let linger = self.shared.budget.linger;
        self.phase.put_off(from.saturating_add(linger), to.saturating_add(linger));
    }

    fn lend(&mut self, lent: &mut Lent) {
        self.wire.lend(lent);
    }

    fn take_back(&mut self, lent: &mut Lent) {
        self.wire.take_back(lent);
    }

    fn settle(&mut self, now: Duration, host: &mut Host) -> Pending {
        self.inner.settle(now, host);
        self.wire.tighten(&mut host.spares.sealed);
        let holds = self.held.size + self.plain.size + self.wire.footprint();
        let is_over = self.charge.is_none() && matches!(self.phase, Phase::Closed);
        if !is_over && !host.charge(&mut self.charge, holds) {
            self.inner.handle(now, Event::Failed(host.shared.memory.exceeded()), host);
            if matches!(self.phase, Phase::Closing(_)) {
                self.shut(true);
            }
        }
        self.keep_place();
        self.pump(now, host);
        Pending::ANY
    }

    fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Open)
            && self.held.is_empty()
            && self.plain.is_empty()
            && self.wire.is_empty()
            && self.inner.is_quiet()
    }

    fn awaits_end(&self) -> bool {
        self.inner.awaits_end()
    }
}

/// Without the bytes: what is opened here may be as secret as the keys.
impl fmt::Debug for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("phase", &self.phase)
            .field("layer", &self.layer)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
