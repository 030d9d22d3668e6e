//! Plays the fuzz corpora of the engine: what holds for every input holds for these on any toolchain.
//!
//! `cargo test -p roadstead --test fuzz_corpus -- --ignored` writes the seeds anew.

#[path = "../../../fuzz/properties/address.rs"]
mod address;
#[path = "../../../fuzz/properties/connection.rs"]
mod connection;
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/properties/frame.rs"]
mod frame;
#[path = "../../../fuzz/properties/journal.rs"]
mod journal;
#[path = "../../../fuzz/properties/layer.rs"]
mod layer;
#[path = "../../../fuzz/properties/link.rs"]
mod link;
#[path = "../../../fuzz/properties/mirror.rs"]
mod mirror;
#[path = "../../../fuzz/properties/network.rs"]
mod network;
#[path = "../examples/resp/request.rs"]
mod request;
#[path = "../../../fuzz/properties/resp.rs"]
mod resp;

use corpus::Corpus;
use roadstead::{Frame, frame::Fields};

/// Seeds of simulated networks: a kind one, a gentle one and two harsh ones.
const NETWORKS: [u64; 4] = [0, 1, 2, 3];

fn encode(kind: u8, fields: &Fields, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind, fields, body);
    wire
}

fn every_type() -> Vec<u8> {
    encode(9, &Fields::new().number(1, u64::MAX).bytes(2, b"\xff\0").text(3, "Reede"), b"cargo")
}

fn frames() -> Corpus {
    let mut version = every_type();
    version[4] = 2;
    frame::seal(&mut version);
    let twice = Fields::new().number(1, 1).number(1, 2);
    let seeds = [
        ("empty", encode(0, &Fields::new(), b"")),
        ("every-type", every_type()),
        ("many-fields", encode(1, &(0..20).fold(Fields::new(), |fields, key| fields.number(key, 1)), b"")),
        ("body-at-limit", encode(2, &Fields::new(), &[7; 64])),
        ("body-above-limit", encode(2, &Fields::new(), &[7; 65])),
        ("key-twice", encode(3, &twice, b"")),
        ("no-text", encode(4, &Fields::new().bytes(1, b"\xff"), b"")),
        ("two-stuck-together", [every_type(), every_type()].concat()),
        ("cut", every_type()[..40].to_vec()),
        ("head-cut", every_type()[..9].to_vec()),
        ("version", version),
        ("no-frame", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    let seeds = seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    Corpus { target: "frame", seeds, check: frame::check }
}

fn connections() -> Corpus {
    let input =
        |stream: &[u8], events: &[u8]| [&(stream.len() as u16).to_le_bytes()[..], stream, events].concat();
    let some = |which: u8| which | 9 << 3;
    let much = |which: u8| which | 31 << 3;
    let (few, many) = (every_type(), encode(5, &Fields::new(), &[5; 512]).repeat(8));
    let seeds = [
        ("silent", input(b"", &[much(4); 2])),
        ("ping-pong", input(&few.repeat(4), &[some(1), much(3)].repeat(8))),
        ("byte-by-byte", input(&few, &[0, 2].repeat(50))),
        (
            "flooded",
            input(&many, &[&[much(1); 9][..], &[much(2); 9], &[much(1), much(3)].repeat(9)].concat()),
        ),
        ("half-closed", input(&few, &[much(1), some(5), much(3), much(5)])),
        ("no-frame", input(&[&few[..], b"noise"].concat(), &[much(1), much(3), much(0), some(4)])),
        ("draining", input(&few, &[much(1), 7, much(3), some(4)])),
        ("reset", input(&few, &[much(1), 7 | 1 << 3])),
    ];
    let seeds = seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    Corpus { target: "connection", seeds, check: connection::check }
}

fn networks() -> Corpus {
    let streams = [
        ("silent", Vec::new()),
        ("frames", every_type().repeat(40)),
        ("noise", [&every_type()[..], b"noise"].concat()),
        ("cut", [&every_type()[..], &every_type()[..30]].concat()),
        ("large", encode(5, &Fields::new(), &[5; 512]).repeat(8)),
    ];
    // Each stream in kind, gentle and harsh networks.
    let seeds = streams.iter().flat_map(|(name, stream)| {
        NETWORKS.map(|network| (format!("{name}-{network}"), [&network.to_le_bytes()[..], stream].concat()))
    });
    Corpus { target: "network", seeds: seeds.collect(), check: network::check }
}

/// What members say: their name, parts of messages, confirmations.
fn links() -> Corpus {
    let say = |kind: u8, body: &[u8]| [&[kind][..], &(body.len() as u16).to_le_bytes(), body].concat();
    let hello = say(1, &[&[1, 1, 2, 4, 0][..], &(1u64 << 20).to_le_bytes()].concat());
    let part = |query: u8, length: u32, offset: u32, count: usize| {
        let numbers = [length.to_le_bytes(), offset.to_le_bytes()].concat();
        say(2, &[&[query; 20][..], &numbers, &vec![7; count]].concat())
    };
    let credit = |received: u64, taken: u64| say(3, &[received.to_le_bytes(), taken.to_le_bytes()].concat());
    const PART: usize = 16 << 10;
    let large = [part(2, 40_000, 0, PART), part(3, 5, 0, 5), part(2, 40_000, PART as u32, PART)].concat();
    let seeds = [
        ("silent", Vec::new()),
        ("hello", hello.clone()),
        ("small", [&hello[..], &part(1, 5, 0, 5), &part(1, 5, 0, 5), &part(2, 0, 0, 0)].concat()),
        ("interleaved", [&hello[..], &large, &part(2, 40_000, 2 * PART as u32, 40_000 - 2 * PART)].concat()),
        ("unfinished", [&hello[..], &large].concat()),
        ("begun-twice", [&hello[..], &large, &large].concat()),
        ("too-large", [&hello[..], &part(1, 100_001, 0, PART)].concat()),
        ("endless", [&hello[..], &part(1, 40_000, PART as u32, PART)].concat()),
        (
            "too-many",
            [hello.clone(), (0..9).flat_map(|query| part(query, 100_000, 0, PART)).collect()].concat(),
        ),
        ("confirmed", [&hello[..], &credit(0, 0), &credit(1, 0)].concat()),
        ("nameless", [part(1, 5, 0, 5), credit(0, 0)].concat()),
        ("unknown", [&hello[..], &say(9, b"?")].concat()),
    ];
    let seeds = seeds.map(|(name, bytes)| (name.to_owned(), [&[4][..], &bytes].concat())).into();
    Corpus { target: "link", seeds, check: link::check }
}

/// What happens to the bytes between our TLS and a peer's, on both sides.
fn layers() -> Corpus {
    let [deliver, send, say, settle, end, rekey, flip, lose, turn, repeat, make_up, cut, wait] =
        [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13].map(|which| move |amount: u8| which << 4 | amount);
    let raw = |bytes: &[u8]| [&[make_up(0), bytes.len() as u8][..], bytes].concat();
    let hello =
        [&raw(&[22, 3, 1, 0, 4, 1, 0, 255, 255])[..], &raw(&[22, 3, 1, 0, 1, 0].repeat(40)).repeat(60)];
    let talk = [settle(0), say(12), settle(0), say(3), send(15), settle(0)];
    // Damage done to what is under way after the handshake.
    let damaged = |event: u8| [settle(0), say(14), event, settle(0), say(5), settle(0)].to_vec();
    let seeds = [
        ("silent", vec![]),
        ("talk", talk.to_vec()),
        ("ends", [&talk[..], &[say(9), end(0), settle(0)]].concat()),
        ("byte-by-byte", [deliver(0), send(0)].repeat(3000)),
        ("before-the-handshake", vec![say(10), settle(0), end(0)]),
        ("large", [&[settle(0)][..], &[say(15); 8], &[deliver(10), send(13)].repeat(40)].concat()),
        ("new-keys", [&[settle(0)][..], &[rekey(0), say(4), settle(0)].repeat(8)].concat()),
        ("endless-new-keys", [&[settle(0)][..], &[rekey(0), deliver(15)].repeat(40)].concat()),
        ("never-taken", [&[settle(0)][..], &[say(15), deliver(15)].repeat(20)].concat()),
        ("flipped", damaged(flip(8))),
        ("lost", damaged(lose(5))),
        ("turned", damaged(turn(7))),
        ("repeated", damaged(repeat(14))),
        ("cut", damaged(cut(0))),
        ("flipped-hello", vec![flip(4), settle(0)]),
        ("cut-hello", vec![deliver(6), cut(0), settle(0)]),
        ("slow-hello", [deliver(0), wait(1)].repeat(12)),
        ("noise", [raw(b"GET / HTTP/1.1\r\n\r\n"), vec![deliver(15), settle(0)]].concat()),
        ("endless-hello", [&[lose(15)][..], &hello.concat(), &[deliver(15); 4]].concat()),
        ("drained", vec![settle(0), say(15), 14 << 4 | 1, settle(0)]),
        ("drained-in-the-handshake", vec![deliver(15), 14 << 4 | 1, settle(0)]),
        ("cut-while-drained", vec![settle(0), say(0), settle(0), 14 << 4 | 1, say(5), cut(0)]),
        ("reset", vec![settle(0), say(15), deliver(8), 14 << 4]),
        ("finishes", vec![settle(0), 15 << 4, say(3), settle(0), say(3), end(0), settle(0)]),
        ("finishes-when-cut", vec![settle(0), 15 << 4, say(3), deliver(15), send(15), cut(0), settle(0)]),
    ];
    let seeds = seeds.iter().flat_map(|(name, events)| {
        ["server", "client"]
            .iter()
            .zip(0..)
            .map(move |(side, us)| (format!("{name}-{side}"), [&[us][..], events].concat()))
    });
    Corpus { target: "layer", seeds: seeds.collect(), check: layer::check }
}

/// What is found for a log.
fn journals() -> Corpus {
    let heads = |said: &[(u32, u32)]| {
        let said = said.iter().flat_map(|(length, back)| [length.to_le_bytes(), back.to_le_bytes()].concat());
        [&[journal::HEADS][..], &said.collect::<Vec<_>>()].concat()
    };
    // Two batches of two, one of one, and one of three.
    let batches = b"\x83one\x03two\x85three\x00\x04four\x81a\x81b\x09something";
    let changed =
        |edits: &[[u8; 4]]| [&[journal::CHANGES, edits.len() as u8][..], &edits.concat(), batches].concat();
    let seeds = [
        ("nothing", vec![0]),
        ("no-log", b"\0#!/bin/sh\n".to_vec()),
        ("zeros", vec![0; 200]),
        ("heads", heads(&[(3, 0), (0, 19), (300, 0)])),
        ("large", heads(&[(3, 0), (301, 0), (3, 0)])),
        ("endless", heads(&[(3, 0), (u32::MAX, 0)])),
        ("batch-before-the-beginning", heads(&[(3, 0), (3, 1000)])),
        ("batch-of-all", heads(&[(3, 0), (3, 19), (3, u32::MAX), (1000, 0)])),
        ("whole", changed(&[])),
        ("cut", changed(&[[150, 0, 0, 0]])),
        ("torn", changed(&[[100, 0, 0, 1]])),
        ("hole", changed(&[[40, 0, 16, 2]])),
        ("hole-in-the-last-batch", changed(&[[110, 0, 10, 2]])),
        ("flipped", changed(&[[2, 0, 64, 3], [120, 0, 1, 3]])),
    ];
    let seeds = seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    Corpus { target: "journal", seeds, check: journal::check }
}

/// Requests of RESP2, as clients of Redis send them, and what is none.
fn requests() -> Corpus {
    let ping = resp::encode(&["PING"]);
    let set = resp::encode(&["SET", "port", "Reede"]);
    let many = vec!["a"; request::ARGUMENTS + 1];
    let seeds = [
        ("ping", ping.clone()),
        ("pipelined", [&set[..], &ping, b"PING\r\n", &set].concat()),
        ("inline", b"  SET port \t Reede \n\r\n".to_vec()),
        ("empty", b"*0\r\n".to_vec()),
        ("empty-arguments", resp::encode(&[""; 3])),
        ("binary", resp::encode(&[b"ECHO", &b"*1\r\n$-"[..]])),
        ("cut", set[..set.len() - 1].to_vec()),
        ("head-cut", b"*3\r\n$3".to_vec()),
        ("arguments-at-limit", resp::encode(&many[1..])),
        ("arguments-above-limit", resp::encode(&many)),
        ("too-large", b"*2\r\n$0\r\n\r\n$262144\r\n".to_vec()),
        ("long-line", vec![b'a'; request::INLINE]),
        ("negative", b"*-1\r\n".to_vec()),
        ("no-end", b"*1\r\n$4\r\nPINGS".to_vec()),
    ];
    let seeds = seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    Corpus { target: "resp", seeds, check: resp::check }
}

/// Addresses as they are written, and names that are none.
fn addresses() -> Corpus {
    let long = format!("unix:@{}", "n".repeat(108));
    let seeds = [
        ("ipv4", "127.0.0.1:7007"),
        ("ipv6", "[::1]:7007"),
        ("path", "unix:/run/name.sock"),
        ("relative", "unix:@/../name"),
        ("abstract", r"unix:@name\x00\x2c\\"),
        ("at", r"unix:\x40name"),
        ("empty", "unix:"),
        ("zero", r"unix:/run\x00"),
        ("escape", r"unix:@\x4"),
        ("at-limit", &long[..long.len() - 1]),
        ("above-limit", &long),
        ("signs", "@\u{202e},\\\n\u{1b}[31m"),
    ];
    let seeds = seeds.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
    Corpus { target: "address", seeds, check: address::check }
}

#[test]
fn addresses_are_read_as_they_are_shown() {
    addresses().replay(12);
}

#[test]
fn a_log_is_read_as_it_was_written_or_not_at_all() {
    journals().replay(14);
}

#[test]
fn requests_are_judged_as_every_input_is() {
    requests().replay(14);
}

#[test]
fn nothing_that_happens_to_sealed_bytes_changes_what_is_read() {
    layers().replay(51);
}

#[test]
fn a_link_believes_nothing_that_it_should_not() {
    links().replay(12);
}

#[test]
fn frames_are_judged_as_every_input_is() {
    frames().replay(12);
}

#[test]
fn a_connection_keeps_its_contract_under_every_input() {
    connections().replay(8);
}

#[test]
fn no_network_changes_what_a_session_reads() {
    networks().replay(20);
}

#[test]
#[ignore = "writes the seeds instead of testing them"]
fn write_the_seeds() {
    addresses().write();
    frames().write();
    connections().write();
    networks().write();
    links().write();
    layers().write();
    requests().write();
    journals().write();
}
