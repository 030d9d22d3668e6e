//! What Trident does not promise is said where it is offered: in the help, in the README and in the book.

#![allow(clippy::unwrap_used)]

use std::process::Command;

/// The sentences that nobody who asks may miss.
const UNCHECKED: &str = "an unchecked search is private only against servers that follow the protocol";
const READABLE: &str = "whoever may search can read every row";

const README: &str = include_str!("../../../README.md");
const BOOK: &str = include_str!("../../../docs/trident-security.md");

/// Without emphasis, folds and capitals.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace("**", "").to_lowercase()
}

fn help(command: &str) -> String {
    let arguments = ["trident", command, "--help"];
    let output = Command::new(env!("CARGO_BIN_EXE_roadstead")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    plain(&String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_help_of_a_search_says_against_whom_an_unchecked_one_is_private_and_what_it_gives() {
    let help = help("search");
    let (before, unchecked) = help.split_once("--unchecked").unwrap();
    assert!(before.contains(READABLE), "{before}");
    assert!(unchecked.contains(UNCHECKED), "{unchecked}");
}

#[test]
fn the_readme_and_the_book_say_so_too_with_the_bounds() {
    for text in [README, BOOK].map(plain) {
        assert!(text.contains(UNCHECKED) && text.contains(READABLE));
    }
    for bound in
        ["one record", "31 x 3d bits", "31 x 3n bits", "12 searches read a whole collection", "no freshness"]
    {
        assert!(plain(BOOK).contains(bound), "{bound}");
    }
}

#[test]
fn the_help_of_a_server_says_what_it_sees_and_that_of_a_fetch_what_it_gives() {
    let server = help("serve");
    for seen in [
        "who asks (certificate, address)",
        "which operation by which protocol",
        "whether a search is checked",
    ] {
        assert!(server.contains(seen), "{seen}: {server}");
    }
    let fetch = help("fetch");
    assert!(
        fetch.contains("at most one record") && fetch.contains("which of two sharings is the newer"),
        "{fetch}"
    );
    assert!(plain(README).contains("nothing proves that rows are fresh"));
}
