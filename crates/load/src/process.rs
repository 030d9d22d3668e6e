//! What a process costs: its CPU time and memory, read from `/proc` (proc(5)).

use std::fs;
use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Why a process could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such process, or it may not be looked at.
    #[error("cannot read {path}: {source}; is the process still running?")]
    Unreadable {
        /// The file under `/proc`.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel answers in a form that is not that of proc(5).
    #[error("{path} lacks the field {field}")]
    Malformed {
        /// The file under `/proc`.
        path: String,
        /// The field that was looked for.
        field: &'static str,
    },
}

/// CPU time and memory of a process at one moment.
///
/// The kernel counts CPU time here in ticks of usually 10 ms: compare moments at least a second apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// CPU seconds spent in the program, by all its threads.
    pub user_seconds: f64,
    /// CPU seconds spent in the kernel for it.
    pub system_seconds: f64,
    /// Resident memory (VmRSS) in bytes.
    pub resident_bytes: u64,
    /// The part of it that is anonymous (RssAnon), so not backed by files: heap and stacks.
    pub anonymous_bytes: u64,
    /// The most that was ever resident (VmHWM).
    pub peak_bytes: u64,
}

impl Usage {
    /// Looks at the process `pid`. A zombie has no memory left: it is an error.
    pub fn of(pid: u32) -> Result<Self, ProcessError> {
        Self::under(&format!("/proc/{pid}"))
    }

    /// Looks at the calling process.
    pub fn own() -> Result<Self, ProcessError> {
        Self::under("/proc/self")
    }

    /// User and system time together, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    fn under(directory: &str) -> Result<Self, ProcessError> {
        let stat = Source::read(format!("{directory}/stat"))?;
        let status = Source::read(format!("{directory}/status"))?;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Ok(Self {
            user_seconds: stat.stat_field(14, "utime")? as f64 / ticks,
            system_seconds: stat.stat_field(15, "stime")? as f64 / ticks,
            resident_bytes: status.kilobytes("VmRSS:")?,
            anonymous_bytes: status.kilobytes("RssAnon:")?,
            peak_bytes: status.kilobytes("VmHWM:")?,
        })
    }
}

/// CPU time of all living threads of the process `pid`, to the nanosecond: for spans too short for [`Usage`].
///
/// Comes from the scheduler's accounts (`/proc/PID/task/TID/schedstat`); time of threads that have ended is not in it.
pub fn cpu_time(pid: u32) -> Result<Duration, ProcessError> {
    cpu_time_under(format!("/proc/{pid}/task"))
}

fn cpu_time_under(path: String) -> Result<Duration, ProcessError> {
    let unreadable = |source| ProcessError::Unreadable { path: path.clone(), source };
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(&path).map_err(unreadable)? {
        let file = thread.map_err(unreadable)?.path().join("schedstat");
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse().ok());
        let missing = || ProcessError::Malformed { path: file.display().to_string(), field: "run time" };
        total += Duration::from_nanos(nanoseconds.ok_or_else(missing)?);
    }
    Ok(total)
}

/// CPU time of the calling process so far, to the nanosecond, with its threads that have ended.
pub fn own_cpu_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

/// Memory that the process `pid` has written to and shares with nobody (Private_Dirty of `smaps_rollup`), in bytes:
/// heap and stacks, to the page.
pub fn private_bytes(pid: u32) -> Result<u64, ProcessError> {
    Source::read(format!("/proc/{pid}/smaps_rollup"))?.kilobytes("Private_Dirty:")
}

/// How many descriptors the process `pid` has open.
pub fn descriptors(pid: u32) -> Result<usize, ProcessError> {
    let path = format!("/proc/{pid}/fd");
    match fs::read_dir(&path) {
        Ok(open) => Ok(open.count()),
        Err(source) => Err(ProcessError::Unreadable { path, source }),
    }
}

/// One file of `/proc` and where it came from.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn read(path: String) -> Result<Self, ProcessError> {
        match fs::read(&path) {
            // A process may call itself anything: its name need not be UTF-8.
            Ok(bytes) => Ok(Self { text: String::from_utf8_lossy(&bytes).into_owned(), path }),
            Err(source) => Err(ProcessError::Unreadable { path, source }),
        }
    }

    fn malformed(&self, field: &'static str) -> ProcessError {
        ProcessError::Malformed { path: self.path.clone(), field }
    }

    /// Field `number` of `stat`, counted from 1 as in proc(5), from the third on.
    fn stat_field(&self, number: usize, name: &'static str) -> Result<u64, ProcessError> {
        // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
        self.text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(number - 3))
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| self.malformed(name))
    }

    /// A line such as `VmRSS:   1234 kB` of `status`, in bytes.
    fn kilobytes(&self, name: &'static str) -> Result<u64, ProcessError> {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .and_then(|value| value.parse::<u64>().ok())
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| self.malformed(name))
    }
}

/// CPU time that the calling thread has used so far, to the nanosecond.
pub fn thread_cpu_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_shift_the_fields() {
        let source = Source { path: "stat".into(), text: "7 (a b) R) S 1 2 3 4 5 6 7 8 9 10 42 43 0".into() };
        assert_eq!(source.stat_field(14, "utime").unwrap(), 42);
        assert_eq!(source.stat_field(15, "stime").unwrap(), 43);
        assert!(source.stat_field(99, "none").is_err());
    }

    #[test]
    fn each_figure_of_a_process_comes_from_its_own_field() {
        let directory = tempfile::tempdir().unwrap();
        let stat = "7 (a) S 1 2 3 4 5 6 7 8 9 10 300 500 0";
        fs::write(directory.path().join("stat"), stat).unwrap();
        let status = "VmPeak: 9 kB\nVmHWM:\t 4 kB\nVmRSS:\t 3 kB\nRssAnon:\t 2 kB\nRssFile: 8 kB\n";
        fs::write(directory.path().join("status"), status).unwrap();
        let usage = Usage::under(directory.path().to_str().unwrap()).unwrap();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!((usage.user_seconds * ticks, usage.system_seconds * ticks), (300.0, 500.0));
        assert_eq!(usage.cpu_seconds() * ticks, 800.0);
        assert_eq!([usage.anonymous_bytes, usage.resident_bytes, usage.peak_bytes], [2048, 3072, 4096]);
    }

    #[test]
    fn memory_that_is_touched_is_seen() {
        const SIZE: u64 = 64 << 20;
        let block = std::hint::black_box(vec![1_u8; SIZE as usize]);
        let after = Usage::of(std::process::id()).unwrap();
        let private = private_bytes(std::process::id()).unwrap();
        drop(block);
        assert!(private >= SIZE, "{private}");
        // Other tests, in this process too, may take and give back as much meanwhile.
        assert!(after.anonymous_bytes >= SIZE, "{after:?}");
        assert!(after.peak_bytes >= after.resident_bytes);
        assert!(after.resident_bytes >= after.anonymous_bytes);
    }

    #[test]
    fn an_open_file_is_a_descriptor() {
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(descriptors(std::process::id()).unwrap() >= files.len());
        assert!(descriptors(u32::MAX).unwrap_err().to_string().contains("/proc/4294967295/fd"));
    }

    #[test]
    fn cpu_time_only_grows() {
        let (before, thread) = (Usage::own().unwrap(), thread_cpu_time());
        let mut sum = 0_u64;
        while thread_cpu_time() < thread + Duration::from_millis(60) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(Usage::own().unwrap().cpu_seconds() > before.cpu_seconds());
        assert_ne!(thread_cpu_time().subsec_nanos(), 0, "whole seconds would be too coarse");
    }

    #[test]
    fn the_time_of_a_process_has_that_of_threads_that_have_ended() {
        let before = own_cpu_time();
        let spent = std::thread::spawn(|| {
            let mut sum = 0_u64;
            while thread_cpu_time() < Duration::from_millis(60) {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
            thread_cpu_time()
        });
        let spent = spent.join().unwrap();
        assert!(own_cpu_time() - before >= spent, "{spent:?}");
    }

    #[test]
    fn cpu_time_is_what_all_threads_ran_and_not_how_long_they_waited() {
        let directory = tempfile::tempdir().unwrap();
        let thread = |number: &str, accounts: Option<&str>| {
            let thread = directory.path().join(number);
            fs::create_dir(&thread).unwrap();
            if let Some(accounts) = accounts {
                fs::write(thread.join("schedstat"), accounts).unwrap();
            }
        };
        let time = || cpu_time_under(directory.path().display().to_string());
        assert_eq!(time().unwrap(), Duration::ZERO);
        thread("7", Some("2000000300 5000000000 9\n"));
        thread("8", Some("40 7 1\n"));
        thread("9", None);
        assert_eq!(time().unwrap(), Duration::new(2, 340), "one has ended meanwhile");
        thread("10", Some("much"));
        let error = time().unwrap_err().to_string();
        assert!(error.ends_with("/10/schedstat lacks the field run time"), "{error}");
        let error = cpu_time(u32::MAX).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /proc/4294967295/task: "), "{error}");
        assert!(cpu_time(std::process::id()).is_ok());
    }

    #[test]
    fn private_memory_is_what_was_written_to() {
        let lines = "Rss: 9 kB\nShared_Dirty: 8 kB\nPrivate_Clean: 7 kB\nPrivate_Dirty:\t 6 kB\n";
        let source = Source { path: "smaps_rollup".into(), text: lines.into() };
        assert_eq!(source.kilobytes("Private_Dirty:").unwrap(), 6 << 10);
        let error = source.kilobytes("VmRSS:").unwrap_err().to_string();
        assert_eq!(error, "smaps_rollup lacks the field VmRSS:");
    }

    #[test]
    fn a_missing_process_is_named() {
        let error = Usage::of(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
    }
}
