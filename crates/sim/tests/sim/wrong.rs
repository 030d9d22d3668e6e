//! Services that are wrong in ways that tests on a quiet machine do not show. The simulator finds each of them out.

use std::{
    panic::catch_unwind,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use roadstead_proto::{
    Close, Context, Done, Frame, Input, Peer, Ready, Scope, Service, Session, Ticket, frame::Limits,
    frame::Parsed,
};
use roadstead_sim::{Faults, Sim, Why};

use super::{LIMIT, server};

/// How a session goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    /// It takes what one read brings for one message.
    ReadIsMessage,
    /// It forgets a ticket, and aborts.
    Leaks,
    /// It waits for a ticket that it holds itself.
    Waits,
    /// It asks to be woken at once, for ever.
    Spins,
}

#[derive(Clone)]
struct Counter {
    wrong: Wrong,
    forgotten: Arc<Mutex<Vec<Ticket<()>>>>,
}

impl Service for Counter {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Self {
        self.clone()
    }
}

impl Session for Counter {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        match self.wrong {
            Wrong::ReadIsMessage => {
                let Parsed::Frame(frame) = Frame::parse(input.bytes(), &Limits::default())? else {
                    return Err(Close::violation("half a message"));
                };
                Frame::send(cx.output(), frame.kind, frame.body);
                input.consume(input.len());
            }
            Wrong::Leaks => {
                self.forgotten.lock().unwrap().push(cx.ticket().unwrap());
                return Err(Close::abort("enough"));
            }
            Wrong::Waits => {
                self.forgotten.lock().unwrap().push(cx.ticket().unwrap());
                input.consume(input.len());
                cx.finish();
            }
            Wrong::Spins => cx.wake_at(Some(cx.now())),
        }
        Ok(())
    }
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Timer {
            cx.wake_at(Some(cx.now()));
        }
        Ok(())
    }
}

/// Asks three things at once and counts the answers.
struct Trio {
    answers: u8,
    tell: mpsc::Sender<u8>,
}

impl Session for Trio {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            (0..3).for_each(|kind| Frame::send(cx.output(), kind, b"a body of some length"));
        }
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if let Parsed::Frame(frame) = Frame::parse(input.bytes(), &Limits::default())? {
            assert_eq!(frame.kind, self.answers, "the answers come in order");
            input.consume(frame.len());
            self.answers += 1;
            if self.answers == 3 {
                cx.finish();
            }
        }
        Ok(())
    }
    fn closed(self, _: &roadstead_proto::Closed) {
        self.tell.send(self.answers).unwrap();
    }
}

fn world(sim: Sim, wrong: Wrong) -> (Sim, mpsc::Receiver<u8>) {
    let (tell, told) = mpsc::channel();
    let service = Counter { wrong, forgotten: Arc::default() };
    (sim.serve(server(), service).client(server(), Trio { answers: 0, tell }), told)
}

fn failure(wrong: Wrong) -> Why {
    let (sim, _told) = world(Sim::new(1).faults(Faults::none()), wrong);
    sim.run(LIMIT).unwrap_err().why
}

#[test]
fn one_read_taken_for_one_message_is_found_and_its_seed_named() {
    let found = catch_unwind(|| {
        Sim::check(0..100, |sim| {
            let (sim, told) = world(sim, Wrong::ReadIsMessage);
            let report = sim.run(LIMIT)?;
            assert!(told.recv().unwrap() == 3 || report.connections[0].cut.is_some(), "an answer is missing");
            Ok(())
        });
    });
    let said = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("seed ") && said.contains("ROADSTEAD_SIM_SEED="), "{said}");
    assert!(said.contains("an answer is missing; the last events were\n"), "{said}");
}

#[test]
fn a_leak_a_wait_and_a_circle_are_found() {
    assert!(matches!(failure(Wrong::Leaks), Why::Leaked { what: "outstanding tickets", left: 1 }));
    assert!(matches!(failure(Wrong::Waits), Why::Hung { open: 1, .. }));
    assert!(matches!(failure(Wrong::Spins), Why::Livelock));
}

/// Panics in a session, or in a job of its.
struct Panics {
    in_job: bool,
}

impl Service for Panics {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Self {
        Self { in_job: self.in_job }
    }
}

impl Session for Panics {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(input.len());
        assert!(self.in_job, "a session of the test that is meant to fail");
        cx.run(0, || panic!("a job of the test that is meant to fail")).unwrap();
        Ok(())
    }
}

#[test]
fn a_panic_that_a_server_would_survive_fails_the_run() {
    for in_job in [false, true] {
        let (tell, _told) = mpsc::channel();
        let sim = Sim::new(2).faults(Faults::none()).serve(server(), Panics { in_job });
        let failure =
            sim.client(server(), Trio { answers: 0, tell }).run(Duration::from_secs(99)).unwrap_err();
        let Why::Panicked(words) = &failure.why else { panic!("{failure}") };
        assert!(words.contains("meant to fail"));
    }
}
