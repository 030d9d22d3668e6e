//! A server's life: start, drain, end, start again.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use roadstead::Model;
use roadstead_conformance::{
    asks::{ECHO, HOLD, JOB, LATER, STAY, TOIL},
    child::Child,
    client::{End, ask, echo, end_of, eventually, frame, read_frame},
    setting::Setting,
};

scenarios! {
    a_drain_lets_work_in_flight_finish (Everything): "while it drains nobody comes any more, and what was begun is answered",
    one_more_message_is_waited_for_while_it_drains (Everything): "a session that will not be hurried gets its last message, in pieces, and answers it",
    a_cut_is_no_end_while_it_drains (Wires): "a message that is cut off in the midst of a drain is told as one",
    a_drain_ends_idle_connections (Wires): "who is idle sees the end in good order, and need not answer it",
    a_drain_serves_who_waits_at_the_door (Wires): "100 who came before it and were not let in yet are, and are answered",
    a_handshake_that_a_drain_meets_is_served_and_told_of_it (Wires): "who was let in before it and is not yet heard gets an answer, and then the end",
    a_drain_answers_what_has_arrived (Wires): "a request that lies unread when it begins is answered before the end",
    a_drain_answers_what_came_beside_a_job (Wires): "so is one that came while a job kept everybody from looking",
    a_drain_that_runs_out_of_patience_resets (Wires): "what has not finished in time is reset and counted",
    a_drain_leaves_a_job_behind (Everything): "a job of ten minutes is under way: the program ends when its time to drain is over",
    who_has_nothing_to_do_sleeps (Everything): "after load, with connections open, no thread wakes within a second; `spin` need not sleep",
    a_second_signal_ends_everything (Everything): "under load: the program exits with 130, and no client waits in vain",
    a_second_signal_does_not_wait_for_a_job (Everything): "a job of a minute is under way: the program exits with 130 all the same",
    a_server_starts_again_on_its_port_at_once (Wires): "three times, with clients connected and at work",
    a_port_in_use_is_named (Models): "exit 1 and one line: `address ... is in use`",
    a_low_port_needs_permission (Models): "exit 1 and one line that names the address and says what to do",
    threads_that_do_not_fit_are_counted (Models): "exit 1 and one line that says how many of the threads or processes there are, and what to do",
    it_listens_on_several_addresses (Models): "two addresses, each of which is served",
    it_listens_on_a_thousand_addresses_and_more (Models): "of 1,100 listeners each is served; `select` says at the start what it cannot watch",
    it_listens_on_version_six (Wires): "the same over IPv6",
}

fn a_drain_lets_work_in_flight_finish(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_all(&[frame(LATER, 400, b""), frame(ECHO, 0, b"")].concat()).unwrap();
    assert_eq!(read_frame(&mut stream).0, ECHO);
    child.begin_drain();
    assert_eq!(read_frame(&mut stream), (LATER, 400u64.to_le_bytes().to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    let stats = child.stats();
    assert!(stats["closed"] > stats["failed"]);
    // Beside it there are those who only looked whether anybody accepts.
    assert!(child.closed().contains(&"finished".to_owned()));
}

fn one_more_message_is_waited_for_while_it_drains(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, STAY, 0, b"a little").0, STAY);
    child.begin_drain();
    for byte in frame(ECHO, 0, b"and more") {
        stream.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(4));
    }
    assert_eq!(read_frame(&mut stream), (ECHO, b"and more".to_vec()));
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    child.stats();
    assert!(child.closed().contains(&"finished".to_owned()));
}

fn a_cut_is_no_end_while_it_drains(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, STAY, 0, b"a little").0, STAY);
    child.begin_drain();
    stream.write_all(&frame(ECHO, 0, b"and more")[..20]).unwrap();
    stream.cut();
    assert_ne!(child.stats()["failed"], 0);
    let cut = if setting.tls { "cut off" } else { "reset" };
    assert!(child.closed().iter().any(|why| why.contains(cut)), "{:?}", child.closed());
}

fn a_drain_ends_idle_connections(setting: &Setting) {
    let mut child = Child::start(setting, "echo --linger 200");
    let mut streams = child.connect_many(5);
    streams.iter_mut().for_each(|stream| echo(stream, b"once"));
    child.signal(Signal::TERM);
    // They do not answer the server's end with their own.
    assert_eq!(child.stats()["failed"], 0);
    streams.iter_mut().for_each(|stream| assert_eq!(end_of(stream), End::Orderly));
}

/// Begins a drain with all that came while the server stood still before it.
fn drain_frozen(child: &Child) {
    child.signal(Signal::TERM);
    child.thaw();
}

fn a_drain_serves_who_waits_at_the_door(setting: &Setting) {
    // The last of them waits for the handshakes of all others.
    let mut child = Child::start(setting, "desk --first-byte 3600000 --drain 3600000");
    child.freeze();
    let mut sockets: Vec<_> = (0..100).map(|_| TcpStream::connect(child.address()).unwrap()).collect();
    let wire = frame(ECHO, 0, b"waited");
    if !setting.tls {
        sockets.iter_mut().for_each(|socket| socket.write_all(&wire).unwrap());
    }
    drain_frozen(&child);
    // A handshake that ends before the drain begins leaves somebody who has asked nothing, and is told to go.
    child.closes_its_listener();
    for socket in sockets {
        let mut stream = setting.speak(socket);
        if setting.tls {
            stream.write_all(&wire).unwrap();
        }
        assert_eq!(read_frame(&mut stream), (ECHO, b"waited".to_vec()));
        assert_eq!(end_of(&mut stream), End::Orderly);
    }
    let stats = child.stats();
    assert_eq!((stats["accepted"], stats["refused"], stats["failed"]), (100, 0, 0));
}

fn comes_to_wait(child: &Child, setting: &Setting) {
    if setting.model == Model::Spin {
        child.at_rest();
    } else {
        child.falls_asleep();
    }
}

fn a_handshake_that_a_drain_meets_is_served_and_told_of_it(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let socket = TcpStream::connect(child.address()).unwrap();
    // Let in, and waited for.
    comes_to_wait(&child, setting);
    child.begin_drain();
    if setting.tls {
        // A server that has closed its listener may yet have to tell others of its own.
        comes_to_wait(&child, setting);
    }
    let mut stream = setting.speak(socket);
    if setting.tls {
        stream.write_all(&frame(ECHO, 0, b"at last")).unwrap();
        assert_eq!(read_frame(&mut stream), (ECHO, b"at last".to_vec()));
    }
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    child.stats();
}

fn a_drain_answers_what_has_arrived(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let many = if setting.model == Model::Iterative { 1 } else { 10 };
    let mut streams = child.connect_many(many);
    streams.iter_mut().for_each(|stream| assert_eq!(ask(stream, ECHO, 0, b"before").0, ECHO));
    child.freeze();
    streams.iter_mut().for_each(|stream| stream.write_all(&frame(ECHO, 0, b"unread")).unwrap());
    drain_frozen(&child);
    for mut stream in streams {
        assert_eq!(read_frame(&mut stream), (ECHO, b"unread".to_vec()));
        assert_eq!(end_of(&mut stream), End::Orderly);
    }
    assert_eq!(child.stats()["failed"], 0);
}

fn a_drain_answers_what_came_beside_a_job(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let many = if setting.model == Model::Iterative { 1 } else { 10 };
    let mut streams = child.connect_many(many);
    streams.iter_mut().for_each(|stream| assert_eq!(ask(stream, ECHO, 0, b"before").0, ECHO));
    streams[0].write_all(&frame(TOIL, 500, b"")).unwrap();
    eventually("the job has begun", || child.said("toils").len() == 1);
    streams.iter_mut().for_each(|stream| stream.write_all(&frame(ECHO, 0, b"beside it")).unwrap());
    child.signal(Signal::TERM);
    for (number, mut stream) in streams.into_iter().enumerate() {
        let mut answers = vec![read_frame(&mut stream)];
        if number == 0 {
            answers.push(read_frame(&mut stream));
        }
        assert!(answers.contains(&(ECHO, b"beside it".to_vec())), "{answers:?}");
        assert_eq!(end_of(&mut stream), End::Orderly);
    }
    assert_eq!(child.stats()["failed"], 0);
}

fn a_drain_that_runs_out_of_patience_resets(setting: &Setting) {
    let mut child = Child::start(setting, "desk --drain 200");
    let mut stream = child.connect();
    stream.write_all(&[frame(HOLD, 0, b""), frame(ECHO, 0, b"")].concat()).unwrap();
    assert_eq!(read_frame(&mut stream).0, ECHO);
    child.signal(Signal::TERM);
    assert_eq!(child.end(), Some(0));
    assert_eq!(child.said("undrained "), ["1"]);
    assert_ne!(stream.read(&mut [0; 1]).unwrap_or(0), 1);
}

fn who_has_nothing_to_do_sleeps(setting: &Setting) {
    let child = Child::start(setting, &format!("desk {}", setting.room_for(8)));
    let many = if setting.model == Model::Iterative { 1 } else { 8 };
    let mut streams = child.connect_many(many);
    for round in 0..20 {
        streams.iter_mut().for_each(|stream| assert_eq!(ask(stream, JOB, round, b"").0, JOB));
        streams.iter_mut().for_each(|stream| assert_eq!(ask(stream, LATER, 1, b"").0, LATER));
    }
    streams.truncate(many.div_ceil(2));
    if setting.model != Model::Spin {
        // What is left of the load may still wake somebody: a peer's end, or a thread that ends.
        eventually("everybody sleeps for a second", || {
            let before = child.runs();
            thread::sleep(Duration::from_secs(1));
            before == child.runs()
        });
    }
}

fn a_drain_leaves_a_job_behind(setting: &Setting) {
    let mut child = Child::start(setting, "desk --drain 200");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, JOB, 1, b"").0, JOB);
    stream.write_all(&frame(TOIL, 600_000, b"")).unwrap();
    eventually("the job has begun", || child.said("toils").len() == 1);
    child.signal(Signal::TERM);
    assert_eq!(child.end(), Some(0), "{}", child.log());
    assert_eq!(child.said("undrained "), ["1"]);
    // Who is at the job keeps its ticket and its connection, unless it is killed.
    assert_eq!(child.said("stats ").is_empty(), !setting.model.forks());
    assert_ne!(stream.read(&mut [0; 1]).unwrap_or(0), 1);
}

fn a_second_signal_ends_everything(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    stop_under_load(setting, &mut child);
}

fn a_second_signal_does_not_wait_for_a_job(setting: &Setting) {
    let mut child = Child::start(setting, "desk");
    let mut stream = child.connect();
    // A drain would wait for the ticket.
    stream.write_all(&frame(HOLD, 0, b"")).unwrap();
    assert_eq!(ask(&mut stream, JOB, 1, b"").0, JOB);
    stream.write_all(&frame(TOIL, 60_000, b"")).unwrap();
    eventually("the job has begun", || child.said("toils").len() == 1);
    // Two of a kind might arrive as one.
    child.signal(Signal::TERM);
    child.signal(Signal::INT);
    assert_eq!(child.end(), Some(130), "{}", child.log());
}

/// Stops a server that has much to do, which a drain would wait for, and sees that everybody hears of its end.
fn stop_under_load(setting: &Setting, child: &mut Child) {
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        // Connected before anybody can be told to stop.
        let sockets: Vec<_> = (0..8).map(|_| TcpStream::connect(child.address()).unwrap()).collect();
        for (client, socket) in sockets.into_iter().enumerate() {
            let answered = &answered;
            scope.spawn(move || {
                let mut stream = setting.speak(socket);
                let _ = stream.write_all(&frame(HOLD, 0, b""));
                let wire = frame(if client % 2 == 0 { JOB } else { ECHO }, 1, &[0; 1000]).repeat(8);
                let mut block = vec![0; 1 << 16];
                while stream.write_all(&wire).is_ok() {
                    match stream.read(&mut block) {
                        Ok(0) => return,
                        Ok(_) => _ = answered.fetch_add(1, SeqCst),
                        Err(error) => {
                            return assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "forgotten");
                        }
                    }
                }
            });
        }
        eventually("they are at it", || answered.load(SeqCst) > 100);
        assert_eq!(child.stop(), Some(130), "{}", child.log());
    });
}

/// An address that no other scenario of this program uses, so that its port stays free.
fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    format!("127.7.{}.1", NEXT.fetch_add(1, SeqCst))
}

fn a_server_starts_again_on_its_port_at_once(setting: &Setting) {
    let mut child = Child::start(setting, &format!("desk --bind {}:0", own_address()));
    let address = child.address();
    for _ in 0..3 {
        stop_under_load(setting, &mut child);
        child = Child::start(setting, &format!("desk --bind {address}"));
        assert_eq!(ask(&mut child.connect(), ECHO, 0, b"again"), (ECHO, b"again".to_vec()));
    }
}

fn a_port_in_use_is_named(setting: &Setting) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, log) = Child::fails_under(&[], setting, &format!("echo --bind {address}"));
    assert_eq!((code, log), (Some(1), format!("conformance: address {address} is in use\n")));
}

fn a_low_port_needs_permission(setting: &Setting) {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() < 2 {
        eprintln!("skipped: this system lets everybody listen on any port");
        return;
    }
    let without = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    let privileged = rustix::process::geteuid().is_root();
    let before = if privileged { &without[..] } else { &[] };
    let (code, log) = Child::fails_under(before, setting, "echo --bind 127.0.0.1:1");
    let why = "no permission to listen on 127.0.0.1:1: ports below 1024 need privileges, choose another";
    assert_eq!((code, log), (Some(1), format!("conformance: {why}\n")));
}

fn threads_that_do_not_fit_are_counted(setting: &Setting) {
    if setting.model == Model::Process {
        // Which begins none before somebody comes.
        return;
    }
    let setting = &Setting { workers: 0, ..*setting };
    let (before, wanted, what) = if setting.model == Model::Prefork {
        // A worker has a thread besides, which is as large as the system lets it be by default.
        (&["env", "RUST_MIN_STACK=1000000000", "prlimit", "--as=500000000"][..], 4, "processes")
    } else {
        (&["prlimit", "--as=500000000"][..], 3000, "threads")
    };
    let (code, log) = Child::fails_under(before, setting, &format!("echo --workers {wanted}"));
    let begin = "conformance: the system gives ";
    let had =
        log.strip_prefix(begin).and_then(|rest| rest.split_once(' ')).map(|(had, _)| had.parse::<usize>());
    assert!(matches!(had, Some(Ok(had)) if had < wanted), "{code:?} {log}");
    assert!(log.contains(&format!("of the {wanted} {what} that were asked for")), "{log}");
    assert!(log.contains("ulimit -u") && log.lines().count() == 1, "{log}");
    assert_eq!(code, Some(1));
}

fn it_listens_on_several_addresses(setting: &Setting) {
    let child = Child::start(setting, "echo --bind 127.0.0.1:0 --bind 127.0.0.2:0");
    assert_eq!(child.addresses().len(), 2);
    for address in child.addresses() {
        echo(&mut setting.speak(TcpStream::connect(address).unwrap()), b"here too");
    }
}

fn it_listens_on_a_thousand_addresses_and_more(setting: &Setting) {
    let line = format!("echo{}", " --bind 127.0.0.1:0".repeat(1100));
    if setting.model == Model::Select {
        let (code, log) = Child::fails_under(&[], setting, &line);
        let why = "is beyond 1023, the last that select can watch; use poll or epoll";
        assert!(code == Some(1) && log.contains(why), "{code:?} {log}");
        return;
    }
    let child = Child::start(setting, &line);
    assert_eq!(child.addresses().len(), 1100);
    for number in (0..1100).step_by(50).chain(1020..1028).chain([1099]) {
        echo(&mut setting.speak(TcpStream::connect(child.addresses()[number]).unwrap()), b"here too");
    }
}

fn it_listens_on_version_six(setting: &Setting) {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no [::1]");
        return;
    }
    let child = Child::start(setting, "desk --bind [::1]:0");
    assert!(child.address().is_ipv6());
    assert_eq!(ask(&mut child.connect(), ECHO, 0, b"six"), (ECHO, b"six".to_vec()));
}
