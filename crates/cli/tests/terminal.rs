//! What a person sees: commands on a terminal of 80 columns.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    thread,
};

use common::{Process, Scene, words};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// Runs a command with nothing but a terminal; answers what it shows when it has ended well.
fn on_a_terminal(mut command: Command) -> String {
    let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&own).unwrap();
    unlockpt(&own).unwrap();
    tcsetwinsize(&own, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let path = ptsname(&own, Vec::new()).unwrap().into_string().unwrap();
    let terminal = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut child = command.stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().unwrap();
    // It holds the terminal open too.
    drop(command);
    let reader = thread::spawn(move || {
        let mut shown = Vec::new();
        // When nobody holds it any more, reading fails: pty(7).
        let _ = File::from(own).read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    });
    let ended = child.wait().unwrap();
    let shown = reader.join().unwrap();
    assert!(ended.success(), "{shown}");
    shown
}

#[test]
fn tables_fit_a_terminal_and_nothing_is_said_that_was_not_asked() {
    let scene = Scene::new();
    let mut server: Process = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let load = format!("load {} --messages 100", server.listening());
    let measured = "trident bench --rows 100 --queries 10 --levels 1,2";
    for (line, last) in [
        ("models", "what it does"),
        (&load, "p99.9 ms"),
        ("bench queue --seconds 0.01", "short p99 to fcfs"),
        (
            "bench exchange --plain --levels 1 --payload 500 --peer-delay 0ms --strategies shared --seconds 0.01",
            "CPU ms",
        ),
        (measured, "recall"),
        ("demo", "the three servers have stopped"),
    ] {
        let shown = on_a_terminal(scene.command(words(line)));
        assert!(shown.contains(last), "{line}: {shown}");
        assert!(!shown.contains("tracing"), "{line}: {shown}");
        let tables = shown.lines().filter(|line| line.starts_with(['│', '┌', '└', '╞']));
        assert!(tables.clone().count() > 3, "{line}: {shown}");
        // Behind what a bar of progress was wiped from.
        let told = shown.lines().filter_map(|row| row.rsplit("\u{1b}[2K").next());
        let told = told.filter(|row| row.contains("shares that tell") || row.contains("no server knows"));
        for row in tables.chain(told) {
            assert!(row.trim_end().chars().count() <= 80, "{line}: {shown}");
        }
    }
}

/// Every command that a help text lists, and those that it has itself.
fn commands(scene: &Scene, above: &str) -> Vec<String> {
    let help = scene.ok(words(&format!("{above} -h")));
    let listed = help.split_once("Commands:\n").map_or("", |(_, below)| below);
    let listed = listed.lines().take_while(|line| !line.is_empty());
    // A name has two spaces before it; what it does goes on further to the right.
    let names =
        listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let below =
        names.filter(|name| *name != "help").flat_map(|name| commands(scene, &format!("{above} {name}")));
    std::iter::once(above.to_owned()).chain(below).collect()
}

#[test]
fn the_help_of_every_command_fits_a_terminal_and_is_no_wider_elsewhere_than_can_be_read() {
    let scene = Scene::new();
    let commands = commands(&scene, "");
    for known in [" models", " bench queue", " trident search"] {
        assert!(commands.iter().any(|command| command == known), "{known}: {commands:?}");
    }
    for line in commands.iter().flat_map(|command| [format!("{command} --help"), format!("{command} -h")]) {
        let mut wide = scene.command(words(&line));
        let elsewhere = String::from_utf8(wide.env("COLUMNS", "300").output().unwrap().stdout).unwrap();
        for (shown, width) in [(on_a_terminal(scene.command(words(&line))), 80), (elsewhere, 100)] {
            assert!(shown.contains("Usage:"), "{line}: {shown}");
            for row in shown.lines() {
                assert!(plain(row).chars().count() <= width, "{line}: {row}");
            }
        }
    }
}

/// Without what makes letters bold: `ESC [ ... m`.
fn plain(row: &str) -> String {
    let mut parts = row.trim_end().split("\u{1b}[");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, text)| text))
}

#[test]
fn who_is_no_terminal_hears_how_long_a_measurement_takes() {
    let scene = Scene::new();
    for (line, time) in [
        ("bench loss --times 3", Some("17")),
        (
            "bench exchange --plain --payload 500,600 --levels 1,2,3 --peer-delay 0ms,1ms --strategies shared,per-query \
             --seconds 2",
            Some("48"),
        ),
        ("bench kills --seconds 50", Some("100")),
        ("bench idle --idle 10 --seconds 30", Some("30")),
        ("trident bench --rows 100 --op fetch --levels 1 --queries 1000000", None),
    ] {
        let mut command = scene.command(words(line));
        let mut measurement = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(measurement.stderr.take().unwrap()).read_line(&mut said).unwrap();
        // It is not waited for.
        measurement.kill().unwrap();
        measurement.wait().unwrap();
        let told = said.strip_prefix("measuring for about ").and_then(|said| said.strip_suffix(" s\n"));
        assert!(told.is_some() && (time.is_none() || told == time), "{line}: {said}");
    }
}

#[test]
fn help_that_finds_no_room_is_no_success() {
    let scene = Scene::new();
    for (line, code) in [("--help", 1), ("--version", 1), ("help trident", 1), ("models", 1), ("sail", 2)] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = scene.command(words(line)).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_eq!(ended.code(), Some(code), "{line}");
    }
}

#[test]
fn who_stops_reading_the_results_is_told_nothing() {
    let scene = Scene::new();
    scene.share(50, false);
    let (keys, shares) =
        (scene.path("keys").display().to_string(), scene.path("shares").display().to_string());
    let mut server = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let load = format!("load {} --messages 1", server.listening());
    for line in [
        "--help",
        "trident --help",
        "--version",
        "models",
        "models --json -",
        &load,
        &format!("{load} --json -"),
        "bench queue --seconds 0.01",
        &format!("keys --out {keys}"),
        &format!("trident share --made 50 --replace --out {shares}"),
        &format!("trident verify {shares}/server-1"),
    ] {
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let ended = scene.command(words(line)).stdout(closed).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{line}: {said}");
        assert!(!said.contains("standard output") && !said.contains("pipe"), "{line}: {said}");
    }
    assert!(scene.path("keys/client/key.pem").exists(), "what was to be made is there");
}

#[test]
fn a_level_of_the_log_that_does_not_exist_is_refused() {
    let scene = Scene::new();
    for wrong in ["verbose", "debug,lots", "roadstead=loud", "=debug", "roadstead="] {
        let ended = scene.command(["models"]).env("ROADSTEAD_LOG", wrong).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(2), 0), "{wrong}: {said}");
        assert!(said.contains("ROADSTEAD_LOG") && said.contains("trace"), "{wrong}: {said}");
    }
    for right in ["", "off", "DEBUG", "warn,roadstead=trace"] {
        let ended = scene.command(["models"]).env("ROADSTEAD_LOG", right).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{right}");
    }
}
