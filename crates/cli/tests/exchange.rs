//! Servers that exchange messages, as processes: Trident's protocol `exchange`, and the measurements of the strategies.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use roadstead::Dialer;
use roadstead_trident::{
    client::{Client, ClientError, Options, Protocol},
    data::{Generated, Rows},
    query::Collection,
};

use common::{Held, Process, Scene, interrupted, until, words};

const ROWS: usize = 300;

/// Three servers that know each other.
struct Cluster<'a> {
    scene: &'a Scene,
    peers: Held<3>,
    strategy: &'static str,
    servers: Vec<Process>,
    addresses: [SocketAddr; 3],
    _held: Held<3>,
}

impl<'a> Cluster<'a> {
    fn start(scene: &'a Scene, strategy: &'static str) -> Self {
        let [peers, held] = [(); 2].map(|()| Held::of([127, 0, 0, 2]));
        let addresses = held.addresses;
        let mut cluster = Self { scene, peers, strategy, servers: Vec::new(), addresses, _held: held };
        for index in 0..3 {
            let server = cluster.serve(index);
            cluster.servers.push(server);
        }
        cluster
    }

    fn serve(&self, index: usize) -> Process {
        let peers = self.peers.addresses.map(|address| address.to_string()).join(",");
        let (bind, strategy) = (self.addresses[index], self.strategy);
        // The order of jobs is each server's own affair.
        let queue = ["sjf", "rr", "mlfq"][index];
        let more = format!("--bind {bind} --peers {peers} --exchange {strategy} --queue {queue}");
        let mut server = self.scene.serve(self.scene.server(index + 1, &more));
        assert_eq!(server.listening(), bind);
        assert_eq!(server.line(), format!("listening for servers on {}\n", self.peers.addresses[index]));
        server
    }
}

fn share(scene: &Scene, tls: bool) -> Vec<Vec<f32>> {
    scene.share(ROWS, tls);
    Generated::new(ROWS, 1).read_all().unwrap()
}

#[test]
fn a_row_is_read_with_every_strategy_and_refused_where_servers_do_not_know_each_other() {
    let scene = Scene::new();
    let rows = share(&scene, false);
    let fetch = |servers: [SocketAddr; 3]| {
        let servers = servers.map(|address| address.to_string()).join(",");
        let client = scene.path("shares/client").to_str().unwrap().to_owned();
        let line = format!("trident fetch 7 299 --protocol exchange --servers {servers} --client");
        [words(&line), vec![client]].concat()
    };
    for strategy in ["shared", "per-query", "pool:2", "multiplexed"] {
        let mut cluster = Cluster::start(&scene, strategy);
        let said = scene.ok(fetch(cluster.addresses));
        for (line, index) in said.lines().zip([7, 299]) {
            let values: Vec<String> = rows[index].iter().map(f32::to_string).collect();
            assert_eq!(line, format!("{index}: {}", values.join(" ")), "{strategy}");
        }
        for server in &mut cluster.servers {
            server.signal(Signal::TERM);
            assert_eq!(server.end().code(), Some(0));
        }
    }
    let alone = |party: usize| {
        let mut server = scene.serve(scene.server(party, "--bind 127.0.0.1:0"));
        let address = server.listening();
        (server, address)
    };
    let servers = [1, 2, 3].map(alone);
    let error = scene.fails(fetch(servers.each_ref().map(|(_, address)| *address)));
    assert!(error.contains("refused"), "{error}");
    let line = "--bind 127.0.0.1:0 --peers 192.0.2.1:1,192.0.2.2:1,192.0.2.3:1 --peer-bind 127.0.0.1:0";
    let error = scene.fails(scene.server(1, line));
    assert!(error.contains("is not a loopback address"), "{error}");
}

#[test]
fn queries_are_right_or_name_the_server_that_was_killed_and_its_return_is_noticed() {
    survives_a_kill(false);
}

#[test]
fn queries_are_right_or_name_the_server_that_was_killed_and_its_return_is_noticed_with_tls() {
    survives_a_kill(true);
}

fn survives_a_kill(tls: bool) {
    let scene = Scene::new();
    let rows = share(&scene, tls);
    let mut cluster = Cluster::start(&scene, "multiplexed");
    let collection = Arc::new(Collection::open(&scene.path("shares/client")).unwrap());
    let options = Options { protocol: Protocol::Exchange, ..Options::default() };
    let keys = scene.client_keys();
    let client = Client::new(collection, cluster.addresses, keys.as_ref(), options, Dialer::start).unwrap();
    let (over, right, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let over = Over(&over);
        for thread in 0..16 {
            let (client, rows, right, failed, over) = (&client, &rows, &right, &failed, over.0);
            scope.spawn(move || {
                for index in (thread..).step_by(16).take_while(|_| !over.load(SeqCst)) {
                    match client.fetch(index % ROWS) {
                        Ok(row) => {
                            assert_eq!(row.values(), rows[index % ROWS]);
                            right.fetch_add(1, SeqCst);
                        }
                        Err(error @ (ClientError::Unavailable { .. } | ClientError::Refused { .. })) => {
                            assert!(error.to_string().contains("server 2"), "{error}");
                            failed.fetch_add(1, SeqCst);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for _ in 0..3 {
            let (before, failures) = (right.load(SeqCst), failed.load(SeqCst));
            until("answers", || right.load(SeqCst) > before + 100);
            cluster.servers[1].kill();
            until("errors", || failed.load(SeqCst) > failures + 16);
            cluster.servers[1] = cluster.serve(1);
        }
        let before = right.load(SeqCst);
        until("answers again", || right.load(SeqCst) > before + 500);
    });
}

/// Ends the questions, also when an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn the_strategies_are_measured_side_by_side() {
    let scene = Scene::new();
    let svg = scene.path("exchange.svg");
    let line =
        "bench exchange --payload 500,200KiB --levels 1,4 --peer-delay 0ms,1ms --seconds 0.01 --json -";
    let said = scene.ok([words(line), vec!["--svg".into(), svg.to_str().unwrap().into()]].concat());
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["tls"], true);
    let runs = report["runs"].as_array().unwrap();
    let mut wanted = Vec::new();
    for delay in [0.0, 1.0] {
        for strategy in ["shared", "per-query", "pool:4", "multiplexed"] {
            for payload in [500, 200 << 10] {
                wanted.extend([1, 4].map(|level| (delay, strategy, payload, level)));
            }
        }
    }
    let found = runs.iter().map(|run| {
        let count = |name: &str| run[name].as_u64().unwrap();
        let strategy = run["strategy"].as_str().unwrap();
        (run["delay_ms"].as_f64().unwrap(), strategy, count("payload_bytes"), count("level"))
    });
    assert_eq!(found.collect::<Vec<_>>(), wanted);
    for run in runs {
        for key in ["payload_bytes", "level", "right", "wrong", "failed", "connections_opened"] {
            assert!(run[key].is_u64(), "{key} of {run}");
        }
        for key in ["delay_ms", "exchanges_per_s", "p50_ms", "p99_ms"] {
            assert!(run[key].is_f64(), "{key} of {run}");
        }
        assert!(run["strategy"].is_string() && run["right"].as_u64() >= Some(3));
        assert_eq!((&run["wrong"], &run["failed"]), (&0.into(), &0.into()), "{run}");
    }
    assert!(fs::read_to_string(svg).unwrap().contains("</svg>"));
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty(), "keys are secret: {:?}", scene.left_behind());
}

#[test]
fn buffers_that_were_asked_for_are_read_back_and_a_cut_is_said() {
    let scene = Scene::new();
    let line = "bench exchange --payload 500 --levels 1 --strategies multiplexed --peer-delay 0ms --seconds 0.01 --plain";
    let told = |more: &str| -> Value {
        serde_json::from_str(&scene.ok(words(&format!("{line} {more} --json -")))).unwrap()
    };
    assert!(told("")["socket_buffers"].is_null());
    let given = &told("--socket-buffer 20000")["socket_buffers"];
    for size in ["asked_bytes", "send_bytes", "receive_bytes"] {
        assert_eq!(given[size], 20_000, "{given}");
    }
    let said = scene.ok(words(&format!("{line} --socket-buffer 20000")));
    assert!(said.contains("socket buffers: 19.5 KiB, as asked for"), "{said}");
    let most = |name: &str| fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
    let [send, receive] = ["wmem_max", "rmem_max"].map(|name| most(name).trim().parse::<u64>().unwrap());
    if send.min(receive) < 1 << 30 {
        let said = scene.ok(words(&format!("{line} --socket-buffer 1GiB")));
        assert!(said.contains("of 1.0 GiB the kernel gave"), "{said}");
    }
}

#[test]
fn a_query_that_takes_longer_than_the_exchange_waits_has_failed() {
    let scene = Scene::new();
    let line = "bench exchange --payload 500 --levels 1 --strategies multiplexed --peer-delay 300ms --seconds 0.01 \
                --exchange-timeout 0.1 --plain --json -";
    let output = scene.run(words(line));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["runs"][0]["right"]), (Some(1), &0.into()), "{report}");
}

#[test]
fn a_background_of_large_messages_ends_with_the_measurement() {
    let scene = Scene::new();
    let line = "bench exchange --payload 500 --levels 2 --strategies multiplexed --peer-delay 1ms --seconds 0.05 \
                --background 1MiB --plain --json -";
    let report: Value = serde_json::from_str(&scene.ok(words(line))).unwrap();
    let run = &report["runs"][0];
    assert_eq!(report["tls"], false);
    assert_eq!((&run["wrong"], &run["failed"]), (&0.into(), &0.into()));
    assert!(run["most_ahead_bytes"].as_u64() <= Some(256 << 10), "{run}");
    scene.nothing_lives();
}

#[test]
fn an_interrupted_measurement_reports_what_it_has_and_leaves_nothing() {
    let scene = Scene::new();
    for (wait, signals, seconds) in [(400, 2, 60.0), (0, 1, 0.3), (400, 1, 0.3)] {
        let line = format!("bench exchange --payload 500 --levels 1,2,4,8 --seconds {seconds} --json");
        let mut command = scene.command(words(&line));
        command.arg(scene.path("some.json")).stderr(Stdio::null());
        let mut bench = Process::start(command);
        until("four processes", || scene.living().len() == 4);
        thread::sleep(Duration::from_millis(wait));
        // Two of a kind could become one.
        for signal in [Signal::INT, Signal::TERM].into_iter().take(signals) {
            bench.signal(signal);
        }
        let report = interrupted(bench.end().code(), &scene.path("some.json"));
        assert!(signals == 1 || report.is_none(), "the second signal ends it at once");
        for run in report.iter().flat_map(|report| report["runs"].as_array().unwrap()) {
            assert_eq!((&run["wrong"], &run["failed"]), (&0.into(), &0.into()));
        }
        scene.nothing_lives();
        assert!(scene.left_behind().is_empty(), "keys are secret: {:?}", scene.left_behind());
    }
}

#[test]
fn a_lost_server_fails_queries_by_name_and_leaves_no_memory_behind() {
    let scene = Scene::new();
    let svg = scene.path("loss.svg");
    let line = "bench loss --times 1 --level 4 --json -";
    let said = scene.run([words(line), vec!["--svg".into(), svg.to_str().unwrap().into()]].concat());
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    for nothing in ["wrong", "unnamed", "held_bytes", "waiting"] {
        assert_eq!(report[nothing], 0, "{nothing} of {report}");
    }
    assert_eq!(report["tls"], true);
    let loss = &report["losses"][0];
    assert!(loss["failed"].as_u64() > Some(0), "{loss}");
    assert_eq!(report["losses"].as_array().unwrap().len(), 1);
    assert!(loss["before_per_s"].as_f64() > Some(0.0), "{loss}");
    assert!(loss["back_after_ms"].is_null() || loss["after_per_s"].as_f64() > Some(0.0), "{loss}");
    // They are those that lived on.
    let resident =
        report["resident_bytes"].as_array().unwrap().iter().flat_map(|both| both.as_array().unwrap());
    assert!(
        resident.map(|bytes| bytes.as_u64().unwrap()).filter(|bytes| *bytes > 1 << 20).count() == 4,
        "{report}"
    );
    // How fast a machine is that does other things too says nothing about the program.
    assert_eq!(said.status.code(), Some(i32::from(loss["back_after_ms"].is_null())));
    assert!(fs::read_to_string(svg).unwrap().contains("</svg>"));
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty());
}

#[test]
fn trident_is_measured_with_its_servers_exchanging() {
    let scene = Scene::new();
    let line = "trident bench --rows 500 --op fetch --protocol direct,exchange --exchange shared,multiplexed \
                --levels 2 --queries 10 --peer-delay 1ms --json -";
    let report: Value = serde_json::from_str(&scene.ok(words(line))).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((&report["peer_delay_ms"], &report["dataset"]), (&1.0.into(), &"made-500".into()));
    let ways: Vec<_> = runs.iter().map(|run| (run["protocol"].as_str(), run["exchange"].as_str())).collect();
    let exchange = Some("exchange");
    assert_eq!(ways, [(Some("direct"), None), (exchange, Some("shared")), (exchange, Some("multiplexed"))]);
    for run in runs {
        assert_eq!((&run["right"], &run["wrong"], &run["failed"]), (&10.into(), &0.into(), &0.into()));
        // Six messages of three elements a dimension.
        let between = if run["protocol"] == "exchange" { 6.0 * 3.0 * 128.0 * 4.0 } else { 0.0 };
        assert_eq!(run["server_bytes"], between);
    }
    scene.nothing_lives();
}
