//! Many at once, and many one after another.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, Signal, getrlimit, prlimit},
};

use roadstead::{Model, frame::HEAD};
use roadstead_conformance::{
    PATIENCE,
    asks::{ECHO, FILE, JOB, LATER},
    child::Child,
    client::{End, SetAtEnd, ask, end_of, eventually, frame, pattern, read_frame},
    setting::Setting,
    udp::{self, Peer},
    wire::Wire,
};

scenarios! {
    a_thousand_at_once (Models): "1,000 connections are open and each is served three times",
    beyond_what_select_can_watch (Select): "a descriptor above 1,023 is refused with the reason, and the others are served",
    slow_ones_beside_quick_ones (Models): "beside 100 slow senders and 100 who take nothing others are served, and at last they too",
    an_idle_connection_holds_one_descriptor (Models): "50 more connections that say nothing for a while hold 50 descriptors more",
    thousands_come_and_go (Models): "2,000 connections end in five ways, and no descriptor, thread, child or memory is left",
    a_lack_of_descriptors_is_survived (Models): "400 clients and 256 descriptors: who finds no room is reset, nobody else notices, newcomers are served afterwards",
    work_goes_on_without_descriptors (Models): "64 descriptors and all of them taken: whoever is connected gets the reply to a ticket, and in the middle of a message hears of the drain",
    a_limit_below_what_is_open_ends_nobody (Models): "the limit of descriptors falls to none, and is 8 then: 100 connections are served as before, and the server drains",
    who_could_not_be_served_is_forgotten (Models): "one descriptor is left, to let somebody in and not to serve them: they do not count as connected afterwards",
    a_drain_under_load_loses_nothing (Models): "12 connections with work under way get their answers, while others still come",
    thousands_of_peers_are_answered (Datagrams): "two thousand sockets, each gets its own back, twice",
}

fn a_thousand_at_once(setting: &Setting) {
    let child = Child::start(setting, &format!("echo --first-byte 3600000 {}", setting.room_for(1000)));
    let mut streams = child.connect_many(1000);
    for round in 0..3u8 {
        streams.iter_mut().for_each(|stream| stream.write_all(&[round]).unwrap());
        for stream in &mut streams {
            let mut byte = [!round];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
        }
    }
    drop(streams);
    eventually("all have gone", || child.closed().len() == 1000);
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["failed"]), (1000, 0));
}

/// Whether a byte comes back; that the connection was turned away is no error.
#[track_caller]
fn is_served(stream: &mut Wire) -> bool {
    is_answered(stream, &[1], 1)
}

/// The same with an answer of so many bytes.
#[track_caller]
fn is_answered(stream: &mut Wire, asked: &[u8], length: usize) -> bool {
    let answered = stream.write_all(asked).and_then(|()| stream.read_exact(&mut vec![0; length]));
    let turned_away = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof];
    answered.map_err(|error| assert!(turned_away.contains(&error.kind()), "{error}")).is_ok()
}

fn beyond_what_select_can_watch(setting: &Setting) {
    let child = Child::start(setting, "echo --first-byte 3600000 --idle 3600000");
    let mut streams = child.connect_many(1100);
    streams.retain_mut(is_served);
    assert!((900..1024).contains(&streams.len()), "{} are served", streams.len());
    let why = child.first_closed();
    assert!(why.contains("is beyond 1023, the last that select can watch; use poll or epoll"), "{why}");
    assert!(streams.iter_mut().all(is_served), "they stay");
    drop(streams);
    eventually("there is room again", || is_served(&mut child.connect()));
}

fn slow_ones_beside_quick_ones(setting: &Setting) {
    let many = 100;
    let child = Child::start(setting, &format!("desk --file 4000000 {}", setting.room_for(2 * many + 2)));
    let (mut senders, mut takers) = (child.connect_many(many), child.connect_many(many));
    let slowly = frame(ECHO, 0, b"slowly");
    for taker in &mut takers {
        taker.write_all(&frame(FILE, 4_000_000, b"")).unwrap();
    }
    let mut quick = child.connect();
    for byte in &slowly {
        for sender in &mut senders {
            sender.write_all(&[*byte]).unwrap();
        }
        assert_eq!(ask(&mut quick, JOB, 1, b"").0, JOB);
        assert_eq!(ask(&mut child.connect(), ECHO, 0, b"new").0, ECHO);
    }
    for sender in &mut senders {
        assert_eq!(read_frame(sender), (ECHO, b"slowly".to_vec()));
    }
    let content = pattern(4_000_000);
    for taker in &mut takers[..5] {
        assert!(read_frame(taker) == (FILE, content.clone()));
    }
}

/// One connection that ends in one of five ways.
fn visit(child: &Child, way: usize) {
    let mut stream = TcpStream::connect(child.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let wire = [frame(JOB, 1, b""), frame(ECHO, 1, b"visit")].concat();
    let answer = frame(ECHO, 0, b"").len();
    if way != 0 {
        stream.write_all(&wire).unwrap();
    }
    match way {
        0 | 3 => {}
        1 => stream.read_exact(&mut vec![0; answer]).unwrap(),
        2 => {
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        _ => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
    }
}

fn come_and_go(child: &Child, count: usize) {
    let before = child.closed().len();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..count / 4).for_each(|number| visit(child, number % 5)));
        }
    });
    eventually("all have come and gone", || child.closed().len() == before + count);
}

fn thousands_come_and_go(setting: &Setting) {
    let child = Child::start(setting, "desk");
    // What is made once and kept is made now.
    come_and_go(&child, 400);
    let (held, memory) = (child.at_rest(), child.memory());
    come_and_go(&child, 2000);
    eventually("there are no more descriptors, threads and processes than before", || {
        let now = child.held();
        // Some may have been at rest when they were counted, and have ended since.
        now.processes <= held.processes && now.threads <= held.threads && now.descriptors <= held.descriptors
    });
    let grown = child.memory().saturating_sub(memory);
    assert!(grown < 2 << 20, "{grown} bytes more are in use");
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["closed"]), (2400, 2400));
}

fn an_idle_connection_holds_one_descriptor(setting: &Setting) {
    let patient = "echo --first-byte 3600000 --idle 3600000";
    let child = Child::start(setting, &format!("{patient} {}", setting.room_for(100)));
    let mut streams = Vec::new();
    let mut descriptors = [0; 2];
    for held in &mut descriptors {
        let mut more = child.connect_many(50);
        assert!(more.iter_mut().all(is_served));
        streams.extend(more);
        // What a thread needs to wait for long it makes when it has waited in vain for a little.
        thread::sleep(Duration::from_millis(200));
        *held = child.at_rest().descriptors;
    }
    assert_eq!(descriptors[1] - descriptors[0], 50);
}

fn a_lack_of_descriptors_is_survived(setting: &Setting) {
    let few = ["prlimit", "--nofile=256"];
    let child =
        Child::start_under(&few, setting, &format!("echo --first-byte 3600000 {}", setting.room_for(450)));
    let mut streams = child.connect_many(400);
    streams.retain_mut(is_served);
    if setting.model.forks() {
        assert_eq!(streams.len(), 400, "each process has descriptors of its own");
    } else {
        assert!((50..256).contains(&streams.len()), "{} are served", streams.len());
    }
    assert!(streams.iter_mut().all(is_served), "who is connected stays connected");
    drop(streams);
    // Not at once: the descriptors come back one by one.
    eventually("newcomers are served as before", || (0..20).all(|_| is_served(&mut child.connect())));
    assert_eq!(child.drain()["refused"] > 0, !setting.model.forks(), "they are counted");
}

fn work_goes_on_without_descriptors(setting: &Setting) {
    let few = ["prlimit", "--nofile=64"];
    let mut child = Child::start_under(&few, setting, &format!("desk {}", setting.room_for(150)));
    let mut streams = child.connect_many(100);
    streams.retain_mut(|stream| is_answered(stream, &frame(ECHO, 0, b""), HEAD));
    for stream in &mut streams {
        assert_eq!(ask(stream, LATER, 1, b"").0, LATER);
        stream.write_all(&frame(ECHO, 0, b"")[..1]).unwrap();
    }
    child.signal(Signal::TERM);
    for mut stream in streams {
        assert_eq!(end_of(&mut stream), End::Orderly);
    }
    child.stats();
}

fn a_limit_below_what_is_open_ends_nobody(setting: &Setting) {
    let child = Child::start(setting, &format!("echo {}", setting.room_for(100)));
    let mut streams = child.connect_many(100);
    assert!(streams.iter_mut().all(is_served));
    let maximum = getrlimit(Resource::Nofile).maximum;
    for most in [0, 8] {
        for pid in child.processes() {
            let limited = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(most), maximum });
            // A child that has lost its client may have ended since.
            assert!(matches!(limited, Ok(_) | Err(Errno::SRCH)), "{limited:?}");
        }
        // A wait that the limit was changed in does not know of it: whoever accepts is woken too.
        drop(child.connect());
        for _ in 0..3 {
            streams.iter_mut().for_each(|stream| stream.write_all(&[1]).unwrap());
            for stream in &mut streams {
                stream.read_exact(&mut [0]).unwrap();
            }
        }
    }
    drop(streams);
    // Who was only to wake may have found nobody: a child that begins without descriptors cannot serve.
    assert!(child.drain()["failed"] <= 2);
}

fn who_could_not_be_served_is_forgotten(setting: &Setting) {
    let child = Child::start(setting, "echo");
    assert!(is_served(&mut child.connect()));
    child.at_rest();
    let pid = child.pid();
    let is_open = |number: &u64| fs::exists(format!("/proc/{pid}/fd/{number}")).unwrap();
    let second = (0..).filter(|number| !is_open(number)).nth(1).unwrap();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = |current| prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    limit(Some(second));
    let unlucky = TcpStream::connect(child.address()).unwrap();
    if setting.model == Model::Process {
        eventually("somebody was let in", || child.log().contains("no process could be had"));
    }
    drop(unlucky);
    limit(current);
    // Somebody else would take the place, and hide that it had not been given back.
    child.drain();
}

fn a_drain_under_load_loses_nothing(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let mut streams = child.connect_many(12);
    for stream in &mut streams {
        stream.write_all(&[frame(LATER, 400, b""), frame(ECHO, 0, b"")].concat()).unwrap();
        assert_eq!(read_frame(stream).0, ECHO);
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (address, over) = (child.address(), &over);
        for _ in 0..2 {
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    // Whoever comes now may be served or turned away.
                    if let Ok(mut stream) = TcpStream::connect(address) {
                        let _ = stream.write_all(&frame(JOB, 1, b""));
                    }
                }
            });
        }
        let _over = SetAtEnd(over);
        child.signal(Signal::TERM);
        for mut stream in streams {
            assert_eq!(read_frame(&mut stream), (LATER, 400u64.to_le_bytes().to_vec()));
            assert_eq!(end_of(&mut stream), End::Orderly);
        }
    });
    let finished = child.stats()["closed"];
    assert!(finished >= 12);
}

fn thousands_of_peers_are_answered(setting: &Setting) {
    let child = Child::start(setting, "datagrams");
    let peers: Vec<_> = (0..2_000).map(|_| Peer::of(child.address())).collect();
    for round in 0..2 {
        for (number, some) in peers.chunks(50).enumerate() {
            let said = |at: usize| udp::ask(0x80, (number * 50 + at) as u32, &[round]);
            some.iter().enumerate().for_each(|(at, peer)| assert_eq!(peer.0.send(&said(at)).unwrap(), 6));
            some.iter().enumerate().for_each(|(at, peer)| assert_eq!(peer.hear(), said(at)));
        }
    }
    assert_eq!(child.drain()["datagrams_out"], 4_000);
}
