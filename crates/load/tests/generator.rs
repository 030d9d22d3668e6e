//! The load generator against real servers on loopback: good, bad, slow and dead ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use roadstead_load::generator::{
    CONNECTIONS_MAX, Fault, IN_FLIGHT_MAX, Load, LoadError, LoadReport, Mode, Progress,
};

/// Serves every connection on its own thread for the rest of the test.
fn serve(session: impl Fn(usize, TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (index, socket) in listener.incoming().enumerate() {
            let (session, socket) = (session.clone(), socket.unwrap());
            thread::spawn(move || session(index, socket));
        }
    });
    address
}

/// Sends back what comes, after `change` saw it and the position of its first byte.
fn echo(mut socket: TcpStream, change: impl Fn(u64, &mut [u8])) {
    let mut buffer = vec![0; 64 * 1024];
    let mut position = 0;
    loop {
        match retry_on_intr(|| rustix::io::read(&socket, &mut buffer[..])) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                change(position, &mut buffer[..count]);
                position += count as u64;
                if socket.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        }
    }
}

fn echo_server() -> SocketAddr {
    serve(|_, socket| echo(socket, |_, _| ()))
}

fn count(target: SocketAddr, messages: u64) -> Load {
    let mut load = Load::new(target);
    load.mode = Mode::ClosedCount(messages);
    // A busy machine is not a dead server.
    load.timeout = Duration::from_secs(60);
    load
}

fn run(load: &Load) -> LoadReport {
    load.run(&mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn every_message_of_a_good_server_is_right() {
    let target = echo_server();
    let sizes = [(1, 1, 1), (1, 16, 128), (20, 1, 128), (7, 5, 1_000), (2, 3, 300_000)];
    for (connections, depth, size) in sizes {
        let mut load = count(target, 1_000.min(40_000_000 / size as u64));
        (load.connections, load.depth, load.size) = (connections, depth, size);
        let report = run(&load);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(Mode::ClosedCount(report.right), load.mode);
        assert_eq!(report.connected, connections);
        let most = (connections * depth) as f64;
        assert!(report.overlap > 0.0 && report.overlap <= most, "{report:?}");
        assert!(report.latency.p50_ms <= report.latency.max_ms);
        assert!(report.messages_per_second > 0.0);
    }
}

#[test]
fn fewer_messages_than_places_in_flight_are_enough() {
    let mut load = count(echo_server(), 3);
    (load.connections, load.depth) = (10, 4);
    let report = run(&load);
    assert!(report.is_clean());
    assert_eq!(report.right, 3);
}

#[test]
fn a_closed_loop_by_time_ends_with_all_answered() {
    let mut load = Load::new(echo_server());
    (load.connections, load.depth) = (4, 4);
    load.mode = Mode::ClosedFor(Duration::from_millis(200));
    let mut last = 0.0;
    let report = load.run(&mut |progress| {
        assert!(progress.fraction >= last && progress.fraction <= 1.0);
        last = progress.fraction;
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert!(report.is_clean() && report.right > 0, "{report:?}");
    assert!(report.seconds >= 0.2);
    assert_eq!(last, 1.0);
}

#[test]
fn a_load_that_is_stopped_reports_what_was_sent() {
    let long = Duration::from_secs(3600);
    let modes = [
        Mode::ClosedFor(long),
        Mode::ClosedCount(u64::MAX),
        Mode::Open { per_second: 500.0, duration: long },
    ];
    for mode in modes {
        let mut load = Load::new(echo_server());
        (load.connections, load.depth, load.mode) = (3, 4, mode);
        let stop = |progress: &Progress| match progress.right {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        let report = load.run(&mut { stop }).unwrap();
        assert!(report.is_clean() && report.right > 0, "{report:?}");
        assert!(report.seconds < 3600.0);
    }
}

#[test]
fn the_open_loop_sends_what_was_planned() {
    let mut load = Load::new(echo_server());
    (load.connections, load.depth) = (3, 8);
    load.mode = Mode::Open { per_second: 2_000.0, duration: Duration::from_millis(250) };
    let report = run(&load);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.right, 500);
}

#[test]
fn a_stall_shows_in_the_latency_of_what_was_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(200);
    let target = serve(|_, socket| {
        echo(socket, |position, _| {
            if position == 0 {
                thread::sleep(STALL);
            }
        });
    });
    let mut load = Load::new(target);
    load.mode = Mode::Open { per_second: 1_000.0, duration: Duration::from_millis(250) };
    let report = run(&load);
    assert_eq!(report.right, 250);
    // One message was in flight, yet 200 of 250 were due during the stall and waited 100 ms on average.
    assert!(report.latency.mean_ms > 50.0, "{report:?}");
    assert!(report.latency.max_ms >= 200.0, "{report:?}");
}

#[test]
fn a_rest_between_two_messages_is_no_waiting_for_an_answer() {
    let target = serve(|_, socket| echo(socket, |_, _| thread::sleep(Duration::from_millis(300))));
    let mut load = Load::new(target);
    // The second is due after four seconds, and answered long before it would be overdue.
    load.mode = Mode::Open { per_second: 0.25, duration: Duration::from_secs(8) };
    load.timeout = Duration::from_secs(3);
    let report = run(&load);
    assert_eq!((report.right, report.failed), (2, 0), "{report:?}");
}

#[test]
fn a_changed_byte_makes_its_message_wrong() {
    let target = serve(|_, socket| {
        echo(socket, |position, bytes| {
            // The last byte of message 41.
            if let Some(offset) = (42 * 100 - 1_u64).checked_sub(position)
                && let Some(byte) = bytes.get_mut(offset as usize)
            {
                *byte ^= 1;
            }
        });
    });
    let mut load = count(target, 100);
    load.size = 100;
    let report = run(&load);
    assert_eq!((report.right, report.wrong, report.failed), (99, 1, 0));
    assert!(!report.is_clean());
}

#[test]
fn a_server_that_closes_fails_the_rest() {
    let target = serve(|_, mut socket| {
        let mut message = [0; 128];
        for _ in 0..5 {
            socket.read_exact(&mut message).unwrap();
            socket.write_all(&message).unwrap();
        }
    });
    let mut load = count(target, 100);
    load.connections = 2;
    let report = run(&load);
    assert_eq!((report.right, report.wrong, report.failed), (10, 0, 90));
    assert_eq!(report.lost.values().sum::<u64>(), 2);
    assert_eq!(report.failures[&Fault::Unsent], 88);
}

#[test]
fn others_go_on_when_one_connection_is_closed() {
    let target = serve(|index, socket| {
        if index != 1 {
            echo(socket, |_, _| ());
        }
    });
    let mut closed = count(target, 400);
    closed.connections = 4;
    let report = run(&closed);
    assert_eq!(report.right + report.failed, 400);
    assert_eq!(report.failed, 1);

    let target = serve(|index, socket| {
        if index != 1 {
            echo(socket, |_, _| ());
        }
    });
    let mut open = Load::new(target);
    open.connections = 4;
    open.mode = Mode::Open { per_second: 4_000.0, duration: Duration::from_millis(100) };
    let report = run(&open);
    assert_eq!((report.right, report.failed), (300, 100));
    assert_eq!(report.lost.values().sum::<u64>(), 1);
}

#[test]
fn a_server_that_never_answers_fails_at_the_deadline() {
    let target = serve(|_, mut socket| {
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    let modes = [
        Mode::ClosedCount(10),
        Mode::ClosedFor(Duration::from_millis(50)),
        Mode::Open { per_second: 200.0, duration: Duration::from_millis(50) },
    ];
    for mode in modes {
        let mut load = count(target, 10);
        (load.mode, load.depth) = (mode, 4);
        load.timeout = Duration::from_millis(100);
        let report = run(&load);
        assert_eq!((report.right, report.wrong), (0, 0));
        assert_eq!(report.failures[&Fault::TimedOut], 4, "{report:?}");
        assert!(report.latency.p50_ms.is_nan());
        if mode != Mode::ClosedFor(Duration::from_millis(50)) {
            assert_eq!(report.failed, 10, "{report:?}");
        }
    }
}

#[test]
fn a_server_that_does_not_even_read_fails_at_the_deadline() {
    let target = serve(|_, _socket| thread::park());
    let mut load = count(target, 8);
    (load.size, load.depth) = (8 << 20, 8);
    load.timeout = Duration::from_millis(200);
    let report = run(&load);
    assert_eq!(report.failures, BTreeMap::from([(Fault::TimedOut, 8)]));
}

#[test]
fn a_server_that_talks_unasked_is_dropped() {
    let target = serve(|_, mut socket| {
        let _ = socket.write_all(b"220 welcome");
        echo(socket, |_, _| ());
    });
    let mut load = count(target, 5);
    load.size = 4;
    load.idle = 3;
    let report = run(&load);
    assert_eq!(report.right, 0);
    assert!(report.lost[&Fault::Unasked] >= 1, "{report:?}");
}

#[test]
fn silent_connections_stay_open_beside_the_active_ones() {
    let mut load = count(echo_server(), 200);
    (load.connections, load.idle) = (2, 50);
    let report = run(&load);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.right, report.connected), (200, 52));
}

#[test]
fn nobody_at_the_target_is_an_error_that_names_it() {
    // Bound and not listening: refuses, and nobody else can take the port meanwhile.
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    bind(&socket, &any).unwrap();
    let target: SocketAddr = getsockname(&socket).unwrap().try_into().unwrap();
    let error = count(target, 1).run(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, LoadError::Unreachable { .. }));
    assert!(error.to_string().contains(&target.to_string()), "{error}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_opened() {
    let good = count("127.0.0.1:9".parse().unwrap(), 1);
    let changes: [fn(&mut Load); 10] = [
        |load| load.connections = 0,
        |load| load.connections = CONNECTIONS_MAX + 1,
        |load| load.idle = CONNECTIONS_MAX,
        |load| load.depth = 0,
        |load| load.depth = IN_FLIGHT_MAX + 1,
        |load| load.size = 0,
        |load| load.timeout = Duration::ZERO,
        |load| load.mode = Mode::ClosedCount(0),
        |load| load.mode = Mode::ClosedFor(Duration::ZERO),
        |load| {
            load.mode = Mode::Open { per_second: f64::NAN, duration: Duration::from_secs(1) };
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut load = good.clone();
        change(&mut load);
        let error = load.run(&mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, LoadError::Invalid { .. }), "{index}: {error}");
    }
    let mut load = good;
    load.core = Some(100_000);
    let error = load.run(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, LoadError::Core { core: 100_000, .. }));
}

#[test]
fn the_report_is_flat_json_with_named_reasons() {
    let target = serve(|_, _| ());
    let report = run(&count(target, 2));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["loop"], "closed");
    assert_eq!(json["failed"], 2);
    assert!(json["p99_ms"].is_null());
    assert!(json["failures"]["unsent"].is_u64(), "{json}");
    assert!(json["lost"].is_object() && json["client_is_limit"].is_boolean());
}

#[test]
fn the_report_says_what_was_asked_for_and_what_came_of_it() {
    let mut load = Load::new(echo_server());
    (load.connections, load.idle, load.depth, load.size) = (2, 3, 4, 5);
    load.mode = Mode::Open { per_second: 400.0, duration: Duration::from_millis(200) };
    load.timeout = Duration::from_secs(60);
    let report = run(&load);
    assert_eq!((&report.target, report.kind, report.rate), (&load.target, "open", Some(400.0)));
    assert_eq!((report.connections, report.idle, report.depth, report.size), (2, 3, 4, 5));
    assert_eq!((report.connected, report.right, report.layered), (5, 80, false));
    assert_eq!(report.messages_per_second, 80.0 / report.seconds);
    assert!(!report.client_is_limit, "it slept most of the time: {report:?}");
    let closed = run(&count(load.target.socket().unwrap(), 1));
    assert_eq!((closed.kind, closed.rate), ("closed", None));
}

#[test]
fn wrong_and_failed_messages_are_told_apart_while_it_runs_and_in_the_end() {
    // The first two messages come back changed, the third as it was; then the server closes.
    let target = serve(|_, mut socket| {
        let mut message = [0; 128];
        for change in [1, 1, 0] {
            socket.read_exact(&mut message).unwrap();
            message[0] ^= change;
            socket.write_all(&message).unwrap();
        }
        socket.read_exact(&mut message).unwrap();
    });
    let mut last = None;
    let report = count(target, 10).run(&mut |progress| {
        last = Some((progress.right, progress.wrong, progress.failed));
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_eq!(last, Some((1, 2, 1)), "what was never sent fails in the end");
    assert_eq!((report.right, report.wrong, report.failed), (1, 2, 7));
    assert_eq!(report.failures, BTreeMap::from([(Fault::Closed, 1), (Fault::Unsent, 6)]));
    assert_eq!(report.lost, BTreeMap::from([(Fault::Closed, 1)]));
    assert_eq!(report.messages_per_second, 1.0 / report.seconds, "right ones count");
}

#[test]
fn a_load_lasts_until_its_last_answer_and_not_until_it_gives_up() {
    let late = Duration::from_millis(200);
    let mut load = Load::new(serve(move |_, socket| echo(socket, |_, _| thread::sleep(late))));
    load.mode = Mode::ClosedFor(Duration::from_millis(50));
    assert!(run(&load).seconds >= 0.2, "the answer came after the planned end");
    let mut load = Load::new(serve(|_, mut socket| drop(std::io::copy(&mut socket, &mut std::io::sink()))));
    load.timeout = Duration::from_millis(100);
    let planned = Duration::from_millis(50);
    for mode in [Mode::ClosedFor(planned), Mode::Open { per_second: 200.0, duration: planned }] {
        load.mode = mode;
        assert_eq!(run(&load).seconds, 0.05, "{mode:?}");
    }
    load.mode = Mode::ClosedCount(1);
    assert!(run(&load).seconds >= 0.1, "no end was planned");
}

#[test]
fn an_answer_now_and_then_keeps_a_connection_on_which_more_is_awaited() {
    let pause = Duration::from_millis(400);
    let mut load = count(serve(move |_, socket| echo(socket, |_, _| thread::sleep(pause))), 6);
    // So large that each is received alone.
    (load.depth, load.size, load.timeout) = (2, 64 * 1024, Duration::from_millis(2_000));
    let report = run(&load);
    assert_eq!((report.right, report.failed), (6, 0), "{report:?}");
}

/// Every answer comes in time, and all together would take minutes.
#[test]
fn a_load_waits_for_answers_after_its_end_as_long_as_for_one_answer() {
    let pause = Duration::from_millis(100);
    let mut load = Load::new(serve(move |_, socket| echo(socket, |_, _| thread::sleep(pause))));
    (load.depth, load.size, load.timeout) = (200, 64 * 1024, Duration::from_secs(1));
    load.mode = Mode::ClosedFor(pause);
    let report = run(&load);
    assert!((1..16).contains(&report.right), "{report:?}");
    assert_eq!(report.failures.keys().collect::<Vec<_>>(), [&Fault::TimedOut], "{report:?}");
}

#[test]
fn what_a_stopped_load_has_not_sent_has_not_failed() {
    let target = serve(|_, mut socket| {
        let mut message = [0; 128];
        socket.read_exact(&mut message).unwrap();
        socket.write_all(&message).unwrap();
        socket.read_exact(&mut message).unwrap();
        thread::sleep(Duration::from_millis(500));
    });
    let mut load = Load::new(target);
    load.mode = Mode::Open { per_second: 100.0, duration: Duration::from_secs(3_600) };
    let stop = |progress: &Progress| match progress.right {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let report = load.run(&mut { stop }).unwrap();
    assert_eq!((report.right, report.failed), (1, 1));
    assert_eq!(report.failures.values().sum::<u64>(), 1, "{report:?}");
}

#[test]
fn silent_connections_that_end_or_speak_are_counted_as_what_they_did() {
    let target = serve(|index, mut socket| match index {
        0 => {}
        1 => {
            socket.write_all(b"!").unwrap();
            thread::park();
        }
        _ => echo(socket, |_, _| ()),
    });
    let mut load = Load::new(target);
    (load.idle, load.mode) = (3, Mode::ClosedFor(Duration::from_millis(300)));
    let report = run(&load);
    assert_eq!(report.lost, BTreeMap::from([(Fault::Closed, 1), (Fault::Unasked, 1)]));
    assert!(report.right > 0 && report.failed == 0 && report.connected == 4, "{report:?}");
}

#[test]
fn all_that_were_not_opened_are_counted_although_none_is_tried_after_a_timeout() {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    bind(&listener, &any).unwrap();
    // Nobody accepts, and there is room for one.
    rustix::net::listen(&listener, 0).unwrap();
    let mut load = count(getsockname(&listener).unwrap().try_into().unwrap(), 1);
    (load.connections, load.timeout) = (50, Duration::from_millis(200));
    let report = run(&load);
    assert!((1..50).contains(&report.connected), "{report:?}");
    assert_eq!(report.connect_errors, BTreeMap::from([(Fault::TimedOut, 50 - report.connected as u64)]));
}
