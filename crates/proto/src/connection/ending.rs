//! How a connection ends: deadlines, the peer's half-close, the farewell, and that the session hears of it once.
#![forbid(unsafe_code)]

use std::{io, mem, sync::Arc, time::Duration};

use super::{Connection, Farewell, Phase};
use crate::{
    guard,
    host::Host,
    reading::Reading,
    service::{Closed, Ready, Session},
    stats::Counters,
    unread::Unread,
};

/// What a peer is waited for with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    FirstByte,
    AnyByte,
    MoreBytes,
}

impl Wait {
    /// What it is called when it has not come; `slowest` is the rate that was asked for.
    fn in_vain(self, slowest: u64) -> Closed {
        match self {
            Wait::FirstByte => Closed::Silent,
            Wait::AnyByte => Closed::Idle,
            Wait::MoreBytes => Closed::Slow(slowest),
        }
    }
}

impl<S: Session> Connection<S> {
    pub(super) fn tick(&mut self, now: Duration, host: &mut Host) {
        self.flight.tick(now);
        match self.phase {
            Phase::Connecting if self.answered_by() <= now => {
                self.close(if self.outgoing { Closed::Unanswered } else { Closed::Silent }, host);
            }
            Phase::Lingering(until) if until <= now => self.give_up(host),
            Phase::Open => {
                self.ring_timer(now, host);
                if let Some((when, wait)) = self.patience()
                    && when <= now
                {
                    self.close(wait.in_vain(self.shared.budget.slowest), host);
                }
            }
            _ => {}
        }
    }

    /// The server drains. Who has just come would be turned away unheard if it were told so at once.
    pub fn drain(&mut self, now: Duration, host: &mut Host) {
        match self.phase {
            Phase::Open => {
                self.call(now, host, |session, cx| session.ready(Ready::Draining, cx));
                self.redeliver(now, host);
            }
            Phase::Connecting if self.outgoing => self.close(Closed::Stopped, host),
            Phase::Connecting => self.drains = true,
            _ => {}
        }
    }

    /// When a connection that is being opened is given up. An accepted one is being opened while its layer shakes
    /// hands.
    pub(super) fn answered_by(&self) -> Duration {
        let budget = &self.shared.budget;
        self.opened.saturating_add(if self.outgoing { budget.connect } else { budget.first_byte })
    }

    /// The handshake has come on. If the time for it is over all the same, nobody has looked for so long, and a peer
    /// that has to answer yet has not had that time: it has it again. Once, since who sends a byte at the right moment
    /// is no better than who is late.
    pub(super) fn shaking(&mut self, now: Duration) {
        if self.answered_by() <= now && !mem::replace(&mut self.forgiven, true) {
            self.opened = now;
        }
    }

    /// How long the peer may keep us waiting, and with what.
    pub(crate) fn patience(&self) -> Option<(Duration, Wait)> {
        // For who is not sent to, because of a cap, no time runs.
        if self.waits {
            return None;
        }
        let budget = &self.shared.budget;
        // Who is held back cannot speak.
        let held_back = self.control.reading == Reading::Never;
        if !self.outgoing && !self.spoken && !held_back {
            let since = self.opened.max(self.control.resumed);
            return Some((since.saturating_add(budget.first_byte), Wait::FirstByte));
        }
        let works = self.control.outstanding > 0 || held_back;
        // Who opened a connection may wait on it as long as it likes, but not for a message that has been cut off.
        let expects = !self.outgoing || (self.peer_ended && !self.end_told);
        let unsent = !self.output.is_empty();
        let owes = unsent || (expects && !works);
        let resumed = if unsent { Duration::ZERO } else { self.control.resumed };
        let idle = owes.then(|| (self.active.max(resumed).saturating_add(budget.idle), Wait::AnyByte));
        let Some(slow) = self.burden.filter(|_| budget.slowest > 0 && (unsent || !works)) else {
            return idle;
        };
        let slow = slow.max(resumed.saturating_add(budget.idle));
        if idle.is_some_and(|(idle, _)| idle <= slow) { idle } else { Some((slow, Wait::MoreBytes)) }
    }

    /// Whether the only deadline is that of the next byte, which only moves back: the peer has spoken, all was read and
    /// sent, and neither a timer, a ticket nor a rest is out. To be asked once it is [weighed](Connection::weigh).
    pub(super) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Open
            && self.burden.is_none()
            && self.spoken
            && !self.outgoing
            && self.control.reading != Reading::Never
            && self.control.outstanding == 0
            && self.control.timer.is_none()
            && self.flight.deadline().is_none()
    }

    /// Bytes have passed.
    pub(super) fn touch(&mut self, now: Duration, count: u64) {
        self.active = now;
        self.spoken = true;
        let budget = &self.shared.budget;
        if let Some(slow) = &mut self.burden
            && let Some(earned) = count.saturating_mul(1_000_000).checked_div(budget.slowest)
        {
            // Haste is no credit: nobody is waited for longer than at first because of what was fast before. Nor is it
            // the peer's fault if nobody has looked for so long that the time had passed.
            let most = now.saturating_add(budget.idle);
            *slow = (*slow).max(now).saturating_add(Duration::from_micros(earned)).min(most);
        }
    }

    /// Notes whether there is something unread or unsent.
    pub(super) fn weigh(&mut self, now: Duration) {
        if self.held.is_empty() && self.output.is_empty() {
            self.burden = None;
        } else {
            self.burden.get_or_insert(now.saturating_add(self.shared.budget.idle));
        }
    }

    /// Deadlines that run since `from` run since `to`.
    pub(super) fn correct_stamps(&mut self, from: Duration, to: Duration) {
        if self.opened == from {
            self.opened = to;
        }
        if self.active == from {
            self.active = to;
            let late = to.saturating_sub(from);
            self.burden = self.burden.map(|slow| if slow < to { slow.saturating_add(late) } else { slow });
        }
        if self.control.resumed == from {
            self.control.resumed = to;
        }
        let linger = self.shared.budget.linger;
        if self.phase == Phase::Lingering(from.saturating_add(linger)) {
            self.phase = Phase::Lingering(to.saturating_add(linger));
        }
    }

    /// What follows from the new state, whatever event led to it.
    #[inline]
    pub(crate) fn advance(&mut self, now: Duration, host: &mut Host) {
        if self.peer_ended || self.control.finish || !self.held.is_empty() || self.output.is_closed() {
            self.follow_up(now, host);
        }
    }

    /// The same where the peer has ended, the session has, or something is left unread.
    fn follow_up(&mut self, now: Duration, host: &mut Host) {
        if self.peer_ended && !self.end_told && self.listens() && !self.may_read_on() {
            self.end_told = true;
            self.call(now, host, |session, cx| session.end(cx));
        }
        self.half_close();
        if self.listens() && self.held.len() >= self.shared.budget.buffer_each && !self.may_progress() {
            self.close(Closed::TooLarge(self.shared.budget.buffer_each), host);
        }
        if self.control.finish && self.phase == Phase::Open && self.output.is_empty() && self.is_settled() {
            self.unread += mem::take(&mut self.held).len() as u64;
            if self.peer_ended {
                self.conclude(host);
            } else {
                self.phase = Phase::Lingering(now.saturating_add(self.shared.budget.linger));
                if !self.half_closed && !self.control.yields {
                    self.farewell = Some(Farewell::Shutdown);
                }
            }
        }
    }

    /// Lets our end go out while the session reads on. With the peer's as well there is nothing left to do but what
    /// tickets are out for.
    fn half_close(&mut self) {
        if self.phase != Phase::Open || !self.output.is_closed() || !self.output.is_empty() {
            return;
        }
        if !mem::replace(&mut self.half_closed, true) {
            self.farewell = Some(Farewell::Shutdown);
        }
        self.control.finish |= self.end_told;
    }

    /// The peer has finished sending.
    pub(super) fn ended(&mut self, host: &mut Host) {
        self.flight.receiving = false;
        self.peer_ended = true;
        if let Phase::Lingering(_) = self.phase {
            self.conclude(host);
        }
    }

    /// Whether nothing more is to be said: no reply is awaited, or it would not be heard.
    fn is_settled(&self) -> bool {
        self.control.outstanding == 0 || self.verdict.is_some()
    }

    /// Whether the session could still read what it left, although the peer sends no more.
    fn may_read_on(&self) -> bool {
        !self.held.is_empty() && self.held.len() >= self.need && self.may_progress()
    }

    /// Whether something other than the peer could still make the session read what it left.
    fn may_progress(&self) -> bool {
        self.flooded || self.control.timer.is_some() || self.is_awaited()
    }

    /// Whether a ticket or a waker is out.
    pub(super) fn is_awaited(&self) -> bool {
        self.control.outstanding > 0
            || self.mailbox.as_ref().is_some_and(|mailbox| Arc::strong_count(&mailbox.wake_flag) > 1)
    }

    /// The orderly end.
    pub(super) fn conclude(&mut self, host: &mut Host) {
        let why = self.why(Closed::Finished);
        self.end(&why, false, host);
    }

    /// The peer has not ended in time. If it was to be first, an orderly end would make us that after all.
    fn give_up(&mut self, host: &mut Host) {
        let late = self.control.yields || self.outgoing;
        let why = self.why(if late { Closed::Unended } else { Closed::Finished });
        self.end(&why, self.control.yields, host);
    }

    /// Why a connection ends, if nothing went wrong but perhaps this: who opened it for an answer, and finished before
    /// that had come, is to know that it did not hear all.
    fn why(&mut self, otherwise: Closed) -> Closed {
        match self.verdict.take() {
            Some(reason) => Closed::Violation(reason),
            None if self.outgoing && self.unread > 0 => Closed::Unread(self.unread),
            None => otherwise,
        }
    }

    /// The end that takes no care of what was not sent.
    pub(crate) fn close(&mut self, why: Closed, host: &mut Host) {
        self.end(&why, true, host);
    }

    /// The session panicked: nothing is asked of it again, not even to hear of its end.
    pub(crate) fn break_off(&mut self, host: &mut Host) {
        tracing::error!(peer = %self.peer.address, "a session panicked; its connection is closed");
        let session = self.session.take();
        // What it held may be as broken as it is.
        guard::call(|| drop(session));
        self.close(Closed::System(io::Error::other("the session panicked")), host);
    }

    fn end(&mut self, why: &Closed, reset: bool, host: &mut Host) {
        if self.phase == Phase::Closed {
            return;
        }
        self.farewell = Some(Farewell::Close { reset });
        self.held = Unread::default();
        // What was lent to an operation stays until that has ended, and so does what it is charged with.
        if let Some(charge) = &mut self.charge {
            charge.change(self.output.footprint());
        }
        self.bury(why, &mut host.count);
    }

    /// Counts the end, and lets the session and everybody who holds a ticket or a waker know.
    fn bury(&mut self, why: &Closed, count: &mut Counters) {
        self.phase = Phase::Closed;
        self.use_leave(0, Duration::ZERO);
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.wake_flag.close();
        }
        self.permit = None;
        count.close(why);
        if !matches!(why, Closed::Finished) {
            tracing::debug!(peer = %self.peer.address, %why, "connection closed");
        }
        if let Some(session) = self.session.take()
            && guard::call(|| session.closed(why)).is_none()
        {
            tracing::error!(peer = %self.peer.address, "a session panicked while it was told of its end");
        }
    }
}

/// A loop that ends early, or a thread that could not be had, lets go of connections that nobody has closed.
impl<S: Session> Drop for Connection<S> {
    fn drop(&mut self) {
        if self.phase != Phase::Closed {
            let mut count = Counters::default();
            self.bury(&Closed::Stopped, &mut count);
            self.shared.stats().add(&count);
        }
    }
}
