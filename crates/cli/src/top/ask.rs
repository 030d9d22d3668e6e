//! Asks a server's `--admin` for its metrics: one connection, one question.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use roadstead::{Address, UnixName};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};

use super::figures::Figures;
use crate::{addresses::Place, outcome::Result};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// No answer is longer.
const LONGEST: usize = 1 << 20;

/// A server's `--admin`.
pub(super) struct Source {
    address: Address,
}

impl Source {
    /// The first of the addresses that somebody listens at.
    pub(super) fn new(place: &Place) -> Result<Self> {
        Ok(Self { address: place.reached()? })
    }

    /// What the server tells now.
    pub(super) fn ask(&self) -> Result<Figures> {
        let address = &self.address;
        let answer = self.answer().map_err(|error| format!("cannot ask {address}: {error}"))?;
        let text = String::from_utf8_lossy(&answer);
        let body = text.strip_prefix("HTTP/1.1 200 ").and_then(|rest| rest.split_once("\r\n\r\n"));
        let figures = body.and_then(|(_, body)| Figures::read(body, Instant::now()));
        figures.ok_or_else(|| format!("what answers at {address} is not the --admin of a roadstead").into())
    }

    fn answer(&self) -> io::Result<Vec<u8>> {
        match &self.address {
            Address::Ip(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                converse(stream)
            }
            Address::Unix(name) => {
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                let stream = UnixStream::from(socket);
                stream.set_read_timeout(Some(PATIENCE))?;
                // Also of the connect, which waits for room in the backlog.
                stream.set_write_timeout(Some(PATIENCE))?;
                connect(&stream, &unix(name)?).map_err(|errno| match errno {
                    Errno::AGAIN => io::ErrorKind::TimedOut.into(),
                    errno => io::Error::from(errno),
                })?;
                converse(stream)
            }
        }
    }
}

fn unix(name: &UnixName) -> io::Result<SocketAddrUnix> {
    Ok(match (name.path(), name.as_abstract()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, name) => SocketAddrUnix::new_abstract_name(name.unwrap_or_default())?,
    })
}

fn converse(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let (mut answer, mut block) = (Vec::new(), [0; 16 << 10]);
    loop {
        let count = match stream.read(&mut block) {
            Ok(0) => return Ok(answer),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&block[..count]);
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if answer.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;

    #[test]
    fn whoever_has_a_full_backlog_is_not_waited_for_without_an_end() {
        let name = format!("roadstead-top-{}", std::process::id());
        let name = UnixName::abstract_name(name.as_bytes()).unwrap();
        let address = unix(&name).unwrap();
        let of = |flags| socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let listener = of(SocketFlags::CLOEXEC);
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let another = of(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
            match connect(&another, &address) {
                Ok(()) => waiting.push(another),
                Err(full) => break assert_eq!(full, Errno::AGAIN),
            }
        }
        let source = Source { address: name.into() };
        assert_eq!(source.answer().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
