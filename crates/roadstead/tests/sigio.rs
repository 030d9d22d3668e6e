//! SIGIO with a handler, as `docs/signal.md` shows it beside the model `signal`, which has none.
//!
//! Alone in its process, because a handler is for all of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

static READY: AtomicBool = AtomicBool::new(false);

extern "C" fn on_sigio(_: libc::c_int) {
    READY.store(true, SeqCst);
}

/// Has `stream` send SIGIO to this process when something can be read or written.
fn watch(stream: &TcpStream) {
    let fd = stream.as_raw_fd();
    // SAFETY: the descriptor is open, and the handler does nothing but store a flag.
    unsafe {
        let handler = on_sigio as extern "C" fn(libc::c_int);
        assert_ne!(libc::signal(libc::SIGIO, handler as libc::sighandler_t), libc::SIG_ERR);
        assert_eq!(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()), 0);
        assert_eq!(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK), 0);
    }
}

/// Looks at the flag in place of pause(2), which would sleep over a signal that comes just before it.
fn wait() {
    let begun = Instant::now();
    while !READY.swap(false, SeqCst) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no signal comes");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_handler_hears_of_bytes_and_the_program_reads_them() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut near = listener.accept().unwrap().0;
    watch(&near);
    for said in ["ahoy", "and again"] {
        READY.store(false, SeqCst);
        far.write_all(said.as_bytes()).unwrap();
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            wait();
            assert_eq!(near.read_to_end(&mut heard).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(heard, said.as_bytes());
    }
    drop(far);
    wait();
    assert_eq!(near.read(&mut [0]).unwrap(), 0, "an end is told too");
}
