//! The children of a server, counted without disturbing them.
//!
//! Whoever reads of a process in `/proc` while it ends makes its parent wait to join it: what the system has kept for
//! readers must be thrown away, and not while one is at it. So each process is read of once, when its number is new;
//! from then on a descriptor tells whether it has ended (pidfd_open(2)), and the list of numbers whether it was joined.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::OwnedFd,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::group;

/// The processes of the machine that have been seen.
pub(super) struct Census {
    server: u32,
    /// With a descriptor if it is a child of the server's.
    known: HashMap<u32, Option<OwnedFd>>,
}

/// The children of a server, by their numbers, in order.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) live: Vec<u32>,
    /// They have ended, and their parent has not asked how.
    pub(super) dead: Vec<u32>,
}

impl Census {
    /// Of the children of `server`, which leads their group.
    pub(super) fn new(server: u32) -> Self {
        Self { server, known: HashMap::new() }
    }

    /// Counts. None if the server has ended.
    pub(super) fn take(&mut self) -> io::Result<Option<Count>> {
        let entries = fs::read_dir("/proc")?.flatten();
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let listed: HashSet<u32> = entries.filter_map(number).collect();
        self.known.retain(|pid, _| listed.contains(pid));
        let mut count = Count::default();
        for &pid in &listed {
            if !self.known.contains_key(&pid) {
                self.known.insert(pid, open(pid, self.server));
            }
            if let Some(Some(process)) = self.known.get(&pid) {
                if has_ended(process)? { &mut count.dead } else { &mut count.live }.push(pid);
            }
        }
        count.live.sort_unstable();
        count.dead.sort_unstable();
        Ok(listed.contains(&self.server).then_some(count))
    }
}

/// A descriptor of this process if it is a child of `server`.
fn open(pid: u32, server: u32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    group::look(pid).filter(|(member, group)| (member.parent, *group) == (server, server)).map(|_| process)
}

fn has_ended(process: &OwnedFd) -> io::Result<bool> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(retry_on_intr(|| poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)))? > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use rustix::process::{Signal, kill_process, kill_process_group};

    use super::*;

    #[test]
    fn children_are_counted_while_they_live_and_until_they_are_joined() {
        // The shell joins none before it is told to go on.
        let line = "sleep 1000 & sleep 1000 & read go; wait; read end";
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", line]).process_group(0).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut census = Census::new(shell.id());
        let mut until = |live: usize, dead: usize| {
            let start = Instant::now();
            loop {
                let count = census.take().unwrap().unwrap();
                if (count.live.len(), count.dead.len()) == (live, dead) {
                    return count;
                }
                assert!(start.elapsed() < Duration::from_secs(60), "{count:?}");
                thread::sleep(Duration::from_millis(1));
            }
        };
        let both = until(2, 0).live;
        kill_process(Pid::from_raw(both[1].cast_signed()).unwrap(), Signal::KILL).unwrap();
        assert_eq!(until(1, 1).live, both[..1]);
        kill_process_group(Pid::from_child(&shell), Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(census.take().unwrap().is_none());
    }
}
