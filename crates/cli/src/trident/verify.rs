//! `roadstead trident verify`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Serialize;

use roadstead_load::report::{Destination, Stream};
use roadstead_trident::{
    integrity::{Verified, verify},
    party::Party,
    store::{StoreError, holder_name},
};

use crate::{
    outcome::{Outcome, Result},
    progress,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directories of servers or clients, as one run of `share` made them; of every server one
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Write what was found as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
}

#[derive(Serialize)]
struct Report {
    directory: String,
    /// Whose it is, and the digest of its manifest, if that can be read.
    holder: Option<String>,
    manifest: Option<String>,
    #[serde(skip)]
    party: Option<Party>,
    bytes: u64,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Fault {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<Damage>,
    error: String,
}

/// Counted from 1; the bytes are those from `first_byte` on, and before `end_byte`.
#[derive(Serialize)]
struct Damage {
    first_block: usize,
    last_block: usize,
    blocks: usize,
    first_byte: u64,
    end_byte: u64,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let mut reports: Vec<Report> = args.dirs.iter().map(|dir| report(dir)).collect();
    compare(&mut reports);
    let json = args.json.clone().map(Destination::from);
    let stream = Stream::beside(json.as_ref());
    for report in &reports {
        let Report { directory, holder, bytes, faults, .. } = report;
        if let (Some(holder), []) = (holder, faults.as_slice()) {
            stream.print(&format!("{directory}: {bytes} bytes of {holder}, all as they were shared"))?;
        }
        for fault in faults {
            stream.print(&fault.error)?;
        }
    }
    if let Some(json) = json {
        json.write_json(&reports)?;
    }
    match reports.iter().filter(|report| !report.faults.is_empty()).count() {
        0 => Ok(Outcome::Done),
        odd => Err(format!("{odd} of {} directories are not as they were shared", reports.len()).into()),
    }
}

fn report(dir: &Path) -> Report {
    let bar = progress::bytes("verifying");
    let Verified { manifest, bytes, faults } = verify(dir, &mut progress::on(&bar));
    bar.finish_and_clear();
    Report {
        directory: dir.display().to_string(),
        holder: manifest.as_ref().map(|manifest| holder_name(manifest.party)),
        party: manifest.as_ref().and_then(|manifest| manifest.party),
        manifest: manifest.map(|manifest| manifest.digest().to_string()),
        bytes,
        faults: faults.iter().map(Fault::of).collect(),
    }
}

/// Notes of every directory why it does not go with one before it.
fn compare(reports: &mut [Report]) {
    for at in 1..reports.len() {
        let (before, [report, ..]) = reports.split_at_mut(at) else { return };
        let Some(manifest) = &report.manifest else { continue };
        let odd = |other: &&Report| {
            let strange = other.manifest.as_ref().is_some_and(|other| other != manifest);
            strange || report.party.is_some() && other.party == report.party
        };
        if let Some(other) = before.iter().find(odd) {
            let why = if other.manifest.as_ref() == Some(manifest) {
                "the same server as"
            } else {
                "another sharing than"
            };
            let error = format!("{} is of {why} {}", report.directory, other.directory);
            report.faults.push(Fault { file: report.directory.clone(), damage: None, error });
        }
    }
}

impl Fault {
    fn of(fault: &StoreError) -> Self {
        let damage = match fault {
            StoreError::Damaged { first, last, blocks, bytes, .. } => Some(Damage {
                first_block: *first,
                last_block: *last,
                blocks: *blocks,
                first_byte: bytes.start,
                end_byte: bytes.end,
            }),
            _ => None,
        };
        Self { file: fault.path().display().to_string(), damage, error: fault.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(directory: &str, manifest: Option<&str>, party: Option<u8>) -> Report {
        let manifest = manifest.map(str::to_owned);
        let party = party.and_then(Party::new);
        Report { directory: directory.into(), holder: None, manifest, party, bytes: 0, faults: Vec::new() }
    }

    #[test]
    fn a_directory_that_does_not_go_with_the_first_it_contradicts_is_told_which_and_why() {
        for (directories, said) in [
            (vec![of("a", Some("x"), Some(1)), of("b", Some("x"), Some(2)), of("c", Some("x"), None)], None),
            (vec![of("a", Some("x"), None), of("b", Some("x"), None)], None),
            (vec![of("a", Some("x"), None), of("b", None, None), of("c", Some("x"), Some(1))], None),
            (
                vec![of("a", Some("x"), Some(2)), of("b", Some("x"), Some(1)), of("c", Some("x"), Some(1))],
                Some("c is of the same server as b"),
            ),
            (
                vec![of("a", Some("x"), Some(1)), of("b", Some("y"), Some(1))],
                Some("b is of another sharing than a"),
            ),
            (
                vec![of("a", Some("x"), Some(1)), of("b", Some("y"), Some(2))],
                Some("b is of another sharing than a"),
            ),
            (
                vec![of("a", Some("x"), None), of("b", Some("y"), None)],
                Some("b is of another sharing than a"),
            ),
            (
                vec![of("a", Some("x"), Some(1)), of("b", None, None), of("c", Some("y"), None)],
                Some("c is of another sharing than a"),
            ),
        ] {
            let mut reports = directories;
            compare(&mut reports);
            let last = reports.last().unwrap().directory.clone();
            let faults: Vec<_> =
                reports.iter().flat_map(|it| &it.faults).map(|fault| (&*fault.file, &*fault.error)).collect();
            assert_eq!(faults, said.map(|said| (&*last, said)).into_iter().collect::<Vec<_>>());
        }
    }
}
