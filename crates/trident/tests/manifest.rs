//! Manifests: what they hold, what their digest covers, and what is refused.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use roadstead_tls::Pin;
use roadstead_trident::{
    integrity::Roots,
    manifest::{Digest, Element, MAX_BYTES, MAX_DIM, MAX_ROWS, Manifest, ManifestError, SharingId},
    party::Party,
    trust::Pins,
};

fn manifest(rows: usize, dim: usize) -> Result<Manifest, ManifestError> {
    Manifest::new(SharingId([5; 16]), rows, dim, Element::U8, true)
}

#[test]
fn manifests_are_validated_and_their_digest_covers_all_but_the_holder() {
    for (rows, dim) in [(1, 1), (MAX_ROWS, MAX_DIM)] {
        let good = manifest(rows, dim).unwrap();
        assert_eq!(Manifest::parse(&good.to_json().unwrap()).unwrap(), good);
    }
    for (rows, dim) in [(0, 1), (MAX_ROWS + 1, 1), (1, 0), (1, MAX_DIM + 1)] {
        assert!(matches!(manifest(rows, dim), Err(ManifestError::Range { .. })));
    }
    let good = manifest(10, 20).unwrap();
    let roots = |client: u8, third: u8| Roots {
        servers: [Digest([1; 32]), Digest([2; 32]), Digest([third; 32])],
        client: Digest([client; 32]),
    };
    let digests: HashSet<String> = [
        good.clone(),
        good.with_roots(roots(3, 4)),
        good.with_roots(roots(4, 3)),
        manifest(11, 20).unwrap(),
        manifest(10, 21).unwrap(),
        Manifest::new(SharingId([6; 16]), 10, 20, Element::U8, good.search).unwrap(),
        Manifest::new(good.sharing, 10, 20, Element::F32, good.search).unwrap(),
        Manifest::new(good.sharing, 10, 20, Element::U8, false).unwrap(),
    ]
    .iter()
    .map(|manifest| manifest.digest().to_string())
    .collect();
    assert_eq!(digests.len(), 8);
    for party in Party::ALL {
        assert_eq!(good.for_party(party).digest(), good.digest());
    }
    let json = String::from_utf8(good.to_json().unwrap()).unwrap();
    for (from, to) in [
        ("\"version\": 2", "\"version\": 1"),
        ("\"rows\": 10", "\"rows\": -1"),
        ("\"rows\": 10", "\"rows\": 1e99"),
        ("\"party\": null", "\"party\": 4"),
        ("\"party\": null", "\"party\": null, \"more\": 1"),
        ("0505", "05"),
        ("0505", "+505"),
        ("u8", "f64"),
    ] {
        assert!(json.contains(from));
        assert!(Manifest::parse(json.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    let padded = |length: usize| format!("{json}{}", " ".repeat(length - json.len()));
    assert!(matches!(Manifest::parse(padded(MAX_BYTES).as_bytes()), Err(ManifestError::Damaged)));
    assert!(matches!(Manifest::parse(padded(MAX_BYTES + 1).as_bytes()), Err(ManifestError::TooLong(_))));
}

#[test]
fn a_manifest_of_another_version_says_so() {
    let old = r#"{ "version": 1, "sharing": "05050505050505050505050505050505", "rows": 10 }"#;
    let error = Manifest::parse(old.as_bytes()).unwrap_err();
    assert!(matches!(error, ManifestError::Version(1)) && error.to_string().contains("share the data again"));
}

#[test]
fn the_largest_manifest_is_read() {
    let pins = Pins::new([1, 2, 3].map(|byte| Pin([byte; 32]))).unwrap();
    let large = manifest(MAX_ROWS, MAX_DIM).unwrap().with_pins(Some(pins));
    let json = large.for_party(Party::ALL[2]).to_json().unwrap();
    assert!(json.len() < MAX_BYTES / 2 && Manifest::parse(&json).is_ok());
}

#[test]
fn pins_are_part_of_the_digest() {
    let bare = manifest(10, 20).unwrap();
    assert!(!String::from_utf8(bare.to_json().unwrap()).unwrap().contains("pins"));
    let pins = |bytes: [u8; 3]| Pins::new(bytes.map(|byte| Pin([byte; 32])));
    let all = [[1, 2, 3], [2, 1, 3], [1, 3, 2], [4, 2, 3]].map(|bytes| bare.with_pins(pins(bytes).ok()));
    let digests: HashSet<String> =
        all.iter().chain([&bare]).map(|manifest| manifest.digest().to_string()).collect();
    assert_eq!(digests.len(), 5);
    for manifest in &all {
        assert_eq!(&Manifest::parse(&manifest.to_json().unwrap()).unwrap(), manifest);
        assert_eq!(manifest.for_party(Party::ALL[1]).digest(), manifest.digest());
    }
    let json = String::from_utf8(all[0].to_json().unwrap()).unwrap();
    let [first, second] = [1, 2].map(|byte| format!("\"{}\"", Pin([byte; 32])));
    for (from, to) in [
        (&first, &first.replace("01", "1")),
        (&first, &first.replace("01", "g1")),
        (&first, &"null".into()),
        (&first, &second),
        (&first, &format!("{first}, {first}")),
        (&format!("{first},"), &String::new()),
    ] {
        assert!(json.contains(from.as_str()));
        assert!(Manifest::parse(json.replacen(from.as_str(), to, 1).as_bytes()).is_err(), "{to}");
    }
}
