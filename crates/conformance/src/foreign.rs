//! Programs that we did not write, where they are installed.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A running program. Dropped, it is asked to end, and made to.
pub struct Foreign(Child);

impl Foreign {
    /// Starts it, with pipes to write to and to read from; `None`, said on stderr, if it is not installed.
    ///
    /// # Panics
    /// If it cannot be started, or if it is missing where tests must not be skipped: under `CI`.
    #[track_caller]
    pub fn start(program: &str, arguments: &[&str], package: &str) -> Option<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        match command.spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                skip(&format!("`{program}` is not installed (package {package})"));
                None
            }
            Err(error) => panic!("`{program}` cannot be started: {error}"),
        }
    }

    /// Types `pieces` with a rest after each, and then the end; answers all that it printed until it ended well.
    #[track_caller]
    pub fn talk(mut self, pieces: &[&[u8]], rest: Duration) -> Vec<u8> {
        let (mut stdin, mut stdout) = (self.0.stdin.take().unwrap(), self.0.stdout.take().unwrap());
        let (ended, said) = thread::scope(|scope| {
            scope.spawn(move || {
                for piece in pieces {
                    stdin.write_all(piece).unwrap();
                    thread::sleep(rest);
                }
            });
            let said = scope.spawn(move || {
                let mut said = Vec::new();
                stdout.read_to_end(&mut said).unwrap();
                said
            });
            (self.end(), said.join().unwrap())
        });
        assert!(ended.success(), "{ended}: {}", String::from_utf8_lossy(&said));
        said
    }

    /// Waits for its end, and ends it when it was waited for long enough.
    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(ended) = self.0.try_wait().unwrap() {
                return ended;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.0.kill().unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // It may end before it is asked to.
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
            self.end();
        }
    }
}

/// Says why a test is skipped.
///
/// # Panics
/// Under `CI`, where none may be.
#[track_caller]
pub fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
}
