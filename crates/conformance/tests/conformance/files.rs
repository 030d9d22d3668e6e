//! File ranges: exact, in their place among bytes, and honest when the file is shorter than what was promised.

use std::io::{Read, Write};

use roadstead_conformance::{
    asks::{ANSWER, ECHO, FILE, MADE_UP},
    child::Child,
    client::{frame, pattern, read_frame},
    setting::Setting,
};

scenarios! {
    a_large_file_stands_between_the_bytes_around_it (Wires): "20 MiB of a file arrive whole and in their place, and are not read into memory",
    small_ranges_and_bytes_alternate (Wires): "ranges of 0, 1 and more bytes alternate with bytes",
    a_file_of_the_services_own_is_sent_like_any (Wires): "what the service reads by itself arrives whole and in its place, or closes like a file",
    a_file_shorter_than_promised_closes (Wires): "who is promised more than the file holds sees a reset",
    a_peer_that_stops_reading_a_file_is_closed (Wires): "a file that nobody takes is not offered for ever",
}

fn a_large_file_stands_between_the_bytes_around_it(setting: &Setting) {
    let len = 20 << 20;
    let child = Child::start(setting, &format!("desk --file {len}"));
    child.at_rest();
    let before = child.memory();
    let mut stream = child.connect();
    let wire = [frame(ECHO, 0, b"head"), frame(FILE, len, b""), frame(ECHO, 0, b"tail")].concat();
    stream.write_all(&wire).unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"head".to_vec()));
    let (kind, body) = read_frame(&mut stream);
    assert!(kind == FILE && body == pattern(len as usize));
    assert_eq!(read_frame(&mut stream), (ECHO, b"tail".to_vec()));
    assert!(child.memory() < before + (8 << 20), "a file is not read into memory");
}

fn small_ranges_and_bytes_alternate(setting: &Setting) {
    let child = Child::start(setting, "desk --file 3000");
    let content = pattern(3000);
    let mut stream = child.connect();
    for len in [0, 1, 2, 1000, 3000] {
        stream.write_all(&[frame(FILE, len, b""), frame(ANSWER, len, b"")].concat()).unwrap();
        assert_eq!(read_frame(&mut stream), (FILE, content[..len as usize].to_vec()));
        assert_eq!(read_frame(&mut stream), (ANSWER, vec![b'a'; len as usize]));
    }
}

fn a_file_of_the_services_own_is_sent_like_any(setting: &Setting) {
    let child = Child::start(setting, "desk --file 3000000");
    let content = pattern(3_000_000);
    let mut stream = child.connect();
    for len in [1, 3_000_000, 0, 100_000] {
        let asked = [frame(ECHO, 0, b"head"), frame(MADE_UP, len, b""), frame(FILE, 1000, b"")];
        stream.write_all(&asked.concat()).unwrap();
        assert_eq!(read_frame(&mut stream), (ECHO, b"head".to_vec()));
        let (kind, body) = read_frame(&mut stream);
        assert!(kind == MADE_UP && body == content[..len as usize], "{len}");
        assert_eq!(read_frame(&mut stream), (FILE, content[..1000].to_vec()));
    }
    stream.write_all(&frame(MADE_UP, 3_000_001, b"")).unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).is_err(), "a reset, so that nobody takes it for whole");
    assert_eq!(child.first_closed(), "the file is shorter than what was promised of it");
}

fn a_file_shorter_than_promised_closes(setting: &Setting) {
    let child = Child::start(setting, "desk --file 100000");
    let mut stream = child.connect();
    stream.write_all(&frame(FILE, 100_001, b"")).unwrap();
    let mut all = Vec::new();
    assert!(stream.read_to_end(&mut all).is_err(), "a reset, so that nobody takes it for whole");
    assert!(all.len() <= roadstead::frame::HEAD + 100_000);
    assert_eq!(child.first_closed(), "the file is shorter than what was promised of it");
}

fn a_peer_that_stops_reading_a_file_is_closed(setting: &Setting) {
    let child = Child::start(setting, "desk --file 20000000 --idle 300");
    let mut stream = child.connect();
    stream.write_all(&frame(FILE, 20_000_000, b"")).unwrap();
    assert_eq!(child.first_closed(), "the peer neither sent nor took a byte in time");
}
