//! What the bytes of a journal are: its head, and the heads of its records. No I/O.
#![forbid(unsafe_code)]

/// The most that one call of [`Journal::append`](super::Journal::append) writes, with the heads of its records: 8 MiB.
/// Nothing longer is durable in one piece, and so nothing longer can be torn.
pub const BATCH: usize = 8 << 20;

const MAGIC: [u8; 4] = *b"RDSJ";
const VERSION: u32 = 1;

/// Bytes of a journal before its first record.
pub(crate) const START: u64 = 20;
/// Bytes of a record before its payload.
pub(crate) const HEAD: usize = 16;

/// How large a journal may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest record, in bytes. Default 64 KiB; more than [`BATCH`] has room for cannot be appended.
    pub record: usize,
    /// The file, in bytes. Default 64 MiB.
    pub file: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { record: 64 << 10, file: 64 << 20 }
    }
}

/// The head of a journal.
pub(crate) fn start(salt: u64) -> [u8; START as usize] {
    let mut head = [0; START as usize];
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&VERSION.to_le_bytes());
    head[8..16].copy_from_slice(&salt.to_le_bytes());
    let checksum = crc32fast::hash(&head[..16]);
    head[16..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// What a file begins with, if not with the head of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unlike {
    /// Something else.
    Foreign,
    /// The head of another version.
    Version(u32),
    /// A head that was damaged.
    Damaged,
}

/// The salt of the journal that begins with these bytes.
pub(crate) fn salt(head: &[u8; START as usize]) -> Result<u64, Unlike> {
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[..4] != MAGIC {
        Err(Unlike::Foreign)
    } else if crc32fast::hash(&head[..16]) != number(16) {
        Err(Unlike::Damaged)
    } else if number(4) != VERSION {
        Err(Unlike::Version(number(4)))
    } else {
        Ok(u64::from(number(8)) | u64::from(number(12)) << 32)
    }
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of the payload.
    pub(crate) length: u32,
    /// How many bytes before the record its batch begins.
    pub(crate) back: u32,
    checksum: u32,
}

impl Head {
    /// Of a record with this payload, which begins `back` bytes behind the beginning of its batch.
    ///
    /// Both fit: a batch has no more than [`BATCH`] bytes.
    pub(crate) fn new(payload: &[u8], back: usize) -> Self {
        Self { length: payload.len() as u32, back: back as u32, checksum: crc32fast::hash(payload) }
    }

    /// As it is written at `offset` of the journal with this salt.
    pub(crate) fn bytes(&self, offset: u64, salt: u64) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.back.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = checksum(&bytes, offset, salt);
        bytes[12..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The head that these bytes are, if they were written as one at `offset` of the journal with this salt.
    pub(crate) fn parse(bytes: &[u8; HEAD], offset: u64, salt: u64) -> Option<Self> {
        let [l0, l1, l2, l3, b0, b1, b2, b3, c0, c1, c2, c3, own @ ..] = *bytes;
        let head = Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            back: u32::from_le_bytes([b0, b1, b2, b3]),
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
        };
        let is_whole = checksum(bytes, offset, salt) == u32::from_le_bytes(own);
        (is_whole && offset.checked_sub(head.back.into()).is_some_and(|begin| begin >= START)).then_some(head)
    }

    /// Whether that is the payload.
    pub(crate) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.length) && crc32fast::hash(payload) == self.checksum
    }
}

fn checksum(head: &[u8; HEAD], offset: u64, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&head[..HEAD - 4]);
    hasher.finalize()
}

/// Appends a record to `batch`, whose first byte will be at `begin` of the journal with this salt.
pub(crate) fn encode(batch: &mut Vec<u8>, payload: &[u8], begin: u64, salt: u64) {
    let head = Head::new(payload, batch.len());
    batch.extend_from_slice(&head.bytes(begin + batch.len() as u64, salt));
    batch.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of a record that was written only itself is read, only at its place, and only in its journal.
        #[test]
        fn a_record_is_read_where_it_was_written_and_nowhere_else(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            before in 0..1000usize, begin in START..1 << 40, salt: u64,
            bit in 0..8 * (HEAD + 100), away in 1..1000u64,
        ) {
            let mut batch = vec![0; before];
            encode(&mut batch, &payload, begin, salt);
            let (head, body) = batch[before..].split_first_chunk::<HEAD>().unwrap();
            let at = begin + before as u64;
            let parsed = Head::parse(head, at, salt).unwrap();
            prop_assert_eq!(parsed, Head::new(&payload, before));
            prop_assert!(parsed.fits(body) && !parsed.fits(&[body, b"\0"].concat()));
            prop_assert_eq!(Head::parse(head, at + away, salt), None);
            prop_assert_eq!(Head::parse(head, at, salt ^ away), None);

            let mut changed = batch.split_off(before);
            let bit = bit % (8 * changed.len());
            changed[bit / 8] ^= 1 << (bit % 8);
            let (head, body) = changed.split_first_chunk::<HEAD>().unwrap();
            prop_assert!(Head::parse(head, at, salt).is_none_or(|head| !head.fits(body)));
        }

        #[test]
        fn a_head_is_read_back_unless_a_bit_has_changed(number: u64, bit in 0..8 * START as usize) {
            let mut head = start(number);
            prop_assert_eq!(salt(&head), Ok(number));
            head[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(salt(&head).is_err());
        }
    }

    #[test]
    fn another_version_says_which() {
        let mut head = start(7);
        head[4] = 2;
        assert_eq!(salt(&head), Err(Unlike::Damaged));
        let checksum = crc32fast::hash(&head[..16]);
        head[16..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(salt(&head), Err(Unlike::Version(2)));
        assert_eq!(salt(b"GET / HTTP/1.1\r\n\r\n--"), Err(Unlike::Foreign));
    }

    #[test]
    fn a_batch_may_not_begin_before_the_first_record() {
        let head = Head::new(b"", 1);
        assert_eq!(Head::parse(&head.bytes(START, 7), START, 7), None);
        assert_eq!(Head::parse(&head.bytes(START + 1, 7), START + 1, 7), Some(head));
    }
}
