//! Which tests are tried for a fault, and in which order: those it names, then from the quickest to the slowest.

use crate::{copy::Tests, fault::Fault};

/// Some tests of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// The program.
    pub tests: &'a Tests,
    /// A part of the names of those that are run; empty: all.
    pub filter: String,
}

impl Step<'_> {
    /// How people write it.
    pub fn name(&self) -> String {
        let Self { tests: Tests { room, target, .. }, filter } = self;
        format!("{room}/{target} {filter}").trim_end().to_owned()
    }
}

/// What `crates/` a fault in one of them can be seen in; the crate itself comes first.
const SEEN_IN: &[(&str, &[&str])] = &[
    (
        "proto",
        &[
            "proto",
            "drivers",
            "tls",
            "sim",
            "exchange",
            "os",
            "roadstead",
            "services",
            "conformance",
            "load",
            "trident",
            "cli",
        ],
    ),
    (
        "drivers",
        &[
            "drivers",
            "sim",
            "exchange",
            "os",
            "roadstead",
            "services",
            "conformance",
            "load",
            "trident",
            "cli",
        ],
    ),
    ("os", &["os", "roadstead", "services", "conformance", "load", "trident", "cli"]),
    ("tls", &["tls", "roadstead", "exchange", "conformance", "trident", "cli"]),
    ("sim", &["sim", "exchange", "services", "trident"]),
    ("exchange", &["exchange", "roadstead", "trident", "cli"]),
    ("roadstead", &["roadstead", "services", "conformance", "load", "trident", "cli"]),
    ("services", &["services", "conformance", "cli"]),
    ("keys", &["keys", "tls", "exchange", "roadstead", "trident", "cli", "conformance"]),
    ("trident", &["trident", "cli"]),
    ("trident-arithmetic", &["trident-arithmetic", "trident", "cli"]),
    ("load", &["load", "cli"]),
    ("cli", &["cli"]),
    ("conformance", &["conformance"]),
];

/// Where a fault is one of the engine's, which the conformance suite is about.
const ENGINE: &[&str] = &["proto", "drivers", "os", "tls", "roadstead"];

/// Of the conformance suite, one model of each core: what is likely to show a fault of the engine soon.
const FEW_SETTINGS: &[&str] = &["epoll::plain", "threads::plain", "emulated::plain"];

/// The steps of a fault, those that its list names first.
///
/// # Errors
/// The name of a test program that there is none of.
pub fn steps<'a>(fault: &Fault, all: &'a [Tests]) -> Result<Vec<Step<'a>>, String> {
    let mut steps = Vec::new();
    for named in &fault.tests {
        let (program, filter) = named.split_once(' ').unwrap_or((named, ""));
        let is_it = |tests: &&Tests| program == format!("{}/{}", tests.room, tests.target);
        let tests = all.iter().find(is_it).ok_or_else(|| program.to_owned())?;
        steps.push(Step { tests, filter: filter.trim().to_owned() });
    }
    let room = fault.room();
    let of = |room: &'a str| all.iter().filter(move |tests| tests.room == room);
    let whole = |tests| Step { tests, filter: String::new() };
    let seen_in = SEEN_IN.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, rooms)| rooms);
    for room in seen_in.iter().filter(|name| **name == room) {
        for first in ["lib", "bin", "sim"] {
            steps.extend(of(room).filter(|tests| tests.target == first).map(whole));
        }
        steps.extend(of(room).map(whole));
    }
    let suite = all.iter().find(|tests| tests.target == "conformance").filter(|_| ENGINE.contains(&room));
    for (tests, setting) in suite.into_iter().flat_map(|suite| FEW_SETTINGS.iter().map(move |it| (suite, it)))
    {
        steps.push(Step { tests, filter: (*setting).to_owned() });
    }
    steps.extend(seen_in.iter().flat_map(|room| of(room).map(whole)));
    Ok(without_repetition(steps))
}

/// A program that was run whole, or with the same filter, is not run again.
fn without_repetition(steps: Vec<Step<'_>>) -> Vec<Step<'_>> {
    let mut kept: Vec<Step<'_>> = Vec::new();
    for step in steps {
        let done = |other: &Step<'_>| {
            other.tests == step.tests && (other.filter.is_empty() || other.filter == step.filter)
        };
        if !kept.iter().any(done) {
            kept.push(step);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Tests {
        let (room, target) = name.split_once('/').unwrap();
        Tests { room: room.into(), target: target.into(), path: "".into(), dir: "".into(), programs: vec![] }
    }

    fn names(tests: &[&str]) -> Result<Vec<String>, String> {
        let programs =
            ["roadstead/panics", "roadstead/sim", "roadstead/lib", "cli/bin", "conformance/conformance"];
        let all = programs.map(program);
        let fault = Fault {
            name: "a".into(),
            file: "crates/roadstead/src/a.rs".into(),
            was: "a".into(),
            becomes: "b".into(),
            user: "c".into(),
            tests: tests.iter().map(|&name| name.to_owned()).collect(),
            area: "a".into(),
        };
        Ok(steps(&fault, &all)?.iter().map(Step::name).collect())
    }

    #[test]
    fn what_a_fault_names_comes_first_and_then_the_quickest_and_nothing_twice() {
        let own =
            ["roadstead/sim relay", "roadstead/panics", "roadstead/lib", "roadstead/sim"].map(str::to_owned);
        let few = FEW_SETTINGS.iter().map(|setting| format!("conformance/conformance {setting}"));
        let rest = ["conformance/conformance", "cli/bin"].map(str::to_owned);
        let all: Vec<_> = own.into_iter().chain(few).chain(rest).collect();
        assert_eq!(names(&["roadstead/sim relay", "roadstead/panics"]).unwrap(), all);
    }

    #[test]
    fn a_program_that_there_is_none_of_is_named() {
        assert_eq!(names(&["roadstead/none"]).unwrap_err(), "roadstead/none");
    }
}
