//! The page of the book that says where each thing of the notes is (`docs/notes.md`) names nothing that is not there.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeSet,
    fs, iter,
    path::{Path, PathBuf},
};

use common::Scene;

const PAGE: &str = include_str!("../../../docs/notes.md");
/// How many things each of the notes says.
const ROWS: [usize; 5] = [21, 61, 29, 45, 68];
/// What the page may say will bring what is not there.
const COMING: [&str; 4] = ["*Files*", "*Chat, and time*", "*Windows*", "*Peers*"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A row of the page.
struct Row<'a> {
    number: &'a str,
    place: &'a str,
    tests: &'a str,
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = cells.map(|cells| cells.split(" | ").map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| cells[0].starts_with(|first: char| first.is_ascii_digit()))
        .map(|cells| Row {
            number: cells[0],
            place: cells[2],
            tests: cells.get(3).copied().unwrap_or_default(),
        })
        .collect()
}

/// What stands between backquotes.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A file or directory of the repository, or under `crates/`, with or without `src/` in its path.
fn file(root: &Path, name: &str) -> Option<PathBuf> {
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    let krate = root.join("crates").join(first);
    [root.join(name), krate.join("src").join(rest), krate.join(rest)].into_iter().find(|path| path.exists())
}

fn is_word(text: &str) -> bool {
    text.chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
}

/// All files of the tree in Rust.
fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            into.push(entry);
        }
    }
}

/// The names of all tests, and of the scenarios of the conformance suite.
fn tests(root: &Path) -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files);
    let mut names = BTreeSet::new();
    for path in files {
        let (mut is_test, text) = (false, fs::read_to_string(&path).unwrap());
        // Of tests that bring their own harness, since what they try minds other threads.
        let listed = text.split("trials![").nth(1).and_then(|behind| behind.split(']').next());
        let listed = listed.into_iter().flat_map(|list| list.split(',')).map(str::trim);
        names.extend(listed.filter(|name| !name.is_empty() && is_word(name)).map(str::to_owned));
        for line in text.lines().map(str::trim) {
            is_test |= line == "#[test]";
            if let Some((name, _)) = line.strip_prefix("fn ").and_then(|line| line.split_once('('))
                && std::mem::take(&mut is_test)
            {
                names.insert(name.to_owned());
            }
            if path.to_str().unwrap().contains("/conformance/tests/conformance/")
                && let Some((name, _)) = line.split_once(" (").filter(|(_, rest)| rest.contains("): \""))
            {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// What is wrong with a page.
struct Reader {
    scene: Scene,
    root: PathBuf,
    tests: BTreeSet<String>,
}

impl Reader {
    fn new() -> Self {
        let root = root();
        Self { scene: Scene::new(), tests: tests(&root), root }
    }

    fn complaints(&self, page: &str) -> Vec<String> {
        let rows = rows(page);
        let all = ROWS.iter().enumerate().flat_map(|(note, &count)| (1..=count).map(move |row| (note, row)));
        let all: Vec<String> = all.map(|(note, row)| format!("{note}.{row}")).collect();
        let numbers: Vec<&str> = rows.iter().map(|row| row.number).collect();
        let missing = (numbers != all).then(|| "the rows are not those of the notes".to_owned());
        let wrong = rows.iter().flat_map(|row| {
            let what = self.wrong_place(row.place).chain(self.wrong_tests(row)).collect::<Vec<_>>();
            what.into_iter().map(|what| format!("{}: {what}", row.number))
        });
        missing.into_iter().chain(wrong).collect()
    }

    fn wrong_place<'a>(&'a self, place: &'a str) -> impl Iterator<Item = String> + 'a {
        let coming = place.split("not yet: ").skip(1);
        let unknown = coming.filter(|title| !COMING.iter().any(|known| title.starts_with(known)));
        let unknown = unknown.map(|title| format!("nothing is called {title}"));
        let nothing = named(place).next().is_none() && !place.contains("not yet: ");
        let nothing = nothing.then(|| "it is nowhere, and nothing is to bring it".to_owned());
        let names = named(place).filter(|name| !self.is_there(name, place));
        nothing.into_iter().chain(unknown).chain(names.map(|name| format!("there is no {name}")))
    }

    /// A command, a file, or a word that stands in a file that is named beside it.
    fn is_there(&self, name: &str, place: &str) -> bool {
        if let Some(command) = name.strip_prefix("roadstead ") {
            let words = command.split_whitespace().chain(iter::once("--help"));
            return self.scene.run(words).status.success();
        }
        if !is_word(name) {
            return file(&self.root, name).is_some();
        }
        let files = named(place).filter(|name| !is_word(name)).filter_map(|name| file(&self.root, name));
        files.filter_map(|path| fs::read_to_string(path).ok()).any(|text| text.contains(name))
    }

    fn wrong_tests<'a>(&'a self, row: &'a Row<'_>) -> impl Iterator<Item = String> + 'a {
        let untested = !row.place.starts_with("not yet: ") && row.tests.is_empty();
        let untested = untested.then(|| "nothing shows it".to_owned());
        let names = named(row.tests).filter(|name| !self.tests.contains(*name));
        untested.into_iter().chain(names.map(|name| format!("no test is called {name}")))
    }
}

#[test]
fn each_thing_of_the_notes_has_a_place_that_is_there_and_a_test_or_what_will_bring_it() {
    let complaints = Reader::new().complaints(PAGE);
    assert!(complaints.is_empty(), "docs/notes.md\n{}", complaints.join("\n"));
}

#[test]
fn a_name_of_what_is_not_there_is_found() {
    let reader = Reader::new();
    let last = "| 4.68 | ";
    let (before, _) = PAGE.split_once(last).unwrap();
    for (row, complaint) in [
        ("it | `proto/frames.rs` | `what_is_encoded_is_parsed` |", "there is no proto/frames.rs"),
        ("it | `proto/frame.rs`: `Framed` | `what_is_encoded_is_parsed` |", "there is no Framed"),
        ("it | `roadstead serv echo` | `what_is_encoded_is_parsed` |", "there is no roadstead serv echo"),
        (
            "it | `roadstead serve echo --sails 3` | `what_is_encoded_is_parsed` |",
            "there is no roadstead serve echo --sails 3",
        ),
        ("it | `proto/frame.rs` | `what_is_encoded_is_sung` |", "no test is called what_is_encoded_is_sung"),
        ("it | `proto/frame.rs` | |", "nothing shows it"),
        ("it | here and there | `what_is_encoded_is_parsed` |", "it is nowhere, and nothing is to bring it"),
        ("it | not yet: *Sails* | |", "nothing is called *Sails*"),
    ] {
        let page = format!("{before}{last}{row}\n");
        assert_eq!(reader.complaints(&page), [format!("4.68: {complaint}")]);
    }
    assert_eq!(reader.complaints(before), ["the rows are not those of the notes"]);
}
