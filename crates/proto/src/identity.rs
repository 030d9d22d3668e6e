//! Who a peer is: the pin of its public key, what it has proven, and what is expected of it.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

/// Who the peer has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The first DNS name of its certificate; empty if it has none.
    pub name: String,
    /// Its public key.
    pub pin: Pin,
}

/// What a client expects of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// A certificate of the keys' authority for this DNS name.
    Name(String),
    /// A certificate of the keys' authority, whatever its name: enough where all that it has signed are as good.
    Known,
    /// Exactly this public key, whoever has signed it.
    Pin(Pin),
}

/// The name of a public key, as in RFC 7469: the SHA-256 digest of its certificate's SubjectPublicKeyInfo. Written as
/// 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// The text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pin is written as 64 hexadecimal digits")]
pub struct NotAPin;

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAPin);
        }
        let mut pin = [0; 32];
        for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Ok(Self(pin))
    }
}

fn digit(ascii: u8) -> Result<u8, NotAPin> {
    (ascii as char).to_digit(16).map(|digit| digit as u8).ok_or(NotAPin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written_and_nothing_else_is_one() {
        let pin = Pin(std::array::from_fn(|byte| byte as u8 * 7));
        assert_eq!(pin.to_string().parse(), Ok(pin));
        let text = pin.to_string();
        for wrong in [&text[1..], &format!("{text}0"), &text.replace('e', "g"), "", &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Pin>(), Err(NotAPin), "{wrong}");
        }
    }
}
