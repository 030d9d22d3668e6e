//! How a loop that does its I/O itself reads a part of a file for a layer.
#![forbid(unsafe_code)]

use std::time::Duration;

use roadstead_proto::{
    blob::FileRange,
    connection::{BLOCK, Endpoint, Event},
    host::Host,
};

/// Reads the first bytes of `range`, by a call that may wait for the disk, and lets the connection hear of them. Answers
/// how many they are.
pub(crate) fn read_at_once(
    range: &FileRange,
    endpoint: &mut dyn Endpoint,
    now: Duration,
    host: &mut Host,
) -> u64 {
    match range.read(BLOCK) {
        Ok(mut part) => {
            let count = part.len() as u64;
            endpoint.handle(now, Event::Read(&mut part), host);
            count
        }
        Err(error) => {
            endpoint.handle(now, Event::Unreadable(error), host);
            0
        }
    }
}
