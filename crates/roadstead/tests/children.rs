//! Children of a program, beside one another and beside those of a server.
//!
//! A process that forks has one thread, which the usual harness has not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/join.rs"]
mod join;

use std::{
    fs,
    io::{PipeReader, Read, pipe},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, getpid, kill_process};

use roadstead::{
    Context, Done, Input, Model, Peer, Scope, Server, Service, Session,
    process::{Child, Exit},
    server::Snapshot,
};

macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || { $name(); Ok(()) })),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let trials = trials![
        who_is_joined_before_the_next_is_started_works_alone,
        who_are_joined_when_all_are_started_work_at_once,
        a_server_names_its_children_and_counts_them,
        other_children_are_left_to_whoever_has_begun_them,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Work that is done when three are at it, or after a while.
fn works(there: &Path, patience: Duration) -> Vec<impl FnOnce()> {
    let work = |number: usize, there: PathBuf| {
        move || {
            fs::write(there.join(number.to_string()), "").unwrap();
            let begun = Instant::now();
            while fs::read_dir(&there).unwrap().count() < 3 && begun.elapsed() < patience {
                thread::sleep(Duration::from_millis(1));
            }
        }
    };
    (0..3).map(|number| work(number, there.to_owned())).collect()
}

fn who_is_joined_before_the_next_is_started_works_alone() {
    // Long enough for another to begin, if there were one.
    let there = tempfile::tempdir().unwrap();
    let works = works(there.path(), Duration::from_millis(200));
    assert_eq!(join::joined_in_the_loop(works).unwrap(), 1);
}

fn who_are_joined_when_all_are_started_work_at_once() {
    let there = tempfile::tempdir().unwrap();
    let works = works(there.path(), Duration::from_secs(60));
    assert_eq!(join::joined_after_the_loop(works).unwrap(), 3);
}

struct Silent;
struct Nothing;

impl Service for Silent {
    type Session = Nothing;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Nothing {
        Nothing
    }
}

impl Session for Nothing {
    type Reply = ();
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

/// Serves with two workers, and ends by itself when `meanwhile` is done.
fn serve(meanwhile: impl FnOnce()) -> Snapshot {
    let server = Server::new(Silent).bind("127.0.0.1:0").model(Model::Prefork).workers(2);
    let served = server.run(Duration::from_secs(20), |_| {
        meanwhile();
        Ok(kill_process(getpid(), Signal::TERM)?)
    });
    served.unwrap()
}

/// The number of each child of this process, and what it is called.
fn children() -> Vec<(u32, String)> {
    let ours = process::id().to_string();
    let child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        (rest.split(' ').nth(1)? == ours).then(|| (pid, name.to_owned()))
    };
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| child(name.to_str()?.parse().ok()?)).collect()
}

/// Kills the child of this name, and waits for its end, but not for it.
fn kill(name: &str) {
    let (pid, _) = children().into_iter().find(|(_, called)| called == name).unwrap();
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let ended = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
    while !ended() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn a_server_names_its_children_and_counts_them() {
    let served = || {
        let mut named = Vec::new();
        let counts = serve(|| named = children());
        let mut names: Vec<_> = named.iter().map(|(_, name)| &name[..]).collect();
        names.sort();
        assert_eq!(names, ["worker-0", "worker-1"]);
        assert_eq!((counts.children, counts.children_failed), (2, 0));
        0
    };
    assert_eq!(Child::of(served).start().unwrap().join(), Exit::Exited(0));
}

/// A child that ends at once, and a pipe that ends with it.
fn ending_with(status: u8) -> (Child, PipeReader) {
    let (ends, held) = pipe().unwrap();
    let child = Child::of(move || {
        drop(held);
        status
    });
    (child.start().unwrap(), ends)
}

fn other_children_are_left_to_whoever_has_begun_them() {
    let served = || {
        let (mut before, ended) = ending_with(7);
        let mut beside = None;
        let meanwhile = || {
            let (child, also_ended) = ending_with(8);
            beside = Some(child);
            // Both are there to be waited for when a worker ends.
            for mut end in [ended, also_ended] {
                end.read_to_end(&mut Vec::new()).unwrap();
            }
            kill("worker-0");
        };
        let counts = serve(meanwhile);
        assert_eq!((counts.children, counts.children_failed), (2, 1), "one of its own was lost, and noticed");
        assert_eq!((before.join(), beside.unwrap().join()), (Exit::Exited(7), Exit::Exited(8)));
        0
    };
    assert_eq!(Child::of(served).start().unwrap().join(), Exit::Exited(0));
}
