//! Ctrl-C: the first asks to finish, the second ends at once.

use std::{
    io,
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// Set when SIGINT or SIGTERM has come: what runs should come to an end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Watches for SIGINT and SIGTERM from now on. The receiver hears of the first; the second exits with 130.
pub(crate) fn watch() -> io::Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (first, came) = mpsc::channel();
    thread::Builder::new().name("signals".into()).spawn(move || {
        for (number, _) in signals.forever().enumerate() {
            if number > 0 {
                std::process::exit(130);
            }
            INTERRUPTED.store(true, SeqCst);
            // Nobody listens when the work is over already.
            let _ = first.send(());
        }
    })?;
    Ok(came)
}

/// Whether SIGINT or SIGTERM has come since [`watch`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(SeqCst)
}
