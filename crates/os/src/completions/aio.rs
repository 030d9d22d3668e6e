//! `aio`: POSIX asynchronous I/O. aio(7).
//!
//! glibc does it with threads of its own, one request per descriptor at a time, and no more than twenty of them: thirty
//! silent peers that are being read from would stop everybody else. So a read or a write begins only when the socket is
//! ready, and none ever waits for the network; what is left to wait for is the disk. Every completion costs a thread
//! that tells of it, which is why this is the slowest model here: it is worth knowing, not worth using.
//!
//! That thread is a hint and nothing else: it wakes, and the requests themselves are asked which are done. glibc says
//! nothing at all when it can begin no thread, so while there are requests they are asked every few milliseconds, woken
//! or not. A connection that is idle has none, and costs nothing.
//!
//! Writes raise SIGPIPE when the peer is gone, unless the process ignores it, as Rust programs do.

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    ptr::NonNull,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use roadstead_drivers::{
    free::FreeList,
    net::Net,
    proactor::{
        blocks::Block,
        readiness::{Finished, Progress, ReadyIo, Receive, Send},
    },
};
use roadstead_proto::{
    blob::{self, FileRange},
    connection::BLOCK,
    ticket::{Token, WakeQueue},
};

use crate::{
    file::File,
    sockets::{self, Os},
};

/// The requests that glibc has: the [`ReadyIo`] of a completion queue on epoll.
pub struct Requests {
    wake_queue: Arc<WakeQueue>,
    /// The latest first. Each a box of its own, which glibc points into: so it is ours again only when it says that it
    /// is done.
    in_flight: VecDeque<NonNull<Request>>,
    done: Vec<NonNull<Request>>,
    free: FreeList<Box<Request>>,
}

/// The longest that a request is done and nobody knows.
const TICK: Duration = Duration::from_millis(10);

/// How long the end of the completion queue waits for what glibc still has, in milliseconds.
const PATIENCE_MS: u32 = 5_000;

/// Requests that are kept for the next ones: more than glibc has threads.
const FREE: usize = 64;

struct Request {
    block: libc::aiocb,
    token: Token,
    descriptor: RawFd,
    /// None: the request is free.
    work: Option<Work>,
}

/// What a request works on. It keeps the memory, and a file open, until the request is done.
enum Work {
    /// Up to so many bytes.
    Receive(Block, usize),
    Send(Bytes),
    /// A part of a file is read, for a layer.
    Read {
        block: BytesMut,
        _of: FileRange,
    },
    /// A part of a file is read, to be sent next.
    Fill {
        block: BytesMut,
        _of: FileRange,
    },
}

impl Requests {
    /// Completions interrupt the loop of `wake_queue`.
    pub fn new(wake_queue: &Arc<WakeQueue>) -> Self {
        Self {
            wake_queue: Arc::clone(wake_queue),
            in_flight: VecDeque::new(),
            done: Vec::new(),
            free: FreeList::new(FREE),
        }
    }

    /// Hands a request over. If glibc has no room for it, what it would work on comes back.
    fn submit(&mut self, token: Token, descriptor: RawFd, work: Work, from: (RawFd, u64)) -> Option<Work> {
        let mut request = self.take_free(token, descriptor);
        let (address, length, reads) = match request.work.insert(work) {
            Work::Receive(bytes, most) => {
                let room = bytes.spare_capacity_mut();
                (room.as_mut_ptr().cast(), room.len().min(*most), true)
            }
            Work::Fill { block, .. } | Work::Read { block, .. } => {
                let room = block.spare_capacity_mut();
                (room.as_mut_ptr().cast(), room.len(), true)
            }
            Work::Send(bytes) => (bytes.as_ptr().cast_mut().cast(), bytes.len(), false),
        };
        request.block.aio_fildes = from.0;
        request.block.aio_buf = address;
        request.block.aio_nbytes = length;
        request.block.aio_offset = from.1 as libc::off_t;
        let wake_queue = Weak::into_raw(Arc::downgrade(&self.wake_queue));
        tell_by_thread(&mut request.block.aio_sigevent, wake_queue);
        let request = NonNull::from(Box::leak(request));
        // SAFETY: the control block and its buffer belong to the request, which stays where it is, untouched, until it
        // says that it is done.
        let status = unsafe {
            let block = &raw mut (*request.as_ptr()).block;
            if reads { libc::aio_read(block) } else { libc::aio_write(block) }
        };
        if status != 0 {
            // SAFETY: it was not accepted, so nobody else knows of it, and nobody will wake.
            let mut request = unsafe {
                drop(Weak::from_raw(wake_queue));
                Box::from_raw(request.as_ptr())
            };
            let work = request.work.take();
            self.free.put(request);
            return work;
        }
        self.in_flight.push_front(request);
        None
    }

    /// A request that is free, or a new one.
    fn take_free(&mut self, token: Token, descriptor: RawFd) -> Box<Request> {
        // SAFETY: plain numbers and pointers, for which zero is a value.
        let block = unsafe { mem::zeroed() };
        match self.free.take() {
            Some(mut request) => {
                (request.block, request.token, request.descriptor) = (block, token, descriptor);
                request
            }
            None => Box::new(Request { block, token, descriptor, work: None }),
        }
    }

    fn fill(&mut self, task: &Send<'_, OwnedFd>, range: &FileRange) -> bool {
        // What is no file of the system's reads itself.
        let Some(file) = File::of(range) else { return false };
        let block = BytesMut::with_capacity(range.len.min(BLOCK as u64) as usize);
        let work = Work::Fill { block, _of: range.clone() };
        let from = (file.as_fd().as_raw_fd(), range.offset);
        self.submit(task.token, task.stream.as_raw_fd(), work, from).is_none()
    }

    /// Takes those that are done, the latest first: glibc does those of a descriptor in order, so whoever is done has
    /// none before it that is still to be found. And they are told in that order. A send to a peer that has reset takes
    /// the error with it, and what the receive behind it then finds looks like the peer's end.
    fn collect(&mut self) {
        self.in_flight.retain(|request| {
            // SAFETY: it is a request that was accepted, and that nobody has taken back.
            let status = unsafe { libc::aio_error(&raw const (*request.as_ptr()).block) };
            if status != libc::EINPROGRESS {
                self.done.push(*request);
            }
            status == libc::EINPROGRESS
        });
    }

    /// A request is done. `None` if another takes its place.
    fn end(&mut self, mut request: Box<Request>) -> Option<Finished> {
        // SAFETY: the request is done, and this is the only time that it is asked for its result.
        let result = unsafe {
            match libc::aio_error(&request.block) {
                0 => Ok(libc::aio_return(&mut request.block) as usize),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        };
        let (token, descriptor, work) = (request.token, request.descriptor, request.work.take());
        self.free.put(request);
        match work? {
            Work::Send(_) => Some(Finished::Sent(token, result.map(|count| count as u64))),
            Work::Receive(mut bytes, _) => {
                // SAFETY: so many bytes were read into the spare room of an empty buffer.
                result.iter().for_each(|&count| unsafe { bytes.set_len(count) });
                Some(Finished::Received(token, result.map(|_| bytes)))
            }
            Work::Read { block: mut bytes, .. } => {
                // SAFETY: as above.
                result.iter().for_each(|&count| unsafe { bytes.set_len(count) });
                Some(Finished::Read(token, result.and_then(|_| blob::some(bytes))))
            }
            Work::Fill { block: mut bytes, .. } => match result {
                Ok(0) => Some(Finished::Sent(token, Err(blob::shorter_than_promised()))),
                Ok(count) => {
                    // SAFETY: as above.
                    unsafe { bytes.set_len(count) };
                    let left = self.submit(token, descriptor, Work::Send(bytes.freeze()), (descriptor, 0));
                    left.map(|_| Finished::Sent(token, Err(io::ErrorKind::WouldBlock.into())))
                }
                Err(error) => Some(Finished::Sent(token, Err(error))),
            },
        }
    }
}

/// Has a thread of glibc's call [`tell`] when a request is done. sigevent(3type), `SIGEV_THREAD`.
///
/// The pointer is weak, since glibc may never call: one allocation then stays, without a queue in it.
fn tell_by_thread(event: &mut libc::sigevent, wake_queue: *const WakeQueue) {
    event.sigev_notify = libc::SIGEV_THREAD;
    event.sigev_value = libc::sigval { sival_ptr: wake_queue.cast_mut().cast() };
    let function: extern "C" fn(libc::sigval) = tell;
    // SAFETY: the function to call is the first pointer of the union that begins where the thread's number is, and lies
    // within the event; the one behind it, the thread's attributes, stays null.
    unsafe {
        let union = (&raw mut *event).byte_add(mem::offset_of!(libc::sigevent, sigev_notify_thread_id));
        union.cast::<extern "C" fn(libc::sigval)>().write(function);
    }
}

extern "C" fn tell(value: libc::sigval) {
    // SAFETY: it was made by `into_raw` for this one call.
    let wake_queue = unsafe { Weak::from_raw(value.sival_ptr.cast_const().cast::<WakeQueue>()) };
    if let Some(wake_queue) = wake_queue.upgrade() {
        wake_queue.interrupt();
    }
}

impl ReadyIo<Os> for Requests {
    fn receive(&mut self, net: &mut Os, task: Receive<'_, OwnedFd>) -> Progress<io::Result<Block>> {
        let Receive { token, stream, block, most } = task;
        let descriptor = stream.as_raw_fd();
        match self.submit(token, descriptor, Work::Receive(block, most), (descriptor, 0)) {
            Some(Work::Receive(mut block, most)) => {
                Progress::Done(net.receive(stream, &mut block, most).map(|_| block))
            }
            _ => Progress::Later,
        }
    }

    fn send(&mut self, _: &mut Os, task: Send<'_, OwnedFd>) -> Progress<io::Result<u64>> {
        let descriptor = task.stream.as_raw_fd();
        let submitted = match task.lent.front_file() {
            Some(range) => self.fill(&task, range),
            None => {
                let work = Work::Send(task.lent.front_bytes());
                self.submit(task.token, descriptor, work, (descriptor, 0)).is_none()
            }
        };
        if submitted { Progress::Later } else { Progress::Done(sockets::send(task.stream, task.lent)) }
    }

    fn read(&mut self, token: Token, range: Box<FileRange>) -> Progress<io::Result<BytesMut>> {
        if let Some(file) = File::of(&range) {
            let block = BytesMut::with_capacity(range.len.min(BLOCK as u64) as usize);
            let work = Work::Read { block, _of: (*range).clone() };
            let descriptor = file.as_fd().as_raw_fd();
            if self.submit(token, descriptor, work, (descriptor, range.offset)).is_none() {
                return Progress::Later;
            }
        }
        Progress::Done(range.read(BLOCK))
    }

    fn finished(&mut self) -> Option<Finished> {
        loop {
            if self.done.is_empty() {
                self.collect();
            }
            let request = self.done.pop()?;
            // SAFETY: it was leaked from a box when it was submitted, and glibc touches it no more.
            let request = unsafe { Box::from_raw(request.as_ptr()) };
            if let Some(finished) = self.end(request) {
                return Some(finished);
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        (!self.in_flight.is_empty()).then_some(TICK)
    }

    fn trim(&mut self) {
        self.free.trim();
    }
}

impl Drop for Requests {
    /// glibc writes into the buffers of requests that it still has. None waits for the network, so this is short; what
    /// a disk still holds after a while is never freed, which is better than too early.
    fn drop(&mut self) {
        for _ in 0..PATIENCE_MS {
            while self.finished().is_some() {}
            if self.in_flight.is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        time::Instant,
    };

    use rustix::{
        event::{PollFd, PollFlags, poll},
        net::sockopt,
    };

    use roadstead_drivers::proactor::blocks::Blocks;
    use roadstead_proto::{
        output::{Lent, Output},
        tuning::Tuning,
    };

    use super::*;

    #[test]
    fn a_reset_that_a_send_has_found_is_told_before_what_a_receive_finds_behind_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = OwnedFd::from(listener.accept().unwrap().0);
        sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        poll(&mut [PollFd::new(&stream, PollFlags::RDHUP)], None).unwrap();

        let mut net = Os::non_blocking(Instant::now(), Tuning::default());
        let mut ready_io = Requests::new(&WakeQueue::new());
        let mut output = Output::new(100);
        output.write(b"to nobody");
        let mut lent = Lent::new();
        output.lend(&mut lent);
        let send = Send { token: Token(1), stream: &stream, lent: &lent };
        assert!(matches!(ready_io.send(&mut net, send), Progress::Later));
        let block = Blocks::new().lend(100).unwrap();
        let receive = Receive { token: Token(1), stream: &stream, block, most: 100 };
        assert!(matches!(ready_io.receive(&mut net, receive), Progress::Later));
        // So that both are found done at once.
        thread::sleep(Duration::from_millis(100));
        let mut told = Vec::new();
        while told.len() < 2 {
            told.extend(ready_io.finished());
        }
        assert!(matches!(&told[0], Finished::Sent(_, Err(_))), "the reset comes first");
        assert!(matches!(&told[1], Finished::Received(..)));
    }

    #[test]
    fn no_more_is_received_than_was_asked_for_whatever_room_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = OwnedFd::from(listener.accept().unwrap().0);
        peer.write_all(&[7; 100]).unwrap();

        let mut net = Os::non_blocking(Instant::now(), Tuning::default());
        let mut ready_io = Requests::new(&WakeQueue::new());
        for most in [1, 60, 39] {
            let block = Blocks::new().lend(BLOCK).unwrap();
            let receive = Receive { token: Token(1), stream: &stream, block, most };
            assert!(matches!(ready_io.receive(&mut net, receive), Progress::Later));
            let told = loop {
                if let Some(told) = ready_io.finished() {
                    break told;
                }
                thread::sleep(Duration::from_millis(1));
            };
            let Finished::Received(_, block) = told else { panic!("nothing else was begun") };
            assert_eq!(block.unwrap().len(), most);
        }
    }

    /// The next that is done.
    fn next(ready_io: &mut Requests) -> Finished {
        loop {
            if let Some(told) = ready_io.finished() {
                return told;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn of_a_file_that_part_is_sent_and_read_that_was_asked_for_and_one_that_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = OwnedFd::from(listener.accept().unwrap().0);
        let path = std::env::temp_dir().join(format!("roadstead-aio-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let file = Arc::new(File::from(std::fs::File::open(&path).unwrap()));
        std::fs::remove_file(&path).unwrap();
        let mut net = Os::non_blocking(Instant::now(), Tuning::default());
        let mut ready_io = Requests::new(&WakeQueue::new());
        for (offset, expected) in [(3, Some(4)), (8, Some(2)), (10, None)] {
            let mut output = Output::new(100);
            output.file(Arc::<File>::clone(&file), offset, 4);
            let range = Box::new(output.front_file().unwrap().clone());
            assert!(matches!(ready_io.read(Token(2), range), Progress::Later));
            let Finished::Read(Token(2), read) = next(&mut ready_io) else {
                panic!("nothing else was begun")
            };
            let part = &b"0123456789"[offset as usize..][..expected.unwrap_or(0)];
            assert_eq!(read.ok().as_deref(), expected.map(|_| part), "from {offset}");
            let mut lent = Lent::new();
            output.lend(&mut lent);
            let send = Send { token: Token(1), stream: &stream, lent: &lent };
            assert!(matches!(ready_io.send(&mut net, send), Progress::Later));
            let Finished::Sent(Token(1), sent) = next(&mut ready_io) else {
                panic!("nothing else was begun")
            };
            assert_eq!(sent.ok(), expected.map(|count| count as u64), "from {offset}");
            let mut came = vec![0; part.len()];
            io::Read::read_exact(&mut peer, &mut came).unwrap();
            assert_eq!(came, part);
        }
        assert_eq!(ready_io.patience(), None, "nothing is left to be asked about");
    }
}
