//! A session that does what a script says, message by message, and keeps a log of what it hears.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::*;
use crate::{
    input::Input,
    reading::Reading,
    service::{Close, Lost},
    session::Context,
};

/// What a session does when it is called.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) enum Act {
    #[default]
    Nothing,
    Write(usize),
    Ticket,
    Waker,
    /// So many milliseconds from now; or no more.
    Timer(Option<u64>),
    Finish,
    FinishSending,
    Read(Reading),
    FinishAfterPeer,
    Violate,
    Abort,
}

/// What comes next on the stream of the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) length: usize,
    /// It is asked for as a whole; otherwise the session is shown every part of it.
    pub(crate) needed: bool,
    /// Whole as it is, it is left until all tickets have come back.
    pub(crate) waits: bool,
    pub(crate) then: Act,
}

/// What a session does in the course of its life. Bytes behind the last message are consumed as they come.
#[derive(Debug, Default, Clone)]
pub(super) struct Script {
    pub(crate) messages: VecDeque<Message>,
    pub(crate) opened: Act,
    pub(crate) woken: Act,
    pub(crate) room: Act,
    pub(super) timer: Act,
    pub(crate) draining: Act,
    pub(crate) end: Act,
}

impl Script {
    pub(crate) fn at(&self, why: Ready) -> Act {
        match why {
            Ready::Opened => self.opened,
            Ready::Woken => self.woken,
            Ready::Room => self.room,
            Ready::Timer => self.timer,
            Ready::Draining => self.draining,
        }
    }
}

/// What a session hears.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    /// So many bytes are unread.
    Unread(usize),
    /// Of the ticket of this number, with its reply.
    Reply(u64, Option<usize>),
    Ready(Ready),
    End,
    Closed(String),
}

/// What it has heard, and taken out.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) heard: Vec<Heard>,
    pub(crate) tickets: Vec<(u64, Ticket<usize>)>,
    /// Tickets that were taken and not heard of.
    pub(super) missed: usize,
    pub(crate) wakers: Vec<Waker>,
}

pub(super) struct Actor {
    pub(super) script: Script,
    pub(crate) log: Arc<Mutex<Log>>,
}

impl Actor {
    fn hear(&self, heard: Heard) {
        self.log.lock().unwrap().heard.push(heard);
    }

    fn misses(&self) -> bool {
        self.log.lock().unwrap().missed > 0
    }

    fn act(&self, act: Act, cx: &mut Context<'_, Self>) -> Done {
        let mut log = self.log.lock().unwrap();
        match act {
            Act::Nothing => {}
            Act::Write(count) => cx.output().write(&vec![b'w'; count]),
            Act::Ticket => {
                if let Ok(ticket) = cx.ticket() {
                    log.tickets.push((ticket.id().0, ticket));
                    log.missed += 1;
                }
            }
            Act::Waker => log.wakers.push(cx.waker()),
            Act::Timer(wait) => {
                let when = wait.map(|wait| cx.now() + Duration::from_millis(wait));
                cx.wake_at(when);
            }
            Act::Finish => cx.finish(),
            Act::FinishSending => cx.finish_sending(),
            Act::Read(reading) => cx.read(reading),
            Act::FinishAfterPeer => cx.finish_after_peer(),
            Act::Violate => return Err(Close::violation("violated")),
            Act::Abort => return Err(Close::abort("aborted")),
        }
        Ok(())
    }
}

impl Session for Actor {
    type Reply = usize;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.hear(Heard::Unread(input.len()));
        match self.script.messages.front() {
            None => input.consume(usize::MAX),
            Some(message) if input.len() < message.length || message.waits && self.misses() => {
                input.need(if message.needed { message.length } else { 0 });
            }
            Some(&Message { length, then, .. }) => {
                input.consume(length);
                self.script.messages.pop_front();
                return self.act(then, cx);
            }
        }
        Ok(())
    }

    fn reply(&mut self, id: JobId, reply: Result<usize, Lost>, cx: &mut Context<'_, Self>) -> Done {
        self.hear(Heard::Reply(id.0, reply.ok()));
        self.log.lock().unwrap().missed -= 1;
        self.act(Act::Write(reply.unwrap_or(0)), cx)
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.hear(Heard::Ready(why));
        self.act(self.script.at(why), cx)
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.hear(Heard::End);
        self.act(self.script.end, cx)
    }

    fn closed(self, why: &Closed) {
        self.hear(Heard::Closed(why.to_string()));
    }
}
