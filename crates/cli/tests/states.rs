//! The states of a connection: as `roadstead states` shows them, and how many wait for a server with a backlog.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
};

use common::{Scene, until, words};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};
use serde_json::Value;

/// How many ends of connections were seen in each state, moment by moment.
fn seen(scene: &Value) -> Vec<BTreeMap<String, u64>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |ends: &Value| {
        assert_eq!(ends["count"], ends["expected"], "{scene}");
        (format!("{} {}", text(&ends["end"]), text(&ends["state"])), ends["count"].as_u64().unwrap())
    };
    let moments = scene["moments"].as_array().unwrap().iter();
    moments.map(|moment| moment["ends"].as_array().unwrap().iter().map(of).collect()).collect()
}

#[track_caller]
fn has(moment: &BTreeMap<String, u64>, ends: &[(&str, u64)]) {
    let ends: BTreeMap<_, _> = ends.iter().map(|&(end, count)| (end.to_owned(), count)).collect();
    assert_eq!(moment, &ends);
}

#[test]
fn every_state_is_brought_about_and_seen() {
    let scene = Scene::new();
    let shown: Value = serde_json::from_str(&scene.ok(words("states --json -"))).unwrap();
    let scenes: Vec<_> = shown.as_array().unwrap().iter().map(seen).collect();
    let [backlog, client_first, server_first, killed, busy] = &scenes[..] else { panic!("{scenes:?}") };
    let listens = ("server LISTEN", 1);
    let two = [listens, ("server ESTABLISHED", 2), ("client ESTABLISHED", 2)];
    has(&backlog[0], &[listens]);
    has(&backlog[1], &two);
    has(&backlog[2], &[&two[..], &[("client SYN_SENT", 3)]].concat());
    has(&client_first[1], &[listens, ("server CLOSE_WAIT", 1), ("client FIN_WAIT2", 1)]);
    has(&client_first[2], &[listens, ("server LAST_ACK", 1), ("client FIN_WAIT2", 1)]);
    has(&client_first[3], &[listens, ("client TIME_WAIT", 1)]);
    has(&server_first[0], &[listens, ("server FIN_WAIT1", 1), ("client ESTABLISHED", 1)]);
    has(&server_first[1], &[listens, ("server FIN_WAIT2", 1), ("client CLOSE_WAIT", 1)]);
    has(&server_first[2], &[listens, ("server TIME_WAIT", 1)]);
    has(&killed[0], &[listens, ("server ESTABLISHED", 20), ("client ESTABLISHED", 20)]);
    has(&killed[1], &[("server FIN_WAIT2", 20), ("client CLOSE_WAIT", 20)]);
    has(&killed[2], &[("server TIME_WAIT", 20)]);
    has(&killed[3], &[listens, ("server TIME_WAIT", 20)]);
    let two = [listens, ("server ESTABLISHED", 2), ("client ESTABLISHED", 2)];
    has(&busy[0], &[&two[..], &[("server CLOSE_WAIT", 1), ("client FIN_WAIT2", 1)]].concat());
    has(&busy[1], &[listens, ("server ESTABLISHED", 1), ("client ESTABLISHED", 1), ("client TIME_WAIT", 2)]);
    scene.nothing_lives();
}

#[test]
fn what_is_seen_is_told_with_how_many_wait_and_what_it_means() {
    let scene = Scene::new();
    let shown = scene.ok(words("states"));
    for line in [
        "A backlog of one, and five who connect",
        "    server  LISTEN        1  2 wait to be accepted; it is full",
        "    client  SYN_SENT      3  not answered: ",
        "    server  TIME_WAIT    20  at the port of a server that is gone",
        "    server  CLOSE_WAIT    1  the second: who would close it has not accepted it",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!shown.contains("expected") && shown.lines().all(|line| line.len() <= 100), "{shown}");
    let states = shown.lines().filter(|line| line.starts_with("    "));
    let states: BTreeSet<_> = states.map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    let all = "CLOSE_WAIT ESTABLISHED FIN_WAIT1 FIN_WAIT2 LAST_ACK LISTEN SYN_SENT TIME_WAIT";
    assert_eq!(states.into_iter().collect::<Vec<_>>(), words(all));
}

/// How many wait to be accepted at `server`, and how many connections to it are in this state, as their clients see it:
/// proc_pid_net(5).
fn counted(server: SocketAddr, state: &str) -> (usize, usize) {
    let port = format!(":{:04X}", server.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
    let listening = rows.iter().find(|row| row[1].ends_with(&port) && row[3] == "0A").unwrap();
    let waiting = listening[4].split_once(':').unwrap().1;
    let clients = rows.iter().filter(|row| row[2].ends_with(&port) && row[3] == state).count();
    (usize::from_str_radix(waiting, 16).unwrap(), clients)
}

const ESTABLISHED: &str = "01";
const SYN_SENT: &str = "02";

/// Where one client is served at a time, all others wait.
#[test]
fn as_many_wait_to_be_accepted_as_the_backlog_says_and_one_more_and_who_comes_then_is_not_answered() {
    let scene = Scene::new();
    for backlog in [1, 3] {
        let line = format!("serve echo --bind 127.0.0.1:0 --model iterative --backlog {backlog}");
        let mut server = scene.serve(words(&line));
        let address = server.listening();
        let mut served = TcpStream::connect(address).unwrap();
        served.write_all(b"!").unwrap();
        served.read_exact(&mut [0]).unwrap();
        let mut waiting = Vec::new();
        for number in 1..=backlog + 1 {
            waiting.push(TcpStream::connect(address).unwrap());
            until("it waits to be accepted", || counted(address, ESTABLISHED) == (number, number + 1));
        }
        let begin = |_| -> OwnedFd {
            let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
            let socket = socket_with(family, kind, SocketFlags::NONBLOCK, None).unwrap();
            assert_eq!(connect(&socket, &address), Err(Errno::INPROGRESS));
            socket
        };
        let turned_away: Vec<OwnedFd> = (0..4).map(begin).collect();
        until("the others are not answered", || counted(address, SYN_SENT) == (backlog + 1, 4));
        assert_eq!(counted(address, ESTABLISHED), (backlog + 1, backlog + 2));
        drop(turned_away);
    }
}
