//! The `roadstead` binary as a process, in a place of its own that is checked and swept when the test ends.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io::{self, BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use roadstead::tls::Keys;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt::set_socket_reuseaddr},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use tempfile::TempDir;

/// Who is not done then, hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A directory for temporary files, by which every process that was started in it is known, also a process's child.
pub struct Scene(TempDir);

impl Scene {
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scene.temporary()).unwrap();
        fs::create_dir(scene.path("no data")).unwrap();
        scene
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    /// What commands have left in the directory for temporary files.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        fs::read_dir(self.temporary()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// `roadstead` with these arguments. It finds no data set.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).env("TMPDIR", self.temporary()).env("ROADSTEAD_DATA", self.path("no data"));
        command.env_remove("ROADSTEAD_LOG").stdin(Stdio::null());
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must exit with 0; answers what it wrote to stdout.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let Output { status, stdout, stderr } = self.run(arguments);
        assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Runs a command that must exit with `code`; answers its only line on stderr, without its name.
    #[track_caller]
    pub fn fails<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let Output { status, stdout, stderr } = self.run(arguments);
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout), (Some(1), Vec::new()), "{stderr}");
        let line = stderr.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "an error is one line: {line}");
        line.strip_prefix("roadstead: ").unwrap().to_owned()
    }

    /// Shares a made set of `rows` rows into `shares`, for servers with keys in `keys` if they are to have some.
    pub fn share(&self, rows: usize, tls: bool) -> String {
        let place = |name: &str| self.path(name).display().to_string();
        let mut arguments = words(&format!("trident share --made {rows} --out {}", place("shares")));
        if tls {
            self.ok(words(&format!("keys --out {}", place("keys"))));
            arguments.extend(["--keys".into(), place("keys")]);
        }
        self.ok(arguments)
    }

    /// The arguments that give `holder` its keys, if it has some.
    pub fn keys(&self, holder: &str) -> Vec<String> {
        let dir = self.path("keys").join(holder);
        if dir.exists() { vec!["--keys".into(), dir.display().to_string()] } else { Vec::new() }
    }

    pub fn client_keys(&self) -> Option<Keys> {
        let dir = self.path("keys").join("client");
        dir.exists().then(|| Keys::load(&dir).unwrap())
    }

    /// The arguments of the server of `party`.
    pub fn server(&self, party: usize, more: &str) -> Vec<String> {
        let shares = self.path(format!("shares/server-{party}"));
        let line = format!("trident serve --party {party} --shares {} {more}", shares.display());
        [words(&line), self.keys(&format!("server-{party}"))].concat()
    }

    /// Starts a server; it is killed when this is dropped.
    pub fn serve<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        let mut command = self.command(arguments);
        // Nobody reads the logs, and a full pipe would stop the server.
        command.stderr(Stdio::null());
        Process::start(command)
    }

    /// Processes that were started here and live.
    pub fn living(&self) -> Vec<Pid> {
        let mark = [b"TMPDIR=", self.temporary().as_os_str().as_encoded_bytes()].concat();
        let lives = |pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == mark)
        };
        let entries = fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|&pid| lives(pid)).filter_map(Pid::from_raw).collect()
    }

    #[track_caller]
    pub fn nothing_lives(&self) {
        until("the end of all processes", || self.living().is_empty());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for pid in self.living() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Addresses that nobody else is given while this lives, and that a server can listen on, again and again: their
/// sockets are bound, and let others be bound to the same address, which a system that chooses an address does not do.
pub struct Held<const N: usize> {
    pub addresses: [SocketAddr; N],
    _sockets: [OwnedFd; N],
}

impl<const N: usize> Held<N> {
    pub fn of(ip: impl Into<IpAddr>) -> Self {
        let any_port = SocketAddr::new(ip.into(), 0);
        let sockets = [(); N].map(|()| {
            let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            set_socket_reuseaddr(&held, true).unwrap();
            bind(&held, &any_port).unwrap();
            held
        });
        let addresses = sockets.each_ref().map(|held| getsockname(held).unwrap().try_into().unwrap());
        Self { addresses, _sockets: sockets }
    }
}

/// A running `roadstead`, killed when this is dropped.
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next line; none if there will be no other.
    #[track_caller]
    pub fn line(&mut self) -> String {
        if self.stdout.buffer().is_empty() {
            let mut said = [PollFd::new(self.stdout.get_ref(), PollFlags::IN)];
            let waits = Timespec::try_from(HANGS).unwrap();
            assert_eq!(poll(&mut said, Some(&waits)).unwrap(), 1, "it says nothing");
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// The address in the next line.
    #[track_caller]
    pub fn listening(&mut self) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix("listening on ").and_then(|line| line.strip_suffix('\n'));
        address.unwrap_or_else(|| panic!("{line:?} says no address")).parse().unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        until("the end of the process", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.end();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stops a process, and waits until it stands still: one of its threads hears of the signal and stops the others.
#[track_caller]
pub fn freeze(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
    let moves = |thread: io::Result<DirEntry>| {
        let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
        // Whoever has ended stands still too.
        stat.is_ok_and(|stat| !stat.contains(") T ") && !stat.contains(") Z "))
    };
    until("a process that stands still", || !fs::read_dir(&threads).into_iter().flatten().any(moves));
}

#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANGS, "{what} never happens");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The report of a measurement that a signal has ended; none if it came before anything was measured.
#[track_caller]
pub fn interrupted(code: Option<i32>, json: &Path) -> Option<Value> {
    let report = fs::read(json).ok();
    assert_eq!(code, Some(if report.is_some() { 0 } else { 130 }));
    let report = report.map(|report| serde_json::from_slice(&report).unwrap());
    // The next one may be ended earlier.
    let _ = fs::remove_file(json);
    report
}

/// Arguments, written as on a command line.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
