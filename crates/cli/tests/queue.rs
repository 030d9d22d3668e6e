//! Queue disciplines on the command line: chosen for a server, and measured side by side.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Stdio,
    thread,
    time::Duration,
};

use common::{Process, Scene, interrupted, until, words};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn the_disciplines_are_measured_side_by_side_on_the_same_jobs() {
    let scene = Scene::new();
    let svg = scene.path("queue.svg");
    let line = "bench queue --seconds 0.2 --load 0.3 --seed 7 --json -";
    let said = scene.ok([words(line), vec!["--svg".into(), svg.to_str().unwrap().into()]].concat());
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["workers"], &report["load"], &report["seed"]), (&2.into(), &0.3.into(), &7.into()));
    assert_eq!((&report["seconds"], &report["connections"]), (&0.2.into(), &8.into()));
    let runs = report["runs"].as_array().unwrap();
    let names: Vec<_> = runs.iter().map(|run| run["queue"].as_str().unwrap()).collect();
    assert_eq!(names, ["fcfs", "sjf", "rr", "mlfq"]);
    for run in runs {
        assert_eq!((&run["wrong"], &run["lost"]), (&0.into(), &0.into()), "{run}");
        assert!(run["right"].as_u64() > Some(0));
        assert_eq!(run["right"], 106, "the jobs of this seed, load and time, the same for all");
        assert_eq!(run["rounds"].as_array().unwrap().len(), 5);
        for size in ["short", "long"] {
            for figure in ["mean_ms", "p50_ms", "p99_ms", "p999_ms", "max_ms"] {
                assert!(run[size][figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure} of {run}");
            }
        }
        assert!(run["short_p99_ratio"]["median"].is_f64() && run["late"]["p99_ms"].is_f64());
    }
    assert_eq!(runs[0]["short_p99_ratio"]["median"], 1.0);
    assert!(fs::read_to_string(svg).unwrap().contains("</svg>"));
}

#[test]
fn one_discipline_alone_is_compared_with_nothing() {
    let scene = Scene::new();
    let said = scene.ok(words("bench queue --queues mlfq --workers 1 --seconds 0.05 --load 0.1"));
    assert!(said.contains("mlfq") && said.contains("p99.9 ms") && !said.contains("rr"), "{said}");
}

#[test]
fn off_a_terminal_it_says_how_long_it_takes() {
    let scene = Scene::new();
    let mut command = scene.command(words("bench queue --queues fcfs,rr --seconds 40"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut bench = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(bench.stderr.take().unwrap()).read_line(&mut line).unwrap();
    bench.kill().unwrap();
    bench.wait().unwrap();
    assert_eq!(line, "measuring for about 80 s\n");
}

#[test]
fn an_interrupted_measurement_reports_what_it_has() {
    let scene = Scene::new();
    for wait in [0, 100, 700] {
        let mut command = scene.command(words("bench queue --seconds 3600 --json"));
        command.arg(scene.path("some.json")).stderr(Stdio::null());
        let mut bench = Process::start(command);
        let threads = format!("/proc/{}/task", bench.pid().as_raw_nonzero());
        until("it hears signals", || fs::read_dir(&threads).unwrap().count() > 1);
        thread::sleep(Duration::from_millis(wait));
        bench.signal(Signal::INT);
        let Some(report) = interrupted(bench.end().code(), &scene.path("some.json")) else { continue };
        for run in report["runs"].as_array().unwrap() {
            assert_eq!((&run["wrong"], &run["lost"]), (&0.into(), &0.into()), "{run}");
        }
    }
}

#[test]
fn what_cannot_be_measured_is_bad_usage() {
    let scene = Scene::new();
    for (wrong, words_of_it) in [
        ("--queues fcfs,lifo", "there is no queue `lifo`; the queues are: fcfs, sjf, rr, mlfq"),
        ("--load 1", "`1` is not a load"),
        ("--load nan", "`nan` is not a load"),
        ("--seconds 0", "is not a time"),
        ("--seconds 3601", "is not a time"),
        ("--workers 0", "`0` is not a number from 1 to 64"),
    ] {
        let output = scene.run(words(&format!("bench queue {wrong}")));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words_of_it), "{said}");
    }
}

#[test]
fn a_server_runs_with_the_queue_it_is_told() {
    let scene = Scene::new();
    for queue in ["fcfs", "sjf", "rr", "mlfq"] {
        let line = format!("serve echo --bind 127.0.0.1:0 --workers 1 --queue {queue}");
        let mut server = scene.serve(words(&line));
        let mut client = TcpStream::connect(server.listening()).unwrap();
        client.write_all(b"ahoy").unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"ahoy");
    }
    let output = scene.run(words("serve echo --queue lifo"));
    assert_eq!(output.status.code(), Some(2));
}
