//! Services in the simulator: what they answer is right, whole unless the network cut it, and leaves nothing behind.
//! And the simulator itself: the same seed is the same run, and wrong services are found out.
//!
//! `ROADSTEAD_SIM_SEEDS=n` runs `n` seeds of every test, `ROADSTEAD_SIM_SEED=s` just that one.

#![allow(clippy::unwrap_used, reason = "sessions of a test may fail it")]

#[path = "sim/desk.rs"]
mod desk;
#[path = "sim/farewell.rs"]
mod farewell;
#[path = "sim/half_close.rs"]
mod half_close;
#[path = "sim/late.rs"]
mod late;
#[path = "sim/layer.rs"]
mod layer;
#[path = "sim/relay.rs"]
mod relay;
#[path = "sim/stream.rs"]
mod stream;
#[path = "sim/work.rs"]
mod work;
#[path = "sim/wrong.rs"]
mod wrong;

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::mpsc,
    time::{Duration, SystemTime},
};

use roadstead_proto::{Address, Budget, Closed, Context, Done, Input, Ready, Session, UnixName};
use roadstead_sim::{Cut, Failure, Faults, Report, Sim, seeds};

/// Virtual time that no run of these tests needs.
const LIMIT: Duration = Duration::from_secs(900);

/// Where the service under test is.
fn server() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7007))
}

/// Where a service is that the one under test talks to.
fn behind() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 7))
}

/// A number that seems random but follows from `salt` and `index`.
fn noise(salt: u64, index: u64) -> u64 {
    let mut mixed = (salt ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x1656_67b1_9e37_79f9);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

/// A budget whose buffers are tiny in some seeds.
fn budget(seed: u64) -> Budget {
    Budget::default().buffer_each([2 << 10, 8 << 10, 64 << 10][(noise(seed, 1) % 3) as usize])
}

/// Runs echo clients and checks what each heard; answers the report and how many answers were whole.
fn run_echo(sim: Sim, drained: bool) -> Result<(Report, usize), Failure> {
    let seed = sim.seed();
    let budget = budget(seed);
    let window = (budget.buffer_each / 4) as u64;
    let (tell, told) = mpsc::channel();
    let mut sim = sim.budget(budget).serve(server(), stream::Echo);
    let clients = 1 + (noise(seed, 2) % 3) as usize;
    for number in 0..clients {
        let total = noise(seed, 100 + number as u64) % (1 << (4 + noise(seed, 200 + number as u64) % 11));
        sim = sim.client(server(), stream::Talker::new(seed + number as u64, total, window, tell.clone()));
    }
    drop(tell);
    let report = sim.run(LIMIT)?;
    let heard: Vec<_> = told.iter().collect();
    assert_eq!(heard.len(), clients, "every session hears of its end, once");
    let whole = heard.iter().filter(|heard| heard.got == heard.total).count();
    let cut = report.connections.iter().filter(|link| link.cut.is_some()).count();
    assert!(drained || whole + cut >= clients, "{whole} answers of {clients} are whole, {cut} were cut");
    if let ([link], [heard]) = (&report.connections[..], &heard[..]) {
        assert!(heard.got <= link.up.arrived);
        if link.cut == Some(Cut::HalfClosed { to_server: true }) && !drained {
            assert_eq!(heard.got, link.up.arrived, "all that came before the end is answered");
        }
    }
    Ok((report, whole))
}

#[test]
fn echo_is_whole_unless_cut() {
    let (whole, cut, runs) = (Cell::new(0), Cell::new(0), Cell::new(0));
    Sim::check(seeds(10_000), |sim| {
        let (report, answers) = run_echo(sim, false)?;
        whole.update(|sum| sum + answers);
        cut.update(|sum| sum + report.connections.iter().filter(|link| link.cut.is_some()).count());
        runs.update(|sum| sum + 1);
        Ok(())
    });
    // A few seeds may all be of one kind, many may not: both kinds are to be tested.
    assert!(runs.get() < 1000 || whole.get() > runs.get() && cut.get() > runs.get() / 10);
}

#[test]
fn echo_through_a_layer_is_whole_unless_cut() {
    Sim::check(seeds(5000), |sim| {
        let (report, whole) = run_echo(sim.layers(layer::Toy, layer::Toy), true)?;
        let cut = report.connections.iter().filter(|link| link.cut.is_some()).count();
        assert!(whole + cut >= report.connections.len(), "{whole} are whole, {cut} were cut");
        Ok(())
    });
}

#[test]
fn a_system_without_room_costs_time_and_nothing_else() {
    Sim::check(seeds(500), |sim| {
        let scarce = [0.03, 0.3][(noise(sim.seed(), 4) % 2) as usize];
        let mut sim = sim.faults(Faults { scarce, split: 0.4, ..Faults::none() });
        if noise(sim.seed(), 5).is_multiple_of(2) {
            sim = sim.layers(layer::Toy, layer::Toy);
        }
        let (report, whole) = run_echo(sim, false)?;
        assert_eq!(whole, report.connections.len(), "an answer was lost");
        assert!(report.stats.iter().all(|stats| stats.failed == 0), "a connection was lost");
        Ok(())
    });
}

#[test]
fn an_end_that_a_layer_did_not_announce_is_told_from_one_that_it_did() {
    Sim::check(seeds(2000), |sim| upload_through_a_layer(sim, None));
}

#[test]
fn an_end_that_a_layer_did_not_announce_is_told_from_one_that_it_did_while_the_server_drains() {
    Sim::check(seeds(2000), |sim| {
        let when = Duration::from_micros(noise(sim.seed(), 4) % (1 << (8 + noise(sim.seed(), 5) % 14)));
        upload_through_a_layer(sim, Some(when))
    });
}

fn upload_through_a_layer(mut sim: Sim, drain_after: Option<Duration>) -> Result<(), Failure> {
    let seed = sim.seed();
    let total = noise(seed, 3) % 60_000;
    let (tell, told) = mpsc::channel();
    if let Some(when) = drain_after {
        sim = sim.drain_after(when);
    }
    let report = sim
        .budget(budget(seed))
        .layers(layer::Toy, layer::Toy)
        .serve(server(), stream::Sink::new(seed, total, tell))
        .client(server(), stream::Pusher::new(seed, total))
        .run(LIMIT)?;
    match (told.try_recv().ok(), report.connections[0].cut) {
        // The sink tells only what it got until an orderly end.
        (Some(got), _) => assert_eq!(got, total, "less than everything was taken for everything"),
        // A server that drains lets nobody in any more.
        (None, cut) => assert!(cut.is_some() || drain_after.is_some()),
    }
    Ok(())
}

#[test]
fn an_upload_arrives_in_order_and_whole_unless_cut() {
    Sim::check(seeds(2000), |sim| {
        let seed = sim.seed();
        let total = noise(seed, 3) % 60_000;
        let (tell, told) = mpsc::channel();
        let report = sim
            .budget(budget(seed))
            .serve(server(), stream::Sink::new(seed, total, tell))
            .client(server(), stream::Pusher::new(seed, total))
            .run(LIMIT)?;
        let link = &report.connections[0];
        let got = told.try_recv().ok();
        if link.cut.is_none() {
            assert_eq!(got, Some(total));
        } else if link.cut == Some(Cut::HalfClosed { to_server: true }) {
            assert_eq!(got, Some(link.up.arrived));
        }
        Ok(())
    });
}

#[test]
fn a_slow_reader_gets_everything_within_its_buffer() {
    Sim::check(seeds(2000), |sim| {
        let seed = sim.seed();
        let total = noise(seed, 3) % 30_000;
        let (tell, told) = mpsc::channel();
        // A buffer at each end, and what was sent and is lent still; but not all of the stream.
        let budget = Budget::default().buffer_each(4 << 10).buffer_all(18 << 10);
        let report = sim
            .budget(budget)
            .serve(server(), stream::Sink::new(seed, total, tell).slowly(Duration::from_millis(5)))
            .client(server(), stream::Pusher::new(seed, total))
            .run(LIMIT)?;
        let link = &report.connections[0];
        let right = match link.cut {
            None => total,
            Some(Cut::HalfClosed { to_server: true }) => link.up.arrived,
            _ => return Ok(()),
        };
        assert_eq!(told.try_recv(), Ok(right));
        Ok(())
    });
}

#[test]
fn a_large_upload_shares_the_loop_with_others() {
    Sim::check(seeds(20), |sim| {
        let total = 2 << 20;
        let (tell, told) = mpsc::channel();
        let mut sim = sim
            .faults(Faults::none())
            .budget(Budget::default().buffer_each(3 << 20))
            .serve(server(), stream::Sink::new(5, total, tell));
        for _ in 0..3 {
            sim = sim.client(server(), stream::Pusher::new(5, total));
        }
        sim.run(LIMIT)?;
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [total; 3]);
        Ok(())
    });
}

#[test]
fn requests_are_answered_once_and_rightly() {
    Sim::check(seeds(10_000), |sim| desk::run(sim, None).map(|_| ()));
}

#[test]
fn a_relay_of_two_sessions_loses_nothing_and_never_waits_for_ever() {
    Sim::check(seeds(5000), |sim| {
        let seed = sim.seed();
        let budget = budget(seed);
        let window = (budget.buffer_each / 4) as u64;
        let total = noise(seed, 7) % (1 << (4 + noise(seed, 8) % 11));
        // A Unix socket is a name here, and no more.
        let to = match noise(seed, 9) % 2 {
            0 => behind().into(),
            _ => Address::from(UnixName::abstract_name(b"behind").unwrap()),
        };
        let (tell, told) = mpsc::channel();
        let report = sim
            .budget(budget)
            .serve(&to, stream::Echo)
            .serve(server(), relay::Relay { to })
            .client(server(), stream::Talker::new(seed, total, window, tell))
            .run(LIMIT)?;
        let heard = told.recv().unwrap();
        assert!(heard.got == total || report.connections.iter().any(|link| link.cut.is_some()));
        Ok(())
    });
}

#[test]
fn work_that_is_begun_in_any_callback_is_done() {
    Sim::check(seeds(1000), |sim| {
        let (tell, told) = mpsc::channel();
        let report = sim.serve(server(), work::Office).client(server(), work::Boss::new(tell)).run(LIMIT)?;
        assert!(told.recv().unwrap() || report.connections[0].cut.is_some());
        let idle = Budget::default().idle;
        assert!(
            report.connections[0].cut.is_some() || report.took < idle,
            "work waited until something else happened"
        );
        Ok(())
    });
}

#[test]
fn a_server_drains_with_work_in_flight() {
    Sim::check(seeds(2000), |sim| {
        let when = Duration::from_micros(noise(sim.seed(), 4) % (1 << (8 + noise(sim.seed(), 5) % 14)));
        if sim.seed().is_multiple_of(2) {
            run_echo(sim.drain_after(when), true).map(|_| ())
        } else {
            desk::run(sim, Some(when)).map(|_| ())
        }
    });
}

#[test]
fn everybody_is_told_that_the_server_drains_however_late_they_come() {
    let late = Cell::new(0);
    Sim::check(seeds(3000), |sim| late::run(sim, &late));
    assert!(late.get() > 0 || seeds(3000).count() < 3000, "nobody came late");
}

#[test]
fn a_file_is_sent_between_the_bytes_around_it() {
    Sim::check(seeds(300), |sim| {
        let length = noise(sim.seed(), 6) % 100_000;
        let (tell, told) = mpsc::channel();
        let report = sim
            .serve(server(), stream::FileService::new(length))
            .client(server(), stream::Reader { heard: Vec::new(), tell })
            .run(LIMIT)?;
        let heard = told.recv().unwrap();
        let right = stream::FileService::answer(length);
        assert!(right.starts_with(&heard));
        assert!(heard.len() == right.len() || report.connections[0].cut.is_some());
        Ok(())
    });
}

/// Sends one byte, or none, and waits for the end; tells when that was by both clocks.
struct Quiet {
    speaks: bool,
    tell: mpsc::Sender<(Duration, SystemTime)>,
}

impl Session for Quiet {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            self.tell.send((cx.now(), cx.wall())).unwrap();
            if self.speaks {
                cx.output().write(b"!");
            }
        }
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(input.len());
        Ok(())
    }
    fn closed(self, why: &Closed) {
        assert!(matches!(why, Closed::System(_)), "{why}");
    }
}

#[test]
fn a_silent_client_and_an_idle_one_are_closed_in_time() {
    let budget = Budget::default().first_byte(Duration::from_secs(3)).idle(Duration::from_secs(7));
    Sim::check(seeds(200), |sim| {
        let mut clocks = Vec::new();
        for speaks in [false, true] {
            let (tell, told) = mpsc::channel();
            let report = Sim::new(sim.seed())
                .faults(Faults::none())
                .budget(budget.clone())
                .serve(server(), stream::Echo)
                .client(server(), Quiet { speaks, tell })
                .run(LIMIT)?;
            let one_way = Faults::none().delay.0;
            let link = &report.connections[0];
            let last = link.opened + one_way * if speaks { 3 } else { 1 };
            let patience = if speaks { budget.idle } else { budget.first_byte };
            assert_eq!(link.closed[1], Some(last + patience));
            clocks.push(told.recv().unwrap());
        }
        let [(first, wall), (second, later)] = clocks[..] else { panic!("two runs") };
        assert_eq!(wall + second, later + first, "the wall clock goes with virtual time");
        Ok(())
    });
}

#[test]
fn an_unanswered_connection_is_given_up() {
    let faults = Faults { unanswered: 1.0, ..Faults::none() };
    let (tell, told) = mpsc::channel();
    let report = Sim::new(1)
        .faults(faults)
        .serve(server(), stream::Echo)
        .client(server(), stream::Talker::new(1, 10, 10, tell))
        .run(LIMIT)
        .unwrap();
    assert_eq!(
        report.connections[0].closed[0],
        Some(report.connections[0].opened + Budget::default().connect)
    );
    let heard = told.recv().unwrap();
    assert!(!heard.opened);
    assert_eq!(heard.why, Closed::Unanswered.to_string());
}

#[test]
fn both_sides_close_as_soon_as_both_have_finished() {
    Sim::check(seeds(200), |sim| {
        let (tell, _told) = mpsc::channel();
        let report = sim
            .faults(Faults::none())
            .serve(server(), stream::Echo)
            .client(server(), stream::Talker::new(1, 5000, 1000, tell))
            .run(LIMIT)?;
        let [Some(client), Some(server)] = report.connections[0].closed else { panic!("both close") };
        assert!(client.max(server) < Budget::default().linger, "nobody waits for what has come");
        Ok(())
    });
}

#[test]
fn more_clients_than_the_budget_admits_are_refused() {
    Sim::check(seeds(200), |sim| {
        let (tell, told) = mpsc::channel();
        let mut sim =
            sim.faults(Faults::none()).budget(Budget::default().connections(2)).serve(server(), stream::Echo);
        for number in 0..5 {
            sim = sim.client(server(), stream::Talker::new(number, 1000, 100, tell.clone()));
        }
        drop(tell);
        let report = sim.run(LIMIT)?;
        assert_eq!((report.stats[0].accepted, report.stats[0].refused), (2, 3));
        assert_eq!(told.iter().filter(|heard| heard.got == 1000).count(), 2);
        Ok(())
    });
}

#[test]
fn nobody_listens_and_the_client_hears_of_it() {
    let (tell, told) = mpsc::channel();
    let sim = Sim::new(3).faults(Faults::none());
    sim.client(server(), stream::Talker::new(1, 10, 10, tell)).run(LIMIT).unwrap();
    assert!(!told.recv().unwrap().opened);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut traces = std::collections::HashSet::new();
    for seed in 0..100 {
        let runs = [(); 2].map(|()| desk::run(Sim::new(seed), None).unwrap());
        assert_eq!(runs[0].trace.to_string().as_bytes(), runs[1].trace.to_string().as_bytes());
        assert_eq!(runs[0], runs[1]);
        traces.insert(runs[0].trace.to_string());
    }
    assert_eq!(traces.len(), 100, "and another seed is another run");
}
