//! Fixed-key AES as the pseudo-random generator and hash of the DPF tree.
//!
//! With public fixed keys the key schedule is paid once and blocks pipeline; feeding the input forward
//! (`AES_K(s) ^ s`, Matyas-Meyer-Oseas) makes it one-way (Guo, Katz, Wang, Yu: "Efficient and secure multiparty
//! computation from fixed-key block ciphers").

use std::sync::LazyLock;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// One AES block, used as seed and as output.
pub type Block = aes::Block;

/// The independent functions of the tree and its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Seed of the left child.
    Left,
    /// Seed of the right child.
    Right,
    /// The 128 bits that a leaf stands for.
    Leaf,
    /// The field elements that a leaf stands for.
    Elements,
}

static CIPHERS: LazyLock<[Aes128; 4]> = LazyLock::new(|| {
    // Nothing-up-my-sleeve: the keys are the hash of a sentence that says what they are for.
    let digest = |direction: &str| {
        blake3::derive_key("roadstead trident 1-bit dpf fixed aes key v1", direction.as_bytes())
    };
    ["left", "right", "leaf", "elements"].map(|direction| {
        let mut key = [0; 16];
        key.copy_from_slice(&digest(direction)[..16]);
        Aes128::new(&key.into())
    })
});

/// Replaces every block `s` by `AES(s) ^ s` under the key of `direction`.
pub fn expand(direction: Direction, seeds: &mut [Block]) {
    const BATCH: usize = 32;
    let cipher = &CIPHERS[direction as usize];
    let mut output = [Block::default(); BATCH];
    for seeds in seeds.chunks_mut(BATCH) {
        let output = &mut output[..seeds.len()];
        output.copy_from_slice(seeds);
        cipher.encrypt_blocks(output);
        for (seed, out) in seeds.iter_mut().zip(output) {
            *seed = xor(seed, out);
        }
    }
}

/// `a ^ b`.
#[inline]
pub fn xor(a: &Block, b: &Block) -> Block {
    (u128::from_ne_bytes((*a).into()) ^ u128::from_ne_bytes((*b).into())).to_ne_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_equals_single_blocks_and_directions_differ() {
        let seeds: Vec<Block> = (0..77u8).map(|i| [i; 16].into()).collect();
        let mut outputs = Vec::new();
        for direction in [Direction::Left, Direction::Right, Direction::Leaf, Direction::Elements] {
            let mut batch = seeds.clone();
            expand(direction, &mut batch);
            for (seed, out) in seeds.iter().zip(&batch) {
                let mut one = *seed;
                CIPHERS[direction as usize].encrypt_block(&mut one);
                assert_eq!(xor(&one, seed), *out);
            }
            outputs.push(batch);
        }
        assert_ne!(outputs[0], outputs[1]);
        assert_ne!(outputs[1], outputs[2]);
        assert_ne!(outputs[2], outputs[3]);
    }
}
