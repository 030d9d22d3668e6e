//! `roadstead bench idle` and `bench kills` as processes: what they count, and that they leave nothing behind.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, process::Stdio, thread, time::Duration};

use common::{Process, Scene, interrupted, until, words};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn few_and_many_accepts_are_measured_side_by_side() {
    let scene = Scene::new();
    let line =
        "bench accepts --models poll,emulated --accepts 1..1,2..8 --clients 5 --seconds 2 --json - --svg";
    let said = scene.ok([words(line), vec![scene.path("accepts.svg").display().to_string()]].concat());
    assert!(fs::read_to_string(scene.path("accepts.svg")).unwrap().starts_with("<svg"));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["clients"], &report["seconds"]), (&5.into(), &2.0.into()));
    let runs = report["runs"].as_array().unwrap();
    let settings =
        runs.iter().map(|run| (run["model"].as_str().unwrap(), run["accepts_max"].as_u64().unwrap()));
    assert_eq!(settings.collect::<Vec<_>>(), [("poll", 1), ("poll", 8), ("emulated", 1), ("emulated", 8)]);
    for run in runs {
        assert_eq!((&run["wrong"], &run["failed"]), (&0.into(), &0.into()), "{run}");
        assert!(run["right"].as_u64() > Some(0) && run["connections_per_second"].as_f64() > Some(0.0));
        assert!(run["first_byte"]["p50_ms"].as_f64() <= run["first_byte"]["p99_ms"].as_f64());
        assert_eq!(run["rounds"].as_array().unwrap().len(), 5);
    }
    scene.nothing_lives();
}

#[test]
fn idle_connections_are_measured_beside_active_ones() {
    let scene = Scene::new();
    let mut idle = words("bench idle --idle 200 --active 3 --seconds 3 --json - --svg");
    idle.push(scene.path("idle.svg").display().to_string());
    let said = scene.ok(idle);
    assert!(fs::read_to_string(scene.path("idle.svg")).unwrap().starts_with("<svg"));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&report["model"], &report["idle"], &report["active"]),
        (&"epoll".into(), &200.into(), &3.into())
    );
    assert_eq!((&report["size"], &report["first"]), (&128.into(), &(16 << 10).into()));
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 5);
    let mut seen = 0;
    for round in rounds {
        assert_eq!((&round["wrong"], &round["lost"]), (&0.into(), &0.into()), "{round}");
        for half in ["alone", "beside"] {
            let window = &round[half];
            assert_eq!(
                (&window["wrong"], &window["failed"], &window["connections"]),
                (&0.into(), &0.into(), &3.into())
            );
            assert!(window["seconds"].as_f64() >= Some(0.3), "not what was to warm up: {window}");
            for figure in ["right", "p50_ms", "p99_ms"] {
                assert!(window[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure} of {window}");
            }
            // None if all was answered in one glance; and the scheduler's accounts of who runs all the time are as
            // old as its last tick.
            if let Some(time) = window["cpu_us"].as_f64() {
                assert!(time >= 0.0, "{window}");
                seen += 1;
            }
        }
        for moment in ["before", "opened", "echoed", "closed"] {
            assert!(round["memory"][moment].as_u64() > Some(0), "{moment} of {round}");
        }
    }
    assert!(seen > 0, "{report}");
    // Ten windows of 0.3 s are the three seconds; any may end late, as a last answer may.
    let windows = rounds.iter().flat_map(|round| [&round["alone"], &round["beside"]]);
    let shortest = windows.map(|window| window["seconds"].as_f64().unwrap()).reduce(f64::min);
    assert!(shortest < Some(0.6), "{report}");
    let ratio = &report["cpu_ratio"]["median"];
    assert!(ratio.is_null() || ratio.as_f64() >= Some(0.0), "{ratio}");
    for ratio in ["p50_ratio", "p99_ratio"] {
        assert!(report[ratio]["median"].as_f64().is_some_and(|ratio| ratio > 0.0), "{ratio}");
    }
    assert!(report["each"]["echoed"].is_f64());
    scene.nothing_lives();
}

#[test]
fn processes_are_killed_and_nobody_else_is_hit() {
    let scene = Scene::new();
    let said = scene.ok(words("bench kills --seconds 1.5 --level 4 --seed 3 --json -"));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["level"], &report["seed"]), (&4.into(), &3.into()));
    let runs = report["runs"].as_array().unwrap();
    let models: Vec<_> = runs.iter().map(|run| run["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["process", "prefork"]);
    for run in runs {
        for figure in ["wrong", "failed_of_others", "lasting_zombies", "exit_code", "left"] {
            assert_eq!(run[figure], 0, "{figure} of {run}");
        }
        assert!(run["right"].as_u64() > Some(0) && run["connections"].as_u64() > Some(3), "{run}");
        assert_eq!(run["at_once"], 4);
        let kills = run["kills"].as_array().unwrap();
        assert!(!kills.is_empty());
        let had = |kill: &Value| kill["connections"].as_u64().unwrap();
        let had: u64 = kills.iter().map(had).sum();
        assert!(had > 0 && run["failed_of_killed"].as_u64() <= Some(had), "{run}");
        assert!(kills.iter().all(|kill| kill["at_s"].is_f64() && kill["back_ms"].is_f64()), "{run}");
        assert!(kills.iter().any(|kill| kill["control_ms"].is_f64()), "{run}");
        // How many there should be is known of prefork only.
        let replaced = run["model"] == "prefork";
        assert!(kills.iter().all(|kill| kill["replaced_ms"].is_f64() == replaced), "{run}");
        let times: Vec<f64> = kills.iter().map(|kill| kill["at_s"].as_f64().unwrap()).collect();
        let starts = [&[0.0], &times[..]].concat();
        let pauses = starts.windows(2).map(|both| both[1] - both[0]);
        assert!(
            pauses.into_iter().all(|pause| pause >= 0.1),
            "one after the other, each after a pause: {run}"
        );
        let ms = |kill: &Value, figure: &str| kill[figure].as_f64().unwrap_or_default();
        assert!(kills.iter().all(|kill| ms(kill, "back_ms") >= ms(kill, "replaced_ms")), "{run}");
        assert!(kills.iter().all(|kill| ms(kill, "ended_ms") > 0.0), "{run}");
    }
    scene.nothing_lives();
}

/// A measurement of an hour that has a server.
fn endless(scene: &Scene, line: &str) -> Process {
    let mut command = scene.command(words(line));
    command.arg("--json").arg(scene.path("some.json")).stderr(Stdio::null());
    let bench = Process::start(command);
    until("a server", || scene.living().len() > 1);
    bench
}

#[test]
fn interrupted_kills_are_reported_and_leave_nothing() {
    let scene = Scene::new();
    for wait in [0, 700] {
        let mut bench = endless(&scene, "bench kills --seconds 3600 --level 3");
        thread::sleep(Duration::from_millis(wait));
        bench.signal(Signal::INT);
        let report = interrupted(bench.end().code(), &scene.path("some.json"));
        assert!(report.is_none_or(|report| report["runs"].as_array().unwrap().len() == 1), "after {wait} ms");
        scene.nothing_lives();
    }
}

#[test]
fn servers_end_with_the_measurement_even_when_it_is_killed() {
    let scene = Scene::new();
    for line in ["bench idle --idle 50", "bench kills", "bench kills --models prefork"] {
        let mut bench = endless(&scene, line);
        bench.kill();
        scene.nothing_lives();
    }
}

#[test]
fn what_cannot_be_measured_is_bad_usage() {
    let scene = Scene::new();
    for (wrong, words_of_it) in [
        ("accepts --models epoll,threads", "threads accepts one connection at a time"),
        ("accepts --accepts 0..4", "`0..4` is not a range MIN..MAX"),
        ("accepts --clients 1001", "`1001` is not a number from 1 to 1000"),
        ("accepts --seconds 0", "is not a time"),
        ("idle --model prefork", "prefork is many processes, and this measures one"),
        ("idle --model lifo", "there is no model `lifo`"),
        ("idle --idle 0", "`0` is not a number from 1 to 25000"),
        ("idle --active 1001", "`1001` is not a number from 1 to 1000"),
        ("idle --seconds 0.5", "is not a time from 1 to 600 seconds"),
        ("idle --seconds 601", "is not a time"),
        ("kills --models process,epoll", "epoll is one process; process and prefork are many"),
        ("kills --level 0", "`0` is not a number from 1 to 250"),
        ("kills --seconds 0", "is not a time"),
    ] {
        let output = scene.run(words(&format!("bench {wrong}")));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words_of_it), "{said}");
    }
}

#[test]
fn more_connections_than_the_system_allows_are_an_error_that_says_so() {
    let scene = Scene::new();
    let mut command = std::process::Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_roadstead");
    command.arg("-c").arg(format!("ulimit -n 500 && exec {binary} bench idle --idle 1000"));
    let output = command.env("TMPDIR", scene.path("tmp")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1074 descriptors are needed but 500 allowed"), "{said}");
}
