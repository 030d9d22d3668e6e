//! The sockets without a loop.

use std::{
    net::{IpAddr, UdpSocket},
    time::{Instant, SystemTime},
};

use proptest::{collection::vec, prelude::*};

use roadstead_proto::{
    Budget, DatagramContext, DatagramService, DatagramSession, Scope, Tuning,
    datagrams::{Arrival, Arrivals, DatagramEndpoint, DatagramEvent, Datagrams, Ecn, Local, Path},
    host::{Host, Shared},
    ticket::WakeQueue,
};

use super::{
    control::{Control, ROOM, Told},
    *,
};
use crate::pollers::poll::Poll;

const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST: usize = 65_535;

type Net = DatagramSockets<Poll>;

const PLAIN: Asked = Asked { gather: false, stamped: false };

/// A socket with its net.
struct Alone {
    net: Net,
    socket: Rc<DatagramSocket>,
    batch: Batch,
}

impl Alone {
    fn at(address: &str) -> Self {
        Self::asked(address, Asked { gather: true, stamped: true })
    }

    fn asked(address: &str, asked: Asked) -> Self {
        let mut all = bind(address.parse().unwrap(), 1, Tuning::default(), asked).unwrap();
        let socket = Rc::new(all.remove(0));
        let net = Os::non_blocking(Instant::now(), Tuning::default());
        let mut net = Net::new(net, Poll::new(&WakeQueue::new()).unwrap());
        net.watch(&socket, Token(7)).unwrap();
        Self { net, socket, batch: Batch::new(4, LONGEST) }
    }

    /// Waits until something comes.
    fn receive(&mut self) -> Vec<(Vec<u8>, Arrival)> {
        let begun = Instant::now();
        loop {
            self.batch.clear();
            match self.net.receive(&self.socket, &mut self.batch) {
                Ok(()) => break,
                Err(error) => assert_eq!(Net::classify(&error), Failure::Empty, "{error}"),
            }
            assert!(begun.elapsed() < PATIENCE, "nothing comes");
            self.net.wait(&mut Vec::new(), Some(PATIENCE)).unwrap();
        }
        self.batch.iter().map(|(bytes, arrival)| (bytes.to_vec(), *arrival)).collect()
    }
}

/// Sends what it is told to.
struct Says(Vec<(SocketAddr, Option<usize>, Vec<u8>)>);

impl DatagramService for Says {
    type Session = Says;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Says {
        Says(self.0.clone())
    }
}

impl DatagramSession for Says {
    type Reply = ();
    type Peer = ();
    fn receive(&mut self, _: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {}
    fn ready(&mut self, _: roadstead_proto::Ready, cx: &mut DatagramContext<'_, Self>) {
        for (to, segment, bytes) in &self.0 {
            let mut path = Path::to(*to);
            match segment {
                None => cx.send(&mut path, bytes).unwrap(),
                Some(segment) => cx.send_segments(&mut path, *segment, bytes).unwrap(),
            }
        }
    }
}

/// An endpoint that has this to send.
fn says(said: Vec<(SocketAddr, Option<usize>, Vec<u8>)>) -> (Box<dyn DatagramEndpoint>, Host) {
    let mut host = Host::alone(Shared::new(Budget::default()), 1);
    let local = ([127, 0, 0, 1], 7).into();
    let mut endpoint = Datagrams::new(std::sync::Arc::new(Says(said)), local, &host.shared);
    endpoint.handle(Duration::ZERO, DatagramEvent::Opened, &mut host);
    (Box::new(endpoint), host)
}

fn far(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; LONGEST];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

#[test]
fn all_that_the_system_tells_of_a_datagram_is_told() {
    for (bind, to, only) in [
        ("127.0.0.1:0", "127.0.0.1", true),
        ("0.0.0.0:0", "127.0.0.2", false),
        ("[::1]:0", "::1", true),
        ("[::]:0", "::1", false),
    ] {
        let mut alone = Alone::at(bind);
        let to: IpAddr = to.parse().unwrap();
        let (far, from) = far(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
        let reference = socket2::SockRef::from(&far);
        match to.is_ipv4() {
            true => (reference.set_ttl_v4(9).unwrap(), reference.set_tos_v4(3).unwrap()),
            false => (reference.set_unicast_hops_v6(9).unwrap(), reference.set_tclass_v6(3).unwrap()),
        };
        far.send_to(b"ahoy", (to, alone.socket.local().port())).unwrap();
        let came = alone.receive();
        let [(bytes, arrival)] = &came[..] else { panic!("{came:?}") };
        assert_eq!((&bytes[..], arrival.from, arrival.to), (&b"ahoy"[..], from, Some(to)), "{bind}");
        assert_eq!((arrival.ecn, arrival.hops, arrival.truncated), (Ecn::Congestion, Some(9), false));
        let local = (!only).then_some(Local { address: to, interface: 0 });
        assert_eq!(arrival.local, local, "{bind}");
        let age = SystemTime::now().duration_since(arrival.at.unwrap()).unwrap_or_default();
        assert!(age < Duration::from_secs(600), "{age:?}");
    }
}

#[test]
fn what_was_not_asked_for_is_not_told_and_what_an_answer_needs_is() {
    for (bind, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let mut alone = Alone::asked(bind, PLAIN);
        let to: IpAddr = to.parse().unwrap();
        let (far, _) = far(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
        let reference = socket2::SockRef::from(&far);
        match to.is_ipv4() {
            true => (reference.set_ttl_v4(9).unwrap(), reference.set_tos_v4(3).unwrap()),
            false => (reference.set_unicast_hops_v6(9).unwrap(), reference.set_tclass_v6(3).unwrap()),
        };
        far.send_to(b"ahoy", (to, alone.socket.local().port())).unwrap();
        let (_, arrival) = alone.receive().remove(0);
        assert_eq!((arrival.at, arrival.ecn), (None, Ecn::NotCapable), "{bind}");
        assert_eq!((arrival.hops, arrival.to), (Some(9), Some(to)), "{bind}");
    }
}

#[test]
fn what_has_no_room_is_cut_and_an_empty_one_is_one() {
    let mut alone = Alone::at("127.0.0.1:0");
    alone.batch = Batch::new(4, 5);
    let (far, _) = far("127.0.0.1:0");
    for bytes in [&b"12345"[..], b"123456", b""] {
        far.send_to(bytes, alone.socket.local()).unwrap();
    }
    let came: Vec<_> =
        alone.receive().into_iter().map(|(bytes, arrival)| (bytes.len(), arrival.truncated)).collect();
    assert_eq!(came, [(5, false), (5, true), (0, false)]);
}

#[test]
fn runs_and_segments_arrive_as_what_they_are_in_order_and_the_system_cuts_them() {
    for cuts in [true, false] {
        let mut alone = Alone::at("127.0.0.1:0");
        let ((one, to_one), (other, to_other)) = (far("127.0.0.1:0"), far("127.0.0.1:0"));
        let said = [
            (to_one, None, vec![1; 300]),
            (to_one, None, vec![2; 300]),
            (to_one, None, vec![3; 200]),
            (to_one, None, vec![4; 200]),
            (to_other, None, vec![5; 200]),
            (to_one, None, vec![]),
            (to_one, Some(100), vec![6; 250]),
            (to_one, None, vec![7; 100]),
        ];
        let (mut endpoint, mut host) = says(said.to_vec());
        alone.socket.cuts.set(cuts && alone.socket.cuts.get());
        let mut calls = 0;
        while !endpoint.outbox().is_empty() {
            let sent = alone.net.send(&alone.socket, endpoint.outbox()).unwrap();
            endpoint.handle(Duration::ZERO, DatagramEvent::Left(sent), &mut host);
            calls += 1;
        }
        assert_eq!((calls, host.count.datagrams_out, host.count.bytes_out), (1, 10, 1_550));
        let expected =
            [(1, 300), (2, 300), (3, 200), (4, 200), (0, 0), (6, 100), (6, 100), (6, 50), (7, 100)];
        for (byte, length) in expected {
            assert_eq!(next(&one), vec![byte; length]);
        }
        assert_eq!(next(&other), [5; 200]);
    }
}

#[test]
fn what_the_system_refuses_to_cut_leaves_one_by_one_and_it_is_not_asked_again_for_that_peer() {
    let mut alone = Alone::at("127.0.0.1:0");
    // Without checksums it cuts nothing: udp(7).
    socket::set(&alone.socket.fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    for (number, ip) in ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0"].into_iter().enumerate() {
        let ((there, address), run) = (far(ip), 300 - number * 100);
        assert_eq!(alone.socket.uncut.get().has(address.ip(), 300), number == 1, "{number}");
        let said = [
            (address, None, vec![1; run]),
            (address, None, vec![2; run]),
            (address, Some(150), vec![3; 200]),
        ];
        let (mut endpoint, mut host) = says(said.to_vec());
        while !endpoint.outbox().is_empty() {
            let sent = alone.net.send(&alone.socket, endpoint.outbox()).unwrap();
            endpoint.handle(Duration::ZERO, DatagramEvent::Left(sent), &mut host);
        }
        for (byte, length) in [(1, run), (2, run), (3, 150), (3, 50)] {
            assert_eq!(next(&there), vec![byte; length]);
        }
        let uncut = alone.socket.uncut.get();
        assert!(uncut.has(address.ip(), run) && !uncut.has(address.ip(), 49), "shorter ones may pass");
    }
    assert!(alone.socket.cuts.get(), "others are not concerned");
    let (_, other) = far("127.0.0.3:0");
    let many = (4..12).fold(alone.socket.uncut.get(), |uncut, last| uncut.with([127, 0, 0, last].into(), 9));
    assert!(!alone.socket.uncut.get().has(other.ip(), 300) && !many.has([127, 0, 0, 1].into(), 300));
}

#[test]
fn what_comes_as_one_is_as_many_datagrams_as_were_sent() {
    let (mut alone, mut near) = (Alone::at("127.0.0.1:0"), Alone::at("127.0.0.1:0"));
    let (mut endpoint, mut host) = says(vec![(alone.socket.local(), Some(1_000), vec![8; 9_500])]);
    let sent = near.net.send(&near.socket, endpoint.outbox()).unwrap();
    endpoint.handle(Duration::ZERO, DatagramEvent::Left(sent), &mut host);
    let mut lengths = Vec::new();
    while lengths.len() < 10 {
        lengths.extend(alone.receive().iter().map(|(bytes, _)| bytes.len()));
    }
    assert_eq!((sent, lengths), (10, [vec![1_000; 9], vec![500]].concat()));
}

#[test]
fn what_the_way_does_not_carry_is_an_error_about_that_one_alone() {
    let mut alone = Alone::at("127.0.0.1:0");
    let (there, address) = far("127.0.0.1:0");
    let nowhere = ([127, 0, 0, 1], 0).into();
    let six = "[::1]:9".parse().unwrap();
    let said = [nowhere, nowhere, six, address].map(|to| (to, None, vec![1; 4]));
    let (mut endpoint, mut host) = says(said.to_vec());
    let cuts = alone.socket.cuts.get();
    while !endpoint.outbox().is_empty() {
        let event = match alone.net.send(&alone.socket, endpoint.outbox()) {
            Ok(sent) => DatagramEvent::Left(sent),
            Err(error) => {
                assert_eq!(Net::classify(&error), Failure::Other, "{error}");
                DatagramEvent::Undeliverable
            }
        };
        endpoint.handle(Duration::ZERO, event, &mut host);
    }
    assert_eq!(next(&there), [1; 4]);
    assert_eq!((host.count.datagrams_out, host.count.datagrams_dropped), (1, 3));
    assert_eq!(alone.socket.cuts.get(), cuts, "it is not the cutting that failed");
}

#[test]
fn of_whoever_is_gone_the_network_tells_and_nobody_else_pays_for_it() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let mut alone = Alone::at(bind);
        let ((gone, nowhere), (there, address)) = (far(bind), far(bind));
        drop(gone);
        // Found by a send: of another, or in the midst of several.
        let mut told = 0;
        for said in [vec![nowhere], vec![address], vec![nowhere, address, address]] {
            let said = said.into_iter().map(|to| (to, None, vec![1; 4])).collect();
            let (mut endpoint, mut host) = says(said);
            while !endpoint.outbox().is_empty() {
                match alone.net.send(&alone.socket, endpoint.outbox()) {
                    Ok(sent) => endpoint.handle(Duration::ZERO, DatagramEvent::Left(sent), &mut host),
                    Err(error) => {
                        assert_eq!(Net::classify(&error), Failure::Passing, "{error}");
                        assert_eq!(alone.net.unreachable(&alone.socket), Some(nowhere));
                        told += 1;
                    }
                }
            }
            assert_eq!(host.count.datagrams_dropped, 0);
        }
        assert_eq!(told, 2, "each time that there was somebody behind it");
        (0..3).for_each(|_| assert_eq!(next(&there), [1; 4]));
        // And by a receive.
        let (endpoint, _) = says(vec![(nowhere, None, vec![1; 4])]);
        assert!(alone.net.send(&alone.socket, endpoint.outbox()).is_ok());
        let begun = Instant::now();
        while alone.net.unreachable(&alone.socket).is_none() {
            assert!(begun.elapsed() < PATIENCE, "nothing is heard");
            let error = alone.net.receive(&alone.socket, &mut alone.batch).unwrap_err();
            assert!([Failure::Empty, Failure::Passing].contains(&Net::classify(&error)), "{error}");
        }
        while alone.net.unreachable(&alone.socket).is_some() {}
        // A poller that repeats itself has nothing to repeat.
        let error = alone.net.receive(&alone.socket, &mut alone.batch).unwrap_err();
        assert_eq!(Net::classify(&error), Failure::Empty);
        let mut ready = Vec::new();
        alone.net.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty(), "{ready:?}");
    }
}

#[test]
fn a_loop_that_does_not_receive_is_told_once_and_again_when_it_has_found_nothing() {
    let mut alone = Alone::at("127.0.0.1:0");
    let (far, _) = far("127.0.0.1:0");
    let told = |alone: &mut Alone, patience| {
        let mut ready = Vec::new();
        alone.net.wait(&mut ready, Some(patience)).unwrap();
        ready.iter().any(|ready| ready.readable)
    };
    assert!(alone.net.receive(&alone.socket, &mut alone.batch).is_err());
    far.send_to(b"1", alone.socket.local()).unwrap();
    assert!(told(&mut alone, PATIENCE));
    assert!(!told(&mut alone, Duration::ZERO), "it knows");
    assert_eq!(alone.receive().len(), 1);
    assert!(alone.net.receive(&alone.socket, &mut alone.batch).is_err());
    far.send_to(b"2", alone.socket.local()).unwrap();
    assert!(told(&mut alone, PATIENCE));
    let Alone { mut net, socket, .. } = alone;
    net.close(Rc::clone(&socket));
    assert_eq!(Rc::strong_count(&socket), 1);
}

#[test]
fn sockets_of_one_address_are_as_many_as_asked_for_and_another_server_has_none() {
    let all = bind("127.0.0.1:0".parse().unwrap(), 3, Tuning::default(), PLAIN).unwrap();
    let address = all[0].local();
    assert!(all.len() == 3 && all.iter().all(|socket| socket.local() == address));
    for count in [1, 2] {
        let error = bind(address, count, Tuning::default(), PLAIN).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_control_messages_is_read(bytes in vec(any::<u8>(), ROOM), length in 0..2 * ROOM) {
        let mut control = Control::EMPTY;
        control.fill(&bytes);
        let told = control.told(length);
        prop_assert!(length >= 16 || told == Told::default());
    }

    #[test]
    fn what_is_written_is_told(four: [u8; 4], six: [u8; 16], hops in 1..=u8::MAX, is_ipv6: bool) {
        let address = if is_ipv6 { IpAddr::from(six) } else { IpAddr::from(four) };
        let mut control = Control::EMPTY;
        control.set_source(Local { address, interface: 0 });
        control.set_hops(is_ipv6, hops);
        control.set_segment(1_200);
        prop_assert!(control.length() <= ROOM);
        let told = control.told(control.length());
        prop_assert_eq!(told.hops, Some(hops));
        let said = told.local.map(|local| local.address);
        prop_assert!(said == Some(address) || address.is_multicast());
    }
}
