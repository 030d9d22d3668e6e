//! How a load opens its connections, on which core it stays, and the shape of its report.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use roadstead::layer::{Identity, Layer, Layers};
use rustix::thread::sched_getaffinity;

use roadstead_load::generator::{Fault, Load, LoadReport, Mode};

/// Echoes on every connection for the rest of the test.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                let mut block = [0; 1 << 12];
                while let Ok(count @ 1..) = socket.read(&mut block) {
                    if socket.write_all(&block[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn count(target: SocketAddr, messages: u64) -> Load {
    let mut load = Load::new(target);
    load.mode = Mode::ClosedCount(messages);
    load.timeout = Duration::from_secs(60);
    load
}

fn run(load: &Load) -> LoadReport {
    load.run(&mut |_| ControlFlow::Continue(())).unwrap()
}

/// Layers that change nothing, of which the second, the fifth and the sixth cannot be had.
#[derive(Debug, Default)]
struct Fickle(AtomicUsize);

#[derive(Debug)]
struct Plain;

impl Layers for Fickle {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        match self.0.fetch_add(1, SeqCst) {
            1 | 5 => Err(io::ErrorKind::ConnectionRefused.into()),
            4 => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(Box::new(Plain)),
        }
    }
}

impl Layer for Plain {
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, _: &mut BytesMut) -> io::Result<()> {
        plain.unsplit(wire.split());
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
        wire.extend_from_slice(plain);
        Ok(())
    }

    fn finish(&mut self, _: &mut [u8], _: &mut BytesMut) {}

    fn is_open(&self) -> bool {
        true
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn identity(&self) -> Option<Identity> {
        None
    }
}

#[test]
fn connections_that_cannot_be_opened_are_counted_each_by_its_reason_and_the_others_do_the_work() {
    let mut load = count(echo_server(), 100);
    (load.idle, load.connections) = (3, 5);
    load.layers = Some(Arc::new(Fickle::default()));
    let report = run(&load);
    assert_eq!(report.connect_errors, BTreeMap::from([(Fault::Refused, 2), (Fault::Layer, 1)]));
    assert_eq!((report.connected, report.right, report.failed), (5, 100, 0), "{report:?}");
    assert!(report.layered && report.lost.is_empty() && !report.is_clean(), "{report:?}");
    assert_eq!((report.idle, report.connections), (3, 5), "as it was asked for");
}

#[test]
fn a_load_stays_on_its_core_while_it_runs_and_no_longer() {
    let cores = || {
        let set = sched_getaffinity(None).unwrap();
        (0..1_024).filter(|&core| set.is_set(core)).collect::<Vec<usize>>()
    };
    let before = cores();
    let core = *before.last().unwrap();
    let mut load = count(echo_server(), 10);
    load.core = Some(core);
    let mut during = Vec::new();
    let report = load.run(&mut |_| {
        during = cores();
        ControlFlow::Continue(())
    });
    assert_eq!(report.unwrap().right, 10);
    assert_eq!((during, cores()), (vec![core], before));
}

#[test]
fn programs_find_every_figure_of_a_load_under_its_name() {
    let mut load = count(echo_server(), 7);
    (load.depth, load.size) = (2, 33);
    let report = run(&load);
    let json = serde_json::to_value(&report).unwrap();
    let found: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let names = "target loop rate connections idle layered depth size connected connect_errors lost right wrong \
                 failed failures seconds messages_per_second mean_ms p50_ms p95_ms p99_ms p999_ms max_ms overlap \
                 client_cpu_share client_is_limit";
    assert_eq!(found, names.split(' ').filter(|name| !name.is_empty()).collect());
    let latency = report.latency;
    let figures = [
        ("mean_ms", latency.mean_ms),
        ("p50_ms", latency.p50_ms),
        ("p95_ms", latency.p95_ms),
        ("p99_ms", latency.p99_ms),
        ("p999_ms", latency.p999_ms),
        ("max_ms", latency.max_ms),
        ("seconds", report.seconds),
    ];
    for (name, figure) in figures {
        assert_eq!(json[name].as_f64(), Some(figure), "{name}");
    }
    // Little's law: all three are of the same messages.
    let in_flight = report.messages_per_second * latency.mean_ms / 1e3;
    assert!((in_flight / report.overlap - 1.0).abs() < 1e-6, "{report:?}");
    assert!(report.client_cpu_share > 0.0 && report.client_cpu_share < 1.5, "{report:?}");
}
