//! `prefork`: worker processes that share the listener, each of which serves one client at a time.
//!
//! The fork is paid in advance. A worker that dies is replaced; one that dies young waits for longer each time, so that
//! a service that cannot live does not keep the machine busy with its funerals.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::{
    processes::parent::{Forking, ParentProcess},
    threads::TooFew,
};

/// The workers when nobody has chosen how many.
pub const SIZE: usize = 16;
/// A worker that dies before this age dies young.
const YOUNG: Duration = Duration::from_secs(1);
/// How long its place stays empty at first, and at most.
const FIRST: Duration = Duration::from_millis(20);
const MOST: Duration = Duration::from_millis(500);

/// The places of the workers.
pub struct Prefork(Vec<Place>);

#[derive(Clone)]
struct Place {
    due: Instant,
    pause: Duration,
}

impl Prefork {
    /// So many workers.
    pub fn new(size: usize) -> Self {
        Self(vec![Place { due: Instant::now(), pause: Duration::ZERO }; size])
    }
}

impl Forking for Prefork {
    fn start(&mut self, parent: &mut ParentProcess) -> Result<(), TooFew> {
        let wanted = self.0.len();
        (0..wanted).try_for_each(|had| {
            let begun = parent.begin_ready(had, "worker");
            begun.map_err(|source| TooFew { what: "processes", wanted, had, source })
        })
    }

    fn accepts(&self) -> bool {
        false
    }

    fn tend(&mut self, parent: &mut ParentProcess) -> Option<Instant> {
        let mut next = None;
        for (slot, place) in self.0.iter_mut().enumerate() {
            if !parent.is_free(slot) {
                continue;
            }
            if place.due <= Instant::now()
                && let Err(error) = parent.begin(slot, "worker", &mut None)
            {
                tracing::warn!(%error, slot, "a worker could not be started; it is tried again");
                place.due = Instant::now() + MOST;
            }
            if parent.is_free(slot) {
                next = Some(next.map_or(place.due, |next: Instant| next.min(place.due)));
            }
        }
        next
    }

    fn ended(&mut self, slot: usize, lived: Duration) {
        let place = &mut self.0[slot];
        place.pause = if lived < YOUNG { (place.pause * 2).clamp(FIRST, MOST) } else { Duration::ZERO };
        place.due = Instant::now() + place.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_stays_empty_for_longer_each_time_and_not_after_a_long_life() {
        let mut prefork = Prefork::new(2);
        let mut pause_after = |lived| {
            let died = Instant::now();
            prefork.ended(1, lived);
            let [other, place] = &prefork.0[..] else { panic!("two places") };
            assert!(place.due >= died + place.pause && other.pause.is_zero());
            place.pause.as_millis()
        };
        let young = YOUNG - Duration::from_nanos(1);
        assert_eq!([(); 7].map(|()| pause_after(young)), [20, 40, 80, 160, 320, 500, 500]);
        assert_eq!([YOUNG, young, YOUNG].map(pause_after), [0, 20, 0]);
    }
}
