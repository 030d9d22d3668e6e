//! A bound UDP socket: what the system is asked to tell of each datagram, and what it can do beside.

use std::{
    cell::Cell,
    io, mem,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use socket2::{Domain, Protocol, Socket, Type};

use roadstead_proto::tuning::Tuning;

use crate::sockets::tuning;

/// A bound socket that does not block.
#[derive(Debug)]
pub struct DatagramSocket {
    pub(super) fd: OwnedFd,
    local: SocketAddr,
    /// Whether the system is known or hoped to cut segments by itself.
    pub(super) cuts: Cell<bool>,
    pub(super) uncut: Cell<Uncut>,
}

/// Those for whom it would not, each with the length of the segments: the way to them is too narrow for that. If there are
/// more of them, the first is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Uncut {
    peers: [Option<(IpAddr, usize)>; 8],
    next: usize,
}

impl Uncut {
    pub(super) fn has(&self, peer: IpAddr, segment: usize) -> bool {
        let narrow = |known: &(IpAddr, usize)| known.0 == peer && segment >= known.1;
        self.peers[0].is_some() && self.peers.iter().flatten().any(narrow)
    }

    pub(super) fn with(mut self, peer: IpAddr, segment: usize) -> Self {
        match self.peers.iter_mut().flatten().find(|known| known.0 == peer) {
            Some(known) => known.1 = known.1.min(segment),
            None => {
                self.peers[self.next] = Some((peer, segment));
                self.next = (self.next + 1) % self.peers.len();
            }
        }
        self
    }
}

/// What sockets are asked for beside what every answer needs.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Datagrams of one length may come as one.
    pub gather: bool,
    /// Each is told with the time at which the kernel received it, and with its ECN.
    pub stamped: bool,
}

/// So many sockets that are bound to `address`, over which the system spreads those who send there: one of each pair of
/// addresses always has the same.
///
/// # Errors
/// What the system says, such as that the address is in use.
pub fn bind(
    address: SocketAddr,
    count: usize,
    tuning: Tuning,
    asked: Asked,
) -> io::Result<Vec<DatagramSocket>> {
    let first = DatagramSocket::bound(address, false, tuning, asked)?;
    let address = first.local;
    // Only now may others join it, so that an address in use is told as such.
    if count > 1 {
        socket2::SockRef::from(&first.fd).set_reuse_port(true)?;
    }
    let mut all = vec![first];
    for _ in 1..count {
        all.push(DatagramSocket::bound(address, true, tuning, asked)?);
    }
    Ok(all)
}

impl DatagramSocket {
    fn bound(address: SocketAddr, with_others: bool, tuning: Tuning, asked: Asked) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if with_others {
            socket.set_reuse_port(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        tuning::apply_sizes(tuning, &socket)?;
        let fd = OwnedFd::from(socket);
        ask(&fd, address, asked.stamped)?;
        if asked.gather {
            // Where it cannot, they come one by one.
            let _ = set(&fd, libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        let cuts = set(&fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        socket2::SockRef::from(&fd).bind(&address.into())?;
        let local = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
        Ok(Self { fd, local, cuts: Cell::new(cuts), uncut: Cell::default() })
    }

    /// To what it is bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The only address that can be sent to here, if there is one only.
    pub(super) fn only(&self) -> Option<IpAddr> {
        Some(self.local.ip()).filter(|ip| !ip.is_unspecified())
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks to be told of each datagram what an answer needs; and what else there is, where the system knows it.
fn ask(fd: &OwnedFd, address: SocketAddr, stamped: bool) -> io::Result<()> {
    use libc as c;
    let (level, hops, to, class, errors) = match address {
        SocketAddr::V4(_) => (c::IPPROTO_IP, c::IP_RECVTTL, c::IP_PKTINFO, c::IP_RECVTOS, c::IP_RECVERR),
        SocketAddr::V6(_) => {
            (c::IPPROTO_IPV6, c::IPV6_RECVHOPLIMIT, c::IPV6_RECVPKTINFO, c::IPV6_RECVTCLASS, c::IPV6_RECVERR)
        }
    };
    set(fd, level, hops, 1)?;
    if address.ip().is_unspecified() {
        set(fd, level, to, 1)?;
    }
    let _ = set(fd, level, errors, 1);
    if stamped {
        let _ = set(fd, level, class, 1);
        let _ = set(fd, c::SOL_SOCKET, c::SO_TIMESTAMPNS, 1);
    }
    Ok(())
}

pub(super) fn set(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, to: libc::c_int) -> io::Result<()> {
    let length = mem::size_of_val(&to) as libc::socklen_t;
    // SAFETY: the value is there during the call, and has that length.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const to).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
