//! The command line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use roadstead::Model;

use crate::asked::{Asked, HELP};

fn read(line: &str) -> Result<Asked, String> {
    Asked::read(line.split_whitespace().map(str::to_owned))
}

#[test]
fn help_is_given_wherever_it_is_asked_for_and_names_every_option() {
    for line in ["--help", "-h", "--bind 127.0.0.1:1 --help", "--model poll -h --no-such-option"] {
        assert_eq!(read(line).unwrap(), Asked::Help, "{line}");
    }
    for option in ["--bind", "--model"] {
        assert!(HELP.contains(option));
        assert!(read("--port 1").unwrap_err().contains(option));
    }
    assert!(HELP.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn the_defaults_are_those_that_the_help_names() {
    let Asked::Serve { bind, model } = read("").unwrap() else { panic!("nobody asked for help") };
    assert!(HELP.contains(&format!("[default: {bind}]")));
    assert_eq!(model, Model::best());
    let given = Asked::Serve { bind: "[::1]:7".into(), model: Model::Poll };
    assert_eq!(read("--model poll --bind [::1]:7").unwrap(), given);
}

#[test]
fn what_cannot_be_read_is_refused_with_its_words() {
    assert!(read("--bind").unwrap_err().contains("`--bind` needs a value"));
    assert!(read("--model fast").unwrap_err().contains("fast"));
    assert!(read("redis").unwrap_err().contains("`redis`"));
}
