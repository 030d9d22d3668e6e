//! What a connection has to say: an ordered list of pieces, sent from the front.
//!
//! Small writes gather in one growing tail; owned buffers, received chunks and file ranges are kept as they are and
//! never copied. A file range goes out without entering user space where the model can do that.
#![forbid(unsafe_code)]

mod lent;
mod loan;
mod spared;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt, io::IoSlice, mem, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};

pub use crate::blob::FileRange;
use crate::{blob::Blob, budget::give_back, chunk::Chunk, guard::Guarded};
pub use lent::Lent;
use loan::Loan;

/// A tail that is at most this large survives being sent, so that small answers allocate once per connection. What is
/// no larger is copied into the tail: as a piece of its own it would cost more than itself.
pub(crate) const KEPT_TAIL: usize = 256;

/// The ordered pieces a connection still has to send.
#[derive(Debug)]
pub struct Output {
    pieces: VecDeque<Piece>,
    tail: BytesMut,
    /// The size of the buffer that the tail is a part of.
    tail_size: usize,
    /// What is lent counts here as well: unsent bytes in `pieces` (not in `tail`); file ranges have none.
    held: usize,
    /// The sizes of the buffers in `pieces`, each counted whole until its last byte is sent, and it is not lent.
    reserved: usize,
    files: usize,
    /// What operations work on by themselves comes before all that is here.
    loan: Loan,
    limit: usize,
    overflow: bool,
    /// Nothing may be written any more.
    closed: bool,
    /// No more is to be sent at once.
    allowed: usize,
}

#[derive(Debug)]
enum Piece {
    /// Bytes that belong to nobody else but their owner, who may be the service's; and the size of the buffer they lie
    /// in.
    Bytes(Guarded<Bytes>, usize),
    /// A received buffer that is sent on.
    Chunk(Chunk),
    /// A part of a file.
    File(FileRange),
}

impl Output {
    /// An empty output that takes at most `limit` bytes.
    #[doc(hidden)]
    pub fn new(limit: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            tail_size: 0,
            held: 0,
            reserved: 0,
            files: 0,
            loan: Loan::default(),
            limit,
            overflow: false,
            closed: false,
            allowed: usize::MAX,
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

    /// Sends an owned buffer without a copy also where one would be cheaper: for what must not be left behind in a
    /// buffer of the connection's, since its owner wipes it.
    pub fn hand_over(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if self.fits(bytes.len()) && !bytes.is_empty() {
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
    /// The system sends its own files without a copy. What is none, and every file that goes through a
    /// [layer](crate::layer), such as TLS, is read 64 KiB at a time. Where the system reads its files by an operation, as
    /// io_uring and POSIX AIO do, nobody waits for that. Elsewhere it is a call that blocks, in the thread that drives
    /// the connection: in a loop a file that the system has not in its cache keeps the other connections waiting for
    /// the disk.
    pub fn file(&mut self, file: Arc<dyn Blob>, offset: u64, len: u64) {
        self.overflow |= self.closed && len > 0;
        if len > 0 && !self.overflow {
            self.push(Piece::File(FileRange::new(file, offset, len)));
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

    /// Has no more than so many bytes, which are not none, sent at once.
    pub(crate) fn allow(&mut self, bytes: u64) {
        self.allowed = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.cut_file();
    }

    /// Cuts a file that comes first where no more of it is to be sent at once.
    fn cut_file(&mut self) {
        let bytes = self.allowed as u64;
        if let Some(Piece::File(range)) = self.pieces.front_mut()
            && range.len > bytes
        {
            let mut first = range.clone();
            first.len = bytes;
            range.offset += bytes;
            range.len -= bytes;
            self.files += 1;
            self.pieces.push_front(Piece::File(first));
        }
    }

    /// Takes nothing more: what is written from now on does not fit.
    pub(crate) fn close(&mut self) {
        self.limit = 0;
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.held == 0 && self.tail.is_empty() && self.files == 0
    }

    /// Memory that the tail and the pieces keep from others, in bytes; received chunks are charged where they were
    /// taken.
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

    /// The file range at the front of what is not lent, if that is what comes next.
    pub fn front_file(&self) -> Option<&FileRange> {
        match self.pieces.front() {
            Some(Piece::File(range)) => Some(range),
            _ => None,
        }
    }

    /// All that waits and may be sent at once, if it lies in one place.
    #[inline]
    pub fn whole(&self) -> Option<&[u8]> {
        self.pieces.is_empty().then(|| &self.tail[..self.tail.len().min(self.allowed)])
    }

    /// Fills `slices` with the bytes that come next and may be sent at once, up to the first file range; answers how
    /// many it filled, and whether a file range follows.
    #[inline]
    pub fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, bool) {
        let (mut filled, mut allowed) = (0, self.allowed);
        for piece in &self.pieces {
            let bytes: &[u8] = match piece {
                Piece::Bytes(bytes, _) => bytes,
                Piece::Chunk(chunk) => chunk,
                Piece::File(_) => return (filled, true),
            };
            if filled == slices.len() || allowed == 0 {
                return (filled, false);
            }
            let bytes = &bytes[..bytes.len().min(allowed)];
            allowed -= bytes.len();
            slices[filled] = IoSlice::new(bytes);
            filled += 1;
        }
        let tail = &self.tail[..self.tail.len().min(allowed)];
        if !tail.is_empty() && filled < slices.len() {
            slices[filled] = IoSlice::new(tail);
            filled += 1;
        }
        (filled, false)
    }

    /// The first of what comes next, if that is no file; of what was written a [`BLOCK`](crate::flight::BLOCK) at most,
    /// which is copied.
    #[doc(hidden)]
    pub fn front_bytes(&self) -> Bytes {
        let bytes = match self.pieces.front() {
            Some(Piece::Bytes(bytes, _)) => bytes,
            Some(Piece::Chunk(chunk)) => &chunk.bytes,
            _ => {
                let most = self.allowed.min(crate::flight::BLOCK);
                return Bytes::copy_from_slice(&self.tail[..self.tail.len().min(most)]);
            }
        };
        bytes.slice(..bytes.len().min(self.allowed))
    }

    /// Forgets the first `count` bytes: they have been sent.
    #[doc(hidden)]
    pub fn advance(&mut self, mut count: u64) {
        if self.is_lent() {
            return self.advance_lent(count);
        }
        while let Some(piece) = self.pieces.front_mut() {
            let sent = count.min(piece.len());
            count -= sent;
            // A piece that lives in memory is never longer than a usize.
            let bytes = sent as usize;
            match piece {
                Piece::Bytes(piece, _) => {
                    piece.advance(bytes);
                    give_back(&mut self.held, bytes);
                }
                Piece::Chunk(chunk) => {
                    chunk.bytes.advance(bytes);
                    give_back(&mut self.held, bytes);
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
                Some(Piece::Bytes(_, size)) => give_back(&mut self.reserved, size),
                Some(Piece::File(_)) => give_back(&mut self.files, 1),
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
            self.seal_tail();
        }
        self.count(&piece);
        self.pieces.push_back(piece);
    }

    fn count(&mut self, piece: &Piece) {
        match piece {
            Piece::Bytes(bytes, size) => {
                self.held += bytes.len();
                self.reserved += size;
            }
            Piece::Chunk(chunk) => self.held += chunk.len(),
            Piece::File(_) => self.files += 1,
        }
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
/// # use roadstead_proto as roadstead;
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
