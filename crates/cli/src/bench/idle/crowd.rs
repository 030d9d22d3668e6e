//! Connections that have something echoed once and then say nothing.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{bench::payload::Base, outcome::Result};

/// What each has echoed.
pub(super) const FIRST: usize = 16 << 10;
/// So many have it echoed at once.
const TOGETHER: usize = 64;
/// How long a connection may take to open, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Crowd(Vec<TcpStream>);

impl Crowd {
    pub(super) fn connect(server: SocketAddr, size: usize) -> Result<Self> {
        let connect = |number| -> Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(|error| {
                format!("only {number} of {size} idle connections could be opened: {error}")
            })?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        Ok(Self((0..size).map(connect).collect::<Result<_>>()?))
    }

    /// Has every connection send its message; how many got back something else, or nothing.
    pub(super) fn echo(&mut self) -> u64 {
        let base = Base::new(FIRST);
        let mut wrong = 0;
        for (group, streams) in self.0.chunks_mut(TOGETHER).enumerate() {
            let message = |at: usize| base.message((group * TOGETHER + at) as u128, 0, FIRST);
            let sent: Vec<_> =
                streams.iter_mut().enumerate().map(|(at, stream)| stream.write_all(&message(at))).collect();
            for (at, (stream, sent)) in streams.iter_mut().zip(sent).enumerate() {
                let mut back = vec![0; FIRST];
                let right = sent.and_then(|()| stream.read_exact(&mut back)).is_ok() && back == message(at);
                wrong += u64::from(!right);
            }
        }
        wrong
    }

    /// How many the server has ended, or sent something that nobody asked for.
    pub(super) fn lost(&self) -> Result<u64> {
        let mut lost = 0;
        for stream in &self.0 {
            stream.set_nonblocking(true)?;
            let silent = stream.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            lost += u64::from(!silent);
        }
        Ok(lost)
    }
}
