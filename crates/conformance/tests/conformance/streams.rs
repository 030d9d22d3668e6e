//! Bytes in, bytes out: however they are cut, and however the peer ends.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use rustix::net::sockopt::tcp_nodelay;

use roadstead::Model;
use roadstead_conformance::{
    PATIENCE,
    asks::{ANSWER, ECHO, LATER, REFUSE},
    child::Child,
    client::{End, ask, end_of, eventually, frame, pattern, read_frame},
    setting::Setting,
};

scenarios! {
    received_buffers_are_sent_on (Wires): "10 MiB come back as they were sent, and are counted",
    one_byte_at_a_time (Wires): "a message that comes byte by byte is a message",
    a_message_may_be_split_anywhere (Wires): "a rest in a message, wherever it is, makes no difference",
    several_messages_in_one_segment (Wires): "messages that come together are answered one by one, in order",
    nothing_waits_for_a_segment_to_fill (Wires): "every socket that is accepted sends at once, whoever has accepted it (`TCP_NODELAY`)",
    bodies_of_no_length (Wires): "a message and an answer may be empty",
    the_answer_goes_out_after_a_half_close (Wires): "what is owed is answered after the peer has finished sending",
    the_rest_is_read_before_the_end_is_told (Wires): "requests that were left unread come before the peer's end",
    who_comes_and_goes_is_no_failure (Wires): "a peer that connects and ends at once is closed in good order",
    a_reset_in_the_middle_of_a_message (Wires): "a peer's reset is told as one, and costs nobody else anything",
    a_cut_in_the_middle_of_a_record (Wires): "part of a message, and through TLS of its record, has come when the peer breaks off: the session hears so, and nothing is kept",
    last_words_of_a_violation_arrive (Wires): "what was answered before a violation arrives, and then the end",
    noise_is_no_frame (Wires): "bytes that mean nothing close the connection with a reason",
    urgent_data_holds_nothing_up (Models): "bytes before and behind an urgent one come back at once, and it does not",
    who_reads_late_misses_nothing (Wires): "a peer that sends 4 MiB before it reads gets all of them",
    who_never_reads_is_held_back_and_closed (Wires): "a peer that only sends is not read from for ever, and closed as idle",
}

fn received_buffers_are_sent_on(setting: &Setting) {
    let child = Child::start(setting, "echo");
    let mut stream = child.connect();
    let sent = pattern(10 << 20);
    let mut back = Vec::new();
    thread::scope(|scope| {
        let mut writer = stream.another();
        let sent = &sent;
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.finish().unwrap();
        });
        stream.read_to_end(&mut back).unwrap();
    });
    assert!(back == sent, "{} bytes came back", back.len());
    drop(stream);
    let stats = child.drain();
    assert_eq!((stats["bytes_in"], stats["bytes_out"], stats["failed"]), (10 << 20, 10 << 20, 0));
}

fn one_byte_at_a_time(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    for byte in frame(ECHO, 0, b"dribbled") {
        stream.write_all(&[byte]).unwrap();
        thread::yield_now();
    }
    assert_eq!(read_frame(&mut stream), (ECHO, b"dribbled".to_vec()));
}

fn a_message_may_be_split_anywhere(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    let wire = frame(ECHO, 5, b"whole again");
    for cut in 0..=wire.len() {
        stream.write_all(&wire[..cut]).unwrap();
        thread::sleep(Duration::from_millis(1));
        stream.write_all(&wire[cut..]).unwrap();
        assert_eq!(read_frame(&mut stream), (ECHO, b"whole again".to_vec()), "cut at {cut}");
    }
}

fn several_messages_in_one_segment(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    let numbers = 0..500u16;
    let wire = numbers.clone().flat_map(|number| frame(ECHO, 0, &number.to_le_bytes())).collect::<Vec<_>>();
    stream.write_all(&wire).unwrap();
    for number in numbers {
        assert_eq!(read_frame(&mut stream), (ECHO, number.to_le_bytes().to_vec()));
    }
}

fn nothing_waits_for_a_segment_to_fill(setting: &Setting) {
    let child = Child::start(setting, "desk");
    // The first may be accepted otherwise than those that follow.
    for _ in 0..3 {
        let mut stream = child.connect();
        assert_eq!(ask(&mut stream, ECHO, 0, b"").0, ECHO);
        let sockets = child.sockets_of(stream.local_address());
        assert!(!sockets.is_empty(), "somebody has answered");
        assert!(sockets.iter().all(|socket| tcp_nodelay(socket).unwrap()));
    }
}

fn bodies_of_no_length(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, ECHO, 0, b""), (ECHO, vec![]));
    assert_eq!(ask(&mut stream, ANSWER, 0, b""), (ANSWER, vec![]));
    assert_eq!(ask(&mut stream, ECHO, 0, b"and on"), (ECHO, b"and on".to_vec()));
}

fn the_answer_goes_out_after_a_half_close(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_all(&[frame(ECHO, 0, b"at once"), frame(LATER, 100, b"")].concat()).unwrap();
    stream.finish().unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"at once".to_vec()));
    assert_eq!(read_frame(&mut stream), (LATER, 100u64.to_le_bytes().to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    assert_eq!(child.first_closed(), "finished");
}

fn the_rest_is_read_before_the_end_is_told(setting: &Setting) {
    let child = Child::start(setting, "desk --buffer-each 65536");
    let mut stream = child.connect();
    // More answers than fit below the high-water mark: most requests are still unread when the end comes.
    let count = 2000;
    let wire = frame(ECHO, 0, &[b'x'; 100]).repeat(count);
    thread::scope(|scope| {
        let mut writer = stream.another();
        scope.spawn(move || {
            writer.write_all(&wire).unwrap();
            writer.finish().unwrap();
        });
        thread::sleep(Duration::from_millis(50));
        for _ in 0..count {
            assert_eq!(read_frame(&mut stream).1.len(), 100);
        }
    });
    assert_eq!(end_of(&mut stream), End::Orderly);
}

fn who_comes_and_goes_is_no_failure(setting: &Setting) {
    let child = Child::start(setting, "desk");
    for _ in 0..3 {
        drop(child.connect());
    }
    eventually("all have gone", || child.closed().len() == 3);
    assert!(child.closed().iter().all(|why| why == "finished"), "{:?}", child.closed());
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["closed"], stats["failed"]), (3, 3, 0));
}

fn a_reset_in_the_middle_of_a_message(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    // The half has come when the answer to what came with it is there.
    stream.write_all(&[&frame(ECHO, 0, b"whole")[..], &frame(ECHO, 0, b"cut off")[..20]].concat()).unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"whole".to_vec()));
    stream.reset();
    assert!(child.first_closed().contains("reset"), "{:?}", child.closed());
    is_served(&child);
    let stats = child.drain();
    assert_eq!((stats["closed"], stats["failed"]), (2, 1));
}

fn a_cut_in_the_middle_of_a_record(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_cut(&frame(ECHO, 0, b"whole"), &frame(ECHO, 0, &pattern(10_000))).unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"whole".to_vec()));
    stream.cut();
    let cut = if setting.tls { "cut off" } else { "reset" };
    assert!(child.first_closed().contains(cut), "{:?}", child.closed());
    assert_eq!(child.drain()["failed"], 1);
}

fn is_served(child: &Child) {
    assert_eq!(ask(&mut child.connect(), ECHO, 0, b"still here"), (ECHO, b"still here".to_vec()));
}

fn last_words_of_a_violation_arrive(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, REFUSE, 0, b""), (REFUSE, b"go away".to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    assert_eq!(child.first_closed(), "refused");
}

fn noise_is_no_frame(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_all(&[0xff; 4096]).unwrap();
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    assert!(child.first_closed().contains("not a frame"), "{:?}", child.closed());
    is_served(&child);
}

fn urgent_data_holds_nothing_up(setting: &Setting) {
    let many = if setting.model == Model::Iterative { 1 } else { 20 };
    let child = Child::start(setting, &format!("echo {}", setting.room_for(many)));
    let mut streams: Vec<_> = (0..many).map(|_| TcpStream::connect(child.address()).unwrap()).collect();
    for round in 0..3u8 {
        // All of it is there when the server looks.
        child.freeze();
        for stream in &mut streams {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&[round; 100]).unwrap();
            assert_eq!(socket2::SockRef::from(&*stream).send_out_of_band(b"!").unwrap(), 1);
            stream.write_all(&[round; 100]).unwrap();
        }
        child.thaw();
        for stream in &mut streams {
            let mut back = [0; 200];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, [round; 200]);
        }
    }
}

fn who_reads_late_misses_nothing(setting: &Setting) {
    let child = Child::start(setting, "echo --buffer-each 65536");
    let mut stream = child.connect();
    let sent = pattern(4 << 20);
    let mut back = vec![0; sent.len()];
    thread::scope(|scope| {
        let (mut writer, sent) = (stream.another(), &sent);
        scope.spawn(move || writer.write_all(sent).unwrap());
        // Long enough for everything on the way to be full.
        thread::sleep(Duration::from_millis(100));
        stream.read_exact(&mut back).unwrap();
    });
    assert!(back == sent);
}

fn who_never_reads_is_held_back_and_closed(setting: &Setting) {
    let child = Child::start(setting, "echo --buffer-each 262144 --buffer-all 1048576 --idle 400");
    let mut stream = child.connect();
    let noise = pattern(1 << 16);
    stream.set_nonblocking();
    eventually("it is closed", || {
        // Single bytes among the blocks: what is kept of them must cost no more than they are counted.
        let _ = stream.write(&noise[..1]);
        let _ = stream.write(&noise);
        !child.closed().is_empty()
    });
    assert_eq!(child.first_closed(), "the peer neither sent nor took a byte in time");
    drop(stream);
    roadstead_conformance::client::echo(&mut child.connect(), b"still here");
}
