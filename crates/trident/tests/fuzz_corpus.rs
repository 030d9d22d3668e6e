//! Plays the fuzz corpora of Trident: what holds for every input holds for these on any toolchain.
//!
//! `cargo test -p roadstead-trident --test fuzz_corpus -- --ignored` writes the seeds anew.

#[path = "../../../fuzz/properties/admission.rs"]
mod admission;
#[path = "../../../fuzz/properties/answers.rs"]
mod answers;
#[path = "../../../fuzz/properties/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/properties/dataset.rs"]
mod dataset;
#[path = "../../../fuzz/properties/sharing.rs"]
mod sharing;

use roadstead_tls::Pin;
use roadstead_trident::{
    admission::{Admission, Admitted},
    dpf::{Domain, generate},
    fuzz,
    integrity::Roots,
    manifest::{Digest, Element, Manifest, SharingId},
    party::Party,
    prg::Expander,
    query::Body,
    reshare::{add_up, reshare},
    selector,
    trust::Pins,
    wire::{Hello, Kind, Refusal, VERSION, Welcome, encode_nonces},
};

use corpus::Corpus;
use sharing::{rng, sharing};

type Seeds = Vec<(String, Vec<u8>)>;

fn named<const N: usize>(seeds: [(&str, Vec<u8>); N]) -> Seeds {
    seeds.map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

fn expander() -> Expander {
    Expander::new(&Digest([0; 32]), &sharing::NONCES)
}

fn keys() -> Corpus {
    let mut seeds = Seeds::new();
    for rows in [1usize, 128, 129, 300, 1025, 10_000] {
        let before = ((rows - 1) as u16).to_le_bytes();
        for (role, key) in
            ["first", "second"].iter().zip(generate(Domain::new(rows), rows / 2, &expander(), &mut rng()))
        {
            seeds.push((format!("{rows}-{role}"), [&before[..], key.as_bytes()].concat()));
        }
    }
    let (_, whole) = seeds[6].clone();
    let mut stray = whole.clone();
    let control = stray.len() - 17;
    stray[control] |= 0x80;
    seeds.extend(named([("stray-bit", stray), ("cut", whole[..whole.len() - 1].to_vec())]));
    Corpus { target: "keys", seeds, check: fuzz::keys }
}

fn selectors() -> Corpus {
    let mut seeds = Seeds::new();
    for rows in [1usize, 4, 5, 17, 1025, 10_000] {
        let before = ((rows - 1) as u16).to_le_bytes();
        let domain = selector::Domain::new(rows);
        for (party, [key, _]) in
            (1..).zip(selector::share(domain, rows / 2, &[1, 2, 3], &expander(), &mut rng()))
        {
            seeds.push((format!("{rows}-{party}"), [&before[..], key.as_bytes()].concat()));
        }
    }
    let (_, whole) = seeds[6].clone();
    let (mut stray, mut unreduced) = (whole.clone(), whole.clone());
    let length = whole.len();
    stray[length - 49] |= 0x80;
    unreduced[length - 4..].copy_from_slice(&[0xff; 4]);
    let cut = whole[..length - 1].to_vec();
    seeds.extend(named([("stray-bit", stray), ("unreduced", unreduced), ("cut", cut)]));
    Corpus { target: "selectors", seeds, check: fuzz::selectors }
}

fn parts() -> Corpus {
    let messages: Vec<Vec<u8>> =
        Party::ALL.map(|party| reshare(party, &[1, 2, 3, 4, 5, 6], &mut rng())[0].clone()).into();
    let mut unreduced = messages.concat();
    unreduced[20..24].copy_from_slice(&[0xff; 4]);
    let seeds = named([
        ("whole", messages.concat()),
        ("cut", messages.concat()[..71].to_vec()),
        ("unreduced", unreduced),
        ("nothing", Vec::new()),
    ]);
    Corpus { target: "parts", seeds, check: fuzz::parts }
}

fn manifests() -> Corpus {
    let manifest = |element, search| {
        Manifest::new(SharingId([9; 16]), 10_000, 128, element, search).expect("the shape is allowed")
    };
    let bytes = manifest(Element::U8, true);
    let floats = manifest(Element::F32, true);
    let pins = Pins::new([1, 2, 3].map(|byte| Pin([byte; 32]))).expect("they differ");
    let roots = Roots { servers: [4, 5, 6].map(|byte| Digest([byte; 32])), client: Digest([7; 32]) };
    let json = |manifest: &Manifest| manifest.to_json().expect("a manifest is JSON");
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(json(&bytes)).expect("JSON is text");
        assert!(text.contains(from), "{from} is in {text}");
        text.replace(from, to).into_bytes()
    };
    let seeds = named([
        ("bytes", json(&bytes)),
        ("floats", json(&floats)),
        ("fetch-only", json(&manifest(Element::F32, false))),
        ("of-a-server", json(&bytes.for_party(Party::ALL[2]))),
        ("version", changed("\"version\": 2", "\"version\": 1")),
        ("pins", json(&bytes.with_pins(Some(pins)))),
        ("no-rows", changed("\"rows\": 10000", "\"rows\": 0")),
        ("unknown-field", changed("{", "{ \"colour\": 1,")),
        ("roots", json(&bytes.with_roots(roots))),
        ("check", changed("\"check\": \"", "\"check\": \"0")),
        ("padded", [&json(&bytes)[..], b" "].concat()),
        ("cut", json(&bytes)[..60].to_vec()),
    ]);
    Corpus { target: "manifest", seeds, check: fuzz::manifest }
}

fn scales() -> Corpus {
    let file = |exponent: i32, shifts: &[u8]| [&[7; 16][..], &exponent.to_le_bytes(), shifts].concat();
    let seeds = named([
        ("bytes", file(0, &[0; 3])),
        ("floats", file(13, &[0, 1, 0, 5, 6, 255])),
        ("no-exponent", file(171, &[0])),
        ("no-rows", file(0, &[])),
        ("cut", file(0, &[])[..19].to_vec()),
    ]);
    Corpus { target: "scales", seeds, check: fuzz::scales }
}

fn messages() -> Corpus {
    let (party, digest) = (Party::ALL[1], Digest([5; 32]));
    let welcome = Welcome { version: VERSION, party, digest, nonce: [6; 16] };
    let refusal = Refusal { counter: 3, code: 7, text: "a selection key is malformed".into() };
    let long = Refusal { text: "ä".repeat(300), ..refusal.clone() };
    let [fetched, ..] = honest(Kind::Fetch, &answers::fetch().1);
    let [searched, ..] = honest(Kind::Search, &answers::search(false).1);
    let [share, ..] = honest(Kind::FetchShare, &answers::fetch_shared().1);
    let mut unreduced = searched.clone();
    unreduced[8..12].copy_from_slice(&[0xff; 4]);
    let body = |kind: Kind, body: &[u8]| [&[kind as u8], body].concat();
    let seeds = named([
        ("hello", body(Kind::Hello, &Hello { version: VERSION, party, digest }.encode())),
        ("welcome", body(Kind::Welcome, &welcome.encode())),
        ("nonces", body(Kind::Nonces, &encode_nonces(&sharing::NONCES))),
        ("fetch", body(Kind::Fetch, &answers::fetch().1[0])),
        ("search", body(Kind::Search, &answers::search(true).1[0])),
        ("fetched", body(Kind::Fetched, &fetched)),
        ("searched", body(Kind::Searched, &searched)),
        ("fetch-share", body(Kind::FetchShare, &answers::fetch_shared().1[0])),
        ("fetched-share", body(Kind::FetchedShare, &share)),
        ("unreduced", body(Kind::Searched, &unreduced)),
        ("refusal", body(Kind::Refusal, &refusal.encode())),
        ("long-refusal", body(Kind::Refusal, &long.encode())),
        ("no-party", body(Kind::Hello, &[[1, 0, 4].as_slice(), &[0; 32]].concat())),
        ("no-kind", vec![99, 0, 0]),
    ]);
    Corpus { target: "messages", seeds, check: fuzz::messages }
}

/// The messages with which a client begins, for the server of that number.
fn hello(party: Party) -> [(Kind, Vec<u8>); 2] {
    let hello = Hello { version: VERSION, party, digest: sharing().client.digest() };
    [(Kind::Hello, hello.encode()), (Kind::Nonces, encode_nonces(&sharing::NONCES))]
}

/// What honest servers answer to a request.
fn honest(kind: Kind, requests: &[Body; 3]) -> [Vec<u8>; 3] {
    let mut sums: [Vec<u32>; 3] = Default::default();
    let answers = Party::ALL.map(|party| {
        let store = &sharing().stores[party.index()];
        let mut connection = Admission::new(sharing::NONCES[party.index()]);
        for (kind, body) in hello(party) {
            connection.receive(store, kind, &body).expect("the hello is honest");
        }
        match connection.receive(store, kind, &requests[party.index()]).expect("the request is honest") {
            Admitted::Fetch(query) => store.fetch(&[query]).remove(0),
            Admitted::Search(query) => store.search(&[query]).expect("shares are in memory").remove(0),
            Admitted::FetchShare(query) => {
                sums[party.index()] = store.combine(&[query]).expect("shares are in memory").remove(0);
                Vec::new()
            }
            other => panic!("{other:?} is no request"),
        }
    });
    if kind != Kind::FetchShare {
        return answers;
    }
    let messages = Party::ALL.map(|party| reshare(party, &sums[party.index()], &mut rng()));
    Party::ALL.map(|party| {
        let parts = messages.each_ref().map(|messages| messages[party.index()].as_slice());
        add_up(sharing().client.manifest(), answers::COUNTER, parts).expect("the parts are honest")
    })
}

fn admissions() -> Corpus {
    let conversation = |messages: &[(Kind, Vec<u8>)]| {
        let message = |(kind, body): &(Kind, Vec<u8>)| {
            [&[*kind as u8][..], &(body.len() as u16).to_le_bytes(), body].concat()
        };
        messages.iter().flat_map(message).collect::<Vec<u8>>()
    };
    let begun = |then: &[(Kind, Vec<u8>)]| conversation(&[&hello(Party::ALL[0])[..], then].concat());
    let counted = |mut body: Vec<u8>, counter: u64| {
        body[..8].copy_from_slice(&counter.to_le_bytes());
        body
    };
    let fetch = answers::fetch().1[0].to_vec();
    let [checked, unchecked] = [true, false].map(|checked| answers::search(checked).1[0].to_vec());
    let shared = answers::fetch_shared().1[0].to_vec();
    let stolen = [[4; 16], sharing::NONCES[1], sharing::NONCES[2]];
    let seeds = named([
        ("fetch", begun(&[(Kind::Fetch, fetch.clone())])),
        (
            "all-three",
            begun(&[
                (Kind::Fetch, fetch.clone()),
                (Kind::Search, counted(unchecked, 2)),
                (Kind::Search, counted(checked, 900)),
            ]),
        ),
        ("fetch-share", begun(&[(Kind::FetchShare, shared.clone())])),
        (
            "fetch-share-after-fetch",
            begun(&[(Kind::Fetch, fetch.clone()), (Kind::FetchShare, counted(shared, 2))]),
        ),
        ("counter-repeated", begun(&[(Kind::Fetch, fetch.clone()), (Kind::Fetch, fetch.clone())])),
        ("key-cut", begun(&[(Kind::Fetch, fetch[..fetch.len() - 1].to_vec())])),
        ("another-party", conversation(&hello(Party::ALL[1]))),
        (
            "foreign-nonce",
            conversation(&[hello(Party::ALL[0])[0].clone(), (Kind::Nonces, encode_nonces(&stolen))]),
        ),
        ("no-hello", conversation(&[(Kind::Fetch, fetch)])),
    ]);
    Corpus { target: "admission", seeds, check: admission::check }
}

fn client_answers() -> Corpus {
    let answer = |asked: u8, answers: [Vec<u8>; 3]| [&[asked], &answers.concat()[..]].concat();
    let fetched = || honest(Kind::Fetch, &answers::fetch().1);
    let shared = || honest(Kind::FetchShare, &answers::fetch_shared().1);
    let searched = |checked| honest(Kind::Search, &answers::search(checked).1);
    let flipped = |mut answers: [Vec<u8>; 3]| {
        // The first byte behind the counter: of the row, or of the first score.
        answers[1][8] ^= 1;
        answers
    };
    let mut late = fetched();
    late[2][0] += 1;
    let seeds = named([
        ("fetched", answer(answers::FETCH, fetched())),
        ("fetched-flipped", answer(answers::FETCH, flipped(fetched()))),
        ("fetched-of-another-counter", answer(answers::FETCH, late)),
        ("searched", answer(answers::SEARCH, searched(true))),
        ("searched-flipped", answer(answers::SEARCH, flipped(searched(true)))),
        ("shared", answer(answers::SHARED, shared())),
        ("shared-flipped", answer(answers::SHARED, flipped(shared()))),
        ("unchecked", answer(answers::UNCHECKED, searched(false))),
        ("unchecked-flipped", answer(answers::UNCHECKED, flipped(searched(false)))),
    ]);
    Corpus { target: "answers", seeds, check: answers::check }
}

/// An array file of that version and header.
fn npy(version: u8, header: &str, rows: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    let length = if version == 1 { &length[..2] } else { &length[..] };
    [&[dataset::NPY][..], b"\x93NUMPY", &[version, 0], length, header.as_bytes(), rows].concat()
}

fn datasets() -> Corpus {
    let row = |elements: [u32; 2]| [2, elements[0], elements[1]].map(u32::to_le_bytes).concat();
    let vecs = |format: u8, rows: &[[u32; 2]]| {
        [vec![format], rows.iter().flat_map(|elements| row(*elements)).collect()].concat()
    };
    let floats = [[1.0f32.to_bits(), f32::NAN.to_bits()], [0, 2.5f32.to_bits()]];
    let mut uneven = vecs(dataset::FVECS, &floats);
    uneven[13] = 3;
    let header =
        |descr, shape| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let seeds = named([
        ("fvecs", vecs(dataset::FVECS, &floats)),
        ("fvecs-uneven", uneven),
        ("fvecs-cut", vecs(dataset::FVECS, &floats)[..20].to_vec()),
        ("ivecs", vecs(dataset::IVECS, &[[1, 2], [3, 4]])),
        ("npy-floats", npy(1, &header("<f4", "(1, 2)"), &[0; 8])),
        ("npy-bytes", npy(2, &header("|u1", "(2, 3)"), &[7; 6])),
        ("npy-too-many-rows", npy(1, &header("|u1", "(99999999999, 3)"), &[7; 6])),
        ("npy-flat", npy(1, &header("<f4", "(4,)"), &[0; 16])),
        ("raw", [&[dataset::IVECS + 3][..], &[8; 12]].concat()),
        ("raw-uneven", [&[dataset::IVECS + 5][..], &[8; 12]].concat()),
    ]);
    Corpus { target: "dataset", seeds, check: dataset::check }
}

#[test]
fn keys_are_judged_as_every_input_is() {
    keys().replay(14);
}

#[test]
fn selectors_are_judged_as_every_input_is() {
    selectors().replay(21);
}

#[test]
fn parts_are_judged_as_every_input_is() {
    parts().replay(4);
}

#[test]
fn manifests_are_judged_as_every_input_is() {
    manifests().replay(11);
}

#[test]
fn scales_are_judged_as_every_input_is() {
    scales().replay(5);
}

#[test]
fn messages_are_judged_as_every_input_is() {
    messages().replay(14);
}

#[test]
fn a_server_stands_every_conversation() {
    admissions().replay(9);
}

#[test]
fn a_client_takes_no_wrong_answer() {
    client_answers().replay(9);
}

#[test]
fn files_of_vectors_are_judged_as_every_input_is() {
    datasets().replay(10);
}

#[test]
#[ignore = "writes the seeds instead of testing them"]
fn write_the_seeds() {
    for corpus in [
        keys(),
        selectors(),
        parts(),
        manifests(),
        scales(),
        messages(),
        admissions(),
        client_answers(),
        datasets(),
    ] {
        corpus.write();
    }
}
