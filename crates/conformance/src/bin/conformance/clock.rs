//! A wall clock that steps: every second look is a day ahead of the one before.
//!
//! What the program defines under the C library's name is what the standard library calls. Other clocks are as ever.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

const DAY: libc::time_t = 24 * 3600;

static STEPS: AtomicBool = AtomicBool::new(false);
static LOOKS: AtomicU64 = AtomicU64::new(0);

/// From now on the wall clock steps. False if whoever looks does not see it.
pub(crate) fn let_step() -> bool {
    STEPS.store(true, Relaxed);
    let looks = [SystemTime::now(), SystemTime::now()];
    let apart = looks[1].duration_since(looks[0]).unwrap_or_else(|back| back.duration());
    apart > Duration::from_secs(3600)
}

// SAFETY: replaces the function of this name by one that does the same and changes nothing but the seconds.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the system checks both, and writes a time or fails.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as libc::c_int;
    if result == 0 && clock == libc::CLOCK_REALTIME && STEPS.load(Relaxed) {
        let days = LOOKS.fetch_add(1, Relaxed) % 2;
        // SAFETY: the system has just written there.
        unsafe { (*time).tv_sec += days as libc::time_t * DAY };
    }
    result
}
