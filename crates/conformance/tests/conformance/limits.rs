//! The budget: every limit below, at and above, and every deadline.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use roadstead::frame::HEAD;
use roadstead_conformance::{
    PATIENCE,
    asks::{ANSWER, BUSY, ECHO, FILE, FINISH, HOLD, LATER, REFUSE},
    child::Child,
    client::{End, ask, echo, end_of, eventually, frame, read_frame},
    setting::Setting,
    wire::Wire,
};

scenarios! {
    connections_are_counted (Wires): "three of three are admitted, the fourth is reset, and there is room again after one",
    connections_of_one_address_are_counted (Wires): "two of two, and the third reset; another address is another matter",
    a_message_fits_its_buffer_or_closes (Wires): "one byte less than may be buffered, as many, one more",
    an_answer_fits_its_buffer_or_closes (Wires): "the same of an answer",
    all_connections_share_one_memory (Wires): "of three that would hold more than all may, two are served to the end",
    tickets_are_counted (Wires): "three tickets of three, the fourth is refused as busy, and there is room again after one",
    who_connects_and_says_nothing_is_closed (Wires): "the time for the first byte passes: a reset",
    who_falls_silent_is_closed (Wires): "the idle time runs from the last byte on: a reset",
    who_is_being_worked_for_is_not_idle (Wires): "a connection that waits for a ticket is not closed as idle",
    who_sends_too_slowly_is_closed (Wires): "a message that comes slower than it may is cut off",
    who_sends_just_fast_enough_is_served (Wires): "one that comes faster than it must is answered, whatever time it takes",
    who_takes_too_slowly_is_closed (Wires): "an answer that is taken slower than it may is cut off",
    who_is_over_its_rate_waits_and_has_all (Wires): "an answer and a file that are larger than a burst come whole, and never faster than the cap of one connection",
    all_share_one_rate (Wires): "of three at once none has more than the cap of all leaves to it, and each has all in the end",
    a_wait_for_the_rate_is_no_slowness (Wires): "under a cap below the slowest rate, and with waits longer than the idle time, nobody is closed",
    a_drain_waits_for_who_is_over_its_rate (Wires): "an answer that waits for the cap when the server drains goes out whole",
    too_few_descriptors_are_said (Models): "where fewer connections fit than are allowed, the soft limit is raised; where the hard one forbids it, one line says how many fit",
    limits_may_be_as_large_as_numbers (Wires): "with each limit and each time the largest number that there is, all goes on as ever",
    who_does_not_end_is_not_waited_for (Wires): "a peer that answers no end is waited for no longer than the linger time",
}

const BRIEF: Duration = Duration::from_millis(200);

fn limits_may_be_as_large_as_numbers(setting: &Setting) {
    let counts = [
        "connections",
        "per-address",
        "buffer-each",
        "buffer-all",
        "jobs",
        "slowest",
        "rate-all",
        "rate-each",
    ];
    let times = ["first-byte", "idle", "connect", "linger", "drain"];
    let options = counts.into_iter().chain(times).map(|name| format!(" --{name} {}", u64::MAX));
    let child = Child::start(setting, &format!("desk{}", options.collect::<String>()));
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, ECHO, 0, b"as ever"), (ECHO, b"as ever".to_vec()));
    assert_eq!(ask(&mut stream, LATER, 1, b"").0, LATER);
    drop(stream);
    assert_eq!(child.first_closed(), "finished");
    assert_eq!(child.drain()["failed"], 0);
}

/// The reset may come before the call that connects has seen that it is connected.
#[track_caller]
fn is_refused(connected: io::Result<Wire>) {
    match connected {
        Ok(mut stream) => assert_eq!(end_of(&mut stream), End::Reset),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Waits until somebody new is served.
#[track_caller]
fn room_again(mut connect: impl FnMut() -> io::Result<Wire>) {
    eventually("there is room again", || {
        let Ok(mut stream) = connect() else { return false };
        let mut byte = [0];
        stream.write_all(b"!").and_then(|()| stream.read_exact(&mut byte)).is_ok()
    });
}

fn connections_are_counted(setting: &Setting) {
    let child = Child::start(setting, "echo --connections 3");
    let mut streams = child.connect_many(3);
    streams.iter_mut().for_each(|stream| echo(stream, b"admitted"));
    is_refused(child.try_connect());
    is_refused(child.try_connect());
    streams.iter_mut().for_each(|stream| echo(stream, b"still here"));
    streams.pop();
    room_again(|| child.try_connect());
    drop(streams);
    assert!(child.drain()["refused"] >= 2);
}

fn connections_of_one_address_are_counted(setting: &Setting) {
    let child = Child::start(setting, "echo --per-address 2");
    let from = |last: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
        socket.connect_timeout(&child.address().into(), PATIENCE)?;
        Ok(setting.speak(TcpStream::from(socket)))
    };
    let mut two = [from(1).unwrap(), from(1).unwrap()];
    two.iter_mut().for_each(|stream| echo(stream, b"admitted"));
    is_refused(from(1));
    echo(&mut from(2).unwrap(), b"another address");
    drop(two);
    room_again(|| from(1));
}

fn a_message_fits_its_buffer_or_closes(setting: &Setting) {
    let each = 100_000;
    for (whole, fits) in [(each - 1, true), (each, true), (each + 1, false)] {
        let child = Child::start(setting, &format!("desk --buffer-each {each}"));
        let mut stream = child.connect();
        let wire = frame(ECHO, 0, &vec![b'm'; whole - frame(ECHO, 0, b"").len()]);
        assert_eq!(wire.len(), whole);
        if fits {
            stream.write_all(&wire).unwrap();
            assert_eq!(read_frame(&mut stream).0, ECHO);
        } else {
            stream.write_all(&wire[..64]).unwrap();
            assert_eq!(end_of(&mut stream), End::Reset);
            let why = "a message is larger than the 100000 bytes a connection may buffer";
            assert_eq!(child.first_closed(), why);
        }
    }
}

fn an_answer_fits_its_buffer_or_closes(setting: &Setting) {
    let each = 100_000;
    for (whole, fits) in [(each - 1, true), (each, true), (each + 1, false)] {
        let child = Child::start(setting, &format!("desk --buffer-each {each}"));
        let mut stream = child.connect();
        let body = (whole - HEAD) as u64;
        if fits {
            assert_eq!(ask(&mut stream, ANSWER, body, b"").1.len() as u64, body);
        } else {
            stream.write_all(&frame(ANSWER, body, b"")).unwrap();
            assert_eq!(end_of(&mut stream), End::Reset);
            let why = "the answer is larger than the 100000 bytes a connection may buffer";
            assert_eq!(child.first_closed(), why);
        }
    }
}

fn all_connections_share_one_memory(setting: &Setting) {
    let half = 1 << 15;
    // A record of which a part has come is charged until the rest has.
    let all = 2 * half + if setting.tls { 30_000 } else { 0 };
    let child = Child::start(setting, &format!("desk --buffer-each {half} --buffer-all {all}"));
    // Its answer is small.
    let whole = frame(ANSWER, 0, &vec![0; half - 100]);
    // Half a message of more than half a buffer: its buffer has its full size.
    let (part, rest) = whole.split_at(half / 2 + 100);
    let mut streams = child.connect_many(3);
    for stream in &mut streams {
        // Who has no room may close before all of it is written.
        let _ = stream.write_all(part);
        thread::sleep(BRIEF / 4);
    }
    let why = format!("all connections together would buffer more than {all} bytes");
    assert_eq!(child.first_closed(), why);
    let served = |stream: &mut Wire| {
        let sent = stream.write_all(rest).is_ok();
        sent && stream.read_exact(&mut [0; HEAD]).is_ok()
    };
    assert_eq!(streams.iter_mut().filter_map(|stream| served(stream).then_some(())).count(), 2);
    assert_eq!(child.closed(), [why]);
    drop(streams);
    let mut stream = child.connect();
    stream.write_all(&whole).unwrap();
    assert_eq!(read_frame(&mut stream).0, ANSWER);
}

fn tickets_are_counted(setting: &Setting) {
    let child = Child::start(setting, "desk --jobs 3");
    let mut stream = child.connect();
    stream.write_all(&frame(HOLD, 0, b"").repeat(3)).unwrap();
    assert_eq!(ask(&mut stream, HOLD, 9, b""), (BUSY, 9u64.to_le_bytes().to_vec()));
    for number in 0..3 {
        assert_eq!(ask(&mut stream, FINISH, number, b"").0, HOLD);
        // The room is there as soon as the answer is.
        stream.write_all(&frame(HOLD, 0, b"")).unwrap();
        assert_eq!(ask(&mut stream, HOLD, 9, b"").0, BUSY);
    }
}

#[track_caller]
fn is_closed_for(child: &Child, begun: Instant, patience: Duration, why: &str) {
    assert_eq!(child.first_closed(), why);
    assert!(begun.elapsed() >= patience, "too early");
}

fn who_connects_and_says_nothing_is_closed(setting: &Setting) {
    let child = Child::start(setting, "echo --first-byte 200");
    let begun = Instant::now();
    let mut stream = child.connect();
    assert_eq!(end_of(&mut stream), End::Reset);
    is_closed_for(&child, begun, BRIEF, "the peer connected and sent nothing in time");
}

fn who_falls_silent_is_closed(setting: &Setting) {
    let child = Child::start(setting, "echo --idle 4000");
    let begun = Instant::now();
    let mut stream = child.connect();
    for _ in 0..4 {
        thread::sleep(BRIEF);
        echo(&mut stream, b"not idle");
    }
    assert_eq!(end_of(&mut stream), End::Reset);
    is_closed_for(&child, begun, BRIEF * 24, "the peer neither sent nor took a byte in time");
}

fn who_is_being_worked_for_is_not_idle(setting: &Setting) {
    let child = Child::start(setting, "desk --idle 200");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, LATER, 600, b"").0, LATER);
    assert_eq!(end_of(&mut stream), End::Reset);
    assert_eq!(child.first_closed(), "the peer neither sent nor took a byte in time");
}

/// Sends a message of so many bytes, one at a time; answers whether the server took all of it.
fn dribble(stream: &mut Wire, len: usize) -> bool {
    frame(ECHO, 0, &vec![b'd'; len]).iter().all(|&byte| {
        thread::sleep(Duration::from_millis(10));
        stream.write_all(&[byte]).is_ok()
    })
}

fn who_sends_too_slowly_is_closed(setting: &Setting) {
    let child = Child::start(setting, "desk --idle 4000 --slowest 1000");
    assert!(!dribble(&mut child.connect(), 3000));
    assert_eq!(child.first_closed(), "the peer moved fewer than 1000 bytes per second");
}

fn who_sends_just_fast_enough_is_served(setting: &Setting) {
    let child = Child::start(setting, "desk --idle 4000 --slowest 1");
    let mut stream = child.connect();
    assert!(dribble(&mut stream, 500));
    assert_eq!(read_frame(&mut stream), (ECHO, vec![b'd'; 500]));
}

fn who_takes_too_slowly_is_closed(setting: &Setting) {
    let child = Child::start(setting, "desk --file 40000000 --idle 4000 --slowest 1000000000");
    let mut stream = child.connect();
    stream.write_all(&frame(FILE, 40_000_000, b"")).unwrap();
    let mut some = vec![0; 1 << 16];
    while child.closed().is_empty() && stream.read_exact(&mut some).is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.first_closed(), "the peer moved fewer than 1000000000 bytes per second");
}

/// What may go at once under a small cap, and is taken at once by a connection.
const BURST: f64 = 16384.0;

/// Reads a frame, of which no byte may come before it may be sent: `rate` since `begun`, a burst, and two portions of
/// it, of which one was asked for earlier than it was sent.
fn comes_in_time(stream: &mut Wire, length: usize, rate: f64, begun: Instant) {
    let (mut got, mut some) = (0, vec![0; 1 << 14]);
    while got < HEAD + length {
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "it ends after {got} bytes");
        got += count;
        let may = BURST + rate / 10.0 + rate * begun.elapsed().as_secs_f64();
        assert!(got as f64 <= may, "{got} bytes where {may} may be");
    }
    assert_eq!(got, HEAD + length, "and nothing behind it");
}

fn who_is_over_its_rate_waits_and_has_all(setting: &Setting) {
    let child = Child::start(setting, "desk --rate-each 60000 --file 40000000");
    for kind in [ANSWER, FILE] {
        let (mut stream, begun) = (child.connect(), Instant::now());
        stream.write_all(&frame(kind, 60_000, b"")).unwrap();
        comes_in_time(&mut stream, 60_000, 60_000.0, begun);
    }
}

fn all_share_one_rate(setting: &Setting) {
    let child = Child::start(setting, "desk --rate-all 60000");
    let mut streams = child.connect_many(3);
    let begun = Instant::now();
    streams.iter_mut().for_each(|stream| stream.write_all(&frame(ANSWER, 20_000, b"")).unwrap());
    for stream in &mut streams {
        comes_in_time(stream, 20_000, 60_000.0, begun);
    }
    // All three, with a portion of each that was sent later than it was asked for.
    let took = begun.elapsed().as_secs_f64();
    assert!(60_000.0 <= BURST + 60_000.0 * (took + 0.2), "{took} s");
}

fn a_wait_for_the_rate_is_no_slowness(setting: &Setting) {
    let child =
        Child::start(setting, "desk --rate-each 4000 --slowest 1000000 --idle 400 --first-byte 10000");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, ANSWER, 20_000, b"").1.len(), 20_000);
}

fn a_drain_waits_for_who_is_over_its_rate(setting: &Setting) {
    let mut child = Child::start(setting, "desk --rate-each 30000 --drain 20000");
    let mut stream = child.connect();
    stream.write_all(&frame(ANSWER, 40_000, b"")).unwrap();
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).unwrap();
    child.begin_drain();
    let mut rest = vec![0; 40_000];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    child.stats();
    assert!(child.closed().contains(&"finished".to_owned()));
}

fn who_does_not_end_is_not_waited_for(setting: &Setting) {
    let child = Child::start(setting, "desk --linger 200");
    let begun = Instant::now();
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, REFUSE, 0, b"").0, REFUSE);
    assert_eq!(end_of(&mut stream), End::Orderly);
    is_closed_for(&child, begun, BRIEF, "refused");
}

fn too_few_descriptors_are_said(setting: &Setting) {
    let start = |limit| Child::start_under(&["prlimit", limit], setting, "echo --connections 100");
    let lines = |child: &Child| child.log().matches("not the 100 that the budget allows").count();
    let soft = |child: &Child| {
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.pid().as_raw_nonzero())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    // In a process of its own a connection finds as many descriptors as another.
    let shared = !setting.model.forks();
    let ended = |limit| {
        let mut child = start(limit);
        let soft = soft(&child);
        child.signal(Signal::TERM);
        child.stats();
        (soft, lines(&child), child.log())
    };
    let (few, said, log) = ended("--nofile=64");
    assert_eq!((few, said), (64, usize::from(shared)), "{log}");
    let (raised, said, log) = ended("--nofile=64:4096");
    assert_eq!((raised > 100, said), (shared, 0), "{log}");
}
