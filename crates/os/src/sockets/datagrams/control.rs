//! Control messages: what the system tells of a datagram beside its bytes, and is told. cmsg(3), ip(7), ipv6(7), udp(7).
#![forbid(unsafe_code)]

use std::{
    mem::{offset_of, size_of},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use roadstead_proto::datagrams::{Ecn, Local};

/// Room for all that is asked of the system about one datagram, and for all that it is told of one.
pub(super) const ROOM: usize = 256;

/// Where control messages lie.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Control {
    bytes: [u8; ROOM],
    /// What is written of it.
    length: usize,
}

/// A number that the system takes and tells as one of its own.
type Int = libc::c_int;

/// A header, with what makes the message behind it aligned.
const HEAD: usize = align(size_of::<libc::cmsghdr>());

const fn align(length: usize) -> usize {
    length.next_multiple_of(align_of::<libc::cmsghdr>())
}

/// What was told of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told {
    pub(super) to: Option<IpAddr>,
    pub(super) local: Option<Local>,
    pub(super) at: Option<SystemTime>,
    pub(super) ecn: Ecn,
    pub(super) hops: Option<u8>,
    /// Several came as one, each of this length.
    pub(super) segment: Option<usize>,
}

impl Control {
    pub(super) const EMPTY: Self = Self { bytes: [0; ROOM], length: 0 };

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// How much of it is written.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// The messages in its first bytes, as many as the system says to have written.
    pub(super) fn messages(&self, length: usize) -> Messages<'_> {
        Messages(&self.bytes[..length.min(ROOM)])
    }

    /// Whatever it may be that the system has written.
    #[cfg(test)]
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        put(&mut self.bytes, 0, bytes);
    }

    /// What was told of a datagram, in so many bytes.
    pub(super) fn told(&self, length: usize) -> Told {
        let mut told = Told::default();
        for (level, kind, data) in self.messages(length) {
            told.hear(level, kind, data);
        }
        told
    }

    /// How many hops a datagram may go.
    pub(super) fn set_hops(&mut self, is_ipv6: bool, hops: u8) {
        let (level, kind) = match is_ipv6 {
            true => (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT),
            false => (libc::IPPROTO_IP, libc::IP_TTL),
        };
        self.push(level, kind, &Int::from(hops).to_ne_bytes());
    }

    /// The address that it comes from.
    pub(super) fn set_source(&mut self, local: Local) {
        match local.address {
            IpAddr::V4(address) => {
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                put(&mut info, offset_of!(libc::in_pktinfo, ipi_ifindex), &local.interface.to_ne_bytes());
                put(&mut info, offset_of!(libc::in_pktinfo, ipi_spec_dst), &address.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(address) => {
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                put(&mut info, offset_of!(libc::in6_pktinfo, ipi6_ifindex), &local.interface.to_ne_bytes());
                put(&mut info, offset_of!(libc::in6_pktinfo, ipi6_addr), &address.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// The length at which the system is to cut what it is given.
    pub(super) fn set_segment(&mut self, segment: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }

    /// All that is ever written has room: a source, hops and a segment. What had none would be left out.
    fn push(&mut self, level: Int, kind: Int, data: &[u8]) {
        let end = self.length + align(HEAD + data.len());
        let Some(room) = self.bytes.get_mut(self.length..end) else { return };
        room.fill(0);
        put(room, offset_of!(libc::cmsghdr, cmsg_len), &(HEAD + data.len()).to_ne_bytes());
        put(room, offset_of!(libc::cmsghdr, cmsg_level), &level.to_ne_bytes());
        put(room, offset_of!(libc::cmsghdr, cmsg_type), &kind.to_ne_bytes());
        put(room, HEAD, data);
        self.length = end;
    }
}

pub(super) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(room) = into.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

/// Control messages one behind the other: level, kind, and what they say.
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Int, Int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = get(self.0, offset_of!(libc::cmsghdr, cmsg_len)).map(usize::from_ne_bytes)?;
        let level = get(self.0, offset_of!(libc::cmsghdr, cmsg_level)).map(Int::from_ne_bytes)?;
        let kind = get(self.0, offset_of!(libc::cmsghdr, cmsg_type)).map(Int::from_ne_bytes)?;
        let data = self.0.get(HEAD..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((level, kind, data))
    }
}

/// So many bytes from there, if there are as many.
pub(super) fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl Told {
    fn hear(&mut self, level: Int, kind: Int, data: &[u8]) {
        let number = || get(data, 0).map(Int::from_ne_bytes);
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => self.sent_to_v4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => self.sent_to_v6(data),
            (libc::IPPROTO_IP, libc::IP_TOS) => self.ecn = data.first().map_or(self.ecn, |&tos| Ecn::of(tos)),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                self.ecn = number().map_or(self.ecn, |class| Ecn::of(class as u8));
            }
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                self.hops = number().and_then(|hops| u8::try_from(hops).ok());
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => self.at = time(data),
            (libc::SOL_UDP, libc::UDP_GRO) => {
                self.segment = number().and_then(|length| usize::try_from(length).ok());
            }
            _ => {}
        }
    }

    /// Of a datagram that was sent to many, the address that an answer comes from is another than it was sent to.
    fn sent_to_v4(&mut self, data: &[u8]) {
        let address = |at| get(data, at).map(|octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets)));
        self.to = address(offset_of!(libc::in_pktinfo, ipi_addr));
        // Whichever interface leads to the peer: it need not be the one that it came by.
        self.local = address(offset_of!(libc::in_pktinfo, ipi_spec_dst))
            .map(|address| Local { address, interface: 0 });
    }

    fn sent_to_v6(&mut self, data: &[u8]) {
        let Some(to) = get::<16>(data, offset_of!(libc::in6_pktinfo, ipi6_addr)) else { return };
        let to = Ipv6Addr::from(to);
        let interface = get(data, offset_of!(libc::in6_pktinfo, ipi6_ifindex)).map(u32::from_ne_bytes);
        self.to = Some(to.into());
        // An address of a link is one only there.
        let interface = interface.filter(|_| to.is_unicast_link_local()).unwrap_or(0);
        self.local = (!to.is_multicast()).then_some(Local { address: to.into(), interface });
    }
}

/// A `timespec`.
fn time(data: &[u8]) -> Option<SystemTime> {
    let seconds = get(data, offset_of!(libc::timespec, tv_sec)).map(libc::time_t::from_ne_bytes)?;
    let nanos = get(data, offset_of!(libc::timespec, tv_nsec)).map(libc::c_long::from_ne_bytes)?;
    let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    let since = Duration::new(u64::try_from(seconds).ok()?, nanos);
    SystemTime::UNIX_EPOCH.checked_add(since)
}
