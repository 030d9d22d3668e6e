//! `roadstead trident verify`, and what servers and clients make of damaged directories.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::{Scene, words};
use serde_json::Value;

const DIRECTORIES: [&str; 4] = ["server-1", "server-2", "server-3", "client"];

fn verify(scene: &Scene, directories: &[&str], more: &str) -> (Option<i32>, String) {
    let mut arguments = words("trident verify");
    arguments.extend(directories.iter().map(|name| scene.path("shares").join(name).display().to_string()));
    let output = scene.run([arguments, words(more)].concat());
    // Lines for people make way for JSON on stdout.
    let said = String::from_utf8(output.stderr).unwrap();
    let odd = said.lines().last().is_some_and(|last| {
        last.starts_with("roadstead: ") && last.ends_with("directories are not as they were shared")
    });
    assert_eq!(odd, !output.status.success(), "{said}");
    assert_eq!(said.lines().count() <= usize::from(odd), more.is_empty(), "{said}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_named_by_file_and_block_and_fails() {
    let scene = Scene::new();
    let shared = scene.share(2_000, false);
    let (code, said) = verify(&scene, &DIRECTORIES, "");
    assert_eq!((code, said.lines().count()), (Some(0), 4), "{said}");
    assert!(said.contains("bytes of server 2, all as they were shared"), "{said}");

    let damaged = scene.path("shares/server-2/search.bin");
    let block = 64 * 129 * 64;
    flip(&damaged, block + 5);
    let missing = scene.path("shares/client/digests.bin");
    fs::remove_file(&missing).unwrap();
    let (code, said) = verify(&scene, &DIRECTORIES, "");
    assert_eq!(code, Some(1), "{said}");
    let end = fs::metadata(&damaged).unwrap().len();
    let named = format!("{} is damaged in block 2 of 2 (bytes {block} to {})", damaged.display(), end - 1);
    assert!(said.contains(&named) && said.contains(&missing.display().to_string()), "{said}");

    let (code, said) = verify(&scene, &DIRECTORIES, "--json -");
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, json.as_array().unwrap().len()), (Some(1), 4));
    assert_eq!(
        (json[0]["holder"].as_str(), json[0]["faults"].as_array().unwrap().len()),
        (Some("server 1"), 0)
    );
    let fault = &json[1]["faults"][0];
    assert_eq!(fault["file"], damaged.display().to_string());
    let damage = ["first_block", "last_block", "blocks", "first_byte", "end_byte"]
        .map(|name| fault["damage"][name].as_u64().unwrap());
    assert_eq!(damage, [2, 2, 2, block as u64, end]);
    let files = fs::read_dir(scene.path("shares/server-1")).unwrap().map(Result::unwrap);
    // All but those that the others are verified by.
    let files =
        files.filter(|file| !["manifest.json", "blocks.bin"].map(Into::into).contains(&file.file_name()));
    assert_eq!(json[0]["bytes"], files.map(|file| file.metadata().unwrap().len()).sum::<u64>(), "{json}");
    assert_eq!(json[0]["directory"], scene.path("shares/server-1").display().to_string());
    assert_eq!(json[3]["faults"][0]["file"], missing.display().to_string());
    assert_eq!(json[0]["manifest"], json[3]["manifest"]);
    let told =
        format!("shared 2000 rows of 128 elements, manifest {}\n", json[0]["manifest"].as_str().unwrap());
    assert!(shared.starts_with(&told), "{shared}");

    let (code, said) = verify(&scene, &["nowhere"], "");
    assert!(code == Some(1) && said.contains("nowhere/manifest.json"), "{said}");
}

#[test]
fn directories_that_do_not_go_together_are_told_apart() {
    let scene = Scene::new();
    scene.share(50, false);
    fs::rename(scene.path("shares"), scene.path("before")).unwrap();
    scene.share(50, false);
    let before = |name: &str| scene.path("before").join(name).display().to_string();
    let (old_server, old_client) = (before("server-2"), before("client"));
    for (directories, odd) in [
        (vec!["server-1", old_server.as_str(), "server-3"], "server-2 is of another sharing than "),
        (vec!["server-1", "client", old_client.as_str()], "client is of another sharing than "),
        (vec!["server-1", "server-3", "server-1"], "server-1 is of the same server as "),
    ] {
        let (code, said) = verify(&scene, &directories, "");
        assert!(code == Some(1) && said.lines().count() == 3 && said.contains(odd), "{said}");
        let (code, said) = verify(&scene, &directories, "--json -");
        assert!(code == Some(1) && said.contains(odd), "{said}");
    }
    let (code, said) = verify(&scene, &["client", "server-2", "client"], "");
    assert_eq!(code, Some(0), "a client may have several: {said}");
}

#[test]
fn nobody_starts_on_a_damaged_directory() {
    let scene = Scene::new();
    scene.share(300, false);
    for file in ["component-2.bin", "search.bin", "pair-12.key", "blocks.bin", "manifest.json"] {
        let path = scene.path("shares/server-1").join(file);
        flip(&path, 17);
        for memory in ["", "--search-memory 0"] {
            let error = scene.fails(scene.server(1, &format!("--bind 127.0.0.1:0 {memory}")));
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        flip(&path, 17);
    }
    let digests = scene.path("shares/client/digests.bin");
    flip(&digests, 4_000);
    let client = scene.path("shares/client");
    let line = format!(
        "trident fetch 1 --servers 127.0.0.1:1,127.0.0.1:1,127.0.0.1:1 --client {}",
        client.display()
    );
    let error = scene.fails(words(&line));
    assert!(error.starts_with(&format!("{} is damaged in block 1 of 1", digests.display())), "{error}");
}

#[test]
fn where_search_shares_are_is_said() {
    let scene = Scene::new();
    scene.share(300, false);
    // It ends at once, as it may not listen there.
    let said = |more: &str| {
        let output = scene.run(scene.server(1, &format!("--bind 0.0.0.0:0 -v {more}")));
        String::from_utf8(output.stderr).unwrap()
    };
    for (more, place) in
        [("", "in memory"), ("--search-memory 0", "on disk"), ("--search-memory 1", "in memory")]
    {
        let said = said(more);
        assert!(said.contains(&format!("search_shares=\"{place}\"")), "{said}");
    }
}

#[test]
fn a_server_that_has_no_room_for_its_search_shares_says_that_they_stay_on_disk_unless_it_was_told_so() {
    let scene = Scene::new();
    scene.share(300, false);
    // Without a block of its own on the disk.
    let large = fs::File::create(scene.path("shares/server-1/large")).unwrap();
    large.set_len(1 << 42).unwrap();
    let said = |more: &str| {
        let output = scene.run(scene.server(1, &format!("--bind 0.0.0.0:0 {more}")));
        String::from_utf8(output.stderr).unwrap()
    };
    let warned = said("");
    assert!(warned.contains("WARN") && warned.contains("search shares stay on disk"), "{warned}");
    assert!(warned.contains(&format!("there are {} MiB of shares", 1 << 22)), "{warned}");
    for told in ["--search-memory 0", "--search-memory 1"] {
        let said = said(told);
        assert!(!said.contains("stay on disk"), "{said}");
    }
    large.set_len(0).unwrap();
    assert!(!said("").contains("stay on disk"));
    large.set_len(1 << 42).unwrap();
    fs::remove_file(scene.path("shares/server-1/search.bin")).unwrap();
    assert!(!said("").contains("stay on disk"), "there are none");
}
