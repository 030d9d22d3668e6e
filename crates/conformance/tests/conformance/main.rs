//! The conformance suite: one list of scenarios, each run on every model in all settings that make a difference to it.
//!
//! ```sh
//! cargo test -p roadstead-conformance --test conformance                  # all of it
//! cargo test -p roadstead-conformance --test conformance epoll::tls       # one setting
//! cargo test -p roadstead-conformance --test conformance half_close       # some scenarios
//! ```
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The list of a theme: the scenario, where it makes a difference, and what it shows.
macro_rules! scenarios {
    ($($name:ident ($on:ident): $about:literal,)*) => {
        pub(crate) const SCENARIOS: &[crate::Scenario] = &[$(crate::Scenario {
            name: stringify!($name),
            about: $about,
            on: crate::On::$on,
            run: $name,
        }),*];
    };
}

mod book;
mod clients;
mod excluded;
mod files;
mod hostile;
mod life;
mod limits;
mod streams;
mod work;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use roadstead::{
    Queue,
    server::{Io, Trigger},
};
use roadstead_conformance::setting::Setting;

/// Something that every model must do.
struct Scenario {
    name: &'static str,
    /// What it shows, in a line.
    about: &'static str,
    on: On,
    run: fn(&Setting),
}

/// The settings that make a difference.
enum On {
    /// Each model, and nothing else.
    Models,
    /// Each way to the wire: plain, through TLS, on epoll that is told of levels, or whose workers do the I/O.
    Wires,
    /// Worker threads and each queue discipline.
    Queues,
    /// All of these.
    Everything,
}

impl On {
    fn covers(&self, setting: &Setting) -> bool {
        let wire = (setting.workers == 0 || setting.io == Io::Workers) && setting.queue == Queue::Fcfs;
        let queue = !setting.tls && setting.trigger == Trigger::Edge;
        match self {
            On::Models => wire && queue,
            On::Wires => wire,
            On::Queues => queue,
            On::Everything => true,
        }
    }
}

/// All scenarios, by theme.
const THEMES: [(&str, &[Scenario]); 7] = [
    ("Bytes in, bytes out", streams::SCENARIOS),
    ("Limits and deadlines", limits::SCENARIOS),
    ("Deferred work", work::SCENARIOS),
    ("Files", files::SCENARIOS),
    ("A server's life", life::SCENARIOS),
    ("Peers that are in the way", hostile::SCENARIOS),
    ("Clients that we did not write", clients::SCENARIOS),
];

fn all() -> impl Iterator<Item = &'static Scenario> {
    THEMES.iter().flat_map(|(_, scenarios)| scenarios.iter())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a scenario is waiting.
    arguments.test_threads.get_or_insert(8);
    let mut trials = book::trials();
    for setting in Setting::all() {
        for scenario in all().filter(|scenario| scenario.on.covers(&setting)) {
            if excluded::why(setting.model, scenario.name).is_none() {
                let name = format!("{}::{}", setting.name(), scenario.name);
                trials.push(Trial::test(name, move || {
                    (scenario.run)(&setting);
                    Ok(())
                }));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
