//! Both sides say all that they have, finish sending, and read on to the other's end: whoever is first, through a layer
//! or without, and whatever the network does.

use std::{sync::mpsc, time::Duration};

use roadstead_proto::{Closed, Context, Done, Input, Peer, Ready, Scope, Service, Session};
use roadstead_sim::{Cut, Failure, Sim, seeds};

use crate::{
    LIMIT, budget,
    layer::Toy,
    noise, server,
    stream::{bytes, check},
};

/// What a side tells when its connection is gone.
struct Told {
    accepted: bool,
    got: u64,
    ended: bool,
    orderly: bool,
}

/// Says so many bytes, from the moment that so many have come on, and reads to the end.
#[derive(Clone)]
struct Side {
    accepted: bool,
    salts: [u64; 2],
    says: u64,
    waits_for: u64,
    said: u64,
    got: u64,
    ended: bool,
    tell: mpsc::Sender<Told>,
}

impl Side {
    fn speak(&mut self, cx: &mut Context<'_, Self>) {
        if self.got < self.waits_for || self.said > self.says {
            return;
        }
        let until = self.says.min(self.said + cx.output().room() as u64);
        cx.output().write(&bytes(self.salts[0], self.said, until));
        self.said = until;
        if until == self.says {
            self.said += 1;
            cx.finish_sending();
        }
    }
}

impl Service for Side {
    type Session = Side;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Side {
        self.clone()
    }
}

impl Session for Side {
    type Reply = ();

    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        // Not even a drain keeps it from reading on.
        self.speak(cx);
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        check(self.salts[1], self.got, input.bytes());
        self.got += input.len() as u64;
        input.consume(usize::MAX);
        self.speak(cx);
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.ended = true;
        if self.said <= self.says && self.got < self.waits_for {
            // Less has come than it waits for.
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, why: &Closed) {
        let Self { accepted, got, ended, .. } = self;
        let _ = self.tell.send(Told { accepted, got, ended, orderly: matches!(why, Closed::Finished) });
    }
}

/// How much each side says, and which waits for the other: neither, the client, or the server.
fn meet(sim: Sim, drain_after: Option<Duration>) -> Result<(), Failure> {
    let seed = sim.seed();
    let [up, down] = [3, 4].map(|index| noise(seed, index) % (1 << (4 + noise(seed, index + 10) % 12)));
    let (client_waits, server_waits) = [(0, 0), (down, 0), (0, up)][(noise(seed, 5) % 3) as usize];
    let (tell, told) = mpsc::channel();
    let side = |accepted: bool| Side {
        accepted,
        salts: if accepted { [2, 1] } else { [1, 2] },
        says: if accepted { down } else { up },
        waits_for: if accepted { server_waits } else { client_waits },
        said: 0,
        got: 0,
        ended: false,
        tell: tell.clone(),
    };
    let (accepted, client) = (side(true), side(false));
    drop(tell);
    let mut sim = sim.budget(budget(seed)).serve(server(), accepted).client(server(), client);
    if noise(seed, 6).is_multiple_of(2) {
        sim = sim.layers(Toy, Toy);
    }
    if let Some(when) = drain_after {
        sim = sim.drain_after(when);
    }
    let layered = noise(seed, 6).is_multiple_of(2);
    let report = sim.run(LIMIT)?;
    let link = &report.connections[0];
    for Told { accepted, got, ended, orderly } in told.iter() {
        let (right, flow) = if accepted { (up, &link.up) } else { (down, &link.down) };
        assert!(got <= right);
        match link.cut {
            None if drain_after.is_none() => assert!(orderly && got == right, "{got} of {right}"),
            // The end of a layer is told only if it has come: half of a stream is not taken for all of it.
            _ if layered => assert!(!ended || got == right, "{got} of {right} look like all"),
            Some(Cut::HalfClosed { to_server }) if to_server == accepted && ended => {
                assert_eq!(got, flow.arrived);
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn each_side_hears_all_that_the_other_says_whoever_ends_first() {
    Sim::check(seeds(5000), |sim| meet(sim, None));
}

#[test]
fn a_drain_lets_who_has_finished_sending_read_on() {
    Sim::check(seeds(2000), |sim| {
        let when = Duration::from_micros(noise(sim.seed(), 7) % (1 << (8 + noise(sim.seed(), 8) % 14)));
        meet(sim, Some(when))
    });
}
