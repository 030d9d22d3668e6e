//! Unix sockets: what a server does with TCP it does with these, and with their files what nobody minds.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Signal, kill_process_group};
use tempfile::TempDir;

use roadstead_conformance::{
    asks::ECHO,
    child::Child,
    client::{End, echo, end_of, eventually, frame, pattern, read_frame},
    foreign::Foreign,
    setting::Setting,
};

scenarios! {
    a_path_and_an_abstract_name_serve_as_an_address_does (Wires): "a megabyte comes back from each, and no limit per address counts who comes there",
    what_is_owed_goes_out_after_a_half_close_by_path (Wires): "requests that came before the peer's end are answered, and then comes the server's",
    many_come_by_one_path (Wires): "sixty at once, by whichever loop they are accepted, each get their own bytes",
    a_drain_closes_a_path_and_ends_who_came_by_it (Wires): "the file is gone, who was in is told, and the server ends",
    a_path_and_an_abstract_name_are_dialled (Wires): "a session's connection to either carries bytes and ends both ways",
    a_path_that_leads_nowhere_says_so (Wires): "where there is no file, or nobody listens, a session hears of it",
    a_full_listener_is_tried_until_there_is_room (Wires): "a connection that finds no room at a path is made when there is some, or given up in time",
    the_file_is_its_owners_alone_and_goes_with_its_server (Models): "mode 0600, whatever the umask; it is removed by whoever made it, and nobody else's is",
    a_path_has_one_server (Models): "a second is refused, whether it comes by path or by abstract name, and the first serves on",
    a_file_left_behind_is_taken_and_any_other_left_alone (Models): "after a server that was killed another can listen there; a file that is no socket stays as it was",
    socat_and_nc_come_by_path_and_by_abstract_name (Models): "clients that we did not write get back what they sent",
}

/// A directory, and the path of a socket in it.
struct Place {
    _dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("socket"), _dir: dir }
    }

    fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// A name that nobody else has, as the directory has not.
    fn abstract_name(&self) -> String {
        format!("unix:@{}", self.path.display())
    }

    /// The program with these words, on both.
    #[track_caller]
    fn serve(&self, setting: &Setting, line: &str) -> Child {
        Child::start(setting, &format!("{line} --bind {} --bind {}", self.address(), self.abstract_name()))
    }
}

fn a_path_and_an_abstract_name_serve_as_an_address_does(setting: &Setting) {
    let place = Place::new();
    let child = place.serve(setting, "echo --per-address 0");
    let sent = pattern(1 << 20);
    for number in 0..2 {
        let mut stream = child.try_connect_to(number).unwrap();
        echo(&mut stream, b"ahoy");
        thread::scope(|scope| {
            let mut writer = stream.another();
            let sent = &sent;
            scope.spawn(move || {
                writer.write_all(sent).unwrap();
                writer.finish().unwrap();
            });
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back == *sent, "{} bytes came back", back.len());
        });
    }
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["failed"], stats["bytes_in"]), (2, 0, 2 * (4 + (1 << 20))));
}

fn what_is_owed_goes_out_after_a_half_close_by_path(setting: &Setting) {
    let place = Place::new();
    let child = place.serve(setting, "desk");
    let mut stream = child.connect();
    let asked =
        [frame(ECHO, 0, b"one"), frame(ECHO, 0, &pattern(300_000)), frame(ECHO, 0, b"three")].concat();
    thread::scope(|scope| {
        let mut writer = stream.another();
        scope.spawn(move || {
            writer.write_all(&asked).unwrap();
            writer.finish().unwrap();
        });
        for body in [b"one".to_vec(), pattern(300_000), b"three".to_vec()] {
            assert_eq!(read_frame(&mut stream), (ECHO, body));
        }
        assert_eq!(end_of(&mut stream), End::Orderly);
    });
    drop(stream);
    assert_eq!(child.drain()["failed"], 0);
}

fn many_come_by_one_path(setting: &Setting) {
    let place = Place::new();
    let child = place.serve(setting, &format!("echo {}", setting.room_for(60)));
    let mut streams: Vec<_> = (0..60).map(|number| child.try_connect_to(number % 2).unwrap()).collect();
    for round in 0..3 {
        for (number, stream) in streams.iter_mut().enumerate() {
            echo(stream, &pattern(1 + 100 * number + round));
        }
    }
    drop(streams);
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["refused"], stats["failed"]), (60, 0, 0));
}

fn a_drain_closes_a_path_and_ends_who_came_by_it(setting: &Setting) {
    let place = Place::new();
    let mut child = place.serve(setting, "echo --linger 3600000");
    let mut stream = child.connect();
    echo(&mut stream, b"in");
    child.signal(Signal::TERM);
    eventually("who comes finds nobody", || !place.path.exists());
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    let stats = child.stats();
    assert_eq!((stats["accepted"], stats["failed"]), (1, 0));
    assert_eq!(child.try_connect_to(1).err().unwrap().kind(), ErrorKind::ConnectionRefused);
}

/// How the far side of the relayed connection ended.
#[track_caller]
fn fate(relay: &Child) -> String {
    eventually("the far side is closed", || !relay.said("far ").is_empty());
    relay.said("far ").remove(0)
}

fn a_path_and_an_abstract_name_are_dialled(setting: &Setting) {
    let place = Place::new();
    let far = place.serve(setting, "echo");
    for address in [place.address(), place.abstract_name()] {
        let near = Child::start(setting, &format!("relay --far {address} --linger 3600000"));
        let mut stream = near.connect();
        echo(&mut stream, b"there and back");
        for _ in 0..5 {
            echo(&mut stream, &pattern(100_000));
        }
        stream.finish().unwrap();
        assert_eq!(end_of(&mut stream), End::Orderly);
        drop(stream);
        assert_eq!(fate(&near), "finished");
        let stats = near.drain();
        assert_eq!((stats["connected"], stats["closed"], stats["failed"]), (1, 2, 0));
    }
    assert_eq!(far.drain()["failed"], 0);
}

fn a_path_that_leads_nowhere_says_so(setting: &Setting) {
    let place = Place::new();
    for said in ["No such file", "refused"] {
        let near = Child::start(setting, &format!("relay --far {}", place.address()));
        let mut stream = near.connect();
        assert_eq!(end_of(&mut stream), End::Reset);
        let fate = fate(&near);
        assert!(fate.contains(said), "{fate}");
        drop(stream);
        assert_eq!(near.drain()["connected"], 1);
        // A file on which nobody listens any more.
        drop(UnixListener::bind(&place.path));
    }
}

fn a_full_listener_is_tried_until_there_is_room(setting: &Setting) {
    let place = Place::new();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(&place.path).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let first = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    first.connect(&address).unwrap();
    let options = format!("relay --far-plain --far {}", place.address());
    let near = Child::start(setting, &format!("{options} --connect 300"));
    let mut stream = near.connect();
    assert_eq!(end_of(&mut stream), End::Reset);
    let given_up = fate(&near);
    assert!(given_up.contains("the system has no room") || given_up.contains("in time"), "{given_up}");
    drop(stream);
    let near = Child::start(setting, &format!("{options} --connect 3600000"));
    let mut stream = near.connect();
    stream.write_all(b"ahoy").unwrap();
    // It has found no room by then, most likely.
    thread::sleep(Duration::from_millis(100));
    drop(listener.accept().unwrap());
    let (mut other, _) = listener.accept().unwrap();
    let mut came = [0; 4];
    other.read_exact(&mut came).unwrap();
    assert_eq!(&came, b"ahoy");
    other.write_all(b"aye!").unwrap();
    drop(other);
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "aye!");
}

fn the_file_is_its_owners_alone_and_goes_with_its_server(setting: &Setting) {
    let place = Place::new();
    let line = format!("echo --bind {}", place.address());
    for umask in ["0", "022"] {
        let before = ["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"];
        let child = Child::start_under(&before, setting, &line);
        let file = fs::symlink_metadata(&place.path).unwrap();
        assert!(file.file_type().is_socket() && file.permissions().mode() & 0o7777 == 0o600, "{file:?}");
        echo(&mut child.connect(), b"the owner's");
        child.drain();
        assert!(!place.path.exists());
    }
    // What is there in its place when it ends is somebody else's.
    let child = Child::start(setting, &line);
    fs::remove_file(&place.path).unwrap();
    let other = UnixListener::bind(&place.path).unwrap();
    child.drain();
    assert!(place.path.exists());
    drop(other);
}

fn a_path_has_one_server(setting: &Setting) {
    let place = Place::new();
    let child = place.serve(setting, "echo");
    for address in [place.address(), place.abstract_name()] {
        let (code, said) = Child::fails_under(&[], setting, &format!("echo --bind {address}"));
        let why = format!("somebody listens on {address} already: choose another name\n");
        assert!(code == Some(1) && said.ends_with(&why), "{said}");
    }
    for number in 0..2 {
        echo(&mut child.try_connect_to(number).unwrap(), b"the first");
    }
    assert_eq!(child.drain()["accepted"], 2, "nobody was disturbed");
}

fn a_file_left_behind_is_taken_and_any_other_left_alone(setting: &Setting) {
    let place = Place::new();
    let line = format!("echo --bind {}", place.address());
    let mut killed = Child::start(setting, &line);
    kill_process_group(killed.pid(), Signal::KILL).unwrap();
    killed.end();
    assert!(place.path.exists(), "nobody could remove it");
    // A ring that goes with its process lets go of its sockets a moment later.
    eventually("nobody is there", || UnixStream::connect(&place.path).is_err());
    let child = Child::start(setting, &line);
    echo(&mut child.connect(), b"the next");
    child.drain();
    fs::write(&place.path, b"letters").unwrap();
    let (code, said) = Child::fails_under(&[], setting, &line);
    assert!(code == Some(1) && said.contains("there is a file, and it is no socket"), "{said}");
    assert_eq!(fs::read(&place.path).unwrap(), b"letters");
    let beyond = place.path.join("socket");
    for (path, why) in [(Path::new("/nowhere/socket"), "create it first"), (&beyond, "no directory")] {
        let line = format!("echo --bind unix:{}", path.display());
        let (code, said) = Child::fails_under(&[], setting, &line);
        assert!(code == Some(1) && said.contains(why), "{said}");
    }
}

fn socat_and_nc_come_by_path_and_by_abstract_name(setting: &Setting) {
    let place = Place::new();
    let child = place.serve(setting, "echo");
    let path = place.path.display().to_string();
    let sent = pattern(1 << 20);
    let rest = Duration::ZERO;
    for (program, arguments, package) in [
        ("socat", &["-t", "30", "-", &format!("UNIX-CONNECT:{path}")], "socat"),
        ("socat", &["-t", "30", "-", &format!("ABSTRACT-CONNECT:{path}")], "socat"),
        ("nc", &["-N", "-U", &path, "-v"], "netcat-openbsd"),
    ] {
        let Some(started) = Foreign::start(program, arguments, package) else { continue };
        let back = started.talk(&[&sent[..7], &sent[7..]], rest);
        assert!(back == sent, "{program}: {} bytes came back", back.len());
    }
    assert_eq!(child.drain()["failed"], 0);
}
