//! What happened to the datagrams of a run, in order, and what moved between whom.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

/// What IP and UDP add to a datagram, in bytes.
pub(super) fn headers(address: SocketAddr) -> usize {
    if address.is_ipv6() { 48 } else { 28 }
}

/// An event of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Sent,
    Lost,
    TooLong,
    Duplicated,
    Arrived,
    Overflowed,
    Nowhere,
    Received,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    at: Duration,
    from: SocketAddr,
    to: SocketAddr,
    length: usize,
    what: What,
}

/// What went from one address to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatagramFlow {
    /// Datagrams that were sent.
    pub sent: u64,
    /// Their bytes, with IP and UDP headers.
    pub sent_bytes: u64,
    /// Datagrams that a session was given, each copy of one counted.
    pub received: u64,
    /// Their bytes, with IP and UDP headers.
    pub received_bytes: u64,
}

/// Everything the network did in a run, in order. Two runs of one seed have equal traces; [`Display`](fmt::Display)
/// writes one line per event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatagramTrace {
    records: Vec<Record>,
    pub(super) flows: BTreeMap<(SocketAddr, SocketAddr), DatagramFlow>,
}

impl DatagramTrace {
    pub(super) fn note(
        &mut self,
        at: Duration,
        (from, to): (SocketAddr, SocketAddr),
        length: usize,
        what: What,
    ) {
        self.records.push(Record { at, from, to, length, what });
        let bytes = (length + headers(from)) as u64;
        let flow = self.flows.entry((from, to)).or_default();
        match what {
            What::Sent => {
                flow.sent += 1;
                flow.sent_bytes += bytes;
            }
            What::Received => {
                flow.received += 1;
                flow.received_bytes += bytes;
            }
            _ => {}
        }
    }

    /// How many events there were.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing happened at all.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The last `count` events, a line each.
    pub fn tail(&self, count: usize) -> String {
        let from = self.records.len().saturating_sub(count);
        self.records[from..].iter().map(|record| format!("{record}\n")).collect()
    }
}

impl fmt::Display for DatagramTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, from, to, length, what } = self;
        let what = match what {
            What::Sent => "is sent",
            What::Lost => "is lost",
            What::TooLong => "is too long for the way",
            What::Duplicated => "arrives twice",
            What::Arrived => "arrives",
            What::Overflowed => "finds no room",
            What::Nowhere => "finds nobody",
            What::Received => "is received",
        };
        write!(f, "{:>14.6} ms  {from} > {to} {length} {what}", at.as_secs_f64() * 1e3)
    }
}
