//! What a datagram can ask of the program's `datagrams`, by its first byte, and a peer that asks.
//!
//! After that byte come four of a number `n`, the least first, and what else there is. An answer begins with the byte that
//! was asked with. What begins with no such byte, or is shorter, comes back as it is.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::PATIENCE;

/// How the datagram came, in words: the address that it was sent to, its congestion, how long it is, whether it was cut,
/// whether there is a time.
pub const TELL: u8 = 1;
/// `n` bytes.
pub const ANSWER: u8 = 2;
/// The same to a peer that is taken for one that has proven itself.
pub const VALIDATED: u8 = 3;
/// The peer is remembered, with `n` bytes: `kept`, or why not.
pub const KEEP: u8 = 4;
/// What came was genuine: `known`, or `unknown`.
pub const HEAR: u8 = 5;
/// The peer is forgotten; answers how many are left.
pub const FORGET: u8 = 6;
/// A job that takes `n` milliseconds; or `busy`.
pub const JOB: u8 = 7;
/// Another thread finishes a ticket after `n` milliseconds; or `busy`.
pub const LATER: u8 = 8;
/// A ticket is put aside; `busy` if there is none. It is answered when it is finished.
pub const HOLD: u8 = 9;
/// All tickets that were put aside are finished.
pub const FINISH: u8 = 10;
/// After `n` milliseconds.
pub const TIMER: u8 = 11;
/// The session panics.
pub const PANIC: u8 = 12;
/// The rest is sent to the address that the rest begins with, up to a blank.
pub const SEND: u8 = 13;
/// To one that has proven itself, the rest in segments of `n` bytes.
pub const SEGMENTS: u8 = 14;
/// The session does not finish when the server drains, but when it hears this again.
pub const STAY: u8 = 15;

/// What is asked.
pub fn ask(kind: u8, n: u32, rest: &[u8]) -> Vec<u8> {
    [&[kind][..], &n.to_le_bytes(), rest].concat()
}

/// A client.
pub struct Peer(pub UdpSocket);

impl Peer {
    /// At an address of its own, of this machine.
    #[track_caller]
    pub fn at(ip: &str) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// One that speaks with `server` only.
    #[track_caller]
    pub fn of(server: SocketAddr) -> Self {
        let peer = Self::at(if server.is_ipv4() { "127.0.0.1" } else { "::1" });
        peer.0.connect(server).unwrap();
        peer
    }

    /// The next that comes.
    #[track_caller]
    pub fn hear(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        loop {
            match self.0.recv(&mut bytes) {
                Ok(length) => break bytes[..length].to_vec(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "nothing comes"),
            }
        }
    }

    /// What comes by then, if anything does.
    #[track_caller]
    pub fn hears_within(&self, time: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut bytes = vec![0; 1 << 16];
        let came = self.0.recv(&mut bytes);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        match came {
            Ok(length) => Some(bytes[..length].to_vec()),
            Err(error) => {
                let late = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                assert!(late.contains(&error.kind()), "{error}");
                None
            }
        }
    }

    /// Sends it, and sees it come back.
    #[track_caller]
    pub fn echo(&self, bytes: &[u8]) {
        self.0.send(bytes).unwrap();
        assert!(self.hear() == bytes, "what comes back is what was sent");
    }

    /// Sends it.
    #[track_caller]
    pub fn say(&self, kind: u8, n: u32, rest: &[u8]) {
        self.0.send(&ask(kind, n, rest)).unwrap();
    }

    /// Asks, and has the answer.
    #[track_caller]
    pub fn ask(&self, kind: u8, n: u32, rest: &[u8]) -> Vec<u8> {
        self.say(kind, n, rest);
        self.answer(kind)
    }

    /// The next answer, without the byte that it begins with.
    #[track_caller]
    pub fn answer(&self, kind: u8) -> Vec<u8> {
        let heard = self.hear();
        assert_eq!(heard.first(), Some(&kind), "{heard:?}");
        heard[1..].to_vec()
    }

    /// Asks, and has the answer in words.
    #[track_caller]
    pub fn words(&self, kind: u8, n: u32) -> String {
        String::from_utf8(self.ask(kind, n, b"")).unwrap()
    }
}
