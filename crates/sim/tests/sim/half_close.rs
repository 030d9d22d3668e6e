//! Both sides say all that they have, finish sending, and read on to the other's end: whoever is first, through a layer
//! or without, and whatever the network does.

use std::{sync::mpsc, time::Duration};

use roadstead_proto::{
    Close, Closed, Context, Done, Forward, Input, Peer, Reading, Ready, Scope, Service, Session,
};
use roadstead_sim::{Cut, Failure, Sim, seeds};

use crate::{
    LIMIT, behind, budget,
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
        // What comes is not answered; two that wait for room at each other would wait for ever.
        cx.read(Reading::Always);
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

/// Connects whoever comes with the side behind it.
struct Relay {
    layered: bool,
}

struct Near {
    layered: bool,
    forward: Forward,
    far: Option<Forward>,
}

impl Service for Relay {
    type Session = Near;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Near {
        let (forward, far) = Forward::pair();
        Near { layered: self.layered, forward, far: Some(far) }
    }
}

impl Session for Near {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.forward.received(input, cx)
    }

    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        if let Some(far) = self.far.take() {
            let dialled = match self.layered {
                true => cx.connect_through(behind(), &Toy, far),
                false => cx.connect(behind(), far),
            };
            dialled.map_err(|busy| Close::abort(busy.to_string()))?;
        }
        self.forward.called(cx)
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.forward.ended();
        Ok(())
    }
}

/// How much each side says, and which waits for the other: neither, the client, or the server. They may meet through a
/// relay.
fn meet(sim: Sim, relayed: bool, drain_after: Option<Duration>) -> Result<(), Failure> {
    let seed = sim.seed();
    let [up, down] = [3, 4].map(|index| noise(seed, index) % (1 << (4 + noise(seed, index + 10) % 12)));
    let layered = noise(seed, 6).is_multiple_of(2);
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
    let mut sim = sim.budget(budget(seed)).client(server(), client);
    sim = match relayed {
        true => sim.serve(behind(), accepted).serve(server(), Relay { layered }),
        false => sim.serve(server(), accepted),
    };
    if layered {
        sim = sim.layers(Toy, Toy);
    }
    if let Some(when) = drain_after {
        sim = sim.drain_after(when);
    }
    let report = sim.run(LIMIT)?;
    let cut = report.connections.iter().find_map(|link| link.cut);
    let link = &report.connections[0];
    for Told { accepted, got, ended, orderly } in told.iter() {
        let (right, flow) = if accepted { (up, &link.up) } else { (down, &link.down) };
        assert!(got <= right);
        match cut {
            None if drain_after.is_none() => assert!(orderly && got == right, "{got} of {right}"),
            // The end of a layer is told only if it has come: half of a stream is not taken for all of it.
            _ if layered => assert!(!ended || got == right, "{got} of {right} look like all"),
            Some(Cut::HalfClosed { to_server }) if to_server == accepted && ended && !relayed => {
                assert_eq!(got, flow.arrived);
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn each_side_hears_all_that_the_other_says_whoever_ends_first() {
    Sim::check(seeds(5000), |sim| meet(sim, false, None));
}

#[test]
fn what_is_forwarded_arrives_with_its_end_as_if_nobody_were_between_them() {
    Sim::check(seeds(5000), |sim| meet(sim, true, None));
}

#[test]
fn a_drain_lets_who_has_finished_sending_read_on() {
    Sim::check(seeds(3000), |sim| {
        let when = Duration::from_micros(noise(sim.seed(), 7) % (1 << (8 + noise(sim.seed(), 8) % 14)));
        let relayed = sim.seed() % 3 == 0;
        meet(sim, relayed, Some(when))
    });
}
