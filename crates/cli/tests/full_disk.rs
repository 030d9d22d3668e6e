//! A disk that takes nothing, or too little: what a command makes is there whole, or not at all.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, path::Path, process::Command};

use common::{Scene, words};

/// The command, whose files take no byte beyond so many blocks of 512: for it the disk is full there.
fn with_room_for(blocks: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// The names of all that is below a directory.
fn below(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.display().to_string());
        if path.is_dir() {
            names.extend(below(&path));
        }
    }
    names.sort();
    names
}

#[test]
fn what_does_not_fit_leaves_nothing_and_can_be_made_later() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let load = format!("load {} --messages 1", server.listening());
    let place = |name: &str| scene.path("place").join(name).display().to_string();
    fs::create_dir(scene.path("place")).unwrap();
    for line in [
        format!("keys --out {}", place("deep/er/keys")),
        format!("trident share --made 10 --out {}", place("deep/shares")),
        format!("models --json {}", place("models.json")),
        format!("{load} --json {}", place("load.json")),
        format!("{load} --svg {}", place("load.svg")),
    ] {
        for blocks in [0, 1] {
            if blocks == 1 && line.contains("load.json") {
                continue;
            }
            let ended = with_room_for(blocks, &scene.command(words(&line))).output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(1), "{line}: {said}");
            assert!(said.contains("File too large") && said.lines().count() == 1, "{line}: {said}");
            assert_eq!(below(&scene.path("place")), <[String; 0]>::default(), "{line}");
        }
        scene.ok(words(&line));
        fs::remove_dir_all(scene.path("place")).unwrap();
        fs::create_dir(scene.path("place")).unwrap();
    }
}

#[test]
fn keys_that_were_there_survive_a_full_disk_and_the_rest_is_made_later() {
    let scene = Scene::new();
    let keys = scene.path("keys");
    let make = |servers: u32| words(&format!("keys --servers {servers} --out {}", keys.display()));
    scene.ok(make(1));
    let before = below(&keys);
    let key = fs::read(keys.join("server-1/key.pem")).unwrap();
    for blocks in [0, 1] {
        let ended = with_room_for(blocks, &scene.command(make(2))).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(below(&keys), before);
    }
    // A key that has to be made anew is not there, or whole.
    fs::remove_file(keys.join("client/key.pem")).unwrap();
    assert_eq!(with_room_for(0, &scene.command(make(1))).output().unwrap().status.code(), Some(1));
    assert!(!keys.join("client/key.pem").exists());
    let said = scene.ok(make(2));
    assert!(said.contains("new: key.pem, cert.pem"), "{said}");
    assert_eq!(fs::read(keys.join("server-1/key.pem")).unwrap(), key);
    assert_eq!(below(&keys).len(), before.len() + 4);
}
