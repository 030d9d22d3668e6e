//! What disturbs a program from outside: signals during any call, a stop, a wall clock that steps.

use std::{
    io::Write,
    iter,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use roadstead::Model;
use roadstead_conformance::{
    asks::{ECHO, FILE, JOB, LATER, SLEEP, TOIL},
    child::Child,
    client::{End, SetAtEnd, ask, end_of, frame, pattern, read_frame, try_read_frame},
    interrupt::interrupt,
    setting::Setting,
    wire::Wire,
};

scenarios! {
    interrupted_calls_are_made_again (Queues): "signals rain on every thread of every process, and no call that they interrupt fails",
    a_stop_is_no_end (Models): "a program that was stopped and goes on answers what came meanwhile",
    who_spoke_during_a_stop_is_in_time (Wires): "after a stop that was longer than its deadlines, all who spoke meanwhile are served",
    who_spoke_during_a_job_is_in_time (Queues): "beside a job that was longer than the idle time, who spoke meanwhile is served",
    who_is_served_beside_a_long_call_has_time (Wires): "when a session took longer than the idle time in a call, it and who was served behind it have all of their time to speak again",
    the_wall_clock_may_step (Models): "a wall clock that steps by a day at every look changes no deadline",
}

/// Asks for something of each kind: answers at once, from a job, from another thread, and of a file.
fn use_all(stream: &mut Wire) {
    for len in [1, 500, 20_000] {
        let body = pattern(len);
        stream.write_all(&frame(ECHO, 0, &body)).unwrap();
        // Long enough that every wait is interrupted several times.
        thread::sleep(Duration::from_millis(1));
        assert!(read_frame(stream) == (ECHO, body));
    }
    assert_eq!(ask(stream, JOB, 7, b"").0, JOB);
    assert_eq!(ask(stream, LATER, 2, b"").0, LATER);
    assert!(ask(stream, FILE, 500_000, b"") == (FILE, pattern(500_000)));
}

fn interrupted_calls_are_made_again(setting: &Setting) {
    let child = Child::start(setting, "desk --file 500000");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                for (process, thread) in child.threads() {
                    interrupt(process, thread);
                }
                thread::sleep(Duration::from_micros(300));
            }
        });
        let _over = SetAtEnd(&over);
        for _ in 0..10 {
            use_all(&mut child.connect());
        }
    });
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["failed"]), (10, 0));
}

fn a_stop_is_no_end(setting: &Setting) {
    let child = Child::start(setting, "desk --file 500000");
    let mut stream = child.connect();
    for round in 0..5u64 {
        child.freeze();
        stream.write_all(&[frame(ECHO, 0, b"meanwhile"), frame(LATER, round, b"")].concat()).unwrap();
        thread::sleep(Duration::from_millis(20));
        child.thaw();
        assert_eq!(read_frame(&mut stream), (ECHO, b"meanwhile".to_vec()));
        assert_eq!(read_frame(&mut stream).0, LATER);
        use_all(&mut stream);
    }
    drop(stream);
    assert_eq!(child.drain()["failed"], 0);
}

/// A server with deadlines of five seconds that was stopped before any of them, and a crowd before it; on some the time
/// for the first byte runs, on the others the idle time. `None` on a machine so busy that it took all of that.
fn crowd(setting: &Setting, many: usize) -> Option<(Child, Vec<Wire>)> {
    let options = format!("desk --idle 5000 --first-byte 5000 {}", setting.room_for(many));
    let child = Child::start(setting, &options);
    let begun = Instant::now();
    let mut streams = child.connect_many(many);
    for stream in streams.iter_mut().step_by(2) {
        stream.write_all(&frame(ECHO, 0, b"before")).ok()?;
    }
    let heard = streams.iter_mut().step_by(2).all(|stream| try_read_frame(stream).is_ok());
    child.freeze();
    let in_time = heard && begun.elapsed() < Duration::from_secs(5);
    if !in_time {
        child.thaw();
    }
    in_time.then_some((child, streams))
}

/// Crowds, so that no single look of a loop at the network tells it of all its own.
fn who_spoke_during_a_stop_is_in_time(setting: &Setting) {
    let most = if setting.model == Model::Iterative { 1 } else { 300 * setting.loops };
    let sizes = iter::successors(Some(most), |many| Some(many.div_ceil(2))).take(10);
    let (child, mut streams) =
        { sizes }.find_map(|many| crowd(setting, many)).expect("a machine that does something");
    streams.iter_mut().for_each(|stream| stream.write_all(&frame(ECHO, 0, b"meanwhile")).unwrap());
    thread::sleep(Duration::from_millis(5200));
    child.thaw();
    for mut stream in streams {
        assert_eq!(read_frame(&mut stream), (ECHO, b"meanwhile".to_vec()));
    }
}

fn who_spoke_during_a_job_is_in_time(setting: &Setting) {
    let child = Child::start(setting, "desk --idle 4000");
    let mut busy = child.connect();
    // Where one client is served at a time, the other comes second.
    let mut other = (setting.model != Model::Iterative).then(|| {
        let mut other = child.connect();
        assert_eq!(ask(&mut other, ECHO, 0, b"before").0, ECHO);
        other
    });
    busy.write_all(&frame(TOIL, 4600, b"")).unwrap();
    thread::sleep(Duration::from_millis(300));
    for stream in [&mut busy].into_iter().chain(&mut other) {
        stream.write_all(&frame(ECHO, 0, b"meanwhile")).unwrap();
    }
    if let Some(mut other) = other {
        assert_eq!(read_frame(&mut other), (ECHO, b"meanwhile".to_vec()));
    }
    let mut kinds = [read_frame(&mut busy).0, read_frame(&mut busy).0];
    kinds.sort();
    assert_eq!(kinds, [ECHO, TOIL]);
    drop(busy);
    assert_eq!(child.drain()["failed"], 0);
}

fn who_is_served_beside_a_long_call_has_time(setting: &Setting) {
    let child = Child::start(setting, "desk --idle 4000");
    let mut long = child.connect();
    let mut other = (setting.model != Model::Iterative).then(|| {
        let mut other = child.connect();
        assert_eq!(ask(&mut other, ECHO, 0, b"before").0, ECHO);
        other
    });
    // While the first call is made both asks come, so that one look at the network tells of both.
    long.write_all(&frame(SLEEP, 300, b"")).unwrap();
    thread::sleep(Duration::from_millis(100));
    long.write_all(&frame(SLEEP, 4600, b"")).unwrap();
    if let Some(mut other) = other.take() {
        other.write_all(&frame(ECHO, 0, b"meanwhile")).unwrap();
        assert_eq!(read_frame(&mut other), (ECHO, b"meanwhile".to_vec()));
        thread::sleep(Duration::from_millis(100));
        assert!(ask(&mut other, ECHO, 0, b"after") == (ECHO, b"after".to_vec()));
    }
    assert_eq!([read_frame(&mut long).0, read_frame(&mut long).0], [SLEEP, SLEEP]);
    thread::sleep(Duration::from_millis(100));
    assert!(ask(&mut long, ECHO, 0, b"after") == (ECHO, b"after".to_vec()));
    drop(long);
    assert_eq!(child.drain()["failed"], 0);
}

fn the_wall_clock_may_step(setting: &Setting) {
    let child = Child::start(setting, "desk --file 500000 --clock-steps --idle 4000");
    let begun = Instant::now();
    let mut stream = child.connect();
    for _ in 0..10 {
        use_all(&mut stream);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(end_of(&mut stream), End::Reset);
    assert!(begun.elapsed() >= Duration::from_millis(4200), "too early");
    assert_eq!(child.first_closed(), "the peer neither sent nor took a byte in time");
}
