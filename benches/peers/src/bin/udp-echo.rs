//! An echo server over UDP that does what must be done and no more: receives up to 32 datagrams in a call, and sends
//! them back in another.
//!
//! `udp-echo [IP:PORT]`, by default `127.0.0.1:0`, on one thread. Prints `listening for datagrams on IP:PORT` first.

use std::{io, mem, net::UdpSocket, os::fd::AsRawFd, ptr};

const PLACES: usize = 32;
const SIZE: usize = 65_535;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let socket = UdpSocket::bind(address)?;
    println!("listening for datagrams on {}", socket.local_addr()?);
    let mut bytes = vec![[0u8; SIZE]; PLACES];
    // SAFETY: numbers and pointers, for all of which zero is a value.
    let (mut names, mut slices, mut headers): (
        [libc::sockaddr_storage; PLACES],
        [libc::iovec; PLACES],
        [libc::mmsghdr; PLACES],
    ) = unsafe { mem::zeroed() };
    loop {
        for place in 0..PLACES {
            slices[place] = libc::iovec { iov_base: bytes[place].as_mut_ptr().cast(), iov_len: SIZE };
            let header = &mut headers[place].msg_hdr;
            header.msg_name = (&raw mut names[place]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            header.msg_iov = &raw mut slices[place];
            header.msg_iovlen = 1;
        }
        let (fd, all) = (socket.as_raw_fd(), headers.as_mut_ptr());
        // SAFETY: each header names a place, a name and a slice that are there and are nobody else's.
        let came =
            unsafe { libc::recvmmsg(fd, all, PLACES as _, libc::MSG_WAITFORONE as _, ptr::null_mut()) };
        let came = usize::try_from(came).map_err(|_| io::Error::last_os_error())?;
        for place in 0..came {
            slices[place].iov_len = headers[place].msg_len as usize;
        }
        let mut sent = 0;
        while sent < came {
            // SAFETY: the same, of those that came.
            let count = unsafe { libc::sendmmsg(fd, headers[sent..].as_mut_ptr(), (came - sent) as _, 0) };
            sent += usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        }
    }
}
