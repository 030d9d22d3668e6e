//! Operations in flight, each with the memory that the kernel works on, and the ring that they travel on.
//!
//! An operation is named by a key and a generation, so that a completion or a cancellation that is late finds nobody
//! rather than somebody else.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr, thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use io_uring::{
    IoUring, opcode, squeue,
    types::{Fd, SubmitArgs, Timespec},
};
use slab::Slab;
use socket2::{SockAddr, SockAddrStorage};

use roadstead_drivers::{net::REST, proactor::blocks::Block};
use roadstead_proto::{
    address::Address,
    blob::FileRange,
    connection::BLOCK,
    output::{Lent, Output},
    ticket::Token,
};

use crate::{sockets::address, wait::FOR_EVER};

/// How many pieces go into one send.
const PIECES: usize = 16;

/// How long the end of the ring waits for what the kernel still has.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits at a stretch.
const MOMENT: Duration = Duration::from_millis(10);

/// The name of all cancellations: no operation has it, and nobody waits for theirs.
const NOBODY: u64 = u64::MAX;

/// The name of an operation in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name(u64);

impl Name {
    fn of(key: usize, generation: u32) -> Self {
        Self((u64::from(generation) << 32) | key as u64)
    }
}

/// An operation, with all that the kernel reads or writes until it is done: always by a pointer to the heap, which
/// stays where it is when the operation moves.
pub(super) enum Operation {
    /// Waits until the loop's wait is to end.
    Wake,
    /// Accepts one connection from the listener of that number.
    Accept(usize, Box<Peer>),
    /// Waits until somebody waits at the listener of that number.
    Backlog(usize),
    Connect(Token, Box<SockAddr>),
    /// Waits until a connection that was begun is decided.
    Deciding(Token),
    /// Waits until there is something to receive.
    Readable(Token),
    /// Receives up to so many bytes into an empty block with as much room.
    Receive(Token, Block, usize),
    /// Waits until the peer has room.
    Writable(Token),
    Send(Token, Box<Lent>, Box<Message>),
    /// Reads the first bytes of a part of a file into an empty block with the room.
    Read(Token, BytesMut, Box<FileRange>),
}

/// Where the kernel puts the address of a peer.
pub(super) struct Peer {
    storage: SockAddrStorage,
    length: libc::socklen_t,
}

/// The pieces of an output, as the kernel takes them.
pub(super) struct Message {
    header: libc::msghdr,
    pieces: [libc::iovec; PIECES],
    file_follows: bool,
}

impl Message {
    fn of(output: &Output) -> Box<Self> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let (count, file_follows) = output.gather(&mut slices);
        let piece = |slice: IoSlice<'_>| libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(),
            iov_len: slice.len(),
        };
        // SAFETY: plain numbers and pointers, for which zero is a value.
        let header = unsafe { mem::zeroed() };
        let mut message = Box::new(Self { header, pieces: slices.map(piece), file_follows });
        message.header.msg_iov = message.pieces.as_mut_ptr();
        message.header.msg_iovlen = count as _;
        message
    }
}

impl Operation {
    /// An accept on the listener of that number.
    pub(super) fn accept(listener: usize) -> Self {
        let storage = SockAddrStorage::zeroed();
        let length = storage.size_of();
        Self::Accept(listener, Box::new(Peer { storage, length }))
    }

    /// A read of the first bytes of `range`.
    pub(super) fn read(token: Token, range: Box<FileRange>) -> Self {
        Self::Read(token, BytesMut::with_capacity(range.len.min(BLOCK as u64) as usize), range)
    }

    /// A send of what comes first in `lent`, which is no file.
    pub(super) fn send(token: Token, lent: Box<Lent>) -> Self {
        let message = Message::of(&lent);
        Self::Send(token, lent, message)
    }

    /// What the kernel is told. It points into the memory of this operation.
    fn entry(&mut self, descriptor: RawFd) -> squeue::Entry {
        let fd = Fd(descriptor);
        let poll = |events: libc::c_short| opcode::PollAdd::new(fd, events as u32).build();
        match self {
            Self::Wake | Self::Backlog(_) | Self::Readable(_) => poll(libc::POLLIN),
            Self::Deciding(_) | Self::Writable(_) => poll(libc::POLLOUT),
            Self::Accept(_, peer) => {
                let storage = (&raw mut peer.storage).cast();
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                opcode::Accept::new(fd, storage, &raw mut peer.length).flags(flags).build()
            }
            Self::Connect(_, address) => {
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
            Self::Receive(_, block, most) => {
                let room = block.spare_capacity_mut();
                let length = room.len().min(*most) as u32;
                opcode::Recv::new(fd, room.as_mut_ptr().cast(), length).flags(libc::MSG_DONTWAIT).build()
            }
            Self::Read(_, block, range) => {
                let room = block.spare_capacity_mut();
                opcode::Read::new(fd, room.as_mut_ptr().cast(), room.len() as u32)
                    .offset(range.offset)
                    .build()
            }
            Self::Send(_, _, message) => {
                let more = if message.file_follows { libc::MSG_MORE } else { 0 };
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | more;
                opcode::SendMsg::new(fd, ptr::from_ref(&message.header)).flags(flags as u32).build()
            }
        }
    }
}

/// What an accept came to: the connection, and who it is from.
pub(super) fn accepted(peer: Peer, result: io::Result<u32>) -> io::Result<(OwnedFd, Address)> {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    let stream = unsafe { OwnedFd::from_raw_fd(result? as RawFd) };
    // SAFETY: the kernel has written an address of that length.
    let address = unsafe { SockAddr::new(peer.storage, peer.length) };
    let address = address::of_storage(&address).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((stream, address))
}

/// The bytes that a receive or a read came to.
pub(super) fn filled(block: &mut BytesMut, result: io::Result<u32>) -> io::Result<usize> {
    let count = result? as usize;
    // SAFETY: the kernel has written so many bytes into the spare room of a block that was empty.
    unsafe { block.set_len(count) };
    Ok(count)
}

/// A ring, and the operations that are on it.
pub(super) struct Ring {
    ring: IoUring,
    operations: Slab<(u32, Operation)>,
    generation: u32,
    /// Submissions for which there was no place yet, in order.
    behind: VecDeque<squeue::Entry>,
}

impl Ring {
    /// Nothing is on it yet.
    pub(super) fn new(ring: IoUring) -> Self {
        Self { ring, operations: Slab::new(), generation: 0, behind: VecDeque::new() }
    }

    /// Submits an operation on a descriptor that stays open until it is done.
    pub(super) fn begin(&mut self, operation: Operation, on: impl AsFd) -> Name {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.operations.vacant_entry();
        let name = Name::of(entry.key(), self.generation);
        let (_, operation) = entry.insert((self.generation, operation));
        let submission = operation.entry(on.as_fd().as_raw_fd()).user_data(name.0);
        self.push(submission);
        name
    }

    /// Has an operation complete soon, if it has not yet.
    pub(super) fn cancel(&mut self, name: Name) {
        self.push(opcode::AsyncCancel::new(name.0).build().user_data(NOBODY));
    }

    /// The names of those that wait at listeners.
    pub(super) fn listening(&self) -> Vec<Name> {
        let listens = |operation: &_| matches!(operation, Operation::Accept(..) | Operation::Backlog(_));
        let names = self.operations.iter().filter(|(_, (_, operation))| listens(operation));
        names.map(|(key, (generation, _))| Name::of(key, *generation)).collect()
    }

    fn push(&mut self, submission: squeue::Entry) {
        self.behind.push_back(submission);
        if !self.fill() {
            self.submit();
        }
    }

    /// Gives places to those that have none. False if there are not enough.
    fn fill(&mut self) -> bool {
        let mut places = self.ring.submission();
        while let Some(submission) = self.behind.front() {
            // SAFETY: what it points into belongs to an operation, which is kept until it is done, and never freed if
            // that cannot be waited for.
            if unsafe { places.push(submission) }.is_err() {
                return false;
            }
            self.behind.pop_front();
        }
        true
    }

    /// Makes places by submitting, for as long as the kernel takes any. What it does not take is left for later.
    fn submit(&mut self) {
        while self.ring.submit().is_ok_and(|count| count > 0) && !self.fill() {}
    }

    /// Submits, and waits until something is done, the time is over or a signal interrupts.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.fill() {
            self.submit();
        }
        let timeout = if self.behind.is_empty() { timeout } else { Some(Duration::ZERO) };
        let entered = match timeout.map(|timeout| Timespec::from(timeout.min(FOR_EVER))) {
            Some(time) => self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time)),
            None => self.ring.submit_and_wait(1),
        };
        let Err(error) = entered else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
            // The kernel has no room for a submission: it is submitted again.
            Some(libc::EAGAIN | libc::ENOMEM) => {
                thread::sleep(REST);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// The next operation that is done, and what it came to.
    pub(super) fn next(&mut self) -> Option<(Operation, io::Result<u32>)> {
        loop {
            let done = self.ring.completion().next()?;
            if let Some(operation) = self.take(done.user_data()) {
                let result = done.result();
                return Some((
                    operation,
                    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)),
                ));
            }
        }
    }

    fn take(&mut self, name: u64) -> Option<Operation> {
        let (key, generation) = ((name & u64::from(u32::MAX)) as usize, (name >> 32) as u32);
        self.operations.get(key).filter(|(named, _)| *named == generation)?;
        self.operations.try_remove(key).map(|(_, operation)| operation)
    }
}

impl Drop for Ring {
    /// The kernel writes into the memory of operations that it still has. All are cancelled; what it holds on to after
    /// a while is never freed, which is better than too early.
    fn drop(&mut self) {
        let names: Vec<_> =
            self.operations.iter().map(|(key, (generation, _))| Name::of(key, *generation)).collect();
        names.into_iter().for_each(|name| self.cancel(name));
        let until = Instant::now() + PATIENCE;
        while !self.operations.is_empty() && Instant::now() < until && self.enter(Some(MOMENT)).is_ok() {
            while let Some((operation, result)) = self.next() {
                if let Operation::Accept(_, peer) = operation {
                    drop(accepted(*peer, result));
                }
            }
        }
        if !self.operations.is_empty() {
            mem::forget(mem::take(&mut self.operations));
        }
    }
}
