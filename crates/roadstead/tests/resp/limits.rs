//! Requests read however they are cut, and what is refused: below, at and above each limit.

use proptest::{collection::vec, prelude::*};

use crate::{
    answer::Answer,
    command::Command,
    request::{ARGUMENTS, INLINE, Malformed, Parsed, REQUEST, parse},
    resp::{check, encode},
    store::Store,
};

/// What is right in another place.
const SCRAPS: &[&[u8]] =
    &[b"*", b"$", b"\r\n", b"\r", b"*3\r\n", b"$0\r\n\r\n", b"PING x\n", b"-1", b"99999999"];

/// Pieces of requests, right and wrong, in any order.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        vec(vec(any::<u8>(), 0..40), 0..5).prop_map(|arguments| encode(&arguments)),
        prop::sample::select(SCRAPS).prop_map(<[u8]>::to_vec),
    ]
}

proptest! {
    #[test]
    fn every_input_is_judged_once_and_for_all(fragments in vec(fragment(), 0..8)) {
        check(&fragments.concat());
    }

    #[test]
    fn what_was_written_is_read(arguments in vec(vec(any::<u8>(), 0..3_000), 0..ARGUMENTS + 1)) {
        let wire = encode(&arguments);
        let Ok(Parsed::Request(request)) = parse(&wire) else { panic!("no request") };
        prop_assert_eq!(request.arguments, arguments);
        check(&wire);
    }
}

fn is_read(wire: &[u8]) -> bool {
    matches!(parse(wire), Ok(Parsed::Request(request)) if request.len == wire.len())
}

#[test]
fn a_request_has_at_most_so_many_bytes() {
    let of = |len: usize| encode(&[vec![b'x'; len - encode(&[vec![0; 100_000]]).len() + 100_000]]);
    assert!(is_read(&of(REQUEST - 1)));
    assert!(is_read(&of(REQUEST)));
    let above = of(REQUEST + 1);
    assert_eq!(parse(&above), Err(Malformed::TooLarge));
    assert_eq!(parse(&above[..20]), Err(Malformed::TooLarge), "before any of it is kept");
    // The second argument does not fit, however little of it has come.
    let two = encode(&[vec![0; REQUEST / 2], vec![0; REQUEST / 2]]);
    assert_eq!(parse(&two[..REQUEST / 2 + 40]), Err(Malformed::TooLarge));
}

#[test]
fn a_request_has_at_most_so_many_arguments() {
    for (count, read) in [(0, true), (ARGUMENTS - 1, true), (ARGUMENTS, true), (ARGUMENTS + 1, false)] {
        assert_eq!(is_read(&encode(&vec!["a"; count])), read, "{count}");
        assert_eq!(is_read(&[" a".repeat(count).as_bytes(), b"\r\n"].concat()), read, "{count} inline");
    }
    assert_eq!(parse(b"*65\r\n"), Err(Malformed::TooMany));
}

#[test]
fn an_inline_request_has_at_most_so_many_bytes() {
    let line = |len: usize| [&vec![b'x'; len - 1][..], b"\n"].concat();
    assert!(is_read(&line(INLINE - 1)));
    assert!(is_read(&line(INLINE)));
    assert_eq!(parse(&line(INLINE + 1)), Err(Malformed::LongLine));
    assert_eq!(parse(&[b'x'; INLINE - 1]), Ok(Parsed::Need(INLINE)));
    assert_eq!(parse(&[b'x'; INLINE]), Err(Malformed::LongLine));
}

#[test]
fn what_is_no_request_is_called_by_its_fault() {
    for (wire, fault) in [
        (&b"*x"[..], Malformed::NoLength),
        (b"*-1\r\n", Malformed::NoLength),
        (b"*\r\n", Malformed::NoLength),
        (b"*1\r$", Malformed::NoLength),
        (b"*12345678", Malformed::NoLength),
        (b"*1\r\nPING", Malformed::NoType(b'$')),
        (b"*1\r\n$4\r\nPINGS", Malformed::NoEnd),
        (b"*1\r\n$4\r\nPING\n", Malformed::NoEnd),
    ] {
        assert_eq!(parse(wire), Err(fault), "{}", wire.escape_ascii());
    }
}

#[test]
fn the_store_holds_what_it_may_and_says_when_it_is_full() {
    let mut store = Store::new(1_000);
    let mut run = |line: &str| {
        let arguments: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        Command::read(&arguments).unwrap().run(&mut store)
    };
    let full = |answer: &Answer| matches!(answer, Answer::Error(text) if text.starts_with("OOM "));
    // An entry costs 256 bytes and its own.
    let fits = "v".repeat(1_000 - 256 - 1);
    assert_eq!(run(&format!("SET k {}", &fits[1..])), Answer::Simple("OK"));
    assert_eq!(run(&format!("SET k {fits}")), Answer::Simple("OK"));
    assert!(full(&run(&format!("SET k {fits}v"))));
    assert_eq!(run("GET k"), Answer::Bulk(fits.into()), "what was there stays");
    assert!(full(&run("SET l v")) && full(&run("INCR n")));
    assert_eq!(run("DEL k l"), Answer::Integer(1));
    assert_eq!(run("INCR n"), Answer::Integer(1), "what was deleted makes room");
}

#[test]
fn a_number_is_incremented_up_to_the_greatest() {
    let mut store = Store::new(1_000);
    let mut run = |arguments: [&str; 3]| {
        let arguments: Vec<_> =
            arguments.iter().filter(|text| !text.is_empty()).map(|text| text.as_bytes()).collect();
        Command::read(&arguments).unwrap().run(&mut store)
    };
    assert_eq!(run(["incr", "n", ""]), Answer::Integer(1));
    run(["SET", "n", &(i64::MAX - 1).to_string()]);
    assert_eq!(run(["INCR", "n", ""]), Answer::Integer(i64::MAX));
    assert!(matches!(run(["INCR", "n", ""]), Answer::Error(_)));
    run(["SET", "n", "four"]);
    assert!(matches!(run(["INCR", "n", ""]), Answer::Error(_)));
    assert_eq!(run(["GET", "n", ""]), Answer::Bulk("four".into()), "what is no number stays");
}
