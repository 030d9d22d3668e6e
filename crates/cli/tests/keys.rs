//! `roadstead keys`, and a server that speaks TLS with what it made.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use common::{Scene, words};
use roadstead::{
    Budget, Context, Dialer, Done, Input, Model, Ready, Session,
    tls::{Connector, Expect, Keys, read_pin},
};
use rustix::process::Signal;
use serde_json::Value;

/// The arguments that make keys in `k`.
fn keys(scene: &Scene, more: &str) -> Vec<String> {
    words(&format!("keys --out {} {more}", scene.path("k").display()))
}

#[test]
fn a_second_run_makes_what_is_missing_and_overwrites_nothing() {
    let scene = Scene::new();
    let first = scene.ok(keys(&scene, "--servers 2"));
    assert_eq!(first.matches("made").count(), 4, "{first}");
    let read = |name: &str| fs::read(scene.path("k").join(name)).unwrap();
    let files = ["authority/key.pem", "server-1/key.pem", "server-2/cert.pem", "client/key.pem"];
    let before = files.map(read);
    for (path, mode) in [("authority", 0o700), ("authority/key.pem", 0o600), ("client/key.pem", 0o600)] {
        let found = fs::metadata(scene.path("k").join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    let second = scene.ok(keys(&scene, "--servers 3 --client anna"));
    assert_eq!((second.matches("made").count(), second.matches("kept").count()), (2, 3), "{second}");
    assert_eq!(files.map(read), before);
}

#[test]
fn a_certificate_of_another_key_is_not_kept_but_named_and_made_again_when_it_is_deleted() {
    let scene = Scene::new();
    scene.ok(keys(&scene, "--servers 2"));
    let place = |name: &str| scene.path("k").join(name);
    for (of, other) in [("server-1", "server-2"), ("client", "server-1")] {
        let cert = place(of).join("cert.pem");
        fs::copy(place(other).join("cert.pem"), &cert).unwrap();
        let error = scene.fails(keys(&scene, "--servers 2"));
        let begun = format!("cert.pem in {} is not of the private key in key.pem", place(of).display());
        assert!(error.contains(&begun), "{error}");
        fs::remove_file(cert).unwrap();
        let made = scene.ok(keys(&scene, "--servers 2"));
        assert!(made.contains("new: cert.pem") && made.matches("kept").count() == 3, "{made}");
    }
}

#[test]
fn a_file_where_a_directory_is_to_be_made_is_named_and_left_as_it_was() {
    let scene = Scene::new();
    let file = scene.path("file");
    fs::write(&file, "somebody's").unwrap();
    let advice = format!("{} is a file; move it away, or choose another place", file.display());
    for place in [file.clone(), file.join("below"), file.join("far/below")] {
        for command in ["keys", "trident share --made 10"] {
            let error = scene.fails(words(&format!("{command} --out {}", place.display())));
            let wanted = format!("cannot make the directory {}: {advice}", place.display());
            assert_eq!(error, wanted, "{command}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"somebody's");
    for name in ["authority", "server-2", "client"] {
        let place = scene.path("k").join(name);
        let _ = fs::remove_dir_all(scene.path("k"));
        fs::create_dir(scene.path("k")).unwrap();
        fs::write(&place, "").unwrap();
        let error = scene.fails(keys(&scene, ""));
        assert!(error.contains(&format!("{} is a file; move it", place.display())), "{error}");
    }
}

#[test]
fn a_load_speaks_tls_with_servers_of_its_authority_and_no_others() {
    let scene = Scene::new();
    scene.ok(keys(&scene, ""));
    let other = scene.path("other");
    scene.ok(["keys", "--out", other.to_str().unwrap()]);
    let place = |dir: &str| scene.path("k").join(dir).display().to_string();
    let mut server =
        scene.serve(words(&format!("serve echo --bind 127.0.0.1:0 --keys {}", place("server-2"))));
    let load = format!("load {} --messages 200 --timeout 5 --json -", server.listening());
    for shape in ["", "--connections 4 --depth 8 --idle 3", "--size 300000"] {
        let said = scene.ok(words(&format!("{load} {shape} --keys {}", place("client"))));
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (&report["right"], &report["wrong"], &report["failed"]),
            (&200.into(), &0.into(), &0.into())
        );
        assert_eq!(report["layered"], true);
        assert!(report["lost"].as_object().unwrap().is_empty(), "{report}");
    }
    // A server of another authority, a client of another authority, and one that does not speak TLS at all.
    let stranger = scene.run(words(&format!("{load} --keys {}", other.join("client").display())));
    let error = String::from_utf8(stranger.stderr).unwrap();
    assert!(error.contains("the peer's certificate is not of the expected authority"), "{error}");
    assert_eq!(stranger.status.code(), Some(1));
    assert_eq!(scene.run(words(&load)).status.code(), Some(1));
    let mut plain = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let line = format!("load {} --timeout 5 --keys {}", plain.listening(), place("client"));
    let error = scene.fails(words(&line));
    assert!(error.contains("TLS fails"), "what it said comes back to it: {error}");
}

#[test]
fn keys_that_others_may_read_are_refused_wherever_they_are_used() {
    let scene = Scene::new();
    scene.ok(keys(&scene, "--servers 1"));
    let expose = |holder: &str, mode: u32| {
        let key = scene.path("k").join(holder).join("key.pem");
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).unwrap();
    };
    for exposed in ["server-1", "authority", "client"] {
        expose(exposed, 0o640);
        let error = scene.fails(keys(&scene, "--servers 1"));
        assert!(error.contains(&format!("{exposed}/key.pem may be read by others")), "{error}");
        assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
        expose(exposed, 0o600);
    }
    expose("server-1", 0o604);
    let line = format!("serve echo --bind 127.0.0.1:0 --keys {}", scene.path("k/server-1").display());
    assert_eq!(scene.serve(words(&line)).end().code(), Some(1));
}

#[test]
fn what_cannot_be_made_is_an_error_of_one_line() {
    let scene = Scene::new();
    let error = scene.fails(keys(&scene, "--client a/b"));
    assert!(error.contains("cannot be a name"), "{error}");
    let error = scene.fails(words("serve echo --bind 127.0.0.1:0 --keys nowhere"));
    assert!(error.contains("nowhere/cert.pem"), "{error}");
    fs::write(scene.path("k").join("authority/cert.pem"), "nothing").unwrap();
    assert!(scene.fails(keys(&scene, "")).contains("holds no authority"));
    fs::remove_dir_all(scene.path("k")).unwrap();
    fs::write(scene.path("k"), "in the way").unwrap();
    assert!(scene.fails(keys(&scene, "")).contains("/k: "));
}

#[test]
fn openssl_and_the_server_prove_their_keys_to_each_other() {
    let scene = Scene::new();
    scene.ok(keys(&scene, "--servers 1"));
    let mut server = scene.serve(words(&format!(
        "serve echo --bind 127.0.0.1:0 --keys {}",
        scene.path("k").join("server-1").display()
    )));
    let address = server.listening();
    let call = |tls: &str| {
        let mut socat = Command::new("socat")
            .args(["-t", "10", "-", &format!("OPENSSL:{address},{tls}")])
            .current_dir(scene.path("k"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // One that is refused may be gone already.
        let _ = socat.stdin.take().unwrap().write_all(b"ahoy");
        Some(socat.wait_with_output().unwrap().stdout)
    };
    let Some(heard) =
        call("commonname=server-1,cafile=client/ca.pem,cert=client/cert.pem,key=client/key.pem")
    else {
        assert!(std::env::var_os("CI").is_none(), "socat is missing");
        return;
    };
    assert_eq!(heard, b"ahoy");
    assert_eq!(call("commonname=server-1,cafile=client/ca.pem").unwrap(), b"", "a stranger hears nothing");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    let keys = scene.path("k").join("server-1").display().to_string();
    let open = format!("serve echo --bind 127.0.0.1:0 --keys {keys} --clients anyone");
    let mut open = scene.serve(words(&open));
    let call = |address: SocketAddr| {
        let mut socat = Command::new("socat");
        socat
            .args(["-t", "10", "-"])
            .arg(format!("OPENSSL:{address},commonname=server-1,cafile=client/ca.pem"));
        socat.current_dir(scene.path("k")).stdin(File::open(scene.path("k/said")).unwrap());
        socat.output().unwrap().stdout
    };
    fs::write(scene.path("k/said"), "ahoy").unwrap();
    assert_eq!(call(open.listening()), b"ahoy", "here a stranger is heard");
}

/// As a program judges that we did not write.
#[test]
fn there_are_as_many_servers_and_clients_as_were_asked_for_and_each_is_what_it_is_called() {
    let scene = Scene::new();
    let place = scene.path("k");
    let holders = |more: &str| {
        let said = scene.ok(keys(&scene, more));
        let mut found: Vec<String> = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        for holder in found.iter().filter(|holder| *holder != "authority") {
            let pin = read_pin(&place.join(holder).join("cert.pem")).unwrap();
            let line = format!("  {}  pin {pin}\n", place.join(holder).display());
            assert_eq!(said.matches(&line).count(), 1, "{line}: {said}");
        }
        let secret = format!("made  {}  keep it secret\n", place.join("authority").display());
        assert!(said.starts_with(&secret), "{said}");
        let last = "give each server and client its own directory, and nobody the authority's\n";
        assert!(said.ends_with(last), "{said}");
        found
    };
    let serves = |holder: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "verify",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            holder,
            "-CAfile",
            "ca.pem",
            "cert.pem",
        ]);
        let judged = openssl.current_dir(place.join(holder)).output();
        assert!(judged.is_ok() || std::env::var_os("CI").is_none(), "openssl is missing");
        judged.ok().map(|judged| judged.status.success())
    };
    assert_eq!(holders(""), ["authority", "client", "server-1", "server-2", "server-3"]);
    let judged = ["server-1", "server-2", "server-3", "client"].map(serves);
    assert!(
        judged.iter().all(Option::is_none) || judged == [true, true, true, false].map(Some),
        "{judged:?}"
    );
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(
        holders("--servers 1 --client a --client b"),
        ["authority", "client-a", "client-b", "server-1"]
    );
    assert!(["client-a", "client-b"].map(serves).iter().all(|judged| *judged != Some(true)));
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(holders("--servers 0"), ["authority", "client"]);
}

#[test]
fn an_authority_whose_key_is_of_another_makes_nothing() {
    let scene = Scene::new();
    let other = scene.path("other").display().to_string();
    scene.ok(words(&format!("keys --out {other} --servers 0")));
    scene.ok(keys(&scene, "--servers 1"));
    fs::copy(scene.path("other/authority/key.pem"), scene.path("k/authority/key.pem")).unwrap();
    let error = scene.fails(keys(&scene, "--servers 2"));
    assert!(
        error.contains("/k/authority holds no authority: cert.pem is not of the private key in key.pem"),
        "{error}"
    );
    assert!(!scene.path("k/server-2").exists());
}

#[test]
fn every_model_speaks_tls() {
    let scene = Scene::new();
    scene.ok(keys(&scene, "--servers 1"));
    let dir = scene.path("k");
    let client = Keys::load(&dir.join("client")).unwrap();
    let connector = Connector::new(Some(&client), Expect::Name("server-1".into())).unwrap();
    for model in Model::ALL.into_iter().filter(|model| model.obstacle().is_none()) {
        let server = dir.join("server-1");
        let line = format!("serve echo --bind 127.0.0.1:0 --model {model} --keys {}", server.display());
        let mut server = scene.serve(words(&line));
        let (heard, hears) = mpsc::channel();
        let dialer = Dialer::start(Budget::default()).unwrap();
        dialer.connect_through(server.listening(), &connector, Ahoy(heard)).unwrap();
        let answer = hears.recv_timeout(Duration::from_secs(30));
        assert_eq!(answer.as_deref(), Ok(&b"ahoy"[..]), "{model}");
        drop(dialer);
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{model}");
    }
}

/// Says a word and waits until it has come back.
struct Ahoy(mpsc::Sender<Vec<u8>>);

impl Session for Ahoy {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(b"ahoy");
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if input.bytes().len() == 4 {
            let _ = self.0.send(input.bytes().to_vec());
            input.consume(4);
            cx.finish();
        }
        Ok(())
    }
}
