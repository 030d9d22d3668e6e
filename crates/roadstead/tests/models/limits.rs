//! The budget on real sockets: every limit below, at and above, and every deadline.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use roadstead::{Budget, Running};

use crate::{
    client::{End, PATIENCE, ask, echo, end_of, eventually, frame},
    desk::{ANSWER, BUSY, Desk, ECHO, Echo, Ends, HOLD},
    setting::Setting,
    wire::Wire,
};

on_every_model!(
    a_message_fits_its_buffer_or_closes,
    an_answer_fits_its_buffer_or_closes,
    tickets_are_counted,
    who_connects_and_says_nothing_is_closed,
    who_falls_silent_is_closed,
    who_is_being_worked_for_is_not_idle,
    who_does_not_end_is_not_waited_for;
    several:
    connections_are_counted,
    connections_of_one_address_are_counted,
    all_connections_share_one_memory,
);

const BRIEF: Duration = Duration::from_millis(200);

fn open_is(server: &Running, count: usize) {
    eventually("so many are open", || server.open() == count);
}

fn is_refused(mut stream: Wire) {
    assert_eq!(end_of(&mut stream), End::Reset);
}

fn connections_are_counted(setting: Setting) {
    let server = setting.start(Echo::default(), Budget::default().connections(3).linger(BRIEF));
    let address = server.addresses()[0];
    let mut streams = (0..3).map(|_| setting.connect(address)).collect::<Vec<_>>();
    streams.iter_mut().for_each(|stream| echo(stream, b"admitted"));
    is_refused(setting.connect(address));
    is_refused(setting.connect(address));
    streams.pop();
    open_is(&server, 2);
    echo(&mut setting.connect(address), b"room again");
    assert_eq!(server.drain(PATIENCE).unwrap().refused, 2);
}

fn connections_of_one_address_are_counted(setting: Setting) {
    let server = setting.start(Echo::default(), Budget::default().per_address(2));
    let address = server.addresses()[0];
    let from = |last: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        setting.speak(TcpStream::from(socket))
    };
    let mut two = [from(1), from(1)];
    two.iter_mut().for_each(|stream| echo(stream, b"admitted"));
    is_refused(from(1));
    echo(&mut from(2), b"another address");
    drop(two);
    open_is(&server, 0);
    echo(&mut from(1), b"room again");
}

fn a_message_fits_its_buffer_or_closes(setting: Setting) {
    let each = 100_000;
    for (whole, fits) in [(each - 1, true), (each, true), (each + 1, false)] {
        let desk = Desk::default();
        let server = setting.start(desk.clone(), Budget::default().buffer_each(each));
        let mut stream = setting.connect(server.addresses()[0]);
        let wire = frame(ECHO, 0, &vec![b'm'; whole - frame(ECHO, 0, b"").len()]);
        assert_eq!(wire.len(), whole);
        if fits {
            stream.write_all(&wire).unwrap();
            assert_eq!(crate::client::read_frame(&mut stream).0, ECHO);
        } else {
            stream.write_all(&wire[..64]).unwrap();
            assert_eq!(end_of(&mut stream), End::Reset);
            assert_eq!(
                desk.ends.first(),
                "a message is larger than the 100000 bytes a connection may buffer"
            );
        }
    }
}

fn an_answer_fits_its_buffer_or_closes(setting: Setting) {
    let each = 100_000;
    for (whole, fits) in [(each - 1, true), (each, true), (each + 1, false)] {
        let desk = Desk::default();
        let server = setting.start(desk.clone(), Budget::default().buffer_each(each));
        let mut stream = setting.connect(server.addresses()[0]);
        let body = (whole - roadstead::frame::HEAD) as u64;
        if fits {
            assert_eq!(ask(&mut stream, ANSWER, body, b"").1.len() as u64, body);
        } else {
            stream.write_all(&frame(ANSWER, body, b"")).unwrap();
            assert_eq!(end_of(&mut stream), End::Reset);
            assert_eq!(
                desk.ends.first(),
                "the answer is larger than the 100000 bytes a connection may buffer"
            );
        }
    }
}

fn all_connections_share_one_memory(setting: Setting) {
    let (half, desk) = (1 << 15, Desk::default());
    // A record of which a part has come is charged until the rest has.
    let all = 2 * half + if setting.tls { 20_000 } else { 0 };
    let server = setting.start(desk.clone(), Budget::default().buffer_each(half).buffer_all(all));
    // Half a message of more than half a buffer: its buffer has its full size.
    let part = || {
        let mut stream = setting.connect(server.addresses()[0]);
        // Who has no room may close before all of it is written.
        let _ = stream.write_all(&frame(ECHO, 0, &vec![0; half - 100])[..half / 2 + 100]);
        stream
    };
    let first = part();
    eventually("one is charged", || server.buffered() == half);
    let second = part();
    eventually("two are charged", || server.buffered() == 2 * half);
    assert_eq!(end_of(&mut part()), End::Reset);
    assert_eq!(desk.ends.first(), format!("all connections together would buffer more than {all} bytes"));
    drop(first);
    eventually("room again", || server.buffered() == half);
    let third = part();
    eventually("two are charged", || server.buffered() == 2 * half);
    drop((second, third));
    eventually("nothing is charged", || server.buffered() == 0);
}

fn tickets_are_counted(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default().jobs(3));
    let mut stream = setting.connect(server.addresses()[0]);
    for _ in 0..3 {
        stream.write_all(&frame(HOLD, 0, b"")).unwrap();
    }
    let tickets = desk.tickets(3);
    assert_eq!(ask(&mut stream, HOLD, 9, b""), (BUSY, 9u64.to_le_bytes().to_vec()));
    for ticket in tickets {
        ticket.finish(1);
        assert_eq!(crate::client::read_frame(&mut stream).0, HOLD);
        // The room is there as soon as the answer is.
        stream.write_all(&frame(HOLD, 0, b"")).unwrap();
        desk.tickets(1).remove(0).finish(2);
        assert_eq!(crate::client::read_frame(&mut stream).0, HOLD);
    }
}

fn is_closed_for(ends: &Ends, begun: Instant, patience: Duration, why: &str) {
    assert_eq!(ends.first(), why);
    assert!(begun.elapsed() >= patience, "too early");
}

fn who_connects_and_says_nothing_is_closed(setting: Setting) {
    let ends = Ends::default();
    let server = setting.start(Echo(ends.clone()), Budget::default().first_byte(BRIEF));
    let begun = Instant::now();
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(end_of(&mut stream), End::Reset);
    is_closed_for(&ends, begun, BRIEF, "the peer connected and sent nothing in time");
}

fn who_falls_silent_is_closed(setting: Setting) {
    let ends = Ends::default();
    let server = setting.start(Echo(ends.clone()), Budget::default().idle(BRIEF));
    let begun = Instant::now();
    let mut stream = setting.connect(server.addresses()[0]);
    for _ in 0..4 {
        std::thread::sleep(BRIEF / 8);
        echo(&mut stream, b"not idle");
    }
    assert_eq!(end_of(&mut stream), End::Reset);
    is_closed_for(&ends, begun, BRIEF + BRIEF / 2, "the peer neither sent nor took a byte in time");
}

fn who_is_being_worked_for_is_not_idle(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default().idle(BRIEF));
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&frame(HOLD, 0, b"")).unwrap();
    let ticket = desk.tickets(1).remove(0);
    std::thread::sleep(BRIEF * 3);
    assert_eq!(desk.ends.all(), [""; 0]);
    ticket.finish(3);
    assert_eq!(crate::client::read_frame(&mut stream), (HOLD, 3u64.to_le_bytes().to_vec()));
    assert_eq!(end_of(&mut stream), End::Reset);
}

fn who_does_not_end_is_not_waited_for(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default().linger(BRIEF));
    let begun = Instant::now();
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut stream, crate::desk::REFUSE, 0, b"").0, crate::desk::REFUSE);
    assert_eq!(end_of(&mut stream), End::Orderly);
    is_closed_for(&desk.ends, begun, BRIEF, "refused");
    assert_eq!(server.open(), 0);
}
