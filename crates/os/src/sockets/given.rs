//! Listening sockets that somebody else has made: whether a server can use them.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio},
    net::{AddressFamily, SocketType, sockopt},
};

use roadstead_proto::tuning::Tuning;

/// Why a server cannot listen on what it was given.
#[derive(Debug, thiserror::Error)]
pub enum NotAListener {
    /// Files and pipes.
    #[error("it is no socket")]
    NoSocket,
    /// UDP, for one.
    #[error("it is no stream socket")]
    NoStream,
    /// Another family of addresses.
    #[error("its addresses are not those of IPv4, IPv6 or Unix sockets")]
    Family,
    /// Nobody has called listen(2), or it is a connection.
    #[error("it does not listen: bind it and call listen first, as `TcpListener::bind` does")]
    Deaf,
    /// The system has failed.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<Errno> for NotAListener {
    fn from(error: Errno) -> Self {
        if error == Errno::NOTSOCK { Self::NoSocket } else { Self::System(error.into()) }
    }
}

/// Whether a server can listen there.
pub fn check(socket: impl AsFd) -> Result<(), NotAListener> {
    if sockopt::socket_type(&socket)? != SocketType::STREAM {
        return Err(NotAListener::NoStream);
    }
    let family = sockopt::socket_domain(&socket)?;
    if ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&family) {
        return Err(NotAListener::Family);
    }
    match sockopt::socket_acceptconn(&socket)? {
        true => Ok(()),
        false => Err(NotAListener::Deaf),
    }
}

/// Takes a socket that somebody else has made. Whoever has it as well finds it changed, as this belongs to a socket and
/// not to a descriptor: it does not block, and what it accepts has the `TCP_NODELAY` of `tuning`, if it is one of TCP.
/// The descriptor is no longer inherited by programs that are started.
pub fn take(socket: OwnedFd, tuning: Tuning) -> Result<OwnedFd, NotAListener> {
    check(&socket)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    if sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
        sockopt::set_tcp_nodelay(&socket, tuning.nodelay)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::net::{UnixDatagram, UnixListener},
    };

    use rustix::{
        fs::{OFlags, fcntl_getfl},
        io::fcntl_getfd,
    };

    use super::*;

    #[test]
    fn only_a_stream_socket_that_listens_is_taken_and_it_does_not_block_then() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let unbound = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let unfit: [(OwnedFd, &str); 6] = [
            (File::open("/dev/null").unwrap().into(), "it is no socket"),
            (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "it is no stream socket"),
            (UnixDatagram::bind(dir.path().join("datagrams")).unwrap().into(), "it is no stream socket"),
            (stream.into(), "it does not listen"),
            (unbound, "it does not listen"),
            (io::pipe().unwrap().0.into(), "it is no socket"),
        ];
        for (fd, why) in unfit {
            let error = take(fd, Tuning::default()).unwrap_err().to_string();
            assert!(error.starts_with(why) && !error.contains('\n'), "{error}");
        }
        let kept = listener.try_clone().unwrap();
        fcntl_setfd(&listener, FdFlags::empty()).unwrap();
        let taken = take(listener.into(), Tuning::default()).unwrap();
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        assert!(sockopt::tcp_nodelay(&kept).unwrap());
        for flags in [fcntl_getfl(&taken), fcntl_getfl(&kept)] {
            assert!(flags.unwrap().contains(OFlags::NONBLOCK));
        }
        let unix = UnixListener::bind(dir.path().join("socket")).unwrap();
        let unix = take(unix.into(), Tuning::default()).unwrap();
        assert!(fcntl_getfl(&unix).unwrap().contains(OFlags::NONBLOCK));
        let mut slow = Tuning::default();
        slow.nodelay = false;
        let slow = take(TcpListener::bind("127.0.0.1:0").unwrap().into(), slow).unwrap();
        assert!(!sockopt::tcp_nodelay(slow).unwrap());
    }
}
