//! What a server counts and holds, as families of samples: the names that everybody who watches it reads.
//!
//! A deadline that was passed is called as the option and the part of [`Budget`](roadstead_proto::Budget) that sets it,
//! and a limit as what it limits.
#![forbid(unsafe_code)]

use std::time::Duration;

use roadstead_proto::{Observer, queue::TaskTimes, stats::Snapshot};

use super::exposition::{Exposition, Kind};

/// What runs, in words.
#[derive(Debug, Clone)]
pub struct About {
    /// Of the program.
    pub version: String,
    /// How it asks the system.
    pub model: String,
    /// What it serves.
    pub service: String,
}

/// Writes all of them.
pub(super) fn write(text: &mut Exposition, observer: &Observer, about: &About, uptime: Duration) {
    let all = observer.all();
    let About { version, model, service } = about;
    text.family(Kind::Info, "roadstead_build", "What runs.")
        .sample(&[("version", version), ("model", model), ("service", service)], 1);
    let uptime = format!("{:.3}", uptime.as_secs_f64());
    text.one(Kind::Gauge, "roadstead_uptime_seconds", "Time since it began to serve.", uptime);
    let ready = u8::from(observer.lets_in());
    text.one(Kind::Gauge, "roadstead_ready", "Whether who comes is let in: not in a drain.", ready);
    limits(text, observer);
    connections(text, &all);
    traffic(text, &all);
    jobs(text, &all);
    loops(text, &all, &observer.loops());
}

fn limits(text: &mut Exposition, observer: &Observer) {
    let budget = observer.budget();
    let mut one = |name, help, value| text.one(Kind::Gauge, name, help, value);
    one("roadstead_connections_limit", "Connections that may be open at once.", budget.connections);
    one("roadstead_per_address_limit", "Connections that may be open from one address.", budget.per_address);
    one("roadstead_tickets_limit", "Tickets that may be outstanding at once.", budget.jobs);
    one("roadstead_buffered_limit_bytes", "Bytes that all connections may buffer.", budget.buffer_all);
    let mut cap = |name, help, rate| {
        if rate > 0 {
            text.one(Kind::Gauge, name, help, rate);
        }
    };
    cap("roadstead_rate_all_limit_bytes", "Bytes per second that may be sent.", budget.rate_all);
    cap("roadstead_rate_each_limit_bytes", "Bytes per second that one may be sent.", budget.rate_each);
}

fn connections(text: &mut Exposition, all: &Snapshot) {
    text.one(
        Kind::Gauge,
        "roadstead_connections",
        "Connections that are open, and peers of datagrams that are remembered.",
        all.open,
    );
    text.one(Kind::Gauge, "roadstead_addresses", "Addresses that have one open.", all.addresses);
    let mut counter = |name, help, value| text.one(Kind::Counter, name, help, value);
    counter("roadstead_connections_accepted", "Connections that were let in.", all.accepted);
    counter("roadstead_connections_connected", "Connections that sessions opened.", all.connected);
    text.family(Kind::Counter, "roadstead_connections_refused", "Connections that were turned away.")
        .sample(&[("reason", "connections")], all.refused_full)
        .sample(&[("reason", "per_address")], all.refused_address)
        .sample(&[("reason", "descriptors")], all.refused_descriptors)
        .sample(&[("reason", "stopped")], all.refused_stopped)
        .sample(&[("reason", "panicked")], all.refused_panicked);
    text.family(Kind::Counter, "roadstead_connections_ended", "Connections that have ended.")
        .sample(&[("reason", "finished")], all.finished)
        .sample(&[("reason", "violation")], all.violations)
        .sample(&[("reason", "late")], all.late)
        .sample(&[("reason", "too_large")], all.too_large)
        .sample(&[("reason", "stopped")], all.stopped)
        .sample(&[("reason", "broken")], all.broken);
    text.family(Kind::Counter, "roadstead_deadlines_passed", "Deadlines that have ended a connection.")
        .sample(&[("deadline", "first_byte")], all.late_first_byte)
        .sample(&[("deadline", "idle")], all.late_idle)
        .sample(&[("deadline", "slowest")], all.late_slowest)
        .sample(&[("deadline", "linger")], all.late_linger)
        .sample(&[("deadline", "connect")], all.late_connect);
}

fn traffic(text: &mut Exposition, all: &Snapshot) {
    text.one(Kind::Gauge, "roadstead_buffered_bytes", "Bytes that connections hold.", all.buffered);
    let mut counter = |name, help, value| text.one(Kind::Counter, name, help, value);
    counter("roadstead_received_bytes", "Bytes received.", all.bytes_in);
    counter("roadstead_sent_bytes", "Bytes sent.", all.bytes_out);
    counter("roadstead_receives", "Calls or operations to receive.", all.receives);
    counter("roadstead_sends", "Calls or operations to send.", all.sends);
    counter("roadstead_datagrams_received", "Datagrams received.", all.datagrams_in);
    counter(
        "roadstead_datagrams_truncated",
        "Datagrams received without their end.",
        all.datagrams_truncated,
    );
    counter("roadstead_datagrams_sent", "Datagrams sent.", all.datagrams_out);
    counter("roadstead_datagram_panics", "Sessions of datagrams that have panicked.", all.datagram_panics);
    text.family(Kind::Counter, "roadstead_datagrams_unsent", "Datagrams that were not sent.")
        .sample(&[("reason", "withheld")], all.datagrams_withheld)
        .sample(&[("reason", "dropped")], all.datagrams_dropped);
}

fn jobs(text: &mut Exposition, all: &Snapshot) {
    text.one(Kind::Counter, "roadstead_jobs", "Jobs that were queued.", all.jobs);
    text.one(Kind::Gauge, "roadstead_jobs_waiting", "Jobs that wait in the queue.", all.waiting);
    text.one(Kind::Gauge, "roadstead_jobs_running", "Jobs that are at work.", all.running);
    let blocked = "Sessions' tickets that belong to no job: they wait for somebody else.";
    text.one(Kind::Gauge, "roadstead_jobs_blocked", blocked, all.blocked);
    let sliced = "Times that a job gave way because its slice was over.";
    text.one(Kind::Counter, "roadstead_jobs_sliced", sliced, all.sliced);
    let awaited = "Times that a session waited for somebody else.";
    text.one(Kind::Counter, "roadstead_jobs_awaited", awaited, all.awaited);
    text.one(Kind::Gauge, "roadstead_tickets", "Tickets that are outstanding.", all.tickets);
    let TaskTimes { tasks, waited, ran } = all.job_times;
    text.one(Kind::Counter, "roadstead_jobs_timed", "Jobs of which it was noted how long they took.", tasks);
    let mut time = |name, help, time: Duration| text.one(Kind::Counter, name, help, time.as_secs_f64());
    time("roadstead_jobs_waited_seconds", "How long these waited in the queue.", waited);
    time("roadstead_jobs_ran_seconds", "How long these were at work.", ran);
}

/// Where there are no loops, one number for all threads.
fn loops(text: &mut Exposition, all: &Snapshot, loops: &[Snapshot]) {
    let mut counter = |name, help, count: fn(&Snapshot) -> u64| {
        let mut family = text.family(Kind::Counter, name, help);
        if loops.is_empty() {
            family.sample(&[], count(all));
        }
        for (number, one) in loops.iter().enumerate() {
            family.sample(&[("loop", &number.to_string())], count(one));
        }
    };
    counter("roadstead_loop_turns", "Turns of the loop, from one wait to the next.", |one| one.waits);
    counter("roadstead_loop_sleeps", "Turns that began with a sleep.", |one| one.sleeps);
}
