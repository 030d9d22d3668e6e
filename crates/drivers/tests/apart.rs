//! A message that is echoed writes to nothing that loops share, on a reactor and on a proactor.
//!
//! What they share, the limits and the accounts, is put on pages of its own, and these are made read-only before each
//! turn: the processor itself tells of whatever is written there. Alone in its process, because of its allocator.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{self, IoSlice},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::BytesMut;
use roadstead_drivers::{
    accept::Listener,
    net::{Failure, Net},
    proactor::{
        Proactor,
        emulated::{Direct, Emulated},
    },
    reactor::{Poller, Reactor, Readiness},
};
use roadstead_proto::{
    address::Address,
    budget::Budget,
    host::{Host, Shared},
    input::Input,
    output::Output,
    service::{Done, Peer, Scope, Service, Session},
    session::Context,
    ticket::Token,
};

/// So much can be put apart, in bytes.
const APART: usize = 64 << 10;
const CONNECTIONS: usize = 10;
/// So many bytes is a message.
const MESSAGE: usize = 128;
const TURNS: usize = 200;

/// Allocates on pages of their own while it is told to.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
static PUTS_APART: AtomicBool = AtomicBool::new(false);
/// Where the pages begin, and how much of them is taken.
static PAGES: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// How often somebody has written to pages that were read-only.
static WRITES: AtomicUsize = AtomicUsize::new(0);

fn is_apart(address: usize) -> bool {
    let pages = PAGES.load(SeqCst);
    pages != 0 && (pages..pages + APART).contains(&address)
}

// SAFETY: what is put apart is memory that was mapped, aligned, given out once and never taken back; all else is the
// system's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !PUTS_APART.load(SeqCst) {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        }
        let start = TAKEN.load(SeqCst).next_multiple_of(layout.align());
        TAKEN.store(start + layout.size(), SeqCst);
        if start + layout.size() > APART {
            return ptr::null_mut();
        }
        (PAGES.load(SeqCst) + start) as *mut u8
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if !is_apart(place as usize) {
            // SAFETY: it is the system's.
            unsafe { System.dealloc(place, layout) }
        }
    }
}

fn protect(protection: i32) {
    // SAFETY: the pages were mapped by `map`, and nobody relies on a write to them being impossible.
    let done = unsafe { libc::mprotect(PAGES.load(SeqCst) as *mut libc::c_void, APART, protection) };
    assert_eq!(done, 0);
}

/// Counts a write, and lets it and those after it happen.
extern "C" fn written(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system hands us what it knows of this signal.
    let address = unsafe { (*info).si_addr() } as usize;
    if !is_apart(address) {
        // SAFETY: nothing of this process is needed any more.
        unsafe { libc::abort() }
    }
    WRITES.fetch_add(1, SeqCst);
    protect(libc::PROT_READ | libc::PROT_WRITE);
}

/// Maps the pages, and has us hear of whoever writes to them against their protection.
fn map() {
    // SAFETY: a mapping of its own, and a handler that does nothing but count and change a protection.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let pages = libc::mmap(ptr::null_mut(), APART, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(pages, libc::MAP_FAILED);
        PAGES.store(pages as usize, SeqCst);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = written as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
    }
}

/// A network in which everybody has another message whenever somebody looks, and takes every answer.
struct Chatter {
    backlog: usize,
}

impl Net for Chatter {
    type ListenSocket = ();
    type Stream = usize;

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn accept(&mut self, (): &()) -> io::Result<(usize, Address)> {
        self.backlog = self.backlog.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        Ok((self.backlog, ([192, 0, 2, 1], 7).into()))
    }
    fn shed(&mut self, (): &()) -> bool {
        false
    }
    fn connect(&mut self, _: &Address) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn connected(&mut self, _: &usize) -> io::Result<()> {
        Ok(())
    }
    fn receive(&mut self, _: &usize, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        block.clear();
        block.resize(MESSAGE.min(most), b'!');
        Ok(block.len())
    }
    fn send(&mut self, _: &usize, output: &Output) -> io::Result<u64> {
        let mut slices = [IoSlice::new(&[]); 4];
        let (count, _) = output.gather(&mut slices);
        let sent = slices[..count].iter().map(|slice| slice.len()).sum();
        SENT.fetch_add(sent, SeqCst);
        Ok(sent as u64)
    }
    fn shutdown(&mut self, _: &usize) {}
    fn close(&mut self, _: usize, _: bool) {}
}

/// So many bytes were sent.
static SENT: AtomicUsize = AtomicUsize::new(0);

/// Says in every turn that everybody is readable.
#[derive(Default)]
struct Eager(Vec<Token>);

impl Poller<Chatter> for Eager {
    fn listen(&mut self, (): &(), token: Token) -> io::Result<()> {
        self.0.push(token);
        Ok(())
    }
    fn ignore(&mut self, (): &()) {}
    fn add(&mut self, _: &usize, token: Token) -> io::Result<()> {
        self.0.push(token);
        Ok(())
    }
    fn interest(&mut self, _: &usize, _: Token, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, _: &usize) {}
    fn wait(&mut self, ready: &mut Vec<Readiness>, _: Option<Duration>, _: bool) -> io::Result<()> {
        let told = |&token| Readiness { token, readable: true, writable: true, more: false };
        ready.extend(self.0.iter().map(told));
        Ok(())
    }
}

struct Echo;

impl Service for Echo {
    type Session = Echo;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Echo {
        Echo
    }
}

impl Session for Echo {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

/// What loops share, on pages of its own.
fn shared() -> Arc<Shared> {
    PUTS_APART.store(true, SeqCst);
    let shared = Shared::new(Budget::default());
    PUTS_APART.store(false, SeqCst);
    shared
}

/// How many messages were echoed in these turns, and in how many of the turns somebody has written to what is shared.
fn played(mut turn: impl FnMut()) -> (usize, usize) {
    (0..TURNS).for_each(|_| turn());
    let (sent, writes) = (SENT.load(SeqCst), WRITES.load(SeqCst));
    for _ in 0..TURNS {
        protect(libc::PROT_READ);
        turn();
        protect(libc::PROT_READ | libc::PROT_WRITE);
    }
    ((SENT.load(SeqCst) - sent) / MESSAGE, WRITES.load(SeqCst) - writes)
}

fn reactor(host: Host) -> (usize, usize) {
    let listener = Listener::new((), Arc::new(Echo), Arc::clone(&host.shared), None);
    let net = Chatter { backlog: CONNECTIONS };
    let mut reactor = Reactor::new(net, Eager::default(), host, Arc::default(), vec![listener]).unwrap();
    played(|| assert!(reactor.turn().unwrap()))
}

fn proactor(host: Host) -> (usize, usize) {
    let listener = Listener::new((), Arc::new(Echo), Arc::clone(&host.shared), None);
    let net = Chatter { backlog: CONNECTIONS };
    let completions = Emulated::new(net, Eager::default(), Direct, vec![listener.socket]);
    let mut proactor = Proactor::new(completions, host, Arc::default(), vec![listener.open]);
    played(|| assert!(proactor.turn().unwrap()))
}

#[test]
fn an_echoed_message_writes_to_nothing_that_loops_share() {
    map();
    for play in [reactor, proactor] {
        let (messages, writes) = play(Host::alone(shared(), 1).counting_apart());
        assert!(messages >= TURNS * CONNECTIONS, "{messages} messages");
        assert_eq!(writes, 0, "of {TURNS} turns, and {messages} messages");
        // A loop that counts where all do writes there in every turn: that it is seen is proven, too.
        let (_, writes) = play(Host::alone(shared(), 1));
        assert_eq!(writes, TURNS);
    }
}
