//! Signals: heard whatever was inherited, and not passed on to the programs that a session starts.

use std::io::Write;

use rustix::process::{Signal, kill_process_group};

use roadstead_conformance::{
    asks::{ECHO, HOLD, PROGRAM},
    child::Child,
    client::{ask, eventually, frame, read_frame},
    setting::Setting,
};

scenarios! {
    signals_are_heard_whatever_was_inherited (Wires): "inherited as blocked or as ignored, SIGINT, SIGTERM and SIGCHLD are heard",
    a_hangup_reads_the_keys_again (Wires): "SIGHUP: who comes from then on is shown the new certificate, or the old one if the new is none; without keys it is ignored with a line",
    programs_inherit_no_signals (Queues): "a program that a session or a job starts has none of the server's signals blocked or ignored, whatever the server has inherited",
}

/// Ways for a program to be started with signals that it does not hear: env(1).
const DEAF: [&str; 2] = ["--block-signal=HUP,INT,TERM,CHLD", "--ignore-signal=HUP,INT,TERM,CHLD,PIPE"];

fn signals_are_heard_whatever_was_inherited(setting: &Setting) {
    for deaf in DEAF {
        let mut child = Child::start_under(&["env", deaf], setting, "desk");
        let processes = child.at_rest().processes;
        let mut stream = child.connect();
        assert_eq!(ask(&mut stream, ECHO, 0, b"").0, ECHO);
        drop(stream);
        eventually("the children that have ended are joined", || child.held().processes == processes);
        child.signal(Signal::TERM);
        assert_eq!(child.stats()["failed"], 0);

        let mut child = Child::start_under(&["env", deaf], setting, "desk");
        let mut stream = child.connect();
        stream.write_all(&[frame(HOLD, 0, b""), frame(ECHO, 0, b"")].concat()).unwrap();
        assert_eq!(read_frame(&mut stream).0, ECHO);
        child.begin_drain();
        child.signal(Signal::INT);
        assert_eq!(child.end(), Some(130), "{}", child.log());
    }
}

/// The certificate that a newcomer is shown.
fn shown(child: &Child) -> Option<Vec<u8>> {
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, ECHO, 0, b"").0, ECHO);
    stream.certificate()
}

fn a_hangup_reads_the_keys_again(setting: &Setting) {
    // More than any model's processes, each of which is to have them.
    const NEWCOMERS: usize = 40;
    let lines = |child: &Child| child.log().lines().filter(|line| line.contains("SIGHUP")).count();
    let child = Child::start(setting, &format!("desk --first-byte 3600000 {}", setting.room_for(2)));
    let first = shown(&child);
    let mut stays = (setting.model != roadstead::Model::Iterative).then(|| child.connect());
    child.renew_keys();
    child.signal(Signal::HUP);
    if setting.tls {
        eventually("all are shown the new one", || (0..NEWCOMERS).all(|_| shown(&child) != first));
    } else {
        eventually("a line says so", || lines(&child) == 1);
    }
    let (second, said) = (shown(&child), lines(&child));
    child.spoil_keys();
    // As a terminal that is closed sends it, to all processes.
    kill_process_group(child.pid(), Signal::HUP).unwrap();
    eventually("a line says so", || lines(&child) == said + 1);
    assert!((0..NEWCOMERS).all(|_| shown(&child) == second), "the old keys are in use");
    assert_eq!(lines(&child), said + 1, "one line says so: {}", child.log());
    if let Some(stays) = &mut stays {
        assert_eq!(ask(stays, ECHO, 0, b"still here"), (ECHO, b"still here".to_vec()));
    }
    drop(stays);
    assert_eq!(child.drain()["failed"], 0);
}

fn programs_inherit_no_signals(setting: &Setting) {
    let set = |signals: &[Signal]| signals.iter().fold(0u64, |set, it| set | 1 << (it.as_raw() - 1));
    let its_own = [Signal::HUP, Signal::INT, Signal::PIPE, Signal::TERM, Signal::CHILD, Signal::XFSZ];
    // `SIGIO`, and all real-time signals that the C library leaves to programs: above 33.
    let of_descriptors = set(&[Signal::IO]) | !0 << 33;
    // These are blocked in the loop's thread of the model that is made of them; a program has to be kept from it.
    let excused = if setting.model == roadstead::Model::Signal { of_descriptors } else { 0 };
    for before in [&[][..], &["env", DEAF[0]], &["env", DEAF[1]]] {
        let child = Child::start_under(before, setting, "desk");
        for (unblocked, excused) in [(0, excused), (1, 0)] {
            let (kind, body) = ask(&mut child.connect(), PROGRAM, unblocked, b"");
            assert_eq!(kind, PROGRAM);
            let inherited = u64::from_le_bytes(body.try_into().unwrap());
            assert_eq!(
                inherited & (set(&its_own) | of_descriptors) & !excused,
                0,
                "{before:?}, {unblocked}: {inherited:#x}"
            );
        }
        child.drain();
    }
}
