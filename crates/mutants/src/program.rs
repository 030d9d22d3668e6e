//! One test program, run until it ends, until one of its tests has failed, or until it says nothing any more.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::order::Step;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// So many tests were run, and all passed.
    Passed(usize),
    /// This test failed; those after it were not waited for.
    Failed(String),
    /// The program itself did not end as it must, which no test was blamed for.
    Broken(String),
    /// Nothing was heard for as long as that may take.
    Hung,
    /// Somebody asked us to end.
    Interrupted,
}

/// What is run, and what it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The fault, if it has one.
    pub fault: Option<&'a str>,
    /// The only test to run.
    pub only: Option<&'a str>,
    /// Tests to leave out.
    pub without: &'a [String],
}

/// Where and how long programs run.
#[derive(Debug)]
pub struct Runner {
    /// For temporary files; emptied after each run.
    temporary: PathBuf,
    /// How long no test may end.
    patience: Duration,
    interrupted: Arc<AtomicBool>,
    /// By which each process that was begun is known, also a process's child.
    mark: String,
}

/// Where the environment has that.
const MARK: &str = "ROADSTEAD_PLANT_RUN";
/// Runners of this process, so far.
static RUNNERS: AtomicUsize = AtomicUsize::new(0);
/// How often we look whether a program has ended whose descendants still hold its output.
const GLANCE: Duration = Duration::from_millis(100);
/// How often what was left behind is looked for at most.
const LOOKS: usize = 100;

impl Runner {
    /// One that keeps temporary files in `temporary`, and ends early once `interrupted` is set.
    pub fn new(temporary: &Path, patience: Duration, interrupted: Arc<AtomicBool>) -> Self {
        let mark = format!("{MARK}={}-{}", process::id(), RUNNERS.fetch_add(1, SeqCst));
        Self { temporary: temporary.to_owned(), patience, interrupted, mark }
    }

    /// Runs some tests. Nothing that they have begun outlives this.
    ///
    /// # Errors
    /// If the program cannot be begun.
    pub fn play(&self, step: &Step<'_>, asked: Asked<'_>) -> io::Result<Ending> {
        fs::create_dir_all(&self.temporary)?;
        let mut child = self.command(step, asked).spawn()?;
        let ending = self.watch(&mut child);
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // Fails if all of it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        child.wait()?;
        self.sweep();
        let _ = fs::remove_dir_all(&self.temporary);
        ending
    }

    fn command(&self, step: &Step<'_>, asked: Asked<'_>) -> Command {
        let mut command = Command::new(&step.tests.path);
        match asked.only {
            Some(test) => _ = command.args(["--exact", test]),
            None if !asked.without.is_empty() && step.filter.is_empty() => {
                command.arg("--exact");
                asked.without.iter().for_each(|test| _ = command.args(["--skip", test]));
            }
            None => {
                command.args(Some(&step.filter).filter(|filter| !filter.is_empty()));
                asked.without.iter().for_each(|test| _ = command.args(["--skip", test]));
            }
        }
        command.current_dir(&step.tests.dir).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let (mark, run) = self.mark.split_once('=').unwrap_or_default();
        command.env("TMPDIR", &self.temporary).env(mark, run).env("CARGO_TERM_COLOR", "never");
        for (name, path) in &step.tests.programs {
            command.env(format!("CARGO_BIN_EXE_{name}"), path);
        }
        match asked.fault {
            Some(fault) => command.env("ROADSTEAD_PLANT", fault),
            None => command.env_remove("ROADSTEAD_PLANT"),
        };
        command
    }

    fn watch(&self, child: &mut Child) -> io::Result<Ending> {
        let lines = lines(child);
        let (mut passed, mut heard) = (0, Instant::now());
        let status = loop {
            if self.interrupted.load(SeqCst) {
                return Ok(Ending::Interrupted);
            }
            match lines.recv_timeout(GLANCE) {
                Ok(line) => match verdict(&line) {
                    Some((test, false)) => return Ok(Ending::Failed(test.to_owned())),
                    Some((_, true)) => (passed, heard) = (passed + 1, Instant::now()),
                    None => {}
                },
                Err(RecvTimeoutError::Disconnected) => break child.wait()?,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = child.try_wait()? {
                        break status;
                    }
                }
            }
            if heard.elapsed() > self.patience {
                return Ok(Ending::Hung);
            }
        };
        Ok(if status.success() { Ending::Passed(passed) } else { Ending::Broken(said(status)) })
    }

    /// Ends what tests have left behind: whatever has our mark in its environment. It may begin something while we
    /// look, and takes a moment to end.
    fn sweep(&self) {
        for _ in 0..LOOKS {
            if self.end_marked() == 0 {
                return;
            }
            thread::sleep(GLANCE);
        }
    }

    /// Answers how many were found.
    fn end_marked(&self) -> usize {
        let lives = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == self.mark.as_bytes())
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let marked = pids.filter(lives).filter_map(Pid::from_raw);
        marked.inspect(|&pid| _ = kill_process(pid, Signal::KILL)).count()
    }
}

fn lines(child: &mut Child) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.take_while(|line| send.send(line.clone()).is_ok()).for_each(drop);
        });
    }
    receive
}

/// The test that a line tells of, and whether it passed.
fn verdict(line: &str) -> Option<(&str, bool)> {
    let (test, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let test = test.trim_end();
    let test = test.strip_suffix(" - should panic").unwrap_or(test);
    match result.split_whitespace().next()? {
        "ok" => Some((test, true)),
        "FAILED" => Some((test, false)),
        _ => None,
    }
}

fn said(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("ended by signal {signal}"),
        None => format!("exit code {}", status.code().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::{Mutex, PoisonError},
    };

    use super::*;
    use crate::copy::Tests;

    /// Far beyond what a script here takes that does not hang.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a program comes to that is this script.
    fn played(script: &str, asked: Asked<'_>) -> Ending {
        played_within(PATIENCE, script, asked)
    }

    fn played_within(patience: Duration, script: &str, asked: Asked<'_>) -> Ending {
        // A program that is started while another is written inherits the open file, which is then too busy to execute.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let programs = vec![("it".into(), "there".into())];
        let tests =
            Tests { room: "a".into(), target: "b".into(), path, dir: dir.path().to_owned(), programs };
        let runner = Runner::new(&dir.path().join("tmp"), patience, Arc::default());
        runner.play(&Step { tests: &tests, filter: String::new() }, asked).unwrap()
    }

    #[test]
    fn a_failure_is_told_before_the_program_ends() {
        let script = "echo 'test a::b   ... ok'; echo 'test c - should panic ... FAILED'; sleep 1000";
        assert_eq!(played(script, Asked::default()), Ending::Failed("c".into()));
    }

    #[test]
    fn a_program_may_pass_break_or_hang() {
        assert_eq!(played("echo 'test a ... ok'", Asked::default()), Ending::Passed(1));
        assert_eq!(played("kill -ABRT $$", Asked::default()), Ending::Broken("ended by signal 6".into()));
        assert_eq!(played("exit 3", Asked::default()), Ending::Broken("exit code 3".into()));
        let patience = Duration::from_secs(5);
        assert_eq!(played_within(patience, "sleep 1000", Asked::default()), Ending::Hung);
    }

    #[test]
    fn what_a_program_leaves_behind_holds_nobody_up_and_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!(
            "setsid sh -c 'echo $$ > {it}; exec sleep 1000' & \
             until grep -qs sleep /proc/$(cat {it})/comm; do sleep 0.1; done",
            it = pid.display()
        );
        assert_eq!(played(&script, Asked::default()), Ending::Passed(0));
        let pid = fs::read_to_string(pid).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let start = Instant::now();
        while fs::read_to_string(&stat).is_ok_and(|state| !state.contains(") Z ")) {
            assert!(start.elapsed() < PATIENCE, "it is not ended");
            thread::sleep(GLANCE);
        }
    }

    #[test]
    fn the_fault_and_the_programs_are_in_the_environment_and_only_what_was_asked_for_is_run() {
        let script = "echo \"test $CARGO_BIN_EXE_it/$ROADSTEAD_PLANT/$* ... FAILED\"";
        let asked = Asked { fault: Some("f"), only: Some("t"), without: &[] };
        assert_eq!(played(script, asked), Ending::Failed("there/f/--exact t".into()));
        let asked = Asked { without: &["t".into()], ..Asked::default() };
        assert_eq!(played(script, asked), Ending::Failed("there//--exact --skip t".into()));
    }
}
