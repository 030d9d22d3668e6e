//! Zero shares: what makes three answers add up to the result and each of them alone random.
//!
//! Every pair of servers shares a key. For each client session the pair derives a mask key from it, bound to the
//! manifest, the operation, the protocol and the fresh nonces of all three servers; the mask is AES-CTR over (counter,
//! block). The nonces change with every connection and restart and the counter with every request, so no mask is ever
//! used twice, and nothing has to be remembered on disk.
//!
//! Modulo p a mask element is 31 bits of the stream. The one value in 2^31 that is p itself is replaced from a second
//! stream (top bit of the block number set) until it is below p: exactly uniform, and element `i` depends on `i` alone.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::digest::Digest;
use super::field::{P, add, sub};
use super::prg::Block;

pub use super::prg::Nonce;

/// A key that two servers share.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PairKey([u8; PairKey::BYTES]);

impl PairKey {
    /// Bytes of a key.
    pub const BYTES: usize = 32;

    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = Self([0; Self::BYTES]);
        rng.fill_bytes(&mut key.0);
        key
    }

    /// The key that these bytes are.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        Self(*bytes)
    }

    /// The bytes of the key, for the file of a server.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for PairKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PairKey").finish_non_exhaustive()
    }
}

/// The two keys that a server holds.
#[derive(Clone, Debug)]
pub struct PairKeys {
    /// Shared with the next server.
    pub next: PairKey,
    /// Shared with the previous server.
    pub previous: PairKey,
}

/// What a mask is for. Operation and protocol are part of the mask key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `fetch` with XOR-shared records.
    FetchDirect,
    /// `search` by an exact scan.
    SearchScan,
}

impl Purpose {
    /// (operation, protocol) as they enter the mask key.
    fn codes(self) -> [u8; 2] {
        match self {
            Self::FetchDirect => [1, 1],
            Self::SearchScan => [2, 1],
        }
    }
}

/// One server's masks for one client session and one purpose.
pub struct Masks {
    next: Stream,
    previous: Stream,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks").finish_non_exhaustive()
    }
}

impl Masks {
    /// Derives the masks of a server with `keys` for the session with these nonces (of servers 1, 2, 3).
    pub fn new(keys: &PairKeys, digest: &Digest, purpose: Purpose, nonces: &[Nonce; 3]) -> Self {
        let stream = |key: &PairKey| Stream::new(key, digest, purpose, nonces);
        Self { next: stream(&keys.next), previous: stream(&keys.previous) }
    }

    /// XORs the zero share of request `counter` onto `answer`.
    pub fn xor(&self, counter: u64, answer: &mut [u8]) {
        for stream in [&self.next, &self.previous] {
            stream.blocks(counter, 0, answer.len().div_ceil(16), |at, blocks| {
                for (bytes, mask) in answer[at * 16..].iter_mut().zip(blocks.as_flattened()) {
                    *bytes ^= mask;
                }
            });
        }
    }

    /// Adds elements `first..` of the zero share of request `counter` to `elements`, modulo p.
    pub fn add(&self, counter: u64, first: u64, elements: &mut [u32]) {
        self.next.elements(counter, first, elements, add);
        self.previous.elements(counter, first, elements, sub);
    }
}

/// What makes blocks of a stream out of their numbers: AES, but for tests, which make it give what AES hardly ever
/// does.
trait Cipher {
    fn encrypt(&self, blocks: &mut [Block]);
}

impl Cipher for Aes128 {
    #[inline]
    fn encrypt(&self, blocks: &mut [Block]) {
        self.encrypt_blocks(blocks);
    }
}

struct Stream<C = Aes128>(C);

/// Blocks in one call of the cipher: enough to fill its pipeline, small enough for the stack.
const BATCH: usize = 64;
/// Words of 32 bits in a block.
const WORDS: u64 = 4;
/// Marks the block numbers from which elements are drawn again.
const REDRAW: u64 = 1 << 63;

impl Stream {
    fn new(key: &PairKey, digest: &Digest, purpose: Purpose, nonces: &[Nonce; 3]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.0);
        hasher.update(b"roadstead trident mask v1");
        hasher.update(&digest.0);
        hasher.update(&purpose.codes());
        hasher.update(nonces.as_flattened());
        let mut key = Zeroizing::new([0; 16]);
        hasher.finalize_xof().fill(&mut *key);
        hasher.zeroize();
        Self(Aes128::new((&*key).into()))
    }
}

impl<C: Cipher> Stream<C> {
    /// Calls `each` with the position, counted from the first, and the contents of successive runs of blocks.
    fn blocks(&self, counter: u64, first: u64, count: usize, mut each: impl FnMut(usize, &[[u8; 16]])) {
        let mut input = [Block::default(); BATCH];
        let mut output = [[0; 16]; BATCH];
        for start in (0..count).step_by(BATCH) {
            let length = BATCH.min(count - start);
            for (at, block) in input[..length].iter_mut().enumerate() {
                let number = first + (start + at) as u64;
                *block = (u128::from(counter) | u128::from(number) << 64).to_le_bytes().into();
            }
            self.0.encrypt(&mut input[..length]);
            for (output, input) in output.iter_mut().zip(&input[..length]) {
                *output = (*input).into();
            }
            each(start, &output[..length]);
        }
        input.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
        output.zeroize();
    }

    /// Combines elements `first..` of the stream into `elements`.
    fn elements(&self, counter: u64, first: u64, elements: &mut [u32], combine: impl Fn(u32, u32) -> u32) {
        let skipped = (first % WORDS) as usize;
        let count = (skipped + elements.len()).div_ceil(WORDS as usize);
        self.blocks(counter, first / WORDS, count, |at, blocks| {
            let mut words = [0; BATCH * WORDS as usize];
            for (word, bytes) in words.iter_mut().zip(blocks.as_flattened().as_chunks().0) {
                *word = u32::from_le_bytes(*bytes) & P;
            }
            let from = (at * WORDS as usize).saturating_sub(skipped);
            let words = if at == 0 { &mut words[skipped..] } else { &mut words[..] };
            let taken = words.len().min(elements.len() - from);
            self.redraw(counter, first + from as u64, &mut words[..taken]);
            for (element, word) in elements[from..].iter_mut().zip(words) {
                *element = combine(*element, *word);
            }
        });
    }

    /// Replaces the words that are p itself.
    fn redraw(&self, counter: u64, first: u64, words: &mut [u32]) {
        // One look at all of them, without a branch for each: nearly always there is nothing to do.
        if !words.iter().fold(false, |any, &word| any | (word == P)) {
            return;
        }
        for (at, word) in words.iter_mut().enumerate().filter(|(_, word)| **word == P) {
            let mut block = Block::default();
            let mut input = u128::from(counter) | u128::from(REDRAW | (first + at as u64)) << 64;
            while *word == P {
                block = (u128::from_le_bytes(block.into()) ^ input).to_le_bytes().into();
                self.0.encrypt(std::slice::from_mut(&mut block));
                *word = u128::from_le_bytes(block.into()) as u32 & P;
                input = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::HashSet,
    };

    use super::*;

    /// Gives p as the first word of every block, no block like another, and fails when it is asked for one twice.
    struct Once {
        asked: RefCell<HashSet<Block>>,
        /// How often an element is drawn again until it is below p.
        again: usize,
        redraws: Cell<usize>,
    }

    impl Cipher for Once {
        fn encrypt(&self, blocks: &mut [Block]) {
            let redraw = blocks.len() == 1;
            self.redraws.set(self.redraws.get() + usize::from(redraw));
            let done = self.again == 0 || redraw && self.redraws.get().is_multiple_of(self.again);
            for block in blocks {
                assert!(self.asked.borrow_mut().insert(*block), "a block of the stream is used twice");
                let number = self.asked.borrow().len() as u128;
                let word = if done { 7 } else { P };
                *block = (number << 64 | u128::from(word)).to_le_bytes().into();
            }
        }
    }

    /// Whichever elements of whichever requests are drawn again, and however often: a block that made one element of a
    /// mask is never asked for another.
    #[test]
    fn no_block_of_a_stream_is_used_twice_whatever_is_drawn_again() {
        for again in 0..4 {
            let stream = Stream(Once { asked: RefCell::default(), again, redraws: Cell::new(0) });
            for counter in [1, 2, 3, 1 << 32, (1 << 63) | 1, u64::MAX] {
                // As the answers to searches of several blocks of rows are masked.
                for first in [0, 512, 1_024] {
                    let mut elements = vec![0; 512];
                    stream.elements(counter, first, &mut elements, add);
                    assert!(elements.iter().all(|&element| element < P));
                }
            }
            // One word in four of each block is p.
            assert_eq!(stream.0.redraws.get(), 6 * 3 * 512 / 4 * again);
        }
    }

    #[test]
    fn an_element_that_is_p_is_drawn_again_alike_wherever_it_is_met() {
        let stream = Stream::new(&PairKey([3; 32]), &Digest([4; 32]), Purpose::SearchScan, &[[5; 16]; 3]);
        let mut words = [P, 7, P];
        stream.redraw(9, 100, &mut words);
        assert!(words[0] < P && words[2] < P && words[0] != words[2]);
        assert_eq!(words[1], 7);
        let mut alone = [P];
        stream.redraw(9, 102, &mut alone);
        assert_eq!(alone[0], words[2]);
    }

    #[test]
    fn elements_depend_on_their_position_only() {
        let stream = Stream::new(&PairKey([3; 32]), &Digest([4; 32]), Purpose::SearchScan, &[[5; 16]; 3]);
        let mut whole = vec![0; 1_000];
        stream.elements(1, 0, &mut whole, add);
        for (first, length) in
            [(0, 1), (1, 1), (3, 2), (5, 700), (255, 300), (256, 256), (257, 743), (999, 1)]
        {
            let mut part = vec![0; length];
            stream.elements(1, first as u64, &mut part, add);
            assert_eq!(part, whole[first..first + length], "{first}..{}", first + length);
        }
    }

    #[test]
    fn every_byte_of_an_answer_of_any_length_is_masked() {
        let keys = PairKeys { next: PairKey([3; 32]), previous: PairKey([4; 32]) };
        let masks = Masks::new(&keys, &Digest([4; 32]), Purpose::FetchDirect, &[[5; 16]; 3]);
        let whole = {
            let mut whole = [0; 3_000];
            masks.xor(7, &mut whole);
            whole
        };
        assert!(whole.as_chunks::<8>().0.iter().all(|bytes| *bytes != [0; 8]));
        for length in [1, 8, 15, 16, 17, 31, 1_023, 1_024, 1_025, 1_039, 2_047, 2_999] {
            let mut answer = vec![0; length];
            masks.xor(7, &mut answer);
            assert_eq!(answer, whole[..length], "{length}");
        }
    }

    #[test]
    fn every_element_of_a_search_is_masked_wherever_it_begins_and_ends() {
        let keys = PairKeys { next: PairKey([3; 32]), previous: PairKey([4; 32]) };
        let masks = Masks::new(&keys, &Digest([4; 32]), Purpose::SearchScan, &[[5; 16]; 3]);
        let mut whole = [0; 1_100];
        masks.add(7, 0, &mut whole);
        for (first, length) in [(0, 1), (0, 1_023), (1, 1_024), (1_023, 2), (1_024, 76), (1_099, 1)] {
            let mut elements = vec![P - 1; length];
            masks.add(7, first as u64, &mut elements);
            let wanted: Vec<u32> =
                whole[first..first + length].iter().map(|&mask| add(mask, P - 1)).collect();
            assert_eq!(elements, wanted, "{first}, {length}");
        }
    }
}
