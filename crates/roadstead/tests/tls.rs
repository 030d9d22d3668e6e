//! TLS on real sockets and every model: bytes arrive whole, and whoever does not belong is refused with a reason.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

use roadstead::{
    Blob, Budget, Closed, Context, Dialer, Done, Input, Layers, Model, Peer, Ready, Running, Scope, Server,
    Service, Session,
    tls::{Acceptor, Clients, Connector, Expect, Keys, TlsError},
};
use roadstead_keys::{Authority, Issued, Role};

const PATIENCE: Duration = Duration::from_secs(30);

/// Echoes; after the peer's end it says who that was, and sends a file if it has one.
struct Echo {
    file: Option<(Arc<dyn Blob>, u64)>,
    ends: mpsc::Sender<String>,
}

struct EchoSession(Option<(Arc<dyn Blob>, u64)>, mpsc::Sender<String>);

impl Service for Echo {
    type Session = EchoSession;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> EchoSession {
        EchoSession(self.file.clone(), self.ends.clone())
    }
}

impl Session for EchoSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let len = input.len();
        input.forward(len, cx.output());
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        let name = cx.identity().map(|identity| identity.name.clone()).unwrap_or_default();
        cx.output().write(name.as_bytes());
        if let Some((file, len)) = &self.0 {
            cx.output().file(Arc::clone(file), 0, *len);
        }
        cx.finish();
        Ok(())
    }

    fn closed(self, why: &Closed) {
        let _ = self.1.send(why.to_string());
    }
}

/// Says all it has, finishes, and tells what came back and how it ended.
struct Caller {
    says: Vec<u8>,
    heard: Vec<u8>,
    tell: mpsc::Sender<(Vec<u8>, String)>,
}

impl Session for Caller {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&self.says);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        if self.heard.len() >= self.says.len() {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, why: &Closed) {
        // The server says a name after our end, which is not for this session.
        let why = if let Closed::Unread(_) = why { &Closed::Finished } else { why };
        let _ = self.tell.send((self.heard, why.to_string()));
    }
}

fn keys(issued: &Issued) -> Keys {
    Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()).unwrap()
}

/// A server with keys of a fresh authority, and what its clients need.
struct Cluster {
    authority: Authority,
    server: Keys,
    running: Running,
    ends: mpsc::Receiver<String>,
}

fn budget() -> Budget {
    Budget::default().buffer_each(8 << 20).linger(Duration::from_millis(500))
}

fn start(model: Model, clients: Clients, budget: Budget, file: Option<File>) -> Cluster {
    let authority = Authority::new("cluster").unwrap();
    let server = keys(&authority.issue("server-1", Role::Server).unwrap());
    let (tell, ends) = mpsc::channel();
    let file = file.map(|file| {
        let len = file.metadata().unwrap().len();
        (Arc::new(roadstead::File::from(file)) as Arc<dyn Blob>, len)
    });
    let running = Server::new(Echo { file, ends: tell })
        .bind("127.0.0.1:0")
        .model(model)
        .budget(budget)
        .layer(Acceptor::new(&server, clients).unwrap())
        .start()
        .unwrap();
    Cluster { authority, server, running, ends }
}

impl Cluster {
    fn address(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    fn client(&self) -> Keys {
        keys(&self.authority.issue("client", Role::Client).unwrap())
    }

    fn ended_for(&self) -> String {
        self.ends.recv_timeout(PATIENCE).unwrap()
    }

    /// It goes on serving who belongs.
    fn still_serves(&self) {
        let connector = Connector::new(Some(&self.client()), Expect::Name("server-1".into())).unwrap();
        assert_eq!(
            call(self.address(), &connector, b"still here"),
            (b"still here".to_vec(), "finished".into())
        );
    }
}

fn call(address: SocketAddr, layers: &dyn Layers, says: &[u8]) -> (Vec<u8>, String) {
    let dialer = Dialer::start(budget().linger(Duration::from_secs(3600))).unwrap();
    let (tell, told) = mpsc::channel();
    let _waker = dialer
        .connect_through(address, layers, Caller { says: says.to_vec(), heard: Vec::new(), tell })
        .unwrap();
    told.recv_timeout(PATIENCE).unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

macro_rules! on_every_model {
    ($($scenario:ident),* $(,)?) => {
        mod threads { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Threads); })* }
        mod epoll { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Epoll); })* }
        mod poll { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Poll); })* }
        mod signal { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Signal); })* }
        mod select { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Select); })* }
        mod spin { $(#[test] fn $scenario() { super::$scenario(roadstead::Model::Spin); })* }
    };
}

on_every_model!(
    messages_of_any_size_come_back_whole,
    openssl_gets_an_answer_and_a_file_after_its_half_close,
    a_stranger_is_refused_with_a_reason,
    another_server_is_refused_with_a_reason,
    who_does_not_speak_tls_is_refused,
    an_older_version_is_refused,
    who_is_silent_in_the_handshake_is_closed_in_time,
    a_message_without_end_is_refused,
    a_cut_off_connection_is_no_end,
    idle_connections_hold_nothing,
    a_drain_ends_idle_connections,
);

fn messages_of_any_size_come_back_whole(model: Model) {
    let cluster = start(model, Clients::Known, budget(), None);
    let expect = [Expect::Name("server-1".into()), Expect::Pin(cluster.server.pin())];
    for (len, expect) in
        [1, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, 3 << 20].into_iter().zip(expect.iter().cycle())
    {
        let connector = Connector::new(Some(&cluster.client()), expect.clone()).unwrap();
        let says = pattern(len);
        let (heard, why) = call(cluster.address(), &connector, &says);
        assert!(heard.starts_with(&says), "{} of {len} bytes came back", heard.len());
        assert_eq!(why, "finished");
        assert_eq!(cluster.ended_for(), "finished");
    }
}

fn openssl_gets_an_answer_and_a_file_after_its_half_close(model: Model) {
    let content = pattern(3 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let cluster = start(model, Clients::Anyone, budget(), Some(file));
    let Ok(mut socat) = Command::new("socat")
        .args(["-t", "30", "-", &format!("OPENSSL:{},verify=0", cluster.address())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
    else {
        assert!(std::env::var_os("CI").is_none(), "socat is missing");
        return;
    };
    socat.stdin.take().unwrap().write_all(b"ahoy").unwrap();
    let heard = socat.wait_with_output().unwrap().stdout;
    assert!(heard == [b"ahoy".as_slice(), &content].concat(), "{} bytes came", heard.len());
    assert_eq!(cluster.ended_for(), "finished");
}

fn a_stranger_is_refused_with_a_reason(model: Model) {
    let cluster = start(model, Clients::Known, budget(), None);
    let pin = Expect::Pin(cluster.server.pin());
    let (heard, why) = call(cluster.address(), &Connector::new(None, pin.clone()).unwrap(), b"x");
    assert!(heard.is_empty() && why.contains("refuses"), "{why}");
    assert!(cluster.ended_for().contains("shows no certificate"));
    let others = Authority::new("cluster").unwrap();
    let stranger = keys(&others.issue("client", Role::Client).unwrap());
    let (heard, why) = call(cluster.address(), &Connector::new(Some(&stranger), pin).unwrap(), b"x");
    assert!(heard.is_empty() && why.contains("refuses"), "{why}");
    let said = cluster.ended_for();
    assert!(said.contains("not of the expected authority"), "{said}");
    cluster.still_serves();
}

fn another_server_is_refused_with_a_reason(model: Model) {
    let cluster = start(model, Clients::Known, budget(), None);
    let client = cluster.client();
    let name = Connector::new(Some(&client), Expect::Name("server-2".into())).unwrap();
    let (heard, why) = call(cluster.address(), &name, b"x");
    assert!(heard.is_empty() && why.contains("another name"), "{why}");
    let pin = Connector::new(Some(&client), Expect::Pin(client.pin())).unwrap();
    let (heard, why) = call(cluster.address(), &pin, b"x");
    assert!(heard.is_empty() && why.contains("not the pinned one"), "{why}");
    assert!(matches!(Connector::new(None, Expect::Name("server-1".into())), Err(TlsError::NoAuthority)));
    cluster.still_serves();
}

fn who_does_not_speak_tls_is_refused(model: Model) {
    let cluster = start(model, Clients::Known, budget(), None);
    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[b'x'; 4096]).unwrap();
    let mut alert = Vec::new();
    let _ = stream.read_to_end(&mut alert);
    assert_eq!(alert.first().copied().unwrap_or(21), 21, "an alert, or nothing");
    let why = cluster.ended_for();
    assert!(why.contains("does not speak TLS"), "{why}");
    cluster.still_serves();
}

fn an_older_version_is_refused(model: Model) {
    let cluster = start(model, Clients::Anyone, budget(), None);
    let Ok(output) = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &cluster.address().to_string()])
        .stdin(Stdio::null())
        .output()
    else {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing");
        return;
    };
    assert!(!output.status.success());
    let why = cluster.ended_for();
    assert!(why.contains("TLS 1.3"), "{why}");
    cluster.still_serves();
}

fn who_is_silent_in_the_handshake_is_closed_in_time(model: Model) {
    let cluster = start(model, Clients::Known, budget().first_byte(Duration::from_millis(200)), None);
    let silent = TcpStream::connect(cluster.address()).unwrap();
    assert!(cluster.ended_for().contains("sent nothing in time"));
    drop(silent);
    // Bytes that complete nothing are no more than silence.
    let mut slow = TcpStream::connect(cluster.address()).unwrap();
    // It may be closed before.
    let _ = slow.write_all(&[22, 3, 1, 2, 0, 1]);
    assert!(cluster.ended_for().contains("sent nothing in time"));
}

fn a_message_without_end_is_refused(model: Model) {
    let cluster = start(model, Clients::Known, budget(), None);
    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // A ClientHello that announces 65,535 bytes and never gets there, one byte to a record.
    let _ = stream.write_all(&[22, 3, 1, 0, 4, 1, 0, 255, 255]);
    for _ in 0..40_000 {
        if stream.write_all(&[22, 3, 1, 0, 1, 0]).is_err() {
            break;
        }
    }
    let why = cluster.ended_for();
    assert!(why.contains("without end") || why.contains("does not speak TLS"), "{why}");
    assert!(cluster.running.buffered() < 1 << 20);
    cluster.still_serves();
}

/// Carries bytes between a client and the server, and cuts both off after `most` bytes of the client.
fn cutter(address: SocketAddr, most: usize) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(address).unwrap();
        let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut back, &mut to_client));
        let _ = std::io::copy(&mut (&client).take(most as u64), &mut &server);
        let _ = server.shutdown(Shutdown::Write);
        thread::sleep(Duration::from_secs(1));
        let _ = client.shutdown(Shutdown::Both);
    });
    here
}

fn a_cut_off_connection_is_no_end(model: Model) {
    let cluster = start(model, Clients::Anyone, budget(), None);
    let connector = Connector::new(None, Expect::Pin(cluster.server.pin())).unwrap();
    let (_, why) = call(cutter(cluster.address(), 500_000), &connector, &pattern(1 << 20));
    assert_ne!(why, "finished");
    let why = cluster.ended_for();
    assert!(why.contains("cut off"), "{why}");
    cluster.still_serves();
}

fn idle_connections_hold_nothing(model: Model) {
    let cluster = start(model, Clients::Anyone, budget(), None);
    let dialer = Dialer::start(budget()).unwrap();
    let connector = Connector::new(None, Expect::Pin(cluster.server.pin())).unwrap();
    let (tell, _told) = mpsc::channel();
    for _ in 0..10 {
        // It waits for a second kilobyte that never comes.
        let caller = Caller { says: pattern(1000), heard: Vec::new(), tell: tell.clone() };
        let caller = Caller { heard: Vec::new(), ..caller };
        let _waker = dialer.connect_through(cluster.address(), &connector, Stay(caller)).unwrap();
    }
    let begun = Instant::now();
    while cluster.running.stats().bytes_out < 10 * 1000 || cluster.running.buffered() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes are held", cluster.running.buffered());
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(cluster.running.open(), 10);
}

/// A caller that does not finish.
struct Stay(Caller);

impl Session for Stay {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened => cx.output().write(&self.0.says),
            Ready::Draining => cx.finish(),
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        Ok(())
    }
}

fn a_drain_ends_idle_connections(model: Model) {
    let cluster = start(model, Clients::Known, budget(), None);
    let dialer = Dialer::start(budget()).unwrap();
    let connector = Connector::new(Some(&cluster.client()), Expect::Name("server-1".into())).unwrap();
    let (tell, _told) = mpsc::channel();
    let caller = Caller { says: b"once".to_vec(), heard: Vec::new(), tell };
    let _waker = dialer.connect_through(cluster.address(), &connector, Stay(caller)).unwrap();
    let begun = Instant::now();
    while cluster.running.stats().bytes_out < 4 {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(cluster.running.drain(PATIENCE).unwrap().failed, 0);
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    let authority = Authority::new("cluster").unwrap();
    let [one, other] = ["one", "other"].map(|name| authority.issue(name, Role::Server).unwrap());
    let mixed = Keys::from_pem(one.cert.as_bytes(), other.key.as_bytes(), one.ca.as_bytes()).unwrap();
    for refused in [
        Acceptor::new(&mixed, Clients::Anyone).map(drop),
        Connector::new(Some(&mixed), Expect::Pin(mixed.pin())).map(drop),
    ] {
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("not the one that the certificate is for"), "{why}");
    }
}

#[test]
fn a_private_key_is_never_shown() {
    let issued = Authority::new("cluster").unwrap().issue("server", Role::Server).unwrap();
    let keys = keys(&issued);
    let der = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    // Debug of bytes is a list of numbers. The scalar of a P-256 key lies behind 36 bytes of PKCS #8.
    let scalar = format!("{:?}", &der.secret_der()[36..68]);
    let shown = [
        format!("{keys:?}"),
        format!("{:?}", Acceptor::new(&keys, Clients::Known).unwrap()),
        format!("{:?}", Connector::new(Some(&keys), Expect::Name("server".into())).unwrap()),
    ];
    for shown in shown {
        assert!(!shown.contains(scalar.trim_matches(['[', ']'])), "{shown}");
    }
}
