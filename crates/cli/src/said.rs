//! What a server says of itself: where it listens, and what it has come to.

use std::{io, net::SocketAddr};

use roadstead::{Address, Model, server::Snapshot};
use roadstead_load::report::Destination;

use crate::log::CLOSING;

/// Says what a server has come to.
pub(crate) fn close(model: Model, how: &str, counts: &Snapshot) {
    let of_processes = |count: u64| model.forks().then_some(count);
    tracing::info!(
        target: CLOSING, %model, accepted = counts.accepted, refused = counts.refused, closed = counts.closed,
        failed = counts.failed, violations = counts.violations, late = counts.late, too_large = counts.too_large,
        stopped = counts.stopped, broken = counts.broken, bytes_in = counts.bytes_in, bytes_out = counts.bytes_out,
        children = of_processes(counts.children), children_failed = of_processes(counts.children_failed), "{how}"
    );
}

/// The same of one of datagrams.
pub(crate) fn close_datagrams(model: Model, how: &str, counts: &Snapshot) {
    tracing::info!(
        target: CLOSING, %model, datagrams_in = counts.datagrams_in, datagrams_out = counts.datagrams_out,
        truncated = counts.datagrams_truncated, withheld = counts.datagrams_withheld,
        dropped = counts.datagrams_dropped, panics = counts.datagram_panics, bytes_in = counts.bytes_in,
        bytes_out = counts.bytes_out, "{how}"
    );
}

/// Says where it listens. `peers` is where other servers of its cluster reach it, if it has any, and `admin` where it is
/// watched.
pub(crate) fn announce(
    how: &str,
    addresses: &[Address],
    peers: Option<SocketAddr>,
    admin: &[Address],
) -> io::Result<()> {
    let mut lines: String = addresses.iter().map(|address| format!("listening {how} {address}\n")).collect();
    if let Some(address) = peers {
        lines.push_str(&format!("listening for servers on {address}\n"));
    }
    lines.extend(admin.iter().map(|address| format!("listening for admin on {address}\n")));
    Destination::Stdout.write(&lines).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::logged;

    #[test]
    fn what_a_server_has_come_to_is_said_count_by_count() {
        let counts = Snapshot {
            accepted: 1,
            refused: 2,
            closed: 3,
            failed: 4,
            violations: 5,
            late: 6,
            too_large: 7,
            stopped: 8,
            broken: 9,
            bytes_in: 10,
            bytes_out: 11,
            children: 12,
            children_failed: 13,
            ..Snapshot::default()
        };
        let datagrams = Snapshot {
            datagrams_in: 1,
            datagrams_truncated: 3,
            datagrams_out: 2,
            datagrams_withheld: 4,
            datagrams_dropped: 5,
            datagram_panics: 6,
            bytes_in: 7,
            bytes_out: 8,
            ..Snapshot::default()
        };
        let said = logged(|| close_datagrams(Model::Epoll, "drained", &datagrams));
        let line = "INFO roadstead::closing: drained model=epoll datagrams_in=1 datagrams_out=2 truncated=3 withheld=4 \
                    dropped=5 panics=6 bytes_in=7 bytes_out=8";
        assert_eq!(said.trim(), line);
        for (model, more) in [(Model::Epoll, ""), (Model::Prefork, " children=12 children_failed=13")] {
            let said = logged(|| close(model, "drained", &counts));
            let line = format!(
                "INFO roadstead::closing: drained model={model} accepted=1 refused=2 closed=3 failed=4 violations=5 late=6 \
                 too_large=7 stopped=8 broken=9 bytes_in=10 bytes_out=11{more}"
            );
            assert_eq!(said.trim(), line);
        }
    }
}
