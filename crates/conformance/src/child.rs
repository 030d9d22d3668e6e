//! The program under test as a child process: started, watched from outside, and gone when this is dropped.

use std::{
    collections::BTreeMap,
    env, fs,
    fs::File,
    io::{self, BufRead, BufReader},
    mem,
    net::SocketAddr,
    ops::Index,
    os::{
        fd::OwnedFd,
        unix::{fs::FileExt, process::CommandExt},
    },
    process::{self, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::{
    net::getpeername,
    process::{
        Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, kill_process_group, pidfd_getfd, pidfd_open,
        test_kill_process_group,
    },
};
use tempfile::TempDir;

use roadstead::Address;

use crate::{
    client::{comes_to, eventually},
    setting::{self, Setting},
    wire::{Wire, reach},
};

/// On this signal the program says what it holds.
pub const AUDIT: Signal = Signal::USR2;

/// A running server. Whoever lets go of it while it runs, when all clients have gone, sees that it holds nothing for
/// them any more, and that it drains: unless its end has been waited for, or it was left with what it rightly holds.
pub struct Child {
    setting: Setting,
    process: Group,
    said: Arc<Mutex<Vec<String>>>,
    listener: Option<JoinHandle<()>>,
    log: File,
    places: Vec<Address>,
    keys: TempDir,
}

/// A program, and the processes that it has begun: ended when this is dropped.
struct Group(process::Child);

/// What a server has counted, and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats(BTreeMap<String, u64>);

/// What a server and its children hold of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Processes, also those that ended and that nobody waited for.
    pub processes: usize,
    /// Their threads.
    pub threads: usize,
    /// Their descriptors.
    pub descriptors: usize,
}

impl Child {
    /// Starts the program with the words of `line`, a service and options of its own, and waits until it listens.
    #[track_caller]
    pub fn start(setting: &Setting, line: &str) -> Self {
        Self::start_under(&[], setting, line)
    }

    /// The same under another program, which is to become it: `prlimit`, `setpriv`.
    #[track_caller]
    pub fn start_under(before: &[&str], setting: &Setting, line: &str) -> Self {
        let log = tempfile::tempfile().unwrap();
        Self::launch(before, setting, line, log.try_clone().unwrap(), log).listening(line)
    }

    /// The same with a log that goes elsewhere.
    #[track_caller]
    pub fn start_logging_to(log: impl Into<Stdio>, setting: &Setting, line: &str) -> Self {
        Self::launch(&[], setting, line, log, tempfile::tempfile().unwrap()).listening(line)
    }

    #[track_caller]
    fn listening(mut self, line: &str) -> Self {
        eventually("it listens", || {
            self.places = self.said("listening ").first().map_or(Vec::new(), |line| places(line));
            let ended = self.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "`{line}` has ended ({}): {}", ended.unwrap(), self.log());
            !self.places.is_empty()
        });
        self
    }

    /// Runs what must fail to start; answers its exit code and what it said of it.
    #[track_caller]
    pub fn fails_under(before: &[&str], setting: &Setting, line: &str) -> (Option<i32>, String) {
        let log = tempfile::tempfile().unwrap();
        let mut child = Self::launch(before, setting, line, log.try_clone().unwrap(), log);
        let code = child.end();
        (code, child.log())
    }

    /// `log` is what its log is read from, if it goes there.
    fn launch(before: &[&str], setting: &Setting, line: &str, stderr: impl Into<Stdio>, log: File) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let program = env::var("CARGO_BIN_EXE_conformance").expect("cargo tells a test where the program is");
        let mut words: Vec<_> = before.iter().map(|&word| word.to_owned()).collect();
        words.push(program);
        words.extend(line.split_whitespace().map(str::to_owned));
        words.extend(setting.options(keys.path()));
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let (said, stdout) = (Arc::default(), process.stdout.take().unwrap());
        let listener = listen(stdout, Arc::clone(&said));
        Self {
            setting: *setting,
            process: Group(process),
            said,
            listener: Some(listener),
            log,
            places: Vec::new(),
            keys,
        }
    }

    /// Puts new keys of the same authority where it has read its own.
    pub fn renew_keys(&self) {
        setting::renew(self.keys.path());
    }

    /// Puts what is no certificate there.
    pub fn spoil_keys(&self) {
        fs::write(self.keys.path().join("cert.pem"), "none").unwrap();
    }

    /// Where it listens with TCP.
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// All addresses of TCP, in the order of its options.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().filter_map(Address::socket).collect()
    }

    /// A connection to it.
    #[track_caller]
    pub fn connect(&self) -> Wire {
        self.try_connect().unwrap()
    }

    /// A connection to it, unless it resets whoever comes so soon that there is none.
    pub fn try_connect(&self) -> io::Result<Wire> {
        self.try_connect_to(0)
    }

    /// A connection to the place of that number, in the order of its options.
    pub fn try_connect_to(&self, number: usize) -> io::Result<Wire> {
        Ok(self.setting.speak(reach(&self.places[number])?))
    }

    /// Connections to it, all open.
    #[track_caller]
    pub fn connect_many(&self, count: usize) -> Vec<Wire> {
        (0..count).map(|_| self.connect()).collect()
    }

    /// The rest of each line that begins so.
    pub fn said(&self, beginning: &str) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter().filter_map(|line| line.strip_prefix(beginning)).map(str::to_owned).collect()
    }

    /// Why connections were closed, in order.
    pub fn closed(&self) -> Vec<String> {
        self.said("closed ")
    }

    /// Why the first connection was closed, as soon as it is.
    #[track_caller]
    pub fn first_closed(&self) -> String {
        eventually("a connection ends", || !self.closed().is_empty());
        self.closed().remove(0)
    }

    /// What it has written to its log: warnings, and the errors it ends with.
    pub fn log(&self) -> String {
        let mut log = vec![0; self.log.metadata().unwrap().len() as usize];
        self.log.read_exact_at(&mut log, 0).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops it and its children, and waits until they stand still.
    #[track_caller]
    pub fn freeze(&self) {
        kill_process_group(self.pid(), Signal::STOP).unwrap();
        let moves = |(process, thread): &(i32, i32)| {
            let stat = fs::read_to_string(format!("/proc/{process}/task/{thread}/stat"));
            // Whoever has ended stands still too.
            stat.is_ok_and(|stat| !stat.contains(") T ") && !stat.contains(") Z "))
        };
        eventually("it stands still", || !self.threads().iter().any(moves));
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        kill_process_group(self.pid(), Signal::CONT).unwrap();
    }

    /// Asks it to drain, and waits until it does: nobody is let in any more.
    #[track_caller]
    pub fn begin_drain(&self) {
        self.signal(Signal::TERM);
        eventually("nobody is accepted any more", || reach(&self.places[0]).is_err());
    }

    /// How many of its ends of connections are in this state, as the system writes it: proc(5), `net/tcp`.
    pub fn in_state(&self, state: &str) -> usize {
        let port = format!(":{:04X}", self.address().port());
        let is_one = |row: &[&str]| row[1].ends_with(&port) && row[3] == state;
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().filter(|row| is_one(&row.split_whitespace().collect::<Vec<_>>())).count()
    }

    /// Waits until it listens no more, without a connection that it might still let in: proc(5), `net/tcp`.
    #[track_caller]
    pub fn closes_its_listener(&self) {
        let listening = format!(":{:04X} 00000000:0000 0A ", self.address().port());
        eventually("nobody listens", || !fs::read_to_string("/proc/net/tcp").unwrap().contains(&listening));
    }

    /// Has it end in the midst of a drain; answers its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        // Two signals that wait together are one.
        self.begin_drain();
        self.signal(Signal::TERM);
        self.end()
    }

    /// When all clients have gone: sees that nothing is held for them any more, asks it to drain, and waits for its
    /// end.
    #[track_caller]
    pub fn drain(mut self) -> Stats {
        self.retire()
    }

    /// The same for whoever lets go of it.
    #[track_caller]
    fn retire(&mut self) -> Stats {
        let mut held = Stats::default();
        let nothing = comes_to(|| {
            held = self.audit();
            held.hold_nothing()
        });
        assert!(nothing, "when all have gone there is still held: {held:?}\n{}", self.log());
        self.signal(Signal::TERM);
        self.stats()
    }

    /// What it has counted, and what it holds.
    #[track_caller]
    pub fn audit(&mut self) -> Stats {
        let before = self.said("holds ").len();
        self.signal(AUDIT);
        eventually("it says what it holds", || {
            let ended = self.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "it has ended ({}): {}", ended.unwrap(), self.log());
            self.said("holds ").len() > before
        });
        Stats::parse(&self.said("holds ")[before])
    }

    /// Waits for the end of a server that drains: in good order, without any child left, and with every account at
    /// zero.
    #[track_caller]
    pub fn stats(&mut self) -> Stats {
        let code = self.end();
        assert_eq!(code, Some(0), "{}", self.log());
        assert!(test_kill_process_group(self.pid()).is_err(), "children are left");
        let last = self.said("stats ").pop().unwrap_or_else(|| panic!("no stats: {}", self.log()));
        Stats::parse(&last)
    }

    /// Waits for its end and for all that it said, which may not be that anything is left on its accounts; answers its
    /// exit code, if no signal ended it.
    #[track_caller]
    pub fn end(&mut self) -> Option<i32> {
        let mut ended = None;
        eventually("the process ends", || {
            ended = self.process.0.try_wait().unwrap();
            ended.is_some()
        });
        if let Some(listener) = self.listener.take() {
            eventually("nobody writes any more", || listener.is_finished());
        }
        for last in self.said("stats ") {
            assert!(Stats::parse(&last).hold_nothing(), "when it has ended there is left: {last}");
        }
        ended.unwrap().code()
    }

    /// Ends it at once, whatever it holds: for who knows that this is rightly something.
    pub fn leave(mut self) {
        self.listener = None;
    }

    /// Ends one of its processes at once.
    pub fn kill(&self, one: Pid) {
        // It may have ended already.
        let _ = kill_process(one, Signal::KILL);
    }

    /// The processes of its children.
    pub fn children(&self) -> Vec<Pid> {
        self.processes().into_iter().filter(|pid| *pid != self.pid()).collect()
    }

    /// Its processes: its own, and those of its children.
    pub fn processes(&self) -> Vec<Pid> {
        let group = self.pid().as_raw_nonzero().to_string();
        let is_one = |name: &str| {
            let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
            // The state, the parent, the group.
            (stat.rsplit_once(") ")?.1.split(' ').nth(2)? == group).then_some(())?;
            Pid::from_raw(name.parse().ok()?)
        };
        let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| is_one(name.to_str()?)).collect()
    }

    /// Its threads and those of its children: process and thread.
    pub fn threads(&self) -> Vec<(i32, i32)> {
        let of = |pid: Pid| {
            let pid = pid.as_raw_nonzero().get();
            list(&format!("/proc/{pid}/task")).into_iter().map(move |thread| (pid, thread))
        };
        self.processes().into_iter().flat_map(of).collect()
    }

    /// How long, and how often, each of its threads and those of its children has run: proc(5), `schedstat`. Who sleeps
    /// all the while has run no more the next time.
    pub fn runs(&self) -> BTreeMap<(i32, i32), String> {
        let of = |(process, thread): (i32, i32)| {
            let runs = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).ok()?;
            Some(((process, thread), runs))
        };
        self.threads().into_iter().filter_map(of).collect()
    }

    /// The sockets that it and its children have for this client: pidfd_getfd(2).
    pub fn sockets_of(&self, client: SocketAddr) -> Vec<OwnedFd> {
        let of = |pid: Pid| {
            let process = pidfd_open(pid, PidfdFlags::empty());
            let taken = move |fd| pidfd_getfd(process.as_ref().ok()?, fd, PidfdGetfdFlags::empty()).ok();
            list(&format!("/proc/{}/fd", pid.as_raw_nonzero())).into_iter().filter_map(taken)
        };
        let is_for_it = |socket: &OwnedFd| {
            let peer = getpeername(socket).ok().flatten();
            peer.is_some_and(|peer| SocketAddr::try_from(peer) == Ok(client))
        };
        self.processes().into_iter().flat_map(of).filter(is_for_it).collect()
    }

    /// What it and its children hold.
    pub fn held(&self) -> Held {
        let processes = self.processes();
        let descriptors = |pid: &Pid| list(&format!("/proc/{}/fd", pid.as_raw_nonzero())).len();
        Held {
            processes: processes.len(),
            threads: self.threads().len(),
            descriptors: processes.iter().map(descriptors).sum(),
        }
    }

    /// What they hold as soon as it does not change any more: nobody is still being started, or about to end.
    #[track_caller]
    pub fn at_rest(&self) -> Held {
        let (mut held, mut looks) = (self.held(), 0);
        eventually("it comes to rest", || {
            let before = mem::replace(&mut held, self.held());
            looks = if before == held { looks + 1 } else { 0 };
            looks == 5
        });
        held
    }

    /// Waits until all threads of it and its children sleep, the same ones at two looks in a row: whatever had come is
    /// seen to. Not for a server that never sleeps.
    #[track_caller]
    pub fn falls_asleep(&self) {
        let sleeps = |(process, thread): &(i32, i32)| {
            let stat = fs::read_to_string(format!("/proc/{process}/task/{thread}/stat"));
            stat.is_ok_and(|stat| stat.contains(") S "))
        };
        let mut before = None;
        eventually("it falls asleep", || {
            let asleep = Some(self.threads()).filter(|threads| threads.iter().all(sleeps));
            let stays = asleep.is_some() && asleep == before;
            before = asleep;
            stays
        });
    }

    /// Bytes of memory that it and its children have in use, without what they share with files.
    pub fn memory(&self) -> usize {
        let of = |pid: Pid| {
            let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
            line.trim().trim_end_matches(" kB").parse::<usize>().ok()
        };
        self.processes().into_iter().filter_map(of).sum::<usize>() << 10
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A test that has failed is not asked about anything else.
        if self.listener.is_some() && !thread::panicking() {
            self.retire();
        }
    }
}

impl Group {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever has ended already cannot be killed.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stats {
    fn parse(line: &str) -> Self {
        let count =
            |word: &str| word.split_once('=').map(|(name, count)| (name.into(), count.parse().unwrap()));
        Self(line.split(' ').filter_map(count).collect())
    }

    /// Whether every account is at zero.
    fn hold_nothing(&self) -> bool {
        ["open", "addresses", "buffered", "tickets", "detached"].into_iter().all(|account| self[account] == 0)
    }
}

impl Index<&str> for Stats {
    type Output = u64;
    fn index(&self, name: &str) -> &u64 {
        &self.0[name]
    }
}

/// Keeps what is said, line by line, until nobody can say any more.
fn listen(stdout: ChildStdout, said: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            said.lock().unwrap().push(line.unwrap());
        }
    })
}

fn places(line: &str) -> Vec<Address> {
    line.split(' ').map(|place| place.parse().unwrap()).collect()
}

/// The numbers that a directory's entries are; empty if it has gone.
fn list(directory: &str) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
