//! Whether a loop that is woken takes the processor from who runs there. sched(7).
//!
//! By default it may, so that who writes to a quiet server is answered at once. Of a server that is written to all the
//! time this makes a slow one: the first of many messages wakes the loop, which interrupts the very program that sends
//! them, serves that one, and sleeps again; each message pays for a change of threads. So a loop that hears much is
//! scheduled as `SCHED_BATCH`: once woken it waits for its turn and finds whatever has come meanwhile. It is scheduled as
//! before when it hears little. On a processor of its own neither makes a difference.

use std::time::{Duration, Instant};

/// How long a loop is listened to before that is decided.
const WINDOW: Duration = Duration::from_millis(50);

/// What is much to hear in that time: at 20,000 events a second serving them is a tenth of a processor's work.
const MUCH: usize = 1_000;

/// What is little.
const LITTLE: usize = MUCH / 4;

/// How the thread of a loop is scheduled; it has to be the one that calls.
#[derive(Debug)]
pub(crate) struct Scheduling {
    policy: Policy,
    /// Events since `since`.
    heard: usize,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Normal,
    Batch,
    /// Somebody else's choice, or the system's: it is left alone.
    Given,
}

impl Scheduling {
    pub(crate) fn new() -> Self {
        Self { policy: Policy::Normal, heard: 0, since: Instant::now() }
    }

    /// The loop has waited, and heard of so many events.
    pub(crate) fn heard(&mut self, events: usize) {
        self.heard += events;
        // Whoever hears little need not know the time.
        let undecided = self.policy == Policy::Normal && self.heard < MUCH;
        if undecided || self.policy == Policy::Given {
            return;
        }
        let now = Instant::now();
        let Some(next) = decided(self.policy, self.heard, now - self.since) else { return };
        (self.heard, self.since) = (0, now);
        if next != self.policy {
            self.policy = if follow(self.policy, next) { next } else { Policy::Given };
        }
    }
}

impl Drop for Scheduling {
    /// The thread may be somebody else's.
    fn drop(&mut self) {
        if self.policy == Policy::Batch {
            follow(Policy::Batch, Policy::Normal);
        }
    }
}

/// What follows on `policy` for a loop that has heard so much in that time; `None`: that cannot be told yet.
fn decided(policy: Policy, heard: usize, time: Duration) -> Option<Policy> {
    match policy {
        _ if heard >= MUCH && time <= WINDOW => Some(Policy::Batch),
        _ if time <= WINDOW => None,
        Policy::Batch if time < 2 * WINDOW && heard >= LITTLE => Some(Policy::Batch),
        _ => Some(Policy::Normal),
    }
}

/// Changes how this thread is scheduled. False if it is not scheduled as thought, or the system does not let it.
fn follow(before: Policy, next: Policy) -> bool {
    let number = |policy| if policy == Policy::Batch { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
    // SAFETY: plainly asks for a number.
    let current = unsafe { libc::sched_getscheduler(0) };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives for the call, which only reads it.
    current == number(before) && unsafe { libc::sched_setscheduler(0, number(next), &parameter) } == 0
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn now() -> i32 {
        // SAFETY: plainly asks for a number.
        unsafe { libc::sched_getscheduler(0) }
    }

    fn set(policy: i32) {
        let parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter lives for the call, which only reads it.
        assert_eq!(unsafe { libc::sched_setscheduler(0, policy, &parameter) }, 0);
    }

    #[test]
    fn who_hears_much_in_a_short_time_is_patient_until_it_hears_little() {
        use Policy::{Batch, Normal};
        let late = WINDOW + Duration::from_nanos(1);
        for policy in [Normal, Batch] {
            assert_eq!(decided(policy, MUCH, WINDOW), Some(Batch));
            assert_eq!(decided(policy, MUCH - 1, WINDOW), None);
        }
        assert_eq!(decided(Normal, MUCH, late), Some(Normal), "a day's trickle is not much");
        assert_eq!(decided(Batch, LITTLE, late), Some(Batch), "it does not go to and fro");
        assert_eq!(decided(Batch, LITTLE - 1, late), Some(Normal));
        assert_eq!(decided(Batch, MUCH, 2 * WINDOW), Some(Normal), "it has slept");
    }

    #[test]
    fn the_thread_is_scheduled_as_decided_and_left_as_it_was() {
        thread::spawn(|| {
            let mut scheduling = Scheduling::new();
            scheduling.since = Instant::now() + WINDOW;
            scheduling.heard(MUCH - 1);
            assert_eq!(now(), libc::SCHED_OTHER);
            scheduling.heard(1);
            assert_eq!(now(), libc::SCHED_BATCH);
            drop(scheduling);
            assert_eq!(now(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn who_was_given_a_policy_keeps_it() {
        thread::spawn(|| {
            set(libc::SCHED_IDLE);
            let mut scheduling = Scheduling::new();
            scheduling.since = Instant::now() + WINDOW;
            scheduling.heard(MUCH);
            scheduling.heard(MUCH);
            assert_eq!(now(), libc::SCHED_IDLE);
            drop(scheduling);
            assert_eq!(now(), libc::SCHED_IDLE);
        })
        .join()
        .unwrap();
    }
}
