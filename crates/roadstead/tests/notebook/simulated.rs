//! The notebook in any network and on any disk, until the power fails.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use roadstead::{
    Closed, Context, Done, Input, Ready, Session,
    sim::{DiskFaults, Sim, SimulatedDisk, seeds},
};

use crate::{lines, service::Notebook};

const LINES: usize = 30;

/// Says all lines at once, and tells what it was answered.
struct Author {
    name: usize,
    heard: Vec<u8>,
    tell: mpsc::Sender<(usize, Vec<u8>)>,
}

impl Session for Author {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            (0..LINES).for_each(|line| cx.output().write(format!("{}: {line}\n", self.name).as_bytes()));
            cx.finish_sending();
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send((self.name, self.heard)).unwrap();
    }
}

#[test]
fn a_line_that_was_answered_for_is_there_after_the_power_fails() {
    let server = SocketAddr::from(([10, 0, 0, 1], 7070));
    Sim::check(seeds(300), |sim| {
        let machine = SimulatedDisk::new(sim.seed());
        let Ok((notebook, _)) = Notebook::open(machine.start(), sim.seed()) else { return Ok(()) };
        if sim.seed().is_multiple_of(2) {
            machine.end_at(machine.operations() + sim.seed() % 61);
        }
        let (tell, told) = mpsc::channel();
        let clients = (0..3).map(|name| Author { name, heard: Vec::new(), tell: tell.clone() });
        let sim = clients.fold(sim.serve(server, notebook), |sim, author| sim.client(server, author));
        drop(tell);
        sim.run(Duration::from_secs(900))?;

        machine.lose_power();
        machine.set_faults(DiskFaults::none());
        Notebook::open(machine.start(), 0).unwrap();
        let lines = lines(machine.start());
        for (name, heard) in told {
            // What has no end may be a part of a number.
            let whole = heard.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
            for (line, number) in whole.enumerate() {
                let number: usize = str::from_utf8(number).unwrap().trim_end().parse().unwrap();
                assert_eq!(lines[number - 1], format!("{name}: {line}"));
            }
        }
        Ok(())
    });
}
