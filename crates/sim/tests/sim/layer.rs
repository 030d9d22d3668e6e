//! A layer without cryptography, to see what faults do to any layer: a greeting, then records with a length.

use std::io;

use bytes::{Buf, BytesMut};

use roadstead_proto::{Identity, Layer, Layers};

const GREETING: &[u8] = b"a greeting that comes in several pieces";
/// The most in one record.
const MOST: usize = 1000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Toy;

impl Layers for Toy {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        Ok(Box::new(ToyLayer::default()))
    }
}

#[derive(Debug, Default)]
struct ToyLayer {
    greeted: bool,
    open: bool,
    ended: bool,
}

impl Layer for ToyLayer {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, reply: &mut BytesMut) -> io::Result<()> {
        if !self.greeted {
            self.greeted = true;
            reply.extend_from_slice(GREETING);
        }
        if !self.open {
            if wire.len() < GREETING.len() {
                return Ok(());
            }
            if !wire.starts_with(GREETING) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no greeting"));
            }
            wire.advance(GREETING.len());
            self.open = true;
        }
        while !self.ended && wire.len() >= 2 {
            let len = usize::from(u16::from_le_bytes([wire[0], wire[1]]));
            if wire.len() < 2 + len {
                return Ok(());
            }
            wire.advance(2);
            self.ended = len == 0;
            plain.extend(wire.split_to(len).iter().map(|byte| byte ^ 0x5a));
        }
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        for part in plain.chunks(MOST) {
            wire.extend_from_slice(&(part.len() as u16).to_le_bytes());
            wire.extend(part.iter().map(|byte| byte ^ 0x5a));
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut [u8], wire: &mut BytesMut) {
        wire.extend_from_slice(&[0, 0]);
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn identity(&self) -> Option<Identity> {
        None
    }
}
