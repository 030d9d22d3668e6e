//! The other end: what a blocking client says and hears, and waiting for what must come to pass.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Frame,
    frame::{Fields, HEAD, Limits, Parsed},
};

use crate::{PATIENCE, wire::Wire};

/// Waits until `done`.
#[track_caller]
pub fn eventually(what: &str, done: impl FnMut() -> bool) {
    assert!(comes_to(done), "it never came to this: {what}");
}

/// Waits until `done`; false if that takes longer than anything does.
pub fn comes_to(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() >= PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Sets its flag when it is dropped, so that threads that run until then end whatever happens.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// How the server ended the connection. Bytes before the end are an error.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The last byte was followed by its end.
    Orderly,
    /// It broke off.
    Reset,
}

/// Waits for the end.
#[track_caller]
pub fn end_of(stream: &mut Wire) -> End {
    let mut byte = [0; 1];
    match stream.read(&mut byte) {
        Ok(0) => End::Orderly,
        Ok(_) => panic!("a byte ({}) instead of the end", byte[0]),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            End::Reset
        }
        Err(error) => panic!("{error} instead of the end"),
    }
}

/// Sends `bytes` and reads as many back.
#[track_caller]
pub fn echo(stream: &mut Wire, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "what comes back is what was sent");
}

/// A frame of `kind` with the number `n` and `body`.
pub fn frame(kind: u8, n: u64, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind, &Fields::new().number(1, n), body);
    wire
}

/// Reads one frame: its kind and body.
#[track_caller]
pub fn read_frame(stream: &mut Wire) -> (u8, Vec<u8>) {
    try_read_frame(stream).unwrap()
}

/// The same where the connection may have ended.
pub fn try_read_frame(stream: &mut Wire) -> io::Result<(u8, Vec<u8>)> {
    let limits = Limits { body: u32::MAX as usize, ..Limits::default() };
    let mut wire = vec![0; HEAD];
    stream.read_exact(&mut wire)?;
    loop {
        match Frame::parse(&wire, &limits).unwrap() {
            Parsed::Frame(frame) => return Ok((frame.kind, frame.body.to_vec())),
            Parsed::Need(all) => {
                let known = wire.len();
                wire.resize(all, 0);
                stream.read_exact(&mut wire[known..])?;
            }
        }
    }
}

/// Asks and reads one answer.
#[track_caller]
pub fn ask(stream: &mut Wire, kind: u8, n: u64, body: &[u8]) -> (u8, Vec<u8>) {
    stream.write_all(&frame(kind, n, body)).unwrap();
    read_frame(stream)
}

/// Bytes that repeat nowhere near.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(pattern_at).collect()
}

/// The byte of a [`pattern`] at this place.
pub fn pattern_at(place: usize) -> u8 {
    ((place as u32).wrapping_mul(2_654_435_761) >> 24) as u8
}
