//! What is written leaves in order, once, and is charged for as long as it is kept.

use std::iter;

use proptest::{collection::vec, prelude::*};

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
    let mut output = Output::new(64);
    output.write(b"head");
    output.file(Arc::new(Vec::new()), 10, 5);
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

/// All that is left, as it would leave.
fn text_of_all(output: &mut Output) -> Vec<u8> {
    let mut all = Vec::new();
    while !output.is_empty() {
        let part = text(output);
        output.advance(part.len() as u64);
        all.extend(part);
    }
    all
}

/// Where the first of an output's bytes lie.
fn place(output: &Output) -> *const u8 {
    let mut slices = [IoSlice::new(&[])];
    output.gather(&mut slices);
    slices[0].as_ptr()
}

#[test]
fn what_is_written_is_lent_from_where_it_lies_whatever_its_size() {
    for size in [1, KEPT_TAIL, KEPT_TAIL + 1, 100_000] {
        let (mut output, mut lent) = (Output::new(1 << 20), Lent::new());
        output.write(&vec![b'x'; size]);
        let (charged, at) = (output.footprint(), place(&output));
        for round in 0..3 {
            output.lend(&mut lent);
            assert_eq!((place(&lent), lent.buffered()), (at, size), "round {round}");
            assert_eq!((output.buffered(), output.footprint()), (size, charged));
            assert!(output.is_lent() && !output.is_empty());
            output.take_back(&mut lent);
            assert_eq!((output.buffered(), output.footprint()), (size, charged));
            lent.clear();
        }
        output.lend(&mut lent);
        output.write(b"more");
        assert_eq!(place(&lent), at, "nothing that is written moves it");
        output.take_back(&mut lent);
        assert_eq!(text(&output), [&vec![b'x'; size][..], b"more"].concat());
        output.advance(size as u64 + 4);
        assert!(output.is_empty() && output.buffered() == 0);
    }
}

#[test]
fn what_was_lent_is_charged_until_it_comes_home_also_when_it_was_sent() {
    let (mut output, mut lent, mut next) = (Output::new(1 << 20), Lent::new(), Lent::new());
    output.send(vec![b'x'; 5000]);
    output.lend(&mut lent);
    output.advance(5000);
    assert!(output.is_empty() && !output.is_lent());
    assert_eq!((output.buffered(), output.footprint()), (0, 5000));
    // The next is lent before the last has come home.
    output.send(vec![b'y'; 700]);
    output.lend(&mut next);
    output.advance(100);
    output.take_back(&mut lent);
    assert_eq!((output.buffered(), output.footprint(), output.is_lent()), (600, 700, true));
    output.take_back(&mut next);
    assert_eq!((text(&output), output.footprint(), output.is_lent()), (vec![b'y'; 600], 700, false));
}

#[test]
fn a_small_answer_is_written_where_the_last_but_one_was() {
    let (mut output, mut lent) = (Output::new(1 << 20), Lent::new());
    let mut places = Vec::new();
    for _ in 0..6 {
        output.write(b"a small answer");
        places.push(place(&output));
        output.lend(&mut lent);
        output.advance(14);
        output.take_back(&mut lent);
        lent.clear();
    }
    assert_eq!(places[..4], places[2..], "nothing is allocated for an answer");
}

#[test]
fn no_more_is_lent_at_once_than_one_operation_takes_and_nothing_behind_a_file() {
    let (mut output, mut lent) = (Output::new(1 << 20), Lent::new());
    [300; lent::PIECES].iter().chain(&[4]).for_each(|&size| output.send(vec![0; size]));
    output.lend(&mut lent);
    assert_eq!((lent.buffered(), output.buffered()), (lent::PIECES * 300, lent::PIECES * 300 + 4));
    output.advance(300 * lent::PIECES as u64);
    output.take_back(&mut lent);
    lent.clear();
    output.file(Arc::new(Vec::new()), 10, 90);
    output.write(b"behind");
    output.lend(&mut lent);
    assert!(lent.has_file() && output.has_file());
    assert_eq!((lent.buffered(), output.buffered()), (4, 10));
    output.advance(4 + 20);
    assert!(output.has_file() && output.is_lent());
    assert_eq!(output.buffered(), 6, "a file counts nothing");
    output.take_back(&mut lent);
    let range = output.front_file().unwrap();
    assert_eq!((range.offset, range.len), (30, 70));
    output.advance(70);
    assert!(!output.has_file());
    assert_eq!(text(&output), b"behind");
}

#[test]
fn a_file_without_end_is_lent_behind_the_bytes_before_it() {
    let (mut output, mut lent) = (Output::new(1 << 20), Lent::new());
    output.write(&[1; 300]);
    output.file(Arc::new(Vec::new()), 0, u64::MAX);
    output.lend(&mut lent);
    output.advance(300);
    assert!(output.is_lent() && output.has_file());
    output.take_back(&mut lent);
    assert!(output.front_file().is_some_and(|range| range.offset == 0 && range.len > 1 << 62));
}

#[test]
fn what_is_handed_over_is_never_copied() {
    for size in [1, KEPT_TAIL, KEPT_TAIL + 1] {
        let (mut output, mut lent) = (Output::new(1 << 20), Lent::new());
        let given = Bytes::from(vec![b'x'; size]);
        output.hand_over(given.clone());
        assert_eq!(place(&output), given.as_ptr());
        output.lend(&mut lent);
        assert_eq!(place(&lent), given.as_ptr());
        output.advance(size as u64);
        assert!(!given.is_unique(), "it is lent");
        output.take_back(&mut lent);
        lent.clear();
        assert!(given.is_unique() && output.is_empty());
    }
}

proptest! {
    /// However it is lent, sent and given back, the same leaves as without, and nothing stays charged.
    #[test]
    fn what_is_lent_leaves_in_order_and_once(steps in vec((0..6u8, 0..700usize), 1..120)) {
        let (mut output, mut expected, mut left) = (Output::new(usize::MAX), Vec::new(), Vec::new());
        let mut lent: VecDeque<Box<Lent>> = VecDeque::new();
        let mut byte = 0u8;
        for (what, size) in steps {
            byte = byte.wrapping_add(1);
            match what {
                0 => output.write(&vec![byte; size]),
                1 => output.send(vec![byte; size]),
                2 => output.hand_over(vec![byte; size]),
                // The operation that was begun last moves some bytes; those before it have moved all of theirs.
                3 | 4 if output.is_lent() => {
                    let last = lent.back().unwrap();
                    let part = text(last);
                    let moved = output.loan.unsent.min(size as u64);
                    let from = part.len() - output.loan.unsent as usize;
                    left.extend_from_slice(&part[from..][..moved as usize]);
                    output.advance(moved);
                }
                3 | 4 if !output.is_empty() => {
                    let mut next = Lent::new();
                    output.lend(&mut next);
                    lent.push_back(next);
                }
                // Any of them comes home.
                _ if !lent.is_empty() => {
                    let mut home = lent.remove(size % lent.len()).unwrap();
                    output.take_back(&mut home);
                }
                _ => {}
            }
            if what < 3 { expected.extend(iter::repeat_n(byte, size)) }
            prop_assert_eq!(output.buffered(), expected.len() - left.len());
            prop_assert_eq!(output.is_empty(), expected.len() == left.len());
        }
        lent.iter_mut().for_each(|lent| output.take_back(lent));
        left.extend(text_of_all(&mut output));
        prop_assert!(left == expected);
        prop_assert!(output.footprint() <= KEPT_TAIL, "{} bytes stay charged", output.footprint());
    }
}

#[test]
fn small_chunks_gather_in_the_tail() {
    let meter = crate::budget::Meter::new(1 << 20);
    let mut output = Output::new(1 << 20);
    let (mut block, mut need) = (BytesMut::from(&b"one byte at a time"[..]), 0);
    let mut input = crate::input::Input::new(&mut block, 64, &mut need, &meter);
    while !input.is_empty() {
        output.forward(input.take(1).unwrap());
    }
    assert!(output.pieces.is_empty());
    assert_eq!((text(&output), meter.used()), (b"one byte at a time".to_vec(), 0));
}
