//! `roadstead trident share`, `serve`, `fetch` and `search` as processes.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use roadstead::Dialer;
use roadstead_trident::{
    client::{Client, ClientError, Options},
    data::{Generated, Rows},
    query::Collection,
};

use common::{Held, Process, Scene, freeze, until, words};

const ROWS: usize = 300;

fn arguments(line: &str, more: &[(&str, &Path)]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = words(line).into_iter().map(OsString::from).collect();
    for (option, path) in more {
        if !option.is_empty() {
            arguments.push(option.into());
        }
        arguments.push(path.into());
    }
    arguments
}

/// A sharing of a made set in `shares`.
fn shared(scene: &Scene) {
    let said = scene.share(ROWS, false);
    assert!(said.contains("300 rows of 128") && said.contains("stay on one machine"), "{said}");
}

fn serve(scene: &Scene, party: usize, address: &str) -> (Process, SocketAddr) {
    let mut server = scene.serve(scene.server(party, &format!("--bind {address}")));
    let address = server.listening();
    (server, address)
}

fn cluster(scene: &Scene) -> ([Process; 3], [SocketAddr; 3]) {
    let [(first, a), (second, b), (third, c)] = [1, 2, 3].map(|party| serve(scene, party, "127.0.0.2:0"));
    ([first, second, third], [a, b, c])
}

fn asks(scene: &Scene, line: &str, servers: [SocketAddr; 3]) -> Vec<OsString> {
    let servers = servers.map(|server| server.to_string()).join(",");
    arguments(&format!("trident {line} --servers {servers}"), &[("--client", &scene.path("shares/client"))])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn shares_are_their_owners_alone_and_never_overwritten() {
    let scene = Scene::new();
    // A directory that others may enter is closed to them.
    fs::create_dir_all(scene.path("shares/server-1")).unwrap();
    fs::set_permissions(scene.path("shares/server-1"), fs::Permissions::from_mode(0o755)).unwrap();
    shared(&scene);
    let directories = ["server-1", "server-2", "server-3", "client"];
    for directory in directories {
        let path = scene.path("shares").join(directory);
        assert_eq!(mode(&path), 0o700, "{directory}");
        for file in fs::read_dir(path).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600, "{directory}");
        }
    }
    let manifests =
        || directories.map(|name| fs::read(scene.path("shares").join(name).join("manifest.json")).unwrap());
    let before = manifests();
    let again = arguments("trident share --made 10", &[("--out", &scene.path("shares"))]);
    let error = scene.fails(again.clone());
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(manifests(), before, "nothing was touched");
    scene.ok([&again[..], &["--replace".into()]].concat());
    assert_ne!(manifests(), before);
}

#[test]
fn every_format_is_shared_served_fetched_and_searched() {
    let scene = Scene::new();
    let rows: Vec<[u8; 4]> = (0..20u8).map(|row| [row, 2 * row, 255 - row, 7]).collect();
    let floats =
        |row: &[u8; 4]| row.iter().flat_map(|&byte| f32::from(byte).to_le_bytes()).collect::<Vec<u8>>();
    let fvecs: Vec<u8> =
        rows.iter().flat_map(|row| [&4i32.to_le_bytes()[..], &floats(row)].concat()).collect();
    fs::write(scene.path("set.fvecs"), fvecs).unwrap();
    let mut header = "{'descr': '|u1', 'fortran_order': False, 'shape': (20, 4), }".to_owned();
    header.extend(std::iter::repeat_n(' ', 127 - 10 - header.len()).chain(['\n']));
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes().chain(rows.iter().flatten().copied()));
    fs::write(scene.path("set.npy"), npy).unwrap();
    fs::write(scene.path("set.raw"), rows.as_flattened()).unwrap();
    for (file, option) in [("set.fvecs", ""), ("set.npy", ""), ("set.raw", "--dim 4")] {
        let line = format!("trident share --replace {option}");
        scene.ok(arguments(&line, &[("", &scene.path(file)), ("--out", &scene.path("shares"))]));
        let (mut servers, addresses) = cluster(&scene);
        let fetched: Value =
            serde_json::from_str(&scene.ok(asks(&scene, "fetch 0 19 7 --json -", addresses))).unwrap();
        for (found, index) in fetched.as_array().unwrap().iter().zip([0, 19, 7]) {
            assert_eq!(found["index"], index);
            let values: Vec<f64> =
                found["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_eq!(values, rows[index].map(f64::from), "{file}");
        }
        assert_eq!(scene.ok(asks(&scene, "fetch 3", addresses)), "3: 3 6 252 7\n");
        for more in ["", "--unchecked"] {
            let line = format!("search --like 7 -k 3 --json - {more}");
            let near: Value = serde_json::from_str(&scene.ok(asks(&scene, &line, addresses))).unwrap();
            let near: Vec<_> = near
                .as_array()
                .unwrap()
                .iter()
                .map(|near| (near["index"].as_u64().unwrap(), near["distance"].as_f64().unwrap()))
                .collect();
            assert_eq!(near, [(7, 0.0), (6, 6f64.sqrt()), (8, 6f64.sqrt())], "{file}");
        }
        for (more, row) in [("", 0), ("--nth 11", 11), ("--nth 19", 19)] {
            let line = format!("search -k 1 {more} --query {}", scene.path("set.fvecs").display());
            let shown = scene.ok(asks(&scene, &line, addresses));
            let shown = shown.lines().filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'));
            let shown: Vec<_> = shown.map(|row| row.split('┆').map(str::trim).collect::<Vec<_>>()).collect();
            assert_eq!(shown, [["row", "distance"], [&row.to_string(), "0"]], "{file}");
        }
        for server in &mut servers {
            server.signal(Signal::TERM);
            assert_eq!(server.end().code(), Some(0));
        }
    }
    scene.nothing_lives();
    assert!(scene.left_behind().is_empty());
}

#[test]
fn what_cannot_be_shared_is_refused_in_one_line() {
    let scene = Scene::new();
    fs::write(scene.path("short.fvecs"), [4, 0, 0, 0, 1, 2]).unwrap();
    fs::write(scene.path("set.raw"), [1, 2, 3, 4, 5]).unwrap();
    let refused = |line: &str, file: &str, reason: &str| {
        let files = [("", &*scene.path(file)), ("--out", &*scene.path("shares"))];
        let error = scene.fails(arguments(&format!("trident share {line}"), &files));
        assert!(error.contains(reason), "{error} lacks {reason}");
    };
    refused("", "missing.fvecs", "missing.fvecs");
    refused("", "short.fvecs", "short.fvecs");
    refused("", "set.raw", "dim");
    refused("--dim 4", "set.raw", "whole rows, of 4 bytes");
    for (option, wanted) in [
        ("--dim 0", "from 1 to 16384"),
        ("--dim -4", "from 1 to 16384"),
        ("--made 268435457", "from 1 to 268435456"),
    ] {
        let output = scene.run(words(&format!("trident share {option} --out shares")));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(wanted), "{said}");
    }
}

#[test]
fn servers_refuse_foreign_addresses_and_directories() {
    let scene = Scene::new();
    shared(&scene);
    let refused = |line: &str, shares: &str, reason: &str| {
        let error =
            scene.fails(arguments(&format!("trident serve {line}"), &[("--shares", &scene.path(shares))]));
        assert!(error.contains(reason), "{error} lacks {reason}");
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7101", "[::ffff:0.0.0.0]:0"] {
        let reason = format!("{address} is not a loopback address");
        refused(&format!("--party 1 --bind {address}"), "shares/server-1", &reason);
        let line = format!("--party 1 --bind 127.0.0.1:0 --bind {address}");
        refused(&line, "shares/server-1", "roadstead trident share --keys");
    }
    refused("--party 1 --bind 127.0.0.1:0", "shares/server-2", "the directory of server 2, not of server 1");
    refused("--party 3 --bind 127.0.0.1:0", "shares/client", "the directory of a client, not of server 3");
    refused("--party 1 --bind 127.0.0.1:0", "nowhere", "nowhere");
    fs::write(scene.path("shares/server-1/search.bin"), [0; 64]).unwrap();
    refused("--party 1 --bind 127.0.0.1:0", "shares/server-1", "search.bin has 64 bytes");
    fs::write(scene.path("shares/server-1/manifest.json"), "{}").unwrap();
    refused("--party 1 --bind 127.0.0.1:0", "shares/server-1", "manifest");
}

#[test]
fn questions_that_cannot_be_answered_end_with_one_line_that_says_why() {
    let scene = Scene::new();
    shared(&scene);
    let (mut servers, [a, b, c]) = cluster(&scene);
    let error = scene.fails(asks(&scene, "fetch 1", [a, c, b]));
    assert!(error.contains("check the order of the addresses"), "{error}");
    let error = scene.fails(asks(&scene, &format!("fetch {ROWS}"), [a, b, c]));
    assert_eq!(error, "there is no row 300, the collection has rows 0 to 299");
    let deadline = scene.run(asks(&scene, "fetch 1 --deadline 1e9", [a, b, c]));
    assert_eq!(deadline.status.code(), Some(0), "{}", String::from_utf8_lossy(&deadline.stderr));
    servers[1].kill();
    let error = scene.fails(asks(&scene, "fetch 1", [a, b, c]));
    assert!(error.starts_with(&format!("server 2 at {b} is not available")), "{error}");
    freeze(servers[0].pid());
    let (_second, b) = serve(&scene, 2, "127.0.0.2:0");
    let error = scene.fails(asks(&scene, "search --like 1 --deadline 5", [a, b, c]));
    assert_eq!(error, format!("no answer within 5s from server 1 at {a}"));
    servers[0].signal(Signal::CONT);
    scene.ok(asks(&scene, "search --like 1", [a, b, c]));
}

#[test]
fn a_client_survives_that_a_server_is_killed_and_started_again() {
    survives_a_kill(false);
}

#[test]
fn a_client_survives_that_a_server_is_killed_and_started_again_with_tls() {
    survives_a_kill(true);
}

fn survives_a_kill(tls: bool) {
    let scene = Scene::new();
    scene.share(ROWS, tls);
    let mut set = Generated::new(ROWS, 1);
    let rows = set.read_all().unwrap();
    let (mut servers, addresses) = cluster(&scene);
    let collection = Arc::new(Collection::open(&scene.path("shares/client")).unwrap());
    let keys = scene.client_keys();
    let client =
        Client::new(collection, addresses, keys.as_ref(), Options::default(), Dialer::start).unwrap();
    let (over, right, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let named = format!("server 2 at {}", addresses[1]);
    thread::scope(|scope| {
        let over = Over(&over);
        for thread in 0..16 {
            let (client, rows, right, failed, over, named) =
                (&client, &rows, &right, &failed, over.0, &named);
            scope.spawn(move || {
                for index in (thread..).step_by(16).take_while(|_| !over.load(SeqCst)) {
                    match client.fetch(index % ROWS) {
                        Ok(row) => {
                            assert_eq!(row.values(), rows[index % ROWS]);
                            right.fetch_add(1, SeqCst);
                        }
                        Err(error @ ClientError::Unavailable { .. }) => {
                            assert!(error.to_string().contains(named), "{error}");
                            failed.fetch_add(1, SeqCst);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for _ in 0..3 {
            let (before, failures) = (right.load(SeqCst), failed.load(SeqCst));
            until("answers", || right.load(SeqCst) > before + 100);
            servers[1].kill();
            until("errors", || failed.load(SeqCst) > failures + 16);
            servers[1] = serve(&scene, 2, &addresses[1].to_string()).0;
        }
        let before = right.load(SeqCst);
        until("answers again", || right.load(SeqCst) > before + 500);
    });
    drop(client);
    for server in &mut servers {
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0));
    }
    scene.nothing_lives();
}

/// Ends the questions, also when an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_server_drains_with_idle_clients_and_ends_at_once_with_a_second_signal() {
    let scene = Scene::new();
    shared(&scene);
    let (mut servers, addresses) = cluster(&scene);
    let collection = Arc::new(Collection::open(&scene.path("shares/client")).unwrap());
    let client = Client::new(collection, addresses, None, Options::default(), Dialer::start).unwrap();
    client.fetch(0).unwrap();
    for (server, signal) in servers.iter_mut().zip([Signal::TERM, Signal::INT, Signal::TERM]) {
        server.signal(signal);
        assert_eq!(server.end().code(), Some(0));
    }
    let (mut server, address) = serve(&scene, 1, "127.0.0.2:0");
    // It keeps its side open, so the server has something to wait for.
    let held = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut &held, b"RD").unwrap();
    server.signal(Signal::TERM);
    until("the drain", || std::net::TcpStream::connect(address).is_err());
    server.signal(Signal::INT);
    assert_eq!(server.end().code(), Some(130));
}

#[test]
fn a_server_that_cannot_listen_for_the_others_names_its_own_place_or_the_one_it_was_given() {
    let scene = Scene::new();
    shared(&scene);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap();
    for (party, peers, more) in [
        (1, [&*place.to_string(), "127.0.0.1:1", "127.0.0.1:2"], String::new()),
        (3, ["127.0.0.1:1", "127.0.0.1:2", &place.to_string()], String::new()),
        (2, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], format!("--peer-bind {place}")),
    ] {
        // Nor can it for clients, which is seen later.
        let line = format!("--bind {place} --peers {} {more}", peers.join(","));
        let error = scene.fails(scene.server(party, &line));
        assert!(error.starts_with(&format!("cannot listen on {place} for servers: ")), "{error}");
    }
}

#[test]
fn a_server_says_with_which_inner_loops_it_is_ready_and_whether_with_tls() {
    for tls in [false, true] {
        let scene = Scene::new();
        scene.share(10, tls);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = taken.local_addr().unwrap();
        // It ends at once, as it cannot listen there.
        let output = scene.run(scene.server(1, &format!("--bind {bind} -v --kernel portable")));
        let said = String::from_utf8(output.stderr).unwrap();
        let ready = said.lines().find(|line| line.contains("ready")).unwrap();
        assert!(ready.contains("kernel=portable") && ready.contains(&format!("tls={tls}")), "{said}");
    }
}

/// What one connection between a client and `server` carries: the server's welcome at once, and all that follows only when
/// the test says by how much its first piece is to be changed.
fn late(listener: &TcpListener, server: SocketAddr, change: &mpsc::Receiver<u8>) {
    let ((mut client, _), mut server) = (listener.accept().unwrap(), TcpStream::connect(server).unwrap());
    let (mut asks, mut hears) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let asking = thread::spawn(move || std::io::copy(&mut asks, &mut hears));
    let mut block = vec![0; 1 << 16];
    let welcome = server.read(&mut block).unwrap();
    client.write_all(&block[..welcome]).unwrap();
    let answer = server.read(&mut block).unwrap();
    block[answer - 1] ^= change.recv().unwrap();
    // The client may be gone.
    let _ = client.write_all(&block[..answer]);
    let _ = asking.join().unwrap();
}

/// The row is there before the third answer is, and the command waits for it.
#[test]
fn a_fetch_fails_by_a_third_answer_that_comes_after_the_row_and_contradicts() {
    let scene = Scene::new();
    shared(&scene);
    let held = Held::<3>::of([127, 0, 0, 2]);
    let peers = held.addresses.map(|address| address.to_string()).join(",");
    let mut servers = [1, 2, 3]
        .map(|party| scene.serve(scene.server(party, &format!("--bind 127.0.0.2:0 --peers {peers}"))));
    let addresses = servers.each_mut().map(Process::listening);
    let row: Vec<String> =
        Generated::new(ROWS, 1).read_all().unwrap()[7].iter().map(f32::to_string).collect();
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    for (at, named) in ["server 1", "server 2", "server 3"].into_iter().enumerate() {
        let mut through = addresses;
        through[at] = relay.local_addr().unwrap();
        let ends = |change: u8| {
            let mut fetch = scene.command(asks(&scene, "fetch 7 --protocol exchange", through));
            fetch.stderr(File::create(scene.path("said")).unwrap());
            thread::scope(|scope| {
                let (release, released) = mpsc::channel();
                let carried = scope.spawn({
                    let relay = &relay;
                    move || late(relay, addresses[at], &released)
                });
                let mut fetch = Process::start(fetch);
                assert_eq!(fetch.line(), format!("7: {}\n", row.join(" ")));
                // A command that waits for nothing has ended by then.
                thread::sleep(Duration::from_millis(100));
                release.send(change).unwrap();
                let code = fetch.end().code();
                carried.join().unwrap();
                (code, fs::read_to_string(scene.path("said")).unwrap())
            })
        };
        let (code, said) = ends(0);
        assert_eq!((code, &*said), (Some(0), ""), "it is late, and no more");
        // It does not wait for ever, and this machine may have been busy with something else.
        let (code, said) = (0..5).map(|_| ends(1)).find(|(code, _)| *code != Some(0)).unwrap();
        let told = format!(
            "roadstead: {named} contradicts the other two, from whose answers the rows above were made"
        );
        assert!(code == Some(1) && said.contains(&told), "{said}");
    }
}
