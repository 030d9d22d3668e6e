//! Ctrl-C in long work that is no server: the first asks to finish, the second ends at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// The exit code of who was told to end at once, or before there was anything to report.
pub(crate) const END_AT_ONCE: u8 = 130;
/// Set when a signal has come: what runs should come to an end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the second signal deletes before it ends the process, as nothing else will.
static DOOMED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Watches for SIGINT and SIGTERM from now on; and for SIGHUP, since a terminal that is closed ends a measurement too,
/// unless it was to go on all the same: nohup(1). The second exits with 130.
pub(crate) fn watch() -> io::Result<()> {
    let hangup = (!is_ignored(SIGHUP)?).then_some(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for (number, _) in signals.forever().enumerate() {
            if number > 0 {
                // Held until the end, which is nobody else's now.
                let doomed = doomed();
                if let Some(doomed) = doomed.as_ref() {
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

/// Has SIGHUP end this process no more.
pub(crate) fn outlive_terminal() -> io::Result<()> {
    // Nobody asks whether it has come.
    signal_hook::flag::register(SIGHUP, Arc::default()).map(drop)
}

/// Whether this process ignores a signal: proc(5).
fn is_ignored(signal: i32) -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    Ok(ignored & 1 << (signal - 1) != 0)
}

/// The second signal deletes this directory, which the process deletes itself when it ends in another way.
pub(crate) fn doom(directory: &Path) {
    *doomed() = Some(directory.into());
}

fn doomed() -> MutexGuard<'static, Option<PathBuf>> {
    DOOMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves the end of the process to the second signal if it has come: what it deletes may be what made a command fail.
pub(crate) fn give_way() {
    drop(doomed());
}

/// A signal has come before there was anything to report.
#[derive(Debug, thiserror::Error)]
#[error("interrupted before anything was {0}")]
pub(crate) struct Interrupted(pub(crate) &'static str);

/// Ends what has nothing to report yet, if a signal has come since [`watch`].
pub(crate) fn check() -> Result<(), Interrupted> {
    if interrupted() { Err(Interrupted("measured")) } else { Ok(()) }
}

/// Whether a signal has come since [`watch`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(SeqCst)
}
