//! A log on stderr that costs a server nothing: a line that cannot be written at once is lost, and counted.
//!
//! What the engine says through `tracing` is written by threads that serve connections. A subscriber that waits there
//! for whoever is to read stderr (a pipe that nobody empties, a terminal that is held) stops them all; one that panics
//! because stderr is gone ends them. A [`Log`] does neither, on any model:
//!
//! ```
//! # use roadstead_os as roadstead;
//! use std::sync::Arc;
//!
//! let log = Arc::new(roadstead::log::Log::stderr()?);
//! tracing_subscriber::fmt().with_writer(log).with_ansi(false).init();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! It has no thread and no queue. A thread does not survive a fork, and a process that is to fork may have no other;
//! the kernel's buffer is a queue already, with a bound. So stderr is asked in a way that does not wait. Its own flags
//! are left alone, because they are shared with everybody who has inherited it: a pipe or a terminal is opened anew, a
//! socket is told with every call. A file that may not grow any more is one that cannot be written, and no reason to
//! end: SIGXFSZ, which setrlimit(2) has for that, has no effect any more.
//!
//! Strangers can cause lines. Of each kind so many a second are written, and then only their number, over all processes
//! that have come of one by forking: their counts are in memory that they share. What peers have said is written so
//! that it can neither forge a line nor steer a terminal: see [`clean`].
#![forbid(unsafe_code)]

use std::{
    fmt::Write,
    io::{self, IsTerminal, Stderr},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, Mode, OFlags},
    io::Errno,
    net::SendFlags,
};
use signal_hook::consts::SIGXFSZ;

use crate::processes::shared_memory::Common;
pub use roadstead_proto::clean::clean;

/// The longest line, in bytes: what a pipe takes whole or not at all (pipe(7), `PIPE_BUF`).
const LONGEST: usize = 4096;
/// Lines of one kind that are written in a second.
const A_SECOND: u32 = 10;
/// Kinds that are told apart.
const KINDS: usize = 4096;

/// A log on stderr.
#[derive(Debug)]
pub struct Log {
    out: Out,
    epoch: Instant,
    counts: Common<Counts>,
    kinds: Common<Kind>,
}

/// Where lines go, and how they do not wait there.
#[derive(Debug)]
enum Out {
    /// A description of the same pipe or terminal that is ours alone.
    Own(OwnedFd),
    /// A socket.
    Socket(Stderr),
    /// A pipe or a terminal that cannot be opened again: it is asked whether it has room. Another process may take that
    /// in between, and then a line waits; nothing better is left.
    Asked(Stderr),
    /// A file, which never waits for anybody.
    File(Stderr),
}

/// Lines that were not written, from the beginning on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// They were not taken.
    pub lost: u64,
    /// Too many of their kinds came.
    pub held_back: u64,
}

/// What was not written and nobody was told of; and all that was not written.
#[derive(Debug, Default)]
struct Counts {
    /// It was not taken.
    lost: AtomicU64,
    /// Too many of its kind came.
    held_back: AtomicU64,
    /// The second in which those were told of last.
    told: AtomicU64,
    /// The last line has only been written in part.
    torn: AtomicU64,
    all_lost: AtomicU64,
    all_held_back: AtomicU64,
}

/// How many lines of a kind were written, and in which second: the lower and the upper half.
#[derive(Debug, Default)]
struct Kind(AtomicU64);

impl Kind {
    /// Whether another line may be written in this second.
    fn admits(&self, second: u32) -> bool {
        let next = |last: u64| match (last as u32, (last >> 32) as u32 == second) {
            (count, true) => (count < A_SECOND).then_some(last + 1),
            (_, false) => Some(u64::from(second) << 32 | 1),
        };
        self.0.fetch_update(SeqCst, SeqCst, next).is_ok()
    }
}

impl Log {
    /// The log of this process and of those that it forks.
    ///
    /// # Errors
    /// If there is no memory for them to share, or the system does not let signals be handled.
    pub fn stderr() -> io::Result<Self> {
        // A handler, because what is ignored stays so in programs that are started: execve(2).
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(Self {
            out: Out::of(io::stderr()),
            epoch: Instant::now(),
            counts: Common::new(1)?,
            kinds: Common::new(KINDS)?,
        })
    }

    /// Writes a line, whose end is added if it has none. Never waits, and has nothing to report.
    ///
    /// `kind` is a number that all lines have in common of which only some are to be written when many come: that of
    /// the place in the program that they come from. Without one every line is.
    pub fn say(&self, kind: Option<u64>, line: &str) {
        let second = self.epoch.elapsed().as_secs();
        let kind = kind.map(|kind| &self.kinds[kind as usize % KINDS]);
        if kind.is_some_and(|kind| !kind.admits(second as u32)) {
            self.counts[0].held_back.fetch_add(1, Relaxed);
            self.counts[0].all_held_back.fetch_add(1, Relaxed);
        } else {
            self.put(line, second);
        }
    }

    /// How many lines were not written so far, whether that was told or not.
    pub fn dropped(&self) -> Dropped {
        let Counts { all_lost, all_held_back, .. } = &self.counts[0];
        Dropped { lost: all_lost.load(Relaxed), held_back: all_held_back.load(Relaxed) }
    }

    /// Says how many lines were not written, if nobody was told yet: nothing more is to come.
    pub fn finish(&self) {
        let Counts { lost, held_back, .. } = &self.counts[0];
        if lost.load(SeqCst) + held_back.load(SeqCst) > 0 {
            self.put("the log ends", u64::MAX);
        }
    }

    /// Writes a line, and behind it how many before it were not.
    fn put(&self, line: &str, second: u64) {
        let Counts { lost, held_back, told, torn, all_lost, .. } = &self.counts[0];
        let first_since = told.fetch_max(second, SeqCst) < second;
        let untold = (lost.swap(0, SeqCst), if first_since { held_back.swap(0, SeqCst) } else { 0 });
        let text = compose(torn.swap(0, SeqCst) > 0, line, untold);
        let written = self.out.write(text.as_bytes());
        if written != Ok(text.len()) {
            lost.fetch_add(untold.0 + 1, SeqCst);
            all_lost.fetch_add(1, Relaxed);
            held_back.fetch_add(untold.1, SeqCst);
            torn.fetch_or(u64::from(written.is_ok()), SeqCst);
        }
    }
}

/// Each call writes a line, of no kind.
impl io::Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say(None, &String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as it is written: clean, not too long, and with what has to be told of those before it.
fn compose(torn: bool, line: &str, (lost, held_back): (u64, u64)) -> String {
    let mut text = if torn { "\n".to_owned() } else { String::new() };
    text.push_str(&clean(line.trim_end_matches('\n')));
    let mut sum = String::new();
    if held_back > 0 {
        let _ = write!(sum, " [{held_back} more lines before this one were of kinds that came too often]");
    }
    if lost > 0 {
        let _ = write!(sum, " [{lost} lines before this one could not be written]");
    }
    let room = LONGEST - sum.len() - "…\n".len();
    if text.len() > room {
        text.truncate(text.floor_char_boundary(room));
        text.push('…');
    }
    text + &sum + "\n"
}

impl Out {
    fn of(stderr: Stderr) -> Self {
        let kind = rustix::fs::fstat(&stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Socket) => Self::Socket(stderr),
            Ok(FileType::Fifo) => Self::again(stderr),
            Ok(FileType::CharacterDevice) if stderr.is_terminal() => Self::again(stderr),
            _ => Self::File(stderr),
        }
    }

    /// Opens it anew.
    fn again(stderr: Stderr) -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
            Ok(own) => Self::Own(own),
            // A pipe that nobody reads any more, or one of another user.
            Err(_) => Self::Asked(stderr),
        }
    }

    /// Writes what is taken at once.
    fn write(&self, text: &[u8]) -> Result<usize, Errno> {
        loop {
            let written = match self {
                Self::Own(own) => rustix::io::write(own, text),
                Self::Socket(socket) => {
                    rustix::net::send(socket, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
                }
                Self::Asked(stderr) => has_room(stderr).and_then(|()| rustix::io::write(stderr, text)),
                Self::File(file) => rustix::io::write(file, text),
            };
            if written != Err(Errno::INTR) {
                return written;
            }
        }
    }
}

fn has_room(out: impl AsFd) -> Result<(), Errno> {
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&out, PollFlags::OUT)], Some(&now))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};

    use super::*;

    /// A log into a pipe.
    fn piped() -> (Log, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let log = Log { out: Out::Own(writer.into()), ..Log::stderr().unwrap() };
        (log, reader)
    }

    fn said(log: Log, mut reader: PipeReader) -> Vec<String> {
        drop(log);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        said.lines().map(str::to_owned).collect()
    }

    #[test]
    fn of_a_kind_so_many_are_written_in_a_second_and_of_others_all() {
        let kind = Kind::default();
        let admitted = |second| (0..50).filter(|_| kind.admits(second)).count();
        assert_eq!([0, 0, 1, 7, 7].map(admitted), [10, 0, 10, 10, 0]);
        let (log, reader) = piped();
        (0..100).for_each(|number| log.say(None, &number.to_string()));
        assert_eq!(said(log, reader).len(), 100);
    }

    #[test]
    fn what_was_held_back_is_told_at_the_end() {
        let (log, reader) = piped();
        // More than a second may pass meanwhile.
        (0..1000).for_each(|_| log.say(Some(7), "again"));
        log.say(Some(8), "another kind\n");
        log.finish();
        log.finish();
        let dropped = log.dropped();
        let said = said(log, reader);
        let untold = |line: &String| line.split(['[', ' ']).find_map(|word| word.parse::<usize>().ok());
        let written = said.iter().filter(|line| line.starts_with("again")).count();
        assert_eq!(dropped, Dropped { lost: 0, held_back: 1000 - written as u64 });
        assert!((10..1000).contains(&written), "{said:?}");
        assert!(said.iter().any(|line| line.starts_with("another kind")));
        assert_eq!(written + said.iter().filter_map(untold).sum::<usize>(), 1000, "{said:?}");
        assert_eq!(said.iter().filter(|line| line.starts_with("the log ends")).count(), 1, "{said:?}");
    }

    #[test]
    fn a_pipe_that_is_full_loses_lines_and_the_next_that_fits_says_how_many() {
        let (log, mut reader) = piped();
        let long = "x".repeat(LONGEST - 100);
        (0..100).for_each(|_| log.say(None, &long));
        let lost = log.counts[0].lost.load(SeqCst);
        assert!(lost > 0);
        let mut taken = vec![0; (100 - lost as usize) * (long.len() + 1)];
        reader.read_exact(&mut taken).unwrap();
        log.say(None, "at last");
        log.say(None, "and on");
        assert_eq!(
            said(log, reader),
            [format!("at last [{lost} lines before this one could not be written]"), "and on".into()]
        );
    }

    #[test]
    fn a_pipe_that_nobody_reads_any_more_costs_its_lines_and_nothing_else() {
        let (log, reader) = piped();
        drop(reader);
        log.say(None, "to nobody");
        assert_eq!(log.counts[0].lost.load(SeqCst), 1);
        log.say(None, "nor this");
        assert_eq!(log.dropped(), Dropped { lost: 2, held_back: 0 }, "each once, however often it is told");
    }

    #[test]
    fn what_was_held_back_is_told_when_the_line_that_would_have_told_it_was_lost() {
        let (log, mut reader) = piped();
        let long = "x".repeat(LONGEST - 2);
        while log.counts[0].lost.load(SeqCst) == 0 {
            log.say(None, &long);
        }
        log.counts[0].held_back.store(7, SeqCst);
        log.put("in vain", 10);
        let mut room = vec![0; 3 * LONGEST];
        reader.read_exact(&mut room).unwrap();
        log.put("first", 10);
        log.put("next", 11);
        let said = said(log, reader);
        let [.., first, next] = &said[..] else { panic!("{said:?}") };
        assert_eq!(first, "first [2 lines before this one could not be written]");
        assert_eq!(next, "next [7 more lines before this one were of kinds that came too often]");
    }

    #[test]
    fn a_line_behind_one_that_was_written_in_part_begins_anew_and_none_forges_another() {
        let (log, reader) = piped();
        log.counts[0].torn.store(1, SeqCst);
        log.say(None, "a\nb\n\n");
        log.say(None, "c");
        log.finish();
        let said = said(log, reader);
        assert_eq!((said.len(), said[0].as_str(), said[2].as_str()), (3, "", "c"), "{said:?}");
        assert!(said[1].starts_with('a') && said[1].ends_with('b'), "{said:?}");
    }

    #[test]
    fn a_line_is_never_longer_than_a_pipe_takes_whole() {
        for length in [LONGEST - 2, LONGEST - 1, LONGEST, 3 * LONGEST] {
            let line = "ü".repeat(length / 2) + &"x".repeat(length % 2);
            for untold in [(0, 0), (u64::MAX, u64::MAX)] {
                let text = compose(true, &line, untold);
                assert!(text.len() <= LONGEST && text.ends_with('\n'), "{length}: {}", text.len());
                assert_eq!(text.contains('…'), length > LONGEST - 5 || untold.0 > 0, "{length}");
            }
        }
    }
}
