//! Caps in the simulator: no more goes than they say, nobody is passed over, everything is over in the end.
#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use roadstead_drivers::accept::opener;
use roadstead_proto::{
    Budget, Closed, Context, DatagramContext, DatagramService, DatagramSession, Done, Input, Peer, Ready,
    Scope, Service, Session,
    connection::dialling::outgoing,
    datagrams::{Arrival, Arrivals, Batch, DatagramEndpoint, DatagramEvent, Datagrams, Ecn},
    host::{Host, Shared},
    ticket::Token,
};
use roadstead_sim::{
    DatagramFaults, DatagramReport, DatagramSim, Faults, Report, Resident, Sim, Tenant, seeds,
};

const LIMIT: Duration = Duration::from_secs(3_600);

/// What a bucket holds, and what a connection takes out of it at once, as `Budget::rate_all` and the book say.
fn burst(rate: u64) -> u64 {
    (rate / 50).max(16 << 10)
}

fn portion(rate: u64) -> u64 {
    (rate / 20).clamp(1, burst(rate) / 2)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// In no time is more sent than the rate in that time, and so much more.
fn assert_within(sent: &[(f64, u64)], rate: u64, more: u64, what: &str) {
    // The least that sum less rate has been: what was sent in any time is what it has risen by since.
    let (mut sum, mut least) = (0.0, f64::MAX);
    for &(at, bytes) in sent {
        least = f64::min(least, sum - at * rate as f64);
        sum += bytes as f64;
        let risen = sum - at * rate as f64 - least;
        // A trace tells nanoseconds, the last digit of which is rounded.
        assert!(
            risen <= more as f64 + 1.0 + rate as f64 * 1e-8,
            "{what}: {risen} where {more} may be, at {at} s"
        );
    }
}

/// Owes so many thousands of bytes as the byte says that it is sent.
struct Owes;

impl Service for Owes {
    type Session = Owes;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Owes {
        Owes
    }
}

impl Session for Owes {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if let Some(&ask) = input.bytes().first() {
            cx.output().write(&vec![ask; usize::from(ask) * 500]);
            cx.output().send(vec![ask; usize::from(ask) * 500]);
            input.consume(1);
        }
        Ok(())
    }
}

/// Asks, each time when it has got what it asked for, and tells what it got when all is over.
struct Asks {
    ask: u8,
    times: usize,
    got: usize,
    tell: mpsc::Sender<(usize, usize)>,
}

impl Session for Asks {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&[self.ask]);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        assert!(input.bytes().iter().all(|&byte| byte == self.ask));
        self.got += input.len();
        input.consume(usize::MAX);
        let each = usize::from(self.ask) * 1_000;
        if self.got == each * self.times {
            cx.finish();
        } else if self.got.is_multiple_of(each) {
            cx.output().write(&[self.ask]);
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send((usize::from(self.ask) * 1_000 * self.times, self.got)).unwrap();
    }
}

/// When each connection's server sent how much, in seconds.
fn sends(report: &Report) -> Vec<(usize, f64, u64)> {
    let of = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let ["server", "sends", count] = words.get(3..6)? else { return None };
        let number = words[2].trim_start_matches('#').parse().unwrap();
        Some((number, words[0].parse::<f64>().unwrap() / 1e3, count.parse().unwrap()))
    };
    report.trace.to_string().lines().filter_map(of).collect()
}

fn streams(sim: Sim, each: u64, all: u64, drain: Option<Duration>) -> Result<(), roadstead_sim::Failure> {
    let (seed, server) = (sim.seed(), address("10.0.0.1:7007"));
    let (tell, told) = mpsc::channel();
    let mut sim = sim.budget(Budget::default().rate_each(each).rate_all(all)).serve(server, Owes);
    let clients = 1 + seed % 5;
    for number in 0..clients {
        let ask = (20 + (seed * 7 + number * 31) % 100) as u8;
        sim = sim.client(server, Asks { ask, times: 1, got: 0, tell: tell.clone() });
    }
    drop(tell);
    if let Some(after) = drain {
        sim = sim.drain_after(after);
    }
    let report = sim.run(LIMIT)?;
    let whole = told.iter().filter(|(asked, got)| asked == got).count();
    let cut = report.connections.iter().filter(|link| link.cut.is_some()).count();
    assert!(drain.is_some() || whole + cut >= clients as usize, "{whole} whole, {cut} cut of {clients}");
    let sent = sends(&report);
    let pick = |wanted: Option<usize>| -> Vec<_> {
        let of = |&(number, at, count)| wanted.is_none_or(|wanted| wanted == number).then_some((at, count));
        sent.iter().filter_map(of).collect()
    };
    let least = [each, all].into_iter().filter(|&rate| rate > 0).map(portion).min().unwrap();
    for number in (0..report.connections.len()).filter(|_| each > 0) {
        assert_within(&pick(Some(number)), each, burst(each) + least, "one");
    }
    if all > 0 {
        assert_within(&pick(None), all, burst(all) + clients * least, "all");
    }
    Ok(())
}

#[test]
fn connections_keep_to_their_caps_and_have_all_in_the_end_whatever_the_network_does() {
    Sim::check(seeds(400), |sim| {
        let seed = sim.seed();
        let each = [0, 3_000, 50_000, 2_000_000][(seed % 4) as usize];
        let all = if each == 0 { 100_000 } else { [0, 10_000, 300_000][(seed / 4 % 3) as usize] };
        streams(sim, each, all, None)
    });
}

#[test]
fn a_drain_of_connections_that_wait_for_their_caps_ends() {
    Sim::check(seeds(200), |sim| {
        let after = Duration::from_millis(sim.seed() * 37 % 5_000);
        streams(sim, 20_000, 50_000, Some(after))
    });
}

/// Says again what it is told, and remembers those of one network.
#[derive(Clone)]
struct Parrot;

impl DatagramService for Parrot {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Self {
        Self
    }
}

fn is_member(peer: SocketAddr) -> bool {
    peer.to_string().starts_with("10.1.")
}

impl DatagramSession for Parrot {
    type Reply = ();
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch {
            let peer = datagram.path.peer();
            if !is_member(peer) {
                let _ = cx.send(&mut datagram.path, datagram.bytes);
                continue;
            }
            if let Err(path) = cx.peers().heard(datagram.path) {
                cx.peers().keep(path, (), 0).map_err(drop).unwrap();
            }
            let _ = cx.send_to(peer, datagram.bytes);
        }
    }
}

/// When the server sent whom how much with headers, in seconds.
fn datagrams(report: &DatagramReport, server: SocketAddr) -> Vec<(SocketAddr, f64, u64)> {
    let of = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let &[at, "ms", from, ">", to, length, "is", "sent"] = &words[..] else { return None };
        let at: f64 = at.parse().unwrap();
        let sent = (to.parse().unwrap(), at / 1e3, length.parse::<u64>().unwrap() + 28);
        (from.parse() == Ok(server)).then_some(sent)
    };
    report.trace.to_string().lines().filter_map(of).collect()
}

#[test]
fn datagrams_keep_to_their_caps_are_counted_beyond_and_who_is_within_is_not_behind_who_is_not() {
    let server = address("10.0.0.1:7");
    let (modest, greedy) = (address("10.1.0.1:9"), ["10.1.0.2:9", "10.2.0.1:9", "10.2.0.2:9"].map(address));
    DatagramSim::check(seeds(200), |mut sim| {
        let seed = sim.seed();
        let each = [0, 20_000, 200_000][(seed % 3) as usize];
        let all = if each == 0 { 100_000 } else { [0, 400_000][(seed / 3 % 2) as usize] };
        let kind = seed % 4 > 0;
        sim = if kind { sim.faults(DatagramFaults::none()) } else { sim };
        sim = sim.budget(Budget::default().rate_each(each).rate_all(all)).serve(server, Parrot);
        let (mut asked, length) = (0, 100 + seed as usize * 97 % 1_300);
        for number in 0..300 {
            let after = Duration::from_micros(number * 1_700);
            for peer in greedy {
                sim = sim.forge(after, peer, server, &vec![7; length]);
            }
            asked += 3;
            if number % 20 == 0 {
                sim = sim.forge(after, modest, server, &[7; 100]);
                asked += 1;
            }
        }
        // In the middle of it, or when all waits that ever will.
        let report = sim.drain_after(Duration::from_millis(seed * 37 % 700)).run(LIMIT)?;
        let sent = datagrams(&report, server);
        // A loop that stands still, or a system that takes nothing, has what became due meanwhile sent at once.
        let late = |rate: u64| if kind { 0 } else { rate / 2 };
        for peer in greedy.into_iter().chain([modest]).filter(|_| each > 0) {
            let to: Vec<_> = sent.iter().filter(|one| one.0 == peer).map(|one| (one.1, one.2)).collect();
            assert_within(&to, each, burst(each) + late(each), "one");
        }
        if all > 0 {
            let to: Vec<_> = sent.iter().map(|one| (one.1, one.2)).collect();
            // What waits for its own cap as well goes later than all together would let it.
            let own = if each > 0 { all / 10 } else { 0 };
            assert_within(&to, all, burst(all) + own + late(all), "all");
        }
        if kind {
            let stats = report.stats[0];
            let lost = asked - stats.datagrams_in;
            assert_eq!(stats.datagrams_out + stats.datagrams_dropped + lost, asked, "{stats:?}");
            let (came, went) = (report.flow(modest, server).received, report.flow(server, modest).sent);
            assert!(all > 0 || came == went, "{went} answers to {came}");
        }
        Ok(())
    });
}

/// A socket of datagrams on the node of a server of connections: so many are asked for every 20 ms, and it tells when
/// how many bytes went, headers counted.
struct Beside {
    socket: Datagrams<Parrot>,
    host: Host,
    batch: Batch,
    next: Duration,
    tell: mpsc::Sender<(f64, u64)>,
}

/// Bytes of each datagram, and with its headers.
const LENGTH: usize = 972;
const COST: u64 = 1_000;

impl Beside {
    fn new(shared: &Arc<Shared>, at_once: usize, tell: mpsc::Sender<(f64, u64)>) -> Self {
        let socket = Datagrams::new(Arc::new(Parrot), address("10.0.0.1:7"), shared);
        let mut batch = Batch::new(at_once, LENGTH);
        let _ = batch.places().count();
        for place in 0..at_once {
            let (from, ecn) = (address("10.2.0.1:9"), Ecn::NotCapable);
            let arrival =
                Arrival { from, to: None, local: None, at: None, ecn, hops: Some(64), truncated: false };
            batch.came(place, LENGTH, None, arrival);
        }
        Self { socket, host: Host::alone(Arc::clone(shared), 1), batch, next: Duration::ZERO, tell }
    }

    fn happen(&mut self, now: Duration, event: DatagramEvent<'_>) {
        self.socket.handle(now, event, &mut self.host);
        while !self.socket.outbox().is_empty() {
            let sent: Vec<_> = self.socket.outbox().iter().map(|one| one.bytes.len()).collect();
            assert!(sent.iter().all(|&length| length == LENGTH));
            let left = sent.len();
            self.tell.send((now.as_secs_f64(), left as u64 * COST)).unwrap();
            self.socket.handle(now, DatagramEvent::Left(left), &mut self.host);
        }
        self.socket.settle(now, &mut self.host);
        self.host.report();
    }
}

impl Session for Beside {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        let now = cx.now();
        match why {
            Ready::Opened => {
                self.socket.place(Token(1), self.host.wake_queue(), now);
                self.happen(now, DatagramEvent::Opened);
                self.next = now;
            }
            Ready::Draining => {
                self.happen(now, DatagramEvent::Stop);
                cx.finish();
                return Ok(());
            }
            _ => self.happen(now, DatagramEvent::Tick),
        }
        if self.next <= now {
            self.next = now + Duration::from_millis(20);
            let batch = std::mem::replace(&mut self.batch, Batch::new(0, 0));
            self.happen(now, DatagramEvent::Came(&batch));
            self.batch = batch;
        }
        cx.wake_at(self.socket.deadline().into_iter().chain([self.next]).min());
        Ok(())
    }

    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

struct Nothing;

impl Resident for Nothing {
    fn held(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }
    fn stranded(&self) -> Option<(&'static str, usize)> {
        None
    }
}

/// How many bytes went in four seconds from a second after `start`.
fn amid(sent: &[(f64, u64)], start: f64) -> u64 {
    let within = |at: f64| (1.0..5.0).contains(&(at - start));
    sent.iter().filter(|(at, _)| within(*at)).map(|(_, bytes)| bytes).sum()
}

#[test]
fn datagrams_have_their_part_beside_connections_that_have_more_to_send_than_may_go() {
    const RATE: u64 = 200_000;
    Sim::check(seeds(12), |sim| {
        let (seed, server) = (sim.seed(), address("10.0.0.1:7007"));
        let clients: u64 = [1, 13, 40][(seed % 3) as usize];
        // A quarter of the rate, or four times as much as that.
        let at_once = [1, 20][(seed / 3 % 2) as usize];
        let shared = Shared::new(Budget::default().rate_all(RATE));
        let (tell, told) = mpsc::channel();
        let beside = Beside::new(&shared, at_once, tell);
        let (beside, _) = outgoing(&shared, server.into(), None, beside).unwrap();
        let (resident, open) = (Box::new(Nothing), opener(Arc::new(Owes), Arc::clone(&shared), None));
        let tenant =
            Tenant { resident, shared: Arc::clone(&shared), attended: vec![beside], from: Duration::ZERO };
        let mut sim = sim.faults(Faults::none());
        let tenancy = sim.settle(server, open, tenant);
        let (tell, _told) = mpsc::channel();
        for _ in 0..clients {
            let times = 40 / clients as usize;
            sim = sim.client(server, Asks { ask: 119, times, got: 0, tell: tell.clone() });
        }
        let report = sim.run(LIMIT)?;
        drop(tenancy);
        let streams: Vec<_> = sends(&report).iter().map(|&(_, at, bytes)| (at, bytes)).collect();
        let datagrams: Vec<_> = told.try_iter().collect();
        let start = streams[0].0;
        let (streamed, said) = (amid(&streams, start), amid(&datagrams, start));
        match at_once {
            1 => assert!(said >= 199 * COST, "{said}: none is dropped that is within the half"),
            // More of what comes in the moments in which nobody waits.
            _ => assert!((380_000..=480_000).contains(&said), "{said}: half"),
        }
        assert!((780_000..=820_000).contains(&(streamed + said)), "{streamed} and {said}: nothing is idle");
        let mut all = [streams, datagrams].concat();
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        let ahead = burst(RATE / 2) + COST;
        assert_within(&all, RATE, burst(RATE) + ahead + clients * portion(RATE), "all");
        Ok(())
    });
}
