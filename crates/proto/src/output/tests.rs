//! What is written leaves in order, once, and is charged for as long as it is kept.

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

#[test]
fn what_was_lent_is_let_go_of_and_its_room_is_kept() {
    let (mut output, mut lent) = (Output::new(1 << 20), Output::for_lending());
    let given = Bytes::from(vec![b'x'; 300]);
    output.send(given.clone());
    output.file(Arc::new(Vec::new()), 0, 9);
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
    let mut input = crate::input::Input::new(&mut block, 64, &mut need, &meter);
    while !input.is_empty() {
        output.forward(input.take(1).unwrap());
    }
    assert!(output.pieces.is_empty());
    assert_eq!((text(&output), meter.used()), (b"one byte at a time".to_vec(), 0));
}
