//! Whatever happens to the bytes between our TLS and a peer's: nothing panics, what either side reads is the beginning of
//! what the other wrote, memory is bounded and given back. If nothing happens to them, all arrives.
//!
//! The first byte says which side we are, each byte behind it is an event: four bits which, four bits how much. The peer
//! is rustls as it is commonly used, which shares no code with the layer. Its randomness is not the input's, so offsets
//! may mean other bytes in another run.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    mem,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use bytes::BytesMut;
use roadstead::tls::{Acceptor, Clients, Connector, Expect, Keys};
use roadstead_keys::{Authority, Issued, Role};
use roadstead_proto::{
    Address, Budget, Closed, Context, Done, Input, Peer, Ready, Session, connection::BLOCK,
    connection::Connection, connection::Endpoint, connection::Event, connection::Op, host::Host,
    host::Shared, layer::End, layer::through, ticket::Token,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::pem::PemObject, version::TLS13};

/// What a connection may buffer in each direction.
const BUFFER: usize = 64 << 10;
/// The most that a connection and its layer may hold: an incomplete message, a block of plaintext, two batches of sealed
/// bytes, the connection's own.
const MOST: usize = (80 << 10) + BLOCK + 2 * (BLOCK + 1024) + 2 * BUFFER;

/// New keys that may be asked for without a byte between them; more look like an attack.
const REKEYS: usize = 32;

pub(crate) fn check(data: &[u8]) {
    let Some((side, events)) = data.split_first() else { return };
    let shared = Shared::new(Budget::default().buffer_each(BUFFER));
    let mut rig = Rig::new(&shared, side & 1 == 0);
    let mut events = events.iter().copied();
    while let Some(event) = events.next() {
        rig.event(event >> 4, event & 15, &mut events);
    }
    if !rig.disturbed {
        rig.settle();
        rig.judge_all();
    }
    rig.happen(Event::Stop);
    assert!(rig.closed, "stopped, and still open");
    rig.judge();
    drop(rig);
    assert_eq!((shared.gate.open(), shared.memory.used(), shared.jobs.used()), (0, 0, 0));
}

/// What the session knows, and is asked for.
#[derive(Default)]
struct Log {
    read: Vec<u8>,
    written: Vec<u8>,
    /// It has heard of the peer's end.
    ended: bool,
    /// It finishes when it hears more.
    enough: bool,
    panicked: bool,
}

/// Greets, and echoes.
struct Talker(Arc<Mutex<Log>>);

impl Talker {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("nobody panics")
    }

    fn say(&self, bytes: &[u8], cx: &mut Context<'_, Self>) {
        cx.output().write(bytes);
        self.log().written.extend_from_slice(bytes);
    }
}

impl Session for Talker {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened => self.say(b"ahoy", cx),
            // With an odd number of bytes it waits for more.
            Ready::Draining if self.log().read.len().is_multiple_of(2) => cx.finish(),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.log().ended = true;
        cx.finish();
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.log().read.extend_from_slice(input.bytes());
        self.say(input.bytes(), cx);
        input.consume(usize::MAX);
        if self.log().enough {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, why: &Closed) {
        // Panics in a layer are caught, and cost its connection.
        self.log().panicked |= why.to_string().contains("panicked");
    }
}

/// Plays the loop, the network and the peer.
struct Rig {
    endpoint: Box<dyn Endpoint>,
    host: Host,
    shared: Arc<Shared>,
    now: Duration,
    receiving: Option<usize>,
    sending: bool,
    shut: bool,
    closed: bool,
    log: Arc<Mutex<Log>>,
    peer: rustls::Connection,
    peer_ended: bool,
    /// The peer has heard our end.
    told: bool,
    rekeys: usize,
    /// Sealed bytes on their way to us.
    wire: VecDeque<u8>,
    said: Vec<u8>,
    heard: Vec<u8>,
    /// The bytes on their way to us are not the peer's.
    tampered: bool,
    /// Time has passed.
    waited: bool,
    /// Something has happened that may end the connection early.
    disturbed: bool,
}

impl Rig {
    fn new(shared: &Arc<Shared>, server: bool) -> Self {
        let host = Host::alone(Arc::clone(shared), 1);
        let permit = shared.gate.admit(None).expect("it is the first connection");
        let (address, log) = (Address::from(([192, 0, 2, 1], 7)), Arc::<Mutex<Log>>::default());
        let session = Talker(Arc::clone(&log));
        let mut endpoint = if server {
            let connection =
                Connection::accepted(session, Peer { address: address.clone() }, Arc::clone(shared), permit);
            through(&RING.acceptor, Box::new(connection), End::Accepted(address), Arc::clone(shared))
        } else {
            let connection = Connection::outgoing(session, address.clone(), Arc::clone(shared), permit).0;
            through(&RING.connector, Box::new(connection), End::Dialled(address), Arc::clone(shared))
        };
        endpoint.place(Token(1), host.wake_queue(), Duration::ZERO);
        let mut rig = Self {
            endpoint,
            host,
            shared: Arc::clone(shared),
            now: Duration::ZERO,
            receiving: None,
            sending: false,
            shut: false,
            closed: false,
            log,
            peer: RING.peer(server),
            peer_ended: false,
            told: false,
            rekeys: 0,
            wire: VecDeque::new(),
            said: Vec::new(),
            heard: Vec::new(),
            tampered: false,
            waited: false,
            disturbed: false,
        };
        rig.happen(Event::Opened);
        rig.collect();
        rig
    }

    fn event(&mut self, which: u8, amount: u8, more: &mut impl Iterator<Item = u8>) {
        let size = 1 << amount;
        match which {
            0 => drop(self.deliver(size)),
            1 => drop(self.send(size)),
            2 => self.say(size),
            3 => self.settle(),
            4 => self.end(),
            5 => self.rekey(),
            6 => self.happen(Event::Woken),
            7..=11 => self.tamper(which, amount, more),
            12.. => self.disturb(which, amount),
        }
        self.disturbed |= self.tampered;
        self.collect();
    }

    /// From here on the network is not honest.
    fn tamper(&mut self, which: u8, amount: u8, more: &mut impl Iterator<Item = u8>) {
        let all = self.wire.len();
        let size = all.min(1 << amount);
        match which {
            7..=10 if all == 0 => return,
            7 => self.wire[all * usize::from(amount) / 16] ^= 1 << (amount % 8),
            8 => drop(self.wire.drain(..size)),
            9 => self.wire.rotate_left(size),
            10 => self.wire.extend(self.wire.range(..size).copied().collect::<Vec<_>>()),
            _ => {
                let count = more.next().map_or(0, usize::from);
                self.wire.extend(more.take(count));
                if count == 0 {
                    return;
                }
            }
        }
        self.tampered = true;
    }

    /// What may end the connection early, and is nobody's fault.
    fn disturb(&mut self, which: u8, amount: u8) {
        match (which, amount) {
            (12, _) if self.receiving.take().is_some() => {
                self.wire.clear();
                self.happen(Event::Ended);
            }
            (13, _) => {
                self.now += Duration::from_secs(amount.into());
                self.waited = true;
                self.happen(Event::Tick);
            }
            (14, 0) => self.happen(Event::Failed(io::ErrorKind::ConnectionReset.into())),
            (14, 1) => self.happen(Event::Drain),
            (15, _) => self.log().enough = true,
            _ => return,
        }
        self.disturbed = true;
    }

    /// The peer says more, and something else every time.
    fn say(&mut self, count: usize) {
        let more = (0..count).map(|at| (self.said.len() + at) as u8).collect::<Vec<_>>();
        if !self.peer_ended {
            let taken = self.peer.writer().write(&more).unwrap_or(0);
            self.said.extend_from_slice(&more[..taken]);
        }
    }

    fn rekey(&mut self) {
        if !self.peer_ended && self.peer.refresh_traffic_keys().is_ok() {
            self.rekeys += 1;
            self.disturbed |= self.rekeys > REKEYS;
        }
    }

    fn end(&mut self) {
        if !self.peer.is_handshaking() && !mem::replace(&mut self.peer_ended, true) {
            self.peer.send_close_notify();
        }
    }

    /// What the peer has to say is on its way.
    fn collect(&mut self) {
        while self.peer.wants_write() {
            self.peer.write_tls(&mut self.wire).expect("a queue takes all");
        }
    }

    /// Brings us up to `most` bytes. False if we wait for none.
    fn deliver(&mut self, most: usize) -> bool {
        let count = most.min(self.receiving.unwrap_or(0)).min(self.wire.len());
        if count > 0 {
            let mut block = self.wire.drain(..count).collect::<BytesMut>();
            self.receiving = None;
            self.happen(Event::Received(&mut block));
            assert!(block.is_empty(), "the block is given back empty");
        }
        count > 0
    }

    /// Brings the peer up to `most` bytes. False if we have none to send.
    fn send(&mut self, most: usize) -> bool {
        if !mem::take(&mut self.sending) {
            return false;
        }
        let mut slices = [IoSlice::new(&[]); 4];
        let (count, _) = self.endpoint.output().gather(&mut slices);
        let mut sent = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
        sent.truncate(most);
        assert!(!sent.is_empty(), "there is something to send");
        self.hear(&sent);
        self.happen(Event::Sent(sent.len() as u64));
        true
    }

    fn hear(&mut self, mut sealed: &[u8]) {
        while !sealed.is_empty() {
            let taken = self.peer.read_tls(&mut sealed).expect("what was read makes room");
            match self.peer.process_new_packets() {
                Ok(state) => self.told |= state.peer_has_closed(),
                Err(error) => return assert!(self.tampered, "the peer does not understand us: {error}"),
            }
            // Reports that nothing is there yet, or that the end was cut off, are no news.
            let _ = self.peer.reader().read_to_end(&mut self.heard);
            if taken == 0 {
                return;
            }
        }
    }

    /// Lets all that is under way arrive.
    fn settle(&mut self) {
        self.collect();
        while self.send(usize::MAX) | self.deliver(usize::MAX) {
            self.collect();
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics")
    }

    fn judge(&self) {
        let log = self.log();
        assert!(self.said.starts_with(&log.read), "the session reads what the peer has not said");
        assert!(log.written.starts_with(&self.heard), "the peer reads what the session has not said");
        assert!(!log.panicked, "the layer panicked");
        let whole = log.read.len() == self.said.len();
        assert!(!log.ended || self.peer_ended && whole, "a cut was taken for the peer's end");
    }

    fn judge_all(&self) {
        let log = self.log();
        assert!(!self.peer.is_handshaking(), "the handshake does not end");
        assert_eq!(
            (log.read.len(), self.heard.len()),
            (self.said.len(), log.written.len()),
            "something is missing"
        );
        assert_eq!((self.closed, self.wire.len()), (self.peer_ended, 0), "only the end ends the connection");
    }

    /// Tells the endpoint and takes all that it wants then, as a loop does.
    fn happen(&mut self, event: Event<'_>) {
        self.endpoint.handle(self.now, event, &mut self.host);
        self.take_ops();
        self.endpoint.settle(self.now, &mut self.host);
        self.take_ops();
        assert!(self.shared.memory.used() <= MOST, "{} bytes are held", self.shared.memory.used());
    }

    fn take_ops(&mut self) {
        while let Some(op) = self.endpoint.next() {
            assert!(!self.closed, "{op:?} after the close");
            match op {
                Op::Receive(most) => {
                    assert!(most > 0 && self.receiving.replace(most).is_none(), "two receives in flight");
                }
                Op::Send => {
                    assert!(!self.shut, "a send after the end of sending");
                    assert!(!mem::replace(&mut self.sending, true), "two sends in flight");
                }
                Op::Shutdown => {
                    assert!(!mem::replace(&mut self.shut, true), "sending ends twice");
                    assert!(self.endpoint.output().is_empty(), "sending ends before all is sent");
                }
                Op::Connect(..) | Op::Redial => panic!("the session opens no connection"),
                Op::Read => panic!("the session sends no file"),
                Op::Close { reset } => {
                    let excused = reset || self.tampered || self.waited;
                    assert!(excused || self.told, "an orderly end that the peer has not heard of");
                    (self.closed, self.receiving, self.sending) = (true, None, false);
                    assert_eq!(self.endpoint.deadline(), None);
                }
            }
        }
    }
}

/// The keys of both sides.
struct Ring {
    acceptor: Acceptor,
    connector: Connector,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Ring {
    /// The other side of a server, or of a client.
    fn peer(&self, of_server: bool) -> rustls::Connection {
        let name = "server".try_into().expect("it is a name");
        if of_server {
            rustls::ClientConnection::new(Arc::clone(&self.client), name).expect("it is made").into()
        } else {
            rustls::ServerConnection::new(Arc::clone(&self.server)).expect("it is made").into()
        }
    }
}

static RING: LazyLock<Ring> = LazyLock::new(|| ring().expect("keys can be made"));

fn ring() -> Result<Ring, Box<dyn std::error::Error>> {
    let authority = Authority::new("fuzz")?;
    let (server, client) =
        (authority.issue("server", Role::Server)?, authority.issue("client", Role::Client)?);
    let keys =
        |issued: &Issued| Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes());
    let chain = |issued: &Issued| {
        Ok::<_, rustls::pki_types::pem::Error>(vec![PemObject::from_pem_slice(issued.cert.as_bytes())?])
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(PemObject::from_pem_slice(server.ca.as_bytes())?)?;
    Ok(Ring {
        acceptor: Acceptor::new(&keys(&server)?, Clients::Known)?,
        connector: Connector::new(Some(&keys(&client)?), Expect::Name("server".into()))?,
        client: Arc::new(
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&TLS13])?
                .with_root_certificates(roots)
                .with_client_auth_cert(chain(&client)?, PemObject::from_pem_slice(client.key.as_bytes())?)?,
        ),
        server: Arc::new(
            ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&TLS13])?
                .with_no_client_auth()
                .with_single_cert(chain(&server)?, PemObject::from_pem_slice(server.key.as_bytes())?)?,
        ),
    })
}
