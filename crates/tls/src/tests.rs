//! Keys and certificates of which single bytes are changed, and two ends that speak TLS without a network.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    client::danger::ServerCertVerifier,
    pki_types::{CertificateDer, UnixTime},
};

use roadstead_keys::{Authority, Role};

use super::*;
use crate::{keys::LARGEST, pin::pin_of};

/// The texts of a certificate of this authority, its key, and the authority's certificate.
fn issue(authority: &Authority) -> [String; 3] {
    let issued = authority.issue("server-1", Role::Server).unwrap();
    [issued.cert, issued.key.to_string(), issued.ca]
}

fn texts() -> [String; 3] {
    issue(&Authority::new("cluster").unwrap())
}

fn keys([cert, key, ca]: &[String; 3]) -> Keys {
    Keys::from_pem(cert.as_bytes(), key.as_bytes(), ca.as_bytes()).unwrap()
}

/// A directory with these files, which their owner alone may read.
fn directory(texts: &[String; 3]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in ["cert.pem", "key.pem", "ca.pem"].into_iter().zip(texts) {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

fn is_accepted(verifier: &impl ServerCertVerifier, certificate: &[u8]) -> bool {
    let certificate = CertificateDer::from(certificate);
    verifier.verify_server_cert(&certificate, &[], &no_name(), &[], UnixTime::now()).is_ok()
}

/// One bit of every byte, another one for each.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        changed
    })
}

#[test]
fn every_byte_of_a_pin_counts() {
    let keys = keys(&texts());
    let pinned = |pin| is_accepted(&Pinned::new(pin, provider()), &keys.chain[0]);
    assert!(pinned(keys.pin()));
    for (at, pin) in flipped(&keys.pin().0).enumerate() {
        assert!(!pinned(Pin(pin.try_into().unwrap())), "byte {at}");
    }
}

/// Of a certificate whose key is pinned nothing but that key matters; the handshake proves who has it.
#[test]
fn every_byte_of_a_certificate_is_signed_and_every_byte_of_its_key_is_in_its_pin() {
    let keys = keys(&texts());
    let certificate = &keys.chain[0];
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&keys).unwrap()), provider());
    let known = AnyName(verifier.build().unwrap());
    let pinned = Pinned::new(keys.pin(), provider());
    assert!(is_accepted(&known, certificate) && is_accepted(&pinned, certificate));
    let mut other_pins = 0;
    for (at, changed) in flipped(certificate).enumerate() {
        assert!(!is_accepted(&known, &changed), "byte {at}");
        let pin = pin_of(&CertificateDer::from(changed.as_slice()));
        assert_eq!(is_accepted(&pinned, &changed), pin == Some(keys.pin()), "byte {at}");
        other_pins += usize::from(pin.is_some_and(|pin| pin != keys.pin()));
    }
    // A public key of P-256 has 64 bytes and a head.
    assert!(other_pins >= 64, "{other_pins}");
    for length in 0..certificate.len() {
        assert!(
            !is_accepted(&known, &certificate[..length]) && !is_accepted(&pinned, &certificate[..length])
        );
    }
}

/// Whatever of the key's text is changed: it is none, or another's than the certificate's, or says the same.
#[test]
fn a_private_key_with_a_changed_byte_is_not_used_for_the_certificate() {
    let mut texts = texts();
    let whole = keys(&texts);
    let body = texts[1].find('\n').unwrap()..texts[1].rfind("-----END").unwrap();
    let mut same = 0;
    for at in body {
        let right = texts[1].clone();
        let other = if &right[at..=at] == "A" { "B" } else { "A" };
        texts[1].replace_range(at..=at, other);
        let [cert, key, ca] = texts.each_ref().map(|text| text.as_bytes());
        if let Ok(keys) = Keys::from_pem(cert, key, ca)
            && Acceptor::new(&keys, Clients::Known).is_ok()
        {
            assert!(keys.key.secret_der() == whole.key.secret_der(), "byte {at}");
            same += 1;
        }
        texts[1] = right;
    }
    assert!(same < 4, "{same} characters mean nothing");
}

#[test]
fn every_byte_of_the_pin_that_keys_must_keep_counts() {
    let dir = directory(&texts());
    let keys = Keys::load(dir.path()).unwrap();
    let reload = |pin| Acceptor::new(&keys, Clients::Known).unwrap().pinned(pin).reload();
    assert!(reload(keys.pin()).unwrap());
    for (at, pin) in flipped(&keys.pin().0).enumerate() {
        assert!(reload(Pin(pin.try_into().unwrap())).is_err(), "byte {at}");
    }
}

#[test]
fn a_private_key_that_others_than_its_owner_may_read_or_write_is_refused() {
    let dir = directory(&texts());
    for mode in [0o600, 0o400, 0o640, 0o620, 0o604, 0o602, 0o610] {
        fs::set_permissions(dir.path().join("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
        match Keys::load(dir.path()) {
            Ok(_) => assert!(mode & 0o077 == 0, "{mode:o}"),
            Err(error) => assert!(mode & 0o077 != 0 && matches!(error, TlsError::Exposed { .. }), "{error}"),
        }
    }
}

#[test]
fn files_of_keys_may_be_as_large_as_their_limit_and_no_larger() {
    let texts = texts();
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        for (length, fits) in [(LARGEST, true), (LARGEST + 1, false)] {
            let dir = directory(&texts);
            let path = dir.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{text}{}", " ".repeat(length - text.len()))).unwrap();
            match Keys::load(dir.path()) {
                Ok(_) => assert!(fits, "{name}"),
                Err(TlsError::TooLarge(at)) => assert!(!fits && at == path, "{name}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn nothing_of_a_private_key_is_left_when_its_owner_is_gone() {
    let mut keys = keys(&texts());
    assert!(!keys.key.secret_der().is_empty());
    keys.wipe();
    assert!(keys.key.secret_der().iter().all(|byte| *byte == 0));
}

#[test]
fn no_two_keys_of_an_authority_and_no_two_certificates_are_alike() {
    let authority = Authority::new("cluster").unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let keys = keys(&issue(&authority));
        assert!(seen.insert(keys.key.secret_der().to_vec()) && seen.insert(keys.pin().0.to_vec()));
        assert!(seen.insert(keys.chain[0].to_vec()));
    }
}

/// What comes of a handshake between a client that shows these and a server with those.
fn meet(client: &[String; 3], expect: Expect, server: &[String; 3]) -> io::Result<()> {
    let server = Acceptor::new(&keys(server), Clients::Known).unwrap().layer()?;
    shake([Connector::new(Some(&keys(client)), expect).unwrap().layer()?, server])
}

/// A client's handshake with a server, until both are content or one is not.
fn shake(mut ends: [Box<dyn Layer>; 2]) -> io::Result<()> {
    let (mut wire, mut plain) = (BytesMut::new(), BytesMut::new());
    for end in [0, 1, 0, 1] {
        let mut reply = BytesMut::new();
        ends[end].open(&mut wire, &mut plain, &mut reply)?;
        wire = reply;
    }
    assert!(ends.iter().all(|end| end.is_open()));
    Ok(())
}

#[test]
fn every_authority_of_a_file_is_trusted_by_both_ends_and_no_other() {
    let [first, second, third] = [(); 3].map(|()| texts());
    let both = format!("{}{}", first[2], second[2]);
    let trusting = [first[0].clone(), first[1].clone(), both];
    for (other, is_known) in [(&first, true), (&second, true), (&third, false)] {
        let knows_us = [other[0].clone(), other[1].clone(), first[2].clone()];
        let name = || Expect::Name("server-1".into());
        for expect in [name(), Expect::Known] {
            let client = meet(&trusting, expect, &knows_us);
            assert_eq!(client.is_ok(), is_known, "{client:?}");
        }
        let server = meet(&knows_us, Expect::Pin(keys(&trusting).pin()), &trusting);
        assert_eq!(server.is_ok(), is_known, "{server:?}");
    }
}

/// Its certificate is public. What it has not is the key.
#[test]
fn who_shows_the_certificate_of_another_is_refused_whatever_is_expected_of_it() {
    let authority = Authority::new("cluster").unwrap();
    let [right, mine] = [issue(&authority), issue(&authority)].map(|texts| keys(&texts));
    let key = any_supported_type(&mine.key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(right.chain.clone(), key));
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&TLS13]).unwrap().with_no_client_auth();
    let impostor = Arc::new(builder.with_cert_resolver(Arc::new(shown)));
    for expect in [Expect::Pin(right.pin()), Expect::Known, Expect::Name("server-1".into())] {
        let client = |server| {
            let client = Connector::new(Some(&mine), expect.clone()).unwrap().layer().unwrap();
            shake([client, server])
        };
        assert!(client(Acceptor::new(&right, Clients::Anyone).unwrap().layer().unwrap()).is_ok());
        let error = client(Box::new(Records::server(Arc::clone(&impostor)).unwrap())).unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{expect:?}: {error}");
    }
}

#[test]
fn certificates_between_the_peers_and_the_authority_are_shown_and_followed() {
    let params = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let authority = |name| {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let [root, between, own] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let ca = authority("root").self_signed(&root).unwrap().pem();
    let root = Issuer::new(authority("root"), root);
    let middle = authority("between").signed_by(&between, &root).unwrap().pem();
    let cert = params("server-1").signed_by(&own, &Issuer::new(authority("between"), between)).unwrap().pem();
    let whole = [cert.clone() + &middle, own.serialize_pem(), ca];
    let cut = [cert, whole[1].clone(), whole[2].clone()];
    for expect in [Expect::Known, Expect::Name("server-1".into())] {
        meet(&whole, expect.clone(), &whole).unwrap();
        assert!(meet(&whole, expect.clone(), &cut).is_err() && meet(&cut, expect, &whole).is_err());
    }
    let keys = keys(&whole);
    assert_eq!((keys.chain.len(), Some(keys.pin())), (2, pin_of(&keys.chain[0])), "the owner's is the first");
}

#[test]
fn a_certificate_is_good_in_its_time_and_for_what_it_was_issued_and_for_its_name_where_one_is_expected() {
    let authority = Authority::new("cluster").unwrap();
    let keys = keys(&issue(&authority));
    let client = authority.issue("server-1", Role::Client).unwrap();
    let client = Keys::from_pem(client.cert.as_bytes(), client.key.as_bytes(), client.ca.as_bytes()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&keys).unwrap()), provider());
    let known = AnyName(verifier.build().unwrap());
    assert!(is_accepted(&known, &keys.chain[0]) && !is_accepted(&known, &client.chain[0]));
    let now = UnixTime::now().as_secs();
    let day = 24 * 60 * 60;
    for (then, is_good) in [(now - 2 * day, false), (now, true), (now + 3654 * day, false)] {
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(then));
        let verified = known.verify_server_cert(&keys.chain[0], &[], &no_name(), &[], then);
        assert_eq!(verified.is_ok(), is_good, "{verified:?}");
    }
    let texts = issue(&authority);
    assert!(meet(&texts, Expect::Name("server-2".into()), &texts).is_err());
    assert!(matches!(Connector::new(None, Expect::Known), Err(TlsError::NoAuthority)));
    assert!(matches!(Connector::new(None, Expect::Name("a".into())), Err(TlsError::NoAuthority)));
    let spaced = Connector::new(Some(&keys), Expect::Name("a b".into()));
    assert!(matches!(spaced, Err(TlsError::Name(name)) if name == "a b"));
}

#[test]
fn keys_that_are_read_again_are_those_of_every_clone_and_keys_that_cannot_be_used_of_none() {
    let (old, new) = (texts(), texts());
    let dir = directory(&old);
    let acceptor = Acceptor::new(&Keys::load(dir.path()).unwrap(), Clients::Anyone).unwrap();
    let clone = acceptor.clone();
    let shows = |of: &Acceptor, texts: &[String; 3]| {
        let client = Connector::new(None, Expect::Pin(keys(texts).pin())).unwrap();
        shake([client.layer().unwrap(), of.layer().unwrap()]).is_ok()
    };
    let begun = acceptor.layer().unwrap();
    fs::write(dir.path().join("key.pem"), &new[1]).unwrap();
    assert!(clone.reload().is_err() && shows(&clone, &old) && shows(&acceptor, &old), "keys that do not fit");
    fs::write(dir.path().join("cert.pem"), &new[0]).unwrap();
    assert!(!shows(&acceptor, &new), "nobody has asked for it");
    assert!(clone.reload().unwrap() && shows(&clone, &new) && shows(&acceptor, &new));
    assert!(!shows(&acceptor, &old));
    let client = Connector::new(None, Expect::Pin(keys(&old).pin())).unwrap().layer().unwrap();
    assert!(shake([client, begun]).is_ok(), "whoever had come before goes on with the old ones");
    assert!(
        !Acceptor::new(&keys(&new), Clients::Anyone).unwrap().reload().unwrap(),
        "they come from no file"
    );
}

/// The two ends of a connection when the client's last word of the handshake has come, and what the server answers.
fn shaken() -> ([Box<dyn Layer>; 2], BytesMut) {
    let keys = keys(&texts());
    let client = Connector::new(Some(&keys), Expect::Pin(keys.pin())).unwrap();
    let mut ends = [client.layer().unwrap(), Acceptor::new(&keys, Clients::Known).unwrap().layer().unwrap()];
    let (mut wire, mut plain) = (BytesMut::new(), BytesMut::new());
    // Hello, the server's answer, the client's proof, and what there is to say to that.
    for end in [0, 1, 0, 1] {
        let mut reply = BytesMut::new();
        ends[end].open(&mut wire, &mut plain, &mut reply).unwrap();
        assert!(wire.is_empty() && plain.is_empty());
        wire = reply;
    }
    assert!(ends.iter().all(|end| end.is_open()));
    (ends, wire)
}

#[test]
fn a_client_gets_nothing_to_come_back_with_instead_of_a_proof() {
    let (_, last) = shaken();
    assert!(last.is_empty(), "a ticket of {} bytes", last.len());
}

#[test]
fn what_follows_the_end_of_a_peer_is_thrown_away() {
    let ([mut client, mut server], _) = shaken();
    let (mut wire, mut plain, mut reply) = Default::default();
    client.seal(b"last", &mut [], &mut wire).unwrap();
    client.finish(&mut [], &mut wire);
    for more in [&b"and more"[..], &[23; 100], b""] {
        wire.extend_from_slice(more);
        server.open(&mut wire, &mut plain, &mut reply).unwrap();
        assert!(server.has_ended() && wire.is_empty() && plain == b"last"[..], "{} bytes", wire.len());
    }
}

#[test]
fn keys_that_are_not_the_certificates_and_texts_without_one_are_refused_by_both_ends() {
    let [mine, others] = [texts(), texts()];
    let mixed = keys(&[mine[0].clone(), others[1].clone(), mine[2].clone()]);
    let server = Acceptor::new(&mixed, Clients::Known).unwrap_err();
    let client = Connector::new(Some(&mixed), Expect::Pin(mixed.pin())).unwrap_err();
    for error in [server, client] {
        assert!(error.to_string().contains("the private key is not the one that the certificate is for"));
    }
    let [cert, key, ca] = mine.each_ref().map(|text| text.as_bytes());
    for (cert, ca, which) in [(&b""[..], ca, "certificate"), (cert, b"", "certificate of the authority")] {
        match Keys::from_pem(cert, key, ca) {
            Err(TlsError::Malformed { what, why }) => {
                assert_eq!((what, why.as_str()), (which, "there is none in the text"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn files_that_hold_no_key_or_certificate_are_named() {
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        let dir = directory(&texts());
        let path = dir.path().join(name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        match Keys::load(dir.path()) {
            Err(TlsError::Read { path: named, source }) => {
                assert!(named == path && source.to_string() == "it is not a regular file", "{source}");
            }
            other => panic!("{other:?}"),
        }
    }
    let dir = directory(&texts());
    let path = dir.path().join("cert.pem");
    assert_eq!(read_pin(&path).unwrap(), Keys::load(dir.path()).unwrap().pin());
    fs::write(&path, "nothing").unwrap();
    let said = read_pin(&path).unwrap_err().to_string();
    assert!(said.contains(&path.display().to_string()), "{said}");
}

#[test]
fn what_was_changed_on_its_way_is_answered_with_an_alert() {
    let ([mut client, mut server], _) = shaken();
    let (mut wire, mut plain, mut reply) = Default::default();
    client.seal(b"a message", &mut [], &mut wire).unwrap();
    *wire.last_mut().unwrap() ^= 1;
    let error = server.open(&mut wire, &mut plain, &mut reply).unwrap_err();
    assert!(error.to_string().starts_with("what the peer sent was changed on its way"), "{error}");
    assert!(plain.is_empty() && !reply.is_empty(), "the client hears why");
}

#[test]
fn messages_of_any_length_come_as_they_were_sent() {
    let (mut ends, _) = shaken();
    for length in [0, 1, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, 100_000] {
        for from in [0, 1] {
            let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (mut wire, mut plain, mut reply) = Default::default();
            ends[from].seal(&sent, &mut [], &mut wire).unwrap();
            ends[1 - from].open(&mut wire, &mut plain, &mut reply).unwrap();
            assert!(plain == sent[..] && wire.is_empty() && reply.is_empty(), "{length} bytes");
        }
    }
}
