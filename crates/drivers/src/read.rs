//! One function, `read_at_once`: how a loop that does its I/O itself reads a part of a file for a layer.
#![forbid(unsafe_code)]

use std::time::Duration;

use roadstead_proto::{
    connection::{BLOCK, Driven, Event},
    host::Host,
};

/// Reads what is to be read for the connection, by a call that may wait for the disk, and lets it hear of that. Answers
/// how many bytes it was.
pub(crate) fn read_at_once(endpoint: &mut Driven, now: Duration, host: &mut Host) -> u64 {
    let Some(range) = endpoint.file() else { return 0 };
    let mut part = range.read(BLOCK);
    let count = part.as_ref().map_or(0, |part| part.len() as u64);
    endpoint.handle(now, Event::Read(&mut part), host);
    count
}
