//! What two members say on a link. Integers are little-endian; every message is a [`Frame`].
//!
//! | kind | body |
//! |---|---|
//! | hello | version u8, from u8, to u8, strategy 2, allowance u64 |
//! | part | query u128, round u32, length of the message u32, offset of this part u32, its bytes |
//! | credit | bytes received on this link u64, an empty message counts as one; bytes taken of what came on it u64: both since it was opened |
#![forbid(unsafe_code)]

use roadstead_proto::{
    frame::{Fields, Frame, Limits},
    output::Output,
    service::Close,
};

use crate::options::{Key, MemberId, PART};

const VERSION: u8 = 1;
const HELLO: u8 = 1;
const PART_OF: u8 = 2;
const CREDIT: u8 = 3;
/// Bytes of a part before those of the message.
const PART_HEAD: usize = 28;

/// What a link accepts.
pub(super) const LIMITS: Limits = Limits { fields: 0, body: PART_HEAD + PART };

/// A member's first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(crate) from: MemberId,
    pub(crate) to: MemberId,
    pub(crate) strategy: [u8; 2],
    /// Bytes that the other may send on this link before any of them were taken.
    pub(super) allowance: u64,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(crate) key: Key,
    pub(crate) length: usize,
    pub(crate) offset: usize,
    pub(crate) bytes: &'a [u8],
}

/// Anything said on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Hello(Hello),
    Part(Part<'a>),
    Credit { received: u64, taken: u64 },
}

impl Hello {
    pub(crate) fn send(&self, output: &mut Output) {
        let mut body = vec![VERSION, self.from.0, self.to.0];
        body.extend_from_slice(&self.strategy);
        body.extend_from_slice(&self.allowance.to_le_bytes());
        Frame::send(output, HELLO, &body);
    }
}

/// Sends the part of `message` that begins at `offset`; answers its length.
pub(crate) fn send_part(output: &mut Output, key: Key, message: &bytes::Bytes, offset: usize) -> usize {
    let part = message.slice(offset..message.len().min(offset + PART));
    Frame::begin(output, PART_OF, &Fields::new(), PART_HEAD + part.len());
    let mut head = [0; PART_HEAD];
    head[..16].copy_from_slice(&key.query.to_le_bytes());
    head[16..20].copy_from_slice(&key.round.to_le_bytes());
    // No message is longer than `Options::largest`, which is far below four gigabytes.
    head[20..24].copy_from_slice(&(message.len() as u32).to_le_bytes());
    head[24..28].copy_from_slice(&(offset as u32).to_le_bytes());
    output.write(&head);
    let length = part.len();
    output.send(part);
    length
}

/// What a part of so many bytes adds to the count of those received. An empty message counts too: no confirmation may
/// cover it before it has come.
pub(super) fn weight(bytes: usize) -> u64 {
    bytes.max(1) as u64
}

pub(super) fn send_credit(output: &mut Output, received: u64, taken: u64) {
    Frame::send(output, CREDIT, &[received.to_le_bytes(), taken.to_le_bytes()].concat());
}

/// Reads what was said.
///
/// # Errors
/// Anything that no member of this version says.
pub(crate) fn parse<'a>(frame: &Frame<'a>) -> Result<Said<'a>, Close> {
    let malformed = || Close::violation(format!("a malformed message of kind {}", frame.kind));
    match frame.kind {
        HELLO => hello(frame.body).ok_or_else(malformed),
        PART_OF => part(frame.body).ok_or_else(malformed),
        CREDIT => credit(frame.body).ok_or_else(malformed),
        kind => Err(Close::violation(format!("there is no message of kind {kind} between members"))),
    }
}

fn hello(body: &[u8]) -> Option<Said<'_>> {
    let (&[version, from, to, s0, s1], rest) = body.split_first_chunk()?;
    let allowance = u64::from_le_bytes(rest.try_into().ok()?);
    let (from, to) = (MemberId(from), MemberId(to));
    (version == VERSION).then_some(Said::Hello(Hello { from, to, strategy: [s0, s1], allowance }))
}

fn part(body: &[u8]) -> Option<Said<'_>> {
    let (query, rest) = body.split_first_chunk()?;
    let (round, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (offset, bytes) = rest.split_first_chunk()?;
    let key = Key { query: u128::from_le_bytes(*query), round: u32::from_le_bytes(*round) };
    let (length, offset) = (u32::from_le_bytes(*length) as usize, u32::from_le_bytes(*offset) as usize);
    // Parts are whole, so that a message costs no more of them than it must.
    let exact = offset.is_multiple_of(PART) && offset <= length && bytes.len() == PART.min(length - offset);
    (exact && (offset == 0 || !bytes.is_empty())).then_some(Said::Part(Part { key, length, offset, bytes }))
}

fn credit(body: &[u8]) -> Option<Said<'_>> {
    let (received, taken) = body.split_first_chunk()?;
    let taken = u64::from_le_bytes(taken.try_into().ok()?);
    Some(Said::Credit { received: u64::from_le_bytes(*received), taken })
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::Bytes;
    use proptest::prelude::*;

    use roadstead_proto::frame::Parsed;

    use super::*;

    fn wire(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let (count, _) = output.gather(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    fn frame(wire: &[u8]) -> Frame<'_> {
        match Frame::parse(wire, &LIMITS) {
            Ok(Parsed::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn parts_are_read_as_they_were_written(query: u128, round: u32, length in 0..3 * PART) {
            let (key, message) = (Key { query, round }, Bytes::from(vec![7; length]));
            let mut offset = 0;
            loop {
                let mut output = Output::new(1 << 20);
                let sent = send_part(&mut output, key, &message, offset);
                let wire = wire(&output);
                let bytes = &message[offset..offset + sent];
                prop_assert_eq!(parse(&frame(&wire)), Ok(Said::Part(Part { key, length, offset, bytes })));
                offset += sent;
                if offset == length { break }
            }
        }

        #[test]
        fn no_body_makes_it_panic(kind in 0..5u8, body in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut wire = Vec::new();
            Frame::encode(&mut wire, kind, &Fields::new(), &body);
            let _ = parse(&frame(&wire));
        }
    }

    #[test]
    fn parts_that_are_not_whole_are_refused() {
        for (length, offset, count, right) in [
            (10, 0, 10, true),
            (10, 0, 9, false),
            (10, 0, 11, false),
            (0, 0, 0, true),
            (PART, PART, 0, false),
            (2 * PART, 1, PART, false),
            (2 * PART, PART, PART, true),
            (2 * PART, 2 * PART, 0, false),
            (PART, 2 * PART, 0, false),
        ] {
            let mut body = vec![0; 20];
            body.extend_from_slice(&(length as u32).to_le_bytes());
            body.extend_from_slice(&(offset as u32).to_le_bytes());
            body.resize(body.len() + count, 1);
            assert_eq!(part(&body).is_some(), right, "{count} bytes at {offset} of {length}");
        }
    }
}
