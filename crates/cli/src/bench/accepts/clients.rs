//! Clients that connect for every byte.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use roadstead_load::measure::Recorder;
use rustix::net::sockopt::set_socket_linger;

use crate::{signals, threads};

/// How long a connection may take to open, and its byte to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client rests that could not be served.
const REST: Duration = Duration::from_millis(10);

/// What has come of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// From the beginning of a connection to its first byte, of those that were right.
    pub(super) times: Recorder,
    /// Connections of which another byte came back.
    pub(super) wrong: u64,
    /// Those that could not be opened, or of which nothing came back.
    pub(super) failed: u64,
    /// How long it took in all.
    pub(super) seconds: f64,
}

/// Has so many clients ask for so long.
pub(super) fn ask(server: SocketAddr, clients: u16, time: Duration) -> io::Result<Tally> {
    let begun = Instant::now();
    let mut tally = thread::scope(|scope| {
        let ask = |_| threads::begin(scope, move || one(server, begun + time));
        let asking = (0..clients).map(ask).collect::<io::Result<Vec<_>>>()?;
        let tallies = asking.into_iter().filter_map(|client| client.join().ok());
        io::Result::Ok(tallies.fold(Tally::default(), Tally::with))
    })?;
    tally.seconds = begun.elapsed().as_secs_f64();
    Ok(tally)
}

impl Tally {
    fn with(mut self, other: Self) -> Self {
        self.times.merge(&other.times);
        self.wrong += other.wrong;
        self.failed += other.failed;
        self
    }
}

fn one(server: SocketAddr, until: Instant) -> Tally {
    let mut tally = Tally::default();
    for byte in (0..=u8::MAX).cycle() {
        let begun = Instant::now();
        if begun >= until || signals::interrupted() {
            break;
        }
        match first_byte(server, byte) {
            Ok(back) if back == byte => tally.times.record(begun.elapsed()),
            Ok(_) => tally.wrong += 1,
            Err(_) => {
                tally.failed += 1;
                thread::sleep(REST);
            }
        }
    }
    tally
}

/// What comes back of a byte over a connection of its own.
fn first_byte(server: SocketAddr, byte: u8) -> io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut back = [0];
    let came = stream.write_all(&[byte]).and_then(|()| stream.read_exact(&mut back));
    // It ends with a reset: thousands of ports a second would be missing while they are in TIME_WAIT.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    came.map(|()| back[0])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_comes_back_right_changed_or_not_at_all_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let mut served = 0_u64;
            for number in 0.. {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    return served;
                }
                match number % 4 {
                    1 => byte[0] ^= 1,
                    3 => continue,
                    _ => {}
                }
                stream.write_all(&byte).unwrap();
                served += 1;
            }
            served
        });
        let tally = ask(server, 1, Duration::from_millis(200)).unwrap();
        // The end of the other side.
        drop(TcpStream::connect(server).unwrap());
        assert_eq!(serving.join().unwrap(), tally.times.count() + tally.wrong);
        assert!(tally.seconds >= 0.2 && tally.failed > 0 && tally.wrong > 0);
        assert!(tally.times.count() >= tally.wrong.max(tally.failed));
    }

    #[test]
    fn where_nobody_listens_all_fail() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let tally = ask(free, 2, Duration::from_millis(50)).unwrap();
        assert!(tally.failed >= 2 && tally.times.count() + tally.wrong == 0);
    }
}
