//! Datagram services in the simulator: one that remembers, and some that are wrong.
#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use roadstead_proto::{
    Budget, DatagramContext, DatagramService, DatagramSession, JobId, Lost, Ready, Scope,
    datagrams::{Arrivals, Path, Unsent},
};
use roadstead_sim::{DatagramFaults, DatagramSim, Why, seeds};

const LIMIT: Duration = Duration::from_secs(3_600);
const HELLO: &[u8] = b"hello";
const ANSWER: usize = 1_000;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Gives a cookie to whoever says hello, remembers who brings it back, and works for these.
#[derive(Clone, Default)]
struct Desk {
    secret: [u8; 8],
    forgotten: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Desk {
    /// No cryptography is needed to show where it would stand.
    fn cookie(&self, peer: SocketAddr) -> [u8; 8] {
        let SocketAddr::V4(peer) = peer else { return self.secret };
        let [a, b, c, d] = peer.ip().octets();
        std::array::from_fn(|at| self.secret[at] ^ [a, b, c, d, a, b, c, d][at])
    }
}

impl DatagramService for Desk {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Desk {
    type Reply = SocketAddr;
    type Peer = u32;

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        match why {
            Ready::Opened => cx.random(&mut self.secret).unwrap(),
            Ready::Draining => cx.finish(),
            _ => {}
        }
    }

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch {
            let peer = datagram.path.peer();
            let cookie = self.cookie(peer);
            if datagram.bytes != cookie {
                if datagram.bytes == HELLO {
                    assert_eq!(cx.send(&mut datagram.path, &[0; ANSWER]), Err(Unsent::Amplified));
                    let _ = cx.send(&mut datagram.path, &cookie);
                }
                continue;
            }
            datagram.path.validate();
            if let Err(path) = cx.peers().heard(datagram.path)
                && cx.peers().keep(path, 0, 0).is_err()
            {
                continue;
            }
            self.most.fetch_max(cx.peers().len(), SeqCst);
            let _ = cx.run(1, move || peer);
        }
    }

    fn reply(&mut self, _: JobId, reply: Result<SocketAddr, Lost>, cx: &mut DatagramContext<'_, Self>) {
        let peer = reply.unwrap();
        if let Some(count) = cx.peers().get_mut(peer) {
            *count += 1;
        }
        let _ = cx.send_to(peer, &[7; ANSWER]);
    }

    fn forgotten(&mut self, _: SocketAddr, asked: u32, _: &mut DatagramContext<'_, Self>) {
        assert!(asked > 0, "nobody is remembered who was not served");
        self.forgotten.fetch_add(1, SeqCst);
    }
}

/// Says hello until it is given a cookie, brings that back until it is served, and leaves a while later.
#[derive(Clone)]
struct Guest {
    server: SocketAddr,
    cookie: Option<Vec<u8>>,
    served: bool,
    stays: Duration,
}

impl DatagramService for Guest {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Guest {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        if why == Ready::Draining || self.served {
            return cx.finish();
        }
        let says = self.cookie.as_deref().unwrap_or(HELLO);
        let _ = cx.send(&mut Path::to(self.server), says);
        cx.wake_at(Some(cx.now() + Duration::from_secs(1)));
    }

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for datagram in batch.filter(|datagram| !datagram.truncated) {
            match datagram.bytes.len() {
                8 if self.cookie.is_none() => self.cookie = Some(datagram.bytes.to_vec()),
                ANSWER if !self.served => {
                    self.served = true;
                    cx.wake_at(Some(cx.now() + self.stays));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn whoever_brings_a_cookie_back_is_remembered_served_and_forgotten_and_a_forger_is_not() {
    let server = address("10.0.0.1:7");
    DatagramSim::check(seeds(300), |sim| {
        let desk = Desk::default();
        let budget = Budget::default().idle(Duration::from_secs(10)).jobs(3);
        let mut sim = sim.budget(budget).serve(server, desk.clone());
        for number in 0..5 {
            let guest = Guest { server, cookie: None, served: false, stays: Duration::from_secs(60) };
            sim = sim.client(SocketAddr::from(([10, 0, 1, number], 5_000)), guest);
        }
        for number in 0..20 {
            let forged = SocketAddr::from(([10, 9, 9, number], 1));
            sim = sim.forge(Duration::from_millis(u64::from(number) * 100), forged, server, HELLO);
            sim = sim.forge(Duration::from_millis(u64::from(number) * 90), forged, server, b"guessed!");
        }
        let report = sim.run(LIMIT)?;
        assert!(report.took >= Duration::from_secs(60) && desk.most.load(SeqCst) <= 5);
        assert!(desk.forgotten.load(SeqCst) >= 5);
        for number in 0..20 {
            let forged = SocketAddr::from(([10, 9, 9, number], 1));
            let (came, went) = (report.flow(forged, server), report.flow(server, forged));
            assert!(went.sent_bytes <= 3 * came.received_bytes);
        }
        Ok(())
    });
}

#[test]
fn a_full_table_remembers_nobody_else_until_somebody_is_forgotten() {
    let server = address("10.0.0.1:7");
    DatagramSim::check(seeds(100), |sim| {
        let desk = Desk::default();
        let budget = Budget::default().connections(2).idle(Duration::from_secs(5));
        let mut sim = sim.budget(budget).serve(server, desk.clone());
        for number in 0..6 {
            let guest = Guest { server, cookie: None, served: false, stays: Duration::ZERO };
            sim = sim.client(SocketAddr::from(([10, 0, 1, number], 5_000)), guest);
        }
        sim.run(LIMIT)?;
        assert_eq!(desk.most.load(SeqCst), 2);
        Ok(())
    });
}

/// Asks where nobody is, until the network says so.
#[derive(Clone)]
struct Lonely(SocketAddr);

impl DatagramService for Lonely {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Lonely {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, _: Ready, cx: &mut DatagramContext<'_, Self>) {
        let _ = cx.send(&mut Path::to(self.0), b"anybody?");
        cx.wake_at(Some(cx.now() + Duration::from_secs(1)));
    }

    fn receive(&mut self, batch: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {
        panic!("nobody is there, and {} came", batch.len());
    }

    fn unreachable(&mut self, who: SocketAddr, cx: &mut DatagramContext<'_, Self>) {
        assert_eq!(who, self.0);
        cx.finish();
    }
}

#[test]
fn that_nobody_is_there_is_heard() {
    DatagramSim::check(seeds(200), |sim| {
        sim.client(address("10.0.0.2:5000"), Lonely(address("10.0.0.1:7"))).run(LIMIT).map(drop)
    });
}

/// Answers twice what it is asked.
#[derive(Clone)]
struct Twice;

impl DatagramService for Twice {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        Self
    }
}

impl DatagramSession for Twice {
    type Reply = ();
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch {
            let _ = cx.send(&mut datagram.path, &datagram.bytes.repeat(2));
        }
    }
}

/// Asks every second, until it was answered or has asked often enough.
#[derive(Clone)]
struct Asks {
    server: SocketAddr,
    length: usize,
    patience: u32,
    answered: Arc<AtomicUsize>,
}

impl DatagramService for Asks {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Asks {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        if why == Ready::Draining || self.patience == 0 {
            return cx.finish();
        }
        self.patience -= 1;
        cx.send(&mut Path::to(self.server), &vec![7; self.length]).unwrap();
        cx.wake_at(Some(cx.now() + Duration::from_secs(1)));
    }

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        self.answered.fetch_add(batch.len(), SeqCst);
        cx.finish();
    }
}

#[test]
fn an_answer_that_is_too_long_for_the_way_is_dropped_and_those_behind_it_are_sent() {
    let server = address("10.0.0.1:7");
    DatagramSim::check(seeds(200), |sim| {
        let asks = |length, patience| Asks { server, length, patience, answered: Arc::default() };
        let (long, short) = (asks(1_000, 5), asks(100, 60));
        let faults = DatagramFaults { mtu: 1_500, ..DatagramFaults::gentle() };
        let (here, there) = (address("10.0.1.1:5000"), address("10.0.1.2:5000"));
        let sim = sim.faults(faults).serve(server, Twice).client(here, long.clone());
        let report = sim.client(there, short.clone()).run(LIMIT)?;
        assert_eq!(long.answered.load(SeqCst), 0);
        assert!(short.answered.load(SeqCst) > 0, "{:?}", report.stats[0]);
        // Each of them is sent, and lost, or is known to be too long and counted.
        let (asked, sent) = (report.flow(here, server).received, report.flow(server, here).sent);
        let dropped = report.stats[0].datagrams_dropped;
        assert!(dropped + sent == asked && (dropped == 0 || sent == 0), "{asked}: {dropped}, {sent}");
        Ok(())
    });
}

/// Has so many to send, and waits for room where there is none.
#[derive(Clone)]
struct Pours(SocketAddr, usize);

impl DatagramService for Pours {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Pours {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, _: Ready, cx: &mut DatagramContext<'_, Self>) {
        while self.1 > 0 && cx.send(&mut Path::to(self.0), &[7; 500]).is_ok() {
            self.1 -= 1;
        }
        if self.1 == 0 {
            cx.finish();
        }
    }

    fn receive(&mut self, _: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {}
}

#[test]
fn whoever_waits_for_room_has_it_although_what_waited_was_dropped_for_want_of_memory() {
    let (server, client) = (address("10.0.0.1:7"), address("10.0.0.2:5000"));
    DatagramSim::check(seeds(200), |sim| {
        let budget = Budget::default().buffer_each(8_000).buffer_all(5_000);
        let sim = sim.budget(budget).serve(server, Twice).client(client, Pours(server, 300));
        sim.run(LIMIT).map(drop)
    });
}

/// Services that are wrong, each in its way.
#[derive(Clone, Copy)]
enum Wrong {
    /// Panics over what it is sent.
    Panics,
    /// Does not finish when it is to.
    Stays,
    /// Sends in a circle without time passing.
    Spins,
}

impl DatagramService for Wrong {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        *self
    }
}

impl DatagramSession for Wrong {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        match self {
            Wrong::Spins => cx.waker().wake(),
            Wrong::Panics if why == Ready::Draining => cx.finish(),
            _ => {}
        }
    }

    fn receive(&mut self, _: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {
        assert!(!matches!(self, Wrong::Panics), "it cannot read that");
    }
}

#[test]
fn what_is_wrong_with_a_service_is_found() {
    let (server, client) = (address("10.0.0.1:7"), address("10.0.0.2:5000"));
    let why = |wrong| {
        let sim = DatagramSim::new(1).faults(DatagramFaults::none()).serve(server, wrong);
        sim.forge(Duration::ZERO, client, server, b"ahoy").run(LIMIT).unwrap_err().why
    };
    assert!(matches!(why(Wrong::Panics), Why::Panicked(said) if said.contains("cannot read")));
    assert!(matches!(why(Wrong::Stays), Why::Undrained));
    assert!(matches!(why(Wrong::Spins), Why::Livelock));
    let sim = DatagramSim::new(1).client(client, Wrong::Stays);
    assert!(matches!(sim.run(LIMIT).unwrap_err().why, Why::Hung { open: 1, .. }));
}
