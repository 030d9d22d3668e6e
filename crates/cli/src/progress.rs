//! Progress on stderr, where a person is looking; elsewhere how long it will take, and nothing more.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::log;

/// What ends sooner needs no announcement.
const LONG: Duration = Duration::from_secs(10);

/// Says how long a measurement takes where no bar says how far it is.
pub(crate) fn announce(time: Duration) {
    if time >= LONG && !io::stderr().is_terminal() {
        log::say(&format!("measuring for about {} s", time.as_secs()));
    }
}

/// A bar of `length` steps.
pub(crate) fn bar(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:32} {percent:>3} %  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Something that turns while work of unknown length is done.
pub(crate) fn spinner(what: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.into());
    if io::stderr().is_terminal() {
        // By a thread of its own.
        spinner.enable_steady_tick(Duration::from_millis(100));
    }
    spinner
}

/// A bar of bytes, of which [`on`] learns how many there are.
pub(crate) fn bytes(what: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what.into());
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:32} {percent:>3} %  {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// Moves a bar of bytes: so many are done, of so many.
pub(crate) fn on(bar: &ProgressBar) -> impl FnMut(u64, u64) {
    |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    }
}
