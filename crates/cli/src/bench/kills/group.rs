//! The processes of a server, seen from outside: who lives, who is dead and was not joined, and whose a connection is.
//!
//! All of it is read from `/proc` (proc(5)), where a process may end between two looks: what is gone is left out.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    path::Path,
    time::Duration,
};

/// A dead process that nobody has joined after this time stays one, and one of a group whose leader has ended stays.
pub(super) const LASTING: Duration = Duration::from_secs(1);

/// A process of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerProcess {
    pub(super) pid: u32,
    pub(super) parent: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Stopped,
    /// It has ended, and its parent has not asked how.
    Zombie,
}

impl ServerProcess {
    pub(super) fn is_zombie(&self) -> bool {
        self.state == State::Zombie
    }
}

/// The processes of the group that `leader` leads, or led.
pub(super) fn members(leader: u32) -> io::Result<Vec<ServerProcess>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        found.extend(look(pid).filter(|(_, group)| *group == leader).map(|(member, _)| member));
    }
    Ok(found)
}

/// The process of this number, and its group.
pub(super) fn look(pid: u32) -> Option<(ServerProcess, u32)> {
    let (state, parent, group) = parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
    Some((ServerProcess { pid, parent, state }, group))
}

/// State, parent and group in a file `stat`. The name before them may hold anything.
fn parse(stat: &[u8]) -> Option<(State, u32, u32)> {
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = str::from_utf8(&stat[name_ends + 1..]).ok()?.split_ascii_whitespace();
    let state = match fields.next()? {
        "T" => State::Stopped,
        "Z" | "X" => State::Zombie,
        _ => State::Live,
    };
    Some((state, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Whether the thread that serves does not run: it is stopped, or has ended. It is the first of its process; the others
/// are not looked at, since what the system keeps for who does is in the way when they end.
pub(super) fn is_still(pid: u32) -> bool {
    look(pid).is_none_or(|(member, _)| member.state != State::Live)
}

/// The ports of those that the process is connected with from its own port `port`, by IPv4.
pub(super) fn connected(pid: u32, port: u16) -> io::Result<BTreeSet<u16>> {
    let sockets = sockets(Path::new(&format!("/proc/{pid}/fd")))?;
    let mut found = BTreeSet::new();
    // The system makes the table piece by piece while connections come and go: one reading may miss a line.
    for _ in 0..2 {
        found.extend(peers(&fs::read_to_string("/proc/net/tcp")?, port, &sockets));
    }
    Ok(found)
}

/// The numbers of the sockets among the descriptors of a process. None if it has ended.
fn sockets(descriptors: &Path) -> io::Result<HashSet<u64>> {
    let entries = match fs::read_dir(descriptors) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let number = |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(targets.filter_map(|target| number(target.to_str()?)).collect())
}

/// The peers' ports in a table of connections, of these sockets with this port of their own.
fn peers(table: &str, own: u16, sockets: &HashSet<u64>) -> Vec<u16> {
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let peer = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, local, remote, _, _, _, _, _, _, socket, ..] = fields.as_slice() else { return None };
        let is_it = port(local)? == own && sockets.contains(&socket.parse().ok()?);
        // A socket that listens has no peer.
        port(remote).filter(|&peer| is_it && peer != 0)
    };
    table.lines().filter_map(peer).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::process::CommandExt,
        process::Command,
        thread,
        time::Instant,
    };

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    fn until(condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::yield_now();
        }
    }

    #[test]
    fn a_name_cannot_hide_a_state() {
        assert_eq!(parse(b"7 (a) S 1 1) Z 3 4 5"), Some((State::Zombie, 3, 4)));
        assert_eq!(parse(b"7 (\xff) T 3 4 5"), Some((State::Stopped, 3, 4)));
        assert_eq!(parse(b"7 (a) R 3"), None);
        assert_eq!(parse(b"7"), None);
    }

    #[test]
    fn a_process_is_seen_alive_then_stopped_then_dead() {
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let (pid, number) = (child.id(), Pid::from_child(&child));
        let own = std::process::id();
        assert!(
            members(pid).unwrap().iter().all(|it| (it.pid, it.parent, it.is_zombie()) == (pid, own, false))
        );
        kill_process(number, Signal::STOP).unwrap();
        until(|| is_still(pid));
        assert_eq!(look(pid).unwrap().0.state, State::Stopped);
        assert!(connected(pid, 7).unwrap().is_empty());
        kill_process(number, Signal::KILL).unwrap();
        until(|| look(pid).unwrap().0.is_zombie());
        assert!(is_still(pid) && members(pid).unwrap()[0].is_zombie());
        child.wait().unwrap();
        assert!(members(pid).unwrap().is_empty() && look(pid).is_none() && is_still(pid));
    }

    #[test]
    fn a_connection_is_found_with_who_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let clients = [(); 3].map(|()| TcpStream::connect(("127.0.0.1", port)).unwrap());
        assert!(connected(std::process::id(), port).unwrap().is_empty(), "nobody has accepted them");
        let (_accepted, client) = listener.accept().unwrap();
        assert_eq!(connected(std::process::id(), port).unwrap(), BTreeSet::from([client.port()]));
        drop(clients);
    }

    #[test]
    fn odd_tables_have_no_connections() {
        let sockets = HashSet::from([5]);
        let line = "0: 0100007F:1B5F 0100007F:C000 01 0:0 0:0 0 0 0 5 1";
        assert_eq!(peers(line, 0x1b5f, &sockets), [0xc000]);
        for odd in ["", "0: 1B5F 0 1 2 3 4 5 6 5", "0: 0100007F:1B5F x:y 01 0:0 0:0 0 0 0 5", "sl local rem"]
        {
            assert!(peers(odd, 0x1b5f, &sockets).is_empty(), "{odd}");
        }
        assert!(peers(line, 0x1b5f, &HashSet::from([6])).is_empty() && peers(line, 7, &sockets).is_empty());
    }
}
