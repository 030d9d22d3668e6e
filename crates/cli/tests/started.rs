//! What measurements start is told what they were told, and what cannot be measured is said.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{Process, Scene, until, words};
use rustix::process::Pid;
use serde_json::Value;

/// The command line of a process, from its first argument on.
fn line_of(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let words: Vec<_> = line.split(|&byte| byte == 0).skip(1).map(String::from_utf8_lossy).collect();
    format!("{} ", words.join(" ").trim_end())
}

/// The command lines of so many processes that a measurement has started, in order.
fn started(line: &str, count: usize, what: &str) -> Vec<String> {
    let scene = Scene::new();
    let mut command = scene.command(words(line));
    command.stderr(Stdio::null());
    let bench = Process::start(command);
    let mut lines = Vec::new();
    until("what it starts", || {
        let others = scene.living().into_iter().filter(|&pid| pid != bench.pid());
        // What was forked and not yet executed has its starter's line, and a process that forks has children with its own.
        lines = others.map(line_of).filter(|line| line.starts_with(what)).collect();
        lines.sort();
        lines.dedup();
        lines.len() == count
    });
    lines
}

#[track_caller]
fn has(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(&format!("{part} ")), "{part}: {line}");
    }
}

#[test]
fn servers_of_trident_are_started_as_the_measurement_was() {
    let line = "trident bench --rows 100 --levels 1 --queries 1000000 --op fetch --kernel portable --protocol exchange \
                --exchange per-query";
    for (more, tls) in [("", true), ("--plain", false)] {
        let lines = started(&format!("{line} {more}"), 3, "trident serve");
        for (line, party) in lines.iter().zip(1..) {
            has(line, &["--kernel portable", "--exchange per-query", "--bind 127.0.0.1:0", "--with-parent"]);
            has(line, &[&format!("--party {party}"), &format!("shares/server-{party}")]);
            assert_eq!(line.contains(&format!("keys/server-{party} ")), tls, "{line}");
        }
    }
    for line in
        started("trident bench --rows 100 --levels 1 --queries 1000000 --op fetch", 3, "trident serve")
    {
        assert!(
            !line.contains("--kernel") && !line.contains("--exchange") && !line.contains("--peers"),
            "{line}"
        );
    }
}

#[test]
fn members_of_an_exchange_are_started_as_the_measurement_was() {
    let line = "bench exchange --payload 600 --background 2KiB --levels 3,7,5 --strategies pool:3 --peer-delay 0ms \
                --window 64KiB --loops 2 --socket-buffer 64KiB --exchange-timeout 7.5 --seconds 600";
    for (more, tls) in [("", true), ("--plain", false)] {
        for (line, member) in started(&format!("{line} {more}"), 3, "bench member").iter().zip(1..) {
            has(line, &["--strategy pool:3", "--largest 2048", "--most 7", "--window 65536", "--loops 2"]);
            has(line, &["--socket-buffer 65536", "--exchange-timeout 7.5"]);
            has(line, &[&format!("--id {member}"), "--with-parent"]);
            assert_eq!(line.contains(&format!("/server-{member} ")), tls, "{line}");
        }
    }
}

#[test]
fn echo_servers_are_started_as_the_measurement_was() {
    let both = started("bench kills --models prefork --level 3 --seconds 600", 2, "serve echo");
    let serving = both.iter().find(|line| line.contains("--model prefork")).unwrap();
    has(serving, &["--workers 3", "--bind 127.0.0.1:0", "--with-parent"]);
    assert!(both.iter().any(|line| line.contains("--model iterative")), "the control: {both:?}");
    let line = &started("bench idle --model poll --idle 20 --active 4 --seconds 600", 1, "serve echo")[0];
    has(
        line,
        &["--model poll", "--connections 88", "--per-address 88", "--first-byte 1000000", "--idle 1000000"],
    );
}

#[test]
fn a_measurement_needs_something_to_measure() {
    let scene = Scene::new();
    let error = scene.fails(words("trident bench --rows 20 --op search --protocol exchange --plain"));
    assert_eq!(error, "there is nothing to measure: searches are of the protocol direct");
    let line = "trident bench --rows 1 --levels 1 --queries 3 --op search --plain --json -";
    let report: Value = serde_json::from_str(&scene.ok(words(line))).unwrap();
    assert_eq!(report["rows"], 10, "as many as a search finds");
    assert_eq!((&report["runs"][0]["right"], &report["runs"][0]["recall_at_10"]), (&3.into(), &1.0.into()));
    let said: Vec<&str> =
        report["machine"]["command"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(said[1..], words(line));
}

#[test]
fn a_load_needs_descriptors_for_its_silent_connections_too() {
    let mut limited = Command::new("sh");
    let line = "ulimit -n 200 && exec \"$0\" load 127.0.0.1:9 --connections 100 --idle 150";
    let output = limited.args(["-c", line, env!("CARGO_BIN_EXE_roadstead")]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.starts_with("roadstead: 314 descriptors are needed but 200 allowed"), "{said}");
}
