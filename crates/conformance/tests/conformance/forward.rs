//! Two connections joined: what comes on one goes out on the other, and so does how it ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use roadstead_conformance::{
    PATIENCE,
    child::Child,
    client::{End, end_of, eventually, pattern},
    far::nobody,
    setting::Setting,
    wire::Wire,
};

scenarios! {
    what_is_forwarded_comes_back_whole (Wires): "3 MiB go to an echo and back through a forwarder, half-closed behind the last byte",
    a_half_close_of_the_near_side_is_passed_on (Wires): "the far side hears the end behind 3 MiB, answers with 3 MiB, and all of that arrives",
    a_half_close_of_the_far_side_is_passed_on (Wires): "the near side hears the end behind 3 MiB, answers with 3 MiB, and all of that arrives",
    both_directions_go_on_at_once (Wires): "a direction that nobody reads from holds up neither the other nor, later, itself, and costs no more than its buffers",
    a_side_that_breaks_off_breaks_off_the_other (Wires): "a reset of one side is one of the other, and so is a far side that is not there",
    a_drain_lets_both_sides_say_all (Wires): "what is forwarded when the server drains goes on to its end",
}

const MUCH: usize = 3 << 20;

/// A forwarder to a socket of ours.
struct Forwarder {
    child: Child,
    far: TcpListener,
}

impl Forwarder {
    #[track_caller]
    fn start(setting: &Setting, options: &str) -> Self {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = far.local_addr().unwrap();
        let child = Child::start(setting, &format!("forward --far {address} --far-plain {options}"));
        Self { child, far }
    }

    /// The two ends of a forwarded connection.
    #[track_caller]
    fn connect(&self) -> (Wire, TcpStream) {
        let near = self.child.connect();
        let (far, _) = self.far.accept().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        far.set_write_timeout(Some(PATIENCE)).unwrap();
        (near, far)
    }

    /// Both sides have ended in good order.
    #[track_caller]
    fn finishes(self) {
        eventually("both sides are closed", || {
            !self.child.said("far ").is_empty() && !self.child.closed().is_empty()
        });
        assert_eq!(
            (self.child.said("far ").remove(0), self.child.first_closed()),
            ("finished".into(), "finished".into())
        );
        let stats = self.child.drain();
        assert_eq!((stats["connected"], stats["closed"], stats["failed"]), (1, 2, 0));
    }
}

#[track_caller]
fn is_pattern(bytes: &[u8], count: usize) {
    assert!(bytes == pattern(count), "{} bytes of {count}, or others", bytes.len());
}

fn what_is_forwarded_comes_back_whole(setting: &Setting) {
    let far = Child::start(setting, "echo");
    let near = Child::start(setting, &format!("forward --far {}", far.address()));
    let mut stream = near.connect();
    let (sent, mut back) = (pattern(MUCH), Vec::new());
    thread::scope(|scope| {
        let (mut writer, sent) = (stream.another(), &sent);
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.finish().unwrap();
        });
        stream.read_to_end(&mut back).unwrap();
    });
    is_pattern(&back, MUCH);
    drop(stream);
    assert_eq!(near.first_closed(), "finished");
    assert_eq!(far.first_closed(), "finished");
}

fn a_half_close_of_the_near_side_is_passed_on(setting: &Setting) {
    let forwarder = Forwarder::start(setting, "");
    let (mut near, mut far) = forwarder.connect();
    let far = thread::spawn(move || {
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        far.write_all(&pattern(MUCH)).unwrap();
        heard
    });
    near.write_all(&pattern(MUCH)).unwrap();
    near.finish().unwrap();
    is_pattern(&far.join().unwrap(), MUCH);
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).unwrap();
    is_pattern(&heard, MUCH);
    drop(near);
    forwarder.finishes();
}

fn a_half_close_of_the_far_side_is_passed_on(setting: &Setting) {
    let forwarder = Forwarder::start(setting, "");
    let (mut near, mut far) = forwarder.connect();
    let far = thread::spawn(move || {
        far.write_all(&pattern(MUCH)).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).unwrap();
        heard
    });
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).unwrap();
    is_pattern(&heard, MUCH);
    near.write_all(&pattern(MUCH)).unwrap();
    near.finish().unwrap();
    is_pattern(&far.join().unwrap(), MUCH);
    drop(near);
    forwarder.finishes();
}

fn both_directions_go_on_at_once(setting: &Setting) {
    let mut forwarder = Forwarder::start(setting, "--buffer-each 65536 --idle 3600000");
    let (mut near, mut far) = forwarder.connect();
    thread::scope(|scope| {
        let mut writer = near.another();
        // More than all buffers on the way take; the far side begins to read when it has said all.
        scope.spawn(move || {
            writer.write_all(&pattern(8 * MUCH)).unwrap();
            writer.finish().unwrap();
        });
        let far = scope.spawn(move || {
            far.write_all(&pattern(MUCH)).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            far
        });
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).unwrap();
        is_pattern(&heard, MUCH);
        // Beside what is unread and unsent on either side, two lanes and a block that was received for each.
        let held = forwarder.child.audit()["buffered"];
        assert!(held <= 4 * 65_536 + 2 * (16 << 10) + 2 * (64 << 10), "{held} bytes are held");
        let mut heard = Vec::new();
        far.join().unwrap().read_to_end(&mut heard).unwrap();
        is_pattern(&heard, 8 * MUCH);
    });
    drop(near);
    forwarder.finishes();
}

fn a_side_that_breaks_off_breaks_off_the_other(setting: &Setting) {
    let forwarder = Forwarder::start(setting, "");
    let (near, mut far) = forwarder.connect();
    near.reset();
    assert_eq!(far.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (mut near, far) = forwarder.connect();
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    assert_eq!(end_of(&mut near), End::Reset);
    drop(near);
    let stats = forwarder.child.drain();
    assert_eq!((stats["closed"], stats["failed"]), (4, 4));
    let (far, _kept) = nobody();
    let child = Child::start(setting, &format!("forward --far {far} --far-plain"));
    let mut near = child.connect();
    assert_eq!(end_of(&mut near), End::Reset);
    eventually("the far side is told of", || !child.said("far ").is_empty());
    assert!(child.said("far ")[0].contains("refused"));
}

fn a_drain_lets_both_sides_say_all(setting: &Setting) {
    let mut forwarder = Forwarder::start(setting, "--drain 3600000");
    let (mut near, mut far) = forwarder.connect();
    near.write_all(b"?").unwrap();
    far.read_exact(&mut [0]).unwrap();
    forwarder.child.signal(Signal::TERM);
    // So that it has begun to drain.
    thread::sleep(Duration::from_millis(100));
    far.write_all(&pattern(MUCH)).unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).unwrap();
    is_pattern(&heard, MUCH);
    near.write_all(&pattern(100)).unwrap();
    near.finish().unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).unwrap();
    is_pattern(&heard, 100);
    drop(near);
    let stats = forwarder.child.stats();
    assert_eq!((stats["closed"], stats["failed"]), (2, 0));
}
