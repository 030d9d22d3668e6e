//! Deferred work: jobs and tickets, in whatever order they come back, and what is lost.

use std::{io::Write, thread};

use roadstead::Budget;

use crate::{
    client::{End, PATIENCE, ask, end_of, frame, read_frame},
    desk::{Desk, ECHO, HOLD, JOB, LOST, PANIC, PANIC_JOB, SLICES},
    setting::Setting,
};

with_and_without_workers!(
    jobs_of_many_connections_come_back_to_their_own,
    tickets_are_answered_in_the_order_they_are_finished,
    a_ticket_that_is_dropped_is_lost,
    a_job_that_panics_is_lost_alone,
    a_job_runs_in_slices,
    work_for_a_peer_that_is_gone_is_forgotten;
    several:
    a_session_that_panics_is_lost_alone,
);

pub(crate) fn jobs_of_many_connections_come_back_to_their_own(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let address = server.addresses()[0];
    thread::scope(|scope| {
        for client in 0..8u64 {
            scope.spawn(move || {
                let mut stream = setting.connect(address);
                for round in 0..50 {
                    let mine = (0..8).map(|job| client << 32 | round << 8 | job).collect::<Vec<u64>>();
                    let wire = mine.iter().flat_map(|&number| frame(JOB, number, b"")).collect::<Vec<_>>();
                    stream.write_all(&wire).unwrap();
                    let mut back = mine.iter().map(|_| read_frame(&mut stream).1).collect::<Vec<_>>();
                    back.sort_by_key(|number| u64::from_le_bytes(number[..].try_into().unwrap()));
                    assert_eq!(
                        back,
                        mine.iter().map(|number| number.to_le_bytes().to_vec()).collect::<Vec<_>>()
                    );
                }
            });
        }
    });
    assert_eq!(server.drain(PATIENCE).unwrap().jobs, 8 * 50 * 8);
}

pub(crate) fn tickets_are_answered_in_the_order_they_are_finished(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    for _ in 0..5 {
        stream.write_all(&frame(HOLD, 0, b"")).unwrap();
    }
    for (number, ticket) in desk.tickets(5).into_iter().enumerate().rev() {
        ticket.finish(number as u64);
        assert_eq!(read_frame(&mut stream), (HOLD, (number as u64).to_le_bytes().to_vec()));
    }
}

pub(crate) fn a_ticket_that_is_dropped_is_lost(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&frame(HOLD, 0, b"")).unwrap();
    drop(desk.tickets(1));
    assert_eq!(read_frame(&mut stream), (LOST, vec![HOLD]));
}

pub(crate) fn a_job_that_panics_is_lost_alone(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    for _ in 0..4 {
        assert_eq!(ask(&mut stream, PANIC_JOB, 0, b""), (LOST, vec![PANIC_JOB]));
        assert_eq!(ask(&mut stream, JOB, 5, b""), (JOB, 5u64.to_le_bytes().to_vec()));
    }
}

fn a_session_that_panics_is_lost_alone(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default());
    let mut other = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut other, ECHO, 0, b"before").0, ECHO);
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&[frame(HOLD, 0, b""), frame(PANIC, 0, b"")].concat()).unwrap();
    assert_eq!(end_of(&mut stream), End::Reset);
    assert!(desk.tickets(1)[0].is_cancelled(), "its work need not be done");
    assert_eq!(ask(&mut other, ECHO, 0, b"after").0, ECHO);
    drop(other);
    let counted = server.drain(PATIENCE).unwrap();
    assert_eq!((counted.accepted, counted.closed, counted.failed), (2, 2, 1));
}

pub(crate) fn a_job_runs_in_slices(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut stream, SLICES, 1000, b"").0, SLICES);
}

pub(crate) fn work_for_a_peer_that_is_gone_is_forgotten(setting: Setting) {
    let desk = Desk::default();
    let server = setting.start(desk.clone(), Budget::default().jobs(1));
    let mut stream = setting.connect(server.addresses()[0]);
    stream.write_all(&[frame(HOLD, 0, b""), frame(PANIC, 0, b"")].concat()).unwrap();
    end_of(&mut stream);
    desk.tickets(1).remove(0).finish(1);
    // The only ticket is free again.
    let mut stream = setting.connect(server.addresses()[0]);
    assert_eq!(ask(&mut stream, JOB, 1, b"").0, JOB);
}
