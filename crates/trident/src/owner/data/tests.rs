use proptest::prelude::*;

use super::npy::Array;
use super::*;
use crate::agreed::manifest::{MAX_DIM, MAX_ROWS};

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn fvecs_bytes(rows: &[Vec<f32>]) -> Vec<u8> {
    rows.iter()
        .flat_map(|row| {
            let dim = (row.len() as u32).to_le_bytes();
            dim.into_iter().chain(row.iter().flat_map(|value| value.to_le_bytes())).collect::<Vec<u8>>()
        })
        .collect()
}

fn npy_bytes(header: &str, data: &[u8]) -> Vec<u8> {
    npy_of_version(1, header, data)
}

/// From version 2 on the length of the header has four bytes.
fn npy_of_version(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    let length = if version == 1 { &length[..2] } else { &length };
    [&b"\x93NUMPY"[..], &[version, 0], length, header.as_bytes(), data].concat()
}

#[test]
fn fvecs_are_read_from_any_row() {
    let rows: Vec<Vec<f32>> = (0..10u8).map(|i| vec![f32::from(i), 0.5, -3.25]).collect();
    let (_dir, path) = file("a.fvecs", &fvecs_bytes(&rows));
    let mut source = open(&path, None).unwrap();
    assert_eq!((source.rows(), source.dim()), (10, 3));
    assert_eq!(source.read_all().unwrap(), rows);
    let mut two = [0.0; 6];
    source.read(7, &mut two).unwrap();
    assert_eq!(two.as_slice(), [rows[7].as_slice(), &rows[8]].concat());
    assert!(source.read(9, &mut two).is_err());
}

#[test]
fn malformed_files_are_refused_with_their_name() {
    let good = fvecs_bytes(&[vec![1.0, 2.0], vec![3.0, 4.0]]);
    let mut other_dim = good.clone();
    other_dim[12] = 3;
    for (name, bytes) in [
        ("empty.fvecs", vec![]),
        ("short.fvecs", good[..good.len() - 1].to_vec()),
        ("zero.fvecs", vec![0; 8]),
        ("huge.fvecs", vec![0xff; 8]),
        ("other.fvecs", other_dim),
        ("magic.npy", vec![0; 100]),
        ("length.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()),
        ("rows.npy", npy_bytes("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }", &[0; 4])),
    ] {
        let (_dir, path) = file(name, &bytes);
        let error = open(&path, None).and_then(|mut source| source.read_all()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let (_dir, path) = file("raw.bin", &[0; 9]);
    assert!(open(&path, None).is_err() && open(&path, Some(2)).is_err() && open(&path, Some(0)).is_err());
    assert_eq!(open(&path, Some(3)).unwrap().rows(), 3);
}

#[test]
fn rows_have_as_many_elements_as_may_be_and_no_more() {
    for (dim, taken) in [(1, true), (MAX_DIM, true), (MAX_DIM + 1, false)] {
        let row = vec![1.0; dim];
        let (_dir, path) = file("a.fvecs", &fvecs_bytes(std::slice::from_ref(&row)));
        // What raw bytes would have is nothing to a file that says itself what it has.
        let read = open(&path, Some(3)).and_then(|mut rows| rows.read_all());
        assert_eq!(read.ok(), taken.then(|| vec![row]), "{dim}");
        let ivecs = read_ivecs(&path).ok().map(|rows| rows[0].len());
        assert_eq!(ivecs, taken.then_some(dim));
        let (_dir, path) = file("raw", &vec![7; 2 * dim]);
        assert_eq!(
            open(&path, Some(dim)).ok().map(|rows| (rows.rows(), rows.dim())),
            taken.then_some((2, dim))
        );
    }
}

#[test]
fn a_row_of_another_dimension_is_named_by_its_place_in_the_file() {
    let mut bytes = fvecs_bytes(&vec![vec![1.0, 2.0]; 4]);
    bytes[3 * 12] = 1;
    let (_dir, path) = file("a.fvecs", &bytes);
    let mut two = [0.0; 4];
    let mut rows = open(&path, None).unwrap();
    assert!(rows.read(1, &mut two).is_ok());
    let said = rows.read(2, &mut two).unwrap_err().to_string();
    assert!(said.ends_with("a.fvecs: row 3 is not of dimension 2"), "{said}");
    let said = read_ivecs(&path).unwrap_err().to_string();
    assert!(said.ends_with("a.fvecs: row 3 is not of dimension 2"), "{said}");
}

#[test]
fn an_npy_file_begins_with_its_whole_magic() {
    let header = "{'shape': (1, 1), 'fortran_order': False, 'descr': '|u1'}";
    let good = npy_bytes(header, &[1]);
    for at in 0..6 {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let (_dir, path) = file("a.npy", &bytes);
        let Err(error) = open(&path, None) else { panic!("byte {at} is not looked at") };
        assert!(error.to_string().ends_with("does not start as an npy file does"), "{error}");
    }
}

#[test]
fn npy_of_floats_and_of_bytes() {
    let floats: Vec<u8> = [1.5f32, -2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let (_dir, path) =
        file("a.npy", &npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }  \n", &floats));
    assert_eq!(open(&path, None).unwrap().read_all().unwrap(), [[1.5, -2.0], [3.0, 4.0]]);
    let (_dir, path) =
        file("b.npy", &npy_bytes("{'shape': (1, 3), 'fortran_order': False, 'descr': '|u1'}", &[0, 7, 255]));
    assert_eq!(open(&path, None).unwrap().read_all().unwrap(), [[0.0, 7.0, 255.0]]);
}

#[test]
fn an_npy_header_is_as_long_as_it_says_in_every_version_up_to_a_limit() {
    let header = "{'shape': (2, 2), 'fortran_order': False, 'descr': '|u1'}";
    for version in [1, 2, 3] {
        for (length, taken) in [(header.len(), true), (4096, true), (4097, false)] {
            let (_dir, path) =
                file("a.npy", &npy_of_version(version, &format!("{header:length$}"), &[1, 2, 3, 4]));
            match open(&path, None).and_then(|mut source| source.read_all()) {
                Ok(rows) => assert!(taken && rows == [[1.0, 2.0], [3.0, 4.0]], "{rows:?}"),
                Err(error) => assert!(!taken, "version {version}, {length} bytes: {error}"),
            }
        }
    }
}

#[test]
fn an_npy_file_that_is_refused_says_what_was_found_and_what_is_wanted() {
    let array = |descr: &str, fortran: &str, shape: &str| {
        npy_bytes(
            &format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"),
            &[0; 32],
        )
    };
    let types = "wanted are '<f4' or '|u1'";
    let shapes = "wanted are two dimensions above zero";
    for (bytes, found, wanted) in [
        (array("'<f8'", "False", "(2, 2)"), "type '<f8'", types),
        (array("'>f4'", "False", "(2, 4)"), "type '>f4'", types),
        (array("'<i8'", "False", "(2, 2)"), "type '<i8'", types),
        (array("[('x', '<f4')]", "False", "(2, 2)"), "type [('x'", types),
        (array("'<f4'", "True", "(2, 4)"), "fortran_order True", "wanted is False"),
        (array("'<f4'", "False", "(8,)"), "shape (8,)", shapes),
        (array("'<f4'", "False", "()"), "shape ()", shapes),
        (array("'<f4'", "False", "(1, 2, 4)"), "shape (1, 2, 4)", shapes),
        (array("'<f4'", "False", "(-2, 4)"), "shape (-2, 4)", shapes),
        (array("'<f4'", "False", "(0, 4)"), "shape (0, 4)", shapes),
        (array("'<f4'", "False", "(2, 0)"), "shape (2, 0)", shapes),
        (array("'\u{1b}[2J\u{7f}\u{e9}'", "False", "(2, 2)"), "type ' [2J  '", types),
        (array("'<f4'", "False", "(2, 5)"), "32 bytes", "whole rows, of 20 bytes"),
        (array("'<f4'", "False", "(3, 4)"), "holds 2 rows", "its header says 3"),
        (npy_bytes("{'shape': (2, 2)}", &[]), "has no 'descr'", "in its header"),
        (npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", &[]), "no rows", ""),
        (b"\x93NUMPY\x01\x00".to_vec(), "ends after 8 bytes", ""),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "4294967295 bytes", "at most 4096"),
        (b"hello, world".to_vec(), "does not start as an npy file does", ""),
        (Vec::new(), "is empty", ""),
    ] {
        let (_dir, path) = file("set.npy", &bytes);
        let Err(error) = open(&path, None) else { panic!("{found} is taken") };
        let error = error.to_string();
        assert!(error.contains("set.npy: ") && error.contains(found) && error.contains(wanted), "{error}");
    }
}

#[test]
fn a_generated_set_is_the_same_however_it_is_read_and_is_like_sift() {
    let mut set = Generated::new(1_000, 7);
    let rows = set.read_all().unwrap();
    let mut run = vec![0.0; 300 * 128];
    set.read(500, &mut run).unwrap();
    assert_eq!(run, rows[500..800].concat());
    assert_eq!(Generated::new(1_000, 7).read_all().unwrap(), rows);
    assert_ne!(Generated::new(1_000, 8).read_all().unwrap(), rows);
    assert!(rows.concat().iter().all(|value| (0.0..=218.0).contains(value) && value.fract() == 0.0));
    let queries = set.queries(5);
    assert!(queries.iter().all(|query| !rows.contains(query)));
    // Clustered: the nearest of a hundred siblings is much nearer than a row of another cluster.
    let nearest = true_neighbours(&mut set, &queries, 1_000).unwrap();
    assert!(nearest.iter().all(|ranked| ranked[0].1 * 4.0 < ranked[900].1));
}

#[test]
fn siftsmall_has_the_true_neighbours_that_came_with_it() {
    let Some(dir) = siftsmall() else { return };
    let queries = open(&dir.join("siftsmall_query.fvecs"), None).unwrap().read_all().unwrap();
    let truth = read_ivecs(&dir.join("siftsmall_groundtruth.ivecs")).unwrap();
    let mut base = open(&dir.join("siftsmall_base.fvecs"), None).unwrap();
    let all = base.read_all().unwrap();
    let found = true_neighbours(base.as_mut(), &queries[..10], 100).unwrap();
    for ((query, truth), found) in queries.iter().zip(&truth).zip(&found) {
        // Equal distances may come in any order, so distances are compared.
        let distance = |&row: &u32| {
            all[row as usize].iter().zip(query).map(|(a, b)| f64::from((a - b).powi(2))).sum::<f64>()
        };
        assert_eq!(
            found.iter().map(|(_, d)| *d).collect::<Vec<_>>(),
            truth.iter().map(distance).collect::<Vec<_>>()
        );
    }
}

proptest! {
    #[test]
    fn any_header_parses_or_is_refused(header in ".{0,200}") {
        let _ = Array::parse(&header);
    }

    #[test]
    fn any_npy_and_fvecs_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), named: bool) {
        let mut bytes = bytes;
        if named { bytes.splice(0..0, *b"\x93NUMPY\x01\x00\x20\x00"); }
        for name in ["a.npy", "a.fvecs"] {
            let (_dir, path) = file(name, &bytes);
            let _ = open(&path, None).and_then(|mut source| source.read_all());
        }
    }
}

#[test]
fn a_file_that_is_longer_or_shorter_by_a_byte_is_refused_in_every_format() {
    let header = "{'shape': (2, 3), 'fortran_order': False, 'descr': '|u1'}";
    for (name, bytes) in [
        ("a.fvecs", fvecs_bytes(&[vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]])),
        ("a.npy", npy_bytes(header, &[1, 2, 3, 4, 5, 6])),
        ("a.raw", vec![1, 2, 3, 4, 5, 6]),
    ] {
        let longer = [&bytes[..], &[0]].concat();
        for (bytes, taken) in [(&bytes[..bytes.len() - 1], false), (&bytes, true), (&longer, false)] {
            let (_dir, path) = file(name, bytes);
            let read = open(&path, Some(3)).and_then(|mut rows| rows.read_all());
            let rows = vec![vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]];
            assert_eq!(read.ok(), taken.then_some(rows), "{name} of {} bytes", bytes.len());
            assert_eq!(read_ivecs(&path).is_ok(), taken && name == "a.fvecs", "{name}");
        }
    }
}

#[test]
fn floats_are_read_bit_by_bit() {
    let floats = [-0.0, f32::from_bits(1), f32::MAX, f32::NEG_INFINITY, f32::from_bits(0x7fc0_1234)];
    let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = "{'shape': (1, 5), 'fortran_order': False, 'descr': '<f4'}";
    for (name, bytes) in [("a.fvecs", fvecs_bytes(&[floats.to_vec()])), ("a.npy", npy_bytes(header, &bytes))]
    {
        let (_dir, path) = file(name, &bytes);
        let read = open(&path, None).unwrap().read_all().unwrap();
        assert_eq!(
            read.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
            floats.map(f32::to_bits)
        );
    }
}

#[test]
fn a_file_has_as_many_rows_as_a_collection_may_have_and_no_more() {
    let (_dir, path) = file("a.raw", &[]);
    for (rows, taken) in [(MAX_ROWS, true), (MAX_ROWS + 1, false)] {
        // A hole, which takes no room on the disk.
        std::fs::File::options().write(true).open(&path).unwrap().set_len(rows as u64).unwrap();
        assert_eq!(open(&path, Some(1)).ok().map(|file| file.rows()), taken.then_some(rows));
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error_of_the_system_that_names_it() {
    let (_dir, path) = file("a.raw", &[7; 8]);
    let mut rows = open(&path, Some(2)).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
    let mut row = [0.0; 2];
    assert!(rows.read(1, &mut row).is_ok());
    assert!(matches!(rows.read(2, &mut row), Err(DataError::Io { path: named, .. }) if named == path));
    assert!(matches!(rows.read(4, &mut row), Err(DataError::Format { path: named, .. }) if named == path));
}

#[test]
fn what_is_no_regular_file_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for refused in [open(dir.path(), Some(3)).map(drop), read_ivecs(dir.path()).map(drop)] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(&dir.path().display().to_string()), "{said}");
        assert!(said.contains("it is not a regular file"), "{said}");
    }
}

/// Figures that were measured on a set mean something for as long as it is the same.
#[test]
fn a_generated_set_is_what_it_was_in_earlier_versions() {
    let mut set = Generated::new(1_000, 7);
    let digest = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().map(|&value| value as u8).collect();
        blake3::hash(&bytes).to_hex()[..16].to_owned()
    };
    let rows = digest(&set.read_all().unwrap().concat());
    let queries = digest(&set.queries(3).concat());
    assert_eq!([rows, queries], ["d4649bb47a793088", "07fcdd39feac91fa"]);
}
