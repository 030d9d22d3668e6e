//! `Frame`: length-prefixed messages over a byte stream, the cure for messages that stick together.
//!
//! ```text
//! offset  size  little-endian
//!      0     4  magic "RDSD"
//!      4     1  version, 1
//!      5     1  kind: the protocol's own
//!      6     2  length of the fields
//!      8     4  length of the body
//!     12     4  CRC-32 of the twelve bytes before: no length is believed before it was checked
//!     16        fields, then body
//! field: key (1), type (1), then 8 bytes of number, or a 2-byte length and as many bytes or UTF-8 text
//! ```
//!
//! ```
//! # use roadstead_proto as roadstead;
//! use roadstead::frame::{Fields, Frame, Limits, Parsed};
//!
//! let mut wire = Vec::new();
//! Frame::encode(&mut wire, 7, &Fields::new().number(1, 42).text(2, "berth"), b"cargo");
//! let Parsed::Frame(frame) = Frame::parse(&wire, &Limits::default())? else { panic!("it is whole") };
//! assert_eq!((frame.kind, frame.number(1), frame.text(2), frame.body), (7, Some(42), Some("berth"), &b"cargo"[..]));
//! # Ok::<(), roadstead::frame::FrameError>(())
//! ```
#![forbid(unsafe_code)]

use crate::{output::Output, service::Close};

const MAGIC: [u8; 4] = *b"RDSD";
const VERSION: u8 = 1;
/// Bytes before the fields.
pub const HEAD: usize = 16;

/// A frame within received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it means; the protocol's own.
    pub kind: u8,
    fields: &'a [u8],
    /// The payload.
    pub body: &'a [u8],
}

/// What a receiver accepts, in bytes. Checked before anything is waited for or allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the fields together. Default 4 KiB.
    pub fields: usize,
    /// Of the body. Default 64 KiB.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fields: 4 << 10, body: 64 << 10 }
    }
}

/// What the received bytes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole frame, of [`Frame::len`] bytes.
    Frame(Frame<'a>),
    /// Nothing yet: this many bytes must be there first.
    Need(usize),
}

/// The peer sent something that is no frame, or one that is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It does not begin like a frame.
    #[error("not a frame: the magic number is wrong")]
    Magic,
    /// A frame of another version.
    #[error("a frame of version {0}; this side speaks version 1")]
    Version(u8),
    /// The head was damaged or forged.
    #[error("the checksum of a frame's head is wrong")]
    Checksum,
    /// Too many bytes of fields.
    #[error("a frame with {length} bytes of fields; at most {limit} are accepted")]
    Fields {
        /// What the head says.
        length: usize,
        /// What is accepted.
        limit: usize,
    },
    /// Too large a body.
    #[error("a frame with a body of {length} bytes; at most {limit} are accepted")]
    Body {
        /// What the head says.
        length: usize,
        /// What is accepted.
        limit: usize,
    },
    /// The fields are not what their lengths and types say.
    #[error("the fields of a frame are malformed")]
    Malformed,
}

impl From<FrameError> for Close {
    fn from(error: FrameError) -> Self {
        Close::violation(error.to_string())
    }
}

impl<'a> Frame<'a> {
    /// Looks for one frame at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the bytes that are there rule a frame out.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Parsed<'a>, FrameError> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(FrameError::Magic);
        }
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(Parsed::Need(HEAD)) };
        let [.., version, kind, f0, f1, b0, b1, b2, b3, c0, c1, c2, c3] = *head;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if crc32fast::hash(&head[..12]) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(FrameError::Checksum);
        }
        let fields = usize::from(u16::from_le_bytes([f0, f1]));
        let body = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        if fields > limits.fields {
            return Err(FrameError::Fields { length: fields, limit: limits.fields });
        }
        if body > limits.body {
            return Err(FrameError::Body { length: body, limit: limits.body });
        }
        if rest.len() < fields + body {
            return Ok(Parsed::Need(HEAD + fields + body));
        }
        let (fields, rest) = rest.split_at(fields);
        check(fields)?;
        Ok(Parsed::Frame(Frame { kind, fields, body: &rest[..body] }))
    }

    /// How many bytes it takes up.
    pub fn len(&self) -> usize {
        HEAD + self.fields.len() + self.body.len()
    }

    /// Whether it carries neither fields nor a body.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.body.is_empty()
    }

    /// The field `key`, if it is there and a number.
    pub fn number(&self, key: u8) -> Option<u64> {
        match self.field(key)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The field `key`, if it is there and bytes.
    pub fn bytes(&self, key: u8) -> Option<&'a [u8]> {
        match self.field(key)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The field `key`, if it is there and text.
    pub fn text(&self, key: u8) -> Option<&'a str> {
        match self.field(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn field(&self, key: u8) -> Option<Value<'a>> {
        let mut rest = self.fields;
        while let Some((found, value, behind)) = split_field(rest) {
            if found == key {
                return Some(value);
            }
            rest = behind;
        }
        None
    }

    /// Appends a frame to `wire`.
    ///
    /// # Panics
    /// If `body` is longer than `u32::MAX`: no receiver could accept it.
    pub fn encode(wire: &mut Vec<u8>, kind: u8, fields: &Fields, body: &[u8]) {
        wire.extend_from_slice(&head(kind, fields, body.len()));
        wire.extend_from_slice(&fields.0);
        wire.extend_from_slice(body);
    }

    /// Writes a frame without fields.
    ///
    /// # Panics
    /// If `body` is longer than `u32::MAX`: no receiver could accept it.
    pub fn send(output: &mut Output, kind: u8, body: &[u8]) {
        Self::begin(output, kind, &Fields::new(), body.len());
        output.write(body);
    }

    /// Writes everything of a frame but its body, of which exactly `body` bytes must follow, in pieces of any kind.
    ///
    /// # Panics
    /// If `body` is more than `u32::MAX`: no receiver could accept it.
    pub fn begin(output: &mut Output, kind: u8, fields: &Fields, body: usize) {
        output.write(&head(kind, fields, body));
        output.write(&fields.0);
    }
}

fn head(kind: u8, fields: &Fields, body: usize) -> [u8; HEAD] {
    let Ok(body) = u32::try_from(body) else { panic!("a frame's body is at most u32::MAX bytes long") };
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = VERSION;
    head[5] = kind;
    // `Fields` never grows past what sixteen bits can say.
    head[6..8].copy_from_slice(&(fields.0.len() as u16).to_le_bytes());
    head[8..12].copy_from_slice(&body.to_le_bytes());
    let checksum = crc32fast::hash(&head[..12]);
    head[12..].copy_from_slice(&checksum.to_le_bytes());
    head
}

const NUMBER: u8 = 0;
const BYTES: u8 = 1;
const TEXT: u8 = 2;

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Text(&'a str),
}

fn split_field(fields: &[u8]) -> Option<(u8, Value<'_>, &[u8])> {
    let (&[key, kind], rest) = fields.split_first_chunk()?;
    if kind == NUMBER {
        let (number, rest) = rest.split_first_chunk()?;
        return Some((key, Value::Number(u64::from_le_bytes(*number)), rest));
    }
    let (length, rest) = rest.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    match kind {
        BYTES => Some((key, Value::Bytes(bytes), rest)),
        TEXT => Some((key, Value::Text(str::from_utf8(bytes).ok()?), rest)),
        _ => None,
    }
}

/// Every field is well-formed and no key stands twice.
fn check(mut fields: &[u8]) -> Result<(), FrameError> {
    let mut seen = [false; 256];
    while !fields.is_empty() {
        let (key, _, rest) = split_field(fields).ok_or(FrameError::Malformed)?;
        if std::mem::replace(&mut seen[usize::from(key)], true) {
            return Err(FrameError::Malformed);
        }
        fields = rest;
    }
    Ok(())
}

/// The fields of a frame that is to be sent: a small map from numbered keys to typed values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, key: u8, number: u64) -> Self {
        self.push(key, NUMBER, &number.to_le_bytes());
        self
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// If all fields together pass 65,535 bytes.
    #[must_use]
    pub fn bytes(mut self, key: u8, bytes: &[u8]) -> Self {
        self.push_sized(key, BYTES, bytes);
        self
    }

    /// Adds text.
    ///
    /// # Panics
    /// If all fields together pass 65,535 bytes.
    #[must_use]
    pub fn text(mut self, key: u8, text: &str) -> Self {
        self.push_sized(key, TEXT, text.as_bytes());
        self
    }

    fn push_sized(&mut self, key: u8, kind: u8, bytes: &[u8]) {
        let length = (bytes.len() as u16).to_le_bytes();
        self.push(key, kind, &[&length, bytes].concat());
    }

    fn push(&mut self, key: u8, kind: u8, value: &[u8]) {
        assert!(
            self.0.len() + 2 + value.len() <= usize::from(u16::MAX),
            "the fields of a frame are at most 65,535 bytes"
        );
        self.0.extend_from_slice(&[key, kind]);
        self.0.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut wire = Vec::new();
        let fields = Fields::new().number(1, u64::MAX).bytes(2, b"\xff\0").text(3, "Reede");
        Frame::encode(&mut wire, 9, &fields, b"body");
        wire
    }

    /// The head with its checksum made right again after a change.
    fn sealed(mut wire: Vec<u8>) -> Vec<u8> {
        let checksum = crc32fast::hash(&wire[..12]).to_le_bytes();
        wire[12..16].copy_from_slice(&checksum);
        wire
    }

    #[test]
    fn every_prefix_of_a_frame_asks_for_what_is_missing() {
        let wire = sample();
        for length in 0..wire.len() {
            let expected = if length < HEAD { HEAD } else { wire.len() };
            assert_eq!(Frame::parse(&wire[..length], &Limits::default()), Ok(Parsed::Need(expected)));
        }
        assert!(
            matches!(Frame::parse(&wire, &Limits::default()), Ok(Parsed::Frame(frame)) if frame.len() == wire.len())
        );
    }

    #[test]
    fn lengths_are_limited_at_below_and_above() {
        for (size, accepted) in [(9, true), (10, true), (11, false)] {
            let mut wire = Vec::new();
            Frame::encode(&mut wire, 0, &Fields::new(), &vec![0; size]);
            let parsed = Frame::parse(&wire[..HEAD], &Limits { fields: 0, body: 10 });
            assert_eq!(parsed.is_ok(), accepted, "a body of {size}");
            let mut wire = Vec::new();
            Frame::encode(&mut wire, 0, &Fields::new().bytes(1, &vec![0; size - 4]), b"");
            let parsed = Frame::parse(&wire[..HEAD], &Limits { fields: 10, body: 0 });
            assert_eq!(parsed.is_ok(), accepted, "fields of {size}");
        }
    }

    #[test]
    fn any_flipped_bit_of_the_head_is_noticed() {
        for bit in 0..HEAD * 8 {
            let mut wire = sample();
            wire[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::parse(&wire, &Limits::default()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_key_may_not_stand_twice() {
        let mut wire = Vec::new();
        Frame::encode(&mut wire, 0, &Fields::new().number(1, 1).number(1, 2), b"");
        assert_eq!(Frame::parse(&wire, &Limits::default()), Err(FrameError::Malformed));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed(kind: u8, number: u64, bytes in prop::collection::vec(any::<u8>(), 0..300),
                                     text in ".{0,40}", body in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut wire = Vec::new();
            Frame::encode(&mut wire, kind, &Fields::new().number(0, number).bytes(1, &bytes).text(255, &text), &body);
            wire.extend_from_slice(b"RDSD the next one");
            let Ok(Parsed::Frame(frame)) = Frame::parse(&wire, &Limits::default()) else { panic!("not parsed") };
            prop_assert_eq!(frame.kind, kind);
            prop_assert_eq!(frame.number(0), Some(number));
            prop_assert_eq!(frame.bytes(1), Some(&bytes[..]));
            prop_assert_eq!(frame.text(255), Some(&text[..]));
            prop_assert_eq!(frame.text(0), None);
            prop_assert_eq!(frame.body, &body[..]);
        }

        #[test]
        fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..64), at in 4usize..40) {
            let mut wire = sample();
            for (place, byte) in wire[at.min(39)..].iter_mut().zip(&noise) {
                *place = *byte;
            }
            let _ = Frame::parse(&sealed(wire), &Limits::default());
            let _ = Frame::parse(&noise, &Limits::default());
        }
    }
}
