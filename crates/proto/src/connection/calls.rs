//! What a connection lets its session know, and when: bytes, replies, wakes, room, timers.
#![forbid(unsafe_code)]

use std::{mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use super::{BLOCK, Connection, Phase};
use crate::{
    guard,
    host::{Host, Shared},
    input::Input,
    output::KEPT_TAIL,
    reading::Reading,
    service::{Close, Closed, Done, Ready, Session},
    session::Context,
    unread::Unread,
};

impl<S: Session> Connection<S> {
    /// Calls the session, and obeys what it answers. One that panics loses its connection and nothing else.
    pub fn call(
        &mut self,
        now: Duration,
        host: &mut Host,
        action: impl FnOnce(&mut S, &mut Context<'_, S>) -> Done,
    ) {
        if let Some((session, mut cx, _)) = self.parts(now, host) {
            let done = guard::call(|| action(session, &mut cx));
            self.obey(done, host);
        }
    }

    /// The session, if there still is one, and what it is called with.
    fn parts<'a>(
        &'a mut self,
        now: Duration,
        host: &'a mut Host,
    ) -> Option<(&'a mut S, Context<'a, S>, &'a Arc<Shared>)> {
        let session = self.session.as_mut()?;
        let cx = Context {
            now,
            peer: &self.peer,
            identity: self.identity.as_deref(),
            token: self.token,
            output: &mut self.output,
            control: &mut self.control,
            mailbox: &mut self.mailbox,
            host,
        };
        Some((session, cx, &self.shared))
    }

    /// `None`: the session has panicked.
    fn obey(&mut self, done: Option<Done>, host: &mut Host) {
        let Some(done) = done else { return self.break_off(host) };
        self.flooded |= self.output.buffered() > self.shared.budget.high_water() || self.output.has_file();
        if self.output.overflowed() {
            let most = self.shared.budget.buffer_each;
            self.close(
                if self.output.is_closed() { Closed::Unsendable } else { Closed::Overflow(most) },
                host,
            );
        } else if let Err(Close { reason, abort }) = done {
            if abort {
                self.close(Closed::Violation(reason), host);
            } else {
                self.control.finish = true;
                self.verdict.get_or_insert(reason);
            }
        }
        if self.control.is_silent() {
            self.output.close();
        }
    }

    /// Gives unread bytes, in a buffer of `size` bytes, to the session for as long as it makes progress.
    fn deliver(&mut self, block: &mut BytesMut, size: usize, now: Duration, host: &mut Host) {
        while !block.is_empty() && block.len() >= self.need && self.listens() && !self.is_held_back() {
            let before = block.len();
            let mut need = 0;
            let Some((session, mut cx, shared)) = self.parts(now, host) else { return };
            let mut input = Input::new(block, size, &mut need, &shared.memory);
            let done = guard::call(|| session.receive(&mut input, &mut cx));
            self.obey(done, host);
            self.need = need;
            if need > self.shared.budget.buffer_each {
                self.close(Closed::TooLarge(self.shared.budget.buffer_each), host);
            }
            if block.len() == before {
                break;
            }
        }
        if !self.listens() {
            self.unread += block.len() as u64;
            block.clear();
        }
    }

    /// New bytes: straight from the loop's block where nothing was left before.
    pub(crate) fn receive(&mut self, block: &mut BytesMut, now: Duration, host: &mut Host) {
        if block.len() > KEPT_TAIL {
            self.output.borrow_tail(&mut host.spares.written);
        }
        if self.held.is_empty() {
            self.deliver(block, block.capacity().max(BLOCK), now, host);
            if !block.is_empty() {
                self.held.append(block, self.shared.budget.buffer_each);
            }
        } else {
            self.held.append(block, self.shared.budget.buffer_each);
            self.redeliver(now, host);
        }
    }

    /// Something changed: shows the session what it had left.
    pub(super) fn redeliver(&mut self, now: Duration, host: &mut Host) {
        let Unread { mut bytes, size } = mem::take(&mut self.held);
        self.deliver(&mut bytes, size, now, host);
        self.held = Unread { bytes, size };
        self.held.shrink();
    }

    /// Whether the peer is not to send more now.
    pub(crate) fn is_held_back(&self) -> bool {
        match self.control.reading {
            Reading::WithRoom => self.flooded,
            Reading::Always => false,
            Reading::Never => true,
        }
    }

    /// Whether the session still wants bytes.
    pub(crate) fn listens(&self) -> bool {
        self.phase == Phase::Open && !self.control.finish
    }

    pub(crate) fn opened(&mut self, now: Duration, host: &mut Host) {
        self.phase = Phase::Open;
        self.active = now;
        self.call(now, host, |session, cx| session.ready(Ready::Opened, cx));
        // Somebody may have called while the connection was being made.
        self.woken(now, host);
    }

    pub(crate) fn sent(&mut self, count: u64, now: Duration, host: &mut Host) {
        self.flight.sending = false;
        self.use_leave(count, now);
        self.output.advance_into(count, &mut host.spares.written);
        if count > 0 {
            self.touch(now, count);
        }
        host.count.bytes_out += count;
        if self.flooded
            && self.output.buffered() <= self.shared.budget.high_water() / 2
            && !self.output.has_file()
        {
            self.flooded = false;
            self.call(now, host, |session, cx| session.ready(Ready::Room, cx));
            self.redeliver(now, host);
        }
    }

    pub(crate) fn woken(&mut self, now: Duration, host: &mut Host) {
        let Some(mailbox) = self.mailbox.clone() else {
            return;
        };
        if self.phase == Phase::Connecting {
            return;
        }
        let (called, replies) = mailbox.take();
        for (id, reply) in replies {
            self.control.comes_back(id);
            // While there was work the peer was not waited for.
            self.active = now;
            self.burden = None;
            if self.phase == Phase::Open {
                self.call(now, host, |session, cx| session.reply(id, reply.into_inner(), cx));
            }
        }
        if called && self.phase == Phase::Open {
            self.call(now, host, |session, cx| session.ready(Ready::Woken, cx));
        }
        self.redeliver(now, host);
    }

    /// Calls the session if the time it set has come.
    pub(super) fn ring_timer(&mut self, now: Duration, host: &mut Host) {
        if self.control.timer.is_some_and(|when| when <= now) {
            self.control.timer = None;
            self.call(now, host, |session, cx| session.ready(Ready::Timer, cx));
            self.redeliver(now, host);
        }
    }
}
