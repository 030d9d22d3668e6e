//! Sessions that share a log, in any network, on any disk: what a client has heard of is there after the power is lost.

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use roadstead_proto::{
    Busy, Close, Closed, Context, Done, Input, JobId, Lost, Peer, Ready, Scope, Service, Session,
    journal::{JournalError, Limits, SharedJournal},
};
use roadstead_sim::{DiskFaults, Sim, SimulatedDisk, seeds};

use crate::{Chance, open};

/// Bytes of a record.
const RECORD: usize = 8;
/// Records of a client.
const EACH: u64 = 40;
/// After so many the log is compacted.
const COMPACT_EVERY: usize = 25;

/// Appends each record, and says it again when it is durable.
struct Notes {
    journal: SharedJournal,
    /// All that were left to be appended, in their order.
    left: Arc<Mutex<Vec<Vec<u8>>>>,
}

struct Page {
    journal: SharedJournal,
    left: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Service for Notes {
    type Session = Page;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Page {
        Page { journal: self.journal.clone(), left: Arc::clone(&self.left) }
    }
}

impl Page {
    fn leave(&self, record: Vec<u8>, cx: &mut Context<'_, Self>) -> Result<(), Busy> {
        let mut left = self.left.lock().unwrap();
        let said = record.clone();
        self.journal.append(cx, record.clone(), move |noted| noted.map(|()| Some(said)))?;
        left.push(record);
        if left.len().is_multiple_of(COMPACT_EVERY) {
            let kept = left.clone();
            self.journal.compact(
                cx,
                move |log| kept.iter().try_for_each(|record| log.append(record)),
                |done| done.map(|()| None),
            )?;
        }
        Ok(())
    }
}

impl Session for Page {
    type Reply = Result<Option<Vec<u8>>, JournalError>;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        match input.bytes().first_chunk::<RECORD>() {
            Some(record) => {
                let record = record.to_vec();
                self.leave(record, cx).unwrap();
                input.consume(RECORD);
            }
            None => input.need(RECORD),
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, noted: Result<Self::Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        match noted.unwrap() {
            Ok(Some(record)) => cx.output().write(&record),
            Ok(None) => {}
            Err(error) => return Err(Close::abort(error.to_string())),
        }
        Ok(())
    }
}

/// Says all its records, and tells what it has heard of them.
struct Writer {
    number: u64,
    heard: Vec<u8>,
    tell: mpsc::Sender<(u64, Vec<u8>)>,
}

impl Writer {
    fn record(&self, index: u64) -> [u8; RECORD] {
        (self.number << 32 | index).to_le_bytes()
    }
}

impl Session for Writer {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            (0..EACH).for_each(|index| cx.output().write(&self.record(index)));
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        if self.heard.len() == EACH as usize * RECORD {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send((self.number, self.heard)).unwrap();
    }
}

#[test]
fn what_a_client_has_heard_of_is_there_after_the_power_is_lost() {
    let server = SocketAddr::from(([10, 0, 0, 1], 7007));
    let (whole, cut) = (Cell::new(0), Cell::new(0));
    Sim::check(seeds(1_500), |sim| {
        let mut chance = Chance(sim.seed());
        let machine = SimulatedDisk::new(sim.seed());
        let Ok((journal, ..)) = open(machine.start(), Limits::default()) else { return Ok(()) };
        if chance.below(2) == 0 {
            machine.end_at(machine.operations() + 1 + chance.below(200));
        }
        let notes = Notes { journal: SharedJournal::new(journal), left: Arc::default() };
        let left = Arc::clone(&notes.left);
        let (tell, told) = mpsc::channel();
        let workers = 1 + chance.below(2) as usize;
        let mut sim = sim.workers(workers).serve(server, notes);
        for number in 0..3 {
            sim = sim.client(server, Writer { number, heard: Vec::new(), tell: tell.clone() });
        }
        drop(tell);
        sim.run(Duration::from_secs(900))?;
        machine.lose_power();
        machine.set_faults(DiskFaults::none());
        let (_, _, found) = open(machine.start(), Limits::default()).unwrap();

        let left = left.lock().unwrap();
        for (number, heard) in &told {
            let records: Vec<_> = heard.chunks_exact(RECORD).collect();
            let expected = (0..).map(|index| (number << 32 | index).to_le_bytes());
            assert!(records.iter().zip(expected).all(|(record, expected)| **record == expected));
            assert!(records.iter().all(|heard| found.iter().any(|record| record == heard)), "one is lost");
            let count = if records.len() == EACH as usize { &whole } else { &cut };
            count.update(|count| count + 1);
        }
        // In their order, each once, and nothing else.
        let mut rest = left.iter();
        assert!(found.iter().all(|record| rest.any(|left| left == record)));
        Ok(())
    });
    assert!(whole.get() + cut.get() < 1000 || whole.get() > 500 && cut.get() > 500);
}
