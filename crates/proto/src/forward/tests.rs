//! Two connections joined, without a loop: whatever happens in whatever order, what comes on one goes out on the other
//! and nothing else does, no more is held than may be, and it ends as it should.

use std::{io::IoSlice, time::Duration};

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    budget::Budget,
    close::Closed,
    connection::{Connection, Endpoint, Event, Op},
    host::{Host, Shared},
    peer::Peer,
    ticket::Token,
};

const EACH: usize = 2048;
const MOST: usize = EACH / 4;
const IDLE: Duration = Duration::from_secs(60);

/// A side that tells how it ended.
struct Told(Forward, Arc<Mutex<Option<String>>>);

impl Session for Told {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.0.received(input, cx)
    }
    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.0.called(cx)
    }
    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.0.ended();
        Ok(())
    }
    fn closed(self, why: &Closed) {
        *self.1.lock().unwrap() = Some(why.to_string());
    }
}

/// One connection, and the peer at its far end.
struct Side {
    connection: Connection<Told>,
    why: Arc<Mutex<Option<String>>>,
    receiving: usize,
    sending: bool,
    shut: bool,
    closed: Option<bool>,
    /// What the peer has said, whether its end is behind that, and what it has taken.
    said: Vec<u8>,
    ended: bool,
    end_heard: bool,
    taken: Vec<u8>,
}

struct Rig {
    sides: [Side; 2],
    host: Host,
    shared: Arc<Shared>,
    lanes: Arc<Mutex<[Lane; 2]>>,
    now: Duration,
}

impl Rig {
    /// Two connections that are being opened: one that was accepted, and one that is dialled.
    fn new() -> Self {
        let shared = Shared::new(Budget::default().buffer_each(EACH).idle(IDLE).slowest(0));
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let (near, far) = Forward::pair();
        let lanes = Arc::clone(&near.lanes);
        let mut number = 0;
        let mut side = |forward| {
            let (why, permit) = (Arc::default(), shared.gate.admit(None).unwrap());
            let (session, address) = (Told(forward, Arc::clone(&why)), ([192, 0, 2, 1], 7).into());
            let mut connection = match number {
                0 => Connection::accepted(session, Peer { address }, Arc::clone(&shared), permit),
                _ => Connection::outgoing(session, address, Arc::clone(&shared), permit).0,
            };
            connection.place(Token(number), host.wake_queue(), Duration::ZERO);
            number += 1;
            Side {
                connection,
                why,
                receiving: 0,
                sending: false,
                shut: false,
                closed: None,
                said: Vec::new(),
                ended: false,
                end_heard: false,
                taken: Vec::new(),
            }
        };
        let sides = [side(near), side(far)];
        host.report();
        Self { sides, host, shared, lanes, now: Duration::ZERO }
    }

    fn opened() -> Self {
        let mut rig = Self::new();
        (0..2).for_each(|side| rig.happen(side, Event::Opened));
        rig
    }

    fn happen(&mut self, which: usize, event: Event<'_>) {
        let side = &mut self.sides[which];
        side.connection.handle(self.now, event, &mut self.host);
        side.connection.settle(self.now, &mut self.host);
        while let Some(op) = side.connection.next() {
            assert!(side.closed.is_none());
            match op {
                Op::Receive(most) => side.receiving = most,
                Op::Send => {
                    assert!(!side.shut);
                    side.sending = true;
                }
                Op::Shutdown => side.shut = true,
                Op::Close { reset } => side.closed = Some(reset),
                op => panic!("{op:?}"),
            }
        }
    }

    /// The loop calls who was woken.
    fn wake(&mut self) {
        let mut woken = Vec::new();
        self.host.wake_queue.take(&mut woken);
        woken.into_iter().for_each(|token| self.happen(token.0 as usize, Event::Woken));
    }

    /// The peer of a side sends as much of this as is asked for.
    fn say(&mut self, which: usize, count: usize) -> usize {
        let side = &mut self.sides[which];
        let count = count.min(side.receiving);
        if count == 0 || side.ended || side.closed.is_some() {
            return 0;
        }
        side.receiving = 0;
        let from = side.said.len();
        side.said.extend((from..from + count).map(|place| (place * 31 + which) as u8));
        let mut block = BytesMut::with_capacity(crate::flight::BLOCK);
        block.extend_from_slice(&side.said[from..]);
        self.happen(which, Event::Received(&mut block));
        count
    }

    fn take(&mut self, which: usize, most: usize) -> usize {
        let side = &mut self.sides[which];
        if !side.sending || side.closed.is_some() {
            return 0;
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let (filled, _) = side.connection.output().gather(&mut slices);
        let front: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        let count = most.min(front.len());
        side.taken.extend_from_slice(&front[..count]);
        side.sending = false;
        self.happen(which, Event::Sent(count as u64));
        count
    }

    /// The peer's end is heard as soon as something is asked for.
    fn end(&mut self, which: usize) {
        let side = &mut self.sides[which];
        side.ended = true;
        if side.receiving > 0 && !side.end_heard && side.closed.is_none() {
            (side.receiving, side.end_heard) = (0, true);
            self.happen(which, Event::Ended);
        }
    }

    /// Both peers take all that there is, and hear of what follows.
    fn settle(&mut self) {
        loop {
            self.wake();
            let moved = (0..2).map(|which| self.take(which, usize::MAX)).sum::<usize>();
            for which in 0..2 {
                if self.sides[which].ended {
                    self.end(which);
                }
            }
            if moved == 0 && self.host.wake_queue.begin_sleep() {
                return;
            }
        }
    }

    fn why(&self, which: usize) -> Option<String> {
        self.sides[which].why.lock().unwrap().clone()
    }

    fn check(&self) {
        for which in 0..2 {
            let (from, to) = (&self.sides[which], &self.sides[1 - which]);
            assert!(from.said.starts_with(&to.taken), "what goes out is what came, in order");
            if to.shut {
                assert!(from.ended && to.taken.len() == from.said.len(), "the end goes behind all");
            }
        }
        for lane in &*self.lanes.lock().unwrap() {
            assert_eq!(lane.held, lane.chunks.iter().map(|chunk| chunk.len()).sum::<usize>());
            assert!(lane.held <= MOST + EACH && lane.chunks.len() <= PIECES + 5, "{}", lane.held);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Open,
    Say(usize, usize),
    Take(usize, usize),
    End(usize),
    Wake,
    Break(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let side = || 0..2_usize;
    let some = || prop_oneof![1..20_usize, 1..3 * EACH];
    prop_oneof![
        2 => Just(Step::Open),
        12 => (side(), some()).prop_map(|(side, count)| Step::Say(side, count)),
        8 => (side(), some()).prop_map(|(side, count)| Step::Take(side, count)),
        1 => side().prop_map(Step::End),
        6 => Just(Step::Wake),
        1 => (0..40_usize).prop_map(|side| if side < 2 { Step::Break(side) } else { Step::Wake }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_on_one_goes_out_on_the_other_whole_unless_it_breaks(steps in vec(step(), 0..200)) {
        let (mut rig, mut open, mut broken) = (Rig::new(), 0, false);
        for step in steps {
            match step {
                Step::Open if open < 2 => {
                    rig.happen(open, Event::Opened);
                    open += 1;
                }
                Step::Open => {}
                Step::Say(side, count) => _ = rig.say(side, count),
                Step::Take(side, most) => _ = rig.take(side, most),
                Step::End(side) => rig.end(side),
                Step::Wake => rig.wake(),
                Step::Break(side) => {
                    broken = true;
                    rig.happen(side, Event::Failed(std::io::ErrorKind::ConnectionReset.into()));
                }
            }
            rig.check();
        }
        (open..2).for_each(|side| rig.happen(side, Event::Opened));
        rig.settle();
        (0..2).for_each(|side| rig.end(side));
        rig.settle();
        rig.check();
        let closed = rig.sides.each_ref().map(|side| side.closed);
        if broken {
            prop_assert!(closed.iter().all(Option::is_some), "both hear of it");
        } else {
            prop_assert_eq!(closed, [Some(false); 2]);
            for which in 0..2 {
                prop_assert_eq!(rig.sides[which].taken.len(), rig.sides[1 - which].said.len());
                prop_assert_eq!(rig.why(which), Some("finished".into()));
            }
        }
        let Rig { sides, shared, lanes: _lanes, .. } = rig;
        drop(sides);
        prop_assert_eq!((shared.gate.open(), shared.memory.used()), (0, 0), "lanes included");
    }
}

#[test]
fn a_direction_that_is_full_holds_back_its_source_and_not_the_other_direction() {
    let mut rig = Rig::opened();
    while rig.say(0, usize::MAX) > 0 {
        rig.wake();
    }
    let held = rig.sides[0].said.len();
    assert!((MOST..3 * EACH).contains(&held), "{held} bytes are held");
    for _ in 0..50 {
        assert_eq!(rig.say(1, 100), 100);
        rig.wake();
        assert_eq!(rig.take(0, usize::MAX), 100, "what comes the other way is not kept back");
    }
    assert_eq!(rig.say(0, 1), 0);
    rig.settle();
    assert!(rig.say(0, 1) > 0, "it goes on when there is room");
    assert_eq!(rig.sides[1].taken.len(), held);
}

#[test]
fn who_is_held_back_is_not_waited_for_and_who_holds_it_back_is() {
    let mut rig = Rig::opened();
    while rig.say(0, usize::MAX) > 0 {
        rig.wake();
    }
    for _ in 0..10 {
        rig.now += IDLE / 2;
        // A byte in half a minute is slow, but it is something.
        assert_eq!(rig.take(1, 1), 1);
        assert_eq!(rig.sides[0].connection.deadline(), None);
        (0..2).for_each(|side| rig.happen(side, Event::Tick));
    }
    assert_eq!((rig.why(0), rig.why(1)), (None, None));
    rig.now += IDLE;
    rig.happen(1, Event::Tick);
    assert_eq!(rig.why(1), Some(Closed::Idle.to_string()));
    rig.wake();
    assert_eq!(rig.why(0).as_deref(), Some("the other side has broken off"));
}

#[test]
fn a_peer_that_was_held_back_has_all_of_its_time_when_it_is_not_any_more() {
    let mut rig = Rig::opened();
    while rig.say(0, usize::MAX) > 0 {
        rig.wake();
    }
    rig.now += IDLE - Duration::from_secs(1);
    rig.settle();
    assert_eq!(rig.sides[0].connection.deadline(), Some(rig.now + IDLE));
}

#[test]
fn a_drain_ends_nothing_that_is_still_said() {
    let mut rig = Rig::opened();
    assert_eq!(rig.say(0, 10), 10);
    (0..2).for_each(|side| rig.happen(side, Event::Drain));
    assert_eq!(rig.say(1, 10), 10);
    rig.settle();
    assert_eq!(rig.sides.each_ref().map(|side| side.taken.len()), [10, 10]);
    (0..2).for_each(|side| rig.end(side));
    rig.settle();
    assert_eq!((rig.why(0).as_deref(), rig.why(1).as_deref()), (Some("finished"), Some("finished")));
}

#[test]
fn what_a_broken_side_has_left_is_on_no_account() {
    let mut rig = Rig::opened();
    while rig.say(0, usize::MAX) > 0 {
        rig.wake();
    }
    rig.happen(1, Event::Stop);
    rig.wake();
    assert_eq!(rig.sides[0].closed, Some(true));
    let Rig { sides, shared, lanes: _lanes, .. } = rig;
    drop(sides);
    assert_eq!(shared.memory.used(), 0);
}

#[test]
fn a_lane_of_small_pieces_is_full_long_before_their_bytes_are_many() {
    let mut rig = Rig::opened();
    while rig.say(0, 1) > 0 {
        rig.wake();
    }
    let held = rig.sides[0].said.len();
    assert!((MOST..MOST + 2 * PIECES).contains(&held), "{held} pieces of a byte");
    rig.settle();
    assert!(rig.say(0, 1) > 0);
    rig.settle();
    assert_eq!(rig.sides[1].taken, rig.sides[0].said);
}
