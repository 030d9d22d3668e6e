//! What the system says of the TCP sockets of one server's port: proc_pid_net(5), `/proc/net/tcp`.
//!
//! `ss` asks for the same by sock_diag(7). The file is on every Linux, and can be read by eye beside what is printed here.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
};

use serde::Serialize;

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    Server,
    Client,
}

/// A state of RFC 9293, section 3.3.2, as the system writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum State {
    Listen,
    SynSent,
    SynRecv,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    LastAck,
    Closing,
    TimeWait,
    Close,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Listen => "LISTEN",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Closing => "CLOSING",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
        }
    }

    /// By its number in the kernel's `tcp_states.h`.
    fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            1 => State::Established,
            2 => State::SynSent,
            3 => State::SynRecv,
            4 => State::FinWait1,
            5 => State::FinWait2,
            6 => State::TimeWait,
            7 => State::Close,
            8 => State::CloseWait,
            9 => State::LastAck,
            10 => State::Listen,
            11 => State::Closing,
            _ => return None,
        })
    }
}

/// The sockets at a server's address, and those that are connected to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    pub(super) ends: BTreeMap<(End, State), usize>,
    /// Connections that nobody has accepted yet, if somebody listens.
    pub(super) waiting: Option<usize>,
}

impl Sockets {
    pub(super) fn of(server: SocketAddrV4) -> io::Result<Self> {
        Ok(Self::read(&fs::read_to_string("/proc/net/tcp")?, server))
    }

    fn read(table: &str, server: SocketAddrV4) -> Self {
        let mut sockets = Self::default();
        for row in table.lines().skip(1).filter_map(Row::read) {
            let end = match (row.local, row.peer) {
                (local, _) if local == server => End::Server,
                (_, peer) if peer == server => End::Client,
                _ => continue,
            };
            if row.state == State::Listen {
                sockets.waiting = Some(row.queued);
            }
            *sockets.ends.entry((end, row.state)).or_default() += 1;
        }
        sockets
    }
}

struct Row {
    local: SocketAddrV4,
    peer: SocketAddrV4,
    state: State,
    /// Bytes that nobody has received; of a socket that listens, connections that nobody has accepted.
    queued: usize,
}

impl Row {
    /// `sl local_address rem_address st tx_queue:rx_queue ...`, all in hexadecimal.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (local, peer) = (address(words.next()?)?, address(words.next()?)?);
        let state = State::numbered(u8::from_str_radix(words.next()?, 16).ok()?)?;
        let (_, queued) = words.next()?.split_once(':')?;
        Some(Self { local, peer, state, queued: usize::from_str_radix(queued, 16).ok()? })
    }
}

/// An address's bytes are in the network's order, and written as one number of this machine's.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(Ipv4Addr::from(ip), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the system writes it, where numbers are little-endian.
    #[cfg(target_endian = "little")]
    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1B5F 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 624 1 0
   1: 0100007F:1B5F 0100007F:9B45 01 00000000:00000005 00:00000000 00000000     0        0 0 1 0
   2: 0100007F:9B45 0100007F:1B5F 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0
   3: 0100007F:9B46 0100007F:1B5F 02 00000001:00000000 01:00000064 00000000     0        0 0 2 0
   4: 0100007F:9B47 0100007F:1B5F 02 00000001:00000000 01:00000064 00000000     0        0 0 2 0
   5: 0200007F:1B5F 0100007F:9B48 08 00000000:00000000 00:00000000 00000000     0        0 0 2 0
   6: 0100007F:1B60 0100007F:9B49 06 00000000:00000000 03:0000089F 00000000     0        0 0 3 0
   7: 0100007F:1B5F 0100007F:9B4A 06 00000000:00000000 03:0000089F 00000000     0        0 0 3 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_are_counted_by_end_and_state_and_those_of_other_addresses_are_not() {
        let sockets = Sockets::read(TABLE, "127.0.0.1:7007".parse().unwrap());
        let ends = [
            ((End::Server, State::Listen), 1),
            ((End::Server, State::Established), 1),
            ((End::Server, State::TimeWait), 1),
            ((End::Client, State::SynSent), 2),
            ((End::Client, State::Established), 1),
        ];
        assert_eq!(sockets, Sockets { ends: ends.into(), waiting: Some(2) });
        assert_eq!(Sockets::read(TABLE, "127.0.0.1:7009".parse().unwrap()), Sockets::default());
    }

    #[test]
    fn a_state_is_called_what_the_system_calls_it() {
        for number in 1..=11 {
            let state = State::numbered(number).unwrap();
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert_eq!((State::numbered(0), State::numbered(12)), (None, None));
    }
}
