//! A connection beside a model of it: whatever its session does and whatever happens, both ask the loop for the same,
//! let the session hear the same in the same order, want to be looked at by the same time, and have the same on the
//! accounts.

mod model;
mod script;

use std::{io, mem};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{connection::BLOCK, reading::Reading};
use model::{Asked, Model};
use script::{Act, Actor, Log, Message, Script};

#[derive(Debug, Clone)]
enum Step {
    Open,
    Bytes(usize),
    /// The next message up to its last byte, whole, or with the first byte of another.
    Message(usize),
    End,
    Take(usize),
    Exhaust(Operation),
    Finish(Index, usize),
    Lose(Index),
    Wake,
    DropWaker,
    /// The loop takes who was woken.
    Answer,
    /// Milliseconds.
    Pass(u64),
    /// So many milliseconds have passed in the turn of the loop.
    Late(u64),
    /// To the deadline: a moment before it, at it, or a moment after.
    Deadline(u32),
    Tick,
    Drain,
    Fail,
    Stop,
}

struct Rig {
    connection: Connection<Actor>,
    model: Model,
    host: Host,
    shared: Arc<Shared>,
    log: Arc<Mutex<Log>>,
    /// When something was due when it was settled last.
    due: Duration,
}

impl Rig {
    fn new(script: &Script, outgoing: bool) -> Self {
        let (log, shared, now) =
            (Arc::<Mutex<Log>>::default(), Shared::new(budget()), Duration::from_secs(100));
        let host = Host::alone(Arc::clone(&shared), 1);
        let actor = Actor { script: script.clone(), log: Arc::clone(&log) };
        let address = ([192, 0, 2, 1], 7).into();
        let permit = shared.gate.admit(None).unwrap();
        let mut connection = if outgoing {
            let (connection, waker) = Connection::outgoing(actor, address, Arc::clone(&shared), permit);
            log.lock().unwrap().wakers.push(waker);
            connection
        } else {
            Connection::accepted(actor, Peer { address }, Arc::clone(&shared), permit)
        };
        connection.place(Token(1), &host.wake_queue, now);
        Self {
            connection,
            model: Model::new(script.clone(), outgoing, now),
            host,
            shared,
            log,
            due: Duration::MAX,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open if self.model.is_opening() => self.happen(Event::Opened),
            Step::Bytes(count) => self.bytes(count),
            Step::Message(more) => self.bytes((self.model.lacks() + more).saturating_sub(1)),
            Step::End if self.model.can_receive() > 0 => self.happen(Event::Ended),
            Step::Take(most) if self.model.can_send() => {
                self.happen(Event::Sent(most.min(self.model.unsent) as u64));
            }
            Step::Exhaust(Operation::Receive) if self.model.can_receive() > 0 => {
                self.happen(Event::Exhausted(Operation::Receive));
            }
            Step::Exhaust(Operation::Send) if self.model.can_send() => {
                self.happen(Event::Exhausted(Operation::Send));
            }
            Step::Finish(which, reply) => self.give_back(which, Some(reply)),
            Step::Lose(which) => self.give_back(which, None),
            Step::Wake => {
                if let Some(waker) = self.log.lock().unwrap().wakers.first() {
                    waker.wake();
                    self.model.called = true;
                }
            }
            Step::DropWaker if self.log.lock().unwrap().wakers.pop().is_some() => self.model.wakers -= 1,
            Step::Answer => self.answer(),
            Step::Pass(millis) => self.model.now += Duration::from_millis(millis),
            Step::Late(millis) => {
                let told = self.model.now;
                self.model.late(Duration::from_millis(millis));
                self.connection.correct(told, self.model.now);
                self.compare();
            }
            Step::Deadline(moment) => {
                if let Some(deadline) = self.model.deadline() {
                    let when = deadline + Duration::from_nanos(moment.into()) - Duration::from_nanos(1);
                    self.model.now = self.model.now.max(when);
                    self.happen(Event::Tick);
                }
            }
            Step::Tick => self.happen(Event::Tick),
            Step::Drain => self.happen(Event::Drain),
            Step::Fail => self.happen(Event::Failed(io::ErrorKind::ConnectionReset.into())),
            Step::Stop => self.happen(Event::Stop),
            _ => {}
        }
    }

    /// At most what was asked for.
    fn bytes(&mut self, count: usize) {
        let count = count.min(self.model.can_receive());
        if count > 0 {
            self.happen(Event::Received(&mut BytesMut::from(&vec![b'r'; count][..])));
        }
    }

    /// A ticket comes back, finished or not.
    fn give_back(&mut self, which: Index, reply: Option<usize>) {
        if self.model.tickets.is_empty() {
            return;
        }
        let which = which.index(self.model.tickets.len());
        let id = self.model.tickets.remove(which);
        let (named, ticket) = self.log.lock().unwrap().tickets.remove(which);
        assert_eq!((named, ticket.is_cancelled()), (id, self.model.is_closed()));
        match reply {
            Some(reply) => ticket.finish(reply),
            None => drop(ticket),
        }
        if !self.model.is_closed() {
            self.model.replies.push((id, reply));
        }
    }

    fn answer(&mut self) {
        let mut woken = Vec::new();
        self.host.wake_queue.take(&mut woken);
        let waits = self.model.called || !self.model.replies.is_empty();
        assert!(
            !woken.is_empty() || !waits || self.model.is_opening() || self.model.is_closed(),
            "not called"
        );
        // Once more if it began before the connection was open.
        assert!(woken.len() <= 2, "a burst wakes once");
        if !woken.is_empty() {
            self.happen(Event::Woken);
        }
    }

    /// Tells both, and compares all that can be seen of them.
    fn happen(&mut self, event: Event<'_>) {
        self.model.handle(&event);
        let now = self.model.now;
        self.connection.handle(now, event, &mut self.host);
        let asked: Vec<Asked> = std::iter::from_fn(|| self.connection.next()).map(asked).collect();
        assert_eq!(asked, mem::take(&mut self.model.asked));
        let settled = self.connection.settle(now, &mut self.host);
        let due = self.connection.deadline().unwrap_or(Duration::MAX);
        assert!(!settled.has(Pending::NO_SOONER) || due >= self.due, "{due:?} is sooner than {:?}", self.due);
        self.due = due;
        assert!(self.connection.next().is_none(), "there is memory for all");
        self.compare();
    }

    fn compare(&mut self) {
        let (connection, model) = (&self.connection, &mut self.model);
        let (mut log, held) = (self.log.lock().unwrap(), self.shared.memory.used());
        assert_eq!(mem::take(&mut log.heard), mem::take(&mut model.heard));
        assert_eq!(connection.deadline(), model.deadline());
        assert_eq!(connection.awaits_end(), model.lingers());
        assert_eq!((log.tickets.len(), log.wakers.len()), (model.tickets.len(), model.wakers));
        assert_eq!(self.shared.jobs.used(), model.tickets.len());
        assert_eq!(self.shared.gate.open(), usize::from(!model.is_closed()));
        assert_eq!(self.host.count.closed, u64::from(model.is_closed()));
        if model.is_closed() {
            assert!(held <= connection.output().footprint(), "only what may be lent is still charged");
        } else {
            assert_eq!((connection.held.len(), connection.output().buffered()), (model.unread, model.unsent));
            assert_eq!(connection.is_quiet(), model.is_quiet());
            // Buffers grow by doubling and are charged whole until their last byte is gone; that of a small answer is
            // kept.
            let all = model.unread + model.unsent;
            let most = if all == 0 { 256 } else { 4 * EACH };
            assert!(all <= held && held <= most, "{held} bytes charged for {all}");
        }
    }

    /// The loop drops it, whatever it is doing, and everybody lets go of what they have.
    fn end(self) {
        let Self { connection, model, shared, log, .. } = self;
        drop(connection);
        let Log { heard, tickets, wakers, .. } = mem::take(&mut *log.lock().unwrap());
        let told =
            if model.is_closed() { vec![] } else { vec![script::Heard::Closed("the server stopped".into())] };
        assert_eq!(heard, told);
        assert!(
            wakers.iter().all(Waker::is_closed) && tickets.iter().all(|(_, ticket)| ticket.is_cancelled())
        );
        drop(tickets);
        assert_eq!((shared.gate.open(), shared.memory.used(), shared.jobs.used()), (0, 0, 0));
    }
}

fn asked(op: Op) -> Asked {
    match op {
        Op::Receive(most) => Asked::Receive(most),
        Op::Send => Asked::Send,
        Op::Shutdown => Asked::Shutdown,
        Op::Close { reset } => Asked::Close { reset },
        Op::Connect(_) | Op::Redial => unreachable!("nothing is opened"),
        Op::Read => unreachable!("it has no layer"),
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Nothing),
        6 => prop_oneof![0..80_usize, HIGH_WATER - 1..=HIGH_WATER + 1, Just(EACH)].prop_map(Act::Write),
        6 => Just(Act::Ticket),
        2 => Just(Act::Waker),
        2 => (0..90_000_u64).prop_map(|wait| Act::Timer(Some(wait))),
        1 => Just(Act::Timer(None)),
        1 => Just(Act::Finish),
        2 => Just(Act::FinishSending),
        3 => prop_oneof![Just(Reading::WithRoom), Just(Reading::Always), Just(Reading::Never)].prop_map(Act::Read),
        1 => Just(Act::FinishAfterPeer),
        1 => prop_oneof![4 => Just(Act::Violate), 1 => Just(Act::Abort)],
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let length = prop_oneof![6 => 1..60_usize, 2 => 100..400_usize, 1 => EACH - 1..=EACH + 1];
    let message = (length, prop::bool::weighted(0.8), prop::bool::weighted(0.3), act());
    let message = message.prop_map(|(length, needed, waits, then)| Message { length, needed, waits, then });
    // Most finish when they are asked to.
    let last = || prop_oneof![3 => Just(Act::Finish), 1 => Just(Act::FinishSending), 1 => act()];
    let quiet = || prop_oneof![3 => Just(Act::Nothing), 1 => act()];
    (vec(message, 0..12), quiet(), quiet(), quiet(), act(), last(), last()).prop_map(
        |(messages, opened, woken, room, timer, draining, end)| Script {
            messages: messages.into(),
            opened,
            woken,
            room,
            timer,
            draining,
            end,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Open),
        6 => prop_oneof![1..40_usize, 1..400_usize].prop_map(Step::Bytes),
        12 => (0..3_usize).prop_map(Step::Message),
        2 => Just(Step::End),
        8 => (0..400_usize).prop_map(Step::Take),
        1 => prop_oneof![Just(Operation::Receive), Just(Operation::Send)].prop_map(Step::Exhaust),
        4 => (any::<Index>(), 0..60_usize).prop_map(|(which, reply)| Step::Finish(which, reply)),
        1 => any::<Index>().prop_map(Step::Lose),
        2 => Just(Step::Wake),
        2 => Just(Step::DropWaker),
        6 => Just(Step::Answer),
        3 => (0..20_000_u64).prop_map(Step::Pass),
        2 => (0..20_000_u64).prop_map(Step::Late),
        2 => (0..3_u32).prop_map(Step::Deadline),
        1 => Just(Step::Tick),
        1 => prop_oneof![3 => Just(Step::Drain), 1 => Just(Step::Fail), 1 => Just(Step::Stop)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn a_connection_does_what_its_model_does(
        outgoing in prop::bool::weighted(0.3),
        script in script(),
        steps in vec(step(), 0..100),
    ) {
        let mut rig = Rig::new(&script, outgoing);
        for step in &steps {
            rig.step(step);
        }
        rig.end();
    }
}
