//! Trident over TLS as processes: from the making of keys to the answers, and who is refused on the way.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, net::SocketAddr};

use rustix::process::Signal;

use roadstead::tls;
use roadstead_trident::data::{Generated, Rows};

use common::{Held, Process, Scene, words};

const ROWS: usize = 300;

/// A scene with keys and a sharing for them.
fn secured() -> Scene {
    let scene = Scene::new();
    let said = scene.share(ROWS, true);
    assert!(!said.contains("one machine"), "{said}");
    scene
}

fn pin(scene: &Scene, holder: &str) -> String {
    tls::read_pin(&scene.path("keys").join(holder).join("cert.pem")).unwrap().to_string()
}

/// Three servers, each with `more` arguments.
fn serve(scene: &Scene, more: &str) -> ([Process; 3], [SocketAddr; 3]) {
    let servers = [1, 2, 3].map(|party| {
        let mut server = scene.serve(scene.server(party, more));
        let address = server.listening();
        (server, address)
    });
    let addresses = servers.each_ref().map(|(_, address)| *address);
    (servers.map(|(server, _)| server), addresses)
}

/// A question, without keys.
fn asks(scene: &Scene, line: &str, servers: [SocketAddr; 3]) -> Vec<String> {
    let servers = servers.map(|server| server.to_string()).join(",");
    let client = scene.path("shares/client");
    words(&format!("trident {line} --servers {servers} --client {}", client.display()))
}

fn asks_with_keys(scene: &Scene, line: &str, servers: [SocketAddr; 3]) -> Vec<String> {
    [asks(scene, line, servers), scene.keys("client")].concat()
}

fn row(index: usize) -> String {
    let rows = Generated::new(ROWS, 1).read_all().unwrap();
    let values: Vec<String> = rows[index].iter().map(f32::to_string).collect();
    format!("{index}: {}\n", values.join(" "))
}

/// As on machines of their own: each server reads its two directories only, and listens on any address.
#[test]
fn servers_on_any_address_answer_clients_with_keys() {
    let scene = secured();
    let (mut servers, addresses) = serve(&scene, "--bind 0.0.0.0:0");
    let here = addresses.map(|address| SocketAddr::from(([127, 0, 0, 1], address.port())));
    assert_eq!(scene.ok(asks_with_keys(&scene, "fetch 42", here)), row(42));
    assert!(scene.ok(asks_with_keys(&scene, "search --like 42 -k 1", here)).contains("42"));
    for server in &mut servers {
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0));
    }
}

#[test]
fn servers_share_results_over_tls_and_only_with_the_servers_of_the_manifest() {
    let scene = secured();
    let held = Held::<3>::of([127, 0, 0, 2]);
    let peers = held.addresses.map(|address| address.to_string()).join(",");
    let (_servers, addresses) = serve(&scene, &format!("--bind 127.0.0.2:0 --peers {peers}"));
    assert_eq!(scene.ok(asks_with_keys(&scene, "fetch 7 --protocol exchange", addresses)), row(7));
}

#[test]
fn a_client_that_does_not_belong_is_told_why_in_one_line() {
    let scene = secured();
    let (_servers, [a, b, c]) = serve(&scene, "--bind 127.0.0.1:0");
    let error = scene.fails(asks(&scene, "fetch 1", [a, b, c]));
    assert!(error.contains("keys of their own") && error.contains("roadstead keys"), "{error}");

    let strangers = scene.path("strangers").display().to_string();
    scene.ok(words(&format!("keys --out {strangers}")));
    let with = |dir: &str| [asks(&scene, "fetch 1", [a, b, c]), words(&format!("--keys {dir}"))].concat();
    let error = scene.fails(with(&format!("{strangers}/client")));
    assert!(error.starts_with("server ") && error.contains("refuses"), "{error}");
    let error = scene.fails(with(&scene.path("keys/server-2").display().to_string()));
    assert!(error.contains("the certificate is that of server 2"), "{error}");
    let error = scene.fails(with(&scene.path("nowhere").display().to_string()));
    assert!(error.contains("nowhere/cert.pem"), "{error}");

    let error = scene.fails(asks_with_keys(&scene, "fetch 1", [a, c, b]));
    assert!(error.starts_with("server ") && error.contains("not the pinned one"), "{error}");
    assert_eq!(scene.ok(asks_with_keys(&scene, "fetch 1", [a, b, c])), row(1));
}

#[test]
fn a_server_starts_with_the_keys_of_its_own_place_only() {
    let scene = secured();
    let without = |party: usize, keys: &str| {
        let mut arguments = scene.server(party, "--bind 127.0.0.1:0");
        arguments.truncate(arguments.len() - 2);
        [arguments, words(keys)].concat()
    };
    for address in ["", "--bind 0.0.0.0:0"] {
        let error = scene.fails(without(1, address));
        assert!(error.contains("keys of their own"), "{error}");
    }
    let other = scene.path("keys/server-3").display().to_string();
    let error = scene.fails(without(1, &format!("--keys {other}")));
    assert!(error.contains("not the keys of server 1"), "{error}");
    for holder in ["server-1", "server-3"] {
        assert!(error.contains(&pin(&scene, holder)), "{error}");
    }
    // Keys for a sharing that knows of none.
    let plain = Scene::new();
    plain.share(ROWS, false);
    let keys = words(&format!("--keys {other} --bind 0.0.0.0:0"));
    let error = plain.fails([plain.server(3, ""), keys].concat());
    assert!(error.contains("roadstead trident share --keys"), "{error}");
}

/// The owner of the data need not have the servers' private keys, and learns at once what is missing.
#[test]
fn sharing_needs_the_certificates_of_three_different_servers_and_no_more() {
    let scene = Scene::new();
    let keys = scene.path("keys");
    scene.ok(words(&format!("keys --out {}", keys.display())));
    for server in ["server-1", "server-2", "server-3"] {
        fs::remove_file(keys.join(server).join("key.pem")).unwrap();
        fs::remove_file(keys.join(server).join("ca.pem")).unwrap();
    }
    let out = scene.path("shares").display().to_string();
    let share = words(&format!("trident share --made 10 --out {out} --keys {}", keys.display()));
    scene.ok(share.clone());
    for directory in ["server-1", "server-2", "server-3", "client"] {
        let manifest =
            fs::read_to_string(scene.path("shares").join(directory).join("manifest.json")).unwrap();
        for server in ["server-1", "server-2", "server-3"] {
            assert!(manifest.contains(&pin(&scene, server)), "{manifest}");
        }
    }
    fs::copy(keys.join("server-1/cert.pem"), keys.join("server-2/cert.pem")).unwrap();
    let error = scene.fails([&share[..], &["--replace".into()]].concat());
    assert!(error.contains("server 1 and server 2 have the same public key"), "{error}");
    fs::remove_file(keys.join("server-2/cert.pem")).unwrap();
    let error = scene.fails([&share[..], &["--replace".into()]].concat());
    assert!(error.contains("server-2/cert.pem"), "{error}");
}
