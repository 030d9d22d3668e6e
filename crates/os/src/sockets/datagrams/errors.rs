//! What the network has said of datagrams that were sent: the queue of errors of a socket. ip(7), `IP_RECVERR`.
//!
//! The same error is told by the next call of any kind on that socket, about whomever that call was. So a call that fails
//! with one asks the queue first: if it has something, the call has failed for another.
#![forbid(unsafe_code)]

use std::{
    mem::{offset_of, size_of},
    net::SocketAddr,
    os::fd::AsFd,
};

use rustix::io::Errno;

use super::slots::Slots;

/// Errors that are no news of a peer, of which so many are passed over at once.
const OTHERS: usize = 64;

/// Destination unreachable, in ICMP and in ICMPv6 (RFC 792, RFC 4443); and of the first, that it was too long for the
/// way.
const UNREACHABLE: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
const TOO_LONG: u8 = 4;

/// `sock_extended_err` of the system.
type Extended = libc::sock_extended_err;

/// The next address of which the network has said that nobody receives there.
pub(super) fn unreachable(slots: &mut Slots, socket: impl AsFd) -> Option<SocketAddr> {
    for _ in 0..OTHERS {
        slots.take_error(&socket).ok()?;
        let came = slots.came(0);
        let mut messages = slots.controls[0].messages(came.control);
        if messages.any(|(level, kind, data)| is_unreachable(level, kind, data)) {
            return slots.names[0].address(came.name);
        }
    }
    None
}

fn is_unreachable(level: libc::c_int, kind: libc::c_int, data: &[u8]) -> bool {
    let is_error = matches!(
        (level, kind),
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    );
    if !is_error || data.len() < size_of::<Extended>() {
        return false;
    }
    let of = |at: usize| data[at];
    let said =
        [offset_of!(Extended, ee_origin), offset_of!(Extended, ee_type), offset_of!(Extended, ee_code)]
            .map(of);
    match said {
        [libc::SO_EE_ORIGIN_ICMP, UNREACHABLE, code] => code != TOO_LONG,
        [libc::SO_EE_ORIGIN_ICMP6, UNREACHABLE_V6, _] => true,
        _ => false,
    }
}

/// Whether a call may have failed for what the network has said of an earlier datagram.
pub(super) fn may_be_told(error: &std::io::Error) -> bool {
    use Errno as E;
    const TOLD: [Errno; 10] = [
        E::CONNREFUSED,
        E::HOSTUNREACH,
        E::NETUNREACH,
        E::HOSTDOWN,
        E::NETDOWN,
        E::NONET,
        E::NOPROTOOPT,
        E::OPNOTSUPP,
        E::PROTO,
        E::MSGSIZE,
    ];
    Errno::from_io_error(error).is_some_and(|code| TOLD.contains(&code) || code == E::ACCESS)
}
