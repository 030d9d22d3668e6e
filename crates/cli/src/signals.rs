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
                std::process::exit(130);
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

/// Whether SIGINT or SIGTERM has come since [`watch`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(SeqCst)
}
