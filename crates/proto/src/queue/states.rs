//! The three states of a job, beside a model: every arrow of the diagram in `counts.rs`, in any order, and no other.
#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    iter,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*};

use super::{Job, Step};
use crate::{
    budget::Budget,
    close::Done,
    connection::{Connection, Endpoint, Event},
    host::{Host, Shared},
    input::Input,
    service::{JobId, Lost, Peer},
    session::{Context, Session},
    stats::Snapshot,
    ticket::{Ticket, Token},
};

/// What there is to do of something a client has asked for: so many slices, and then perhaps to wait.
#[derive(Debug, Clone, Copy)]
struct Work {
    slices: u8,
    waits: bool,
}

/// What a client asks for beside the number of slices.
const PLAIN: u8 = 0;
const WAITS: u8 = 1;
const DETACHED: u8 = 2;

/// What comes back to the session.
#[derive(Debug, Clone, Copy)]
enum Reply {
    Done,
    /// The job cannot go on before somebody else has done something.
    Waits,
    /// That is done. There is more to do.
    GoesOn(Work),
}

/// States that were seen from within jobs.
type Seen = Arc<Mutex<Vec<Snapshot>>>;

struct Sliced {
    work: Work,
    shared: Arc<Shared>,
    seen: Seen,
}

impl Job for Sliced {
    type Reply = Reply;
    fn run(&mut self, _: Duration) -> Step<Reply> {
        self.seen.lock().unwrap().push(self.shared.snapshot());
        self.work.slices -= 1;
        match self.work {
            Work { slices: 1.., .. } => Step::More,
            Work { waits: true, .. } => Step::Done(Reply::Waits),
            Work { .. } => Step::Done(Reply::Done),
        }
    }
}

/// The same without a ticket.
struct Detached(Sliced);

impl Job for Detached {
    type Reply = ();
    fn run(&mut self, slice: Duration) -> Step<()> {
        match self.0.run(slice) {
            Step::More => Step::More,
            Step::Done(_) => Step::Done(()),
        }
    }
}

/// Defers what it is asked for, and leaves its tickets to others where a job is to wait.
#[derive(Clone)]
struct Asked {
    shared: Arc<Shared>,
    seen: Seen,
    with_others: Arc<Mutex<Vec<Ticket<Reply>>>>,
}

impl Asked {
    fn go_on(&self, work: Work, cx: &mut Context<'_, Self>) {
        cx.defer(0, self.job(work)).unwrap();
    }

    fn job(&self, work: Work) -> Sliced {
        Sliced { work, shared: Arc::clone(&self.shared), seen: Arc::clone(&self.seen) }
    }
}

impl Session for Asked {
    type Reply = Reply;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        match *input.bytes() {
            [slices, kind] if kind == DETACHED => {
                let job = self.job(Work { slices, waits: false });
                cx.submit(0, Detached(job));
            }
            [slices, kind] => self.go_on(Work { slices, waits: kind == WAITS }, cx),
            _ => unreachable!("two bytes are asked for at a time"),
        }
        input.consume(usize::MAX);
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        match reply.unwrap() {
            Reply::Done => {}
            Reply::Waits => self.with_others.lock().unwrap().push(cx.ticket().unwrap()),
            Reply::GoesOn(work) => self.go_on(work, cx),
        }
        Ok(())
    }
}

/// What there ought to be: who is ready, in order, how many are blocked, and what was counted.
#[derive(Debug, Default)]
struct Model {
    ready: VecDeque<Work>,
    blocked: usize,
    sliced: u64,
    awaited: u64,
}

/// A connection of [`Asked`] that no loop drives, and its model.
struct Rig {
    host: Host,
    connection: Connection<Asked>,
    session: Asked,
    model: Model,
}

#[derive(Debug, Clone)]
enum Action {
    /// A client asks for something.
    Ask(Work),
    /// A client asks for something that nobody is told of.
    Submit(u8),
    /// A logic unit is free.
    Run,
    /// What one has waited for has happened, and there is more to do then.
    GoOn(usize, Work),
    /// The same, and that was all.
    Finish(usize),
}

impl Rig {
    fn new() -> Self {
        let shared = Shared::new(Budget::default());
        let session =
            Asked { shared: Arc::clone(&shared), seen: Seen::default(), with_others: Arc::default() };
        let (peer, permit) = (Peer { address: ([192, 0, 2, 1], 7).into() }, shared.gate.admit(None).unwrap());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let mut connection = Connection::accepted(session.clone(), peer, shared, permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        let mut rig = Self { host, connection, session, model: Model::default() };
        rig.drive();
        rig
    }

    /// What a loop does between its waits, but for jobs.
    fn drive(&mut self) {
        iter::from_fn(|| self.connection.next()).for_each(drop);
        let mut woken = Vec::new();
        self.host.wake_queue().take(&mut woken);
        if !woken.is_empty() {
            self.connection.handle(Duration::ZERO, Event::Woken, &mut self.host);
        }
    }

    /// What is seen of the states, of `running` jobs and beside them.
    #[track_caller]
    fn agrees(&self, seen: &Snapshot, running: usize) {
        let Model { ready, blocked, sliced, awaited } = &self.model;
        let found = (seen.waiting, seen.running, seen.blocked, seen.sliced, seen.awaited);
        assert_eq!(found, (ready.len(), running, *blocked, *sliced, *awaited));
    }

    fn play(&mut self, action: &Action) {
        match action {
            Action::Ask(work) => self.ask(*work, if work.waits { WAITS } else { PLAIN }),
            Action::Submit(slices) => self.ask(Work { slices: *slices, waits: false }, DETACHED),
            Action::Run => self.run(),
            Action::GoOn(which, work) => self.finish(*which, Reply::GoesOn(*work)),
            Action::Finish(which) => self.finish(*which, Reply::Done),
        }
        self.drive();
        self.agrees(&self.session.shared.snapshot(), 0);
    }

    fn ask(&mut self, work: Work, kind: u8) {
        let mut asked = BytesMut::from(&[work.slices, kind][..]);
        self.connection.handle(Duration::ZERO, Event::Received(&mut asked), &mut self.host);
        self.model.ready.push_back(work);
    }

    fn run(&mut self) {
        let next = self.model.ready.pop_front();
        // Of whatever is blocked none comes to run.
        assert_eq!(self.host.run_job(), next.is_some());
        let seen = std::mem::take(&mut *self.session.seen.lock().unwrap());
        assert_eq!(seen.len(), usize::from(next.is_some()));
        seen.iter().for_each(|seen| self.agrees(seen, 1));
        match next {
            Some(work) if work.slices > 1 => {
                self.model.ready.push_back(Work { slices: work.slices - 1, ..work });
                self.model.sliced += 1;
            }
            Some(Work { waits: true, .. }) => {
                self.model.blocked += 1;
                self.model.awaited += 1;
            }
            _ => {}
        }
    }

    /// Somebody else is done with one of what is blocked, if there is any.
    fn finish(&mut self, which: usize, reply: Reply) {
        let mut tickets = self.session.with_others.lock().unwrap();
        if tickets.is_empty() {
            return;
        }
        let which = which % tickets.len();
        let ticket = tickets.swap_remove(which);
        drop(tickets);
        ticket.finish(reply);
        self.model.blocked -= 1;
        // Nothing of it runs, and it is not even ready, before its session has been called.
        self.agrees(&self.session.shared.snapshot(), 0);
        if let Reply::GoesOn(work) = reply {
            self.model.ready.push_back(work);
        }
    }
}

fn work() -> impl Strategy<Value = Work> {
    (1_u8..4, any::<bool>()).prop_map(|(slices, waits)| Work { slices, waits })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => work().prop_map(Action::Ask),
        1 => (1_u8..4).prop_map(Action::Submit),
        5 => Just(Action::Run),
        2 => (any::<usize>(), work()).prop_map(|(which, work)| Action::GoOn(which, work)),
        1 => any::<usize>().prop_map(Action::Finish),
    ]
}

#[test]
fn every_arrow_between_the_states_is_gone_once() {
    let mut rig = Rig::new();
    let states = |rig: &Rig| {
        let now = rig.session.shared.snapshot();
        (now.waiting, now.running, now.blocked)
    };
    rig.play(&Action::Ask(Work { slices: 2, waits: true }));
    assert_eq!(states(&rig), (1, 0, 0), "what is asked for is ready");
    rig.play(&Action::Run);
    assert_eq!(states(&rig), (1, 0, 0), "it ran, and is ready again: its slice was over");
    rig.play(&Action::Run);
    assert_eq!(states(&rig), (0, 0, 1), "it ran, and is blocked: it waits");
    rig.play(&Action::Run);
    assert_eq!(states(&rig), (0, 0, 1), "what is blocked does not run");
    rig.play(&Action::GoOn(0, Work { slices: 1, waits: false }));
    assert_eq!(states(&rig), (1, 0, 0), "what it has waited for has happened: it is ready");
    rig.play(&Action::Run);
    assert_eq!(states(&rig), (0, 0, 0), "it ran, and is done");
}

proptest! {
    /// Whatever happens in whatever order.
    #[test]
    fn nothing_runs_that_was_not_ready_and_all_is_counted_as_what_it_is(actions in vec(action(), 1..100)) {
        let mut rig = Rig::new();
        actions.iter().for_each(|action| rig.play(action));
        // All comes to an end, however much waits.
        while !(rig.model.ready.is_empty() && rig.model.blocked == 0) {
            rig.play(&Action::Run);
            rig.play(&Action::Finish(0));
        }
        prop_assert!(!rig.host.run_job());
    }
}
