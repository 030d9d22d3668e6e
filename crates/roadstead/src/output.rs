//! What a connection has to say: an ordered list of pieces, sent from the front.
//!
//! Small writes gather in one growing tail; owned buffers, received chunks and file ranges are kept as they are and
//! never copied. A file range goes out without entering user space where the model can do that.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, fmt, fs::File, io::IoSlice, mem, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};

pub use crate::file::FileRange;
use crate::{chunk::Chunk, guard::Guarded};

/// A tail that is at most this large survives being sent, so that small answers allocate once per connection. What is
/// no larger is copied into the tail: as a piece of its own it would cost more than itself.
const KEPT_TAIL: usize = 256;

/// Pieces that are lent at most to one operation.
const LENT_PIECES: usize = 16;

/// The ordered pieces a connection still has to send.
#[derive(Debug)]
pub struct Output {
    pieces: VecDeque<Piece>,
    tail: BytesMut,
    /// The size of the buffer that the tail is a part of.
    tail_size: usize,
    /// Unsent bytes in `pieces` (not in `tail`); file ranges have none.
    held: usize,
    /// The sizes of the buffers in `pieces`, each counted whole until its last byte is sent.
    reserved: usize,
    files: usize,
    limit: usize,
    overflow: bool,
}

#[derive(Debug)]
enum Piece {
    /// Bytes that belong to nobody else but their owner, who may be the service's; and the size of the buffer they lie in.
    Bytes(Guarded<Bytes>, usize),
    /// A received buffer that is sent on.
    Chunk(Chunk),
    /// A part of a file.
    File(FileRange),
}

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            tail_size: 0,
            held: 0,
            reserved: 0,
            files: 0,
            limit,
            overflow: false,
        }
    }

    /// Copies `bytes` behind what is already there.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.fits(bytes.len()) {
            self.tail.extend_from_slice(bytes);
            self.tail_size = self.tail_size.max(self.tail.capacity());
        }
    }

    /// Sends an owned buffer, without a copy where it is large enough to be worth a piece of its own.
    pub fn send(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if bytes.len() <= KEPT_TAIL { self.write(&bytes) } else { self.hand_over(bytes) }
    }

    /// Sends an owned buffer without a copy also where one would be cheaper: for what must not be left behind in a buffer
    /// of the connection's, since its owner wipes it.
    pub fn hand_over(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if self.fits(bytes.len()) {
            let size = bytes.len();
            self.push(Piece::owned(bytes, size));
        }
    }

    /// Sends a received buffer on.
    pub fn forward(&mut self, chunk: Chunk) {
        if chunk.len() <= KEPT_TAIL {
            self.write(&chunk);
        } else if self.fits(chunk.len()) {
            self.push(Piece::Chunk(chunk));
        }
    }

    /// Sends `len` bytes of `file` from `offset` on. If the file proves shorter, the connection is closed: the peer
    /// was promised more than there is.
    ///
    /// Through a [layer](crate::layer), such as TLS, the range is read 64 KiB at a time by a call that blocks, in the
    /// thread that drives the connection. Where that is a loop, a file that the system has not in its cache keeps the
    /// loop's other connections waiting for the disk.
    pub fn file(&mut self, file: Arc<File>, offset: u64, len: u64) {
        if len > 0 {
            self.push(Piece::File(FileRange { file, offset, len }));
        }
    }

    /// How many bytes of memory wait to be sent. File ranges count nothing.
    pub fn buffered(&self) -> usize {
        self.held + self.tail.len()
    }

    /// How many more bytes may be written before the connection is closed for it.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.buffered())
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    /// Memory that the tail and the pieces keep from others, in bytes; received chunks are charged where they were taken.
    pub(crate) fn footprint(&self) -> usize {
        self.reserved + self.tail_size
    }

    /// Whether a file range waits, which may be of any length.
    pub(crate) fn has_file(&self) -> bool {
        self.files > 0
    }

    /// Whether something was written that did not fit. The connection is beyond saving then.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    /// The file range at the front, if that is what comes next.
    pub fn front_file(&self) -> Option<&FileRange> {
        match self.pieces.front() {
            Some(Piece::File(range)) => Some(range),
            _ => None,
        }
    }

    /// Fills `slices` with the bytes that come next, up to the first file range; answers how many it filled, and
    /// whether a file range follows.
    #[inline]
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, bool) {
        let mut filled = 0;
        for piece in &self.pieces {
            let bytes: &[u8] = match piece {
                Piece::Bytes(bytes, _) => bytes,
                Piece::Chunk(chunk) => chunk,
                Piece::File(_) => return (filled, true),
            };
            if filled == slices.len() {
                return (filled, false);
            }
            slices[filled] = IoSlice::new(bytes);
            filled += 1;
        }
        if !self.tail.is_empty() && filled < slices.len() {
            slices[filled] = IoSlice::new(&self.tail);
            filled += 1;
        }
        (filled, false)
    }

    /// An output that another lends to.
    pub(crate) fn for_lending() -> Box<Self> {
        Box::new(Self::new(usize::MAX))
    }

    /// Puts what comes next into `lent`, an empty output of its own that shares its pieces: an operation in flight must
    /// not see its bytes move, whatever is written behind them meanwhile. A tail that is worth a piece of its own becomes
    /// one, and only a small one is copied: a peer without room has the same bytes lent again and again.
    pub(crate) fn lend(&mut self, lent: &mut Self) {
        if self.tail.len() > KEPT_TAIL {
            self.seal_tail();
        }
        for piece in self.pieces.iter().take(LENT_PIECES) {
            let (piece, file) = match piece {
                Piece::Bytes(bytes, _) => (Piece::owned(Bytes::clone(bytes), 0), false),
                Piece::Chunk(chunk) => (Piece::owned(chunk.bytes.clone(), 0), false),
                Piece::File(range) => (Piece::File(range.clone()), true),
            };
            lent.push(piece);
            if file {
                return;
            }
        }
        if self.pieces.len() < LENT_PIECES {
            lent.write(&self.tail);
        }
    }

    /// Lets go of what was lent, but not of the room for so many pieces and a small answer.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        (self.held, self.reserved, self.files) = (0, 0, 0);
        self.release_tail();
    }

    /// The first of what comes next, if that is no file.
    pub(crate) fn front_bytes(&self) -> Bytes {
        match self.pieces.front() {
            Some(Piece::Bytes(bytes, _)) => Bytes::clone(bytes),
            Some(Piece::Chunk(chunk)) => chunk.bytes.clone(),
            _ => Bytes::copy_from_slice(&self.tail),
        }
    }

    /// Forgets the first `count` bytes: they have been sent.
    pub(crate) fn advance(&mut self, mut count: u64) {
        while let Some(piece) = self.pieces.front_mut() {
            let sent = count.min(piece.len());
            count -= sent;
            // A piece that lives in memory is never longer than a usize.
            let bytes = sent as usize;
            match piece {
                Piece::Bytes(piece, _) => {
                    piece.advance(bytes);
                    self.held -= bytes;
                }
                Piece::Chunk(chunk) => {
                    chunk.bytes.advance(bytes);
                    self.held -= bytes;
                }
                Piece::File(range) => {
                    range.offset += sent;
                    range.len -= sent;
                }
            }
            if piece.len() > 0 {
                return;
            }
            match self.pieces.pop_front() {
                Some(Piece::Bytes(_, size)) => self.reserved -= size,
                Some(Piece::File(_)) => self.files -= 1,
                _ => {}
            }
        }
        if count < self.tail.len() as u64 {
            self.tail.advance(count as usize);
        } else {
            self.release();
        }
    }

    fn release(&mut self) {
        self.release_tail();
        if self.pieces.capacity() > 0 {
            self.pieces = VecDeque::new();
        }
    }

    fn release_tail(&mut self) {
        if self.tail_size <= KEPT_TAIL {
            self.tail.clear();
        } else {
            self.tail = BytesMut::new();
            self.tail_size = 0;
        }
    }

    fn push(&mut self, piece: Piece) {
        if !self.tail.is_empty() {
            let (tail, size) = (mem::take(&mut self.tail).freeze(), mem::take(&mut self.tail_size));
            self.held += tail.len();
            self.reserved += size;
            self.pieces.push_back(Piece::owned(tail, size));
        }
        match &piece {
            Piece::Bytes(bytes, size) => {
                self.held += bytes.len();
                self.reserved += size;
            }
            Piece::Chunk(chunk) => self.held += chunk.len(),
            Piece::File(_) => self.files += 1,
        }
        self.pieces.push_back(piece);
    }

    /// What was written so far is a piece, and what follows begins another.
    fn seal_tail(&mut self) {
        let (tail, size) = (mem::take(&mut self.tail).freeze(), mem::take(&mut self.tail_size));
        self.held += tail.len();
        self.reserved += size;
        self.pieces.push_back(Piece::owned(tail, size));
    }

    fn fits(&mut self, more: usize) -> bool {
        self.overflow |= more > self.room();
        !self.overflow
    }
}

/// Writes text behind what is already there, without a string of its own. Never fails: like [`Output::write`] it
/// remembers what did not fit.
///
/// ```
/// use std::fmt::Write;
/// # use roadstead::Output;
/// fn answer(output: &mut Output, number: i64) {
///     let _ = write!(output, ":{number}\r\n");
/// }
/// ```
impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

impl Piece {
    fn owned(bytes: Bytes, size: usize) -> Self {
        Self::Bytes(Guarded::new(bytes), size)
    }

    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes, _) => bytes.len() as u64,
            Piece::Chunk(chunk) => chunk.len() as u64,
            Piece::File(range) => range.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let (count, _) = output.gather(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn pieces_leave_in_the_order_they_were_written() {
        let mut output = Output::new(4096);
        output.write(b"one ");
        output.send(vec![b'x'; 300]);
        output.write(b" two");
        assert_eq!(output.buffered(), 308);
        output.advance(3);
        assert_eq!(output.buffered(), 305);
        let expected = [b" ".as_slice(), &[b'x'; 300], b" two"].concat();
        assert_eq!(text(&output), expected);
        output.advance(305);
        assert!(output.is_empty());
        assert_eq!(output.buffered(), 0);
    }

    #[test]
    fn a_file_range_stands_between_the_bytes_around_it() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut output = Output::new(64);
        output.write(b"head");
        output.file(Arc::clone(&file), 10, 5);
        output.write(b"tail");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(output.gather(&mut slices), (1, true));
        output.advance(4 + 2);
        let range = output.front_file().unwrap();
        assert_eq!((range.offset, range.len), (12, 3));
        output.advance(3 + 1);
        assert_eq!(text(&output), b"ail");
    }

    #[test]
    fn text_is_written_like_bytes() {
        use fmt::Write;
        let mut output = Output::new(6);
        output.write(b":");
        write!(output, "{}\r\n", -42).unwrap();
        assert_eq!(text(&output), b":-42\r\n");
        write!(output, "{}", 1).unwrap();
        assert!(output.overflowed());
        assert_eq!(output.buffered(), 6);
    }

    #[test]
    fn the_limit_holds_at_its_edge_and_overflow_is_remembered() {
        let mut output = Output::new(10);
        output.write(&[0; 10]);
        assert!(!output.overflowed());
        assert_eq!(output.room(), 0);
        output.write(&[0]);
        assert!(output.overflowed());
        assert_eq!(output.buffered(), 10, "what did not fit is not kept");
    }

    #[test]
    fn a_sent_output_gives_its_memory_back() {
        let mut output = Output::new(1 << 20);
        output.write(&[0; 50_000]);
        output.advance(50_000);
        assert_eq!(output.footprint(), 0);
    }

    #[test]
    fn the_last_unsent_byte_of_a_buffer_is_charged_as_the_whole_buffer() {
        let mut output = Output::new(1 << 20);
        output.write(&[0; 50_000]);
        output.advance(49_999);
        assert!(output.footprint() >= 50_000, "{}", output.footprint());
        output.send(vec![0; 70_000]);
        output.advance(70_000);
        assert!((70_000..120_000).contains(&output.footprint()), "{}", output.footprint());
        output.advance(1);
        assert_eq!(output.footprint(), 0);
    }

    #[test]
    fn what_was_lent_is_let_go_of_and_its_room_is_kept() {
        let (mut output, mut lent) = (Output::new(1 << 20), Output::for_lending());
        let given = Bytes::from(vec![b'x'; 300]);
        output.send(given.clone());
        output.file(Arc::new(tempfile::tempfile().unwrap()), 0, 9);
        output.lend(&mut lent);
        assert!(lent.has_file() && text(&lent) == given);
        output.advance(300 + 9);
        assert!(!given.is_unique(), "it was lent");
        lent.clear();
        assert!(given.is_unique() && lent.is_empty() && !lent.has_file() && lent.buffered() == 0);
        output.write(&[0; KEPT_TAIL]);
        output.lend(&mut lent);
        assert_eq!(lent.buffered(), KEPT_TAIL);
        lent.clear();
        assert!(lent.tail.capacity() > 0 && lent.pieces.capacity() > 0);
        [300; LENT_PIECES].iter().chain(&[4]).for_each(|&size| output.send(vec![0; size]));
        output.lend(&mut lent);
        assert_eq!(lent.buffered(), KEPT_TAIL + 15 * 300);
    }

    #[test]
    fn what_is_lent_again_is_copied_only_if_it_is_small() {
        for (size, copied) in [(KEPT_TAIL, true), (KEPT_TAIL + 1, false), (100_000, false)] {
            let (mut output, mut lent) = (Output::new(1 << 20), Output::for_lending());
            output.write(&vec![b'x'; size]);
            let charged = output.footprint();
            let place = |output: &Output| {
                let mut slices = [IoSlice::new(&[])];
                output.gather(&mut slices);
                (slices[0].as_ptr(), slices[0].len())
            };
            for _ in 0..3 {
                output.lend(&mut lent);
                assert_eq!((lent.buffered(), output.footprint()), (size, charged));
                assert_eq!(place(&lent) != place(&output), copied, "{size}");
                lent.clear();
            }
            output.write(b"more");
            assert_eq!(text(&output), [&vec![b'x'; size][..], b"more"].concat());
            output.advance(size as u64 + 4);
            assert!(output.is_empty() && output.buffered() == 0);
        }
    }

    #[test]
    fn what_is_handed_over_is_never_copied() {
        for size in [1, KEPT_TAIL, KEPT_TAIL + 1] {
            let (mut output, mut lent) = (Output::new(1 << 20), Output::for_lending());
            let given = Bytes::from(vec![b'x'; size]);
            output.hand_over(given.clone());
            output.lend(&mut lent);
            for output in [&output, &lent] {
                let mut slices = [IoSlice::new(&[])];
                output.gather(&mut slices);
                assert_eq!((slices[0].as_ptr(), slices[0].len()), (given.as_ptr(), size));
            }
            lent.clear();
            output.advance(size as u64);
            assert!(given.is_unique() && output.is_empty());
        }
    }

    #[test]
    fn small_chunks_gather_in_the_tail() {
        let meter = crate::budget::Meter::new(1 << 20);
        let mut output = Output::new(1 << 20);
        let (mut block, mut need) = (BytesMut::from(&b"one byte at a time"[..]), 0);
        let mut input = crate::Input::new(&mut block, 64, &mut need, &meter);
        while !input.is_empty() {
            output.forward(input.take(1).unwrap());
        }
        assert!(output.pieces.is_empty());
        assert_eq!((text(&output), meter.used()), (b"one byte at a time".to_vec(), 0));
    }
}
