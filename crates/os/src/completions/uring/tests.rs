//! What the ring and the queue on it do at their edges. Where io_uring is switched off there is nothing to see.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
};

use roadstead_proto::{blob::Blob, output::Output, tuning::Tuning};

use roadstead_drivers::proactor::blocks::BLOCKS;

use super::*;
use crate::sockets::event;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn ring() -> Option<Ring> {
    obstacle().is_none().then(|| Ring::new(probe::ring().unwrap()))
}

fn queue() -> Option<(Uring, Arc<WakeQueue>)> {
    let wake_queue = WakeQueue::new();
    let net = Os::non_blocking(Instant::now(), Tuning::default());
    obstacle().is_none().then(|| (Uring::new(net, &wake_queue, Vec::new()).unwrap(), wake_queue))
}

fn raise(event: impl AsFd) {
    rustix::io::write(event, &1u64.to_ne_bytes()).unwrap();
}

/// Both ends of a connection.
fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = listener.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    (peer, stream.into())
}

/// Waits for so many completions.
fn some(queue: &mut Uring, count: usize) -> Vec<Completion<OwnedFd>> {
    let (mut done, until) = (Vec::new(), Instant::now() + LONG);
    while done.len() < count && Instant::now() < until {
        queue.wait(&mut done, Some(MOMENT)).unwrap();
    }
    assert_eq!(done.len(), count);
    done
}

#[test]
fn as_many_as_there_are_places_are_submitted_and_one_more() {
    let Some(mut ring) = ring() else { return };
    for more in [probe::SUBMISSIONS - 1, probe::SUBMISSIONS, probe::SUBMISSIONS + 1] {
        let event = event().unwrap();
        (0..more).for_each(|number| _ = ring.begin(Operation::Readable(Token(number.into())), &event));
        ring.enter(Some(Duration::ZERO)).unwrap();
        assert!(ring.next().is_none(), "nothing is there to read");
        raise(&event);
        let (mut told, until) = (vec![false; more as usize], Instant::now() + LONG);
        while told.contains(&false) && Instant::now() < until {
            ring.enter(Some(MOMENT)).unwrap();
            while let Some((Operation::Readable(token), result)) = ring.next() {
                assert!(result.is_ok() && !mem::replace(&mut told[token.0 as usize], true));
            }
        }
        assert!(!told.contains(&false), "{more}");
    }
}

#[test]
fn a_cancellation_that_comes_too_late_does_not_end_who_has_the_place_now() {
    let Some(mut ring) = ring() else { return };
    let (first, second) = (event().unwrap(), event().unwrap());
    raise(&first);
    let name = ring.begin(Operation::Readable(Token(1)), &first);
    ring.enter(Some(LONG)).unwrap();
    // It is done, and nobody has heard of it yet.
    ring.cancel(name);
    ring.enter(Some(Duration::ZERO)).unwrap();
    assert!(matches!(ring.next(), Some((Operation::Readable(Token(1)), Ok(_)))));
    assert!(ring.next().is_none(), "it is told once");
    ring.begin(Operation::Readable(Token(2)), &second);
    ring.cancel(name);
    ring.enter(Some(Duration::ZERO)).unwrap();
    ring.enter(Some(Duration::ZERO)).unwrap();
    assert!(ring.next().is_none(), "it was not meant");
    raise(&second);
    ring.enter(Some(LONG)).unwrap();
    assert!(matches!(ring.next(), Some((Operation::Readable(Token(2)), Ok(_)))));
}

#[test]
fn what_is_in_flight_when_the_ring_ends_is_over_before_its_memory_is_freed() {
    let Some(mut ring) = ring() else { return };
    let (listener, (_peer, stream)) = (TcpListener::bind("127.0.0.1:0").unwrap(), pair());
    ring.begin(Operation::accept(0), &listener);
    ring.begin(Operation::Readable(Token(1)), &stream);
    ring.enter(Some(Duration::ZERO)).unwrap();
    let begun = Instant::now();
    drop(ring);
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited in vain for what it has to cancel");
}

#[test]
fn a_completion_that_is_late_for_its_connection_gives_its_block_back_and_tells_nobody() {
    let Some((mut queue, _wakes)) = queue() else { return };
    let (mut peer, stream) = pair();
    peer.write_all(b"late").unwrap();
    let block = queue.blocks.lend(100).unwrap();
    queue.ring.begin(Operation::Receive(Token(7), block, 100), &stream);
    let (mut done, until) = (Vec::new(), Instant::now() + LONG);
    while queue.blocks.lent() > 0 && Instant::now() < until {
        queue.wait(&mut done, Some(MOMENT)).unwrap();
    }
    assert_eq!((queue.blocks.lent(), done.len()), (0, 0));
}

#[test]
fn silent_peers_hold_no_blocks_and_those_who_speak_no_more_than_there_are() {
    let Some((mut queue, _wakes)) = queue() else { return };
    let mut peers = Vec::new();
    for number in 0..BLOCKS as u64 + 8 {
        let (peer, stream) = pair();
        queue.adopt(stream, Token(number)).unwrap();
        queue.receive(Token(number), BLOCK);
        peers.push(peer);
    }
    queue.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    assert_eq!(queue.blocks.lent(), 0);
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
    let mut first = some(&mut queue, BLOCKS);
    assert_eq!((queue.blocks.lent(), queue.waiting.len()), (BLOCKS, 8));
    assert!(!queue.has_done(), "nobody can go on");
    for done in first.drain(..) {
        let Completion::Received { result: Ok(block), .. } = done else { panic!("each has one byte") };
        assert_eq!(block.len(), 1);
    }
    assert!(queue.has_done());
    assert_eq!(some(&mut queue, 8).len(), 8);
}

#[test]
fn no_more_is_received_than_was_asked_for_and_the_end_comes_last() {
    let Some((mut queue, _wakes)) = queue() else { return };
    let (mut peer, stream) = pair();
    peer.write_all(&[7; 100]).unwrap();
    drop(peer);
    queue.adopt(stream, Token(1)).unwrap();
    for (most, count) in [(1, 1), (60, 60), (1000, 39), (1000, 0)] {
        queue.receive(Token(1), most);
        let Completion::Received { result: Ok(block), .. } = some(&mut queue, 1).remove(0) else { panic!() };
        assert_eq!(block.len(), count);
    }
}

#[test]
fn a_peer_without_room_gives_the_output_back_and_has_room_when_it_has_read() {
    let Some((mut queue, _wakes)) = queue() else { return };
    let (mut peer, stream) = pair();
    queue.adopt(stream, Token(1)).unwrap();
    let much = || {
        // As a connection would lend it.
        let mut output = Output::new(usize::MAX);
        output.send(vec![7; 1 << 20]);
        let mut lent = Lent::new();
        output.lend(&mut lent);
        lent
    };
    let mut sent = 0;
    loop {
        queue.send(Token(1), much());
        let told = some(&mut queue, 2);
        let [done, Completion::Released(_, lent)] = &told[..] else { panic!("it comes home") };
        assert_eq!(lent.buffered(), 1 << 20);
        match done {
            Completion::Sent(_, Ok(count)) => sent += count,
            Completion::Full(_) => break,
            _ => panic!("nothing else was begun"),
        }
    }
    // Asked to look, it tries once more, whatever room that takes.
    queue.look(Token(1));
    assert!(matches!(some(&mut queue, 1)[..], [Completion::Room(_)]));
    queue.send(Token(1), much());
    let told = some(&mut queue, 3);
    let [Completion::Full(_), Completion::Released(..), Completion::Looked(_)] = told[..] else {
        panic!("it has been tried")
    };
    peer.read_exact(&mut vec![0; sent as usize]).unwrap();
    assert!(matches!(some(&mut queue, 1)[..], [Completion::Room(_)]));
}

#[test]
fn a_look_tells_what_had_come_first_and_a_cancelled_operation_completes_once() {
    let Some((mut queue, _wakes)) = queue() else { return };
    let (mut peer, stream) = pair();
    queue.adopt(stream, Token(1)).unwrap();
    queue.receive(Token(1), 100);
    queue.look(Token(1));
    assert!(matches!(some(&mut queue, 1)[..], [Completion::Looked(_)]), "nothing had come");
    peer.write_all(b"x").unwrap();
    queue.look(Token(1));
    let told = some(&mut queue, 2);
    assert!(matches!(told[1], Completion::Looked(_)));
    assert!(matches!(&told[0], Completion::Received { result: Ok(block), .. } if block.len() == 1));
    queue.receive(Token(1), 100);
    queue.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    queue.cancel(Token(1));
    assert!(matches!(some(&mut queue, 1)[..], [Completion::Received { result: Err(_), .. }]));
    queue.close(Token(1), true);
    assert!(peer.read(&mut [0; 9]).is_err(), "nothing holds the socket any more, so the peer sees the reset");
}

#[test]
fn a_loop_that_is_woken_while_it_waits_wakes_every_time() {
    let Some((mut queue, wake_queue)) = queue() else { return };
    for _ in 0..3 {
        assert!(wake_queue.begin_sleep());
        wake_queue.interrupt();
        let begun = Instant::now();
        queue.wait(&mut Vec::new(), Some(LONG)).unwrap();
        wake_queue.end_sleep();
        assert!(begun.elapsed() < LONG / 2);
    }
}

#[test]
fn a_part_of_a_file_is_read_from_its_place_and_one_that_is_not_there_is_an_error() {
    let Some((mut queue, _wakes)) = queue() else { return };
    let content: Vec<u8> = (0..2 * BLOCK + 100).map(|at| (at / 3) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let file: Arc<dyn Blob> = Arc::new(File::from(file));
    let whole = content.len() as u64;
    for (offset, len, read) in [
        (0, 10, Some(10)),
        (7, whole - 7, Some(BLOCK)),
        (BLOCK as u64 + 50, u64::MAX, Some(BLOCK)),
        (whole - 10, 1000, Some(10)),
        (whole, 1, None),
    ] {
        queue.read(Token(9), Box::new(FileRange::new(Arc::clone(&file), offset, len)));
        let Completion::Read(Token(9), result) = some(&mut queue, 1).remove(0) else { panic!() };
        let kind = result.as_ref().err().map(io::Error::kind);
        assert_eq!(kind, read.is_none().then_some(io::ErrorKind::UnexpectedEof));
        if let Some(count) = read {
            assert!(result.unwrap() == content[offset as usize..][..count], "{offset} {len}");
        }
    }
}
