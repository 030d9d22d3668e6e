//! One link between two members, as a session: messages out in parts, parts in, and credit for both.
//!
//! What is under way is bounded twice. *Sent and not confirmed* is at most the window: so much can stand before a small
//! message, wherever it stands, in our output, in the kernels or on the road. *Begun and not taken* is at most the
//! allowance that the other side has named: so much of its memory is ours to fill. Both come back with its credit.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use roadstead_proto::{
    address::Address,
    budget::Charge,
    frame::{Frame, Parsed},
    input::Input,
    service::{Close, Closed, Done, Peer, Ready, Scope, Service, Session},
    session::Context,
};

use crate::{
    hub::{Hub, Left},
    options::{Key, PART, Strategy, cost},
    outbox::Parcel,
    spread::Dialled,
    taken::Taken,
    wire::{self, Hello, Part, Said},
};

/// The service at which peers come in.
pub(super) struct Links(pub Arc<Hub>);

impl Service for Links {
    type Session = Link;
    /// All links of a member share its hub.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, peer: &Peer) -> Link {
        Link::new(Arc::clone(&self.0), peer.address.clone(), None)
    }
}

/// How long received bytes may go unconfirmed where nobody waits for the confirmation.
const LAZY: Duration = Duration::from_millis(5);

/// A message that is being sent.
struct Transfer {
    parcel: Parcel,
    offset: usize,
}

/// A message of which some parts have come.
struct Partial {
    bytes: Vec<u8>,
    length: usize,
    charges: [Charge; 2],
}

/// One end of a link.
pub(crate) struct Link {
    hub: Arc<Hub>,
    number: u64,
    address: Address,
    /// If we have dialled it.
    dialled: Option<Dialled>,
    /// Who it is, once it has said so.
    peer: Option<usize>,
    out: Outgoing,
    inc: Incoming,
    /// When something was last heard, and last said.
    heard: Duration,
    said: Duration,
    refused: bool,
}

/// What this side sends.
#[derive(Default)]
struct Outgoing {
    transfers: VecDeque<Transfer>,
    /// Sent whole, and the count of sent bytes at which each is confirmed.
    unconfirmed: VecDeque<(u64, Parcel)>,
    sent: u64,
    confirmed: u64,
    begun: u64,
    taken: u64,
    allowance: u64,
    carried: u64,
}

/// What this side receives.
struct Incoming {
    partial: HashMap<Key, Partial>,
    received: u64,
    told: u64,
    taken: Option<Taken>,
    /// When what was received is to be confirmed.
    due: Option<Duration>,
}

/// Numbers links within this process.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Link {
    pub(crate) fn new(hub: Arc<Hub>, address: Address, dialled: Option<Dialled>) -> Self {
        let inc = Incoming { partial: HashMap::new(), received: 0, told: 0, taken: None, due: None };
        Self {
            hub,
            number: NUMBERS.fetch_add(1, Relaxed),
            address,
            dialled,
            peer: None,
            out: Outgoing::default(),
            inc,
            heard: Duration::ZERO,
            said: Duration::ZERO,
            refused: false,
        }
    }

    fn strategy(&self) -> Strategy {
        self.hub.options.strategy
    }

    fn greet(&self, to: usize, cx: &mut Context<'_, Self>) {
        let allowance = self.hub.options.allowance();
        let (from, to) = (self.hub.me, self.hub.peers[to].id);
        Hello { from, to, strategy: self.strategy().code(), allowance }.send(cx.output());
    }

    /// The peer has said who it is.
    fn meet(&mut self, hello: Hello, cx: &mut Context<'_, Self>) -> Done {
        let hub = Arc::clone(&self.hub);
        let peer =
            hub.index(hello.from).filter(|peer| self.dialled.is_none_or(|dialled| dialled.to == *peer));
        let Some(peer) = peer else {
            return self.turn_away(format!("it says that it is {}, who is not expected here", hello.from));
        };
        if self.peer.is_some() {
            return self.turn_away("it introduced itself twice".into());
        }
        if let Some(trust) = &hub.trust
            && let Err(why) = trust.check(peer, cx.identity())
        {
            return self.turn_away(format!("it says that it is {}, but {why}", hello.from));
        }
        if hello.to != hub.me {
            let reason = format!("it looks for {}, this is {}; check the addresses", hello.to, hub.me);
            return self.turn_away(reason);
        }
        if hello.strategy != self.strategy().code() {
            let reason = format!("its strategy is another; this side's is {}", self.strategy());
            return self.turn_away(reason);
        }
        if self.dialled.is_none() {
            self.greet(peer, cx);
        }
        self.out.allowance = hello.allowance;
        self.inc.taken = Some(Taken::new(hub.options.allowance() / 8, cx.waker()));
        if !hub.join(peer, self.number, cx.waker(), self.dialled.is_some()) {
            return self.turn_away("there are too many links to it".into());
        }
        self.peer = Some(peer);
        Ok(())
    }

    fn turn_away(&mut self, reason: String) -> Done {
        self.refused = true;
        Err(Close::violation(reason))
    }

    fn part(&mut self, part: Part<'_>, now: Duration) -> Done {
        let Some((peer, taken)) = self.peer.zip(self.inc.taken.clone()) else {
            return self.turn_away("it sent a message before it said who it is".into());
        };
        let limit = self.hub.options.largest;
        if part.length > limit {
            let length = part.length;
            return Err(Close::violation(format!(
                "a message of {length} bytes; at most {limit} are accepted"
            )));
        }
        self.inc.received += wire::weight(part.bytes.len());
        if part.offset == 0 {
            let charges = self
                .hub
                .reserve(peer, part.length)
                .ok_or_else(|| Close::violation("it sent more than it was allowed before that was taken"))?;
            let partial = Partial { bytes: Vec::with_capacity(part.length), length: part.length, charges };
            if self.inc.partial.insert(part.key, partial).is_some() {
                return Err(Close::violation("it began a message twice"));
            }
        }
        let Some(partial) = self.inc.partial.get_mut(&part.key) else {
            return Err(Close::violation("it sent a part of a message that it had not begun"));
        };
        if partial.bytes.len() != part.offset || partial.length != part.length {
            return Err(Close::violation("the parts of a message do not fit together"));
        }
        partial.bytes.extend_from_slice(part.bytes);
        if partial.bytes.len() == partial.length
            && let Some(Partial { bytes, charges, .. }) = self.inc.partial.remove(&part.key)
        {
            self.hub.deliver(peer, part.key, bytes.into(), charges, taken);
            // One at a time means that the next message waits for this confirmation.
            if self.strategy().at_once() == 1 {
                self.inc.due = Some(now);
            }
        }
        self.inc.due.get_or_insert(now + LAZY);
        Ok(())
    }

    fn credit(&mut self, received: u64, taken: u64, cx: &mut Context<'_, Self>) -> Done {
        let Some(peer) = self.peer else {
            return self.turn_away("it confirmed before it said who it is".into());
        };
        let out = &mut self.out;
        if received > out.sent || received < out.confirmed || taken > out.begun || taken < out.taken {
            return Err(Close::violation("it confirmed what was not sent"));
        }
        (out.confirmed, out.taken) = (received, taken);
        while let Some((_, parcel)) = out.unconfirmed.pop_front_if(|(at, _)| *at <= received) {
            out.carried += 1;
            self.hub.confirmed(peer, &parcel);
        }
        let over = self.strategy() == Strategy::PerQuery && self.dialled.is_some();
        if over && self.out.carried > 0 && self.out.is_idle() {
            cx.finish();
        }
        Ok(())
    }

    /// Sends what may be sent now.
    fn pump(&mut self, cx: &mut Context<'_, Self>) {
        let Some(peer) = self.peer else { return };
        let (window, at_once) = (self.hub.options.under_way(), self.strategy().at_once());
        let once = self.strategy() == Strategy::PerQuery;
        let (sent_before, mut ahead) = (self.out.sent, 0);
        loop {
            let busy = self.out.transfers.len() + self.out.unconfirmed.len();
            let free = if once { self.dialled.is_some() && self.out.carried == 0 } else { true };
            if busy < at_once && free && self.out.transfers.front().is_none_or(|it| !it.parcel.is_small()) {
                let out = &self.out;
                if let Some(parcel) = self.hub.take(peer, self.number, |length| out.may_begin(length)) {
                    // Of one key, the other side would take the parts of two messages for parts of one.
                    if out.transfers.iter().any(|it| it.parcel.key == parcel.key) {
                        self.hub.give_up(peer, &parcel);
                    } else {
                        self.out.begin(parcel);
                    }
                    continue;
                }
            }
            let Some(waited) = self.out.step(window, cx) else { break };
            ahead = ahead.max(waited);
        }
        let sent = self.out.sent - sent_before;
        if sent > 0 {
            self.hub.count(peer, 0, sent, ahead);
            self.said = cx.now();
        }
    }

    /// Confirms what is due, or will be soon and costs nothing more now.
    fn confirm(&mut self, cx: &mut Context<'_, Self>) {
        let (Some(peer), Some(taken)) = (self.peer, self.inc.taken.clone()) else { return };
        let unconfirmed = self.inc.received - self.inc.told;
        let (count, much) = taken.count();
        let speaks = !cx.output().is_empty() && self.inc.due.is_some();
        let due = self.inc.due.is_some_and(|due| due <= cx.now());
        let quiet = cx.now() >= self.said.saturating_add(self.hub.options.silence / 5);
        if speaks || due || quiet || unconfirmed >= self.hub.options.under_way() / 8 || much {
            taken.tell(count);
            wire::send_credit(cx.output(), self.inc.received, count);
            self.hub.count(peer, unconfirmed, 0, 0);
            (self.inc.told, self.inc.due, self.said) = (self.inc.received, None, cx.now());
        }
    }

    /// After whatever happened: sends, confirms, and says when to look again.
    fn go_on(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.pump(cx);
        self.confirm(cx);
        let speak = self.peer.map(|_| self.said.saturating_add(self.hub.options.silence / 5));
        let next = [speak, self.inc.due].into_iter().flatten().min();
        let last = self.silent_from();
        cx.wake_at(Some(next.map_or(last, |next| next.min(last))));
        Ok(())
    }

    /// When it is given up, if nothing more is heard of it.
    fn silent_from(&self) -> Duration {
        self.heard.saturating_add(self.hub.options.silence)
    }
}

impl Outgoing {
    /// Whether the other side has memory for another message; an eighth of it is kept for small ones.
    fn may_begin(&self, length: usize) -> bool {
        let room = if length > PART { self.allowance - self.allowance / 8 } else { self.allowance };
        self.begun - self.taken + cost(length) as u64 <= room
    }

    fn is_idle(&self) -> bool {
        self.transfers.is_empty() && self.unconfirmed.is_empty()
    }

    fn begin(&mut self, parcel: Parcel) {
        self.begun += cost(parcel.message.len()) as u64;
        let transfer = Transfer { parcel, offset: 0 };
        if transfer.parcel.is_small() {
            self.transfers.push_front(transfer);
        } else {
            self.transfers.push_back(transfer);
        }
    }

    /// Sends one part of the transfer whose turn it is, if the window has room. Answers how much a message of a single
    /// part had before it.
    fn step(&mut self, window: u64, cx: &mut Context<'_, Link>) -> Option<u64> {
        let under_way = self.sent - self.confirmed;
        let small = self.transfers.front()?.parcel.is_small();
        // A quarter of the window is kept for small messages.
        let room = if small { window } else { window - window / 4 };
        if under_way + PART as u64 > room {
            return None;
        }
        let mut transfer = self.transfers.pop_front()?;
        let Parcel { key, message, .. } = &transfer.parcel;
        let length = wire::send_part(cx.output(), *key, message, transfer.offset);
        self.sent += wire::weight(length);
        transfer.offset += length;
        if transfer.offset < message.len() {
            self.transfers.push_back(transfer);
        } else {
            self.unconfirmed.push_back((self.sent, transfer.parcel));
        }
        Some(if small { under_way } else { 0 })
    }
}

impl Session for Link {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened => {
                (self.heard, self.said) = (cx.now(), cx.now());
                if let Some(Dialled { to, .. }) = self.dialled {
                    self.greet(to, cx);
                }
            }
            Ready::Draining => {
                cx.finish();
                return Ok(());
            }
            // Nothing but the timer comes after all that has arrived was looked at.
            Ready::Timer if self.silent_from() <= cx.now() => {
                let silence = self.hub.options.silence;
                return Err(Close::abort(format!("nothing was heard of it for {silence:?}")));
            }
            Ready::Woken if self.peer.is_some_and(|peer| !self.hub.has(peer, self.number)) => {
                return Err(Close::abort("the peer has opened another in its place"));
            }
            _ => {}
        }
        self.go_on(cx)
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard = cx.now();
        loop {
            let frame = match Frame::parse(input.bytes(), &wire::LIMITS) {
                Err(error) => {
                    self.refused = self.peer.is_none();
                    return Err(error.into());
                }
                Ok(Parsed::Need(_)) => {
                    // On a slow road a part takes its time, and each of its bytes is a sign of life.
                    input.need(input.len() + 1);
                    break;
                }
                Ok(Parsed::Frame(frame)) => frame,
            };
            let length = frame.len();
            match wire::parse(&frame)? {
                Said::Hello(hello) => self.meet(hello, cx)?,
                Said::Part(part) => self.part(part, cx.now())?,
                Said::Credit { received, taken } => self.credit(received, taken, cx)?,
            }
            input.consume(length);
        }
        self.go_on(cx)
    }

    fn closed(self, why: &Closed) {
        let is_over = matches!(why, Closed::Finished | Closed::Unended | Closed::Unread(_));
        let trouble = (!is_over).then(|| why.to_string());
        let peer = self.peer.or(self.dialled.map(|dialled| dialled.to));
        if self.refused || matches!(why, Closed::Violation(_)) {
            let member = peer.map_or_else(|| "nobody yet".into(), |peer| self.hub.peers[peer].id.to_string());
            tracing::warn!(address = %self.address, member, %why, "a link between members was refused");
        }
        let Some(peer) = peer else { return self.hub.refuse() };
        let begun = self.out.transfers.into_iter().map(|transfer| transfer.parcel);
        let parcels =
            self.out.unconfirmed.into_iter().map(|(_, parcel)| parcel).chain(begun).collect::<Vec<_>>();
        let trouble = trouble.or_else(|| {
            // One that is for a single message ends when that has been confirmed.
            let done = self.hub.options.strategy == Strategy::PerQuery && parcels.is_empty();
            (!done).then(|| "it closed the connection".into())
        });
        let (dialled, joined) = (self.dialled.map(|dialled| dialled.on), self.peer.is_some());
        self.hub.leave(peer, self.number, Left { dialled, joined, trouble, parcels });
    }
}

#[cfg(test)]
mod spoken;
#[cfg(test)]
pub(crate) mod tests;
