//! Bytes in, bytes out: however they are cut, and however the peer ends.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use roadstead::Budget;

use crate::{
    client::{End, PATIENCE, ask, echo, end_of, eventually, frame, pattern, read_frame},
    desk::{ANSWER, Desk, ECHO, Echo, Ends, HOLD, REFUSE},
    setting::Setting,
};

on_every_model!(
    ten_mebibytes_are_echoed,
    one_byte_at_a_time,
    a_message_may_be_split_anywhere,
    several_messages_in_one_segment,
    bodies_of_no_length,
    the_answer_goes_out_after_a_half_close,
    the_rest_is_read_before_the_end_is_told,
    a_reset_in_the_middle_of_a_message,
    last_words_of_a_violation_arrive,
    noise_is_no_frame;
    several:
    a_peer_that_never_reads_is_held_back_and_closed,
);

fn ten_mebibytes_are_echoed(setting: Setting) {
    let server = setting.start(Echo::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
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
    let counted = server.drain(PATIENCE).unwrap();
    assert_eq!((counted.bytes_in, counted.bytes_out, counted.failed), (10 << 20, 10 << 20, 0));
}

fn one_byte_at_a_time(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    for byte in frame(ECHO, 0, b"dribbled") {
        stream.write_all(&[byte]).unwrap();
        thread::yield_now();
    }
    assert_eq!(read_frame(&mut stream), (ECHO, b"dribbled".to_vec()));
}

fn a_message_may_be_split_anywhere(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    let wire = frame(ECHO, 5, b"whole again");
    for cut in 0..=wire.len() {
        stream.write_all(&wire[..cut]).unwrap();
        thread::sleep(Duration::from_millis(1));
        stream.write_all(&wire[cut..]).unwrap();
        assert_eq!(read_frame(&mut stream), (ECHO, b"whole again".to_vec()), "cut at {cut}");
    }
}

fn several_messages_in_one_segment(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    let numbers = 0..500u16;
    let wire = numbers.clone().flat_map(|number| frame(ECHO, 0, &number.to_le_bytes())).collect::<Vec<_>>();
    stream.write_all(&wire).unwrap();
    for number in numbers {
        assert_eq!(read_frame(&mut stream), (ECHO, number.to_le_bytes().to_vec()));
    }
}

fn bodies_of_no_length(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut stream, ECHO, 0, b""), (ECHO, vec![]));
    assert_eq!(ask(&mut stream, ANSWER, 0, b""), (ANSWER, vec![]));
    assert_eq!(ask(&mut stream, ECHO, 0, b"and on"), (ECHO, b"and on".to_vec()));
}

fn the_answer_goes_out_after_a_half_close(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&[frame(ECHO, 0, b"at once"), frame(HOLD, 0, b"")].concat()).unwrap();
    stream.finish().unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"at once".to_vec()));
    desk.tickets(1).remove(0).finish(7);
    assert_eq!(read_frame(&mut stream), (HOLD, 7u64.to_le_bytes().to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    assert_eq!(desk.ends.first(), "finished");
}

fn the_rest_is_read_before_the_end_is_told(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default().buffer_each(1 << 16));
    let mut stream = setting.connect(server.addresses()[0]);
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

fn a_reset_in_the_middle_of_a_message(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&frame(ECHO, 0, b"cut off")[..20]).unwrap();
    eventually("the half is there", || server.buffered() > 0);
    stream.reset();
    assert!(desk.ends.first().contains("reset"), "{:?}", desk.ends.all());
    eventually("nothing is charged", || server.buffered() == 0 && server.open() == 0);
    echo_again(setting, &server);
}

fn echo_again(setting: Setting, server: &roadstead::Running) {
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut stream, ECHO, 0, b"still here"), (ECHO, b"still here".to_vec()));
}

fn last_words_of_a_violation_arrive(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut stream, REFUSE, 0, b""), (REFUSE, b"go away".to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    assert_eq!(desk.ends.first(), "refused");
}

fn noise_is_no_frame(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&[0xff; 4096]).unwrap();
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    assert!(desk.ends.first().contains("not a frame"));
    echo_again(setting, &server);
}

fn a_peer_that_never_reads_is_held_back_and_closed(setting: Setting) {
    let ends = Ends::default();
    let budget = Budget::default().buffer_each(1 << 18).buffer_all(1 << 20).idle(Duration::from_millis(400));
    let all = budget.buffer_all;
    let server = setting.start(Echo(ends.clone()), budget);
    let mut streams = (0..3).map(|_| setting.connect(server.addresses()[0])).collect::<Vec<_>>();
    let noise = pattern(1 << 16);
    let mut most = 0;
    // Single bytes among the blocks: what is kept of them must cost no more than they are counted.
    for stream in &mut streams {
        stream.set_nonblocking();
    }
    eventually("all three are closed as idle", || {
        for stream in &mut streams {
            let _ = stream.write(&noise[..1]);
            let _ = stream.write(&noise);
        }
        most = most.max(server.buffered());
        ends.all().len() == 3
    });
    assert!(most > 0 && most <= all, "{most} bytes were buffered");
    assert!(ends.all().iter().all(|why| why.contains("neither sent nor took")), "{:?}", ends.all());
    eventually("nothing is charged", || server.buffered() == 0 && server.open() == 0);
    echo(&mut setting.connect(server.addresses()[0]), b"still here");
}
