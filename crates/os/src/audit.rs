//! Asking a server in the foreground, by a signal, what it has counted and holds.
#![forbid(unsafe_code)]

use std::io;

use roadstead_proto::stats::Snapshot;

use crate::signals::SignalQueue;

/// Who is told what the server holds, and on which signal.
#[derive(Debug, Clone, Copy)]
pub struct Audit {
    /// The signal that asks.
    pub signal: i32,
    /// Is told.
    pub tell: fn(&Snapshot),
}

impl Audit {
    /// The signals of a server in its foreground, and the one that asks it, if one does.
    pub fn watch(audit: Option<Self>, signals: &[i32]) -> io::Result<SignalQueue> {
        let asks = audit.map(|audit| audit.signal);
        SignalQueue::watch(&signals.iter().copied().chain(asks).collect::<Vec<_>>())
    }

    /// Tells what is held, if it is this signal that asks.
    pub fn answers(audit: Option<Self>, signal: i32, held: impl FnOnce() -> Snapshot) -> bool {
        let asked = audit.filter(|audit| audit.signal == signal);
        asked.map(|audit| (audit.tell)(&held())).is_some()
    }
}
