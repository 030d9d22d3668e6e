//! What the program says: each line in one call, so that the lines of several processes do not mix. pipe(7),
//! `PIPE_BUF`.

use std::fmt::Write;

use roadstead::{Address, Closed, server::Snapshot};

/// Writes a line to stdout.
pub(crate) fn say(line: &str) {
    // Whoever has started the program may be gone; then nobody is to be told that either.
    let _ = rustix::io::write(std::io::stdout(), format!("{line}\n").as_bytes());
}

/// Why a session ended.
pub(crate) fn closed(what: &str, why: &Closed) {
    say(&format!("{what} {why}"));
}

/// Where the server listens.
pub(crate) fn listening(places: &[Address]) {
    let mut line = "listening".to_owned();
    for place in places {
        let _ = write!(line, " {place}");
    }
    say(&line);
}

/// What the server has counted, and what it holds.
pub(crate) fn counts(what: &str, stats: &Snapshot) {
    let Snapshot { accepted, refused, connected, closed, failed, bytes_in, bytes_out, jobs, .. } = stats;
    let Snapshot { open, addresses, buffered, tickets, detached, children, children_failed, .. } = stats;
    let Snapshot {
        datagrams_in, datagrams_out, datagrams_dropped, datagrams_withheld, datagram_panics, ..
    } = stats;
    say(&format!(
        "{what} accepted={accepted} refused={refused} connected={connected} closed={closed} failed={failed} \
         bytes_in={bytes_in} bytes_out={bytes_out} jobs={jobs} open={open} addresses={addresses} buffered={buffered} \
         tickets={tickets} detached={detached} datagrams_in={datagrams_in} datagrams_out={datagrams_out} \
         dropped={datagrams_dropped} withheld={datagrams_withheld} panics={datagram_panics} \
         children={children} children_failed={children_failed}"
    ));
}
