//! The conformance suite: one list of scenarios, each run on every model in all settings that make a difference to it.
//!
//! ```sh
//! cargo test -p roadstead-conformance --test conformance                  # all of it
//! cargo test -p roadstead-conformance --test conformance epoll::tls       # one setting
//! cargo test -p roadstead-conformance --test conformance half_close       # some scenarios
//! ROADSTEAD_LOOPS=3 cargo test -p roadstead-conformance                   # with three loops instead of two
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
mod crowd;
mod datagram_peers;
mod datagrams;
mod excluded;
mod files;
mod forward;
mod half_close;
mod hostile;
mod interruptions;
mod life;
mod limits;
mod outgoing;
mod schedule;
mod signals;
mod state;
mod streams;
mod unix;
mod work;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use roadstead::{
    Model, Queue,
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
    /// Nothing: it concerns this model alone.
    Select,
    /// Each model, and nothing else.
    Models,
    /// Each way to the wire: plain, through TLS, on epoll that is told of levels, or whose workers do the I/O.
    Wires,
    /// Worker threads and each queue discipline.
    Queues,
    /// All of these.
    Everything,
    /// Each model that has datagrams: plain, with worker threads, on epoll that is told of levels, or whose workers do the
    /// I/O.
    Datagrams,
}

impl On {
    fn covers(&self, setting: &Setting) -> bool {
        let wire = (setting.workers == 0 || setting.io == Io::Workers) && setting.queue == Queue::Fcfs;
        let queue = !setting.tls && setting.trigger == Trigger::Edge;
        match self {
            On::Select => wire && queue && setting.model == Model::Select,
            On::Models => wire && queue,
            On::Wires => wire,
            On::Queues => queue,
            On::Everything => true,
            On::Datagrams => {
                let has = setting.model.datagram_obstacle().is_none();
                has && !setting.tls && setting.queue == Queue::Fcfs
            }
        }
    }
}

/// All scenarios, by theme.
const THEMES: &[(&str, &[Scenario])] = &[
    ("Bytes in, bytes out", streams::SCENARIOS),
    ("Half-close", half_close::SCENARIOS),
    ("Limits and deadlines", limits::SCENARIOS),
    ("Deferred work", work::SCENARIOS),
    ("Shared state", state::SCENARIOS),
    ("Files", files::SCENARIOS),
    ("Connections of its own", outgoing::SCENARIOS),
    ("Joined connections", forward::SCENARIOS),
    ("A server's life", life::SCENARIOS),
    ("Unix sockets", unix::SCENARIOS),
    ("Datagrams", datagrams::SCENARIOS),
    ("Datagrams: peers, work, a server's life", datagram_peers::SCENARIOS),
    ("Peers that are in the way", hostile::SCENARIOS),
    ("Crowds", crowd::SCENARIOS),
    ("Interruptions", interruptions::SCENARIOS),
    ("Signals", signals::SCENARIOS),
    ("Chance", schedule::SCENARIOS),
    ("Clients that we did not write", clients::SCENARIOS),
];

fn all() -> impl Iterator<Item = &'static Scenario> {
    THEMES.iter().flat_map(|(_, scenarios)| scenarios.iter())
}

fn main() -> ExitCode {
    // Several scenarios at once have a thousand clients each.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let arguments = Arguments::from_args();
    let crowds = || crowd::SCENARIOS.iter().chain(hostile::SCENARIOS);
    let is_crowd = |scenario: &Scenario| crowds().any(|crowd| crowd.name == scenario.name);
    let mut trials = book::trials();
    trials.extend(trials_of(|scenario| !is_crowd(scenario)));
    // Most of a scenario is waiting; but crowds would keep the others, and one another, from what they wait for.
    let failed = [(16, trials), (4, trials_of(is_crowd))].map(|(at_once, trials)| {
        let test_threads = arguments.test_threads.or(Some(at_once));
        libtest_mimic::run(&Arguments { test_threads, ..arguments.clone() }, trials).has_failed()
    });
    if failed.contains(&true) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn trials_of(chosen: impl Fn(&Scenario) -> bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for setting in Setting::all() {
        for scenario in all().filter(|scenario| chosen(scenario) && scenario.on.covers(&setting)) {
            if excluded::why(setting.model, scenario.name).is_none() {
                let name = format!("{}::{}", setting.name(), scenario.name);
                trials.push(Trial::test(name, move || {
                    (scenario.run)(&setting);
                    Ok(())
                }));
            }
        }
    }
    trials
}
