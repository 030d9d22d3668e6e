//! Whoever asks a server's admin is answered the same, whether the bytes come at once or in pieces; each answer is as long
//! as it says, and nothing follows one that says it is the last.
//!
//! The first byte is how long the pieces are, less one; the rest is what is asked.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use roadstead_proto::{
    Budget, Observer, Peer, Service,
    connection::{Connection, Endpoint, Event, Op},
    host::{Host, Shared},
    ticket::Token,
};
use roadstead_services::admin::{About, Admin};

pub(crate) fn check(data: &[u8]) {
    let Some((piece, asked)) = data.split_first() else { return };
    let whole = converse(asked, usize::MAX);
    assert_eq!(converse(asked, 1 + usize::from(*piece)), whole, "it matters how the bytes came");
    if !asked.windows(5).any(|word| word == b"HEAD ") {
        answers(&whole.0);
    }
}

/// What is answered, and whether the connection is over then.
pub(crate) fn converse(asked: &[u8], piece: usize) -> (String, bool) {
    let shared = Shared::new(Budget::default());
    let mut rig = Rig::new(&shared);
    for piece in asked.chunks(piece.min(1 << 14)) {
        rig.receive(piece);
    }
    let answered = (String::from_utf8(std::mem::take(&mut rig.said)).expect("it is text"), rig.over);
    rig.happen(Event::Stop);
    drop(rig);
    assert_eq!((shared.gate.open(), shared.memory.used()), (0, 0));
    answered
}

/// Takes answers apart, each with the body that it announces: the status line of each.
pub(crate) fn answers(mut said: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    while !said.is_empty() {
        let (head, rest) = said.split_once("\r\n\r\n").expect("a head ends");
        let mut fields = head.split("\r\n");
        let line = fields.next().expect("a head has a first line");
        assert!(line.starts_with("HTTP/1.1 "), "{line}");
        lines.push(line);
        let length = head.split("\r\nContent-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length is said");
        said = rest.get(length..).expect("a body is as long as it was to be");
        assert!(said.is_empty() || !fields.any(|field| field == "Connection: close"), "it was the last");
    }
    lines
}

/// A connection that is asked, and takes and sends all at once.
struct Rig {
    connection: Connection<<Admin as Service>::Session>,
    host: Host,
    receiving: bool,
    said: Vec<u8>,
    over: bool,
}

impl Rig {
    fn new(shared: &Arc<Shared>) -> Self {
        let about = About { version: "1".into(), model: "none".into(), service: "echo".into() };
        let admin = Admin::new(Observer::new(&Shared::new(Budget::default())), about, |_| {});
        let host = Host::alone(Arc::clone(shared), 1);
        let permit = shared.gate.admit(None).expect("it is the first connection");
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let mut connection = Connection::accepted(admin.open(&peer), peer, Arc::clone(shared), permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        let mut rig = Self { connection, host, receiving: false, said: Vec::new(), over: false };
        rig.happen(Event::Opened);
        rig
    }

    /// What comes when nothing more is read is lost.
    fn receive(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.receiving) {
            self.happen(Event::Received(&mut BytesMut::from(bytes)));
        }
    }

    /// Tells the connection, and does all that it wants then.
    fn happen(&mut self, event: Event<'_>) {
        self.connection.handle(Duration::ZERO, event, &mut self.host);
        self.connection.settle(Duration::ZERO, &mut self.host);
        while let Some(op) = self.connection.next() {
            match op {
                Op::Receive(_) => self.receiving = true,
                Op::Send => {
                    let front = self.connection.output().front_bytes();
                    self.said.extend_from_slice(&front);
                    self.connection.handle(Duration::ZERO, Event::Sent(front.len() as u64), &mut self.host);
                    self.connection.settle(Duration::ZERO, &mut self.host);
                }
                Op::Shutdown | Op::Close { .. } => self.over = true,
                other => panic!("an answer needs no {other:?}"),
            }
        }
    }
}
