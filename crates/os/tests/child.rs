//! Processes as objects: how they begin, what they are called, what they share, and how they end.
//!
//! A process that forks has one thread, which the usual harness has not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::AsRawFd,
    os::unix::process::parent_id,
    process::{self, ExitCode},
    sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, Signal, kill_process},
};

use roadstead_os::{
    processes::child::{Child, Exit, Run},
    signals::{SIGTERM, SignalQueue},
    wait::wait_for,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let trials = trials![
        functions_and_types_that_carry_their_data_run_in_a_process_of_their_own,
        a_status_of_any_value_comes_back_and_a_panic_has_one,
        what_a_child_changes_its_parent_does_not_see,
        a_name_is_seen_in_the_systems_table,
        numbers_are_those_that_the_child_sees,
        a_start_does_not_wait_and_a_join_does,
        who_was_joined_is_never_alive,
        who_was_told_to_end_is_alive_until_it_has,
        a_child_is_refused_beside_another_thread,
        a_child_that_is_let_go_of_is_no_more,
        a_child_ends_with_its_parent,
        a_copy_of_the_parent_can_do_nothing_to_its_children,
        a_child_that_somebody_else_waited_for_has_ended,
        signals_that_the_parent_watches_reach_the_child_alone,
        an_ignored_child_is_waited_for_all_the_same,
        who_is_told_to_end_before_it_runs_ends_though_that_was_ignored,
        who_was_waited_for_by_somebody_else_is_told_nothing,
        what_was_printed_before_a_panic_is_there,
        what_was_printed_is_printed_once,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Says what it was given, and answers how much that was.
struct Speaker {
    words: Vec<String>,
    to: PipeWriter,
}

impl Run for Speaker {
    fn run(mut self) -> u8 {
        self.to.write_all(self.words.join(" ").as_bytes()).unwrap();
        self.words.len() as u8
    }
}

/// Lets a child go on that waits for it. To close this end would not do: the child has a copy of it.
struct Gate(PipeWriter);

impl Gate {
    fn open(mut self) {
        self.0.write_all(b"!").unwrap();
    }
}

/// A child that does nothing until its gate is opened.
fn waiting() -> (Child, Gate) {
    let (read, write) = pipe().unwrap();
    (Child::of(move || until_open(&read)).start().unwrap(), Gate(write))
}

fn until_open(mut gate: &PipeReader) -> u8 {
    u8::from(gate.read_exact(&mut [0]).is_err())
}

fn all_of(mut read: PipeReader) -> String {
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    said
}

fn comm(child: &Child) -> String {
    fs::read_to_string(format!("/proc/{}/comm", child.pid())).unwrap().trim_end().to_owned()
}

/// The letter by which the system tells what a process does.
fn state(child: &Child) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn comes_to(child: &Child, wanted: Option<char>) {
    while state(child) != wanted {
        thread::sleep(Duration::from_millis(1));
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.pid() as i32).unwrap(), signal).unwrap();
}

fn functions_and_types_that_carry_their_data_run_in_a_process_of_their_own() {
    fn seven() -> u8 {
        7
    }
    let (read, to) = pipe().unwrap();
    let speaker = Speaker { words: vec!["ahoy".into(), "there".into()], to };
    let (mut first, mut second) = (Child::of(seven).start().unwrap(), Child::of(speaker).start().unwrap());
    assert_ne!(first.pid(), second.pid());
    // The child's end is the only one: it was given away.
    assert_eq!(all_of(read), "ahoy there");
    assert_eq!((first.join(), second.join()), (Exit::Exited(7), Exit::Exited(2)));
}

fn a_status_of_any_value_comes_back_and_a_panic_has_one() {
    for status in [0, 1, 127, 128, 255] {
        let mut child = Child::of(|| status).start().unwrap();
        assert_eq!(child.exit(), None, "nobody has looked");
        assert_eq!((child.join(), child.exit()), (Exit::Exited(status), Some(Exit::Exited(status))));
    }
    let mut child = Child::of(|| -> u8 { panic!("a panic of the test, which is meant") }).start().unwrap();
    assert_eq!(child.join(), Exit::Exited(101));
}

fn what_a_child_changes_its_parent_does_not_see() {
    static MONEY: AtomicU32 = AtomicU32::new(100);
    let mut purse = vec![100];
    let spend = || {
        MONEY.store(999, SeqCst);
        purse[0] = 999;
        u8::from(MONEY.load(SeqCst) == 999 && purse == [999])
    };
    assert_eq!(Child::of(spend).start().unwrap().join(), Exit::Exited(1), "it sees what it has changed");
    assert_eq!((MONEY.load(SeqCst), &purse[..]), (100, &[100][..]));
    MONEY.store(200, SeqCst);
    let look = || u8::from(MONEY.load(SeqCst) == 200);
    assert_eq!(
        Child::of(look).start().unwrap().join(),
        Exit::Exited(1),
        "it has what was there when it began"
    );
}

fn a_name_is_seen_in_the_systems_table() {
    let ours = fs::read_to_string("/proc/self/comm").unwrap();
    let mut defaults = Vec::new();
    for (given, seen) in
        [(Some("keeper"), "keeper"), (Some("a-name-that-is-too-long"), "a-name-that-is-"), (None, "")]
    {
        let ((read, write), (told, tell)) = (pipe().unwrap(), pipe().unwrap());
        let mut child = Child::of(move || {
            drop(tell);
            until_open(&read)
        });
        if let Some(name) = given {
            child = child.named(name);
        }
        let mut child = child.start().unwrap();
        // It is called so before it does anything.
        assert_eq!(all_of(told), "");
        match given {
            Some(name) => assert_eq!((child.name(), comm(&child)), (name, seen.to_owned())),
            None => defaults.push((child.name().to_owned(), comm(&child))),
        }
        Gate(write).open();
        child.join();
    }
    assert!(defaults.iter().all(|(name, comm)| name == comm && name.starts_with("child-")), "{defaults:?}");
    let others = [(); 2].map(|()| Child::of(|| 0).start().unwrap().name().to_owned());
    assert_ne!(others[0], others[1]);
    assert_eq!(fs::read_to_string("/proc/self/comm").unwrap(), ours, "the parent's is its own");
}

fn numbers_are_those_that_the_child_sees() {
    let (read, mut to) = pipe().unwrap();
    let tell =
        move || to.write_all(format!("{} {}", process::id(), parent_id()).as_bytes()).map_or(1, |()| 0);
    let child = Child::of(tell).named("teller").start().unwrap();
    assert_eq!(all_of(read), format!("{} {}", child.pid(), process::id()));
    assert_eq!(child.parent(), process::id());
    let said = format!("teller (process {}, child of {})", child.pid(), process::id());
    assert_eq!(child.to_string(), said);
}

fn a_start_does_not_wait_and_a_join_does() {
    let (mut child, gate) = waiting();
    assert!(child.is_alive());
    assert_eq!(
        (child.join_within(Duration::ZERO), child.join_within(Duration::from_millis(20))),
        (None, None)
    );
    assert_eq!(child.exit(), None);
    gate.open();
    assert_eq!(child.join_within(PATIENCE), Some(Exit::Exited(0)));
    assert_eq!((child.join_within(Duration::ZERO), child.join()), (Some(Exit::Exited(0)), Exit::Exited(0)));
    let mut longest = Child::of(|| 3).start().unwrap();
    assert_eq!(longest.join_within(Duration::MAX), Some(Exit::Exited(3)));
}

fn who_was_joined_is_never_alive() {
    for status in 0..100 {
        let mut child = Child::of(move || status).start().unwrap();
        let exit = match status % 3 {
            0 => Some(child.join()),
            1 => child.join_within(PATIENCE),
            _ => {
                while child.is_alive() {
                    thread::yield_now();
                }
                child.exit()
            }
        };
        assert_eq!((child.is_alive(), exit), (false, Some(Exit::Exited(status))));
        assert_eq!(state(&child), None, "its number is free");
        // It is nobody's, or a stranger's, who is left alone.
        child.terminate();
        child.kill();
    }
}

fn who_was_told_to_end_is_alive_until_it_has() {
    let (mut child, _gate) = waiting();
    // It is given no processor until it may go on.
    send(&child, Signal::STOP);
    comes_to(&child, Some('T'));
    child.terminate();
    assert!(child.is_alive(), "the signal waits for it");
    assert_eq!(child.join_within(Duration::ZERO), None);
    send(&child, Signal::CONT);
    while child.is_alive() {
        thread::yield_now();
    }
    assert_eq!(child.join(), Exit::Killed(Signal::TERM.as_raw()));
    let (mut child, _gate) = waiting();
    child.kill();
    assert_eq!(child.join_within(PATIENCE), Some(Exit::Killed(Signal::KILL.as_raw())));
}

fn a_child_is_refused_beside_another_thread() {
    let (go, gone) = mpsc::channel::<()>();
    let other = thread::spawn(move || gone.recv());
    let error = Child::of(|| 0).start().unwrap_err();
    assert!(error.to_string().contains("other threads"), "{error}");
    drop(go);
    assert!(other.join().unwrap().is_err());
    // A thread that was joined may still be on its way out.
    let mut child = loop {
        match Child::of(|| 0).start() {
            Ok(child) => break child,
            Err(error) => assert!(error.to_string().contains("other threads"), "{error}"),
        }
    };
    assert_eq!(child.join(), Exit::Exited(0));
    // A child is a process like any other: it may have threads, and then no children.
    let refused = || {
        let (_go, gone) = mpsc::channel::<()>();
        let _other = thread::spawn(move || gone.recv());
        u8::from(Child::of(|| 0).start().is_err())
    };
    assert_eq!(Child::of(refused).start().unwrap().join(), Exit::Exited(1));
}

fn a_child_that_is_let_go_of_is_no_more() {
    let (child, gate) = waiting();
    let stat = format!("/proc/{}/stat", child.pid());
    assert!(fs::exists(&stat).unwrap());
    drop(child);
    assert!(!fs::exists(&stat).unwrap(), "neither alive nor a zombie");
    drop(gate);
}

fn a_child_ends_with_its_parent() {
    // Open in the grandchild alone, once the child is gone.
    let ((read, held), (told, mut tell)) = (pipe().unwrap(), pipe().unwrap());
    let mut child = Child::of(move || {
        let (never, _gate) = pipe().unwrap();
        let grandchild = Child::of(move || {
            let _held = held;
            tell.write_all(b"!").unwrap();
            until_open(&never)
        });
        grandchild.start().unwrap().join();
        0
    })
    .start()
    .unwrap();
    (&told).read_exact(&mut [0]).unwrap();
    child.kill();
    assert_eq!(child.join(), Exit::Killed(Signal::KILL.as_raw()));
    assert_eq!(all_of(read), "", "the grandchild has ended");
}

fn a_copy_of_the_parent_can_do_nothing_to_its_children() {
    let (mut child, gate) = waiting();
    let meddle = || {
        child.terminate();
        child.kill();
        let answers = (child.is_alive(), child.join());
        u8::from(answers == (false, Exit::Unknown))
    };
    assert_eq!(Child::of(meddle).start().unwrap().join(), Exit::Exited(1));
    let drops = || {
        // SAFETY: the copy in this child is dropped once: the child ends without going back to where it lives.
        drop(unsafe { std::ptr::read(&raw const child) });
        0
    };
    assert_eq!(Child::of(drops).start().unwrap().join(), Exit::Exited(0));
    assert!(child.is_alive());
    gate.open();
    assert_eq!(child.join(), Exit::Exited(0));
}

fn a_child_that_somebody_else_waited_for_has_ended() {
    let mut child = Child::of(|| 5).start().unwrap();
    comes_to(&child, Some('Z'));
    let pid = Pid::from_raw(child.pid() as i32).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
    assert!(!child.is_alive());
    assert_eq!((child.join(), child.exit()), (Exit::Unknown, Some(Exit::Unknown)));
}

fn signals_that_the_parent_watches_reach_the_child_alone() {
    let mut watched = SignalQueue::watch(&[SIGTERM]).unwrap();
    let (mut child, gate) = waiting();
    child.terminate();
    assert_eq!(child.join_within(PATIENCE), Some(Exit::Killed(SIGTERM)), "it has its usual effect there");
    drop(gate);
    // One that watches them itself hears them.
    let (told, mut tell) = pipe().unwrap();
    let mut child = Child::of(move || {
        let mut watched = SignalQueue::watch(&[SIGTERM]).unwrap();
        tell.write_all(b"!").unwrap();
        loop {
            wait_for(&mut [PollFd::new(&watched, PollFlags::IN)], None).unwrap();
            if watched.take() == Some(SIGTERM) {
                return 15;
            }
        }
    })
    .start()
    .unwrap();
    (&told).read_exact(&mut [0]).unwrap();
    child.terminate();
    assert_eq!(child.join_within(PATIENCE), Some(Exit::Exited(15)));
    assert_eq!(watched.take(), None, "and the parent nothing");
    kill_process(rustix::process::getpid(), Signal::TERM).unwrap();
    assert_eq!(watched.take(), Some(SIGTERM), "but what was sent to it");
}

fn an_ignored_child_is_waited_for_all_the_same() {
    // SAFETY: the action is one of the system's.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    assert_eq!(Child::of(|| 5).start().unwrap().join(), Exit::Exited(5));
}

fn who_is_told_to_end_before_it_runs_ends_though_that_was_ignored() {
    // SAFETY: the action is one of the system's.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    for _ in 0..20 {
        let mut child = Child::of(|| {
            loop {
                thread::sleep(PATIENCE);
            }
        })
        .start()
        .unwrap();
        child.terminate();
        assert_eq!(child.join_within(PATIENCE), Some(Exit::Killed(libc::SIGTERM)));
    }
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_DFL) };
}

/// Its number is free then, and whoever has it next is nobody's to end.
fn who_was_waited_for_by_somebody_else_is_told_nothing() {
    let child = Child::of(|| 0).start().unwrap();
    // SAFETY: it takes numbers, and no place for a status.
    let waited = unsafe { libc::waitpid(child.pid().cast_signed(), std::ptr::null_mut(), 0) };
    assert_eq!(waited, child.pid().cast_signed());
    assert_eq!(child.exit(), None, "it does not know");
    child.kill();
    drop(child);
}

fn what_was_printed_before_a_panic_is_there() {
    let (read, write) = pipe().unwrap();
    let mut child = Child::of(move || {
        // SAFETY: it takes two numbers; standard output is this child's own copy.
        assert!(unsafe { libc::dup2(write.as_raw_fd(), 1) } == 1);
        drop(write);
        print!("so far");
        panic!("a panic of the test, which is meant")
    })
    .start()
    .unwrap();
    assert_eq!(all_of(read), "so far");
    assert_eq!(child.join(), Exit::Exited(101));
}

fn what_was_printed_is_printed_once() {
    let (read, write) = pipe().unwrap();
    let mut child = Child::of(move || {
        // SAFETY: it takes two numbers; standard output is this child's own copy.
        assert!(unsafe { libc::dup2(write.as_raw_fd(), 1) } == 1);
        drop(write);
        print!("parent, ");
        let mut child = Child::of(|| {
            print!("child, ");
            0
        })
        .start()
        .unwrap();
        child.join();
        print!("parent");
        0
    })
    .start()
    .unwrap();
    assert_eq!(all_of(read), "parent, child, parent");
    assert_eq!(child.join(), Exit::Exited(0));
}
