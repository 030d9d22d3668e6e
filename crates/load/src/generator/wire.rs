//! A connection of the load: its socket, and the layer between it and the messages, if there is one.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use roadstead::layer::{Layer, Layers};
use socket2::Socket;

/// Bytes that are received for a layer at once.
const BLOCK: usize = 16 * 1024;

/// An open connection whose calls do not wait.
pub(super) struct Wire {
    socket: Socket,
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
    pub(super) fn open(socket: Socket, layers: Option<&dyn Layers>, patience: Duration) -> io::Result<Self> {
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
    fn shake_hands(&mut self, socket: &Socket, patience: Duration) -> io::Result<()> {
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
    fn receive(&mut self, mut socket: &Socket) -> io::Result<bool> {
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

    fn open(&mut self, socket: &Socket) -> io::Result<()> {
        let opened = self.layer.open(&mut self.came, &mut self.plain, &mut self.unsent);
        // What a failed handshake has to say is said, if anybody listens.
        match self.send(socket) {
            Err(error) if opened.is_ok() && error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => opened,
        }
    }

    fn send(&mut self, mut socket: &Socket) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::thread;

    use roadstead::layer::Identity;

    use super::*;

    /// A layer that changes nothing, and has shaken hands at once or never will.
    #[derive(Debug, Clone, Copy)]
    struct Plain {
        is_open: bool,
    }

    impl Layers for Plain {
        fn layer(&self) -> io::Result<Box<dyn Layer>> {
            Ok(Box::new(*self))
        }
    }

    impl Layer for Plain {
        fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, _: &mut BytesMut) -> io::Result<()> {
            plain.unsplit(wire.split());
            Ok(())
        }

        fn seal(&mut self, plain: &[u8], _: &mut [u8], wire: &mut BytesMut) -> io::Result<()> {
            wire.extend_from_slice(plain);
            Ok(())
        }

        fn finish(&mut self, _: &mut [u8], _: &mut BytesMut) {}

        fn is_open(&self) -> bool {
            self.is_open
        }

        fn has_ended(&self) -> bool {
            false
        }

        fn identity(&self) -> Option<Identity> {
            None
        }
    }

    /// A wire through a layer, or why there is none, and what `serve` makes of the other end.
    fn between<T: Send>(
        is_open: bool,
        patience: Duration,
        serve: impl FnOnce(TcpStream) -> T + Send,
        work: impl FnOnce(io::Result<Wire>),
    ) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::from(OwnedFd::from(socket));
        thread::scope(|scope| {
            let (other, _) = listener.accept().unwrap();
            let served = scope.spawn(move || serve(other));
            work(Wire::open(socket, Some(&Plain { is_open }), patience));
            served.join().unwrap()
        })
    }

    /// The time ends during a receive, or between two.
    fn is_late(wire: io::Result<Wire>) -> bool {
        wire.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    #[test]
    fn a_handshake_has_its_time_and_no_more_however_often_the_server_says_something() {
        let drips = |mut socket: TcpStream| {
            for _ in 0..100 {
                if socket.write_all(b"x").is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        };
        between(false, Duration::from_millis(100), drips, |wire| {
            assert!(is_late(wire));
        });
    }

    #[test]
    fn a_server_that_says_nothing_or_goes_in_the_handshake_is_told_apart() {
        let silent = |mut socket: TcpStream| _ = socket.read(&mut [0]);
        between(false, Duration::from_millis(100), silent, |wire| {
            assert!(is_late(wire));
        });
        between(false, Duration::from_secs(60), drop, |wire| {
            assert_eq!(wire.err().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
        });
    }

    /// What a full socket does not take is not lost: it goes before all that follows.
    #[test]
    fn what_the_socket_has_not_taken_is_sent_later_and_in_order() {
        let message: Vec<u8> = (0..32 << 20).map(|at: u32| (at / 251) as u8).collect();
        let (begin, may_begin) = std::sync::mpsc::channel::<()>();
        let reads = move |mut socket: TcpStream| {
            may_begin.recv().unwrap();
            let mut all = Vec::new();
            socket.read_to_end(&mut all).unwrap();
            all
        };
        let sent = message.clone();
        let came = between(true, Duration::from_secs(60), reads, move |wire| {
            let mut wire = wire.unwrap();
            assert_eq!(wire.write(&sent).unwrap(), sent.len(), "the layer has taken it");
            for refused in [wire.write(b"later").err(), wire.flush().err()] {
                assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
            }
            begin.send(()).unwrap();
            while wire.flush().is_err() {
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(wire.write(b"later").unwrap(), 5);
        });
        assert!(came == [&message[..], b"later"].concat(), "{} bytes came", came.len());
    }
}
