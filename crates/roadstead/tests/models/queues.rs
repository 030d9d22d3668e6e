//! Deferred work in another order than that of its arrival: nothing else may change.

use std::io::Write;

use roadstead::Budget;

use crate::{
    client::{End, PATIENCE, ask, end_of, frame},
    desk::{Desk, ECHO, JOB, PANIC, SLICES},
    setting::Setting,
    work::{
        a_job_runs_in_slices, a_job_that_panics_is_lost_alone, a_ticket_that_is_dropped_is_lost,
        jobs_of_many_connections_come_back_to_their_own, tickets_are_answered_in_the_order_they_are_finished,
        work_for_a_peer_that_is_gone_is_forgotten,
    },
};

with_each_queue!(
    jobs_of_many_connections_come_back_to_their_own,
    tickets_are_answered_in_the_order_they_are_finished,
    a_ticket_that_is_dropped_is_lost,
    a_job_that_panics_is_lost_alone,
    a_job_runs_in_slices,
    work_for_a_peer_that_is_gone_is_forgotten,
    endless_jobs_hold_neither_their_connection_nor_another,
);

fn endless_jobs_hold_neither_their_connection_nor_another(setting: Setting) {
    let server = setting.start(Desk::default(), Budget::default());
    let mut own = setting.connect(server.addresses()[0]);
    own.write_all(&frame(SLICES, u64::MAX, b"").repeat(4)).unwrap();
    assert_eq!(ask(&mut own, ECHO, 0, b"").0, ECHO);
    let mut other = setting.connect(server.addresses()[0]);
    for number in 0..20 {
        for stream in [&mut own, &mut other] {
            assert_eq!(ask(stream, JOB, number, b"").0, JOB);
            assert_eq!(ask(stream, SLICES, number, b"").0, SLICES);
        }
    }
    own.write_all(&frame(PANIC, 0, b"")).unwrap();
    assert_eq!(end_of(&mut own), End::Reset);
    drop(other);
    assert_eq!(server.drain(PATIENCE).unwrap().closed, 2);
}
