//! Any bytes are a frame, too few of one, or none; the verdict stands when more bytes come, and a frame survives being
//! written and read again.

use roadstead::frame::{Fields, Frame, HEAD, Limits, Parsed};

const LIMITS: [Limits; 4] = [
    Limits { fields: 0, body: 0 },
    Limits { fields: 64, body: 64 },
    Limits { fields: 4 << 10, body: 64 << 10 },
    Limits { fields: u16::MAX as usize, body: u32::MAX as usize },
];

pub(crate) fn check(data: &[u8]) {
    for limits in &LIMITS {
        judge(data, limits);
    }
    // Nearly no bytes have the right checksum: what is behind that check is seen only with it repaired.
    if data.len() >= HEAD {
        let mut sealed = data.to_vec();
        seal(&mut sealed);
        for limits in &LIMITS {
            judge(&sealed, limits);
        }
    }
}

/// Writes the right checksum into the head of `wire`.
pub(crate) fn seal(wire: &mut [u8]) {
    let checksum = crc32fast::hash(&wire[..HEAD - 4]);
    wire[HEAD - 4..HEAD].copy_from_slice(&checksum.to_le_bytes());
}

fn judge(data: &[u8], limits: &Limits) {
    let longer = [data, b"RDSD"].concat();
    match Frame::parse(data, limits) {
        Err(error) => assert_eq!(Frame::parse(&longer, limits), Err(error), "more bytes make it no better"),
        Ok(Parsed::Need(need)) => {
            assert!(need > data.len(), "what is there is asked for");
            assert!(need <= HEAD + limits.fields + limits.body, "more is asked for than is accepted");
        }
        Ok(Parsed::Frame(frame)) => {
            assert_eq!(Frame::parse(&longer, limits), Ok(Parsed::Frame(frame)), "it ends where it says");
            let (whole, cut) = (&data[..frame.len()], &data[..frame.len() - 1]);
            assert_eq!(Frame::parse(whole, limits), Ok(Parsed::Frame(frame)));
            let need = if cut.len() < HEAD { HEAD } else { frame.len() };
            assert_eq!(Frame::parse(cut, limits), Ok(Parsed::Need(need)));
            assert!(frame.body.len() <= limits.body);
            survives(&frame, limits);
        }
    }
}

fn survives(frame: &Frame<'_>, limits: &Limits) {
    let mut fields = Fields::new();
    for key in 0..=u8::MAX {
        fields = match (frame.number(key), frame.bytes(key), frame.text(key)) {
            (Some(number), None, None) => fields.number(key, number),
            (None, Some(bytes), None) => fields.bytes(key, bytes),
            (None, None, Some(text)) => fields.text(key, text),
            (None, None, None) => fields,
            several => panic!("field {key} has several types: {several:?}"),
        };
    }
    let mut wire = Vec::new();
    Frame::encode(&mut wire, frame.kind, &fields, frame.body);
    let Ok(Parsed::Frame(again)) = Frame::parse(&wire, limits) else {
        panic!("what was read cannot be written")
    };
    assert_eq!((again.kind, again.len(), again.body), (frame.kind, frame.len(), frame.body));
    for key in 0..=u8::MAX {
        assert_eq!(again.number(key), frame.number(key));
        assert_eq!(again.bytes(key), frame.bytes(key));
        assert_eq!(again.text(key), frame.text(key));
    }
}
