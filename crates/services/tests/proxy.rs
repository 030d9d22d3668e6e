//! The proxy in the simulator: every client is served whole by some target, unless the network cut it off.
#![allow(clippy::unwrap_used)]

use std::{cell::Cell, net::SocketAddr, sync::mpsc, time::Duration};

use roadstead_proto::{Address, Budget, Closed, Context, Done, Input, Ready, Session};
use roadstead_services::{echo::Echo, proxy::Proxy};
use roadstead_sim::{Failure, Faults, Report, Sim, seeds};

const LIMIT: Duration = Duration::from_secs(900);
const CLIENTS: usize = 6;

fn proxy() -> SocketAddr {
    ([10, 0, 0, 1], 80).into()
}

/// Two that are there, and one that is not.
fn targets() -> [SocketAddr; 3] {
    [([10, 0, 0, 9], 7).into(), ([10, 0, 0, 2], 7).into(), ([10, 0, 0, 3], 7).into()]
}

/// Says this, and that it was all, and reads to the end.
struct Caller {
    says: Vec<u8>,
    heard: Vec<u8>,
    tell: mpsc::Sender<bool>,
}

impl Session for Caller {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&self.says);
            cx.finish_sending();
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }

    fn closed(self, why: &Closed) {
        assert!(self.says.starts_with(&self.heard), "nothing is invented");
        self.tell.send(matches!(why, Closed::Finished) && self.heard == self.says).unwrap();
    }
}

/// What clients heard all, and the report.
fn serve(sim: Sim, service: &Proxy) -> Result<(usize, Report), Failure> {
    let seed = sim.seed();
    let [dead, first, second] = targets();
    let (tell, told) = mpsc::channel();
    let mut sim = sim
        .budget(Budget::default().buffer_each(8 << 10).connect(Duration::from_secs(1)))
        .serve(proxy(), service.clone())
        .serve(first, Echo)
        .serve(second, Echo);
    assert_ne!(dead, first);
    for number in 0..CLIENTS {
        let count = (seed as usize * 31 + number * 1717) % 6000;
        let says = (0..count).map(|place| (place * 7 + number) as u8).collect();
        sim = sim.client(proxy(), Caller { says, heard: Vec::new(), tell: tell.clone() });
    }
    drop(tell);
    let report = sim.run(LIMIT)?;
    Ok((told.iter().filter(|whole| *whole).count(), report))
}

/// How many connections of the clients' the network has cut, and of the others.
fn cuts(report: &Report) -> (usize, usize) {
    let cut: Vec<_> = report.connections.iter().filter(|link| link.cut.is_some()).collect();
    let near = cut.iter().filter(|link| link.address == proxy().into()).count();
    (near, cut.len() - near)
}

#[test]
fn everybody_is_served_whole_unless_cut_off_and_nothing_is_left() {
    let tried = Cell::new(0);
    Sim::check(seeds(1500), |sim| {
        let service = Proxy::new(&targets().map(Address::from), None);
        let (whole, report) = serve(sim, &service)?;
        let (near, far) = cuts(&report);
        assert!(whole + near + far >= CLIENTS, "{whole} are whole, {near} and {far} were cut");
        let counts = service.counts();
        assert!(counts.targets.iter().all(|target| target.open == 0), "{counts:?}");
        assert_eq!(counts.targets[0].served, 0, "nobody is there");
        if near + far == 0 {
            let served: u64 = counts.targets.iter().map(|target| target.served).sum();
            assert_eq!((whole, counts.unserved, served), (CLIENTS, 0, CLIENTS as u64));
            assert_eq!(
                (counts.up, counts.up),
                (
                    counts.down,
                    report
                        .connections
                        .iter()
                        .filter(|link| link.address == proxy().into())
                        .map(|link| link.up.received)
                        .sum()
                )
            );
        }
        tried.update(|sum| sum + counts.targets[0].failed);
        Ok(())
    });
    assert!(tried.get() > 0, "nobody has tried the target that is not there");
}

#[test]
fn a_target_that_cannot_be_reached_costs_nobody_anything_but_time() {
    let unserved = Cell::new(0);
    Sim::check(seeds(1000), |sim| {
        let service = Proxy::new(&targets().map(Address::from), None);
        let unanswered = if sim.seed() % 2 == 0 { 0.3 } else { 0.0 };
        let (whole, report) =
            serve(sim.faults(Faults { refuse: 0.3, unanswered, ..Faults::none() }), &service)?;
        let (near, _) = cuts(&report);
        let counts = service.counts();
        assert_eq!(whole + near + counts.unserved as usize, CLIENTS, "{counts:?}");
        unserved.update(|sum| sum + counts.unserved);
        Ok(())
    });
    assert!(unserved.get() > 0 || seeds(1000).count() < 1000, "all targets have failed for nobody");
}
