//! File ranges: exact, in their place among bytes, and honest when the file is shorter than what was promised.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use roadstead::Budget;

use crate::{
    client::{frame, pattern, read_frame},
    desk::{ANSWER, Desk, ECHO, FILE},
    setting::Setting,
};

on_every_model!(
    a_large_file_stands_between_the_bytes_around_it,
    small_ranges_and_bytes_alternate,
    a_file_shorter_than_promised_closes,
    a_peer_that_stops_reading_a_file_is_closed,
);

fn desk_with(content: &[u8]) -> Desk {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Desk { file: Some(Arc::new(file)), ..Desk::default() }
}

fn a_large_file_stands_between_the_bytes_around_it(setting: Setting) {
    let content = pattern(50 << 20);
    let server = setting.start(desk_with(&content), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    let len = content.len() as u64;
    stream
        .write_all(&[frame(ECHO, 0, b"head"), frame(FILE, len, b""), frame(ECHO, 0, b"tail")].concat())
        .unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"head".to_vec()));
    let (kind, body) = read_frame(&mut stream);
    assert!(kind == FILE && body == content);
    assert_eq!(read_frame(&mut stream), (ECHO, b"tail".to_vec()));
    assert!(server.buffered() < 1 << 20, "a file is not read into memory");
}

fn small_ranges_and_bytes_alternate(setting: Setting) {
    let content = pattern(3000);
    let server = setting.start(desk_with(&content), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    for len in [0, 1, 2, 1000, 3000] {
        stream.write_all(&[frame(FILE, len, b""), frame(ANSWER, len, b"")].concat()).unwrap();
        assert_eq!(read_frame(&mut stream), (FILE, content[..len as usize].to_vec()));
        assert_eq!(read_frame(&mut stream), (ANSWER, vec![b'a'; len as usize]));
    }
}

fn a_file_shorter_than_promised_closes(setting: Setting) {
    let desk = desk_with(&pattern(100_000));
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&frame(FILE, 100_001, b"")).unwrap();
    let mut all = Vec::new();
    assert!(stream.read_to_end(&mut all).is_err(), "a reset, so that nobody takes it for whole");
    assert!(all.len() <= roadstead::frame::HEAD + 100_000);
    assert_eq!(desk.ends.first(), "the file is shorter than what was promised of it");
}

fn a_peer_that_stops_reading_a_file_is_closed(setting: Setting) {
    let desk = desk_with(&pattern(50 << 20));
    let server = setting.start(desk.clone(), Budget::default().idle(Duration::from_millis(300)));
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&frame(FILE, 50 << 20, b"")).unwrap();
    assert_eq!(desk.ends.first(), "the peer neither sent nor took a byte in time");
}
