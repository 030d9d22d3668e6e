//! One connection and its thread: what it waits for and how long, and what it hears in which order.
#![forbid(unsafe_code)]

use roadstead_proto::{budget::Budget, connection::Operation, host::Shared};

use super::*;
use crate::{
    blocking::{connection::Blocking, server_handle::ServerHandle},
    connections::LONG,
    orders::Order,
};

const GLANCE: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// Whoever else is there only says what the server wants, and notes who is to be dialled.
pub(super) struct Alone(Mutex<Order>, Mutex<Vec<Address>>);

impl Alone {
    pub(super) fn raise(&self, orders: Order) {
        *self.0.lock().unwrap() = orders;
    }
}

impl ServerHandle for Alone {
    fn order(&self) -> Order {
        *self.0.lock().unwrap()
    }
    fn connect(self: Arc<Self>, endpoint: Box<dyn Endpoint>) {
        self.1.lock().unwrap().push(endpoint.address().clone());
    }
}

pub(super) struct Play {
    pub(super) net: Scripted,
    pub(super) server: Arc<Alone>,
    pub(super) host: Host,
}

pub(super) fn play() -> Play {
    let server = Arc::new(Alone(Mutex::new(Order::Serve), Mutex::default()));
    let host = Host::alone(Shared::new(Budget::default()), 1);
    Play { net: Scripted::default(), server, host }
}

impl Play {
    /// What a connection hears that has come, until it closes.
    pub(super) fn accepted(
        self,
        plan: impl FnMut(&str, &mut Wishes, &mut Host) + Send + 'static,
    ) -> Vec<String> {
        let (puppet, heard) = Puppet::new(plan);
        Blocking::accepted(self.server, self.net, Wakeup::Alarm, (), puppet, self.host).run();
        heard.lock().unwrap().clone()
    }

    /// The same of one that is begun.
    fn outgoing(self, plan: impl FnMut(&str, &mut Wishes, &mut Host) + Send + 'static) -> Vec<String> {
        let (puppet, heard) = Puppet::new(plan);
        Blocking::outgoing(self.server, self.net, Wakeup::Alarm, puppet, self.host).run();
        heard.lock().unwrap().clone()
    }
}

/// Receives for ever, and closes when it hears one of these.
fn until<const N: usize>(ends: [&'static str; N]) -> impl FnMut(&str, &mut Wishes, &mut Host) + Send {
    move |heard, wishes, _| match heard {
        heard if ends.contains(&heard) => wishes.close(),
        heard if heard == "opened" || heard.starts_with("received") => wishes.receive(),
        _ => {}
    }
}

/// What is waited for in `poll` by who may be moved by bytes and a drain alone.
fn polled(receive: bool, send: bool, timeout: Option<Duration>) -> Wait {
    Wait::For { receive, send, wakeup: Some(Wakeup::Alarm), timeout }
}

/// What is waited for in `poll` by who may be called.
fn awaits(receive: bool, send: bool, timeout: Option<Duration>) -> Wait {
    Wait::For { receive, send, wakeup: Some(Wakeup::Own), timeout }
}

#[test]
fn a_deadline_is_told_although_the_peer_never_pauses() {
    let play = play();
    for _ in 0..9 {
        play.net.then(|net| {
            net.pass(SECOND / 2);
            net.come(Ok(b"x"));
        });
    }
    let mut plan = until(["tick"]);
    let heard = play.accepted(move |heard, wishes, host| {
        wishes.deadline = Some(SECOND);
        plan(heard, wishes, host);
    });
    assert_eq!(heard.iter().filter(|heard| *heard == "tick").count(), 1);
    assert!(heard.len() < 8, "{heard:?}");
}

#[test]
fn who_has_waited_in_vain_in_recv_can_be_woken_too_until_something_comes() {
    let play = play();
    let net = play.net.clone();
    net.then(|net| net.pass(GLANCE)).then(|net| net.come(Ok(b"x"))).then(|net| net.come(Ok(b"")));
    play.accepted(until(["ended"]));
    let world = net.world();
    assert_eq!(world.waits, [Wait::InReceive(GLANCE), polled(true, false, None), Wait::InReceive(GLANCE)]);
    assert_eq!(world.most, [9; 3], "a receive takes no more than was asked for");
    assert_eq!(world.closed, [false]);
}

#[test]
fn nobody_waits_in_recv_who_may_be_moved_by_something_else_or_has_a_deadline_before_it_would_look() {
    for (deadline, is_awaited, how) in [
        (None, false, Wait::InReceive(GLANCE)),
        (Some(GLANCE), false, Wait::InReceive(GLANCE)),
        (
            Some(GLANCE - Duration::from_nanos(1)),
            false,
            polled(true, false, Some(GLANCE - Duration::from_nanos(1))),
        ),
        (None, true, awaits(true, false, None)),
    ] {
        let play = play();
        let net = play.net.clone();
        net.then(|net| net.come(Ok(b"")));
        let mut plan = until(["ended"]);
        play.accepted(move |heard, wishes, host| {
            (wishes.deadline, wishes.is_awaited) = (deadline, is_awaited);
            plan(heard, wishes, host);
        });
        assert_eq!(net.world().waits, [how]);
    }
}

#[test]
fn a_send_without_room_waits_for_it_beside_what_comes_and_the_deadline() {
    let play = play();
    let net = play.net.clone();
    net.then(|net| net.come(Ok(b"x"))).then(|net| net.world().sends.push_back(Ok(3)));
    let heard = play.accepted(|heard, wishes, _| match heard {
        "opened" => {
            wishes.deadline = Some(SECOND);
            wishes.ask(Op::Send);
            wishes.receive();
        }
        "sent(3)" => wishes.close(),
        _ => {}
    });
    assert_eq!(heard, ["opened", "received x", "sent(3)"]);
    assert_eq!(net.world().waits, [polled(true, true, Some(SECOND)), polled(false, true, Some(SECOND))]);
}

#[test]
fn a_call_that_a_signal_interrupts_is_made_again_and_nobody_hears_of_it() {
    let play = play();
    let interrupted = || io::ErrorKind::Interrupted.into();
    play.net.world().sends.extend([Err(interrupted()), Ok(1)]);
    play.net.world().came.extend([Err(interrupted()), Err(io::ErrorKind::TimedOut.into()), Ok(&b""[..])]);
    play.net.then(|_| ()).then(|_| ()).then(|_| ());
    let heard = play.accepted(|heard, wishes, _| match heard {
        "opened" => {
            wishes.ask(Op::Send);
            wishes.receive();
        }
        "ended" => wishes.close(),
        _ => {}
    });
    assert_eq!(heard, ["opened", "sent(1)", "ended"]);
}

#[test]
fn what_the_system_has_no_room_for_is_told_by_its_name_and_what_fails_otherwise_is_the_end() {
    let no_room = || io::Error::other(Failure::NoRoom);
    let reset = || io::ErrorKind::ConnectionReset.into();
    for (error, receive, send) in [
        (no_room as fn() -> _, "exhausted(receive)", "exhausted(send)"),
        (reset, "failed: connection reset", "failed: connection reset"),
    ] {
        let received = play();
        received.net.then(move |net| net.come(Err(error())));
        assert_eq!(received.accepted(until([receive])), ["opened", receive]);
        let sent = play();
        sent.net.world().sends.push_back(Err(error()));
        let heard = sent.accepted(move |heard, wishes, _| match heard {
            "opened" => wishes.ask(Op::Send),
            heard if heard == send => wishes.close(),
            _ => {}
        });
        assert_eq!(heard, ["opened", send]);
    }
}

#[test]
fn an_operation_that_has_failed_is_not_in_flight_any_more() {
    let play = play();
    let net = play.net.clone();
    net.world().sends.push_back(Err(io::Error::other(Failure::NoRoom)));
    net.world().came.push_back(Err(io::Error::other(Failure::NoRoom)));
    net.then(|_| ());
    play.accepted(|heard, wishes, _| match heard {
        "opened" => {
            wishes.deadline = Some(SECOND);
            wishes.ask(Op::Send);
            wishes.receive();
        }
        "tick" => wishes.close(),
        _ => {}
    });
    let waits = &net.world().waits;
    assert_eq!(waits[1..], [polled(false, false, Some(SECOND))], "it rests: {waits:?}");
}

#[test]
fn a_connection_that_breaks_while_nothing_is_received_says_what_broke_it() {
    let play = play();
    play.net.then(|net| net.world().broken = Some(io::ErrorKind::ConnectionReset));
    let mut plan = until(["failed: connection reset"]);
    let heard = play.accepted(move |heard, wishes, host| {
        plan(heard, wishes, host);
        wishes.ops.retain(|op| !matches!(op, Op::Receive(_)));
    });
    assert_eq!(heard, ["opened", "failed: connection reset"]);
}

#[test]
fn a_wait_that_fails_is_the_connections_end() {
    let play = play();
    play.net.then(|net| net.world().unable.push_back(Err(io::ErrorKind::InvalidInput.into())));
    let mut plan = until(["failed: invalid input parameter"]);
    let heard = play.accepted(move |heard, wishes, host| {
        wishes.is_awaited = true;
        plan(heard, wishes, host);
    });
    assert_eq!(heard, ["opened", "failed: invalid input parameter"]);
}

#[test]
fn where_the_system_would_not_look_everything_in_flight_is_tried() {
    let play = play();
    play.net.then(|net| {
        net.world().unable.push_back(Ok(None));
        net.world().sends.push_back(Ok(1));
        net.come(Ok(b"x"));
    });
    let heard = play.accepted(|heard, wishes, _| match heard {
        "opened" => {
            wishes.ask(Op::Send);
            wishes.receive();
        }
        "sent(1)" => wishes.close(),
        _ => {}
    });
    assert_eq!(heard, ["opened", "received x", "sent(1)"]);
}

#[test]
fn without_a_wake_descriptor_a_connection_looks_at_its_wake_queue_every_now_and_then() {
    for (deadline, timeout) in [(None, GLANCE), (Some(SECOND), GLANCE), (Some(GLANCE / 2), GLANCE / 2)] {
        let play = play();
        let net = play.net.clone();
        net.world().cramped = true;
        net.then(|net| net.come(Ok(b"")));
        let mut plan = until(["ended"]);
        play.accepted(move |heard, wishes, host| {
            (wishes.deadline, wishes.is_awaited) = (deadline, true);
            plan(heard, wishes, host);
        });
        let waited = Wait::For { receive: true, send: false, wakeup: None, timeout: Some(timeout) };
        assert_eq!(net.world().waits, [waited]);
    }
}

#[test]
fn until_a_drain_a_quiet_connection_is_woken_by_what_all_have_and_by_something_of_its_own_then() {
    let play = play();
    let net = play.net.clone();
    for order in [Order::Cede, Order::Drain] {
        let server = Arc::clone(&play.server);
        net.then(|net| net.pass(GLANCE)).then(move |net| {
            server.raise(order);
            net.world().blind = true;
        });
    }
    net.then(|net| net.pass(GLANCE)).then(|net| net.come(Ok(b"")));
    assert_eq!(play.accepted(until(["ended"])), ["opened", "drain", "ended"]);
    let (glance, shared) = (Wait::InReceive(GLANCE), polled(true, false, None));
    assert_eq!(net.world().waits, [glance, shared, glance, shared, glance, awaits(true, false, None)]);
}

#[test]
fn who_rings_before_the_wait_is_heard_without_one() {
    let play = play();
    let (net, wake_queue) = (play.net.clone(), Arc::clone(&play.host.wake_queue));
    let mut plan = until(["woken"]);
    let heard = play.accepted(move |heard, wishes, host| {
        wishes.is_awaited = true;
        // As late as can be: nothing is asked between this and the wait.
        if heard == "settle" {
            wake_queue.wake(Token(0));
        }
        plan(heard, wishes, host);
    });
    assert_eq!((&heard[..], &net.world().waits[..]), (&["opened".into(), "woken".into()][..], &[][..]));
}

#[test]
fn what_has_arrived_is_received_before_a_drain_is_told_and_not_before_a_stop() {
    for (orders, heard) in [
        (Order::Drain, &["opened", "received x", "sent(1)", "drain"][..]),
        (Order::Stop, &["opened", "stop"]),
    ] {
        let play = play();
        let server = Arc::clone(&play.server);
        play.net.then(move |net| {
            server.raise(orders);
            net.world().blind = true;
            net.come(Ok(b"x"));
            net.world().sends.push_back(Ok(1));
        });
        let told = play.accepted(|heard, wishes, _| match heard {
            "opened" => {
                wishes.ask(Op::Send);
                wishes.receive();
            }
            "drain" | "stop" => wishes.close(),
            _ => {}
        });
        assert_eq!(told, heard);
    }
}

#[test]
fn an_order_is_told_once_and_a_further_one_as_well() {
    let play = play();
    let server = [Arc::clone(&play.server), Arc::clone(&play.server)];
    let [drains, stops] = server;
    play.net
        .then(move |_| drains.raise(Order::Drain))
        .then(|net| net.come(Ok(b"x")))
        .then(move |_| stops.raise(Order::Stop));
    assert_eq!(play.accepted(until(["stop"])), ["opened", "drain", "received x", "stop"]);
}

#[test]
fn who_comes_during_a_drain_hears_of_it_first() {
    for (orders, first) in [(Order::Drain, "drain"), (Order::Stop, "stop")] {
        let play = play();
        play.server.raise(orders);
        assert_eq!(play.accepted(until(["opened"])), [first, "opened"]);
    }
}

#[test]
fn no_deadline_is_told_before_the_socket_was_looked_at() {
    let play = play();
    let net = play.net.clone();
    net.then(|net| {
        net.pass(2 * SECOND);
        net.world().blind = true;
        net.come(Ok(b"x"));
    });
    net.then(|net| net.come(Ok(b"")));
    let mut plan = until(["ended", "tick"]);
    let heard = play.accepted(move |heard, wishes, host| {
        wishes.is_awaited = true;
        match heard {
            "opened" => wishes.deadline = Some(SECOND),
            "received x" => wishes.deadline = Some(9 * SECOND),
            _ => {}
        }
        plan(heard, wishes, host);
    });
    assert_eq!(heard, ["opened", "received x", "ended"]);
}

#[test]
fn a_session_that_took_long_has_not_used_up_its_peers_time() {
    for (took, corrected) in [(LONG, true), (LONG - Duration::from_nanos(1), false)] {
        let play = play();
        let net = play.net.clone();
        net.then(|net| net.come(Ok(b"")));
        let mut plan = until(["ended"]);
        let heard = play.accepted(move |heard, wishes, host| {
            if heard == "opened" {
                net.pass(took);
            }
            plan(heard, wishes, host);
        });
        assert_eq!(heard.contains(&format!("not at 0ns but at {took:?}")), corrected, "{heard:?}");
    }
}

#[test]
fn who_holds_too_much_when_it_is_left_is_closed_before_it_waits_and_as_it_asks_to_be() {
    for reset in [true, false] {
        let play = play();
        let net = play.net.clone();
        play.accepted(move |heard, wishes, _| match heard {
            "opened" => wishes.receive(),
            "settle" => wishes.ask(Op::Close { reset }),
            _ => {}
        });
        let world = net.world();
        assert_eq!((&world.closed[..], &world.waits[..]), (&[reset][..], &[][..]));
    }
}

#[test]
fn its_end_is_told_to_the_peer_and_who_is_to_be_dialled_to_the_others() {
    let play = play();
    let (net, server) = (play.net.clone(), Arc::clone(&play.server));
    play.accepted(|heard, wishes, _| {
        if heard == "opened" {
            wishes.ask(Op::Shutdown);
            let endpoint = Puppet::new(|_, _, _| ()).0;
            wishes.ask(Op::Connect(Box::new(roadstead_proto::connection::Outgoing { endpoint })));
            wishes.close();
        }
    });
    assert_eq!((net.world().shut, &server.1.lock().unwrap()[..]), (1, &[guest()][..]));
}

#[test]
fn what_was_counted_is_known_before_anything_is_waited_for() {
    for is_awaited in [false, true] {
        let play = play();
        let (net, shared) = (play.net.clone(), Arc::clone(&play.host.shared));
        net.then(move |net| {
            let counted = shared.snapshot();
            assert_eq!((counted.sends, counted.sleeps), (1, 1));
            net.come(Ok(b""));
        });
        net.world().sends.push_back(Ok(1));
        play.accepted(move |heard, wishes, _| {
            wishes.is_awaited = is_awaited;
            match heard {
                "opened" => wishes.ask(Op::Send),
                "sent(1)" => wishes.receive(),
                "ended" => wishes.close(),
                _ => {}
            }
        });
    }
}

#[test]
fn a_connection_that_is_begun_is_open_once_it_is_decided() {
    let play = play();
    let net = play.net.clone();
    net.world().begun.push_back(Err(io::Error::other(Failure::NoRoom)));
    // It is asked for again after a rest; the first time that anything is heard of it, it is not decided.
    net.then(|net| net.world().decided.push_back(waits())).then(|net| net.world().decided.push_back(Ok(())));
    let heard = play.outgoing(|heard, wishes, _| match heard {
        "exhausted(connect)" => wishes.ask(Op::Redial),
        "opened" => wishes.close(),
        _ => wishes.deadline = Some(SECOND),
    });
    let world = net.world();
    assert_eq!(heard, [format!("exhausted({:?})", Operation::Connect).to_lowercase(), "opened".into()]);
    assert_eq!((&world.dialled[..], &world.closed[..]), (&[guest(), guest()][..], &[false][..]));
    assert_eq!(
        world.waits,
        [polled(false, true, Some(SECOND)); 2],
        "not longer than it has time to be answered"
    );
}

#[test]
fn a_connection_that_cannot_be_begun_or_is_refused_says_so_and_one_that_is_not_answered_meets_its_deadline() {
    let refused = || Err(io::ErrorKind::ConnectionRefused.into());
    let ends = until(["failed: connection refused", "tick"]);
    let at_once = play();
    at_once.net.world().begun.push_back(refused());
    assert_eq!(at_once.outgoing(ends), ["failed: connection refused"]);
    let later = play();
    later.net.then(move |net| net.world().decided.push_back(refused()));
    assert_eq!(later.outgoing(until(["failed: connection refused"])), ["failed: connection refused"]);
    let never = play();
    never.net.then(|net| net.pass(SECOND));
    let server = Arc::clone(&never.server);
    server.raise(Order::Drain);
    let heard = never.outgoing(|heard, wishes, _| match heard {
        "drain" => wishes.deadline = Some(SECOND),
        "tick" => wishes.close(),
        _ => {}
    });
    assert_eq!(heard, ["drain", "tick"], "also during a drain");
}
