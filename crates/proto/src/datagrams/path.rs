//! A path: the way back to whoever sent a datagram, and how much may be sent on it.
//!
//! The source of a datagram can be forged, and whoever answers then sends to somebody who never asked. So a path has an
//! *allowance* (RFC 9000, section 8.1): three times the bytes that came on it, IP and UDP headers counted on both
//! sides. It is spent by what is sent, and cannot be copied, so that the limit holds wherever the answer is made: at
//! once, by a ticket, or in a job. A service that knows that the peer receives at its address, because it repeated a
//! cookie that only went there, validates the path, and the limit is gone.
//!
//! Until then an answer also travels fewer hops than its request had left. So what two servers make of one forged
//! datagram ends, even if each answers whatever the other says: after 255 times at the most.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

/// How many times what came may be answered.
const FACTOR: u64 = 3;

/// An address of this machine, and through which of its interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The address.
    pub address: IpAddr,
    /// The system's number of the interface. Zero: whichever leads there.
    pub interface: u32,
}

/// The way back to whoever sent a datagram. See the [module](super) for what may be sent on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    peer: SocketAddr,
    /// The address that was asked, which the answer comes from. None: as the socket is bound.
    pub(super) local: Option<Local>,
    /// How many hops what came had left. None: as the system says.
    hops: Option<u8>,
    allowance: Allowance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowance {
    Bytes(u64),
    Validated,
}

/// Why nothing was sent on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withheld {
    Allowance,
    Hops,
}

impl Path {
    /// A path to an address that this program has chosen itself, and no stranger's datagram: it is as good as
    /// validated.
    pub fn to(peer: SocketAddr) -> Self {
        Self { peer, local: None, hops: None, allowance: Allowance::Validated }
    }

    /// The way back on which a datagram of `length` bytes has come.
    pub(super) fn back(peer: SocketAddr, local: Option<Local>, hops: Option<u8>, length: usize) -> Self {
        let allowance = Allowance::Bytes(FACTOR * cost(peer, length, None));
        Self { peer, local, hops, allowance }
    }

    /// Who is at its other end, or is said to be.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of this machine that the peer has sent to; none if the system does not tell.
    pub fn local(&self) -> Option<IpAddr> {
        self.local.map(|local| local.address)
    }

    /// Whether the peer is known to receive at its address.
    pub fn is_validated(&self) -> bool {
        self.allowance == Allowance::Validated
    }

    /// The peer is known to receive at its address: it has repeated what was only sent there and nobody could guess.
    pub fn validate(&mut self) {
        self.allowance = Allowance::Validated;
    }

    /// The length of the longest datagram that may be sent on it now. None: not even an empty one.
    pub fn room(&self) -> Option<usize> {
        let longest = longest(self.peer);
        match self.allowance {
            Allowance::Validated => Some(longest),
            Allowance::Bytes(_) if self.hops.is_some_and(|hops| hops < 2) => None,
            Allowance::Bytes(left) => {
                let room = left.checked_sub(cost(self.peer, 0, None))?;
                Some(usize::try_from(room).unwrap_or(usize::MAX).min(longest))
            }
        }
    }

    /// Another datagram of the same peer: what came with it may be answered as well, the way it came.
    pub fn extend(&mut self, newer: Path) {
        if newer.peer != self.peer {
            return;
        }
        (self.local, self.hops) = (newer.local.or(self.local), newer.hops);
        self.allowance = match (self.allowance, newer.allowance) {
            (Allowance::Bytes(left), Allowance::Bytes(more)) => Allowance::Bytes(left.saturating_add(more)),
            _ => Allowance::Validated,
        };
    }

    /// Takes what datagrams of together `length` bytes cost out of the allowance. Answers how many hops they may go.
    pub(super) fn spend(&mut self, length: usize, segment: Option<usize>) -> Result<Option<u8>, Withheld> {
        let Allowance::Bytes(left) = &mut self.allowance else { return Ok(None) };
        let hops = match self.hops {
            Some(hops) => Some(hops.checked_sub(1).filter(|&hops| hops > 0).ok_or(Withheld::Hops)?),
            None => None,
        };
        *left = left.checked_sub(cost(self.peer, length, segment)).ok_or(Withheld::Allowance)?;
        Ok(hops)
    }
}

/// What so many bytes cost the network, headers included, in datagrams of `segment` bytes each, or in one.
pub(super) fn cost(peer: SocketAddr, length: usize, segment: Option<usize>) -> u64 {
    length as u64 + datagrams(length, segment) as u64 * headers(peer) as u64
}

/// In how many datagrams so many bytes go.
pub(super) fn datagrams(length: usize, segment: Option<usize>) -> usize {
    segment.map_or(1, |segment| length.div_ceil(segment.max(1)).max(1))
}

/// The longest datagram that can be sent to `peer`.
pub(super) fn longest(peer: SocketAddr) -> usize {
    // The length of an IPv4 packet counts its header, that of an IPv6 packet does not.
    65_535 - if is_ipv6(peer) { UDP_HEADER } else { headers(peer) }
}

const UDP_HEADER: usize = 8;

/// An IP header without options, and that of UDP.
fn headers(peer: SocketAddr) -> usize {
    UDP_HEADER + if is_ipv6(peer) { 40 } else { 20 }
}

fn is_ipv6(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_ipv6()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(peer: &str, hops: Option<u8>, length: usize) -> Path {
        Path::back(peer.parse().unwrap(), None, hops, length)
    }

    #[test]
    fn three_times_what_came_may_go_with_headers_counted_and_not_a_byte_more() {
        // (10 + 28) * 3 = 114 = 28 + 86; IPv6: (10 + 48) * 3 = 174 = 48 + 126.
        for (peer, most) in [("192.0.2.1:7", 86), ("[::ffff:192.0.2.1]:7", 86), ("[2001:db8::1]:7", 126)] {
            let mut back = path(peer, Some(64), 10);
            assert_eq!(back.room(), Some(most), "{peer}");
            assert_eq!(back.spend(most + 1, None), Err(Withheld::Allowance));
            assert_eq!(back.spend(most, None), Ok(Some(63)));
            assert_eq!((back.room(), back.spend(0, None)), (None, Err(Withheld::Allowance)));
        }
    }

    #[test]
    fn the_headers_of_every_segment_are_counted() {
        let mut back = path("192.0.2.1:7", None, 972);
        // 3,000 bytes: thirty datagrams of 72 are 3,000 with their headers, one of 2,972 too.
        assert_eq!(back.spend(30 * 72 + 1, Some(72)), Err(Withheld::Allowance));
        assert_eq!(back.spend(30 * 72, Some(72)), Ok(None));
        assert_eq!(back.room(), None);
        assert_eq!([datagrams(0, Some(5)), datagrams(5, Some(5)), datagrams(6, Some(5))], [1, 1, 2]);
    }

    #[test]
    fn an_answer_has_fewer_hops_than_its_request_until_none_is_left() {
        let mut back = path("192.0.2.1:7", Some(2), 100);
        assert_eq!(back.spend(1, None), Ok(Some(1)));
        for hops in [1, 0] {
            let mut last = path("192.0.2.1:7", Some(hops), 100);
            assert_eq!((last.room(), last.spend(1, None)), (None, Err(Withheld::Hops)));
            last.validate();
            assert_eq!((last.room(), last.spend(60_000, None)), (Some(65_507), Ok(None)));
        }
    }

    #[test]
    fn what_comes_later_from_the_same_peer_adds_to_what_may_go_and_from_another_does_not() {
        let mut back = path("192.0.2.1:7", Some(9), 0);
        back.extend(path("192.0.2.2:7", Some(8), 1_000));
        assert_eq!((back.room(), back.hops), (Some(56), Some(9)));
        back.extend(path("192.0.2.1:7", Some(8), 10));
        assert_eq!((back.room(), back.hops), (Some(56 + 114), Some(8)));
        back.validate();
        back.extend(path("192.0.2.1:7", Some(8), 10));
        assert!(back.is_validated() && Path::to(back.peer()).is_validated());
    }
}
