//! Who closes first is the session's choice, on every loop and behind a layer.

use std::time::Duration;

use roadstead_proto::{Budget, Close, Closed, Context, Done, Input, Peer, Ready, Scope, Service, Session};
use roadstead_sim::{Faults, Sim, seeds};

use crate::{LIMIT, layer::Toy, server};

const ANSWER: &[u8] = b"that was all";

/// Answers once and leaves the first end to the peer.
struct Polite;

impl Service for Polite {
    type Session = Polite;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Polite {
        Polite
    }
}

impl Session for Polite {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        cx.output().write(ANSWER);
        cx.finish_after_peer();
        Ok(())
    }

    fn closed(self, why: &Closed) {
        assert!(matches!(why, Closed::Finished | Closed::Unended), "{why}");
    }
}

/// Asks once. When it has the answer it finishes, or waits for the server to.
struct Caller {
    leaves: bool,
    heard: usize,
}

impl Session for Caller {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(b"?");
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard += input.len();
        input.consume(usize::MAX);
        if self.heard == ANSWER.len() && self.leaves {
            cx.finish();
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        Err(Close::abort("the server was to wait for our end"))
    }

    fn closed(self, _: &Closed) {
        assert_eq!(self.heard, ANSWER.len());
    }
}

/// What the server did, a line for each event, and what its failed connections are.
fn meet(sim: Sim, leaves: bool, linger: Duration) -> (String, u64) {
    let report = sim
        .budget(Budget::default().linger(linger))
        .serve(server(), Polite)
        .client(server(), Caller { leaves, heard: 0 })
        .run(LIMIT)
        .unwrap();
    let trace = report.trace.to_string();
    (trace.lines().filter(|line| line.contains("#0 server")).collect(), report.stats[0].failed)
}

#[test]
fn the_peer_ends_first_if_the_session_says_so() {
    Sim::check(seeds(500), |sim| {
        let (bare, seed) = (sim.seed() % 2 == 0, sim.seed());
        let sim = sim.faults(Faults { scarce: 0.05, ..Faults::gentle() });
        let sim = if bare { sim } else { sim.layers(Toy, Toy) };
        let (trace, failed) = meet(sim, true, Duration::from_secs(60));
        assert_eq!(failed, 0, "seed {seed}");
        let ended = trace.find("has the end arrive").expect("the client has ended");
        assert!(!trace[..ended].contains("finishes"), "the server ended first: {trace}");
        assert!(trace[ended..].contains("closes") && !trace.contains("reset"), "{trace}");
        Ok(())
    });
}

#[test]
fn a_peer_that_does_not_end_is_reset_and_leaves_nothing_either() {
    Sim::check(seeds(200), |sim| {
        let sim = sim.faults(Faults { short: 0.3, ..Faults::none() });
        let (trace, failed) = meet(sim, false, Duration::from_secs(2));
        assert!(trace.contains("closes with a reset") && !trace.contains("finishes"), "{trace}");
        assert_eq!(failed, 1);
        Ok(())
    });
}
