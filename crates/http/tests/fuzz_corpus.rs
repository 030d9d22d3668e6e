//! The inputs of the fuzz target, and that it can fail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/properties/http.rs"]
mod http;

use corpus::Corpus;
use roadstead_http::Status;

fn http() -> Corpus {
    let seed = |name: &str, piece: u8, text: String| (name.to_owned(), [&[piece], text.as_bytes()].concat());
    let put = |fields: &str, body: &str| format!("PUT /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}");
    let get = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = |body: &str| put("Transfer-Encoding: chunked\r\n", body);
    let seeds = vec![
        seed("pipeline", 6, put("Content-Length: 3\r\n", "abc") + get + get),
        seed("chunked", 0, chunked("3\r\nabc\r\n10;a=b\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n") + get),
        seed("chunk-too-long", 2, chunked("2\r\nabc\r\n0\r\n\r\n") + get),
        seed("chunk-bare-line-feed", 2, chunked("3\nabc\r\n0\r\n\r\n")),
        seed("chunk-endless-line", 9, chunked(&"0".repeat(300))),
        seed("chunk-endless-trailer", 99, chunked(&("0\r\n".to_owned() + &"a: b\r\n".repeat(800)))),
        seed("two-lengths", 4, put("Content-Length: 3\r\nContent-Length: 3\r\n", "abc")),
        seed(
            "length-and-coding",
            4,
            put("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") + get,
        ),
        seed(
            "coding-of-the-older",
            4,
            "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        seed("folded", 4, put("a: b\r\n c\r\n", "")),
        seed("waits", 4, put("Expect: 100-continue\r\nContent-Length: 1\r\n", "a")),
        seed("cut", 1, put("Content-Length: 18446744073709551615\r\n", "abc")),
    ];
    Corpus { target: "http", seeds, check: http::check }
}

#[test]
fn the_corpus_holds() {
    http().replay(12);
}

#[test]
#[ignore = "writes the seeds"]
fn write_the_corpus() {
    http().write();
}

/// Of what each seed is for, so that none of them is read for another reason than it seems.
#[test]
fn the_seeds_are_what_they_are_called() {
    let heard: Vec<_> = http().seeds.iter().map(|(_, bytes)| http::listen(&bytes[1..], 7)).collect();
    let verdict = |at: usize| (heard[at].0.len(), heard[at].1);
    assert_eq!((verdict(0), verdict(1)), ((3, None), (2, None)));
    assert_eq!(heard[0].0[0], ("PUT /a true".to_owned(), b"abc".to_vec()));
    assert_eq!(heard[1].0[0].1, b"abc0123456789abcdef");
    for at in 2..6 {
        assert_eq!(verdict(at), (1, Some(Status::BAD_REQUEST)), "{at}");
    }
    for at in 6..10 {
        assert_eq!(verdict(at), (0, Some(Status::BAD_REQUEST)), "{at}");
    }
    assert_eq!((verdict(10), verdict(11)), ((1, None), (1, None)));
}
