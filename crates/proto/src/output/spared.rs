//! The buffer of an output's tail, where it is the loop's: taken for what is large, given back when that has left.
#![forbid(unsafe_code)]

use std::mem;

use bytes::BytesMut;

use super::{KEPT_TAIL, Output, Piece};
use crate::spare::Spare;

impl Output {
    /// Has what is written next gather in the loop's buffer, unless there is one already.
    pub(crate) fn borrow_tail(&mut self, spare: &mut Spare) {
        if self.tail_size == 0 {
            self.tail = spare.take(0);
            self.tail_size = self.tail.capacity();
        }
    }

    /// An empty buffer with room for so many bytes, for [`Output::append`]: its own if that has it, or the loop's.
    pub(crate) fn take_room(&mut self, room: usize, spare: &mut Spare) -> BytesMut {
        if self.tail.is_empty() && self.tail_size >= room {
            self.tail_size = 0;
            mem::take(&mut self.tail)
        } else {
            spare.take(room)
        }
    }

    /// Sends what is in `written` behind what is already there.
    pub(crate) fn append(&mut self, written: BytesMut) {
        let size = written.capacity();
        if self.tail.is_empty() {
            (self.tail, self.tail_size) = (written, size);
        } else {
            self.push(Piece::owned(written.freeze(), size));
        }
    }

    /// Like [`Output::advance`]. If that was all, the loop has its buffer back.
    #[inline]
    pub(crate) fn advance_into(&mut self, count: u64, spare: &mut Spare) {
        let is_tail = self.pieces.capacity() == 0 && count == self.tail.len() as u64 && !self.is_lent();
        match is_tail {
            true if self.tail_size <= KEPT_TAIL => self.tail.clear(),
            true => self.give_tail(spare),
            false => self.advance(count),
        }
    }

    /// Gives the loop its buffer back if only a few bytes are in it, which move to one of their own.
    #[inline]
    pub(crate) fn tighten(&mut self, spare: &mut Spare) {
        if self.tail_size > KEPT_TAIL {
            self.keep_few(spare);
        }
    }

    fn keep_few(&mut self, spare: &mut Spare) {
        if self.tail.len() < self.tail_size / 4 {
            let few = BytesMut::from(&self.tail[..]);
            self.give_tail(spare);
            self.tail_size = few.capacity();
            self.tail = few;
        }
    }

    fn give_tail(&mut self, spare: &mut Spare) {
        spare.put(mem::take(&mut self.tail), mem::take(&mut self.tail_size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop's buffer, of this size.
    fn spare(size: usize) -> Spare {
        let mut spare = Spare::default();
        let buffer = spare.take(size);
        spare.put(buffer, size);
        spare
    }

    /// How large the buffer is that the loop has now.
    fn size(spare: &mut Spare) -> usize {
        let buffer = spare.take(0);
        let size = buffer.capacity();
        spare.put(buffer, size);
        size
    }

    #[test]
    fn a_borrowed_buffer_comes_back_with_the_last_byte_and_not_before() {
        let (mut spare, mut output) = (spare(4096), Output::new(1 << 20));
        output.borrow_tail(&mut spare);
        output.write(&[7; 3000]);
        assert_eq!((size(&mut spare), output.footprint()), (0, 4096));
        output.advance_into(2999, &mut spare);
        assert_eq!((size(&mut spare), output.buffered()), (0, 1));
        output.advance_into(1, &mut spare);
        assert_eq!((size(&mut spare), output.footprint()), (4096, 0));
        assert!(output.is_empty());
    }

    #[test]
    fn what_stays_behind_is_charged_with_what_it_keeps_and_keeps_no_large_buffer() {
        for (written, left) in [(0, 0), (1, 1), (1023, 1023), (1024, 4096)] {
            let (mut spare, mut output) = (spare(4096), Output::new(1 << 20));
            output.borrow_tail(&mut spare);
            output.write(&vec![7; written]);
            output.tighten(&mut spare);
            assert_eq!((output.footprint(), output.buffered()), (left, written));
            assert_eq!(size(&mut spare), if left == 4096 { 0 } else { 4096 });
        }
    }

    #[test]
    fn what_is_appended_comes_after_what_was_written() {
        let (mut spare, mut output) = (spare(4096), Output::new(1 << 20));
        let take = |output: &mut Output, spare: &mut Spare, byte: u8| {
            let mut room = output.take_room(300, spare);
            assert!(room.is_empty() && room.capacity() >= 300);
            room.extend_from_slice(&[byte; 300]);
            output.append(room);
        };
        // There is room behind these, which is not to be had.
        output.borrow_tail(&mut spare);
        output.write(&[1; 10]);
        take(&mut output, &mut spare, 2);
        take(&mut output, &mut spare, 3);
        output.write(&[4; 10]);
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let (count, _) = output.gather(&mut slices);
        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(all, [vec![1; 10], vec![2; 300], vec![3; 300], vec![4; 10]].concat());
    }
}
