//! What a loop has on the memory account and no connection holds.
//!
//! A message that is sent is charged until the system needs it no more. On the account that would be two additions for
//! each, to a cache line that every loop writes to. So what a connection gives back stays with its loop, and the next
//! one takes it from there; the account hears of nothing. Whatever is charged is on the account all the while, in the
//! charge of a connection or in this one, so all together never pass the limit.
//!
//! A reserve is a 256th of the limit at most; what goes beyond that goes back to the account, and so does what was not
//! needed between two waits, and all of it when the loop has no connections. It is no buffered byte, and not shown as
//! one (`Shared::buffered`). The price: a connection may be refused memory while other loops have some in reserve, a
//! 256th of the limit each.
#![forbid(unsafe_code)]

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    budget::{Charge, Meter},
    stats::Stats,
};

/// The part of the limit that a reserve may be.
const PART: usize = 256;

/// A loop's reserve.
#[derive(Debug)]
pub(crate) struct Reserve {
    own: Charge,
    most: usize,
    /// The least that there was since the loop last waited.
    unused: usize,
    /// Where others read how much it is.
    stats: Arc<Stats>,
}

impl Reserve {
    /// Nothing of `memory` yet.
    pub(crate) fn of(memory: &Arc<Meter>, stats: Arc<Stats>) -> Self {
        Self { own: Charge::nothing(memory), most: memory.limit() / PART, unused: 0, stats }
    }

    /// Has `charge` count `amount` instead of what it did. False, with nothing changed, if that passes the limit.
    pub(crate) fn change(&mut self, charge: &mut Charge, amount: usize) -> bool {
        let lent = amount.saturating_sub(charge.amount).min(self.own.amount);
        let given = charge.amount.saturating_sub(amount).min(self.most.saturating_sub(self.own.amount));
        self.own.pass(charge, lent);
        charge.pass(&mut self.own, given);
        let fits = charge.change(amount);
        if !fits {
            charge.pass(&mut self.own, lent);
        }
        self.unused = self.unused.min(self.own.amount);
        fits
    }

    /// The loop is about to wait: what was not needed since it last did goes back.
    pub(crate) fn trim(&mut self) {
        self.keep(self.own.amount - self.unused);
    }

    /// Keeps so much of it.
    pub(crate) fn keep(&mut self, amount: usize) {
        self.own.change(amount.min(self.own.amount));
        self.unused = self.own.amount;
        self.tell();
    }

    /// Lets others know how much it is.
    pub(crate) fn tell(&self) {
        self.stats.reserved.store(self.own.amount, Relaxed);
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.keep(0);
    }
}

impl Charge {
    /// Of nothing yet.
    pub(crate) fn nothing(meter: &Arc<Meter>) -> Self {
        Self { meter: Arc::clone(meter), amount: 0 }
    }

    /// Passes so much of it on to another of the same meter, which hears of nothing.
    fn pass(&mut self, to: &mut Self, amount: usize) {
        debug_assert!(Arc::ptr_eq(&self.meter, &to.meter), "each on an account of its own");
        self.amount -= amount;
        to.amount += amount;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        budget::Budget,
        host::{Host, Shared},
    };

    fn reserve(memory: &Arc<Meter>) -> Reserve {
        Reserve::of(memory, Arc::default())
    }

    #[test]
    fn what_was_given_back_is_taken_again_and_the_account_hears_of_nothing() {
        let memory = Meter::new(PART * 1000);
        let (mut reserve, mut charge) = (reserve(&memory), Charge::nothing(&memory));
        assert!(reserve.change(&mut charge, 600));
        for amount in [0, 600, 200, 500, 0] {
            assert!(reserve.change(&mut charge, amount));
            assert_eq!((charge.amount, reserve.own.amount, memory.used()), (amount, 600 - amount, 600));
        }
        assert!(reserve.change(&mut charge, 1601));
        assert_eq!((reserve.own.amount, memory.used()), (0, 1601), "first its own");
        assert!(reserve.change(&mut charge, 0));
        assert_eq!((reserve.own.amount, memory.used()), (1000, 1000), "no more than a 256th");
    }

    #[test]
    fn the_limit_holds_at_its_edge_and_what_was_lent_for_nothing_comes_back() {
        let memory = Meter::new(PART * 10);
        let (mut reserve, mut charge) = (reserve(&memory), Charge::nothing(&memory));
        let other = memory.charge(PART * 10 - 30).unwrap();
        assert!(reserve.change(&mut charge, 25) && reserve.change(&mut charge, 20));
        assert!(!reserve.change(&mut charge, 31));
        assert_eq!((charge.amount, reserve.own.amount, memory.used()), (20, 5, PART * 10 - 5));
        assert!(reserve.change(&mut charge, 30));
        drop((charge, other));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn what_was_not_needed_between_two_waits_goes_back_and_all_of_it_with_the_loop() {
        let (memory, stats) = (Meter::new(PART * 1000), Arc::<Stats>::default());
        let mut reserve = Reserve::of(&memory, Arc::clone(&stats));
        let mut charge = Charge::nothing(&memory);
        let told = || stats.reserved.load(Relaxed);
        assert!(reserve.change(&mut charge, 900) && reserve.change(&mut charge, 0));
        reserve.trim();
        assert_eq!((reserve.own.amount, told()), (900, 900), "it was needed a moment ago");
        assert!(reserve.change(&mut charge, 300) && reserve.change(&mut charge, 0));
        reserve.trim();
        assert_eq!((memory.used(), told()), (300, 300), "no more was needed");
        assert!(reserve.change(&mut charge, 100));
        drop(reserve);
        assert_eq!((memory.used(), told()), (100, 0));
    }

    #[test]
    fn a_reserve_is_shown_as_nothing_that_is_held_and_a_loop_without_connections_has_none() {
        let shared = Shared::new(Budget::default());
        let mut loops = [(); 2].map(|()| Host::alone(Arc::clone(&shared), 1).counting_apart());
        let mut charges = [None, None];
        for (host, charge) in loops.iter_mut().zip(&mut charges) {
            assert!(host.charge(charge, 1000) && host.charge(charge, 100));
            host.report();
        }
        assert_eq!((shared.memory.used(), shared.buffered(), shared.snapshot().buffered), (2000, 200, 200));
        loops[1].trim(false);
        assert_eq!((shared.memory.used(), shared.buffered()), (2000, 200));
        loops[0].trim(true);
        assert_eq!((shared.memory.used(), shared.buffered()), (1100, 200));
        drop((loops, charges));
        assert_eq!((shared.memory.used(), shared.buffered()), (0, 0));
    }

    proptest! {
        /// Several loops with several connections each.
        #[test]
        fn all_that_is_charged_is_on_the_account_once_and_never_passes_the_limit(
            limit in 0..4000_usize,
            steps in vec((0..3_usize, 0..3_usize, 0..2000_usize, 0..8_u8), 0..200),
        ) {
            let memory = Meter::new(limit);
            let mut loops = [(); 3].map(|()| (reserve(&memory), [(); 3].map(|()| Charge::nothing(&memory))));
            for (at, which, amount, what) in steps {
                let others = memory.used();
                let (reserve, charges) = &mut loops[at];
                let (before, own) = (charges[which].amount, reserve.own.amount);
                match what {
                    0 => reserve.trim(),
                    1 => reserve.keep(0),
                    2 => charges[which] = Charge::nothing(&memory),
                    _ => {
                        let fits = others - before - own + amount <= limit;
                        prop_assert_eq!(reserve.change(&mut charges[which], amount), fits);
                        let held = if fits { amount } else { before };
                        prop_assert_eq!(charges[which].amount, held);
                    }
                }
                prop_assert!(reserve.own.amount <= reserve.most && reserve.unused <= reserve.own.amount);
                let all = loops.iter().map(|(reserve, charges)| {
                    reserve.own.amount + charges.iter().map(|charge| charge.amount).sum::<usize>()
                });
                prop_assert_eq!(memory.used(), all.sum::<usize>());
                prop_assert!(memory.used() <= limit);
            }
            drop(loops);
            prop_assert_eq!(memory.used(), 0);
        }
    }
}
