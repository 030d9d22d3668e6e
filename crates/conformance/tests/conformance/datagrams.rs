//! Datagrams: what comes and goes, where from and where to, and what the network does about it.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use roadstead::Model;
use roadstead_conformance::{
    child::Child,
    client::{eventually, pattern},
    foreign::Foreign,
    setting::Setting,
    udp::{ANSWER, Peer, SEGMENTS, SEND, TELL, VALIDATED},
};

scenarios! {
    a_datagram_comes_back (Datagrams): "of every length, over IPv4 and IPv6",
    an_empty_datagram_is_one (Datagrams): "it is answered by an empty one",
    the_longest_datagram_comes_back (Datagrams): "65,507 bytes over IPv4, 65,527 over IPv6",
    an_answer_too_long_for_a_datagram_is_none (Datagrams): "one byte more than the longest is refused, and the next answer leaves",
    a_datagram_without_room_is_cut_and_says_so (Datagrams): "one byte less than its place has, as many, one more",
    a_wildcard_answers_from_the_address_that_was_asked (Datagrams): "two addresses of IPv4, and one of IPv6: the answer comes from the one that was sent to",
    each_address_has_its_own_socket (Datagrams): "of several that are bound, also of one and the same port number",
    congestion_address_and_time_are_told (Datagrams): "what the system knows of a datagram reaches the session",
    a_peer_that_is_gone_is_told_and_the_others_are_served (Datagrams): "ICMP says that nobody is there; who is there notices nothing",
    what_leads_nowhere_holds_up_nobody (Datagrams): "what the system refuses to send is dropped, and what is behind it leaves",
    an_answer_is_three_times_its_request_and_no_more (Datagrams): "one byte less than that, as many, one more; and without a limit when the peer has proven itself",
    two_that_answer_each_other_fall_silent (Datagrams): "two servers that each answer whatever the other says, set off by one datagram",
    segments_arrive_as_datagrams (Datagrams): "a run of one length with a shorter end, in order",
    many_at_once_are_all_answered (Datagrams): "as many as the system keeps come back, each once",
    a_flood_that_nobody_reads_is_survived (Datagrams): "thousands of requests whose sender takes no answer; others are served",
    every_loop_has_a_socket (Datagrams): "as many sockets as loops share the port, and all peers are served",
    socat_and_nc_are_answered_over_udp (Datagrams): "what they send line by line comes back",
}

/// The lengths that make a difference: none, one, around what a frame of Ethernet carries, and what goes in fragments.
const LENGTHS: [usize; 8] = [1, 2, 1_471, 1_472, 1_473, 9_000, 40_000, 65_000];

fn start(setting: &Setting) -> Child {
    Child::start(setting, "datagrams")
}

/// Bytes that ask for nothing.
fn words(length: usize) -> Vec<u8> {
    pattern(length).into_iter().map(|byte| byte | 0x80).collect()
}

fn a_datagram_comes_back(setting: &Setting) {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let child = Child::start(setting, &format!("datagrams --bind {bind}"));
        let peer = Peer::of(child.address());
        LENGTHS.iter().for_each(|&length| peer.echo(&words(length)));
        let stats = child.drain();
        let counts = ["datagrams_in", "datagrams_out", "dropped", "withheld"].map(|name| stats[name]);
        assert_eq!(counts, [LENGTHS.len() as u64, LENGTHS.len() as u64, 0, 0]);
        assert_eq!((stats["bytes_in"], stats["bytes_in"]), (stats["bytes_out"], 118_419));
    }
}

fn an_empty_datagram_is_one(setting: &Setting) {
    let child = start(setting);
    let peer = Peer::of(child.address());
    for _ in 0..3 {
        peer.echo(b"");
        peer.echo(b"full");
    }
    assert_eq!(child.drain()["datagrams_in"], 6);
}

fn the_longest_datagram_comes_back(setting: &Setting) {
    for (bind, longest) in [("127.0.0.1:0", 65_507), ("[::1]:0", 65_527)] {
        let child = Child::start(setting, &format!("datagrams --bind {bind}"));
        let peer = Peer::of(child.address());
        peer.echo(&words(longest));
        peer.echo(&words(longest - 1));
        assert!(peer.0.send(&words(longest + 1)).is_err(), "no datagram is longer");
        peer.echo(b"and a short one");
    }
}

fn an_answer_too_long_for_a_datagram_is_none(setting: &Setting) {
    let child = start(setting);
    let peer = Peer::of(child.address());
    assert_eq!(peer.ask(VALIDATED, 65_507, b"").len(), 65_506);
    assert_eq!(peer.ask(VALIDATED, 65_508, b""), b"");
    eventually("it is said", || {
        child.said("unsent ") == ["no datagram is as long as that, or none that may wait to be sent"]
    });
    peer.echo(b"as ever");
}

fn a_datagram_without_room_is_cut_and_says_so(setting: &Setting) {
    let child = Child::start(setting, "datagrams --buffer-each 2000");
    let peer = Peer::of(child.address());
    for (sent, came, cut) in
        [(1_999, 1_999, false), (2_000, 2_000, false), (2_001, 2_000, true), (9_000, 2_000, true)]
    {
        let told = peer.ask(TELL, 0, &words(sent - 5));
        assert_eq!(told, format!("127.0.0.1 NotCapable {came} {cut} true").as_bytes());
    }
    peer.echo(b"whole");
}

fn a_wildcard_answers_from_the_address_that_was_asked(setting: &Setting) {
    let child = Child::start(setting, "datagrams --bind 0.0.0.0:0 --bind [::]:0");
    let [four, six] = child.addresses()[..] else { panic!("{:?}", child.addresses()) };
    for (from, asked, port) in [
        ("127.0.0.1", "127.0.0.1", four.port()),
        ("127.0.0.1", "127.0.0.2", four.port()),
        ("127.0.0.3", "127.0.0.4", four.port()),
        ("::1", "::1", six.port()),
    ] {
        let peer = Peer::at(from);
        let asked = SocketAddr::new(asked.parse().unwrap(), port);
        for length in [0, 1, 1_200] {
            peer.0.send_to(&words(length), asked).unwrap();
            let mut back = [0; 2_000];
            assert_eq!(peer.0.recv_from(&mut back).unwrap(), (length, asked));
        }
        // A client that is connected hears nobody else.
        peer.0.connect(asked).unwrap();
        peer.echo(b"connected");
    }
}

fn each_address_has_its_own_socket(setting: &Setting) {
    let first = start(setting);
    let port = first.address().port();
    let child = Child::start(
        setting,
        &format!("datagrams --bind 127.0.0.2:{port} --bind [::1]:0 --bind 127.0.0.3:0"),
    );
    for (number, address) in child.addresses().into_iter().enumerate() {
        let peer = Peer::of(address);
        let told = String::from_utf8(peer.ask(TELL, 0, b"")).unwrap();
        assert!(told.starts_with(&format!("{} ", address.ip())), "{number}: {told}");
    }
    Peer::of(first.address()).echo(b"the first");
    let (code, said) = Child::fails_under(&[], setting, &format!("datagrams --bind 127.0.0.1:{port}"));
    assert!(code == Some(1) && said.contains(&format!("address 127.0.0.1:{port} is in use")), "{said}");
}

fn congestion_address_and_time_are_told(setting: &Setting) {
    let child = Child::start(setting, "datagrams --bind 127.0.0.1:0 --bind [::1]:0");
    for address in child.addresses() {
        let peer = Peer::of(address);
        for (class, ecn) in [(0, "NotCapable"), (1, "Capable1"), (2, "Capable0"), (3, "Congestion")] {
            let socket = socket2::SockRef::from(&peer.0);
            match address.is_ipv4() {
                true => socket.set_tos_v4(class).unwrap(),
                false => socket.set_tclass_v6(class).unwrap(),
            }
            let told = peer.ask(TELL, 0, b"");
            assert_eq!(told, format!("{} {ecn} 5 false true", address.ip()).as_bytes());
        }
    }
}

fn a_peer_that_is_gone_is_told_and_the_others_are_served(setting: &Setting) {
    let child = Child::start(setting, "datagrams --bind 127.0.0.1:0 --bind [::1]:0");
    for address in child.addresses() {
        let (gone, peer) = (Peer::of(address), Peer::of(address));
        let nowhere = gone.0.local_addr().unwrap();
        // Who hears somebody else only has its port to itself, and is as good as gone for all others.
        gone.0.connect((address.ip(), 9)).unwrap();
        let said = format!("unreachable {nowhere}");
        let told = || child.said("").iter().filter(|line| **line == said).count();
        for round in 1..=3 {
            eventually("it is told", || {
                // Again, since the system says so only so often to all together (icmp(7), icmp_msgs_per_sec).
                peer.say(SEND, 0, format!("{nowhere} who is there?").as_bytes());
                // Whatever call comes next is told.
                (0..5).for_each(|_| peer.echo(b"here"));
                told() >= round
            });
        }
    }
    child.falls_asleep();
}

fn what_leads_nowhere_holds_up_nobody(setting: &Setting) {
    let child = start(setting);
    let peer = Peer::of(child.address());
    for nowhere in ["127.0.0.1:0", "[2001:db8::1]:9", "255.255.255.255:9", "192.0.2.1:0"] {
        peer.say(SEND, 0, format!("{nowhere} hello").as_bytes());
        peer.echo(b"behind it");
    }
    assert!(child.drain()["dropped"] >= 3);
}

fn an_answer_is_three_times_its_request_and_no_more(setting: &Setting) {
    for (bind, headers) in [("127.0.0.1:0", 28), ("[::1]:0", 48)] {
        let child = Child::start(setting, &format!("datagrams --bind {bind}"));
        let peer = Peer::of(child.address());
        for asked in [5, 100, 1_000] {
            let most = 3 * (asked + headers) - headers;
            for length in [most - 1, most] {
                assert_eq!(peer.ask(ANSWER, length as u32, &words(asked - 5)).len(), length - 1);
            }
            assert_eq!(peer.ask(ANSWER, most as u32 + 1, &words(asked - 5)), b"", "withheld");
            assert_eq!(peer.ask(VALIDATED, most as u32 + 1, &words(asked - 5)).len(), most);
        }
        assert_eq!(child.drain()["withheld"], 3);
    }
}

fn two_that_answer_each_other_fall_silent(setting: &Setting) {
    let [mut one, mut other] = [start(setting), start(setting)];
    let peer = Peer::of(one.address());
    peer.say(SEND, 0, format!("{} say it again", other.address()).as_bytes());
    let mut answered = 0;
    eventually("they fall silent", || {
        std::thread::sleep(Duration::from_millis(50));
        let before = answered;
        answered = one.audit()["datagrams_in"] + other.audit()["datagrams_in"];
        answered > 2 && answered == before
    });
    assert!(answered <= 256, "{answered}");
    assert_eq!(
        one.audit()["withheld"] + other.audit()["withheld"],
        1,
        "there were no hops left for the last"
    );
}

fn segments_arrive_as_datagrams(setting: &Setting) {
    let child = start(setting);
    let peer = Peer::of(child.address());
    for (whole, segment) in [(1, 1), (64, 1), (640, 10), (1_000, 300), (12_000, 1_200), (60_000, 1_400)] {
        let bytes = words(whole);
        peer.say(SEGMENTS, segment as u32, &bytes);
        for part in bytes.chunks(segment) {
            assert!(peer.hear() == part, "{whole} {segment}");
        }
    }
    peer.say(SEGMENTS, 1, &words(65));
    assert_eq!(peer.answer(SEGMENTS), b"", "more than the system cuts");
}

fn many_at_once_are_all_answered(setting: &Setting) {
    let child = start(setting);
    let peer = Peer::of(child.address());
    for round in 0..20u8 {
        let all: BTreeSet<_> = (0..50u8).map(|number| vec![0x80 | number, round, 7]).collect();
        all.iter().for_each(|one| assert_eq!(peer.0.send(one).unwrap(), 3));
        let back: BTreeSet<_> = all.iter().map(|_| peer.hear()).collect();
        assert_eq!(back, all);
    }
    assert_eq!(child.drain()["datagrams_out"], 1_000);
}

fn a_flood_that_nobody_reads_is_survived(setting: &Setting) {
    let child = start(setting);
    let (flood, peer) = (Peer::of(child.address()), Peer::of(child.address()));
    for _ in 0..10 {
        for _ in 0..500 {
            // The system may have no room for it.
            let _ = flood.0.send(&words(1_200));
        }
        peer.0.send(b"ahoy").unwrap();
    }
    // What the system had no room for is lost.
    eventually("others are served", || {
        peer.0.send(b"ahoy").unwrap();
        peer.hears_within(Duration::from_millis(100)).is_some()
    });
    assert!(child.drain()["datagrams_in"] > 100);
}

fn every_loop_has_a_socket(setting: &Setting) {
    let child = start(setting);
    let port = format!("0100007F:{:04X} ", child.address().port());
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    let bound = sockets.lines().filter(|line| line.contains(&port)).count();
    assert_eq!(bound, if setting.model == Model::Threads { 1 } else { setting.loops });
    for _ in 0..100 {
        Peer::of(child.address()).echo(b"wherever it goes");
    }
    assert_eq!(child.drain()["datagrams_out"], 100);
}

fn socat_and_nc_are_answered_over_udp(setting: &Setting) {
    let child = start(setting);
    let (ip, port) = (Ipv4Addr::LOCALHOST.to_string(), child.address().port().to_string());
    let pieces = [&b"one\n"[..], b"two\n", b"three\n"];
    for (program, arguments, package) in [
        ("socat", vec!["-t", "1", "-", &format!("UDP:{ip}:{port}")], "socat"),
        ("nc", vec!["-u", "-w", "1", &ip, &port], "netcat-openbsd"),
    ] {
        let Some(started) = Foreign::start(program, &arguments, package) else { continue };
        assert_eq!(started.talk(&pieces, Duration::from_millis(20)), pieces.concat(), "{program}");
    }
}
