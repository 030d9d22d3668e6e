//! What became of the faults: kept as it is found out, and shown as a table.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{fault::Fault, hunt::Verdict};

/// A fault and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub fault: String,
    /// What was planted: another text with the same name is another fault.
    was: String,
    becomes: String,
    /// The commit on which it was played.
    #[serde(default)]
    commit: String,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All records, in a file of one line for each. The last line of a fault counts.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    /// Where the tree stands now.
    commit: String,
    of: HashMap<String, Record>,
}

impl Records {
    /// What the file has; a line that was cut off while it was written is nothing.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn open(path: &Path, commit: &str) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let records = text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok());
        let of = records.map(|record| (record.fault.clone(), record)).collect();
        Ok(Self { path: path.to_owned(), commit: commit.to_owned(), of })
    }

    /// What became of this fault, as it is written today.
    pub fn of(&self, fault: &Fault) -> Option<&Record> {
        self.of.get(&fault.name).filter(|it| (&it.was, &it.becomes) == (&fault.was, &fault.becomes))
    }

    /// Keeps a verdict.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep(&mut self, fault: &Fault, verdict: Verdict) -> io::Result<&Record> {
        let (was, becomes) = (fault.was.clone(), fault.becomes.clone());
        let (name, commit) = (fault.name.clone(), self.commit.clone());
        let record = Record { fault: name, was, becomes, commit, verdict };
        let line = serde_json::to_string(&record)? + "\n";
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes())?;
        Ok(self.of.entry(fault.name.clone()).insert_entry(record).into_mut())
    }

    /// One line: how many were found of those that were played, and how soon.
    pub fn summary(&self, faults: &[Fault]) -> String {
        let played: Vec<_> = faults.iter().filter_map(|fault| self.of(fault)).collect();
        let found = played.iter().filter(|record| record.verdict.found.is_some());
        let mut seconds: Vec<_> = found.map(|record| record.verdict.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
        let (found, played, all) = (seconds.len(), played.len(), faults.len());
        let rest = if played == all { String::new() } else { format!("; {} not played yet", all - played) };
        format!("found {found} of {played} planted faults, half of these within {median:.1} s of tests{rest}")
    }

    /// The page that tells of all faults, by area, in Markdown.
    pub fn page(&self, faults: &[Fault]) -> String {
        let commits: BTreeSet<_> = faults.iter().filter_map(|fault| Some(&*self.of(fault)?.commit)).collect();
        let commits: Vec<_> = commits.iter().map(|commit| format!("`{commit}`")).collect();
        let (summary, commits) = (capital(&self.summary(faults)), commits.join(", "));
        let mut page = format!("{HEAD}\n{summary}. Played on {commits}.\n");
        let mut area = "";
        for fault in faults {
            if fault.area != area {
                area = &fault.area;
                let _ = writeln!(page, "\n## {}\n\n{COLUMNS}", capital(area));
            }
            let (found, seconds) = match self.of(fault).map(|record| &record.verdict) {
                None => ("not played".into(), String::new()),
                Some(Verdict { found: Some(it), seconds, .. }) => {
                    (format!("{} `{}`", it.program, it.by), format!("{seconds:.1}"))
                }
                Some(Verdict { tried, seconds, .. }) => {
                    (format!("**not found** by {}", tried.join(", ")), format!("{seconds:.1}"))
                }
            };
            let file = fault.file.strip_prefix("crates/").unwrap_or(&fault.file).replace("/src/", "/");
            let (name, user, place) = (&fault.name, &fault.user, &fault.file);
            let _ = writeln!(page, "| {name} | [{file}](../{place}) | {user} | {found} | {seconds} |");
        }
        page
    }
}

const HEAD: &str = "# Planted faults

Each of these mistakes was made in a copy of the tree, one at a time, and played to the tests of `.ci/run`, the quickest
first. A test that failed counts if it fails again by itself with the fault and passes three times without it. Seconds are
those of tests until then; builds, and what it took to be certain, are not in them. The faults stand in `crates/mutants/faults/`,
and this page is made by

```sh
cargo run -p roadstead-mutants -- run --out docs/mutants.md
```
";
const COLUMNS: &str = "| fault | in | what a user would see | found by | s |\n|---|---|---|---|---|";

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hunt::Found;

    fn fault(name: &str) -> Fault {
        let [name, was] = [name, "a"].map(str::to_owned);
        let file = "crates/cli/src/main.rs".into();
        Fault { name, file, was, becomes: "b".into(), user: "harm".into(), tests: vec![], area: "cli".into() }
    }

    fn verdict(by: Option<&str>, seconds: f64) -> Verdict {
        let found = by.map(|by| Found { program: "cli/bin".into(), by: by.into() });
        Verdict { found, tried: vec!["cli/bin".into(), "cli/serve".into()], seconds, doubted: vec![] }
    }

    #[test]
    fn what_was_found_is_there_again_after_an_end_in_the_middle_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let faults = ["one", "two", "three"].map(fault);
        let mut records = Records::open(&path, "c0ffee").unwrap();
        records.keep(&faults[0], verdict(Some("t"), 1.0)).unwrap();
        records.keep(&faults[1], verdict(None, 9.0)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        let records = Records::open(&path, "c0ffee").unwrap();
        assert!(records.of(&faults[0]).is_some() && records.of(&faults[1]).is_none());
        assert!(records.of(&Fault { becomes: "c".into(), ..fault("one") }).is_none(), "another fault");
    }

    #[test]
    fn the_page_tells_of_every_fault_what_found_it_or_what_it_survived() {
        let dir = tempfile::tempdir().unwrap();
        let faults = ["one", "two", "three"].map(fault);
        let mut records = Records::open(&dir.path().join("records"), "c0ffee").unwrap();
        records.keep(&faults[0], verdict(Some("tests::t"), 1.25)).unwrap();
        records.keep(&faults[1], verdict(None, 9.0)).unwrap();
        let page = records.page(&faults);
        let place = "[cli/main.rs](../crates/cli/src/main.rs) | harm";
        for line in [
            "Found 1 of 2 planted faults, half of these within 1.2 s of tests; 1 not played yet. Played on `c0ffee`.".to_owned(),
            format!("| one | {place} | cli/bin `tests::t` | 1.2 |"),
            format!("| two | {place} | **not found** by cli/bin, cli/serve | 9.0 |"),
            format!("| three | {place} | not played |  |"),
        ] {
            assert!(page.contains(&line), "{page}");
        }
    }
}
