//! The processors that this process may use: how many there are, and to stay on one of them.
#![forbid(unsafe_code)]

use std::{io, num::NonZero, thread};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How many this process may use: as the system and the process's control group say.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Keeps this thread on the one of that number among those that it may use; they are counted round.
///
/// # Errors
/// What the system says.
pub fn pin(number: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let processors: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor)).collect();
    let Some(&chosen) = processors.get(number % processors.len().max(1)) else { return Ok(()) };
    let mut only = CpuSet::new();
    only.set(chosen);
    Ok(sched_setaffinity(None, &only)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor)).collect()
    }

    #[test]
    fn a_thread_stays_on_one_of_its_processors_and_they_are_counted_round() {
        let all = allowed();
        for number in [0, 1, all.len() - 1, all.len(), 3 * all.len() + 1] {
            let expected = all[number % all.len()];
            let stays = thread::spawn(move || {
                pin(number).unwrap();
                allowed()
            });
            assert_eq!(stays.join().unwrap(), [expected]);
        }
        assert_eq!(allowed(), all, "no other thread is moved");
    }
}
