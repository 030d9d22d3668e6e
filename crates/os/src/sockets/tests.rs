//! The calls of the system, on real sockets: what they take, what they leave, and what their failures mean.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use super::*;

fn classify(error: impl Into<io::Error>) -> Failure {
    Os::classify(&error.into())
}

#[test]
fn a_newcomer_for_whom_there_is_no_descriptor_in_the_process_or_the_system_can_be_told_from_others() {
    for (error, failure) in [
        (Errno::MFILE, Failure::NoDescriptors),
        (Errno::NFILE, Failure::NoDescriptors),
        (Errno::NOBUFS, Failure::NoRoom),
        (Errno::NOMEM, Failure::NoRoom),
        (Errno::AGAIN, Failure::Empty),
    ] {
        assert_eq!(classify(error), failure, "{error}");
    }
    for passing in PASSING {
        assert_eq!(classify(passing), Failure::Passing, "{passing}");
    }
    assert_eq!(classify(io::ErrorKind::WouldBlock), Failure::Empty);
}

#[test]
fn there_is_room_for_what_fails_for_any_other_reason() {
    // Ports that are used up do not come back by themselves: connect(2).
    for error in [Errno::AGAIN, Errno::ADDRNOTAVAIL, Errno::PIPE, Errno::CONNRESET, Errno::NOSPC] {
        assert_ne!(classify(error), Failure::NoRoom, "{error}");
    }
    // Not the system's: the budget's.
    assert_ne!(classify(io::ErrorKind::OutOfMemory), Failure::NoRoom);
}

#[test]
fn a_connection_to_itself_is_refused_and_keeps_nobody_from_the_port() {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    let dialling = socket();
    dialling.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = dialling.local_addr().unwrap();
    dialling.connect(&address).unwrap();
    let refused = connected(&dialling).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    drop(dialling);
    socket().bind(&address).unwrap();
}

const LOCALHOST: [u8; 4] = [127, 0, 0, 1];

/// A listener, and as many who wait there.
fn waited_for(count: usize) -> (OwnedFd, Vec<TcpStream>) {
    let listener = listen((LOCALHOST, 0).into(), 16, Tuning::default()).unwrap();
    let address = local_address(&listener).unwrap();
    (listener, (0..count).map(|_| TcpStream::connect(&address).unwrap()).collect())
}

#[test]
fn whoever_is_turned_away_for_want_of_descriptors_sees_it_and_the_next_is_as_well() {
    let mut net = Os::non_blocking(Instant::now(), Tuning::default());
    let (listener, mut peers) = waited_for(2);
    for peer in &mut peers {
        assert!(net.shed(&listener) && net.spare.is_some(), "there is one in reserve again");
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert!(matches!(peer.read(&mut [0; 1]), Ok(0)), "it was closed");
    }
    assert!(!net.shed(&listener) && net.spare.is_some(), "nobody waits");
    assert!(!net.another().shed(&listener), "who accepts nothing has nothing in reserve");
    assert!(net.accepting().spare.is_some());
}

#[test]
fn a_close_is_seen_as_an_end_or_as_a_reset_and_a_shutdown_still_receives() {
    let mut net = Os::non_blocking(Instant::now(), Tuning::default());
    let (listener, mut peers) = waited_for(3);
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (stream, address) = net.accept(&listener).unwrap();
        assert_eq!(address.socket(), peer.local_addr().ok());
        match number {
            0 | 1 => net.close(stream, number == 1),
            _ => {
                net.shutdown(&stream);
                peer.write_all(b"still").unwrap();
                assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
                let mut block = BytesMut::new();
                assert_eq!(net.receive(&stream, &mut block, 3).unwrap(), 3);
                assert_eq!(&block[..], b"sti", "and no more than was asked for");
                assert_eq!(net.receive(&stream, &mut block, 3).unwrap(), 2);
                assert_eq!(&block[..], b"ll", "in place of what was there");
                continue;
            }
        }
        let read = peer.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(read, if number == 1 { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) });
    }
}

/// The alphabet, in a file that is none of the system's.
struct Letters;

impl blob::Blob for Letters {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        part.iter_mut().zip(offset as u8..26).for_each(|(byte, number)| *byte = b'a' + number);
        Ok(part.len())
    }
}

#[test]
fn a_send_takes_pieces_in_their_order_and_of_a_file_what_was_asked_for() {
    let mut net = Os::non_blocking(Instant::now(), Tuning::default());
    let (listener, mut peers) = waited_for(1);
    let (stream, _) = net.accept(&listener).unwrap();
    let path = std::env::temp_dir().join(format!("roadstead-os-{}", std::process::id()));
    fs::write(&path, b"0123456789").unwrap();
    let file = Arc::new(File::from(fs::File::open(&path).unwrap()));
    fs::remove_file(&path).unwrap();
    let mut output = Output::new(1 << 20);
    (0..SLICES as u8 + 4).for_each(|piece| output.send(vec![piece; 2000]));
    output.file(Arc::<File>::clone(&file), 3, 4);
    output.file(Arc::new(Letters), 1, 3);
    while !output.is_empty() {
        let sent = net.send(&stream, &output).unwrap();
        output.advance(sent);
    }
    let mut read = vec![0; (SLICES + 4) * 2000 + 7];
    peers[0].read_exact(&mut read).unwrap();
    assert!(
        read.chunks(2000).enumerate().all(|(number, part)| part.len() < 2000 || part == [number as u8; 2000])
    );
    assert_eq!(&read[(SLICES + 4) * 2000..], b"3456bcd");
    output.file(file, 8, 3);
    let sent = net.send(&stream, &output).unwrap();
    assert_eq!(sent, 2);
    output.advance(sent);
    assert_eq!(
        net.send(&stream, &output).unwrap_err().to_string(),
        blob::shorter_than_promised().to_string()
    );
}

/// Whether so many pieces have come by when the call that sends them returns.
fn come_at_once(pieces: usize) -> bool {
    let mut net = Os::non_blocking(Instant::now(), Tuning::default());
    let (listener, mut peers) = waited_for(1);
    let (stream, _) = net.accept(&listener).unwrap();
    let mut output = Output::new(1 << 20);
    (0..pieces).for_each(|_| output.send(vec![7; 2000]));
    assert_eq!(net.send(&stream, &output).unwrap(), 2000 * pieces as u64);
    peers[0].set_nonblocking(true).unwrap();
    peers[0].read(&mut [0; 1]).is_ok()
}

#[test]
fn what_is_sent_is_held_back_for_nothing_but_a_file_that_follows() {
    for pieces in [1, 2, SLICES - 1, SLICES] {
        // What was held back would come by itself some time later. Nobody is as late as that each time.
        assert!((0..20).any(|_| come_at_once(pieces)), "{pieces} pieces");
    }
}

#[test]
fn an_address_of_ipv6_is_no_address_of_ipv4_and_a_listener_never_waits() {
    let listener = listen("[::]:0".parse().unwrap(), 1, Tuning::default());
    // Without IPv6 there is nothing to be seen.
    let Ok(listener) = listener else { return };
    let port = local_address(&listener).unwrap().socket().unwrap().port();
    assert!(TcpStream::connect(SocketAddr::from((LOCALHOST, port))).is_err());
    let mut net = Os::non_blocking(Instant::now(), Tuning::default());
    assert_eq!(Os::classify(&net.accept(&listener).unwrap_err()), Failure::Empty);
}

#[test]
fn several_listen_together_and_nobody_else_joins_them_or_takes_their_address() {
    let (any, tuning) = ("127.0.0.1:0".parse().unwrap(), Tuning::default());
    let sockets = listen_together(any, 3, 128, tuning).unwrap();
    let address = local_address(&sockets[0]).unwrap().socket().unwrap();
    assert!(sockets.iter().all(|socket| local_address(socket).unwrap() == address.into()));
    for taken in [listen_together(address, 2, 16, tuning).map(drop), listen(address, 16, tuning).map(drop)] {
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
    let alone = listen(any, 16, tuning).unwrap();
    let taken = listen_together(local_address(&alone).unwrap().socket().unwrap(), 2, 16, tuning);
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    // Whoever comes waits at one of them, and with so many somebody waits at each.
    let clients: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut net = Os::non_blocking(Instant::now(), tuning);
    let waiting = |socket| std::iter::from_fn(|| net.accept(socket).ok()).count();
    let waiting: Vec<_> = sockets.iter().map(waiting).collect();
    assert!(waiting.iter().sum::<usize>() == clients.len() && !waiting.contains(&0), "{waiting:?}");
}
