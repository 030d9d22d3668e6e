//! inetd's own echo and discard are the reference: the same schedule of bytes and of endings, played to it and to every
//! model, gets the same bytes back, and the same end.
//!
//! By design a schedule has nothing of that in which they differ. inetd waits for ever for a peer that says nothing or
//! does not take its answers, and bounds how many come in a minute; here such a peer is closed, after times of the
//! budget, and what is bounded is how many are there at once, and what they hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt, fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process, thread,
};

use tempfile::TempDir;

use roadstead::Model;
use roadstead_conformance::{
    chance::{Chance, Pieces},
    child::Child,
    client::{End, eventually, pattern},
    foreign::{Foreign, skip},
    setting::Setting,
    wire::Wire,
};

/// Schedules that each server is given.
const SEEDS: std::ops::Range<u64> = 0..24;

#[test]
fn every_model_answers_as_inetd_does() {
    let Some(inetd) = Inetd::start() else { return };
    for service in [Service::Echo, Service::Discard] {
        let address = inetd.address(service);
        let schedules: Vec<_> = SEEDS.map(Schedule::of).collect();
        let expected: Vec<_> = schedules.iter().map(|schedule| schedule.play(service, address)).collect();
        for model in Model::ALL.into_iter().filter(|model| model.obstacle().is_none()) {
            let child = Child::start(&Setting::of(model), service.name());
            for (seed, (schedule, expected)) in schedules.iter().zip(&expected).enumerate() {
                let heard = schedule.play(service, child.address());
                assert!(
                    heard == *expected,
                    "{model} {service:?}, seed {seed}: {heard} instead of {expected}"
                );
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Service {
    Echo,
    Discard,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Echo => "echo",
            Service::Discard => "discard",
        }
    }
}

/// inetd on a loopback address that no other process uses.
struct Inetd {
    ip: IpAddr,
    _program: Foreign,
    _configuration: TempDir,
}

impl Inetd {
    /// `None` if it is not here, or if nobody may listen on its services' ports.
    fn start() -> Option<Self> {
        let [_, high, middle, low] = process::id().to_be_bytes();
        let ip = IpAddr::from(Ipv4Addr::new(127, 64 | high, middle, low));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inetd.conf");
        let services = [Service::Echo, Service::Discard].map(Service::name);
        let lines = services.map(|name| format!("{ip}:{name} stream tcp nowait root internal\n"));
        fs::write(&path, lines.concat()).unwrap();
        let inetd = Self { ip, _program: Self::run(ip, path.to_str().unwrap())?, _configuration: directory };
        for service in [Service::Echo, Service::Discard] {
            eventually("inetd listens", || TcpStream::connect(inetd.address(service)).is_ok());
        }
        Some(inetd)
    }

    fn run(ip: IpAddr, configuration: &str) -> Option<Foreign> {
        if let Err(error) = TcpListener::bind((ip, 7)) {
            skip(&format!("inetd's echo cannot listen on {ip}:7: {error}"));
            return None;
        }
        // In the foreground; any number of connections a minute.
        Foreign::start("inetd", &["-i", "-R", "0", configuration], "openbsd-inetd")
    }

    fn address(&self, service: Service) -> SocketAddr {
        let port = match service {
            Service::Echo => 7,
            Service::Discard => 9,
        };
        (self.ip, port).into()
    }
}

/// What a client sends, and how it ends.
struct Schedule {
    pieces: Pieces,
    ending: Ending,
}

#[derive(Clone, Copy)]
enum Ending {
    /// A half-close; then all is read.
    Finish,
    /// All is read, then a reset.
    Reset,
    /// A reset, with whatever was answered unread.
    Vanish,
}

/// What a client got back, with which end, if it waited for one; and what the next one got.
#[derive(PartialEq)]
struct Heard {
    bytes: Vec<u8>,
    end: Option<End>,
    next: (Vec<u8>, Option<End>),
}

impl Schedule {
    fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let ending = chance.one_of(&[Ending::Finish, Ending::Finish, Ending::Reset, Ending::Vanish]);
        // What nobody reads has to fit between the two.
        let sizes = if let Ending::Vanish = ending { [0, 1, 300, 20_000] } else { [0, 7, 30_000, 1_000_000] };
        let sent = pattern(chance.one_of(&sizes));
        Self { pieces: chance.cut(sent, &[1, 100, 5_000, 100_000, 300_000], 1_000), ending }
    }

    fn play(&self, service: Service, server: SocketAddr) -> Heard {
        let mut stream = Wire::new(TcpStream::connect(server).unwrap(), None);
        let most = match (self.ending, service) {
            (Ending::Finish, _) => usize::MAX,
            (Ending::Reset, Service::Echo) => self.pieces.iter().map(|(_, piece)| piece.len()).sum(),
            (Ending::Reset, Service::Discard) | (Ending::Vanish, _) => 0,
        };
        let (bytes, end) = thread::scope(|scope| {
            let sending = stream.another();
            scope.spawn(|| self.send(sending));
            hear(&mut stream, most)
        });
        if let Ending::Reset | Ending::Vanish = self.ending {
            stream.reset();
        }
        let mut next = Wire::new(TcpStream::connect(server).unwrap(), None);
        next.write_all(b"ahoy").unwrap();
        next.finish().unwrap();
        Heard { bytes, end, next: hear(&mut next, usize::MAX) }
    }

    /// Sends everything, unless the server ends before: what it said then is heard by whoever reads.
    fn send(&self, mut stream: Wire) {
        for (rest, piece) in &self.pieces {
            thread::sleep(*rest);
            if stream.write_all(piece).is_err() {
                return;
            }
        }
        if let Ending::Finish = self.ending {
            let _ = stream.finish();
        }
    }
}

/// Reads at most so many bytes; the end, if it comes before.
fn hear(stream: &mut Wire, most: usize) -> (Vec<u8>, Option<End>) {
    let (mut bytes, mut block) = (Vec::new(), vec![0; 64 << 10]);
    while bytes.len() < most {
        let wanted = block.len().min(most - bytes.len());
        match stream.read(&mut block[..wanted]) {
            Ok(0) => return (bytes, Some(End::Orderly)),
            Ok(count) => bytes.extend_from_slice(&block[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, Some(End::Reset)),
            Err(error) => panic!("{error} after {} bytes", bytes.len()),
        }
    }
    (bytes, None)
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes and {:?}, then {:?}", self.bytes.len(), self.end, self.next)
    }
}
