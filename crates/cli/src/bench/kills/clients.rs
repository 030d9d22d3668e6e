//! Clients that know which of their connections may fail: those that a killed process had.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    iter::Sum,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::io::retry_on_intr;
use serde::Serialize;

use crate::bench::{
    dice::Dice,
    payload::{Base, HASH},
};

/// What this measurement draws by chance.
pub(super) const WHAT: &str = "roadstead bench kills";
/// A message is longer than its hash by less than this.
const LONGEST: u64 = 16 << 10;
/// Messages of a connection: up to so many if it is short, and if it is long.
const SHORT: u64 = 8;
const LONG: u64 = 4096;
/// No answer takes as long; what does has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between a connection that could not be opened and the next.
const PAUSE: Duration = Duration::from_millis(5);

/// What the clients share with each other and with who kills.
pub(super) struct Clients {
    server: SocketAddr,
    seed: u64,
    base: Base,
    start: Instant,
    pub(super) over: AtomicBool,
    /// When each has got its last right answer, in nanoseconds since the start.
    answered: Vec<AtomicU64>,
    /// By the client's port, when a process that had the connection was about to be killed.
    doomed: Mutex<HashMap<u16, Instant>>,
}

/// What has become of connections and messages.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Tally {
    pub(super) right: u64,
    pub(super) wrong: u64,
    pub(super) connections: u64,
    /// Connections that failed and that a killed process had.
    pub(super) failed_of_killed: u64,
    /// All others that failed.
    pub(super) failed_of_others: u64,
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |all, it| Self {
            right: all.right + it.right,
            wrong: all.wrong + it.wrong,
            connections: all.connections + it.connections,
            failed_of_killed: all.failed_of_killed + it.failed_of_killed,
            failed_of_others: all.failed_of_others + it.failed_of_others,
        })
    }
}

impl Clients {
    pub(super) fn new(server: SocketAddr, seed: u64, count: u8) -> Self {
        Self {
            server,
            seed,
            base: Base::new(HASH + LONGEST as usize),
            start: Instant::now(),
            over: AtomicBool::new(false),
            answered: (0..count).map(|_| AtomicU64::new(0)).collect(),
            doomed: Mutex::default(),
        }
    }

    /// The connections from these ports may fail from now on.
    pub(super) fn doom(&self, ports: impl IntoIterator<Item = u16>) {
        let now = Instant::now();
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        doomed.extend(ports.into_iter().map(|port| (port, now)));
    }

    /// Whether every client has had a right answer since then.
    pub(super) fn all_served_since(&self, then: Instant) -> bool {
        let then = then.saturating_duration_since(self.start).as_nanos() as u64;
        self.answered.iter().all(|answered| answered.load(SeqCst) > then)
    }

    /// Opens one connection after the other and asks on each until it is over. Half of them are short.
    pub(super) fn ask(&self, client: u8) -> Tally {
        let mut dice = Dice::new(WHAT, self.seed, client.into());
        let mut tally = Tally::default();
        while !self.over.load(SeqCst) {
            let most = if dice.below(2) == 0 { SHORT } else { LONG };
            let messages = 1 + dice.below(most);
            let begun = Instant::now();
            let mut port = None;
            let outcome = self.open().and_then(|mut stream| {
                tally.connections += 1;
                port = Some(stream.local_addr()?.port());
                self.converse(client, &mut stream, messages, &mut dice, &mut tally)
            });
            let Err(error) = outcome else { continue };
            if port.is_some_and(|port| self.may_fail(port, begun)) {
                tally.failed_of_killed += 1;
            } else {
                tracing::error!(%error, "a connection failed that no killed process had");
                tally.failed_of_others += 1;
                thread::sleep(PAUSE);
            }
        }
        tally
    }

    /// A port may have belonged to an earlier connection: what happened to that is no excuse.
    fn may_fail(&self, port: u16, begun: Instant) -> bool {
        let doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        doomed.get(&port).is_some_and(|&at| at >= begun)
    }

    fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Sends messages and waits for each; then ends the connection, and waits until the server has too.
    fn converse(
        &self,
        client: u8,
        stream: &mut TcpStream,
        messages: u64,
        dice: &mut Dice,
        tally: &mut Tally,
    ) -> io::Result<()> {
        for _ in 0..messages {
            if self.over.load(SeqCst) {
                break;
            }
            // Small ones are likelier.
            let range = LONGEST >> dice.below(10);
            let length = HASH + dice.below(range) as usize;
            let message = self.base.message((tally.right + tally.wrong).into(), client, length);
            if !is_echoed(stream, &message)? {
                tally.wrong += 1;
                continue;
            }
            tally.right += 1;
            self.answered[usize::from(client)].store(self.start.elapsed().as_nanos() as u64, SeqCst);
        }
        stream.shutdown(Shutdown::Write)?;
        tally.wrong += u64::from(retry_on_intr(|| rustix::io::read(&*stream, &mut [0]))? != 0);
        Ok(())
    }

    /// Opens as many connections as there are clients and has each say something before any ends: how many got it back.
    pub(super) fn all_at_once(&self) -> usize {
        let mut streams: Vec<TcpStream> = self.answered.iter().filter_map(|_| self.open().ok()).collect();
        let message = self.base.message(0, u8::MAX, HASH);
        streams
            .iter_mut()
            .filter_map(|stream| is_echoed(stream, &message).ok())
            .filter(|&right| right)
            .count()
    }
}

fn is_echoed(stream: &mut TcpStream, message: &[u8]) -> io::Result<bool> {
    stream.write_all(message)?;
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back)?;
    Ok(back == message)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Takes the next client, and sends back its first message, changed or not.
    fn serve(listener: &TcpListener, change: u8) -> (TcpStream, u16) {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut block = vec![0; HASH + LONGEST as usize];
        let length = retry_on_intr(|| rustix::io::read(&stream, &mut block[..])).unwrap();
        block[0] ^= change;
        stream.write_all(&block[..length]).unwrap();
        (stream, peer.port())
    }

    #[test]
    fn only_a_connection_that_a_killed_process_had_may_fail() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clients = &Clients::new(listener.local_addr().unwrap(), 1, 1);
        let start = Instant::now();
        let tally = thread::scope(|scope| {
            let client = scope.spawn(|| clients.ask(0));
            let (killed, port) = serve(&listener, 0);
            clients.doom([port]);
            drop(killed);
            drop(serve(&listener, 0));
            let (stream, _) = serve(&listener, 1);
            clients.over.store(true, SeqCst);
            drop((stream, listener));
            client.join().unwrap()
        });
        assert_eq!((tally.failed_of_killed, tally.wrong), (1, 1));
        assert!(tally.failed_of_others >= 1 && tally.connections >= 3, "{tally:?}");
        assert!(clients.all_served_since(start) && !clients.all_served_since(Instant::now()));
    }

    #[test]
    fn tallies_are_added_figure_by_figure() {
        let tally = |times| Tally {
            right: times,
            wrong: 10 * times,
            connections: 100 * times,
            failed_of_killed: 1_000 * times,
            failed_of_others: 10_000 * times,
        };
        assert_eq!([tally(1), tally(2), tally(4)].into_iter().sum::<Tally>(), tally(7));
        assert_eq!(std::iter::empty().sum::<Tally>(), Tally::default());
    }

    #[test]
    fn of_all_at_once_those_count_that_get_back_what_they_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clients = &Clients::new(listener.local_addr().unwrap(), 1, 4);
        let served = thread::scope(|scope| {
            let asking = scope.spawn(|| clients.all_at_once());
            let mut streams: Vec<TcpStream> = (0..4).map(|_| listener.accept().unwrap().0).collect();
            for (at, mut stream) in streams.drain(..).enumerate() {
                let mut message = [0; HASH];
                stream.read_exact(&mut message).unwrap();
                message[HASH - 1] ^= u8::from(at == 1);
                if at != 2 {
                    stream.write_all(&message).unwrap();
                }
            }
            asking.join().unwrap()
        });
        assert_eq!(served, 2, "one was told something else, and one nothing");
    }

    #[test]
    fn what_is_sent_after_an_answer_is_wrong() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clients = &Clients::new(listener.local_addr().unwrap(), 1, 1);
        let mut tally = Tally::default();
        let mut stream = clients.open().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"!").unwrap();
        clients.converse(0, &mut stream, 0, &mut Dice::new(WHAT, 1, 1), &mut tally).unwrap();
        assert_eq!(tally, Tally { wrong: 1, ..Tally::default() });
    }

    #[test]
    fn what_happened_to_an_earlier_connection_of_the_port_is_no_excuse() {
        let clients = Clients::new(SocketAddr::from(([127, 0, 0, 1], 9)), 1, 1);
        let earlier = Instant::now();
        clients.doom([4000]);
        assert!(clients.may_fail(4000, earlier) && !clients.may_fail(4001, earlier));
        assert!(!clients.may_fail(4000, Instant::now()));
    }
}
