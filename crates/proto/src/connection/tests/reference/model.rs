//! What a connection has to do, said once more as plainly as it can be: in counts and lists, without a byte.

use std::time::Duration;

use super::{
    script::{Act, Heard, Message, Script},
    *,
};

/// What a loop is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Receive(usize),
    Send,
    Shutdown,
    Close { reset: bool },
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Life {
    #[default]
    Opening,
    Open,
    /// All was said; the peer's end is awaited until then.
    Lingering(Duration),
    Closed,
}

#[derive(Default)]
pub(crate) struct Model {
    script: Script,
    outgoing: bool,
    pub(crate) now: Duration,
    life: Life,
    pub(crate) heard: Vec<Heard>,
    pub(crate) asked: Vec<Asked>,
    /// Bytes that the session has not consumed, and those that it will not be shown.
    pub(crate) unread: usize,
    lost: usize,
    need: usize,
    pub(crate) unsent: usize,
    overflow: bool,
    /// It may not be shown more before the peer has taken some.
    flooded: bool,
    receiving: bool,
    /// How much was asked for.
    most: usize,
    sending: bool,
    /// A receive, a send for which the system had no room, and until when they rest.
    rests: (bool, bool),
    rest: Option<Duration>,
    /// Finishing; and whether the peer is to end first.
    finishing: bool,
    yields: bool,
    /// It says no more but what the replies to these tickets are; then nothing at all; then its end is out.
    last_words: Option<Vec<u64>>,
    silent: bool,
    half_closed: bool,
    violated: bool,
    reading: Reading,
    /// When the peer was not held back any more.
    resumed: Duration,
    timer: Option<Duration>,
    taken: u64,
    /// Tickets of which the session has not heard.
    missed: usize,
    /// Tickets that are out, and those that have come back and were not heard of.
    pub(crate) tickets: Vec<u64>,
    pub(super) replies: Vec<(u64, Option<usize>)>,
    pub(crate) wakers: usize,
    pub(crate) called: bool,
    ended: bool,
    end_told: bool,
    /// It hears of the drain when something was read, and all of it.
    drains: bool,
    placed: Duration,
    active: Duration,
    spoken: bool,
}

impl Model {
    pub(crate) fn new(script: Script, outgoing: bool, now: Duration) -> Self {
        Self { script, outgoing, now, placed: now, active: now, wakers: outgoing.into(), ..Self::default() }
    }

    /// How much can be brought to it.
    pub(super) fn can_receive(&self) -> usize {
        let asked = self.receiving && !self.rests.0 && !self.is_closed();
        if asked { self.most } else { 0 }
    }

    pub(super) fn can_send(&self) -> bool {
        self.sending && !self.rests.1 && !self.is_closed()
    }

    /// How many bytes are wanted to complete the next message.
    pub(crate) fn lacks(&self) -> usize {
        let length = self.script.messages.front().map_or(1, |message| message.length);
        length.saturating_sub(self.unread)
    }

    pub(super) fn is_opening(&self) -> bool {
        self.life == Life::Opening
    }

    pub(super) fn is_closed(&self) -> bool {
        self.life == Life::Closed
    }

    pub(super) fn lingers(&self) -> bool {
        matches!(self.life, Life::Lingering(_))
    }

    fn listens(&self) -> bool {
        self.life == Life::Open && !self.finishing
    }

    /// It may be shown what comes.
    fn reads(&self) -> bool {
        let full = self.flooded && self.reading == Reading::WithRoom;
        self.listens() && !full && self.reading != Reading::Never
    }

    fn works(&self) -> bool {
        self.tickets.len() + self.replies.len() > 0
    }

    /// Nobody but the peer can make the session go on.
    fn is_alone(&self) -> bool {
        !self.flooded && self.timer.is_none() && !self.works() && self.wakers == 0
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.unread == 0 && !self.works() && self.wakers == 0
    }

    fn close(&mut self, why: &Closed, reset: bool) {
        self.life = Life::Closed;
        self.asked.push(Asked::Close { reset });
        self.heard.push(Heard::Closed(why.to_string()));
    }

    /// The end of one that has nothing more to say; `otherwise` if there is nothing to complain of.
    fn conclude(&mut self, otherwise: Closed, reset: bool) {
        let why = match self.lost {
            _ if self.violated => Closed::Violation("violated".into()),
            lost if lost > 0 && self.outgoing => Closed::Unread(lost as u64),
            _ => otherwise,
        };
        self.close(&why, reset);
    }

    fn call(&mut self, heard: Heard, act: Act) {
        self.heard.push(heard);
        match act {
            Act::Write(count) if count > 0 && self.silent => {
                return self.close(&Closed::Unsendable, true);
            }
            Act::Write(count) if self.unsent + count > EACH => self.overflow = true,
            Act::Write(count) => self.unsent += count,
            Act::Ticket if self.tickets.len() < 3 => {
                self.tickets.push(self.taken);
                self.taken += 1;
                self.missed += 1;
            }
            Act::Waker => self.wakers += 1,
            Act::Timer(wait) => self.timer = wait.map(|wait| self.now + Duration::from_millis(wait)),
            Act::Finish | Act::FinishAfterPeer => {
                self.finishing = true;
                self.yields = act == Act::FinishAfterPeer && self.last_words.is_none();
            }
            Act::FinishSending if self.last_words.is_none() && !self.finishing => {
                let back = self.replies.iter().map(|(id, _)| *id);
                self.last_words = Some(self.tickets.iter().copied().chain(back).collect());
            }
            Act::Violate => (self.finishing, self.violated) = (true, true),
            Act::Abort => return self.close(&Closed::Violation("aborted".into()), true),
            Act::Read(reading) => {
                if self.reading == Reading::Never && reading != Reading::Never {
                    self.resumed = self.now;
                }
                self.reading = reading;
            }
            Act::Nothing | Act::Ticket | Act::FinishSending => {}
        }
        self.flooded |= self.unsent > HIGH_WATER;
        if self.overflow {
            self.close(&Closed::Overflow(EACH), true);
        }
        self.silent = self.last_words.as_ref().is_some_and(Vec::is_empty);
    }

    fn ready(&mut self, why: Ready) {
        self.call(Heard::Ready(why), self.script.at(why));
    }

    /// The session is shown what is unread, for as long as it consumes some and there is as much as it needs.
    fn show(&mut self) {
        while self.reads() && self.unread > 0 && self.unread >= self.need {
            let heard = Heard::Unread(self.unread);
            self.need = 0;
            match self.script.messages.front().copied() {
                None => {
                    self.unread = 0;
                    self.call(heard, Act::Nothing);
                }
                Some(Message { length, needed, waits, .. })
                    if self.unread < length || waits && self.missed > 0 =>
                {
                    self.need = if needed { length } else { 0 };
                    self.call(heard, Act::Nothing);
                    if self.need > EACH {
                        self.close(&Closed::TooLarge(EACH), true);
                    }
                    break;
                }
                Some(Message { length, then, .. }) => {
                    self.unread -= length;
                    self.script.messages.pop_front();
                    self.call(heard, then);
                }
            }
        }
        if !self.listens() {
            self.lost += std::mem::take(&mut self.unread);
        }
    }

    fn woken(&mut self) {
        if self.life == Life::Opening {
            return;
        }
        for (id, reply) in std::mem::take(&mut self.replies) {
            self.active = self.now;
            if self.life == Life::Open {
                self.missed -= 1;
                self.last_words.iter_mut().for_each(|owed| owed.retain(|owed| *owed != id));
                self.call(Heard::Reply(id, reply), Act::Write(reply.unwrap_or(0)));
            }
        }
        if std::mem::take(&mut self.called) && self.life == Life::Open {
            self.ready(Ready::Woken);
        }
        self.show();
    }

    fn drain(&mut self) {
        match self.life {
            Life::Opening if self.outgoing => self.close(&Closed::Stopped, true),
            Life::Opening => self.drains = true,
            Life::Open => {
                self.ready(Ready::Draining);
                self.show();
            }
            _ => {}
        }
    }

    fn moved(&mut self) {
        (self.active, self.spoken) = (self.now, true);
    }

    fn answered_by(&self) -> Duration {
        self.placed + if self.outgoing { CONNECT } else { FIRST_BYTE }
    }

    /// How long the peer may keep an open connection waiting, and why it closes then.
    fn patience(&self) -> Option<(Duration, Closed)> {
        let free = self.reading != Reading::Never;
        let awaits_bytes = free && !self.works() && (!self.outgoing || self.ended && !self.end_told);
        if free && !self.outgoing && !self.spoken {
            Some((self.placed.max(self.resumed) + FIRST_BYTE, Closed::Silent))
        } else if self.unsent > 0 {
            Some((self.active + IDLE, Closed::Idle))
        } else if awaits_bytes {
            Some((self.active.max(self.resumed) + IDLE, Closed::Idle))
        } else {
            None
        }
    }

    /// It is later than it was told.
    pub(crate) fn late(&mut self, by: Duration) {
        let told = self.now;
        self.now += by;
        for stamp in [&mut self.placed, &mut self.active, &mut self.resumed] {
            if *stamp == told {
                *stamp = self.now;
            }
        }
        if self.life == Life::Lingering(told + LINGER) {
            self.life = Life::Lingering(self.now + LINGER);
        }
    }

    fn tick(&mut self) {
        if self.rest.take_if(|rest| *rest <= self.now).is_some() {
            let (receive, send) = std::mem::take(&mut self.rests);
            (self.receiving, self.sending) = (self.receiving && !receive, self.sending && !send);
        }
        match self.life {
            Life::Opening if self.answered_by() <= self.now => {
                self.close(if self.outgoing { &Closed::Unanswered } else { &Closed::Silent }, true);
            }
            Life::Lingering(until) if until <= self.now => {
                let owed = self.yields || self.outgoing;
                self.conclude(if owed { Closed::Unended } else { Closed::Finished }, self.yields);
            }
            Life::Open => {
                if self.timer.take_if(|when| *when <= self.now).is_some() {
                    self.ready(Ready::Timer);
                    self.show();
                }
                if let Some((when, why)) = self.patience()
                    && self.life == Life::Open
                    && when <= self.now
                {
                    self.close(&why, true);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn handle(&mut self, event: &Event<'_>) {
        if self.is_closed() {
            return;
        }
        let reads = self.unread > 0 || matches!(event, Event::Received(_));
        match event {
            Event::Opened => {
                (self.life, self.active) = (Life::Open, self.now);
                self.ready(Ready::Opened);
                self.woken();
            }
            Event::Received(block) => {
                self.receiving = false;
                if self.life == Life::Open {
                    self.moved();
                    self.unread += block.len();
                    self.show();
                } else {
                    self.lost += block.len();
                }
            }
            Event::Ended => {
                (self.receiving, self.ended) = (false, true);
                if self.lingers() {
                    self.conclude(Closed::Finished, false);
                }
            }
            Event::Sent(count) => {
                (self.sending, self.unsent) = (false, self.unsent - *count as usize);
                if *count > 0 {
                    self.moved();
                }
                if self.flooded && self.unsent <= HIGH_WATER / 2 {
                    self.flooded = false;
                    self.ready(Ready::Room);
                    self.show();
                }
            }
            Event::Exhausted(operation) => {
                self.rests.0 |= *operation == Operation::Receive;
                self.rests.1 |= *operation == Operation::Send;
                self.rest = Some(self.now + REST);
            }
            Event::Failed(error) => self.close(&Closed::System(error.kind().into()), true),
            Event::Woken => self.woken(),
            Event::Tick => self.tick(),
            Event::Drain => self.drain(),
            Event::Stop => self.close(&Closed::Stopped, true),
            Event::Shaking | Event::Proven(_) | Event::Read(_) => {
                unreachable!("there is no layer")
            }
        }
        if self.drains && reads && self.unread == 0 {
            self.drains = false;
            self.drain();
        }
        self.go_on();
        self.ask();
    }

    /// What follows, whatever has happened.
    fn go_on(&mut self) {
        let mut farewell = false;
        // The end comes behind all bytes that the session can still use.
        let can_use = self.unread > 0 && self.unread >= self.need && !self.is_alone();
        if self.ended && !self.end_told && self.listens() && !can_use {
            self.end_told = true;
            self.call(Heard::End, self.script.end);
        }
        if self.listens() && self.unread >= EACH && self.is_alone() {
            self.close(&Closed::TooLarge(EACH), true);
        }
        if self.life == Life::Open && self.silent && self.unsent == 0 {
            if !std::mem::replace(&mut self.half_closed, true) {
                farewell = true;
            }
            // With both ends there is nothing left to hear.
            self.finishing |= self.end_told;
        }
        let all_said = self.unsent == 0 && (self.violated || !self.works());
        if self.life == Life::Open && self.finishing && all_said {
            self.lost += std::mem::take(&mut self.unread);
            if self.ended {
                return self.conclude(Closed::Finished, false);
            }
            self.life = Life::Lingering(self.now + LINGER);
            farewell |= !self.half_closed && !self.yields;
        }
        if farewell {
            self.asked.push(Asked::Shutdown);
        }
    }

    fn ask(&mut self) {
        if self.life == Life::Open && !self.sending && self.unsent > 0 {
            self.sending = true;
            self.asked.push(Asked::Send);
        }
        let most = match self.life {
            _ if self.receiving || self.ended => 0,
            Life::Lingering(_) => BLOCK,
            // What is read all the same is not answered: the output may be as full as it likes.
            Life::Open if self.reading == Reading::Always && self.reads() => EACH.saturating_sub(self.unread),
            Life::Open if self.reads() => EACH.saturating_sub(self.unsent + self.unread),
            _ => 0,
        };
        if most > 0 {
            (self.receiving, self.most) = (true, most);
            self.asked.push(Asked::Receive(most));
        }
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let patience = match self.life {
            Life::Opening => Some(self.answered_by()),
            Life::Open => self.patience().map(|(when, _)| when),
            Life::Lingering(until) => Some(until),
            Life::Closed => return None,
        };
        let timer = self.timer.filter(|_| self.life == Life::Open);
        [patience, timer, self.rest].into_iter().flatten().min()
    }
}
