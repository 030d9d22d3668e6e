//! What a message costs in allocations. Alone in its process, where those of the server's loop are counted.
//!
//! What is left through TLS is rustls's own: it hands out the plaintext of each record in a vector, and seals each in
//! one. So what rustls takes alone, for the same records, is counted beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
    version::TLS13,
};

use roadstead::{
    Context, DatagramContext, DatagramService, DatagramSession, Done, Input, Model, Peer, Scope, Server,
    Service, Session,
    datagrams::Arrivals,
    tls::{Acceptor, Clients, Keys},
};
use roadstead_keys::{Authority, Issued, Role};

/// Allocations of the threads that are counted.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether those of this thread are.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: everything is the system allocator's; the count touches no memory but its own, which needs none to be made.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, SeqCst);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Echoes, and has its loop's allocations counted.
struct Echo;

impl Service for Echo {
    type Session = Echo;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Echo {
        Echo
    }
}

impl Session for Echo {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        COUNTED.set(true);
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

impl DatagramService for Echo {
    type Session = Echo;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Echo {
        Echo
    }
}

impl DatagramSession for Echo {
    type Reply = ();
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        COUNTED.set(true);
        for mut datagram in batch {
            cx.send(&mut datagram.path, datagram.bytes).unwrap();
        }
    }
}

/// Messages that are counted together.
const ROUND: u64 = 200;
/// How often. A message that comes in parts needs to be put together, so the round in which none did counts.
const ROUNDS: usize = 10;

/// What `echo` counts for a message, once it has all that it keeps.
fn per_message(mut echo: impl FnMut()) -> f64 {
    echo();
    let rounds = (0..ROUNDS).map(|_| {
        let before = ALLOCATIONS.load(SeqCst);
        (0..ROUND).for_each(|_| echo());
        ALLOCATIONS.load(SeqCst) - before
    });
    rounds.min().unwrap() as f64 / ROUND as f64
}

fn send_and_receive(stream: &mut (impl Read + Write), message: &[u8], back: &mut [u8]) {
    stream.write_all(message).unwrap();
    stream.read_exact(back).unwrap();
    assert!(back == message);
}

/// What one of our servers allocates for a message of so many bytes.
fn of_a_server(keys: Option<&Issued>, size: usize) -> f64 {
    let mut server = Server::new(Echo).bind("127.0.0.1:0").model(Model::Epoll);
    if let Some(keys) = keys {
        let keys = Keys::from_pem(keys.cert.as_bytes(), keys.key.as_bytes(), keys.ca.as_bytes()).unwrap();
        server = server.layer(Acceptor::new(&keys, Clients::Anyone).unwrap());
    }
    let server = server.start().unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    stream.set_nodelay(true).unwrap();
    let (message, mut back) = (vec![7; size], vec![0; size]);
    match keys {
        Some(keys) => {
            let mut stream = StreamOwned::new(client(keys), stream);
            per_message(|| send_and_receive(&mut stream, &message, &mut back))
        }
        None => per_message(|| send_and_receive(&mut stream, &message, &mut back)),
    }
}

/// What a server allocates for three datagrams of so many bytes, of which two go back as one.
fn of_datagrams(model: Model, size: usize) -> f64 {
    let server = Server::new(Echo).bind_datagrams("127.0.0.1:0", Echo).model(model).start().unwrap();
    let [one, other] = [(); 2].map(|()| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.datagram_addresses()[0]).unwrap();
        socket
    });
    let (message, mut back) = (vec![7; size], vec![0; size]);
    per_message(|| {
        for socket in [&one, &one, &other] {
            socket.send(&message).unwrap();
        }
        for socket in [&one, &one, &other] {
            assert_eq!(socket.recv(&mut back).unwrap(), size);
        }
        assert!(back == message);
    })
}

fn client(keys: &Issued) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(keys.ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), "server-1".try_into().unwrap()).unwrap()
}

/// What rustls alone allocates to open a record with so many bytes and to seal one.
fn of_rustls(keys: &Issued, size: usize) -> f64 {
    let chain = vec![CertificateDer::from_pem_slice(keys.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.send_tls13_tickets = 0;
    let mut server = UnbufferedServerConnection::new(Arc::new(config)).unwrap();
    let (mut client, mut wire, mut sealed) = (client(keys), Vec::new(), vec![0; size + 100]);
    while client.is_handshaking() || server.is_handshaking() {
        client.write_tls(&mut wire).unwrap();
        let said = shake(&mut server, &mut wire);
        hear(&mut client, &said);
    }
    let (message, mut back) = (vec![7; size], vec![0; size]);
    per_message(|| {
        client.writer().write_all(&message).unwrap();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        COUNTED.set(true);
        let count = echo(&mut server, &mut wire, &mut back, &mut sealed);
        COUNTED.set(false);
        wire.clear();
        hear(&mut client, &sealed[..count]);
        client.reader().read_exact(&mut back).unwrap();
        assert!(back == message);
    })
}

fn hear(client: &mut ClientConnection, mut records: &[u8]) {
    while !records.is_empty() {
        client.read_tls(&mut records).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// What the server has to say to `wire`, before there is anything but a handshake.
fn shake(server: &mut UnbufferedServerConnection, wire: &mut Vec<u8>) -> Vec<u8> {
    let mut said = Vec::new();
    loop {
        let UnbufferedStatus { discard, state } = server.process_tls_records(wire);
        match state.unwrap() {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut message = vec![0; 1 << 14];
                let count = data.encode(&mut message).unwrap();
                said.extend_from_slice(&message[..count]);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            _ => {
                wire.drain(..discard);
                return said;
            }
        }
        wire.drain(..discard);
    }
}

/// Opens one record and seals what was in it.
fn echo(
    server: &mut UnbufferedServerConnection,
    wire: &mut [u8],
    plain: &mut [u8],
    sealed: &mut [u8],
) -> usize {
    match server.process_tls_records(wire).state.unwrap() {
        ConnectionState::ReadTraffic(mut traffic) => {
            plain.copy_from_slice(traffic.next_record().unwrap().unwrap().payload);
        }
        other => panic!("{other:?}"),
    }
    match server.process_tls_records(&mut []).state.unwrap() {
        ConnectionState::WriteTraffic(mut traffic) => traffic.encrypt(plain, sealed).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_costs_no_allocation_and_through_tls_no_more_than_rustls_alone() {
    let authority = Authority::new("cluster").unwrap();
    let keys = authority.issue("server-1", Role::Server).unwrap();
    for size in [1, 128, 300, 4000, 16_000] {
        assert_eq!(of_a_server(None, size), 0.0, "{size} bytes");
        for model in [Model::Epoll, Model::Poll, Model::Threads] {
            assert_eq!(of_datagrams(model, size), 0.0, "{size} bytes as a datagram on {model}");
        }
        let (ours, theirs) = (of_a_server(Some(&keys), size), of_rustls(&keys, size));
        println!("{size} bytes: {ours} allocations for a message through TLS, {theirs} of rustls alone");
        assert_eq!(ours, theirs, "{size} bytes through TLS");
    }
}
