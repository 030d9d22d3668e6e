//! A server's admin, as who asks it sees it: on a connection that no loop drives.
//!
//! `cargo test -p roadstead-services --test admin -- --ignored` writes the seeds of the fuzz target anew.
#![allow(clippy::unwrap_used, dead_code)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the corpus is in files")]

#[path = "../../../fuzz/properties/admin.rs"]
mod admin;
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};

use admin::{answers, converse};
use corpus::Corpus;
use roadstead_proto::{
    Budget, Observer,
    budget::Refused,
    host::{Host, Shared},
    stats::Refusal,
};
use roadstead_services::admin::{About, Admin, Format, Kind};

/// A question, with these fields beside its host.
fn ask(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// The status lines of the answers to `asked`.
fn lines(asked: &str) -> Vec<String> {
    answers(&converse(asked.as_bytes(), usize::MAX).0).into_iter().map(|line| line[9..].to_owned()).collect()
}

#[test]
fn what_is_asked_is_answered_in_order_and_the_connection_stays_until_one_of_both_says_otherwise() {
    let asked =
        ask("GET /healthz", "") + &ask("GET /nowhere", "") + &ask("POST /metrics", "") + &ask("BREW /", "");
    let expected = ["200 OK", "404 Not Found", "405 Method Not Allowed", "501 Not Implemented"];
    assert_eq!(lines(&asked), expected);
    assert!(!converse(asked.as_bytes(), 7).1, "it stays open");
    let closed = asked.clone() + &ask("GET /readyz", "Connection: close\r\n") + &ask("GET /metrics", "");
    assert_eq!(lines(&closed)[4..], ["200 OK"]);
    assert!(converse(closed.as_bytes(), 7).1);
    let old = "GET /readyz HTTP/1.0\r\n\r\n".to_owned() + &asked;
    assert_eq!(lines(&old), ["200 OK"]);
}

#[test]
fn what_is_no_question_is_answered_and_ends_the_connection() {
    let long = ask("GET /", &format!("x: {}\r\n", "y".repeat(9000)));
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(9000));
    for (asked, answer) in [
        ("nonsense\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/3.0\r\n\r\n", "505 HTTP Version Not Supported"),
        (&ask("GET /", "Content-Length: 3\r\n"), "413 Content Too Large"),
        (&ask("GET /", "Transfer-Encoding: chunked\r\n"), "413 Content Too Large"),
        (&ask("GET /", "Transfer-Encoding: gzip\r\n"), "501 Not Implemented"),
        ("GET / HTTP/1.1\r\nHost: x\n\r\n", "400 Bad Request"),
        (&long, "431 Request Header Fields Too Large"),
        (&target, "414 URI Too Long"),
    ] {
        let asked = asked.to_owned() + &ask("GET /healthz", "");
        assert_eq!(lines(&asked), [answer]);
        assert!(converse(asked.as_bytes(), 100).1, "{answer}");
    }
}

#[test]
fn a_head_is_that_of_the_whole_answer_and_says_what_comes_how() {
    let whole = converse(ask("GET /metrics", "").as_bytes(), usize::MAX).0;
    let head = converse(ask("HEAD /metrics", "").as_bytes(), usize::MAX).0;
    assert!(whole.starts_with(&head) && head.ends_with("\r\n\r\n") && whole.len() > head.len());
    let expected = [
        "HTTP/1.1 200 OK",
        "Date: Tue, 14 Nov 2023 22:13:20 GMT",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        &format!("Content-Length: {}", whole.len() - head.len()),
        "Cache-Control: no-store",
        "Vary: Accept",
        "",
        "",
    ];
    assert_eq!(head.split("\r\n").collect::<Vec<_>>(), expected);
    let open =
        converse(ask("GET /metrics", "Accept: application/openmetrics-text\r\n").as_bytes(), usize::MAX).0;
    assert!(
        open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")
    );
    assert!(open.ends_with("# EOF\n") && !whole.contains("# EOF"));
    let refused = converse(ask("PUT /metrics", "").as_bytes(), usize::MAX).0;
    assert!(refused.contains("\r\nAllow: GET, HEAD\r\n"));
}

/// The samples of a server whose loops share this, with what else is shown.
fn samples(shared: &Arc<Shared>) -> BTreeMap<String, String> {
    let about = About { version: "1".into(), model: "epoll".into(), service: "echo".into() };
    let admin = Admin::new(Observer::new(shared), about, |text| text.one(Kind::Gauge, "also", "Also.", 5));
    let text = admin.metrics(Format::OpenMetrics, Duration::from_millis(1500));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn every_count_is_under_its_name_once_and_nothing_else_is() {
    let shared = Shared::new(Budget::default().connections(11).per_address(12).buffer_all(13).jobs(14));
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let count = &mut host.count;
    let numbers = [
        &mut count.accepted,
        &mut count.connected,
        &mut count.finished,
        &mut count.violations,
        &mut count.late,
        &mut count.too_large,
        &mut count.stopped,
        &mut count.broken,
        &mut count.late_first_byte,
        &mut count.late_idle,
        &mut count.late_slowest,
        &mut count.late_linger,
        &mut count.late_connect,
        &mut count.bytes_in,
        &mut count.bytes_out,
        &mut count.receives,
        &mut count.sends,
        &mut count.datagrams_in,
        &mut count.datagrams_truncated,
        &mut count.datagrams_out,
        &mut count.datagrams_withheld,
        &mut count.datagrams_dropped,
        &mut count.jobs,
        &mut count.waits,
        &mut count.sleeps,
        &mut count.datagram_panics,
    ];
    (100..).zip(numbers).for_each(|(next, number)| *number = next);
    for (times, why) in [
        (1, Refusal::Budget(Refused::Full(0))),
        (2, Refusal::Budget(Refused::Address(0))),
        (3, Refusal::Descriptors),
        (4, Refusal::Stopped),
        (5, Refusal::Panicked),
    ] {
        (0..times).for_each(|_| count.refuse(why));
    }
    host.report();
    let _open = shared.gate.admit(Some([192, 0, 2, 1].into())).unwrap();
    let expected = "\
also 5
roadstead_addresses 1
roadstead_buffered_bytes 0
roadstead_buffered_limit_bytes 13
roadstead_build_info{version=\"1\",model=\"epoll\",service=\"echo\"} 1
roadstead_connections 1
roadstead_connections_accepted_total 100
roadstead_connections_connected_total 101
roadstead_connections_ended_total{reason=\"broken\"} 107
roadstead_connections_ended_total{reason=\"finished\"} 102
roadstead_connections_ended_total{reason=\"late\"} 104
roadstead_connections_ended_total{reason=\"stopped\"} 106
roadstead_connections_ended_total{reason=\"too_large\"} 105
roadstead_connections_ended_total{reason=\"violation\"} 103
roadstead_connections_limit 11
roadstead_connections_refused_total{reason=\"connections\"} 1
roadstead_connections_refused_total{reason=\"descriptors\"} 3
roadstead_connections_refused_total{reason=\"panicked\"} 5
roadstead_connections_refused_total{reason=\"per_address\"} 2
roadstead_connections_refused_total{reason=\"stopped\"} 4
roadstead_datagram_panics_total 125
roadstead_datagrams_received_total 117
roadstead_datagrams_sent_total 119
roadstead_datagrams_truncated_total 118
roadstead_datagrams_unsent_total{reason=\"dropped\"} 121
roadstead_datagrams_unsent_total{reason=\"withheld\"} 120
roadstead_deadlines_passed_total{deadline=\"connect\"} 112
roadstead_deadlines_passed_total{deadline=\"first_byte\"} 108
roadstead_deadlines_passed_total{deadline=\"idle\"} 109
roadstead_deadlines_passed_total{deadline=\"linger\"} 111
roadstead_deadlines_passed_total{deadline=\"slowest\"} 110
roadstead_jobs_awaited_total 0
roadstead_jobs_blocked 0
roadstead_jobs_ran_seconds_total 0
roadstead_jobs_running 0
roadstead_jobs_sliced_total 0
roadstead_jobs_timed_total 0
roadstead_jobs_total 122
roadstead_jobs_waited_seconds_total 0
roadstead_jobs_waiting 0
roadstead_loop_sleeps_total 124
roadstead_loop_turns_total 123
roadstead_per_address_limit 12
roadstead_ready 1
roadstead_received_bytes_total 113
roadstead_receives_total 115
roadstead_sends_total 116
roadstead_sent_bytes_total 114
roadstead_tickets 0
roadstead_tickets_limit 14
roadstead_uptime_seconds 1.500
";
    let shown: String = samples(&shared).iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    assert_eq!(shown, expected);
}

#[test]
fn each_loop_is_shown_by_its_number_and_the_sum_of_what_they_counted() {
    let shared = Shared::new(Budget::default());
    for number in 0..3 {
        let mut host = Host::alone(Arc::clone(&shared), 1).counting_apart();
        (host.count.waits, host.count.sleeps, host.count.accepted) = (10 + number, number, 1);
        host.report();
    }
    let samples = samples(&shared);
    for (name, value) in [
        ("roadstead_loop_turns_total{loop=\"2\"}", "12"),
        ("roadstead_loop_sleeps_total{loop=\"0\"}", "0"),
        ("roadstead_loop_sleeps_total{loop=\"1\"}", "1"),
        ("roadstead_connections_accepted_total", "3"),
    ] {
        assert_eq!(samples[name], value, "{name}");
    }
    assert!(!samples.contains_key("roadstead_loop_turns_total"));
}

#[test]
fn who_lets_nobody_in_is_live_and_not_ready() {
    let shared = Shared::new(Budget::default());
    assert!(Observer::new(&shared).lets_in() && samples(&shared)["roadstead_ready"] == "1");
    shared.shut();
    assert_eq!((Observer::new(&shared).lets_in(), &*samples(&shared)["roadstead_ready"]), (false, "0"));
}

/// Questions, right and wrong ones.
fn questions() -> Corpus {
    let pipeline = ask("GET /metrics", "") + &ask("HEAD /readyz", "") + &ask("GET /x?y", "Accept: */*\r\n");
    let seeds = [
        ("silent", 0, String::new()),
        ("metrics", 0, ask("GET /metrics", "Accept: application/openmetrics-text;q=0.5\r\n")),
        ("pipeline", 1, pipeline.clone()),
        ("close", 30, ask("GET /healthz", "Connection: close\r\n") + &pipeline),
        ("old", 30, "GET http://x/readyz HTTP/1.0\r\n\r\n".into()),
        ("cut", 3, pipeline[..pipeline.len() - 3].into()),
        ("body", 9, ask("POST /metrics", "Content-Length: 4\r\n") + "body"),
        ("smuggled", 9, ask("GET /", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n" + &pipeline),
        ("no-host", 9, "GET / HTTP/1.1\r\n\r\n".into()),
        ("empty-lines", 0, "\r\n\n\r\n".repeat(9) + &pipeline),
        ("long", 255, ask("GET /", &format!("x: {}\r\n", "y".repeat(8200)))),
        ("noise", 0, "\u{16}\u{3}\u{1}\0".into()),
    ];
    let seed = |(name, piece, asked): (&str, u8, String)| {
        (name.to_owned(), [&[piece][..], asked.as_bytes()].concat())
    };
    Corpus { target: "admin", seeds: seeds.map(seed).into(), check: admin::check }
}

#[test]
fn questions_are_answered_the_same_however_they_come() {
    questions().replay(12);
}

#[test]
#[ignore = "writes the seeds"]
fn write_the_seeds() {
    questions().write();
}

proptest! {
    /// Lines as they are, cut, repeated, and with bytes in between that belong nowhere.
    #[test]
    fn any_questions_are_answered_the_same_in_pieces(
        piece: u8,
        parts in vec(
            prop_oneof![
                select(vec![
                    "GET /metrics HTTP/1.1\r\n", "HEAD /readyz HTTP/1.1\n", "GET / HTTP/1.0\r\n", "POST /x HTTP/1.1\r\n",
                    "Host: x\r\n", "Connection: close\r\n", "Content-Length: 1\r\n", "Accept: a/b\r\n", "\r\n", "\r\n",
                ]).prop_map(|line| line.as_bytes().to_vec()),
                vec(any::<u8>(), 0..4),
            ],
            0..30,
        ),
    ) {
        admin::check(&[&[piece][..], &parts.concat()].concat());
    }

    #[test]
    fn as_many_questions_as_are_asked_are_answered(count in 0..300_usize, piece in 1..5000_usize) {
        let asked = ask("GET /metrics", "").repeat(count);
        let (said, over) = converse(asked.as_bytes(), piece);
        prop_assert_eq!((answers(&said).len(), over), (count, false));
    }
}
