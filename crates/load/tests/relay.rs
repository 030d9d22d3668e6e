//! The relay between real sockets on loopback: far, silent, cut, dead and greedy ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use roadstead_load::relay::{Relay, Traffic};

const DELAY: Duration = Duration::from_millis(5);

/// Who has not got what it waits for by then, never will.
const HANGS: Duration = Duration::from_secs(30);

fn bounded(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(HANGS)).unwrap();
    socket.set_write_timeout(Some(HANGS)).unwrap();
    socket
}

/// A relay, and the two ends of a connection through it.
fn connected(delay: Duration) -> (Relay, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(listener.local_addr().unwrap(), delay).unwrap();
    let client = bounded(TcpStream::connect(relay.address()).unwrap());
    let server = bounded(listener.accept().unwrap().0);
    (relay, client, server)
}

fn read(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn is_reset(mut socket: TcpStream) {
    assert_eq!(socket.read_exact(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Positions, so that a byte in a wrong place shows.
fn pattern(count: usize) -> Vec<u8> {
    (0..count / 8).flat_map(|position| (position as u64).to_le_bytes()).collect()
}

#[test]
fn each_direction_takes_the_delay_at_least() {
    let (_relay, mut client, mut server) = connected(DELAY);
    for _ in 0..20 {
        let start = Instant::now();
        client.write_all(b"ping").unwrap();
        assert_eq!(read(&mut server, 4), b"ping");
        assert!(start.elapsed() >= DELAY);
        let start = Instant::now();
        server.write_all(b"pong").unwrap();
        assert_eq!(read(&mut client, 4), b"pong");
        assert!(start.elapsed() >= DELAY);
    }
}

#[test]
fn connecting_takes_a_round_trip_before_the_first_byte() {
    for target_speaks in [false, true] {
        let start = Instant::now();
        let (_relay, mut client, mut server) = connected(DELAY);
        let (speaker, hearer) =
            if target_speaks { (&mut server, &mut client) } else { (&mut client, &mut server) };
        speaker.write_all(b"ping").unwrap();
        assert_eq!(read(hearer, 4), b"ping");
        assert!(start.elapsed() >= DELAY * if target_speaks { 4 } else { 3 });
    }
}

#[test]
fn what_was_delivered_is_counted_by_its_direction() {
    let (relay, mut client, mut server) = connected(Duration::from_millis(1));
    client.write_all(b"five!").unwrap();
    server.write_all(b"two").unwrap();
    assert_eq!((read(&mut server, 5).len(), read(&mut client, 3).len()), (5, 3));
    // They are counted when they have left, which may be after they have come.
    let counted = |traffic: Traffic| traffic.to_target + traffic.to_clients;
    let start = Instant::now();
    while counted(relay.traffic()) < 8 {
        assert!(start.elapsed() < HANGS, "{:?}", relay.traffic());
        thread::yield_now();
    }
    assert_eq!(relay.traffic(), Traffic { to_target: 5, to_clients: 3 });
}

#[test]
fn a_long_stream_arrives_whole_and_in_order_both_ways() {
    const SIZE: usize = 48 << 20;
    let (relay, client, server) = connected(DELAY);
    let sent = pattern(SIZE);
    let pump = |socket: TcpStream| {
        let (mut writer, mut reader) = (socket.try_clone().unwrap(), socket);
        let sent = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let reading = thread::spawn(move || {
            let mut all = Vec::with_capacity(SIZE);
            reader.read_to_end(&mut all).unwrap();
            all
        });
        (writing, reading)
    };
    for (writing, reading) in [pump(client), pump(server)] {
        writing.join().unwrap();
        assert!(reading.join().unwrap() == sent);
    }
    assert_eq!(relay.traffic(), Traffic { to_target: SIZE as u64, to_clients: SIZE as u64 });
}

#[test]
fn an_end_is_delayed_and_leaves_the_other_direction_open() {
    let (_relay, mut client, mut server) = connected(DELAY);
    let start = Instant::now();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(start.elapsed() >= DELAY);
    server.write_all(b"still here").unwrap();
    assert_eq!(read(&mut client, 10), b"still here");
    drop(server);
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_reset_is_passed_on_after_the_bytes_before_it() {
    let (_relay, client, mut server) = connected(DELAY);
    (&client).write_all(b"last words").unwrap();
    set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    let start = Instant::now();
    // Longer than the delay: otherwise the reset could overtake bytes that the relay has not read yet.
    thread::sleep(2 * DELAY);
    drop(client);
    assert_eq!(read(&mut server, 10), b"last words");
    is_reset(server);
    assert!(start.elapsed() >= 3 * DELAY);
}

#[test]
fn who_writes_to_somebody_gone_is_reset_a_round_trip_later() {
    let (_relay, mut client, server) = connected(DELAY);
    drop(server);
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < HANGS, "the writer never hears of it");
        if let Err(error) = client.write_all(&[0; 1024]) {
            break error;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    // The bytes have to get there first, and the reset back.
    assert!(start.elapsed() >= 2 * DELAY);
}

#[test]
fn a_sender_is_stopped_when_the_receiver_takes_nothing() {
    // The relay's 32 MiB, and what the kernel may hold in four socket buffers.
    const MOST: usize = (32 << 20) + (64 << 20);
    let (_relay, mut client, mut server) = connected(DELAY);
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = vec![7; 1 << 20];
    let mut written = 0;
    let start = Instant::now();
    let error = loop {
        match client.write(&block) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A relay that is only held up takes more after a while.
            Err(error)
                if error.kind() == ErrorKind::WouldBlock && written < 32 << 20 && start.elapsed() < HANGS => {
            }
            Err(error) => break error,
        }
        assert!(written <= MOST, "the relay takes everything");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(written >= 32 << 20, "{written}");
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), written);
    assert!(all.iter().all(|&byte| byte == 7));
}

#[test]
fn a_target_that_is_dead_resets_its_clients_until_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target: SocketAddr = listener.local_addr().unwrap();
    let relay = Relay::start(target, DELAY).unwrap();
    let before = bounded(TcpStream::connect(relay.address()).unwrap());
    let served = listener.accept().unwrap().0;
    // As when a process is killed: its unread bytes make the end a reset.
    set_socket_linger(&served, Some(Duration::ZERO)).unwrap();
    drop((served, listener));
    is_reset(before);
    is_reset(bounded(TcpStream::connect(relay.address()).unwrap()));
    let listener = TcpListener::bind(target).unwrap();
    let mut client = bounded(TcpStream::connect(relay.address()).unwrap());
    let mut server = bounded(listener.accept().unwrap().0);
    client.write_all(b"back").unwrap();
    assert_eq!(read(&mut server, 4), b"back");
}

#[test]
fn severed_connections_are_reset_on_both_sides_and_new_ones_work() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(listener.local_addr().unwrap(), Duration::from_secs(3_600)).unwrap();
    let connect = || {
        let client = bounded(TcpStream::connect(relay.address()).unwrap());
        (client, bounded(listener.accept().unwrap().0))
    };
    let (client, server) = connect();
    relay.sever();
    is_reset(client);
    is_reset(server);
    let (client, server) = connect();
    drop(relay);
    is_reset(client);
    is_reset(server);
}

#[test]
fn a_pause_holds_everything_back_and_loses_nothing() {
    let (relay, mut client, mut server) = connected(DELAY);
    client.write_all(b"before").unwrap();
    assert_eq!(read(&mut server, 6), b"before");
    // The loop hears of a pause at its next turn, which takes these bytes when the machine is too busy for an earlier.
    let held = (0..10).any(|_| {
        relay.pause();
        thread::sleep(Duration::from_millis(300));
        client.write_all(b"during").unwrap();
        server.set_read_timeout(Some(20 * DELAY)).unwrap();
        let early = server.read(&mut [0; 1]);
        relay.resume();
        server.set_read_timeout(Some(HANGS)).unwrap();
        let taken = early.as_ref().map_or(0, |&count| count);
        assert_eq!(read(&mut server, 6 - taken), b"during"[taken..]);
        early.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert!(held, "a pause holds nothing back");
}
