//! A side that has finished sending, and reads on.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use roadstead::Model;
use roadstead_conformance::{
    asks::{ANSWER, ECHO, FILE, HUSH, LATER},
    child::Child,
    client::{End, end_of, eventually, frame, pattern, read_frame},
    setting::Setting,
    wire::Wire,
};

scenarios! {
    who_half_closes_gets_all_that_was_answered (Wires): "3 MiB go up and a half-close behind them; 3 MiB that were still to come arrive, and then the end",
    who_has_finished_sending_reads_on (Wires): "the server's end comes behind its last answer; 3 MiB that the client sends only then are read to its end",
    a_file_goes_out_before_the_end (Wires): "what is sent without being read is not cut short by an early end of sending",
    a_reply_that_was_awaited_comes_before_the_end (Wires): "who finishes sending with work under way ends behind its reply",
    a_peer_that_does_not_end_is_not_waited_for_for_ever (Wires): "who has finished sending waits for more no longer than for anybody",
    a_reset_is_heard_behind_an_end (Wires): "a peer that breaks off while only it sends is told from one that has ended",
    nobody_stays_half_closed (Models): "40 clients come and end before anybody looks: their connections are CLOSE_WAIT, and a moment later none is",
    two_ends_and_nobody_who_reads_keep_nobody_awake (Wires): "with both ends come and bytes left unread the server sleeps",
}

const MUCH: usize = 3 << 20;

/// A client that has asked for `asks` and then for silence, which begins to read `after` so many milliseconds.
#[track_caller]
fn hushed(child: &Child, asks: &[u8], after: u64) -> Wire {
    let mut stream = child.connect();
    stream.write_all(&[asks, &frame(HUSH, after, b"")].concat()).unwrap();
    stream
}

/// How much the server has heard, once it says so.
#[track_caller]
fn heard(child: &Child) -> String {
    eventually("the server has heard all", || !child.said("heard ").is_empty());
    child.said("heard ").remove(0)
}

fn who_half_closes_gets_all_that_was_answered(setting: &Setting) {
    let child = Child::start(setting, "echo --buffer-each 262144");
    let mut stream = child.connect();
    let (sent, mut back) = (pattern(MUCH), Vec::new());
    thread::scope(|scope| {
        let (mut writer, sent) = (stream.another(), &sent);
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.finish().unwrap();
        });
        stream.read_to_end(&mut back).unwrap();
    });
    assert!(back == sent, "{} bytes came back", back.len());
    drop(stream);
    assert_eq!(child.first_closed(), "finished");
}

fn who_has_finished_sending_reads_on(setting: &Setting) {
    let child = Child::start(setting, "desk --linger 200");
    let mut stream = hushed(&child, &frame(ANSWER, 100_000, b""), 0);
    assert_eq!(read_frame(&mut stream), (ANSWER, vec![b'a'; 100_000]));
    assert_eq!(end_of(&mut stream), End::Orderly);
    // Longer than a finished connection would wait for its peer.
    thread::sleep(Duration::from_millis(300));
    stream.write_all(&pattern(MUCH)).unwrap();
    stream.finish().unwrap();
    assert_eq!(heard(&child), MUCH.to_string());
    assert_eq!(child.first_closed(), "finished");
    let stats = child.drain();
    assert_eq!((stats["closed"], stats["failed"]), (1, 0));
}

fn a_file_goes_out_before_the_end(setting: &Setting) {
    let child = Child::start(setting, &format!("desk --file {MUCH}"));
    let mut stream = hushed(&child, &frame(FILE, MUCH as u64, b""), 0);
    let (kind, body) = read_frame(&mut stream);
    assert!((kind, &body) == (FILE, &pattern(MUCH)), "{} bytes of a file", body.len());
    assert_eq!(end_of(&mut stream), End::Orderly);
    stream.write_all(&pattern(10)).unwrap();
    stream.finish().unwrap();
    assert_eq!(heard(&child), "10");
}

fn a_reply_that_was_awaited_comes_before_the_end(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = hushed(&child, &frame(LATER, 100, b""), 0);
    stream.write_all(&pattern(1000)).unwrap();
    assert_eq!(read_frame(&mut stream), (LATER, 100u64.to_le_bytes().to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    stream.finish().unwrap();
    assert_eq!(heard(&child), "1000");
}

fn a_peer_that_does_not_end_is_not_waited_for_for_ever(setting: &Setting) {
    let child = Child::start(setting, "desk --idle 300");
    let mut stream = hushed(&child, b"", 0);
    assert_eq!(end_of(&mut stream), End::Orderly);
    assert_eq!(child.first_closed(), "the peer neither sent nor took a byte in time");
}

fn a_reset_is_heard_behind_an_end(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = hushed(&child, &frame(ECHO, 0, b"last"), 0);
    assert_eq!(read_frame(&mut stream), (ECHO, b"last".to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    stream.write_all(&pattern(100)).unwrap();
    stream.cut();
    let cut = if setting.tls { "cut off" } else { "reset" };
    assert!(child.first_closed().contains(cut), "{:?}", child.closed());
    assert!(child.said("heard ").is_empty(), "half of it looks like all of it");
}

fn nobody_stays_half_closed(setting: &Setting) {
    const CLOSE_WAIT: &str = "08";
    let child = Child::start(setting, "echo");
    child.freeze();
    for number in 0..40 {
        let mut client = TcpStream::connect(child.address()).unwrap();
        if number % 2 == 0 {
            client.write_all(b"!").unwrap();
        }
    }
    eventually("all have ended", || child.in_state(CLOSE_WAIT) == 40);
    child.thaw();
    eventually("each was let in and closed", || child.closed().len() == 40);
    eventually("none of them is left", || child.in_state(CLOSE_WAIT) == 0);
}

fn two_ends_and_nobody_who_reads_keep_nobody_awake(setting: &Setting) {
    let mut child = Child::start(setting, "desk --buffer-each 16384 --idle 3600000 --drain 3600000");
    // The server begins to read in an hour.
    let mut stream = hushed(&child, b"", 3_600_000);
    assert_eq!(end_of(&mut stream), End::Orderly);
    // More than it keeps unread, so that it does not receive any more; the rest lies in the kernel, and the end.
    stream.write_all(&pattern(60_000)).unwrap();
    stream.finish().unwrap();
    if setting.model == Model::Spin {
        child.at_rest();
    } else {
        child.falls_asleep();
    }
    assert!(child.closed().is_empty(), "it is still open");
    // A drain ends the waiting.
    child.signal(Signal::TERM);
    assert_eq!((child.stats()["failed"], child.closed()), (0, vec!["finished".to_owned()]));
}
