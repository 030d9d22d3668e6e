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

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A crowd of five, served so: right, changed in the last byte, cut off before it, closed at once, right and more.
    fn served() -> (Crowd, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut crowd = Crowd::connect(listener.local_addr().unwrap(), 5).unwrap();
        let mut ends: Vec<TcpStream> = (0..5).map(|_| listener.accept().unwrap().0).collect();
        thread::scope(|scope| {
            let asking = scope.spawn(|| crowd.echo());
            for (at, end) in ends.iter_mut().enumerate() {
                let mut message = vec![0; FIRST];
                end.read_exact(&mut message).unwrap();
                match at {
                    1 => message[FIRST - 1] ^= 1,
                    2 => message.truncate(FIRST - 1),
                    3 => message.clear(),
                    4 => message.push(7),
                    _ => {}
                }
                end.write_all(&message).unwrap();
                if matches!(at, 2 | 3) {
                    end.shutdown(std::net::Shutdown::Both).unwrap();
                }
            }
            assert_eq!(asking.join().unwrap(), 3, "changed, cut off, and closed");
        });
        (crowd, ends)
    }

    #[test]
    fn who_did_not_get_back_what_it_sent_and_who_was_ended_or_told_more_is_counted() {
        let (crowd, mut ends) = served();
        let lost = |wanted| {
            let start = std::time::Instant::now();
            // It may be under way.
            while crowd.lost().unwrap() != wanted {
                assert!(start.elapsed() < Duration::from_secs(30), "{}", crowd.lost().unwrap());
                thread::yield_now();
            }
        };
        lost(3);
        drop(ends.remove(0));
        lost(4);
    }

    #[test]
    fn how_many_could_be_opened_is_said() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let Err(error) = Crowd::connect(nobody, 7) else { panic!("somebody listens there") };
        assert!(error.to_string().starts_with("only 0 of 7 idle connections could be opened: "), "{error}");
    }

    #[test]
    fn no_two_of_a_crowd_send_the_same() {
        const SIZE: usize = 2 * TOGETHER + 1;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut said = thread::scope(|scope| {
            let server = listener.local_addr().unwrap();
            let asking = scope.spawn(move || Crowd::connect(server, SIZE).unwrap().echo());
            let ends: Vec<TcpStream> = (0..SIZE).map(|_| listener.accept().unwrap().0).collect();
            let echo = |mut end: &TcpStream| {
                let mut message = vec![0; FIRST];
                end.read_exact(&mut message).unwrap();
                end.write_all(&message).unwrap();
                message
            };
            let said: Vec<Vec<u8>> = ends.iter().map(echo).collect();
            assert_eq!(asking.join().unwrap(), 0);
            said
        });
        said.sort();
        said.dedup();
        assert_eq!(said.len(), SIZE);
    }
}
