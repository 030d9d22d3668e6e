//! The ready services over datagrams, in the simulator: whatever is lost, doubled, overtaken, cut or forged.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead_proto::{
    Budget, DatagramContext, DatagramService, DatagramSession, Ready, Scope,
    datagrams::{Arrivals, Path},
};
use roadstead_services::{discard::Discard, echo::Echo};
use roadstead_sim::{DatagramFaults, DatagramSim, seeds};

const LIMIT: Duration = Duration::from_secs(3_600);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Asks for an echo of every length, each again until it has come back whole, or as often as its patience goes.
#[derive(Clone)]
struct Asker {
    server: SocketAddr,
    lengths: Vec<usize>,
    patience: u32,
    /// The lengths that came back.
    told: Arc<Mutex<BTreeSet<usize>>>,
}

impl Asker {
    fn of(server: SocketAddr, lengths: &[usize], patience: u32) -> Self {
        Self { server, lengths: lengths.into(), patience, told: Arc::default() }
    }

    fn said(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + length) as u8).collect()
    }

    fn ask(&mut self, cx: &mut DatagramContext<'_, Self>) {
        if self.lengths.is_empty() || self.patience == 0 {
            return cx.finish();
        }
        self.patience -= 1;
        for &length in &self.lengths {
            let _ = cx.send(&mut Path::to(self.server), &Self::said(length));
        }
        cx.wake_at(Some(cx.now() + Duration::from_secs(1)));
    }
}

impl DatagramService for Asker {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Asker {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        match why {
            Ready::Opened | Ready::Timer => self.ask(cx),
            Ready::Draining => cx.finish(),
            _ => {}
        }
    }

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for datagram in batch {
            assert_eq!(datagram.path.peer(), self.server, "from where it was sent to");
            let length = datagram.bytes.len();
            // One that was cut on the way there comes back as if it had been shorter.
            let whole = [1, 100, 1_200, 1_452, 9_000].map(Self::said);
            assert!(whole.iter().any(|said| said.starts_with(datagram.bytes)), "something is invented");
            if self.lengths.contains(&length) && datagram.bytes == Self::said(length) {
                self.lengths.retain(|&asked| asked != length);
                self.told.lock().unwrap().insert(length);
            }
        }
        if self.lengths.is_empty() {
            cx.finish();
        }
    }
}

#[test]
fn echo_answers_every_length_that_the_way_carries_whatever_the_network_does() {
    let server = address("10.0.0.1:7");
    DatagramSim::check(seeds(500), |sim| {
        let askers: Vec<_> = (0..4).map(|_| Asker::of(server, &[1, 100, 1_200, 1_452], 300)).collect();
        let mut sim = sim.serve(server, Echo);
        for (number, asker) in askers.iter().enumerate() {
            sim = sim.client(SocketAddr::from(([10, 0, 1, number as u8], 5_000)), asker.clone());
        }
        let report = sim.run(LIMIT)?;
        for (number, asker) in askers.iter().enumerate() {
            assert_eq!(asker.told.lock().unwrap().len(), 4, "client {number}, {:?}", report.faults);
        }
        Ok(())
    });
}

/// All services that there are for datagrams.
const SERVICES: [fn(DatagramSim, SocketAddr) -> DatagramSim; 2] =
    [|sim, at| sim.serve(at, Echo), |sim, at| sim.serve(at, Discard)];

#[test]
fn no_service_sends_anybody_more_than_three_times_what_came_in_its_name_whatever_its_length() {
    let servers = ["10.0.0.1:7", "[2001:db8::1]:7"].map(address);
    let victim = |number: usize, server: SocketAddr| match server {
        SocketAddr::V4(_) => SocketAddr::from(([10, 9, (number >> 8) as u8, number as u8], 9)),
        SocketAddr::V6(_) => address(&format!("[2001:db8::9:{number:x}]:9")),
    };
    // None at all, one, and all around what fits.
    let lengths: Vec<_> =
        (0..40).chain((40..1_500).step_by(91)).chain([1_451, 1_452, 1_453, 9_000, 65_507]).collect();
    DatagramSim::check(seeds(100), |mut sim| {
        let seed = sim.seed() as usize;
        let server = servers[seed % 2];
        sim = SERVICES[seed / 2 % SERVICES.len()](sim, server);
        for (number, &length) in lengths.iter().enumerate() {
            let after = Duration::from_millis(number as u64 * 3);
            sim = sim.forge(after, victim(number, server), server, &vec![7; length]);
        }
        let report = sim.run(LIMIT)?;
        for number in 0..lengths.len() {
            let victim = victim(number, server);
            let (asked, sent) = (report.flow(victim, server), report.flow(server, victim));
            assert!(sent.sent_bytes <= 3 * asked.received_bytes, "{asked:?} {sent:?}");
        }
        Ok(())
    });
}

#[test]
fn no_two_services_talk_for_ever_because_of_one_forged_datagram() {
    let addresses = ["10.0.0.1:7", "10.0.0.2:7", "[2001:db8::1]:7", "[2001:db8::2]:7"].map(address);
    let (kinds, pairs) = (4, SERVICES.len() * SERVICES.len());
    DatagramSim::check(seeds(100), |sim| {
        let seed = sim.seed() as usize;
        let kind = seed % kinds;
        let (one, other) =
            if kind.is_multiple_of(2) { (addresses[0], addresses[1]) } else { (addresses[2], addresses[3]) };
        // Every second world loses nothing, where they would talk for longest.
        let sim = if kind < 2 { sim.faults(DatagramFaults::none()) } else { sim };
        let pair = seed / kinds % pairs;
        let sim = SERVICES[pair % SERVICES.len()](sim, one);
        let sim = SERVICES[pair / SERVICES.len()](sim, other);
        let report = sim
            .forge(Duration::ZERO, one, other, b"ahoy")
            .forge(Duration::ZERO, one, one, b"ahoy")
            .run(LIMIT)?;
        let said: u64 =
            [(one, other), (other, one), (one, one)].map(|(a, b)| report.flow(a, b).sent).iter().sum();
        // A doubled datagram doubles what follows: at most 64 hops, and a few copies of each.
        assert!(kind >= 2 || said <= 2 * 64, "{said}");
        Ok(())
    });
}

#[test]
fn what_is_too_long_for_the_way_is_dropped_and_stops_nobody() {
    let server = address("10.0.0.1:7");
    DatagramSim::check(seeds(100), |sim| {
        let asker = Asker::of(server, &[9_000, 100], 20);
        let faults = DatagramFaults { mtu: 1_500, ..DatagramFaults::gentle() };
        let sim = sim.faults(faults).serve(server, Echo);
        sim.client(address("10.0.1.1:5000"), asker.clone()).run(LIMIT)?;
        assert_eq!(*asker.told.lock().unwrap(), BTreeSet::from([100]));
        Ok(())
    });
}

#[test]
fn a_server_that_drains_answers_what_had_come_and_then_nobody() {
    let (server, client) = (address("10.0.0.1:7"), address("10.0.1.1:5000"));
    DatagramSim::check(seeds(100), |sim| {
        let asker = Asker::of(server, &[100], 20);
        let after = Duration::from_millis(sim.seed() % 300);
        let report = sim.serve(server, Echo).client(client, asker.clone()).drain_after(after).run(LIMIT)?;
        let (asked, answered) = (report.flow(client, server), report.flow(server, client));
        let dropped: u64 = report.stats[0].datagrams_dropped + report.stats[0].datagrams_withheld;
        assert_eq!(answered.sent + dropped, asked.received, "{:?}", report.stats[0]);
        Ok(())
    });
}

#[test]
fn a_server_within_a_small_budget_drops_and_goes_on() {
    let server = address("10.0.0.1:7");
    DatagramSim::check(seeds(200), |sim| {
        let budget = Budget::default().buffer_each(3_000).buffer_all(4_000);
        let mut sim = sim.budget(budget).serve(server, Echo);
        let askers: Vec<_> = (0..5).map(|_| Asker::of(server, &[100, 1_200], 300)).collect();
        for (number, asker) in askers.iter().enumerate() {
            sim = sim.client(SocketAddr::from(([10, 0, 1, number as u8], 5_000)), asker.clone());
        }
        sim.run(LIMIT)?;
        assert!(askers.iter().all(|asker| asker.told.lock().unwrap().len() == 2));
        Ok(())
    });
}

#[test]
fn one_seed_is_one_run_to_the_byte() {
    let server = address("10.0.0.1:7");
    for seed in seeds(50) {
        let run = || {
            let asker = Asker::of(server, &[1, 1_200], 300);
            let sim = DatagramSim::new(seed).serve(server, Echo);
            sim.client(address("10.0.1.1:5000"), asker).run(LIMIT).unwrap()
        };
        let (one, other) = (run(), run());
        assert!(one == other && !one.trace.is_empty(), "seed {seed}");
    }
}
