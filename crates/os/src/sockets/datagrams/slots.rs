//! What one call receives or sends: headers, names, slices and control messages, each of as many datagrams. A loop has
//! one set for each direction and uses it for every call, so that none allocates.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use super::{
    control::{self, Control},
    name::{self, Name},
};

/// Room for the datagrams of one call.
#[derive(Default)]
pub(super) struct Slots {
    headers: Vec<libc::mmsghdr>,
    slices: Vec<libc::iovec>,
    pub(super) names: Vec<Name>,
    pub(super) controls: Vec<Control>,
}

/// Bytes of somebody else's: where they are, and how many.
pub(super) type Slice = (*mut u8, usize);

impl Slots {
    /// Has room for so many.
    pub(super) fn reserve(&mut self, count: usize) {
        if self.headers.len() < count {
            // SAFETY: it is made of numbers and pointers, and all of them may be zero.
            self.headers.resize_with(count, || unsafe { mem::zeroed() });
            self.slices.resize(count, libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 });
            self.names.resize(count, Name::EMPTY);
            self.controls.resize(count, Control::EMPTY);
        }
    }

    /// Points so many headers at their slices, as many as `slices` has and as there is room for. `room`: of names and of
    /// control messages, for each.
    fn aim(
        &mut self,
        slices: impl Iterator<Item = Slice>,
        room: impl Fn(&Name, &Control) -> (usize, usize),
    ) -> usize {
        let Self { headers, slices: own, names, controls } = self;
        let mut count = 0;
        let all = headers.iter_mut().zip(own).zip(names).zip(controls).zip(slices);
        for ((((header, own), name), control), (base, length)) in all {
            let (name_length, control_length) = room(name, control);
            *own = libc::iovec { iov_base: base.cast(), iov_len: length };
            let header = &mut header.msg_hdr;
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = name_length as _;
            header.msg_iov = own;
            header.msg_iovlen = 1;
            header.msg_control =
                if control_length > 0 { control.as_mut_ptr().cast() } else { ptr::null_mut() };
            header.msg_controllen = control_length as _;
            header.msg_flags = 0;
            count += 1;
        }
        count
    }

    /// Receives into `slices`. Answers how many datagrams came.
    ///
    /// # Safety
    /// Each slice may be written to, and is nobody else's during the call.
    pub(super) unsafe fn receive(
        &mut self,
        socket: impl AsFd,
        slices: impl Iterator<Item = Slice>,
    ) -> io::Result<usize> {
        let count = self.aim(slices, |_, _| (name::ROOM, control::ROOM));
        let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: so many headers are there, and each names memory of this struct, with its length, or a slice that the
        // caller vouches for.
        let received =
            unsafe { libc::recvmmsg(fd, self.headers.as_mut_ptr(), count as _, flags as _, ptr::null_mut()) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Sends `slices`, to the names and with the control messages that were set. Answers how many datagrams were taken.
    ///
    /// # Safety
    /// Each slice may be read during the call.
    pub(super) unsafe fn send(
        &mut self,
        socket: impl AsFd,
        slices: impl Iterator<Item = Slice>,
    ) -> io::Result<usize> {
        let count = self.aim(slices, |name, control| (name.length(), control.length()));
        let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // SAFETY: so many headers are there, and each names memory of this struct, with its length, or a slice that the
        // caller vouches for.
        let sent = unsafe { libc::sendmmsg(fd, self.headers.as_mut_ptr(), count as _, flags as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Takes the next error out of a socket's queue, with the address that it is about.
    pub(super) fn take_error(&mut self, socket: impl AsFd) -> io::Result<()> {
        self.reserve(1);
        self.aim([(ptr::null_mut(), 0)].into_iter(), |_, _| (name::ROOM, control::ROOM));
        let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE);
        // SAFETY: the first header names memory of this struct, with its length, and no bytes of anybody's.
        let taken = unsafe { libc::recvmsg(fd, &raw mut self.headers[0].msg_hdr, flags) };
        if taken < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// What the system has said of a datagram that came: how many bytes it has, whether its end is lost, and how long its
    /// name and its control messages are.
    pub(super) fn came(&self, number: usize) -> Came {
        let libc::mmsghdr { msg_hdr, msg_len } = &self.headers[number];
        Came {
            length: *msg_len as usize,
            truncated: msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            name: msg_hdr.msg_namelen as usize,
            control: msg_hdr.msg_controllen as _,
        }
    }
}

/// See [`Slots::came`].
pub(super) struct Came {
    pub(super) length: usize,
    pub(super) truncated: bool,
    pub(super) name: usize,
    pub(super) control: usize,
}
