//! Whatever a peer says on a link between members, nothing panics, holds more than the limits, or is left behind. The input
//! is a list of messages: kind, length, bytes; each is sent as a frame, so that what is behind the framing is reached.

use roadstead::{Frame, exchange::fuzz::hear, frame::Fields};

pub(crate) fn check(data: &[u8]) {
    let Some((piece, mut rest)) = data.split_first() else { return };
    let mut wire = Vec::new();
    while let Some((&[kind, low, high], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        let (body, next) = behind.split_at(length);
        Frame::encode(&mut wire, kind, &Fields::new(), body);
        rest = next;
    }
    hear(&wire, 1 + usize::from(*piece) * 64);
}
