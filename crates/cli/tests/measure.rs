//! `roadstead trident bench` and `demo` as processes: the shape of their results, and that nothing is left behind,
//! however they end.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeSet,
    fs, iter,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketType, bind, getsockname, listen, socket},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use roadstead_trident::data::siftsmall;

use common::{Process, Scene, freeze, interrupted, until, words};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The shape that programs rely on.
fn check_report(report: &Value, levels: &[u64], queries: u64) {
    let expected = [
        "dataset",
        "rows",
        "dim",
        "runs",
        "kernel",
        "machine",
        "servers",
        "peer_delay_ms",
        "tls",
        "distance_error",
    ];
    assert_eq!(keys(report), BTreeSet::from(expected));
    assert!(report["dataset"].is_string() && report["rows"].is_u64() && report["dim"].is_u64());
    assert_eq!(report["tls"], true);
    let runs = report["runs"].as_array().unwrap();
    let expected: Vec<(&str, u64)> =
        ["fetch", "search"].into_iter().flat_map(|op| levels.iter().map(move |&level| (op, level))).collect();
    let found: Vec<(&str, u64)> =
        runs.iter().map(|run| (run["op"].as_str().unwrap(), run["level"].as_u64().unwrap())).collect();
    assert_eq!(found, expected);
    for run in runs {
        check_run(run);
        let count = |key: &str| run[key].as_u64().unwrap();
        assert_eq!((count("right"), count("wrong"), count("failed")), (queries, 0, 0));
        if run["op"] == "search" {
            assert_eq!(run["recall_at_10"], 1.0);
        }
    }
}

fn check_run(run: &Value) {
    let expected = [
        "op",
        "protocol",
        "exchange",
        "checked",
        "level",
        "right",
        "wrong",
        "failed",
        "qps",
        "mean_ms",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "overlap",
        "client_bytes_up",
        "client_bytes_down",
        "server_bytes",
        "server_cpu_ms",
        "client_cpu_ms",
        "busy",
        "recall_at_10",
    ];
    assert_eq!(keys(run), BTreeSet::from(expected));
    let fetch = run["op"] == "fetch";
    assert_eq!(run["protocol"], if fetch { "direct" } else { "scan" });
    assert!(run["exchange"].is_null() && run["checked"] == true);
    for key in ["level", "right", "wrong", "failed"] {
        assert!(run[key].is_u64(), "{key} of {run}");
    }
    let measured =
        ["qps", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "overlap", "client_bytes_up", "client_bytes_down"];
    for key in measured {
        assert!(run[key].as_f64().is_some_and(|figure| figure > 0.0), "{key} of {run}");
    }
    let figure = |key: &str| run[key].as_f64().unwrap();
    assert!(figure("p50_ms") <= figure("p95_ms") && figure("p95_ms") <= figure("p99_ms"), "{run}");
    assert!(figure("overlap") <= 1.05 * figure("level"), "no more are in flight than were to be: {run}");
    assert_eq!(run["server_bytes"], 0.0);
    assert!(run["server_cpu_ms"].is_f64());
    assert!(figure("client_cpu_ms") > 0.0 && figure("busy") > 0.0 && figure("busy") <= 1.05, "{run}");
    assert_eq!(run["recall_at_10"].is_null(), fetch);
}

#[test]
fn bench_writes_pure_json_in_the_stable_shape() {
    let scene = Scene::new();
    let said = scene.ok(words("trident bench --rows 500 --levels 1,4 --queries 20 --json -"));
    let report: Value = serde_json::from_str(&said).unwrap();
    check_report(&report, &[1, 4], 20);
    assert_eq!((&report["rows"], &report["dim"]), (&500.into(), &128.into()));
    assert_eq!(report["dataset"], "made-500");
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty());
}

#[test]
fn bench_runs_what_it_is_told() {
    let scene = Scene::new();
    let (json, svg) = (scene.path("report.json"), scene.path("report.svg"));
    let mut command = scene.command(words(
        "trident bench --rows 100 --levels 2 --queries 5 --op search --unchecked --kernel portable --plain",
    ));
    let output = command.arg("--json").arg(&json).arg("--svg").arg(&svg).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("search scan, unchecked") && table.contains("without TLS"), "{table}");
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["checked"], &report["kernel"]), (1, &false.into(), &"portable".into()));
    assert_eq!(report["tls"], false);
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.contains("without TLS") && svg.contains("</svg>"));
}

/// Rows so near each other, seen from zero, that rounding changes their order; and one that is long.
#[test]
fn what_rounding_explains_is_right_and_recall_makes_no_allowance() {
    let scene = Scene::new();
    let mut state = 1u32;
    let mut vectors = |count: usize| -> Vec<[f32; 16]> {
        let mut element = |at: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            at as f32 / 16.0 + (state >> 8) as f32 / (1 << 24) as f32 / 100.0
        };
        (0..count).map(|_| std::array::from_fn(&mut element)).collect()
    };
    let (mut rows, queries) = (vectors(1_000), vectors(20));
    rows[500] = rows[500].map(|element| element * 1_000.0);
    for (name, vectors) in [("dense_base.fvecs", &rows), ("dense_query.fvecs", &queries)] {
        let row = |row: &[f32; 16]| {
            let elements = row.iter().flat_map(|element| element.to_le_bytes());
            16u32.to_le_bytes().into_iter().chain(elements).collect::<Vec<u8>>()
        };
        fs::write(scene.path(name), vectors.iter().flat_map(row).collect::<Vec<u8>>()).unwrap();
    }
    let json = scene.path("dense.json");
    let mut command =
        scene.command(words("trident bench --levels 2 --queries 20 --op search --plain --data"));
    let output = command.arg(scene.path("")).arg("--json").arg(&json).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("rounding explains"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let error = report["distance_error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.01, "{error}");
    let run = &report["runs"][0];
    assert_eq!((&run["right"], &run["wrong"], &run["failed"]), (&20.into(), &0.into(), &0.into()));
    let recall = run["recall_at_10"].as_f64().unwrap();
    assert!((0.5..1.0).contains(&recall), "{recall}");
}

#[test]
fn demo_makes_a_set_where_it_finds_none() {
    demo(&Scene::new(), None, "made-10000");
}

#[test]
fn demo_uses_the_real_set_where_it_is_at_hand() {
    if let Some(data) = siftsmall() {
        demo(&Scene::new(), Some(data), "siftsmall");
    }
}

fn demo(scene: &Scene, data: Option<std::path::PathBuf>, dataset: &str) {
    let (json, svg) = (scene.path("demo.json"), scene.path("demo.svg"));
    let mut command = scene.command(["demo"]);
    if let Some(data) = data {
        command.env("ROADSTEAD_DATA", data);
    }
    let output = command.arg("--json").arg(&json).arg("--svg").arg(&svg).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains("the true row;") && said.contains("recall@10") && said.contains(": 1.000"),
        "{said}"
    );
    assert!(
        said.starts_with(&format!("{dataset}: 10,000 rows of 128 elements\nthree servers run")),
        "{said}"
    );
    assert!(
        said.contains("\nfetched row 5000: ") && said.ends_with("\nthe three servers have stopped\n"),
        "{said}"
    );
    let nearest = said.split_once("nearest to query 0: rows ").unwrap().1.split_once(" (").unwrap().0;
    assert_eq!(nearest.split(' ').filter(|row| row.parse::<usize>().is_ok()).count(), 10, "{said}");
    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    check_report(&report, &[1, 2, 4, 8, 16], 200);
    assert_eq!((&report["dataset"], &report["rows"]), (&dataset.into(), &10_000.into()));
    assert!(fs::read_to_string(svg).unwrap().contains("</svg>"));
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty());
}

#[test]
fn a_data_directory_without_the_files_is_an_error_of_one_line() {
    let scene = Scene::new();
    let missing = scene.path("no data");
    for command in ["demo", "trident bench"] {
        let mut arguments = words(command);
        arguments.extend(["--data".into(), missing.display().to_string()]);
        let error = scene.fails(arguments);
        assert!(error.contains("holds 0 files named *_base.fvecs"), "{error}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_measured() {
    let scene = Scene::new();
    for command in [
        "demo",
        "load 127.0.0.1:1",
        "trident bench",
        "bench exchange",
        "bench accepts",
        "bench idle",
        "bench kills",
        "bench loss",
        "bench queue",
    ] {
        for option in ["--json", "--svg"] {
            let mut arguments = words(command);
            arguments.extend([option.to_owned(), scene.path("missing/out").display().to_string()]);
            let error = scene.fails(arguments);
            assert!(error.contains("missing/out: there is no directory"), "{command}: {error}");
        }
    }
}

#[test]
fn an_interrupted_load_writes_what_it_has() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let mut command = scene.command(["load", &server.listening().to_string(), "--seconds", "3600", "--json"]);
    command.arg(scene.path("load.json")).stderr(fs::File::create(scene.path("said")).unwrap());
    let mut load = Process::start(command);
    until("its ear for signals", || hears_interrupts(load.pid()));
    thread::sleep(Duration::from_millis(500));
    load.signal(Signal::INT);
    assert_eq!(load.end().code(), Some(0));
    let report: Value = serde_json::from_slice(&fs::read(scene.path("load.json")).unwrap()).unwrap();
    assert_eq!((&report["wrong"], &report["failed"]), (&0.into(), &0.into()));
    assert!(load.line().starts_with('┌'), "what was measured is shown");
    let said = fs::read_to_string(scene.path("said")).unwrap();
    assert!(said.contains("WARN interrupted: the report holds what was measured until now"), "{said}");
}

#[test]
fn a_stdout_without_room_is_an_error_of_one_line_and_costs_no_file() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let target = server.listening().to_string();
    let json = scene.path("load.json");
    let load = ["load", &target, "--messages", "10", "--json", json.to_str().unwrap()].map(str::to_owned);
    let keys = ["keys".into(), "--out".into(), scene.path("keys").display().to_string()];
    let share =
        words("trident share --made 10 --out").into_iter().chain([scene.path("s").display().to_string()]);
    for arguments in [
        load.to_vec(),
        keys.to_vec(),
        share.collect(),
        words("models"),
        words("serve echo --bind 127.0.0.1:0"),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = scene.command(&arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert_eq!(
            said, "roadstead: cannot write standard output: No space left on device (os error 28)\n",
            "{arguments:?}"
        );
    }
    assert!(json.exists());
}

/// A bench that would take for ever, once its three servers run.
fn endless(scene: &Scene, json: &str) -> Process {
    let line = "trident bench --rows 2000 --levels 16,16 --queries 1000000 --op search --json";
    let mut command = scene.command(words(line));
    command.arg(scene.path(json)).stderr(Stdio::null());
    let bench = Process::start(command);
    until("four processes", || scene.living().len() == 4);
    bench
}

#[test]
fn an_interrupted_bench_writes_what_it_has_and_leaves_nothing() {
    let scene = Scene::new();
    // From the start of the servers to the middle of a level.
    for (round, wait) in [0, 30, 300, 1_000].into_iter().enumerate() {
        let json = scene.path(format!("{round}.json"));
        let mut bench = endless(&scene, &format!("{round}.json"));
        thread::sleep(Duration::from_millis(wait));
        bench.signal(if round % 2 == 0 { Signal::INT } else { Signal::TERM });
        if let Some(report) = interrupted(bench.end().code(), &json) {
            let runs = report["runs"].as_array().unwrap();
            assert!(!runs.is_empty());
            runs.iter().for_each(check_run);
        }
        scene.nothing_lives();
        assert!(scene.left_behind().is_empty(), "{:?}", scene.left_behind());
    }
}

#[test]
fn who_interrupts_a_measurement_before_it_has_measured_gets_no_report() {
    let scene = Scene::new();
    let nobody_answers = deaf();
    let load = format!("load {} --timeout 1", nobody_answers.0);
    // Each has to share, to make keys, to start servers or to connect first.
    for line in [
        "demo",
        "trident bench --rows 300000",
        "bench exchange",
        "bench accepts",
        "bench idle --seconds 60",
        "bench kills",
        "bench loss",
        "bench queue",
        &load,
    ] {
        let mut command = scene.command(words(line));
        let (out, said) = (scene.path("out"), scene.path("said"));
        command.arg("--json").arg(scene.path("json")).arg("--svg").arg(scene.path("svg"));
        let mut child = command
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        until("it hears signals", || hears_interrupts(pid));
        kill_process(pid, Signal::INT).unwrap();
        let ended = child.wait().unwrap();
        let (out, said) = (fs::read_to_string(out).unwrap(), fs::read_to_string(said).unwrap());
        assert_eq!(ended.code(), Some(130), "{line}: {out}{said}");
        assert!(!out.contains('│'), "{line}: {out}");
        let mut lines = said.lines().filter(|line| !line.starts_with("measuring for about"));
        assert_eq!(
            lines.next(),
            Some("roadstead: interrupted before anything was measured"),
            "{line}: {said}"
        );
        assert_eq!(lines.next(), None, "{line}: {said}");
        assert!(!scene.path("json").exists() && !scene.path("svg").exists(), "{line}");
        scene.nothing_lives();
        assert!(scene.left_behind().is_empty(), "{line}: {:?}", scene.left_behind());
    }
}

/// Whether SIGINT is handled: proc_pid_status(5).
fn hears_interrupts(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (Signal::INT.as_raw() - 1) & 1 == 1
}

/// A listener that answers nobody, and who fills its backlog.
fn deaf() -> (SocketAddr, impl Sized) {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 0).unwrap();
    let address = getsockname(&listener).unwrap().try_into().unwrap();
    let fill = || TcpStream::connect_timeout(&address, Duration::from_secs(1));
    let filling: Vec<_> = iter::repeat_with(fill).map_while(Result::ok).collect();
    (address, (listener, filling))
}

#[test]
fn a_second_signal_ends_a_bench_at_once_and_leaves_nothing() {
    let scene = Scene::new();
    let mut bench = endless(&scene, "never.json");
    let servers: Vec<_> = scene.living().into_iter().filter(|&pid| pid != bench.pid()).collect();
    // Whoever waits for what they owe waits until its time is over.
    servers.iter().for_each(|&server| freeze(server));
    bench.signal(Signal::INT);
    thread::sleep(Duration::from_millis(50));
    bench.signal(Signal::TERM);
    assert_eq!(bench.end().code(), Some(130));
    servers.iter().for_each(|&server| kill_process(server, Signal::CONT).unwrap());
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty(), "shares are secret: {:?}", scene.left_behind());
    assert!(!scene.path("never.json").exists());
}

#[test]
fn who_is_told_to_end_at_once_says_so_whatever_goes_wrong_meanwhile() {
    let scene = Scene::new();
    let mut bench = endless(&scene, "never.json");
    let servers: Vec<_> = scene.living().into_iter().filter(|&pid| pid != bench.pid()).collect();
    servers.iter().for_each(|&server| freeze(server));
    // To delete them takes longer than to hear that the servers are gone.
    let doomed = scene.left_behind().pop().unwrap();
    let files = 30_000;
    (0..files).for_each(|file| fs::write(doomed.join(file.to_string()), "").unwrap());
    bench.signal(Signal::INT);
    bench.signal(Signal::TERM);
    until("what is deleted", || fs::read_dir(&doomed).map_or(0, Iterator::count) < files);
    servers.iter().for_each(|&server| _ = kill_process(server, Signal::KILL));
    assert_eq!(bench.end().code(), Some(130));
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty(), "shares are secret: {:?}", scene.left_behind());
}

#[test]
fn servers_end_with_the_bench_that_started_them_even_when_it_is_killed() {
    let scene = Scene::new();
    for wait in [0, 5, 300] {
        let mut bench = endless(&scene, "never.json");
        thread::sleep(Duration::from_millis(wait));
        bench.kill();
        scene.nothing_lives();
    }
}

#[test]
fn a_bench_whose_server_is_killed_reports_the_failures_and_exits_with_one() {
    let scene = Scene::new();
    let mut bench = endless(&scene, "failed.json");
    // Sixteen questions in flight have a thread each.
    let threads = format!("/proc/{}/task", bench.pid().as_raw_nonzero());
    until("questions", || fs::read_dir(&threads).unwrap().count() > 16);
    let server = scene.living().into_iter().find(|&pid| pid != bench.pid()).unwrap();
    kill_process(server, Signal::KILL).unwrap();
    thread::sleep(Duration::from_secs(4));
    bench.signal(Signal::INT);
    assert_eq!(bench.end().code(), Some(1));
    let report: Value = serde_json::from_slice(&fs::read(scene.path("failed.json")).unwrap()).unwrap();
    let run = &report["runs"][0];
    assert!(run["failed"].as_u64().unwrap() > 0 && run["wrong"] == 0, "{run}");
    assert_eq!(report["servers"].as_array().unwrap().iter().filter(|server| server.is_null()).count(), 1);
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty());
}

#[test]
fn a_measurement_whose_threads_do_not_fit_says_so() {
    let scene = Scene::new();
    let bench = scene.command(words("bench queue --workers 8 --seconds 0.01"));
    // Room for two stacks and for the rest of the program: setrlimit(2), `RLIMIT_AS`.
    let mut limited = Command::new("sh");
    limited.env("RUST_MIN_STACK", "700000000").args(["-c", "ulimit -v 2000000; exec \"$0\" \"$@\""]);
    let output = limited.arg(bench.get_program()).args(bench.get_args()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("roadstead: no thread could be had"), "{said}");
}
