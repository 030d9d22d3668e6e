//! Unix sockets of servers in this process: their files come and go with them, also when they are handed over.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use roadstead::{
    Address, Budget, Closed, Context, Dialer, Done, Input, Model, Peer, Ready, Scope, Server, Service,
    Session, UnixName,
    server::{Io, Spread, StartError},
};

/// Who is not done then, hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Echoes, and begins with its name; says who came.
#[derive(Clone)]
struct Named(u8, mpsc::Sender<Peer>);

struct Line(u8);

impl Service for Named {
    type Session = Line;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, peer: &Peer) -> Line {
        let _ = self.1.send(peer.clone());
        Line(self.0)
    }
}

impl Session for Line {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[self.0]);
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

/// All models that run in this process, and who does their I/O.
fn settings() -> impl Iterator<Item = (Model, Io)> {
    let models = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    models.map(|model| (model, Io::Loop)).chain([(Model::Epoll, Io::Workers)])
}

fn server(name: u8, (model, io): (Model, Io)) -> Server<Named> {
    Server::new(Named(name, mpsc::channel().0)).model(model).io(io)
}

/// A directory, and the path of a socket in it.
fn place() -> (TempDir, PathBuf, Address) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let address = UnixName::at(&path).unwrap().into();
    (dir, path, address)
}

/// The name of who serves there.
fn who_serves(path: &Path) -> io::Result<u8> {
    let (mut stream, mut answer) = (UnixStream::connect(path)?, [0; 2]);
    stream.set_read_timeout(Some(HANGS))?;
    stream.write_all(b"!")?;
    stream.read_exact(&mut answer)?;
    assert_eq!(answer[1], b'!');
    Ok(answer[0])
}

#[test]
fn a_server_says_where_it_listens_and_who_comes_has_the_name_that_it_has_bound() {
    let (dir, path, address) = place();
    let (tell, told) = mpsc::channel();
    let server = Server::new(Named(b'a', tell)).bind("127.0.0.1:0").bind(&address).start().unwrap();
    let tcp = server.addresses()[0];
    assert_eq!((server.places(), server.addresses()), (&[tcp.into(), address.clone()][..], &[tcp][..]));
    assert_eq!(who_serves(&path).unwrap(), b'a');
    assert_eq!(told.recv().unwrap().address, UnixName::none().into());
    let client = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
    let (client, own) = (client.unwrap(), dir.path().join("client"));
    rustix::net::bind(&client, &rustix::net::SocketAddrUnix::new(&own).unwrap()).unwrap();
    rustix::net::connect(&client, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    assert_eq!(told.recv().unwrap().address, UnixName::at(&own).unwrap().into());
    drop((client, server));
    assert!(!path.exists());
}

#[test]
fn a_server_hands_its_file_over_with_its_socket_and_nobody_is_turned_away() {
    for setting in settings() {
        let (_dir, path, address) = place();
        let old = server(b'a', setting).bind(&address).start().unwrap();
        assert_eq!(who_serves(&path).unwrap(), b'a');
        let sockets = old.take_listeners();
        let new = sockets.into_iter().fold(server(b'b', setting), Server::listener).start().unwrap();
        assert_eq!(new.places(), [address]);
        old.drain(HANGS).unwrap();
        assert_eq!(who_serves(&path).unwrap(), b'b', "{setting:?}");
        new.drain(HANGS).unwrap();
        assert!(path.exists(), "{setting:?}: whoever gave the socket has made the file");
        assert_eq!(who_serves(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{setting:?}");
    }
}

#[test]
fn of_several_loops_that_all_listen_at_one_path_any_accepts() {
    for model in [Model::Epoll, Model::Poll, Model::Emulated, Model::Uring] {
        if model.obstacle().is_some() {
            continue;
        }
        let (_dir, path, address) = place();
        let server = server(b'a', (model, Io::Loop)).loops(3).spread(Spread::Kernel).bind(&address);
        let server = server.start().unwrap();
        let clients = [(); 4].map(|()| {
            let path = path.clone();
            thread::spawn(move || (0..50).for_each(|_| assert_eq!(who_serves(&path).unwrap(), b'a')))
        });
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(server.drain(HANGS).unwrap().accepted, 200, "{model}");
        assert!(!path.exists(), "{model}");
    }
}

#[test]
fn a_server_that_cannot_start_leaves_no_file() {
    let (_dir, path, address) = place();
    let refused = server(b'a', (Model::Epoll, Io::Loop)).bind(&address).bind("192.0.2.1:1").start();
    assert!(matches!(refused, Err(StartError::Bind { .. })));
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_listened_on_is_told_in_one_line_with_what_to_do() {
    let (dir, path, _) = place();
    let nowhere = dir.path().join("nowhere/socket");
    let long = dir.path().join("x".repeat(108));
    std::fs::write(&path, "letters").unwrap();
    for (path, why) in [
        (&path, "there is a file, and it is no socket: remove it, or choose another path"),
        (&nowhere, "its directory does not exist: create it first"),
        (&path.join("x"), "its path leads through a file that is no directory"),
        (&long, "choose a shorter one"),
    ] {
        let address = format!("unix:{}", path.display());
        let refused = server(b'a', (Model::Epoll, Io::Loop)).bind(&address).start().unwrap_err().to_string();
        let cannot = format!("cannot listen on {address}: ");
        assert!(
            refused.starts_with(&cannot) && refused.ends_with(why) && !refused.contains('\n'),
            "{refused}"
        );
    }
    let abstract_name = format!("unix:@{}", path.display());
    let first = server(b'a', (Model::Epoll, Io::Loop)).bind(&abstract_name).start().unwrap();
    let second = server(b'b', (Model::Epoll, Io::Loop)).bind(&abstract_name).start().unwrap_err().to_string();
    assert_eq!(second, format!("somebody listens on {abstract_name} already: choose another name"));
    drop(first);
    server(b'b', (Model::Epoll, Io::Loop)).bind(&abstract_name).start().unwrap();
}

/// Says a word, and tells what comes back and how it ends.
struct Caller(mpsc::Sender<String>);

impl Session for Caller {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if matches!(why, Ready::Opened) {
            self.0.send(cx.peer().address.to_string()).unwrap();
            cx.output().write(b"!");
        }
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if input.bytes().len() == 2 {
            self.0.send(String::from_utf8(input.bytes().to_vec()).unwrap()).unwrap();
            input.consume(2);
            cx.finish();
        }
        Ok(())
    }
    fn closed(self, why: &Closed) {
        let _ = self.0.send(why.to_string());
    }
}

#[test]
fn a_dialer_connects_by_path_and_hears_why_it_cannot() {
    let (_dir, path, address) = place();
    let server = server(b'a', (Model::best(), Io::Loop)).bind(&address).start().unwrap();
    let dialer = Dialer::start(Budget::default()).unwrap();
    let (tell, told) = mpsc::channel();
    dialer.connect(&address, Caller(tell.clone())).unwrap();
    let heard = [(); 3].map(|()| told.recv_timeout(HANGS).unwrap());
    assert_eq!(heard, [address.to_string(), "a!".into(), "finished".into()]);
    let begun = Instant::now();
    drop(server);
    assert!(!path.exists());
    dialer.connect(&address, Caller(tell.clone())).unwrap();
    let why = told.recv_timeout(HANGS).unwrap();
    assert!(why.contains("No such file") && begun.elapsed() < HANGS, "{why}");
    dialer.connect(UnixName::none(), Caller(tell)).unwrap();
    let why = told.recv_timeout(HANGS).unwrap();
    assert!(why.contains("it has no name"), "{why}");
}
