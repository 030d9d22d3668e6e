//! Clients that come before, during and after the moment when a server begins to drain, and leave only when it ends
//! them.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead_proto::{
    Budget, Closed, Context, Done, Input, JobId, Lost, Peer, Ready, Scope, Service, Session,
};
use roadstead_sim::{Failure, Faults, Sim};

use crate::{LIMIT, behind, layer::Toy, noise, server};

/// What a client says at once.
const WORDS: &[u8] = b"some";

/// What a server's sessions heard of its drain.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// It was told of it, once it had been opened.
    told: bool,
    /// It had answered something before.
    answered: bool,
    finished: bool,
}

/// What a server's sessions have come to.
#[derive(Default)]
struct Book {
    heard: Vec<Heard>,
    /// Why the connections were closed that they asked for during the drain.
    called: Vec<String>,
}

/// Answers each byte by a job, one at a time. When the server drains it asks for a connection, and finishes; and only
/// then.
struct Keeper(Arc<Mutex<Book>>);

impl Service for Keeper {
    type Session = Kept;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Kept {
        Kept { book: Arc::clone(&self.0), heard: Heard::default(), works: false }
    }
}

struct Kept {
    book: Arc<Mutex<Book>>,
    heard: Heard,
    works: bool,
}

impl Session for Kept {
    type Reply = u8;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if !self.works {
            let byte = input.bytes()[0];
            input.consume(1);
            self.works = true;
            cx.run(1, move || byte).unwrap();
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<u8, Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[reply.unwrap()]);
        (self.works, self.heard.answered) = (false, true);
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Draining {
            assert!(!self.heard.told, "it is told once");
            self.heard.told = true;
            cx.connect(behind(), Caller(Arc::clone(&self.book))).unwrap();
            cx.finish();
        }
        Ok(())
    }

    fn closed(mut self, why: &Closed) {
        self.heard.finished = matches!(why, Closed::Finished);
        self.book.lock().unwrap().heard.push(self.heard);
    }
}

/// What a session asks for when it is late for that.
struct Caller(Arc<Mutex<Book>>);

impl Session for Caller {
    type Reply = ();

    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }

    fn closed(self, why: &Closed) {
        self.0.lock().unwrap().called.push(why.to_string());
    }
}

/// Says its words when it is there, and leaves when it is told to.
struct Guest;

impl Session for Guest {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(WORDS);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(input.len());
        Ok(())
    }
}

/// Plays one seed, and adds those who came late to `late`.
pub(crate) fn run(sim: Sim, late: &Cell<usize>) -> Result<(), Failure> {
    let seed = sim.seed();
    let faults = [Faults::none(), Faults::gentle()][(noise(seed, 11) % 2) as usize];
    let when = Duration::from_micros(noise(seed, 12) % (1 << (6 + noise(seed, 13) % 11)));
    let book = Arc::<Mutex<Book>>::default();
    let mut sim = sim.faults(faults).drain_after(when).serve(server(), Keeper(Arc::clone(&book)));
    if noise(seed, 14).is_multiple_of(2) {
        sim = sim.layers(Toy, Toy);
    }
    for _ in 0..3 {
        sim = sim.client(server(), Guest);
    }
    let report = sim.run(LIMIT)?;
    let Book { heard, called } = &*book.lock().unwrap();
    assert_eq!(heard.len() as u64, report.stats[0].accepted);
    assert!(heard.iter().all(|it| it.told && it.finished), "{heard:?}");
    assert!(called.len() == heard.len() && called.iter().all(|why| *why == Closed::Stopped.to_string()));
    assert!(report.took < Budget::default().idle, "somebody was told by a deadline only");
    late.update(|sum| sum + heard.iter().filter(|it| it.answered).count());
    Ok(())
}
