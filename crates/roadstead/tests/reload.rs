//! Keys that are read again while a server runs: which are taken, and which are not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use roadstead::{
    Layers,
    tls::{Acceptor, Clients, Keys},
};
use roadstead_keys::{Authority, Role};

fn put(dir: &Path, authority: &Authority) {
    let issued = authority.issue("server", Role::Server).unwrap();
    for (name, text) in [("cert.pem", &issued.cert), ("key.pem", &issued.key), ("ca.pem", &issued.ca)] {
        fs::write(dir.join(name), text.as_bytes()).unwrap();
    }
    fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn files_that_fit_are_taken_and_others_are_refused_by_name() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("reload").unwrap());
    put(dir.path(), &authority);
    let acceptor = Acceptor::new(&Keys::load(dir.path()).unwrap(), Clients::Known).unwrap();
    put(dir.path(), &authority);
    assert!(acceptor.reload().unwrap());
    let other = tempfile::tempdir().unwrap();
    put(other.path(), &authority);
    fs::copy(other.path().join("key.pem"), dir.path().join("key.pem")).unwrap();
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.contains("the private key is not the one"), "{error}");
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
}

#[test]
fn pinned_keys_stay_what_they_are_and_may_have_another_certificate() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("reload").unwrap());
    put(dir.path(), &authority);
    let keys = Keys::load(dir.path()).unwrap();
    let acceptor = Acceptor::new(&keys, Clients::Known).unwrap().pinned(keys.pin());
    assert!(acceptor.reload().unwrap());
    put(dir.path(), &authority);
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.contains(&keys.pin().to_string()), "{error}");
}

#[test]
fn keys_that_come_from_no_file_are_not_read_again() {
    let issued = Authority::new("reload").unwrap().issue("server", Role::Server).unwrap();
    let keys = Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()).unwrap();
    assert!(!Acceptor::new(&keys, Clients::Known).unwrap().reload().unwrap());
}
