//! The process that started this one, for one that must not outlive it.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::{outcome::Result, signals};

/// Ends this process when `parent`, which has started it, ends; and not for a terminal that is closed, which ends the
/// parent in good order.
pub(crate) fn end_with(parent: i32) -> Result<()> {
    signals::outlive_terminal()?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have ended before it could be asked for a signal.
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|pid| pid.get() != parent) {
        return Err("the process that started this one has ended".into());
    }
    Ok(())
}
