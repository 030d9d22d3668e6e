//! What a directory of the system's does as a disk, resolved by the system and part by part.

use std::{fs as system, os::unix::fs::PermissionsExt};

use roadstead_proto::blob::FileRange;
use rustix::fs::Mode;
use tempfile::TempDir;

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A directory as a disk, once for each way to resolve names.
fn disks() -> impl Iterator<Item = (TempDir, Directory)> {
    [true, false].into_iter().map(|resolves| {
        let home = tempfile::tempdir().unwrap();
        let mut disk = Directory::open(home.path()).unwrap();
        assert!(disk.0.resolves, "this system resolves beneath a directory");
        disk.0.resolves = resolves;
        system::create_dir(home.path().join("dir")).unwrap();
        (home, disk)
    })
}

fn content(disk: &Directory, of: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(&name(of), Opening::Read)?;
    let mut bytes = vec![0; file.size()? as usize + 1];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn a_new_file_is_its_owners_alone_and_never_one_that_is_there() {
    for (home, disk) in disks() {
        for at in ["new", "dir/new"] {
            let file = disk.open(&name(at), Opening::New).unwrap();
            file.append_all(b"0123").unwrap();
            file.write_all_at(b"45", 2).unwrap();
            file.append_all(b"67").unwrap();
            assert_eq!((content(&disk, at).unwrap(), file.size().unwrap()), (b"014567".to_vec(), 6));
            file.set_size(3).unwrap();
            file.sync().unwrap();
            assert_eq!(content(&disk, at).unwrap(), b"014");
            let mode = system::metadata(home.path().join(at)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let again = disk.open(&name(at), Opening::New).map(drop).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        }
        let missing = disk.open(&name("none"), Opening::Write).map(drop).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let read = disk.open(&name("new"), Opening::Read).unwrap();
        assert!(File::of(&FileRange::new(read.clone(), 0, 3)).is_some(), "the system sends it by itself");
        assert!(read.append(b"more").is_err() && read.write_at(b"more", 0).is_err());
    }
}

#[test]
fn nothing_outside_is_reached_by_a_link() {
    let outside = tempfile::tempdir().unwrap();
    system::write(outside.path().join("secret"), "secret").unwrap();
    for (home, disk) in disks() {
        let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, home.path().join(at)).unwrap();
        link(outside.path(), "out");
        link(&outside.path().join("secret"), "dir/secret");
        link(Path::new("../.."), "dir/up");
        link(Path::new("/proc/self/cwd"), "magic");
        system::write(home.path().join("inside"), "inside").unwrap();
        for at in ["out/secret", "dir/secret", "dir/up", "dir/up/etc/passwd", "magic/x"] {
            assert!(disk.open(&name(at), Opening::Read).is_err(), "{at}");
            assert!(disk.open(&name(at), Opening::Write).is_err(), "{at}");
            assert!(disk.lock(&name(at)).is_err(), "{at}");
        }
        assert!(disk.open(&name("out/new"), Opening::New).is_err());
        assert!(disk.rename(&name("inside"), &name("out/inside")).is_err());
        assert!(disk.rename(&name("out/secret"), &name("secret")).is_err());
        assert!(disk.remove(&name("out/secret")).is_err());
        assert!(disk.sync_dir(Some(&name("out"))).is_err());
        assert!(disk.list(Some(&name("out")), &mut |_| ControlFlow::Continue(())).is_err());
        // A link is removed and renamed as what it is.
        disk.rename(&name("dir/secret"), &name("moved")).unwrap();
        disk.remove(&name("moved")).unwrap();
        assert_eq!(system::read(outside.path().join("secret")).unwrap(), b"secret");
        assert_eq!(system::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_link_that_stays_below_is_followed_where_the_system_resolves() {
    for (home, disk) in disks() {
        system::write(home.path().join("dir/file"), "here").unwrap();
        std::os::unix::fs::symlink("dir/file", home.path().join("link")).unwrap();
        assert_eq!(content(&disk, "link").is_ok(), disk.0.resolves);
    }
}

#[test]
fn what_is_no_regular_file_is_not_opened_and_not_waited_for() {
    for (home, disk) in disks() {
        let pipe = home.path().join("pipe");
        fs::mknodat(fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for at in ["pipe", "dir"] {
            assert!(disk.open(&name(at), Opening::Read).is_err(), "{at}");
            assert!(disk.open(&name(at), Opening::Write).is_err(), "{at}");
            assert!(disk.lock(&name(at)).is_err(), "{at}");
        }
        assert!(disk.open(&name("dir/file/below"), Opening::Read).is_err());
    }
}

#[test]
fn a_file_takes_the_place_of_another_and_a_directory_is_listed() {
    for (home, disk) in disks() {
        for at in ["old", "dir/new"] {
            disk.open(&name(at), Opening::New).unwrap().append_all(at.as_bytes()).unwrap();
        }
        disk.rename(&name("dir/new"), &name("old")).unwrap();
        disk.sync_dir(None).unwrap();
        disk.sync_dir(Some(&name("dir"))).unwrap();
        assert_eq!(content(&disk, "old").unwrap(), b"dir/new");
        std::os::unix::fs::symlink("old", home.path().join("link")).unwrap();
        system::write(
            home.path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff")),
            "",
        )
        .unwrap();

        let list = |dir: Option<&Name>, most: usize| {
            let mut entries = Vec::new();
            let outcome = disk.list(dir, &mut |entry| {
                entries.push((entry.name.map(|name| name.to_string()), entry.kind));
                if entries.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            entries.sort_by_key(|(name, _)| name.clone());
            outcome.map(|()| entries)
        };
        let entry = |name: &str, kind| (Some(name.to_owned()), kind);
        let expected = [
            (None, Kind::File),
            entry("dir", Kind::Directory),
            entry("link", Kind::Other),
            entry("old", Kind::File),
        ];
        assert_eq!(list(None, usize::MAX).unwrap(), expected);
        assert_eq!(list(None, 2).unwrap().len(), 2);
        assert_eq!(list(Some(&name("dir")), usize::MAX).unwrap(), []);
        assert!(list(Some(&name("none")), 1).is_err() && list(Some(&name("old")), 1).is_err());
        disk.remove(&name("old")).unwrap();
        assert_eq!(disk.remove(&name("old")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn a_lock_is_one_holders_for_as_long_as_it_is_kept() {
    for (home, disk) in disks() {
        let held = disk.lock(&name("lock")).unwrap();
        let again = disk.lock(&name("lock")).map(drop).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        let other = Directory::open(home.path()).unwrap();
        assert!(other.lock(&name("lock")).is_err());
        drop(held);
        drop(other.lock(&name("lock")).unwrap());
    }
}
