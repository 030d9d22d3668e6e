//! Ctrl-C in long work that is no server: the first asks to finish, the second ends at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// The exit code of who was told to end at once, or before there was anything to report.
pub(crate) const END_AT_ONCE: u8 = 130;
/// Set when SIGINT or SIGTERM has come: what runs should come to an end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the second signal deletes before it ends the process, as nothing else will.
static DOOMED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Watches for SIGINT and SIGTERM from now on. The second exits with 130.
pub(crate) fn watch() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for (number, _) in signals.forever().enumerate() {
            if number > 0 {
                if let Some(doomed) = DOOMED.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    // Whatever hinders it, the process ends now.
                    let _ = fs::remove_dir_all(doomed);
                }
                std::process::exit(END_AT_ONCE.into());
            }
            INTERRUPTED.store(true, SeqCst);
        }
    })?;
    Ok(())
}

/// The second signal deletes this directory, which the process deletes itself when it ends in another way.
pub(crate) fn doom(directory: &Path) {
    *DOOMED.lock().unwrap_or_else(PoisonError::into_inner) = Some(directory.into());
}

/// A signal has come before there was anything to report.
#[derive(Debug, thiserror::Error)]
#[error("interrupted before anything was measured")]
pub(crate) struct Interrupted;

/// Ends what has nothing to report yet, if SIGINT or SIGTERM has come since [`watch`].
pub(crate) fn check() -> Result<(), Interrupted> {
    if interrupted() { Err(Interrupted) } else { Ok(()) }
}

/// Whether SIGINT or SIGTERM has come since [`watch`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(SeqCst)
}
