//! Certificates that were made, read with other eyes.

use std::process::Command;

use super::*;

#[test]
fn a_loaded_authority_issues_as_before_and_files_are_the_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("authority");
    let authority = Authority::new("cluster").unwrap();
    authority.write(&place).unwrap();
    let again = Authority::load(&place).unwrap();
    assert_eq!(again.cert, authority.cert);
    let server = dir.path().join("server-1");
    again.issue("server-1", Role::Server).unwrap().write(&server).unwrap();
    for (path, mode) in
        [(server.clone(), 0o700), (server.join("key.pem"), 0o600), (place.join("key.pem"), 0o600)]
    {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    let place = dir.path().join("one");
    authority.issue("one", Role::Client).unwrap().write(&place).unwrap();
    let key = fs::read(place.join("key.pem")).unwrap();
    assert!(authority.issue("one", Role::Client).unwrap().write(&place).is_err());
    assert_eq!(fs::read(place.join("key.pem")).unwrap(), key);
}

#[test]
fn of_two_who_write_a_file_at_once_the_second_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(KEY);
    write(&path, "one").unwrap();
    assert!(matches!(write(&path, "another"), Err(KeysError::File { path: at, .. }) if at == path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
}

/// As a program judges that we did not write.
#[test]
fn a_certificate_is_good_for_its_role_and_an_authority_for_no_other_below_it() {
    let authority = Authority::new("cluster").unwrap();
    let mut params = params("between").unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &authority.issuer).unwrap().pem();
    let between = Authority { issuer: Issuer::new(params, key), cert };
    for (issuer, role, purpose, good) in [
        (&authority, Role::Server, "sslserver", true),
        (&authority, Role::Server, "sslclient", true),
        (&authority, Role::Client, "sslclient", true),
        (&authority, Role::Client, "sslserver", false),
        (&between, Role::Server, "sslserver", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let issued = issuer.issue("server-1", role).unwrap();
        for (name, text) in [(CERT, &issued.cert), (CA, &authority.cert), ("between.pem", &between.cert)] {
            write(&dir.path().join(name), text).unwrap();
        }
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-purpose", purpose, "-CAfile", CA, "-untrusted", "between.pem", CERT]);
        let Ok(judged) = openssl.current_dir(dir.path()).output() else {
            assert!(std::env::var_os("CI").is_none(), "openssl is missing");
            return;
        };
        let said = String::from_utf8_lossy(&judged.stderr);
        assert_eq!(judged.status.success(), good, "{role:?}, {purpose}: {said}");
    }
}

/// As a program judges that we did not write.
#[test]
fn a_certificate_names_its_holder_and_is_valid_from_a_day_before_for_ten_years() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    let issued = authority.issue("server-1", Role::Server).unwrap();
    write(&dir.path().join(CERT), &issued.cert).unwrap();
    write(&dir.path().join(CA), &issued.ca).unwrap();
    let openssl = |arguments: &[&str]| {
        let told = Command::new("openssl").args(arguments).current_dir(dir.path()).output();
        told.map(|told| (told.status.success(), String::from_utf8(told.stdout).unwrap()))
    };
    let Ok((_, text)) = openssl(&["x509", "-in", CERT, "-noout", "-text"]) else {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing");
        return;
    };
    for part in ["DNS:server-1", "CN = server-1", "Digital Signature", "Authority Key Identifier"] {
        assert!(text.replace("CN=", "CN = ").contains(part), "{part}: {text}");
    }
    assert_eq!(DAYS, 3_653, "ten years with three days more");
    const DAY: i64 = 24 * 3_600;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    for (at, valid) in
        [(-DAY - 60, false), (60 - DAY, true), ((DAYS - 1) * DAY - 60, true), ((DAYS - 1) * DAY + 60, false)]
    {
        let at = (now + at).to_string();
        let (judged, _) = openssl(&["verify", "-attime", &at, "-CAfile", CA, CERT]).unwrap();
        assert_eq!(judged, valid, "at {at}");
    }
}

#[test]
fn directories_are_made_for_the_owner_only_and_one_that_is_there_is_refused_even_empty() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("cluster").join("authority");
    let authority = Authority::new("cluster").unwrap();
    authority.write(&place).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([place.as_path(), parent(&place)].map(mode), [0o700, 0o700]);
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(authority.write(&empty), Err(KeysError::File { path, .. }) if path == empty));
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_file_is_read_whole_up_to_the_largest_and_what_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CERT);
    for length in [0, 1, LARGEST, LARGEST + 1] {
        fs::write(&path, vec![b'x'; length as usize]).unwrap();
        let read = read(&path).ok().map(|text| text.len() as u64);
        assert_eq!(read, (length <= LARGEST).then_some(length));
    }
    let Err(error) = read(dir.path()) else { panic!("a directory was read") };
    assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
}

#[test]
fn no_certificate_is_made_for_a_private_key_that_others_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("server-1");
    let authority = Authority::new("cluster").unwrap();
    authority.issue("server-1", Role::Server).unwrap().write(&place).unwrap();
    fs::remove_file(place.join(CERT)).unwrap();
    fs::set_permissions(place.join(KEY), Permissions::from_mode(0o640)).unwrap();
    let outcome = authority.complete(&place, "server-1", Role::Server);
    assert!(matches!(outcome, Err(KeysError::Exposed { mode: 0o640, .. })));
    assert!(!place.join(CERT).exists());
}

#[test]
fn what_is_missing_is_made_again_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    let place = dir.path().join("server-1");
    let complete = || authority.complete(&place, "server-1", Role::Server).unwrap();
    let read = || [CERT, KEY, CA].map(|name| fs::read(place.join(name)).unwrap());
    assert_eq!(complete(), [CERT, KEY, CA]);
    let [cert, key, ca] = read();
    assert!(complete().is_empty());
    for (missing, made) in [(CA, vec![CA]), (CERT, vec![CERT]), (KEY, vec![KEY, CERT])] {
        fs::remove_file(place.join(missing)).unwrap();
        assert_eq!(complete(), made);
        let again = read();
        assert_eq!(again[0] == cert, missing == CA, "{missing}");
        assert_eq!(again[1] == key, missing != KEY, "{missing}");
        assert_eq!(again[2], ca);
        let mode = fs::metadata(place.join(missing)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
}

#[test]
fn what_another_authority_issued_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("server-1");
    Authority::new("one").unwrap().issue("server-1", Role::Server).unwrap().write(&place).unwrap();
    fs::remove_file(place.join(KEY)).unwrap();
    let outcome = Authority::new("another").unwrap().complete(&place, "server-1", Role::Server);
    assert!(matches!(outcome, Err(KeysError::Foreign(at)) if at == place));
    assert!(place.join(CERT).exists() && !place.join(KEY).exists());
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("authority");
    Authority::new("cluster").unwrap().write(&place).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o777] {
        fs::set_permissions(place.join(KEY), Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Authority::load(&place), Err(KeysError::Exposed { .. })), "{mode:o}");
    }
    fs::set_permissions(place.join(KEY), Permissions::from_mode(0o400)).unwrap();
    assert!(Authority::load(&place).is_ok());
}

#[test]
fn what_is_no_name_or_no_authority_is_refused() {
    let long = "x".repeat(64);
    for name in ["", "-a", "a-", "a b", "a/b", "é", &long] {
        assert!(matches!(Authority::new(name), Err(KeysError::Name(_))), "{name}");
    }
    assert!(Authority::new(&long[1..]).is_ok());
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Authority::load(dir.path()), Err(KeysError::File { .. })));
    fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    write(&dir.path().join(KEY), "nothing").unwrap();
    assert!(matches!(Authority::load(dir.path()), Err(KeysError::Authority { .. })));
}

#[test]
fn an_authority_whose_certificate_is_of_another_key_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
    for place in [&one, &other] {
        Authority::new("cluster").unwrap().write(place).unwrap();
    }
    fs::copy(other.join(CERT), one.join(CERT)).unwrap();
    let Err(error) = Authority::load(&one) else { panic!("it is taken") };
    let said = format!(
        "{} holds no authority: cert.pem is not of the private key in key.pem; put back the one that was",
        one.display()
    );
    assert_eq!(error.to_string(), said);
    assert!(Authority::load(&other).is_ok());
}

/// As a program judges that we did not write.
#[test]
fn a_certificate_that_is_made_anew_has_the_role_the_name_and_the_key_of_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    for (name, role, serves) in [("server-1", Role::Server, true), ("client", Role::Client, false)] {
        let place = dir.path().join(name);
        authority.issue(name, role).unwrap().write(&place).unwrap();
        for missing in [CERT, KEY] {
            fs::remove_file(place.join(missing)).unwrap();
            authority.complete(&place, name, role).unwrap();
            let key = KeyPair::from_pem(&read_key(&place.join(KEY)).unwrap()).unwrap();
            assert!(is_of(&read(&place.join(CERT)).unwrap(), &key), "{name} without {missing}");
            let openssl =
                |arguments: &[&str]| Command::new("openssl").args(arguments).current_dir(&place).output();
            let Ok(judged) = openssl(&["verify", "-purpose", "sslserver", "-CAfile", CA, CERT]) else {
                assert!(std::env::var_os("CI").is_none(), "openssl is missing");
                return;
            };
            assert_eq!(judged.status.success(), serves, "{name} without {missing}");
            let text = openssl(&["x509", "-in", CERT, "-noout", "-text"]).unwrap().stdout;
            assert!(
                String::from_utf8_lossy(&text).contains(&format!("DNS:{name}")),
                "{name} without {missing}"
            );
        }
    }
}

#[test]
fn a_name_is_of_letters_digits_and_hyphens() {
    for name in ["a", "Z", "0", "a-b", "server-1"] {
        assert!(Authority::new(name).is_ok(), "{name}");
    }
    for name in ["a_b", "a.b", "a:b", "a\0", "*", "-", "[", "`", "{", "@", "/"] {
        assert!(matches!(Authority::new(name), Err(KeysError::Name(said)) if said == name), "{name}");
    }
}

#[test]
fn a_cluster_whose_directory_cannot_be_made_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let place = dir.path().join("file/authority");
    let error = Authority::new("cluster").unwrap().write(&place);
    assert!(matches!(error, Err(KeysError::File { path, .. }) if path == dir.path().join("file")));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn every_file_that_is_written_is_the_owners_only_whatever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let place = dir.path().join("authority");
    authority.write(&place).unwrap();
    assert_eq!([CERT, KEY].map(|name| mode(place.join(name))), [0o600; 2]);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 2, "nobody copies an authority's keys for a member's");
    for (name, role) in [("server-1", Role::Server), ("client", Role::Client)] {
        let place = dir.path().join(name);
        authority.issue(name, role).unwrap().write(&place).unwrap();
        assert_eq!([CERT, KEY, CA].map(|name| mode(place.join(name))), [0o600; 3], "{name}");
        assert_eq!(mode(place), 0o700);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing unfinished stays");
}

#[test]
fn every_member_has_a_key_of_its_own_and_the_authoritys_certificate() {
    let authority = Authority::new("cluster").unwrap();
    let [one, again] = [Role::Server, Role::Client].map(|role| authority.issue("one", role).unwrap());
    assert!(one.key != again.key && one.cert != again.cert);
    assert!(one.ca == authority.cert && again.ca == authority.cert);
    for issued in [&one, &again] {
        assert!(is_of(&issued.cert, &KeyPair::from_pem(&issued.key).unwrap()));
        assert!(!is_of(&issued.ca, &KeyPair::from_pem(&issued.key).unwrap()));
    }
    assert!(!is_of("nothing", &KeyPair::from_pem(&one.key).unwrap()));
    assert_ne!(Authority::new("cluster").unwrap().cert, authority.cert, "of the same name is not the same");
}

#[test]
fn a_certificate_of_another_key_is_neither_kept_nor_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    let place = dir.path().join("server-1");
    authority.issue("server-1", Role::Server).unwrap().write(&place).unwrap();
    let other = authority.issue("server-1", Role::Server).unwrap();
    for strange in [&*other.cert, "nothing"] {
        fs::write(place.join(CERT), strange).unwrap();
        let outcome = authority.complete(&place, "server-1", Role::Server);
        assert!(matches!(outcome, Err(KeysError::Strange(at)) if at == place));
        assert_eq!(fs::read_to_string(place.join(CERT)).unwrap(), strange);
    }
    fs::remove_file(place.join(CERT)).unwrap();
    assert_eq!(authority.complete(&place, "server-1", Role::Server).unwrap(), [CERT]);
}
