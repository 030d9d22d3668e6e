//! Files that are none: what is there is said, and nobody waits for it.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
};

use common::{Process, Scene, words};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// What can stand in place of a file: a pipe that nobody writes, a directory, and a device that never ends.
const INSTEAD: [fn(&Path); 3] = [
    |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
    |path| fs::create_dir(path).unwrap(),
    |path| symlink("/dev/zero", path).unwrap(),
];

/// Runs a command that must fail; answers its only line.
#[track_caller]
fn refusal(scene: &Scene, line: &str) -> String {
    let mut command = scene.command(words(line));
    command.stderr(File::create(scene.path("said")).unwrap());
    let mut process = Process::start(command);
    let code = process.end().code();
    let said = fs::read_to_string(scene.path("said")).unwrap();
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{line}: {said}");
    said
}

/// Has something else stand in for `file` while `lines` are run, each of which must say what is wrong with which file.
fn refused(scene: &Scene, file: &str, lines: &[String]) {
    let path = scene.path(file);
    let aside = scene.path("aside");
    if path.exists() {
        fs::rename(&path, &aside).unwrap();
    }
    for instead in INSTEAD {
        instead(&path);
        for line in lines {
            let said = refusal(scene, line);
            assert!(said.contains(file) && said.contains("not a regular file"), "{line}: {said}");
        }
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
    if aside.exists() {
        fs::rename(&aside, &path).unwrap();
    }
}

#[test]
fn keys_that_are_no_files_are_refused_and_not_waited_for() {
    let scene = Scene::new();
    let place = scene.path("k").display().to_string();
    let make = format!("keys --out {place}");
    scene.ok(words(&make));
    for file in ["k/authority/cert.pem", "k/authority/key.pem", "k/server-1/ca.pem"] {
        refused(&scene, file, std::slice::from_ref(&make));
    }
    let serve = format!("serve echo --bind 127.0.0.1:0 --keys {place}/server-1");
    let share = format!("trident share --made 10 --keys {place} --out {place}/shares");
    let load = format!("load 127.0.0.1:9 --keys {place}/server-1");
    for file in ["k/server-1/key.pem", "k/server-1/ca.pem"] {
        refused(&scene, file, &[serve.clone(), load.clone()]);
    }
    refused(&scene, "k/server-1/cert.pem", &[make, serve, load, share]);
}

#[test]
fn vectors_that_are_no_file_are_refused_and_not_waited_for() {
    let scene = Scene::new();
    let place = scene.path("").display().to_string();
    for (file, more) in [("rows.fvecs", ""), ("rows.npy", ""), ("rows", "--dim 4")] {
        refused(&scene, file, &[format!("trident share {place}{file} {more} --out {place}out")]);
    }
    let (bench, demo) = (format!("trident bench --data {place}"), format!("demo --data {place}"));
    refused(&scene, "set_base.fvecs", &[bench, demo]);
}
