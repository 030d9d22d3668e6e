//! Numbers on the command line that are none, or that nothing has so many of.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Scene, words};

/// Every option that is a number, with what stands before it.
const NUMBERS: &[(&str, &[&str])] = &[
    (
        "serve echo",
        &[
            "--workers",
            "--backlog",
            "--drain",
            "--connections",
            "--per-address",
            "--first-byte",
            "--idle",
            "--slowest",
            "--rate-all",
            "--rate-each",
            "--buffer-each",
            "--buffer-all",
            "--jobs",
            "--accepts",
            "--in-flight",
        ],
    ),
    (
        "load 127.0.0.1:9",
        &[
            "--connections",
            "--idle",
            "--depth",
            "--size",
            "--seconds",
            "--messages",
            "--rate",
            "--timeout",
            "--core",
        ],
    ),
    ("keys --out nowhere", &["--servers"]),
    ("bench accepts", &["--accepts", "--clients", "--seconds"]),
    ("bench idle", &["--idle", "--active", "--seconds"]),
    ("bench kills", &["--seconds", "--level", "--seed"]),
    ("bench loss", &["--times", "--level"]),
    ("bench queue", &["--workers", "--load", "--seconds", "--seed"]),
    (
        "bench exchange",
        &[
            "--payload",
            "--levels",
            "--peer-delay",
            "--seconds",
            "--background",
            "--window",
            "--exchange-timeout",
            "--socket-buffer",
        ],
    ),
    ("trident share --out nowhere", &["--made", "--dim", "--seed"]),
    (
        "trident serve --shares nowhere",
        &["--party", "--search-memory", "--exchange-timeout", "--socket-buffer"],
    ),
    ("trident bench", &["--rows", "--levels", "--queries", "--peer-delay"]),
    (
        "trident search --client nowhere --servers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3",
        &["-k", "--like", "--nth", "--deadline"],
    ),
    ("trident fetch --client nowhere --servers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", &[""]),
];

#[test]
fn what_is_no_number_that_can_be_is_refused_with_what_was_found_and_what_is_wanted() {
    let scene = Scene::new();
    for (line, options) in NUMBERS {
        for option in *options {
            for found in ["-5", "many", "99999999999999999999999", "1e300"] {
                let arguments = [words(line), words(option), words(found)].concat();
                let ended = scene.run(&arguments);
                let said = String::from_utf8(ended.stderr).unwrap();
                let what = format!("{line} {option} {found}: {said}");
                assert_eq!((ended.status.code(), ended.stdout.len()), (Some(2), 0), "{what}");
                assert!(said.contains(&format!("`{found}`")), "{what}");
                let wanted = ["is not a ", "there are 1, 2 and 3"];
                assert!(wanted.iter().any(|wanted| said.contains(wanted)), "{what}");
            }
        }
    }
}

#[test]
fn a_load_has_one_length_and_no_time_is_none() {
    let scene = Scene::new();
    for (options, wanted) in [
        ("--seconds 0", "`0` is not a time from 0.001"),
        ("--timeout 0", "`0` is not a time from 0.001"),
        ("--messages 5 --seconds 3", "cannot be used with"),
        ("--messages 5 --rate 3", "cannot be used with"),
    ] {
        let ended = scene.run(words(&format!("load 127.0.0.1:9 {options}")));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{options}: {said}");
        assert!(said.contains(wanted), "{options}: {said}");
    }
}

#[test]
fn a_negative_number_with_a_unit_is_refused_like_one_without() {
    let scene = Scene::new();
    for (line, value) in [
        ("trident bench --peer-delay", "-5ms"),
        ("bench exchange --peer-delay", "-5ms"),
        ("bench exchange --payload", "-5KiB"),
        ("bench exchange --background", "-5KiB"),
        ("bench exchange --window", "-5MiB"),
        ("bench exchange --socket-buffer", "-5MiB"),
        ("trident serve --party 1 --shares nowhere --socket-buffer", "-5MiB"),
    ] {
        let output = scene.command(words(&format!("{line} {value}"))).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(&format!("`{value}` is not a")), "{line}: {said}");
    }
}

#[test]
fn numbers_that_cannot_be_together_are_bad_usage() {
    let scene = Scene::new();
    for (options, wanted) in [
        ("--connections 28000 --idle 1", "idle must be 0 to 0, not 1"),
        ("--connections 2 --depth 16777216", "depth must be 1 to 8388608, not 16777216"),
    ] {
        let output = scene.run(words(&format!("load 127.0.0.1:9 {options}")));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{options}: {said}");
        assert!(said.contains(wanted), "{options}: {said}");
    }
}
