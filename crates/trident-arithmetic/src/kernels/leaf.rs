//! A leaf of a selector as it comes from the cipher.

use crate::{lines::WORDS, prg::Block};

/// Two words in each block.
pub(crate) type Leaf = [Block; WORDS / 2];

/// The words of a leaf before they are reduced.
#[inline(always)]
pub(crate) fn words_of(leaf: &Leaf, words: &mut [u64; WORDS]) {
    for (words, block) in words.as_chunks_mut::<2>().0.iter_mut().zip(leaf) {
        let block = u128::from_le_bytes((*block).into());
        *words = [block as u64, (block >> 64) as u64];
    }
}
