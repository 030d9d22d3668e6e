//! A connection of the load: its socket, and the layer between it and the messages, if there is one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use roadstead::layer::{Layer, Layers};

/// Bytes that are received for a layer at once.
const BLOCK: usize = 16 * 1024;

/// An open connection whose calls do not wait.
pub(super) struct Wire {
    socket: TcpStream,
    layered: Option<Layered>,
}

struct Layered {
    layer: Box<dyn Layer>,
    /// What came and could not be opened yet.
    came: BytesMut,
    /// What it said and nobody has read yet.
    plain: BytesMut,
    /// What the socket has not taken yet.
    unsent: BytesMut,
}

impl Wire {
    /// Shakes hands over `socket`, if a layer is wanted.
    pub(super) fn open(
        socket: TcpStream,
        layers: Option<&dyn Layers>,
        patience: Duration,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let mut wire = Self { socket, layered: None };
        if let Some(layers) = layers {
            let empty = BytesMut::new;
            let mut layered =
                Layered { layer: layers.layer()?, came: empty(), plain: empty(), unsent: empty() };
            layered.shake_hands(&wire.socket, patience)?;
            wire.layered = Some(layered);
        }
        wire.socket.set_nonblocking(true)?;
        Ok(wire)
    }
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(layered) = &mut self.layered else { return self.socket.read(bytes) };
        while layered.plain.is_empty() {
            if layered.layer.has_ended() || !layered.receive(&self.socket)? {
                return Ok(0);
            }
        }
        let count = bytes.len().min(layered.plain.len());
        layered.plain.copy_to_slice(&mut bytes[..count]);
        Ok(count)
    }
}

impl Write for Wire {
    /// Takes all of it as soon as the layer has nothing unsent.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(layered) = &mut self.layered else { return self.socket.write(bytes) };
        layered.send(&self.socket)?;
        layered.layer.seal(bytes, &mut layered.came, &mut layered.unsent)?;
        match layered.send(&self.socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    /// Sends what the layer has not sent yet.
    fn flush(&mut self) -> io::Result<()> {
        self.layered.as_mut().map_or(Ok(()), |layered| layered.send(&self.socket))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Layered {
    fn shake_hands(&mut self, socket: &TcpStream, patience: Duration) -> io::Result<()> {
        let begun = Instant::now();
        socket.set_write_timeout(Some(patience))?;
        self.open(socket)?;
        while !self.layer.is_open() {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            if !self.receive(socket)? {
                return Err(ErrorKind::ConnectionReset.into());
            }
        }
        Ok(())
    }

    /// Receives once and opens what came; false at the end.
    fn receive(&mut self, mut socket: &TcpStream) -> io::Result<bool> {
        let known = self.came.len();
        self.came.resize(known + BLOCK, 0);
        let received = loop {
            match socket.read(&mut self.came[known..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        self.came.truncate(known + *received.as_ref().unwrap_or(&0));
        if received? == 0 {
            return Ok(false);
        }
        self.open(socket)?;
        Ok(true)
    }

    fn open(&mut self, socket: &TcpStream) -> io::Result<()> {
        let opened = self.layer.open(&mut self.came, &mut self.plain, &mut self.unsent);
        // What a failed handshake has to say is said, if anybody listens.
        match self.send(socket) {
            Err(error) if opened.is_ok() && error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => opened,
        }
    }

    fn send(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(count) => self.unsent.advance(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
