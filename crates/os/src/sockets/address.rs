//! Addresses as the system writes them, and as it is told them.

use std::{ffi::OsStr, io, mem::offset_of, net::SocketAddr, os::unix::ffi::OsStrExt, slice};

use rustix::net::{AddressFamily, SocketAddrAny};
use socket2::SockAddr;

use roadstead_proto::{Address, UnixName};

/// As the system is told it.
///
/// # Errors
/// If it is the name of a Unix socket that has none.
pub(crate) fn to_system(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Ip(address) => Ok(SockAddr::from(*address)),
        Address::Unix(name) => {
            let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "it has no name");
            SockAddr::unix(OsStr::from_bytes(name.sun_path().ok_or_else(no_name)?))
        }
    }
}

/// What a call has written.
pub(super) fn of_any(address: SocketAddrAny) -> io::Result<Address> {
    if address.address_family() != AddressFamily::UNIX {
        return Ok(SocketAddr::try_from(address)?.into());
    }
    // SAFETY: so many bytes are there, and initialised.
    let bytes = unsafe { slice::from_raw_parts(address.as_ptr().cast(), address.addr_len() as usize) };
    Ok(unix_name(bytes).into())
}

/// What a completion has written; nothing where the address is of a family that nobody listens on.
pub(crate) fn of_storage(address: &SockAddr) -> Option<Address> {
    if !address.is_unix() {
        return address.as_socket().map(Address::from);
    }
    // SAFETY: so many bytes are there, and initialised.
    let bytes = unsafe { slice::from_raw_parts(address.as_ptr().cast(), address.len() as usize) };
    Some(unix_name(bytes).into())
}

/// Of a `sockaddr_un`, as far as it was written. The system lets a peer have a path of one byte more than fits into it
/// with its end (unix(7), BUGS); such a peer is none that could be named.
fn unix_name(bytes: &[u8]) -> UnixName {
    let name = bytes.get(offset_of!(libc::sockaddr_un, sun_path)..).unwrap_or_default();
    let named = match name {
        [] => return UnixName::none(),
        [0, name @ ..] => UnixName::abstract_name(name),
        path => UnixName::of_path(path.split(|&byte| byte == 0).next().unwrap_or_default()),
    };
    named.unwrap_or_else(|_| UnixName::none())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn again(address: &Address) -> Option<Address> {
        of_storage(&to_system(address).unwrap())
    }

    proptest! {
        #[test]
        fn what_the_system_is_told_it_writes_again(name in vec(any::<u8>(), 1..=107), port: u16) {
            let mut all = vec![Address::from(([127, 0, 0, 1], port)), UnixName::abstract_name(&name).unwrap().into()];
            all.extend(UnixName::of_path(&name).map(Address::from));
            for address in all {
                prop_assert_eq!(again(&address), Some(address));
            }
        }

        #[test]
        fn whatever_a_peer_is_called_is_read(bytes in vec(any::<u8>(), 0..128)) {
            let name = unix_name(&bytes);
            prop_assert!(name.path().is_none_or(|path| !path.contains(&0)));
        }
    }

    #[test]
    fn a_name_that_ends_nowhere_or_is_none_is_told_as_none() {
        for name in [&[][..], &[1], &[1, 0], &[1, 0, 0], &[[1, 0].as_slice(), &[b'x'; 109]].concat()] {
            assert_eq!(unix_name(name), UnixName::none());
        }
        assert_eq!(unix_name(b"\x01\0/x\0").path(), Some(&b"/x"[..]));
        assert!(to_system(&UnixName::none().into()).is_err());
    }
}
