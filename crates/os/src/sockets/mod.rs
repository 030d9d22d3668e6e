//! The system's sockets, asked without waiting: what every model on this system shares.
//!
//! Nothing here decides anything. The loops say what to do; this file knows how the system spells it.

pub mod datagrams;
pub mod given;
pub mod tuning;
pub mod unix;

pub(crate) mod address;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    fs,
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::sendfile,
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, sockopt},
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use roadstead_drivers::net::{Failure, Net};
use roadstead_proto::{
    address::Address,
    blob::{self, FileRange},
    flight::BLOCK,
    output::Output,
    tuning::Tuning,
};

use crate::file::File;
pub use waiting::{WaitingOs, WaitingStream};

/// How many pieces go into one send.
const SLICES: usize = 16;

/// Connections that may wait to be accepted, unless a server says otherwise.
pub const BACKLOG: i32 = 1024;

/// The system's network, and a descriptor kept in reserve for the moment when there are no more.
#[derive(Debug)]
pub struct Os {
    epoch: Instant,
    accepted: SocketFlags,
    tuning: Tuning,
    /// What the descriptor in reserve is a duplicate of.
    null: Option<OwnedFd>,
    spare: Option<OwnedFd>,
}

impl Os {
    /// Sockets that never block. `epoch` is the moment that every loop of a server counts from.
    pub(crate) fn non_blocking(epoch: Instant, tuning: Tuning) -> Self {
        Self { epoch, accepted: SocketFlags::NONBLOCK, tuning, null: None, spare: None }.accepting()
    }

    /// Accepted sockets block unless a call says otherwise.
    fn blocking(epoch: Instant, tuning: Tuning) -> Self {
        Self { epoch, accepted: SocketFlags::empty(), tuning, null: None, spare: None }
    }

    /// For another thread, which accepts nothing and so needs nothing in reserve.
    pub(crate) fn another(&self) -> Self {
        Self { null: None, spare: None, ..*self }
    }

    /// A socket for a connection to `address` that the system is to begin by itself.
    pub(crate) fn unconnected(&self, address: &Address) -> io::Result<OwnedFd> {
        Ok(unconnected(address, self.tuning)?.into())
    }

    /// For a thread that accepts.
    fn accepting(&self) -> Self {
        let null = fs::File::open("/dev/null").ok().map(OwnedFd::from);
        let spare = null.as_ref().and_then(|null| null.try_clone().ok());
        Self { null, spare, ..*self }
    }
}

/// Errors that concern one connection in the backlog and not the listener: accept(2).
const PASSING: [Errno; 8] = [
    Errno::INTR,
    Errno::CONNABORTED,
    Errno::PROTO,
    Errno::PERM,
    Errno::NETDOWN,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
];

/// A listening socket on `address` that does not block.
pub fn listen(address: SocketAddr, backlog: i32, tuning: Tuning) -> io::Result<OwnedFd> {
    let socket = bound(address, false, tuning)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// So many listening sockets on `address`, over which the system spreads those who come.
///
/// The first is bound, and listens, as any other does, so that an address in use is told as such; only then may the
/// others join it.
pub fn listen_together(
    address: SocketAddr,
    count: usize,
    backlog: i32,
    tuning: Tuning,
) -> io::Result<Vec<OwnedFd>> {
    let first = bound(address, false, tuning)?;
    first.listen(backlog)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![OwnedFd::from(first)];
    let address = SocketAddr::try_from(rustix::net::getsockname(&sockets[0])?)?;
    for _ in 1..count {
        let other = bound(address, true, tuning)?;
        other.listen(backlog)?;
        sockets.push(other.into());
    }
    Ok(sockets)
}

/// A socket of that address that is about to listen; `with_others` of this process that have it too.
fn bound(address: SocketAddr, with_others: bool, tuning: Tuning) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if with_others {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    tuning::apply(tuning, &socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// An event descriptor: what interrupts somebody's wait.
pub(crate) fn event() -> io::Result<OwnedFd> {
    let _alone = last_descriptors();
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Whether so many bytes of address space could be had.
pub(crate) fn try_map(length: usize) -> io::Result<()> {
    // SAFETY: a mapping of its own, at a place that the system chooses, which nobody has touched when it goes again.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let place = libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0);
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        libc::munmap(place, length);
    }
    Ok(())
}

/// Held by whoever takes a descriptor while connections are served: where they are scarce, the one in reserve is given
/// up to turn a connection away, and nobody of this process is to take it in between.
fn last_descriptors() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address a socket is bound to.
pub fn local_address(socket: &OwnedFd) -> io::Result<Address> {
    address::of_any(rustix::net::getsockname(socket)?)
}

/// Accepts one connection; `flags` says whether its calls may block.
fn accept(listener: &OwnedFd, flags: SocketFlags) -> io::Result<(OwnedFd, Address)> {
    let (stream, address) = rustix::net::acceptfrom_with(listener, flags | SocketFlags::CLOEXEC)?;
    let address = address.ok_or(Errno::CONNABORTED)?;
    Ok((stream, address::of_any(address)?))
}

/// Begins a connection that never blocks; it is writable when it is decided.
pub fn connect(address: &Address, tuning: Tuning) -> io::Result<OwnedFd> {
    let socket = unconnected(address, tuning)?;
    begin_connect(&socket, &address::to_system(address)?)?;
    Ok(socket.into())
}

/// A socket that does not block, for a connection to `address`.
fn unconnected(address: &Address, tuning: Tuning) -> io::Result<Socket> {
    let alone = last_descriptors();
    let of = |domain, protocol| Socket::new(domain, Type::STREAM.nonblocking(), protocol);
    let Address::Ip(address) = address else { return of(Domain::UNIX, None) };
    let socket = of(Domain::for_address(*address), Some(Protocol::TCP))?;
    drop(alone);
    tuning::apply(tuning, &socket)?;
    Ok(socket)
}

/// Begins the connection of a socket that does not block.
pub(crate) fn begin_connect<'a>(socket: impl Into<SockRef<'a>>, address: &SockAddr) -> io::Result<()> {
    match socket.into().connect(address) {
        // Interrupted or not, it goes on by itself: connect(2).
        Err(error) if is_under_way(&error) => Ok(()),
        // As many wait at a Unix socket as may. There is room for one more soon, and nobody will say when.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Errno::NOBUFS.into()),
        begun => begun,
    }
}

fn is_under_way(error: &io::Error) -> bool {
    [Errno::INPROGRESS, Errno::INTR].iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

/// How a connection that was begun was decided; [`io::ErrorKind::WouldBlock`] if it is not yet.
pub(crate) fn connected(stream: impl AsFd) -> io::Result<()> {
    sockopt::socket_error(&stream)??;
    match rustix::net::getpeername(&stream) {
        Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
        // Nobody listens there, and the port that was chosen for us is that very one: two that open a connection to
        // each other at once have one (RFC 9293, section 3.5), also if they are the same. Its TIME_WAIT would keep the
        // peer from its own port.
        Ok(Some(peer)) if rustix::net::getsockname(&stream) == Ok(peer.clone()) => {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            Err(Errno::CONNREFUSED.into())
        }
        // A peer that has reset the connection since is found by the first call that asks for bytes.
        _ => Ok(()),
    }
}

/// Receives up to `most` bytes into the empty `block`; zero is the peer's end.
pub(crate) fn receive(
    stream: impl AsFd,
    block: &mut BytesMut,
    most: usize,
    flags: RecvFlags,
) -> io::Result<usize> {
    block.clear();
    block.reserve(most);
    let room = block.spare_capacity_mut();
    let most = most.min(room.len());
    let ((filled, _), _) = rustix::net::recv(stream, &mut room[..most], flags)?;
    let count = filled.len();
    // SAFETY: the kernel has initialised the first `count` bytes of the spare capacity, and the block was empty.
    unsafe { block.set_len(count) };
    Ok(count)
}

/// Sends from the front of `output` without waiting, as much as the system takes at once.
pub(crate) fn send(stream: impl AsFd, output: &Output) -> io::Result<u64> {
    let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if let Some(bytes) = output.whole() {
        return Ok(rustix::net::send(stream, bytes, flags)? as u64);
    }
    if let Some(range) = output.front_file() {
        return match File::of(range) {
            Some(file) => send_file(stream, file, range),
            None => send_part(stream, range),
        };
    }
    let mut slices = [IoSlice::new(&[]); SLICES];
    let (count, file_follows) = output.gather(&mut slices);
    if file_follows {
        flags |= SendFlags::MORE;
    }
    let sent = match &slices[..count] {
        [one] => rustix::net::send(stream, one, flags)?,
        many => rustix::net::sendmsg(stream, many, &mut SendAncillaryBuffer::default(), flags)?,
    };
    Ok(sent as u64)
}

fn send_file(stream: impl AsFd, file: &File, range: &FileRange) -> io::Result<u64> {
    // The most that one call moves on Linux: sendfile(2).
    const MOST: u64 = 0x7fff_f000;
    let mut offset = range.offset;
    let sent = sendfile(stream, file, Some(&mut offset), range.len.min(MOST) as usize)?;
    if sent == 0 {
        return Err(blob::shorter_than_promised());
    }
    Ok(sent as u64)
}

/// Sends of what is no file of the system's.
fn send_part(stream: impl AsFd, range: &FileRange) -> io::Result<u64> {
    let part = range.read(BLOCK)?;
    Ok(rustix::net::send(stream, &part, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)? as u64)
}

/// Finishes sending. A peer that is already gone is no error here: the next receive says so.
pub(crate) fn shutdown(stream: impl AsFd) {
    let _ = rustix::net::shutdown(stream, Shutdown::Write);
}

/// Closes; with `reset` the peer sees one and the kernel keeps nothing.
pub(crate) fn close(stream: OwnedFd, reset: bool) {
    if reset {
        let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    }
    drop(stream);
}

impl Net for Os {
    type ListenSocket = OwnedFd;
    type Stream = OwnedFd;

    fn classify(error: &io::Error) -> Failure {
        match Errno::from_io_error(error) {
            _ if error.kind() == io::ErrorKind::WouldBlock => Failure::Empty,
            Some(code) if PASSING.contains(&code) => Failure::Passing,
            Some(Errno::MFILE | Errno::NFILE) => Failure::NoDescriptors,
            Some(Errno::NOBUFS | Errno::NOMEM) => Failure::NoRoom,
            _ => Failure::Other,
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn accept(&mut self, listener: &OwnedFd) -> io::Result<(OwnedFd, Address)> {
        accept(listener, self.accepted)
    }

    fn shed(&mut self, listener: &OwnedFd) -> bool {
        let _alone = last_descriptors();
        drop(self.spare.take());
        let Some(null) = &self.null else { return false };
        match accept(listener, self.accepted) {
            Ok((mut stream, _)) => {
                // Closes the connection and takes its descriptor into reserve in one step: whoever else is short of
                // descriptors, such as the client that has just been turned away, finds none free in between.
                if rustix::io::dup2(null, &mut stream).is_ok() {
                    self.spare = Some(stream);
                }
                true
            }
            Err(_) => {
                self.spare = null.try_clone().ok();
                false
            }
        }
    }

    fn connect(&mut self, address: &Address) -> io::Result<OwnedFd> {
        connect(address, self.tuning)
    }

    fn connected(&mut self, stream: &OwnedFd) -> io::Result<()> {
        connected(stream)
    }

    fn receive(&mut self, stream: &OwnedFd, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        receive(stream, block, most, RecvFlags::empty())
    }

    fn send(&mut self, stream: &OwnedFd, output: &Output) -> io::Result<u64> {
        send(stream, output)
    }

    fn shutdown(&mut self, stream: &OwnedFd) {
        shutdown(stream);
    }

    fn close(&mut self, stream: OwnedFd, reset: bool) {
        close(stream, reset);
    }
}
