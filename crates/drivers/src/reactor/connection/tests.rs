//! One connection's turn: what is tried, and what is not tried again before the poller has told of it.
#![forbid(unsafe_code)]

use roadstead_proto::{budget::Budget, host::Shared};

use super::*;
use crate::{
    blocking::tests::{Puppet, Scripted, Wishes, guest},
    net::Failure,
};

/// Of a connection: whether it was closed, what it wants of the poller, and what it has heard.
struct Scene {
    net: Scripted,
    host: Host,
    connection: LoopConnection<()>,
    heard: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

fn scene(connecting: bool, mut plan: impl FnMut(&str, &mut Wishes) + Send + 'static) -> Scene {
    let (puppet, heard) = Puppet::new(move |heard, wishes, _| plan(heard, wishes));
    let mut connection = LoopConnection::new(puppet, connecting);
    connection.stream = Some(());
    let host = Host::alone(Shared::new(Budget::default()), 1);
    Scene { net: Scripted::default(), host, connection, heard }
}

impl Scene {
    fn hears(&mut self, event: Event<'_>) {
        self.connection.endpoint.handle(Duration::ZERO, event, &mut self.host);
    }

    fn drive(&mut self) -> Turn {
        let mut block = BytesMut::new();
        let Self { connection, net, host, .. } = self;
        connection.drive(net, &mut block, Duration::ZERO, host, &mut Vec::new()).0
    }

    /// How often a receive was tried.
    fn tried(&self) -> usize {
        self.net.world().most.len()
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn sends_and_receives(heard: &str, wishes: &mut Wishes) {
    if heard == "opened" {
        wishes.ask(Op::Send);
        wishes.receive();
    }
}

fn receives_on(heard: &str, wishes: &mut Wishes) {
    if heard == "opened" || heard.starts_with("received") {
        wishes.receive();
    }
}

#[test]
fn a_call_that_a_signal_interrupts_is_made_again_in_the_same_turn() {
    let mut scene = scene(false, sends_and_receives);
    let interrupted = || io::ErrorKind::Interrupted.into();
    scene.net.world().sends.extend([Err(interrupted()), Ok(1)]);
    scene.net.world().came.extend([Err(interrupted()), Ok(&b""[..])]);
    scene.connection.note(true, false, false);
    scene.hears(Event::Opened);
    assert!(matches!(scene.drive(), Turn::Rests));
    assert_eq!(scene.heard(), ["opened", "sent(1)", "ended"]);
    assert_eq!((scene.host.count.sends, scene.host.count.receives), (2, 2));
}

#[test]
fn what_would_block_or_was_less_than_asked_for_is_tried_when_there_is_news() {
    for (more, tries) in [(false, 1), (true, 2)] {
        let mut scene = scene(false, receives_on);
        scene.hears(Event::Opened);
        assert!(matches!(scene.drive(), Turn::Rests));
        assert_eq!((scene.tried(), scene.connection.interest()), (0, (true, false)), "nobody has told of it");
        scene.net.come(Ok(b"x"));
        scene.connection.note(true, false, more);
        assert!(matches!(scene.drive(), Turn::Rests));
        assert_eq!(scene.tried(), tries, "more may follow: {more}");
        scene.net.come(Ok(b"123456789"));
        assert!(matches!(scene.drive(), Turn::Rests));
        assert_eq!(scene.tried(), tries, "there are no news");
        scene.connection.note(true, false, false);
        assert!(matches!(scene.drive(), Turn::Rests));
        assert_eq!(scene.tried(), tries + 2, "a receive that was filled is not the last");
        assert_eq!(scene.heard(), ["opened", "received x", "received 123456789"]);
    }
    let mut sends = scene(false, sends_and_receives);
    sends.hears(Event::Opened);
    assert!(matches!(sends.drive(), Turn::Rests));
    sends.net.world().sends.push_back(Ok(1));
    assert!(matches!(sends.drive(), Turn::Rests));
    assert_eq!((sends.connection.interest(), sends.heard().len()), ((true, true), 1), "there are no news");
    sends.connection.note(false, true, false);
    sends.drive();
    assert_eq!(
        (sends.connection.interest(), sends.heard()),
        ((true, false), vec!["opened".into(), "sent(1)".into()])
    );
}

#[test]
fn an_operation_that_has_failed_is_told_once_and_not_in_flight_any_more() {
    let no_room = || io::Error::other(Failure::NoRoom);
    let reset = || io::ErrorKind::ConnectionReset.into();
    for (error, told) in [
        (no_room as fn() -> io::Error, ["exhausted(send)", "exhausted(receive)"]),
        (reset, ["failed: connection reset"; 2]),
    ] {
        let mut scene = scene(false, sends_and_receives);
        scene.net.world().sends.push_back(Err(error()));
        scene.net.world().came.push_back(Err(error()));
        scene.connection.note(true, true, false);
        scene.hears(Event::Opened);
        assert!(matches!(scene.drive(), Turn::Rests));
        assert_eq!(
            (&scene.heard()[1..], scene.connection.interest()),
            (&told.map(String::from)[..], (false, false))
        );
    }
}

#[test]
fn a_connection_that_is_begun_is_asked_about_when_there_is_news_until_it_is_decided() {
    for (result, opened) in [(Ok(()), true), (Err(io::ErrorKind::ConnectionRefused.into()), false)] {
        let mut scene = scene(true, |_, _| ());
        scene.net.world().decided.extend([Err(io::ErrorKind::WouldBlock.into()), result]);
        let Scene { connection, net, .. } = &mut scene;
        assert!(connection.decided(net).is_none() && net.world().decided.len() == 2, "there are no news");
        connection.note(false, true, false);
        assert!(connection.decided(net).is_none() && net.world().decided.len() == 1);
        assert!(connection.decided(net).is_none() && net.world().decided.len() == 1, "there are no news");
        assert_eq!(connection.interest(), (false, true));
        connection.note(false, true, false);
        let event = connection.decided(net);
        assert!(if opened {
            matches!(event, Some(Event::Opened))
        } else {
            matches!(event, Some(Event::Failed(_)))
        });
        assert_eq!(connection.interest(), (false, false));
        assert!(connection.decided(net).is_none(), "it is decided once");
    }
}

#[test]
fn a_turn_ends_as_its_session_asks_and_an_end_without_a_connection_is_a_close() {
    for reset in [true, false] {
        let mut scene = scene(false, move |_, wishes| wishes.ask(Op::Close { reset }));
        scene.hears(Event::Opened);
        assert!(matches!(scene.drive(), Turn::Closes { reset: found } if found == reset));
    }
    let mut again = scene(true, |_, wishes| wishes.ask(Op::Redial));
    again.hears(Event::Tick);
    assert!(matches!(again.drive(), Turn::Dials(address) if address == guest()));
    let mut ends = scene(false, |heard, wishes| {
        if heard == "opened" {
            wishes.ask(Op::Shutdown);
        }
    });
    ends.hears(Event::Opened);
    assert!(matches!(ends.drive(), Turn::Rests) && ends.net.world().shut == 1);
    ends.connection.stream = None;
    ends.hears(Event::Opened);
    assert!(matches!(ends.drive(), Turn::Closes { reset: false }));
}
