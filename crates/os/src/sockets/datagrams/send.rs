//! Sending: as many datagrams as one call takes. sendmmsg(2).
//!
//! Datagrams of one length to one peer, one behind the other, are given to the system as one, which it cuts itself
//! (`UDP_SEGMENT`, udp(7)). Where it will not, be it for ever or on the way to one peer, as many are sent as there are,
//! and cutting is not asked for again there.

use std::{io, net::SocketAddr};

use rustix::io::Errno;

use roadstead_proto::datagrams::{Local, Outbox, Outgoing, SEGMENTS};

use super::{
    slots::{Slice, Slots},
    socket::DatagramSocket,
};

/// Messages of one call.
const MESSAGES: usize = 32;
/// What the system cuts is no longer than a datagram with all its headers.
const LONGEST_RUN: usize = 65_535 - 48;

/// What one call sends.
#[derive(Default)]
pub(super) struct Sender {
    slots: Slots,
    runs: Vec<Run>,
}

/// What a call has come to.
pub(super) struct Sent {
    pub(super) datagrams: usize,
    /// It was all that was asked of the call.
    pub(super) all: bool,
}

/// A message: one datagram, or several that the system cuts.
#[derive(Debug, Clone, Copy)]
struct Run {
    to: SocketAddr,
    from: Option<Local>,
    hops: Option<u8>,
    slice: Slice,
    /// The length of its first datagram, and of all but the last.
    segment: usize,
    datagrams: usize,
    /// It is known to have ended.
    ended: bool,
}

impl Sender {
    /// Sends from the front of `outbox`; an error is about the first message.
    pub(super) fn send(&mut self, socket: &DatagramSocket, outbox: &Outbox) -> io::Result<Sent> {
        let before = (socket.cuts.get(), socket.uncut.get());
        let sent = self.try_send(socket, outbox);
        let Some(error) = sent.as_ref().err() else { return sent };
        let Some(first) = self.runs.first().filter(|first| first.datagrams > 1 && is_refusal(error)) else {
            return sent;
        };
        let peer = first.to.ip();
        match Errno::from_io_error(error) {
            Some(Errno::IO) => socket.cuts.set(false),
            _ => socket.uncut.set(before.1.with(peer, first.segment)),
        }
        let plain = self.try_send(socket, outbox);
        match &plain {
            Ok(_) => tracing::debug!(%error, %peer, "the system does not cut datagrams"),
            // It was not the cutting that it minded, or nobody knows yet.
            Err(_) => {
                socket.cuts.set(before.0);
                socket.uncut.set(before.1);
            }
        }
        plain
    }

    fn try_send(&mut self, socket: &DatagramSocket, outbox: &Outbox) -> io::Result<Sent> {
        let (cuts, uncut) = (socket.cuts.get(), socket.uncut.get());
        self.gather(outbox, |peer, segment| cuts && !uncut.has(peer.ip(), segment));
        self.address();
        let Self { slots, runs } = self;
        // SAFETY: each is a part of the outbox's buffer, which is borrowed until the call is over.
        let taken = unsafe { slots.send(socket, runs.iter().map(|run| run.slice)) }?;
        let datagrams = runs[..taken].iter().map(|run| run.datagrams).sum();
        Ok(Sent { datagrams, all: taken == runs.len() })
    }

    /// What the next call sends, in which datagrams are put together for peers to whom the system `cuts` them.
    fn gather(&mut self, outbox: &Outbox, cuts: impl Fn(SocketAddr, usize) -> bool) {
        self.runs.clear();
        for outgoing in outbox.iter() {
            let room = match outgoing.segment.filter(|_| outgoing.datagrams() > 1) {
                None => self.add(outgoing, &cuts),
                Some(segment) if cuts(outgoing.to, segment) => {
                    self.begin(outgoing, segment, outgoing.datagrams())
                }
                Some(segment) => outgoing
                    .bytes
                    .chunks(segment)
                    .all(|bytes| self.add(Outgoing { bytes, ..outgoing }, &cuts)),
            };
            if !room {
                break;
            }
        }
    }

    /// One datagram. False: there is no room for it in this call.
    fn add(&mut self, outgoing: Outgoing<'_>, cuts: &impl Fn(SocketAddr, usize) -> bool) -> bool {
        let last = self.runs.last_mut().filter(|last| cuts(last.to, last.segment));
        let joined = last.is_some_and(|last| last.join(outgoing));
        joined || self.begin(outgoing, outgoing.bytes.len(), 1)
    }

    fn begin(&mut self, outgoing: Outgoing<'_>, segment: usize, datagrams: usize) -> bool {
        let Outgoing { to, from, hops, bytes, .. } = outgoing;
        let room = self.runs.len() < MESSAGES;
        if room {
            let slice = (bytes.as_ptr().cast_mut(), bytes.len());
            self.runs.push(Run { to, from, hops, slice, segment, datagrams, ended: datagrams > 1 });
        }
        room
    }

    /// Says of each message where it goes and how.
    fn address(&mut self) {
        let Self { slots, runs } = self;
        slots.reserve(MESSAGES);
        for ((name, control), run) in slots.names.iter_mut().zip(&mut slots.controls).zip(runs) {
            name.set(run.to);
            control.clear();
            if let Some(local) = run.from {
                control.set_source(local);
            }
            if let Some(hops) = run.hops {
                control.set_hops(run.to.is_ipv6(), hops);
            }
            if let Some(segment) = u16::try_from(run.segment).ok().filter(|_| run.datagrams > 1) {
                control.set_segment(segment);
            }
        }
    }
}

impl Run {
    /// Whether it takes this one as well, which stands behind it in the outbox.
    fn join(&mut self, outgoing: Outgoing<'_>) -> bool {
        let Outgoing { to, from, hops, bytes, .. } = outgoing;
        let (start, length) = self.slice;
        let same = (self.to, self.from, self.hops) == (to, from, hops);
        let fits = !bytes.is_empty() && bytes.len() <= self.segment;
        let room = self.datagrams < SEGMENTS && length + bytes.len() <= LONGEST_RUN;
        // To no port nothing is sent: the refusal would be taken for one to cut.
        let joins = same && fits && room && !self.ended && to.port() != 0;
        if !joins || start.wrapping_add(length).cast_const() != bytes.as_ptr() {
            return false;
        }
        self.slice.1 += bytes.len();
        self.datagrams += 1;
        self.ended = bytes.len() < self.segment;
        true
    }
}

/// Whether the system will not cut.
fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::IO | Errno::MSGSIZE | Errno::OPNOTSUPP))
}
