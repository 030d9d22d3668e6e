//! What disturbs a program from outside: signals during any call, a stop, a wall clock that steps.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use roadstead_conformance::{
    asks::{ECHO, FILE, JOB, LATER},
    child::Child,
    client::{End, SetAtEnd, ask, end_of, frame, pattern, read_frame},
    setting::Setting,
    wire::Wire,
};
use rustix::process::{Signal, kill_process_group};

scenarios! {
    interrupted_calls_are_made_again (Queues): "signals rain on every thread of every process, and no call that they interrupt fails",
    a_stop_is_no_end (Models): "a program that was stopped and goes on answers what came meanwhile",
    the_wall_clock_may_step (Models): "a wall clock that steps by a day at every look changes no deadline",
}

// SAFETY: the C library has this function with this signature, and it takes nothing but numbers.
unsafe extern "C" {
    safe fn tgkill(process: i32, thread: i32, signal: i32) -> i32;
}

const SIGUSR1: i32 = Signal::USR1.as_raw();

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
                    tgkill(process, thread, SIGUSR1);
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
        kill_process_group(child.pid(), Signal::STOP).unwrap();
        stream.write_all(&[frame(ECHO, 0, b"meanwhile"), frame(LATER, round, b"")].concat()).unwrap();
        thread::sleep(Duration::from_millis(20));
        kill_process_group(child.pid(), Signal::CONT).unwrap();
        assert_eq!(read_frame(&mut stream), (ECHO, b"meanwhile".to_vec()));
        assert_eq!(read_frame(&mut stream).0, LATER);
        use_all(&mut stream);
    }
    drop(stream);
    assert_eq!(child.drain()["failed"], 0);
}

fn the_wall_clock_may_step(setting: &Setting) {
    let child = Child::start(setting, "desk --file 500000 --clock-steps --idle 1000");
    let begun = Instant::now();
    let mut stream = child.connect();
    for _ in 0..10 {
        use_all(&mut stream);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(end_of(&mut stream), End::Reset);
    assert!(begun.elapsed() >= Duration::from_millis(1200), "too early");
    assert_eq!(child.first_closed(), "the peer neither sent nor took a byte in time");
}
