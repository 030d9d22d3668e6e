//! Real sockets, and threads that wait for them: no longer than they were told to, and for nothing else.
#![forbid(unsafe_code)]

use std::{
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use roadstead_proto::connection::BLOCK;

use super::*;
use crate::file::File;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

const NOTHING: Wants = Wants { receive: false, send: false };
const RECEIVE: Wants = Wants { receive: true, send: false };
const SEND: Wants = Wants { receive: false, send: true };

/// Fails where this waits for what will never come.
fn soon<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || sender.send(what()).is_ok());
    done.recv_timeout(Duration::from_secs(10)).expect("it waits for ever, or has panicked")
}

fn net() -> WaitingOs {
    WaitingOs::new(Instant::now(), Tuning::default())
}

/// An accepted connection, and the peer's end of it.
fn pair() -> (WaitingStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let listener = OwnedFd::from(listener);
    (net().accept(&listener).unwrap().0, peer)
}

fn output(fill: impl FnOnce(&mut Output)) -> Output {
    let mut output = Output::new(1 << 20);
    fill(&mut output);
    output
}

/// Sends until there is no room left.
fn fill_up(stream: &WaitingStream) {
    let bytes = output(|output| output.send(vec![0; 1 << 20]));
    while net().send(stream, &bytes).is_ok() {}
}

/// Sends a byte when somebody has had time to wait for it.
fn says_later(mut peer: TcpStream) {
    thread::spawn(move || {
        thread::sleep(20 * SHORT);
        peer.write_all(b"x").unwrap();
        // Until the test has ended: the end is not what is waited for.
        thread::sleep(LONG);
    });
}

fn receive(stream: &WaitingStream, patience: Duration) -> io::Result<usize> {
    net().receive_within(stream, &mut BytesMut::with_capacity(BLOCK), BLOCK, patience)
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_receive_waits_as_long_as_it_was_told_to_the_last_time() {
    soon(|| {
        let (stream, peer) = pair();
        would_block(receive(&stream, SHORT));
        would_block(receive(&stream, SHORT));
        says_later(peer);
        assert_eq!(receive(&stream, LONG).unwrap(), 1);
        would_block(receive(&stream, SHORT));
    });
}

#[test]
fn a_file_and_bytes_for_which_there_is_no_room_are_not_waited_for_and_a_receive_is_all_the_same() {
    soon(|| {
        let (stream, peer) = pair();
        fill_up(&stream);
        let path = std::env::temp_dir().join(format!("roadstead-waiting-{}", std::process::id()));
        std::fs::write(&path, [0; 100]).unwrap();
        let file = Arc::new(File::from(std::fs::File::open(&path).unwrap()));
        std::fs::remove_file(&path).unwrap();
        would_block(net().send(&stream, &output(|output| output.file(file, 0, 100))));
        would_block(net().send(&stream, &output(|output| output.send(vec![0; 100]))));
        says_later(peer);
        assert_eq!(receive(&stream, LONG).unwrap(), 1);
    });
}

#[test]
fn a_look_never_waits_and_takes_no_more_than_was_asked_for() {
    soon(|| {
        let (stream, mut peer) = pair();
        let mut block = BytesMut::with_capacity(BLOCK);
        would_block(net().receive(&stream, &mut block, BLOCK));
        peer.write_all(b"four").unwrap();
        assert_eq!(net().receive_within(&stream, &mut block, 3, LONG).unwrap(), 3);
        assert_eq!((net().receive(&stream, &mut block, 9).unwrap(), &block[..]), (1, &b"r"[..]));
    });
}

#[test]
fn a_connection_that_was_begun_is_waited_for_like_one_that_has_come() {
    soon(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net().connect(&listener.local_addr().unwrap().into()).unwrap();
        let found = net().wait(Some(&stream), SEND, None, Some(LONG)).unwrap().unwrap();
        assert!(found.any && !found.broken);
        net().connected(&stream).unwrap();
        let (peer, _) = listener.accept().unwrap();
        would_block(receive(&stream, SHORT));
        says_later(peer);
        assert_eq!(receive(&stream, LONG).unwrap(), 1);
    });
}

/// What a look finds, as any, readable, broken.
fn looked(stream: &WaitingStream, wants: Wants) -> [bool; 3] {
    let Found { any, readable, broken } =
        net().wait(Some(stream), wants, None, Some(SHORT)).unwrap().unwrap();
    [any, readable, broken]
}

#[test]
fn a_wait_finds_what_is_wanted_and_nothing_else() {
    soon(|| {
        let (stream, mut peer) = pair();
        assert_eq!(looked(&stream, RECEIVE), [false; 3]);
        assert_eq!(looked(&stream, SEND), [true, false, false]);
        peer.write_all(b"x").unwrap();
        let found = net().wait(Some(&stream), RECEIVE, None, Some(LONG)).unwrap().unwrap();
        assert!(found.any && found.readable && !found.broken);
        assert_eq!(looked(&stream, NOTHING), [false; 3]);
        fill_up(&stream);
        assert_eq!(looked(&stream, SEND), [false; 3]);
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(looked(&stream, NOTHING), [false; 3], "its end is read by who receives");
    });
}

#[test]
fn what_has_broken_a_connection_is_found_whatever_is_wanted_and_told_by_its_name() {
    soon(|| {
        let (stream, peer) = pair();
        super::super::close(peer.into(), true);
        let found = net().wait(Some(&stream), NOTHING, None, Some(LONG)).unwrap().unwrap();
        assert!(found.any && found.readable && found.broken);
        assert_eq!(net().broken_by(&stream).kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(
            net().broken_by(&stream).kind(),
            io::ErrorKind::ConnectionReset,
            "told once, and still so"
        );
    });
    for (came, readable, broken) in [
        (PollFlags::IN, true, false),
        (PollFlags::HUP, true, false),
        (PollFlags::ERR, true, true),
        (PollFlags::OUT, false, false),
    ] {
        let found = found(came);
        assert_eq!((found.any, found.readable, found.broken), (true, readable, broken), "{came:?}");
    }
    assert!(!found(PollFlags::empty()).any);
}

#[test]
fn two_ends_that_nobody_wants_to_hear_of_end_no_wait() {
    soon(|| {
        let (stream, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        net().shutdown(&stream);
        peer.shutdown(Shutdown::Write).unwrap();
        let found = net().wait(Some(&stream), RECEIVE, None, Some(LONG)).unwrap().unwrap();
        assert!(found.any && found.readable && !found.broken);
        assert_eq!(looked(&stream, NOTHING), [false; 3]);
        let wake_queue = WakeQueue::new();
        let interrupt = net().interrupt(&wake_queue).unwrap();
        assert!(wake_queue.begin_sleep());
        let called = Arc::new(AtomicBool::new(false));
        let calls = Arc::clone(&called);
        thread::spawn(move || {
            thread::sleep(10 * SHORT);
            calls.store(true, SeqCst);
            wake_queue.interrupt();
        });
        net().wait(Some(&stream), NOTHING, Some(&interrupt), Some(LONG)).unwrap();
        assert!(called.load(SeqCst), "it has ended before anybody called");
    });
}

#[test]
fn a_wake_ends_a_wait_and_having_been_heard_no_other() {
    soon(|| {
        let (stream, _peer) = pair();
        let wake_queue = WakeQueue::new();
        let interrupt = net().interrupt(&wake_queue).unwrap();
        for stream in [Some(&stream), None] {
            assert!(wake_queue.begin_sleep());
            wake_queue.interrupt();
            let found = net().wait(stream, RECEIVE, Some(&interrupt), Some(LONG)).unwrap().unwrap();
            assert!(!found.any, "nothing has come but the call");
            let begun = Instant::now();
            net().wait(stream, RECEIVE, Some(&interrupt), Some(SHORT)).unwrap();
            assert!(begun.elapsed() >= SHORT, "it was heard");
        }
    });
}

#[test]
fn an_alarm_ends_every_wait_from_when_it_is_rung() {
    soon(|| {
        let (stream, _peer) = pair();
        let alarm = net().alarm().unwrap();
        let begun = Instant::now();
        net().wait(Some(&stream), RECEIVE, Some(&alarm), Some(SHORT)).unwrap();
        assert!(begun.elapsed() >= SHORT, "nobody has rung it");
        net().ring(&alarm);
        for alarm in [alarm.clone(), alarm] {
            for stream in [Some(&stream), None] {
                let found = net().wait(stream, RECEIVE, Some(&alarm), Some(LONG)).unwrap().unwrap();
                assert!(!found.any, "nothing has come but the alarm");
            }
        }
    });
}

#[test]
fn who_accepts_waits_for_somebody_for_a_wake_or_until_the_time_is_over() {
    soon(|| {
        let listeners = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listeners[1].local_addr().unwrap();
        let listeners = listeners.map(OwnedFd::from);
        let wake_queue = WakeQueue::new();
        let interrupt = net().interrupt(&wake_queue).unwrap();
        let wait = |timeout| net().wait_for_any(listeners.iter(), &interrupt, timeout).unwrap();
        let begun = Instant::now();
        wait(Some(SHORT));
        assert!(begun.elapsed() >= SHORT);
        let _peer = TcpStream::connect(address).unwrap();
        wait(None);
        net().accept(&listeners[1]).unwrap();
        assert!(wake_queue.begin_sleep());
        wake_queue.interrupt();
        wait(None);
        let begun = Instant::now();
        wait(Some(SHORT));
        assert!(begun.elapsed() >= SHORT, "it was heard");
    });
}
