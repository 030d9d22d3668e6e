//! Deferred work: jobs and tickets, in whatever order they come back, and what is lost.

use std::{io::Write, thread};

use roadstead::Queue;
use roadstead_conformance::{
    asks::{BOMB, BUSY, DROP, DRUDGE, ECHO, FINISH, HOLD, JOB, LATER, LOST, PANIC, PANIC_JOB, SLICES},
    child::Child,
    client::{End, ask, end_of, eventually, frame, read_frame},
    setting::Setting,
};

scenarios! {
    jobs_of_many_connections_come_back_to_their_own (Queues): "3,200 jobs of 8 clients are answered to who asked",
    tickets_are_answered_in_the_order_they_are_finished (Queues): "the last ticket that was given may be the first to be finished",
    a_ticket_that_is_dropped_is_lost (Queues): "who forgets a ticket is told of, and the others are answered",
    a_job_that_panics_is_lost_alone (Queues): "a job that panics is a lost ticket and nothing else",
    a_job_whose_drop_panics_is_answered_all_the_same (Queues): "a job that panics when it is dropped costs nobody anything",
    a_session_that_panics_is_lost_alone (Everything): "a session that panics is reset, and nobody else notices",
    a_job_runs_in_slices (Queues): "a job of 1,000 slices is answered once",
    endless_jobs_hold_neither_their_connection_nor_another (Queues): "beside jobs that never end others are served",
    another_thread_may_finish (Queues): "a ticket that another thread finishes wakes the connection",
    a_reply_that_comes_during_a_call_is_heard (Queues): "a reply that comes just while the session is called is heard",
    jobs_of_a_connection_come_back_in_the_order_of_the_queue (Queues): "as they were asked for, or the cheapest first; of several workers in any order",
    answers_overtake_what_takes_longer (Queues): "an answer at once is not kept back by a job before it",
    work_for_a_peer_that_is_gone_is_forgotten (Queues): "the ticket of a lost connection is free again once its work is done",
    a_reset_does_not_wait_for_work (Queues): "who is reset hears of it at once, though work that was asked for goes on",
}

fn jobs_of_many_connections_come_back_to_their_own(setting: &Setting) {
    let child = Child::start(setting, "desk");
    thread::scope(|scope| {
        for client in 0..8u64 {
            let child = &child;
            scope.spawn(move || {
                let mut stream = child.connect();
                for round in 0..50 {
                    let mine = (0..8).map(|job| client << 32 | round << 8 | job).collect::<Vec<u64>>();
                    let wire = mine.iter().flat_map(|&number| frame(JOB, number, b"")).collect::<Vec<_>>();
                    stream.write_all(&wire).unwrap();
                    let mut back = mine.iter().map(|_| read_frame(&mut stream).1).collect::<Vec<_>>();
                    back.sort_by_key(|number| u64::from_le_bytes(number[..].try_into().unwrap()));
                    let mine = mine.iter().map(|number| number.to_le_bytes().to_vec());
                    assert_eq!(back, mine.collect::<Vec<_>>());
                }
            });
        }
    });
    assert_eq!(child.drain()["jobs"], 8 * 50 * 8);
}

fn tickets_are_answered_in_the_order_they_are_finished(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_all(&frame(HOLD, 0, b"").repeat(5)).unwrap();
    for number in [4u64, 2, 0, 3, 1] {
        assert_eq!(ask(&mut stream, FINISH, number, b""), (HOLD, number.to_le_bytes().to_vec()));
    }
    assert_eq!(ask(&mut stream, ECHO, 0, b"").0, ECHO, "nothing else is answered");
}

fn a_ticket_that_is_dropped_is_lost(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_all(&frame(HOLD, 0, b"").repeat(3)).unwrap();
    assert_eq!(ask(&mut stream, DROP, 1, b""), (LOST, vec![HOLD]));
    for number in [2u64, 0] {
        assert_eq!(ask(&mut stream, FINISH, number, b""), (HOLD, number.to_le_bytes().to_vec()));
    }
}

fn a_job_that_panics_is_lost_alone(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    for _ in 0..4 {
        assert_eq!(ask(&mut stream, PANIC_JOB, 0, b""), (LOST, vec![PANIC_JOB]));
        assert_eq!(ask(&mut stream, JOB, 5, b""), (JOB, 5u64.to_le_bytes().to_vec()));
    }
}

fn a_job_whose_drop_panics_is_answered_all_the_same(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    // More than there are workers to lose.
    for n in 0..5u64 {
        assert_eq!(ask(&mut stream, BOMB, n, b""), (BOMB, n.to_le_bytes().to_vec()));
        assert_eq!(ask(&mut stream, JOB, n, b""), (JOB, n.to_le_bytes().to_vec()));
    }
    drop(stream);
    assert_eq!(child.drain()["failed"], 0);
}

fn a_session_that_panics_is_lost_alone(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut other = child.connect();
    assert_eq!(ask(&mut other, ECHO, 0, b"before").0, ECHO);
    let mut stream = child.connect();
    stream.write_all(&[frame(HOLD, 0, b""), frame(PANIC, 0, b"")].concat()).unwrap();
    assert_eq!(end_of(&mut stream), End::Reset);
    assert_eq!(ask(&mut other, ECHO, 0, b"after").0, ECHO);
    drop(other);
    let stats = child.drain();
    assert_eq!((stats["accepted"], stats["closed"], stats["failed"]), (2, 2, 1));
}

fn a_job_runs_in_slices(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    assert_eq!(ask(&mut stream, SLICES, 1000, b"").0, SLICES);
    assert_eq!(ask(&mut stream, ECHO, 0, b"").0, ECHO, "nothing else is answered");
}

fn endless_jobs_hold_neither_their_connection_nor_another(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut own = child.connect();
    own.write_all(&frame(SLICES, u64::MAX, b"").repeat(4)).unwrap();
    assert_eq!(ask(&mut own, ECHO, 0, b"").0, ECHO);
    let mut other = child.connect();
    for number in 0..5 {
        for stream in [&mut own, &mut other] {
            assert_eq!(ask(stream, JOB, number, b"").0, JOB);
            assert_eq!(ask(stream, SLICES, number, b"").0, SLICES);
        }
    }
    own.write_all(&frame(PANIC, 0, b"")).unwrap();
    assert_eq!(end_of(&mut own), End::Reset);
    drop(other);
    assert_eq!(child.drain()["closed"], 2);
}

fn another_thread_may_finish(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    for millis in [0u64, 1, 20] {
        assert_eq!(ask(&mut stream, LATER, millis, b""), (LATER, millis.to_le_bytes().to_vec()));
    }
}

fn a_reply_that_comes_during_a_call_is_heard(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    for round in 0..200u64 {
        // The thread of each is done about when the session is called with the next, or hears of another reply.
        let asked = [frame(LATER, 0, b""), frame(ECHO, 0, b""), frame(LATER, 0, b""), frame(LATER, 0, b"")];
        stream.write_all(&asked.concat()).unwrap();
        let mut kinds = asked.map(|_| read_frame(&mut stream).0);
        kinds.sort();
        assert_eq!(kinds, [ECHO, LATER, LATER, LATER], "round {round}");
    }
}

fn jobs_of_a_connection_come_back_in_the_order_of_the_queue(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    for costs in [[3u64, 1, 2, 6, 5, 4], [6, 5, 4, 3, 2, 1]] {
        // All at once, so that they wait together. Each answers what it costs.
        stream.write_all(&costs.map(|cost| frame(JOB, cost, b"")).concat()).unwrap();
        let mut back = costs.map(|_| u64::from_le_bytes(read_frame(&mut stream).1[..].try_into().unwrap()));
        let mut expected = costs;
        if setting.workers > 0 {
            back.sort();
            expected.sort();
        } else if setting.queue == Queue::Sjf {
            expected.sort();
        }
        assert_eq!(back, expected);
    }
}

fn answers_overtake_what_takes_longer(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream
        .write_all(&[frame(HOLD, 0, b""), frame(ECHO, 0, b"quick"), frame(FINISH, 0, b"")].concat())
        .unwrap();
    assert_eq!(read_frame(&mut stream), (ECHO, b"quick".to_vec()));
    assert_eq!(read_frame(&mut stream), (HOLD, 0u64.to_le_bytes().to_vec()));
}

fn work_for_a_peer_that_is_gone_is_forgotten(setting: &Setting) {
    let child = Child::start(setting, "desk --jobs 1");
    let mut stream = child.connect();
    stream.write_all(&[frame(LATER, 50, b""), frame(PANIC, 0, b"")].concat()).unwrap();
    end_of(&mut stream);
    let mut stream = child.connect();
    eventually("the only ticket is free again", || match ask(&mut stream, JOB, 1, b"").0 {
        JOB => true,
        kind => {
            assert_eq!(kind, BUSY);
            false
        }
    });
}

fn a_reset_does_not_wait_for_work(setting: &Setting) {
    let child = Child::start(setting, "desk");
    let mut stream = child.connect();
    stream.write_all(&[frame(DRUDGE, 20_000, b""), frame(PANIC, 0, b"")].concat()).unwrap();
    assert_eq!(end_of(&mut stream), End::Reset);
    assert!(child.said("rests").is_empty(), "the work is done");
    // Nobody waits for the end of it here either.
    child.leave();
}
