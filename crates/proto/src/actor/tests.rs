//! One actor and sessions of several hosts: who finds it idle, who finds it busy, and what becomes of each.

use std::{
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use bytes::BytesMut;

use super::*;
use crate::{
    budget::Budget,
    close::{Close, Done},
    connection::{Connection, Endpoint, Event},
    host::{Host, Shared},
    input::Input,
    peer::Peer,
    session::{Context, Session},
    ticket::Token,
};

type Said = Result<String, Lost>;
type Operation = Box<dyn FnOnce(&mut Vec<u8>) -> String + Send>;

/// Asks for what it is given, as often as it is given something, and tells what it hears.
struct Asks {
    actor: Actor<Vec<u8>>,
    /// What the state is told when it is gone.
    last: Option<AtEnd<Vec<u8>>>,
    /// What to ask for, and how many bytes it holds.
    next: Vec<(usize, Operation)>,
    tell: Sender<Heard>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    Done(Said),
    Later,
    Reply(Said),
    Busy,
}

impl Session for Asks {
    type Reply = String;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        let (bytes, operation) = self.next.remove(0);
        let heard = match self.actor.ask(cx, bytes, operation) {
            Ok(Asked::Done(done)) => Heard::Done(done),
            Ok(Asked::Later(_)) => Heard::Later,
            Err(Busy) => Heard::Busy,
        };
        self.tell.send(heard).map_err(|_| Close::abort("nobody listens"))
    }

    fn reply(&mut self, _: JobId, reply: Said, _: &mut Context<'_, Self>) -> Done {
        self.tell.send(Heard::Reply(reply)).map_err(|_| Close::abort("nobody listens"))
    }
}

/// A loop with one connection.
struct Rig {
    connection: Connection<Asks>,
    host: Host,
    heard: mpsc::Receiver<Heard>,
}

const NOW: Duration = Duration::ZERO;

impl Rig {
    fn new(actor: &Actor<Vec<u8>>, next: Vec<(usize, Operation)>) -> Self {
        Self::with(actor, next, Budget::default(), |host| host)
    }

    fn with(
        actor: &Actor<Vec<u8>>,
        next: Vec<(usize, Operation)>,
        budget: Budget,
        set: impl FnOnce(Host) -> Host,
    ) -> Self {
        let shared = Shared::new(budget);
        let mut host = set(Host::alone(Arc::clone(&shared), 1));
        let (tell, heard) = mpsc::channel();
        let permit = shared.gate.admit(None).unwrap();
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let session = Asks { actor: actor.clone(), last: None, next, tell };
        let mut connection = Connection::accepted(session, peer, shared, permit);
        connection.place(Token(1), &host.wake_queue, NOW);
        connection.handle(NOW, Event::Opened, &mut host);
        Self { connection, host, heard }
    }

    /// Has the session ask for the next.
    fn ask(&mut self) -> Heard {
        self.connection.handle(NOW, Event::Received(&mut BytesMut::from("!")), &mut self.host);
        self.heard.try_recv().unwrap()
    }

    /// What has come back since it was asked.
    fn replies(&mut self) -> Vec<Heard> {
        self.connection.handle(NOW, Event::Woken, &mut self.host);
        self.heard.try_iter().collect()
    }
}

fn push(byte: u8) -> (usize, Operation) {
    let operation = move |state: &mut Vec<u8>| {
        state.push(byte);
        state.escape_ascii().to_string()
    };
    (1, Box::new(operation))
}

fn panics(after: u8) -> (usize, Operation) {
    let operation = move |state: &mut Vec<u8>| {
        state.push(after);
        panic!("an operation that is meant to panic")
    };
    (1, Box::new(operation))
}

fn said(text: &str) -> Said {
    Ok(text.to_owned())
}

/// Has the actor on another thread while `meanwhile` is done.
fn while_held<T>(actor: &Actor<Vec<u8>>, meanwhile: impl FnOnce() -> T) -> T {
    let ((begin, begun), (end, ended)) = (mpsc::channel(), mpsc::channel::<()>());
    let holds = move |_: &mut Vec<u8>| {
        begin.send(()).unwrap();
        ended.recv().unwrap();
        "held".to_owned()
    };
    let actor = actor.clone();
    let holder = thread::spawn(move || Rig::new(&actor, vec![(0, Box::new(holds))]).ask());
    begun.recv().unwrap();
    let done = meanwhile();
    end.send(()).unwrap();
    assert_eq!(holder.join().unwrap(), Heard::Done(said("held")));
    done
}

#[test]
fn who_finds_it_idle_is_answered_at_once_without_a_ticket() {
    let actor = Actor::new(Vec::new());
    let mut rig = Rig::with(&actor, vec![push(b'a'), push(b'b')], Budget::default().jobs(0), |host| host);
    assert_eq!(rig.ask(), Heard::Done(said("a")));
    assert_eq!(rig.ask(), Heard::Done(said("ab")));
    assert!(rig.replies().is_empty() && actor.waiting() == 0);
}

#[test]
fn who_finds_it_in_the_midst_of_an_operation_goes_on_and_is_answered_in_its_order() {
    let actor = Actor::new(Vec::new());
    let mut rigs = [(); 3].map(|()| Rig::new(&actor, vec![push(b'a'), push(b'b')]));
    while_held(&actor, || {
        for rig in &mut rigs {
            // All this on a thread that would never come back if it waited.
            assert_eq!([rig.ask(), rig.ask()], [Heard::Later, Heard::Later]);
            assert!(rig.replies().is_empty());
        }
        assert_eq!(actor.waiting(), 6);
    });
    let replies: Vec<_> = rigs.iter_mut().flat_map(Rig::replies).collect();
    let expected = ["a", "ab", "aba", "abab", "ababa", "ababab"].map(|text| Heard::Reply(said(text)));
    assert_eq!(replies, expected);
    for rig in &rigs {
        assert_eq!((actor.waiting(), rig.host.shared.jobs.used()), (0, 0));
    }
}

#[test]
fn a_full_mailbox_says_so_and_has_room_again_when_its_messages_were_done() {
    let actor = Actor::new(Vec::new());
    let mut rig = Rig::new(&actor, (0..WAITING + 2).map(|_| push(b'x')).collect());
    while_held(&actor, || {
        for _ in 0..WAITING {
            assert_eq!(rig.ask(), Heard::Later);
        }
        assert_eq!(rig.ask(), Heard::Busy);
        assert_eq!(rig.host.shared.jobs.used(), WAITING, "who is refused has no ticket");
    });
    assert_eq!(rig.replies().len(), WAITING, "and hears of none that is lost");
    assert_eq!(rig.ask(), Heard::Done(said(&"x".repeat(WAITING + 1))));
}

#[test]
fn as_many_bytes_wait_as_may_and_no_more() {
    let actor = Actor::new(Vec::new());
    let sized = |bytes| (bytes, push(b'x').1);
    let mut rig = Rig::new(&actor, [BYTES - 1, 1, 1].map(sized).into());
    while_held(&actor, || {
        assert_eq!([rig.ask(), rig.ask(), rig.ask()], [Heard::Later, Heard::Later, Heard::Busy]);
    });
    assert_eq!(rig.replies().len(), 2);
    let mut rig = Rig::new(&actor, [usize::MAX, 0].map(sized).into());
    while_held(&actor, || {
        assert_eq!(
            [rig.ask(), rig.ask()],
            [Heard::Later, Heard::Later],
            "what is larger than all goes alone"
        );
    });
    assert_eq!(rig.replies().len(), 2);
}

#[test]
fn without_a_ticket_nothing_waits() {
    let actor = Actor::new(Vec::new());
    let mut rig = Rig::with(&actor, vec![push(b'x'), push(b'y')], Budget::default().jobs(1), |host| host);
    while_held(&actor, || {
        assert_eq!([rig.ask(), rig.ask()], [Heard::Later, Heard::Busy]);
        assert_eq!(actor.waiting(), 1, "the place was given back");
    });
    assert_eq!(rig.replies(), [Heard::Reply(said("x"))]);
}

#[test]
fn an_operation_that_panics_is_lost_alone_and_leaves_the_state_as_it_was_then() {
    let actor = Actor::new(Vec::new());
    let mut idle = Rig::new(&actor, vec![panics(b'1'), push(b'a')]);
    assert_eq!(idle.ask(), Heard::Done(Err(Lost)));
    let mut busy = Rig::new(&actor, vec![panics(b'2'), push(b'b')]);
    while_held(&actor, || {
        assert_eq!([busy.ask(), busy.ask(), idle.ask()], [Heard::Later, Heard::Later, Heard::Later]);
    });
    assert_eq!(busy.replies(), [Heard::Reply(Err(Lost)), Heard::Reply(said("12b"))]);
    assert_eq!(idle.replies(), [Heard::Reply(said("12ba"))]);
    assert_eq!(actor.waiting(), 0);
}

#[test]
fn what_waits_for_a_connection_that_closes_is_not_done_and_leaves_its_place() {
    let actor = Actor::new(Vec::new());
    let mut stays = Rig::new(&actor, vec![push(b's'), push(b't')]);
    let mut goes = Rig::new(&actor, vec![push(b'g')]);
    while_held(&actor, || {
        assert_eq!([goes.ask(), stays.ask()], [Heard::Later, Heard::Later]);
        goes.connection.handle(NOW, Event::Stop, &mut goes.host);
    });
    assert_eq!(stays.replies(), [Heard::Reply(said("s"))]);
    assert_eq!((actor.waiting(), goes.host.shared.jobs.used()), (0, 0));
    assert_eq!(stays.ask(), Heard::Done(said("st")));
}

#[test]
fn one_who_was_overtaken_leaves_the_actor_to_a_job_and_others_find_it_busy_until_then() {
    let actor = Actor::new(Vec::new());
    let overtaken = |host: Host| host.overtaken(|| true);
    let mut rig = Rig::with(&actor, vec![push(b'a')], Budget::default(), overtaken);
    let mut other = Rig::new(&actor, vec![push(b'b'), push(b'c')]);
    assert_eq!([rig.ask(), other.ask()], [Heard::Later, Heard::Later]);
    assert!(rig.replies().is_empty() && other.replies().is_empty());
    while rig.host.run_job() {}
    assert_eq!(rig.replies(), [Heard::Reply(said("a"))]);
    assert_eq!(other.replies(), [Heard::Reply(said("ab"))]);
    assert_eq!(other.ask(), Heard::Done(said("abc")), "it was let go of");
}

#[test]
fn a_queue_that_goes_with_the_job_in_it_leaves_nothing_undone() {
    let actor = Actor::new(Vec::new());
    let mut other = Rig::new(&actor, vec![push(b'b'), push(b'c')]);
    let mut rig = Rig::with(&actor, vec![push(b'a')], Budget::default(), |host| host.overtaken(|| true));
    assert_eq!([rig.ask(), other.ask()], [Heard::Later, Heard::Later]);
    drop(rig);
    assert_eq!(other.replies().len(), 1);
    assert!(matches!(other.ask(), Heard::Done(_)), "nobody has it any more");
}

/// Has `next` ask in the midst of an operation, and keeps it so that it hears of that.
fn asks_for(next: Option<Rig>, keep: Sender<Rig>) -> (usize, Operation) {
    let operation = move |_: &mut Vec<u8>| {
        if let Some(mut next) = next {
            assert_eq!(next.ask(), Heard::Later);
            keep.send(next).unwrap();
        }
        String::new()
    };
    (0, Box::new(operation))
}

#[test]
fn one_who_serves_others_does_its_share_and_leaves_the_rest_to_a_job() {
    let actor = Actor::new(Vec::new());
    let (keep, kept) = mpsc::channel();
    let chain = (0..SHARE + 2).fold(None, |next, _| {
        let asks = asks_for(next, keep.clone());
        Some(Rig::new(&actor, vec![asks]))
    });
    let mut first = chain.unwrap();
    assert_eq!(first.ask(), Heard::Done(said("")));
    let mut others: Vec<_> = kept.try_iter().collect();
    let answered = |others: &mut Vec<Rig>| others.iter_mut().map(|rig| rig.replies().len()).sum::<usize>();
    assert_eq!((answered(&mut others), others.len()), (SHARE, SHARE + 1));
    assert_eq!(actor.waiting(), 1);
    assert!(first.host.run_job(), "it was left to a job");
    assert_eq!((answered(&mut others), actor.waiting()), (1, 0));
}

/// Has the state end with `byte` when the session of `rig` is gone.
fn say_at_end(rig: &mut Rig, byte: u8) {
    rig.connection.call(NOW, &mut rig.host, |session, _| {
        session.last = Some(session.actor.at_end(move |state| state.push(byte)));
        Ok(())
    });
}

#[test]
fn what_is_to_be_said_at_the_end_is_said_once_and_at_once_whatever_the_end() {
    let actor = Actor::new(Vec::new());
    let ends: [fn(&mut Rig); 3] = [
        |rig| _ = rig.connection.handle(NOW, Event::Stop, &mut rig.host),
        |rig| rig.connection.call(NOW, &mut rig.host, |_, _| panic!("a session that is meant to panic")),
        |rig| rig.connection.call(NOW, &mut rig.host, |_, _| Err(Close::abort("enough"))),
    ];
    let mut other = Rig::new(&actor, vec![push(b'.'), push(b'.'), push(b'.'), push(b'.')]);
    for (number, end) in ends.into_iter().enumerate() {
        let mut rig = Rig::with(&actor, Vec::new(), Budget::default().jobs(0), |host| host);
        say_at_end(&mut rig, b'1' + number as u8);
        end(&mut rig);
        let expected = ["1.", "1.2.", "1.2.3."][number];
        assert_eq!(other.ask(), Heard::Done(said(expected)));
        drop(rig);
    }
    let mut dropped = Rig::new(&actor, Vec::new());
    say_at_end(&mut dropped, b'4');
    drop(dropped);
    assert_eq!(other.ask(), Heard::Done(said("1.2.3.4.")));
}

#[test]
fn who_leaves_while_somebody_has_it_is_told_of_by_that_one_in_order_and_without_a_place() {
    let actor = Actor::new(Vec::new());
    let mut stays = Rig::new(&actor, (0..WAITING + 1).map(|_| push(b's')).collect());
    let mut goes: Vec<_> = (0..3).map(|_| Rig::new(&actor, vec![push(b'x')])).collect();
    while_held(&actor, || {
        assert_eq!(stays.ask(), Heard::Later);
        assert_eq!(goes[0].ask(), Heard::Later);
        goes.iter_mut().for_each(|rig| say_at_end(rig, b'g'));
        goes.clear();
        (1..WAITING - 1).for_each(|_| assert_eq!(stays.ask(), Heard::Later));
        assert_eq!((stays.ask(), actor.waiting()), (Heard::Busy, WAITING));
    });
    let replies = stays.replies();
    assert_eq!(replies[..2], [Heard::Reply(said("s")), Heard::Reply(said("sgggs"))]);
    assert_eq!((replies.len(), actor.waiting()), (WAITING - 1, 0));
}

#[test]
fn who_asks_while_one_in_a_hurry_has_it_looks_whether_somebody_comes() {
    let actor = Actor::new(Vec::new());
    let mut rig = Rig::new(&actor, vec![push(b'a'), push(b'b')]);
    let inner = Arc::clone(&actor.0);
    let nothing = Message { operation: Guarded::new(Box::new(|_: &mut Vec<u8>| {})), _charge: None };
    assert!(inner.mailbox.post_last(nothing), "nobody has it");
    assert_eq!(rig.ask(), Heard::Later);
    assert!(rig.host.run_job() && rig.host.jobs.are_ready(), "it comes again");
    inner.perform_all(inner.mailbox.take().unwrap());
    assert_eq!(rig.ask(), Heard::Later);
    assert!(inner.mailbox.let_go() && rig.replies().len() == 1);
    while rig.host.run_job() {}
    assert_eq!((rig.replies(), actor.waiting()), (vec![Heard::Reply(said("ab"))], 0));
    assert_eq!(inner.mailbox.look(), Comes::Another, "it was let go of, and nothing waits");
}
