//! What a relay loses of datagrams that are sent faster than it passes them on, with and without a cap at the sender.
//!
//! The relay passes on 10 Mbit/s, keeps 64 KiB, and drops what it has no room for, as routers do. A service sends
//! datagrams of 1,200 bytes with their headers for twenty seconds, at so many times that rate: evenly, or what there is
//! every 100 ms at once. The same table comes out every time:
//!
//! ```sh
//! cargo run -p roadstead-sim --example relay
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example that prints a table")]

use std::{net::SocketAddr, time::Duration};

use roadstead_proto::{
    Budget, DatagramContext, DatagramService, DatagramSession, Ready, Scope,
    datagrams::{Arrivals, Path},
};
use roadstead_sim::{DatagramFaults, DatagramSim, Relay};

/// What the relay passes on, in bytes per second, and what it keeps.
const RELAY: Relay = Relay { rate: 1_250_000, queue: 64 << 10 };
/// A datagram, with headers and without.
const LENGTH: u64 = 1_200;
const PAYLOAD: [u8; LENGTH as usize - 28] = [7; LENGTH as usize - 28];
const LASTS: Duration = Duration::from_secs(20);

/// Sends so many bytes per second, in steps, without caring what becomes of them.
#[derive(Clone)]
struct Source {
    to: SocketAddr,
    rate: u64,
    step: Duration,
    sent: u64,
}

impl DatagramService for Source {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        self.clone()
    }
}

impl DatagramSession for Source {
    type Reply = ();
    type Peer = ();

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        if why == Ready::Draining || cx.now() >= LASTS {
            return cx.finish();
        }
        if why == Ready::Room {
            return;
        }
        let due = (u128::from(self.rate) * cx.now().as_nanos() / 1_000_000_000) as u64 / LENGTH;
        while self.sent < due {
            self.sent += 1;
            let _ = cx.send(&mut Path::to(self.to), &PAYLOAD);
        }
        cx.wake_at(Some(cx.now() + self.step));
    }

    fn receive(&mut self, _: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {}
}

/// Takes what comes.
struct Sink;

impl DatagramService for Sink {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        Self
    }
}

impl DatagramSession for Sink {
    type Reply = ();
    type Peer = ();
    fn receive(&mut self, _: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {}
}

/// Of a hundred datagrams, how many the relay lost, and how many the cap kept back.
fn lost(times: f64, step: Duration, cap: u64) -> (f64, f64) {
    let [from, to]: [SocketAddr; 2] = ["10.0.0.1:7", "10.0.0.2:9"].map(|text| text.parse().unwrap());
    let source = Source { to, rate: (RELAY.rate as f64 * times) as u64, step, sent: 0 };
    let faults = DatagramFaults { relay: Some(RELAY), ..DatagramFaults::none() };
    let sim = DatagramSim::new(1).faults(faults).budget(Budget::default().rate_each(cap));
    let report = sim.client(from, source).serve(to, Sink).run(2 * LASTS).unwrap();
    let (flow, kept) = (report.flow(from, to), report.stats[0].datagrams_dropped);
    let all = (flow.sent + kept) as f64;
    (100.0 * (flow.sent - flow.received) as f64 / all, 100.0 * kept as f64 / all)
}

fn main() {
    println!(
        "| sent at | evenly: lost | with a cap: lost | kept back | at once: lost | with a cap: lost | kept back |"
    );
    println!("|---|---|---|---|---|---|---|");
    for times in [0.5, 0.9, 1.0, 1.1, 1.5, 2.0] {
        let mut row = format!("| {times:.1} x |");
        for step in [1, 100].map(Duration::from_millis) {
            let (without, _) = lost(times, step, 0);
            let (with, kept) = lost(times, step, RELAY.rate);
            row += &format!(" {without:.1} % | {with:.1} % | {kept:.1} % |");
        }
        println!("{row}");
    }
}
