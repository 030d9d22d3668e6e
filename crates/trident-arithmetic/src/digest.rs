//! What tells one sharing from another: its random name, and digests of what its holders must agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Random name of one sharing: two sharings of the same data differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SharingId(pub [u8; 16]);

/// A BLAKE3 digest: of a manifest, what all holders of a sharing must agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SharingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl From<SharingId> for String {
    fn from(id: SharingId) -> Self {
        id.to_string()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for SharingId {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        parse_hex(&hex).map(Self).ok_or("a sharing id is 32 hexadecimal digits")
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        parse_hex(&hex).map(Self).ok_or("a digest is 64 hexadecimal digits")
    }
}

/// Reads exactly `N` bytes from their hexadecimal digits.
fn parse_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4 | digit(*low)?) as u8);
    pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_as_many_digits_as_they_have_and_every_digit_has_its_place() {
        let digest = Digest(std::array::from_fn(|at| (at * 8 + 1) as u8));
        let hex = digest.to_string();
        assert_eq!((&hex[..8], hex.len()), ("01091119", 64));
        assert_eq!(Digest::try_from(hex.clone()), Ok(digest));
        for wrong in
            ["", &hex[..62], &hex[..63], &format!("{hex}0"), &format!("{hex}00"), &hex.replace('9', "g")]
        {
            assert!(Digest::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
