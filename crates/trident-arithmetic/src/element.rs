//! Elements of rows, as numbers and as bytes.

use serde::{Deserialize, Serialize};

/// What an element of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// One byte, 0..=255.
    U8,
    /// A little-endian IEEE 754 single.
    F32,
}

impl Element {
    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 => 4,
        }
    }

    /// Appends the bytes of `values`, which must be of this type, to `bytes`.
    pub fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::U8 => bytes.extend(values.iter().map(|&value| value as u8)),
            Self::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        }
    }

    /// The values that `bytes` stand for.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::U8 => bytes.iter().map(|&byte| f32::from(byte)).collect(),
            Self::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_the_same_bit_by_bit_when_they_come_back_from_bytes() {
        let floats = [0.0, -0.0, f32::from_bits(1), f32::MIN, f32::INFINITY, f32::from_bits(0xffc0_1234)];
        let bytes: Vec<f32> = (0..=u8::MAX).map(f32::from).collect();
        for (element, values) in [(Element::F32, &floats[..]), (Element::U8, &bytes)] {
            let mut encoded = vec![9];
            element.encode(values, &mut encoded);
            assert_eq!(encoded.len(), 1 + values.len() * element.size());
            let back = element.decode(&encoded[1..]);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back), bits(values));
        }
    }
}
