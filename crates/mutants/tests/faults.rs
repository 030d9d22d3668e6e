//! The list of faults goes with the tree of today.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../planted.rs"]
#[expect(unreachable_pub, reason = "it is a crate elsewhere")]
mod planted;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use roadstead_mutants::fault::{self, Fault};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn faults() -> Vec<Fault> {
    fault::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("faults")).unwrap()
}

#[test]
fn every_fault_has_one_place_and_says_what_somebody_would_see() {
    let all = faults();
    let each = all.chunks(1).filter_map(|fault| fault::places(fault, &root()).err());
    let wrong: Vec<_> =
        each.chain(fault::places(&all, &root()).err()).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A pattern, for one, is no place for an expression.
#[test]
fn what_is_planted_is_rust() {
    let faults = faults();
    for (file, places) in fault::places(&faults, &root()).unwrap() {
        let planted = fault::rewrite(&fs::read_to_string(root().join(file)).unwrap(), &places);
        let mut parser = Command::new("rustfmt");
        parser.args(["--edition", "2024"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut parser = parser.spawn().unwrap();
        // It is closed when it has all, or has refused what is wrong.
        let _ = parser.stdin.take().unwrap().write_all(planted.as_bytes());
        assert!(parser.wait().unwrap().success(), "{file} with all faults in it is not");
    }
}

#[test]
fn the_tests_that_a_fault_names_exist() {
    for Fault { name, tests, .. } in faults() {
        for test in tests {
            let (room, target) = test.split_whitespace().next().unwrap().split_once('/').unwrap();
            let room = root().join("crates").join(room);
            let places = match target {
                "lib" => vec![room.join("src/lib.rs")],
                "bin" => vec![room.join("src/main.rs")],
                _ => ["", "/main"].map(|rest| room.join(format!("tests/{target}{rest}.rs"))).to_vec(),
            };
            assert!(places.iter().any(|path| path.exists()), "{name} names {test}");
        }
    }
}

#[test]
fn every_crate_has_faults_and_all_together_a_hundred() {
    let rooms: BTreeSet<_> = faults().iter().map(|fault| fault.room().to_owned()).collect();
    for room in [
        "proto",
        "drivers",
        "os",
        "tls",
        "exchange",
        "services",
        "keys",
        "trident",
        "trident-arithmetic",
        "load",
        "cli",
    ] {
        assert!(rooms.contains(room), "{room}");
    }
    assert!(faults().len() >= 100);
}

#[test]
fn no_two_faults_have_one_number() {
    let faults = faults();
    let numbers: BTreeSet<_> = faults.iter().map(|fault| planted::id(&fault.name)).collect();
    assert_eq!(numbers.len(), faults.len());
    assert!(!numbers.contains(&0) && !planted::is(planted::id(&faults[0].name)));
}
