//! The address of a datagram's other end, as the system writes it and is told it. ip(7), ipv6(7).
#![forbid(unsafe_code)]

use std::{
    mem::{offset_of, size_of},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use super::control::{get, put};

/// Room for an address of either family.
pub(super) const ROOM: usize = 32;
const V4: usize = size_of::<libc::sockaddr_in>();
const V6: usize = size_of::<libc::sockaddr_in6>();
const FAMILY: usize = offset_of!(libc::sockaddr, sa_family);

/// Where an address lies.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; ROOM],
    /// What is written of it.
    length: usize,
}

impl Name {
    pub(super) const EMPTY: Self = Self { bytes: [0; ROOM], length: 0 };

    /// How much of it is written.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    pub(super) fn set(&mut self, address: SocketAddr) {
        self.bytes.fill(0);
        let (family, port) = match address {
            SocketAddr::V4(v4) => {
                put(&mut self.bytes, offset_of!(libc::sockaddr_in, sin_addr), &v4.ip().octets());
                self.length = V4;
                (libc::AF_INET, offset_of!(libc::sockaddr_in, sin_port))
            }
            SocketAddr::V6(v6) => {
                put(&mut self.bytes, offset_of!(libc::sockaddr_in6, sin6_addr), &v6.ip().octets());
                let scope = v6.scope_id().to_ne_bytes();
                put(&mut self.bytes, offset_of!(libc::sockaddr_in6, sin6_scope_id), &scope);
                self.length = V6;
                (libc::AF_INET6, offset_of!(libc::sockaddr_in6, sin6_port))
            }
        };
        put(&mut self.bytes, FAMILY, &(family as libc::sa_family_t).to_ne_bytes());
        put(&mut self.bytes, port, &address.port().to_be_bytes());
    }

    /// What the system has written, in so many bytes; nothing if that is no address of IP.
    pub(super) fn address(&self, length: usize) -> Option<SocketAddr> {
        let bytes = &self.bytes[..length.min(ROOM)];
        let family = get(bytes, FAMILY).map(libc::sa_family_t::from_ne_bytes)?;
        match libc::c_int::from(family) {
            libc::AF_INET => {
                let ip: [u8; 4] = get(bytes, offset_of!(libc::sockaddr_in, sin_addr))?;
                let port = get(bytes, offset_of!(libc::sockaddr_in, sin_port)).map(u16::from_be_bytes)?;
                Some((Ipv4Addr::from(ip), port).into())
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = get(bytes, offset_of!(libc::sockaddr_in6, sin6_addr))?;
                let port = get(bytes, offset_of!(libc::sockaddr_in6, sin6_port)).map(u16::from_be_bytes)?;
                let scope = get(bytes, offset_of!(libc::sockaddr_in6, sin6_scope_id));
                // What flow a datagram is of says nothing of who sent it.
                let scope = scope.map(u32::from_ne_bytes)?;
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(four: [u8; 4], six: [u8; 16], port: u16, scope: u32) {
            let mut name = Name::EMPTY;
            let six = SocketAddrV6::new(six.into(), port, 0, scope);
            for address in [SocketAddr::from(six), (four, port).into(), six.into()] {
                name.set(address);
                prop_assert_eq!(name.address(name.length()), Some(address));
            }
        }

        #[test]
        fn whatever_is_written_there_is_read(bytes: [u8; ROOM], length in 0..2 * ROOM) {
            let name = Name { bytes, length: 0 };
            let short = name.address(length).is_some_and(|_| length < V4);
            prop_assert!(!short);
        }
    }
}
