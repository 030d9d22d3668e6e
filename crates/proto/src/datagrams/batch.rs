//! Datagrams that came together: what a socket receives in one call, and what a session sees of it.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use super::path::{Local, Path};

/// What a router on the way, or the sender, has said of congestion (RFC 3168, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ecn {
    /// The sender does not understand it.
    #[default]
    NotCapable,
    /// The sender understands it: ECT(0).
    Capable0,
    /// The sender understands it: ECT(1).
    Capable1,
    /// There was congestion on the way: CE.
    Congestion,
}

impl Ecn {
    /// That of a traffic class, or of a type of service: its last two bits.
    pub fn of(class: u8) -> Self {
        match class & 3 {
            0 => Self::NotCapable,
            1 => Self::Capable1,
            2 => Self::Capable0,
            _ => Self::Congestion,
        }
    }
}

/// What the system tells of a datagram beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it, as it says.
    pub from: SocketAddr,
    /// The address that it was sent to. None: the system does not tell.
    pub to: Option<IpAddr>,
    /// The address of this machine that an answer comes from. None: as the socket is bound.
    pub local: Option<Local>,
    /// When the kernel received it. None: the kernel does not tell.
    pub at: Option<SystemTime>,
    /// Congestion on its way.
    pub ecn: Ecn,
    /// How many hops it had left. None: the system does not tell.
    pub hops: Option<u8>,
    /// It was longer than the place for it, and its end is lost.
    pub truncated: bool,
}

/// One datagram, as a session sees it.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// What it says. May be empty.
    pub bytes: &'a [u8],
    /// Who sent it, and the way back there.
    pub path: Path,
    /// The address that it was sent to. None: the system does not tell.
    pub to: Option<IpAddr>,
    /// When the kernel received it. None: the kernel does not tell, or was not [asked](super::DatagramService::STAMPED).
    pub at: Option<SystemTime>,
    /// Congestion on its way, if that was asked for.
    pub ecn: Ecn,
    /// It was longer than the place for it, and its end is lost.
    pub truncated: bool,
}

impl Datagram<'_> {
    /// Whether it was sent to this machine alone, as far as the system tells. What was broadcast, or sent to a group,
    /// is better left unanswered: all who heard it would (RFC 1122, section 3.2.2).
    pub fn is_unicast(&self) -> bool {
        match (self.to, self.path.local()) {
            (Some(to), Some(local)) => to == local && !to.is_multicast(),
            (Some(to), None) => !to.is_multicast(),
            (None, _) => true,
        }
    }
}

/// Places for datagrams that are received together, and what is in them. A loop has one.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    size: usize,
    came: Vec<Came>,
}

#[derive(Debug)]
struct Came {
    arrival: Arrival,
    start: usize,
    length: usize,
}

impl Batch {
    /// So many places, of so many bytes each. Memory that nothing is received into is never touched.
    pub fn new(places: usize, size: usize) -> Self {
        let (places, size) = (places.max(1), size.max(1));
        Self { bytes: vec![0; places * size].into(), size, came: Vec::with_capacity(places) }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.came.clear();
    }

    /// The places, to receive into.
    pub fn places(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.size)
    }

    /// So many bytes came into a place. With `segment` they are several datagrams of that length, but for the last,
    /// which may be shorter.
    pub fn came(&mut self, place: usize, length: usize, segment: Option<usize>, arrival: Arrival) {
        let (start, end) = (place * self.size, place * self.size + length.min(self.size));
        let step = segment.filter(|&segment| segment > 0).unwrap_or(usize::MAX);
        let mut at = start;
        loop {
            let length = step.min(end - at);
            self.came.push(Came { arrival, start: at, length });
            at += length;
            if at >= end {
                break;
            }
        }
    }

    /// How many datagrams came.
    pub fn len(&self) -> usize {
        self.came.len()
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// What came, as it was told: without a way back.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arrival)> {
        self.came.iter().map(|came| (&self.bytes[came.start..came.start + came.length], &came.arrival))
    }

    /// How many bytes they have, headers not counted.
    pub(super) fn bytes(&self) -> u64 {
        self.came.iter().map(|came| came.length as u64).sum()
    }

    /// How many of them have lost their end.
    pub(super) fn truncated(&self) -> u64 {
        self.came.iter().filter(|came| came.arrival.truncated).count() as u64
    }

    /// The datagrams in the order in which they came, each with its way back: to be asked for once. `stamped`: also with
    /// their times and with what was said of congestion.
    pub(super) fn arrivals(&self, stamped: bool) -> Arrivals<'_> {
        Arrivals { batch: self, next: 0, stamped }
    }
}

/// Datagrams that came together, in order. What a session does not take out of it is forgotten.
#[derive(Debug)]
pub struct Arrivals<'a> {
    batch: &'a Batch,
    next: usize,
    stamped: bool,
}

impl<'a> Iterator for Arrivals<'a> {
    type Item = Datagram<'a>;

    fn next(&mut self) -> Option<Datagram<'a>> {
        let &Came { arrival, start, length } = self.batch.came.get(self.next)?;
        self.next += 1;
        let Arrival { from, to, local, at, ecn, hops, truncated } = arrival;
        let bytes = &self.batch.bytes[start..start + length];
        let (at, ecn) = if self.stamped { (at, ecn) } else { (None, Ecn::default()) };
        Some(Datagram { bytes, path: Path::back(from, local, hops, length), to, at, ecn, truncated })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.came.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Arrivals<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(to: Option<&str>, local: Option<&str>) -> Arrival {
        let local = local.map(|address| Local { address: address.parse().unwrap(), interface: 0 });
        let from = "192.0.2.1:7".parse().unwrap();
        let to = to.map(|to| to.parse().unwrap());
        Arrival { from, to, local, at: None, ecn: Ecn::default(), hops: None, truncated: false }
    }

    #[test]
    fn what_came_in_segments_is_as_many_datagrams_and_nothing_is_one_too() {
        let mut batch = Batch::new(3, 10);
        batch.places().enumerate().for_each(|(number, place)| place.fill(number as u8));
        let arrival = arrival(None, None);
        batch.came(0, 0, None, arrival);
        batch.came(1, 10, Some(4), arrival);
        batch.came(2, 11, None, arrival);
        let seen: Vec<&[u8]> = batch.arrivals(true).map(|datagram| datagram.bytes).collect();
        assert_eq!(seen, [&[][..], &[1; 4], &[1; 4], &[1; 2], &[2; 10]]);
        assert_eq!((batch.len(), batch.bytes(), batch.arrivals(true).len()), (5, 20, 5));
        batch.clear();
        assert!(batch.is_empty() && batch.arrivals(true).next().is_none());
        batch.came(0, 8, Some(4), arrival);
        batch.came(1, 3, Some(0), arrival);
        assert_eq!(batch.arrivals(true).map(|datagram| datagram.bytes.len()).collect::<Vec<_>>(), [4, 4, 3]);
    }

    #[test]
    fn what_was_sent_to_many_is_told_from_what_was_sent_to_this_machine() {
        for (to, local, unicast) in [
            (Some("192.0.2.9"), Some("192.0.2.9"), true),
            (Some("192.0.2.255"), Some("192.0.2.9"), false),
            (Some("255.255.255.255"), Some("192.0.2.9"), false),
            (Some("224.0.0.1"), Some("192.0.2.9"), false),
            (Some("ff02::1"), None, false),
            (None, None, true),
        ] {
            let mut batch = Batch::new(1, 1);
            batch.came(0, 1, None, arrival(to, local));
            let datagram = batch.arrivals(true).next().unwrap();
            assert_eq!(datagram.is_unicast(), unicast, "{to:?} {local:?}");
        }
    }

    #[test]
    fn who_asked_for_no_stamps_sees_none() {
        let (mut batch, at) = (Batch::new(1, 1), Some(SystemTime::UNIX_EPOCH));
        batch.came(0, 1, None, Arrival { at, ecn: Ecn::Congestion, ..arrival(None, None) });
        let seen = [true, false].map(|stamped| batch.arrivals(stamped).next().map(|one| (one.at, one.ecn)));
        assert_eq!(seen, [Some((at, Ecn::Congestion)), Some((None, Ecn::NotCapable))]);
    }

    #[test]
    fn congestion_is_the_last_two_bits() {
        let told = [0xfc, 0xfd, 0xfe, 0xff].map(Ecn::of);
        assert_eq!(told, [Ecn::NotCapable, Ecn::Capable1, Ecn::Capable0, Ecn::Congestion]);
    }
}
