//! A client made by hand, which sends what it likes.

#![allow(dead_code, unreachable_pub)]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use roadstead::{
    Frame,
    frame::{Fields, HEAD, Limits, Parsed},
};
use roadstead_trident::{
    mask::Nonce,
    party::Party,
    query::Collection,
    wire::{Hello, Kind, Refusal, VERSION, Welcome, encode_nonces},
};

/// A connection by hand.
pub struct Raw {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// A connection whose hello was answered, with the nonce it was given.
    pub fn welcomed(address: SocketAddr, collection: &Collection, party: Party) -> (Self, Nonce) {
        let mut raw = Self::connect(address);
        let hello = Hello { version: VERSION, party, digest: collection.digest() };
        raw.send(Kind::Hello as u8, &hello.encode());
        let (kind, body) = raw.next().unwrap();
        assert_eq!(kind, Kind::Welcome as u8);
        (raw, Welcome::parse(&body).unwrap().nonce)
    }

    /// A connection on which requests may come.
    pub fn admitted(address: SocketAddr, collection: &Collection, party: Party) -> Self {
        let (mut raw, nonce) = Self::welcomed(address, collection, party);
        let mut nonces = [[3; 16]; 3];
        nonces[party.index()] = nonce;
        raw.send(Kind::Nonces as u8, &encode_nonces(&nonces));
        raw
    }

    pub fn send(&mut self, kind: u8, body: &[u8]) {
        self.try_send(kind, body).unwrap();
    }

    pub fn try_send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut wire = Vec::new();
        Frame::encode(&mut wire, kind, &Fields::new(), body);
        self.stream.write_all(&wire)
    }

    /// The next frame; `None` when the connection has ended.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let limits = Limits { fields: 0, body: 1 << 26 };
        loop {
            if let Parsed::Frame(frame) = Frame::parse(&self.received, &limits).unwrap() {
                let (length, found) = (frame.len(), (frame.kind, frame.body.to_vec()));
                self.received.drain(..length);
                return Some(found);
            }
            let mut block = [0; 4 * HEAD];
            match self.stream.read(&mut block) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("the server neither answers nor closes: {error}"),
            }
        }
    }

    /// The refusal that comes, after answers perhaps, and then the connection's end.
    #[track_caller]
    pub fn refused(mut self) -> Refusal {
        while let Some((kind, body)) = self.next() {
            if kind == Kind::Refusal as u8 {
                assert_eq!(self.next(), None, "a refusal is the last word");
                return Refusal::parse(&body).unwrap();
            }
        }
        panic!("closed without a reason");
    }

    /// The connection's end, without another word.
    #[track_caller]
    pub fn closed(mut self) {
        assert_eq!(self.next(), None);
    }
}
