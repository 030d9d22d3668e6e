//! The system's limit of descriptors, and what it means for the budget's: getrlimit(2), `RLIMIT_NOFILE`.
#![forbid(unsafe_code)]

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a server needs beside those of its connections.
const OTHERS: u64 = 64;

/// Raises this process's soft limit, if it is too low for so many connections, as far as the hard one allows.
///
/// The soft limit is as low as it is, often 1,024, for programs that use select(2); a server whose process is its own
/// has no reason to keep it. It is raised no further than it must be: the programs that a session starts inherit it.
pub fn make_room(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let needed = (connections as u64).saturating_add(OTHERS);
    let Some(soft) = limit.current.filter(|&soft| soft < needed) else { return };
    let raised = limit.maximum.map_or(needed, |hard| hard.min(needed));
    if raised > soft && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_ok() {
        tracing::debug!(from = soft, to = raised, "the soft limit of descriptors was raised");
    }
}

/// Says so if there is not room for so many connections beside the descriptors that are open.
pub fn check(connections: usize) {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    let room = limit.saturating_sub(open);
    if room < connections as u64 {
        tracing::warn!(
            "about {room} connections fit, and not the {connections} that the budget allows: this process may have \
             {limit} descriptors; raise that (`ulimit -n`), or allow fewer connections (`--connections`)"
        );
    }
}
