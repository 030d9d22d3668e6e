//! AES as the pseudo-random generator and hash of the selection trees, under keys that belong to three connections.
//!
//! The key schedules are paid once and blocks pipeline; feeding the input forward (`AES_K(s) ^ s`, Matyas-Meyer-Oseas)
//! makes it one-way (Guo, Katz, Wang, Yu: "Efficient and secure multiparty computation from fixed-key block ciphers").
//! The keys are no secret from the servers. They follow from the manifest and from the fresh nonces of the three
//! connections, so that work spent against the trees of some connections is worth nothing against those of others, as
//! it would be under keys that are the same everywhere (Guo, Katz, Wang, Weng, Yu: "Better concrete security for
//! half-gates garbling (in the multi-instance setting)").

use std::fmt;

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::optimization_barrier;

use super::digest::Digest;

/// Random bytes that a server issues for one connection.
pub type Nonce = [u8; 16];

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

/// The functions that grow the trees of all questions on three connections.
pub struct Expander([Aes128Enc; 4]);

impl Expander {
    /// The functions for a sharing and the nonces of servers 1, 2, 3.
    pub fn new(digest: &Digest, nonces: &[Nonce; 3]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("roadstead trident selection tree aes keys v2");
        hasher.update(&digest.0);
        hasher.update(nonces.as_flattened());
        let mut keys = [[0; 16]; 4];
        hasher.finalize_xof().fill(keys.as_flattened_mut());
        Self(keys.map(|key| Aes128Enc::new(&key.into())))
    }

    /// Replaces every block `s` by `AES(s) ^ s` under the key of `direction`.
    pub fn expand(&self, direction: Direction, seeds: &mut [Block]) {
        // Whoever makes keys has two seeds at a time, and would clean up after many. The widest vectors take 64; where
        // there are more, several such calls would each spread the round keys over the vectors anew.
        match seeds.len() {
            0..=2 => self.expand_by::<2>(direction, seeds),
            3..=64 => self.expand_by::<64>(direction, seeds),
            _ => self.expand_by::<384>(direction, seeds),
        }
    }

    /// So many blocks in one call of the cipher.
    fn expand_by<const BATCH: usize>(&self, direction: Direction, seeds: &mut [Block]) {
        let cipher = &self.0[direction as usize];
        let mut output = [Block::default(); BATCH];
        for seeds in seeds.chunks_mut(BATCH) {
            let output = &mut output[..seeds.len()];
            output.copy_from_slice(seeds);
            cipher.encrypt_blocks(output);
            for (seed, out) in seeds.iter_mut().zip(output) {
                *seed = xor(seed, out);
            }
        }
        output = [Block::default(); BATCH];
        optimization_barrier(&output);
    }
}

impl fmt::Debug for Expander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expander").finish_non_exhaustive()
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

    const DIRECTIONS: [Direction; 4] =
        [Direction::Left, Direction::Right, Direction::Leaf, Direction::Elements];

    #[test]
    fn a_batch_equals_single_blocks() {
        let expander = Expander::new(&Digest([1; 32]), &[[2; 16]; 3]);
        let seeds: Vec<Block> = (0..777u32).map(|i| u128::from(i).to_le_bytes().into()).collect();
        for (direction, count) in DIRECTIONS
            .into_iter()
            .flat_map(|direction| [1, 2, 3, 64, 65, 777].map(|count| (direction, count)))
        {
            let mut batch = seeds[..count].to_vec();
            expander.expand(direction, &mut batch);
            for (seed, out) in seeds.iter().zip(&batch) {
                let mut one = *seed;
                expander.0[direction as usize].encrypt_block(&mut one);
                assert_eq!(xor(&one, seed), *out);
            }
        }
    }

    #[test]
    fn every_function_is_another_with_another_sharing_or_another_nonce_of_any_server() {
        let mut nonces = [[[2; 16]; 3]; 4];
        (0..3).for_each(|server| nonces[server][server] = [3; 16]);
        let mut expanders: Vec<_> =
            nonces.iter().map(|nonces| Expander::new(&Digest([1; 32]), nonces)).collect();
        expanders.push(Expander::new(&Digest([4; 32]), &nonces[3]));
        let outputs = expanders.iter().flat_map(|expander| {
            DIRECTIONS.map(|direction| {
                let mut block = [Block::default()];
                expander.expand(direction, &mut block);
                block[0]
            })
        });
        let mut outputs: Vec<Block> = outputs.collect();
        outputs.sort();
        outputs.dedup();
        assert_eq!(outputs.len(), 5 * DIRECTIONS.len());
    }
}
