//! When another server takes no part, said once when it begins and once when it is over, not with every query.
//!
//! Queries that were under way when a server went still fail when it is back. So an outage is over with the first
//! result that is shared after a while without a failure.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::arithmetic::party::Party;

/// The outages of the servers of a cluster.
#[derive(Debug)]
pub(crate) struct Outages {
    calm: Duration,
    now: Mutex<[Option<Outage>; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outage {
    failed: u64,
    last: Instant,
}

impl Outages {
    /// None yet. An outage is over after the time `calm` without a failure.
    pub(crate) fn new(calm: Duration) -> Self {
        Self { calm, now: Mutex::default() }
    }

    /// A query failed because of `party`. Answers whether its outage begins.
    pub(crate) fn failed(&self, party: Party, at: Instant) -> bool {
        let outage = &mut self.now.lock().unwrap_or_else(PoisonError::into_inner)[party.index()];
        let failed = outage.map_or(0, |outage| outage.failed);
        *outage = Some(Outage { failed: failed + 1, last: at });
        failed == 0
    }

    /// All took part in a query. Answers whose outages are over, and how many queries each failed.
    pub(crate) fn shared(&self, at: Instant) -> impl Iterator<Item = (Party, u64)> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let over = now.each_mut().map(|outage| {
            let over = outage.take_if(|outage| at.saturating_duration_since(outage.last) >= self.calm);
            over.map(|outage| outage.failed)
        });
        Party::ALL.into_iter().zip(over).filter_map(|(party, failed)| Some((party, failed?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_has_been_calm_for_a_while() {
        let (calm, start) = (Duration::from_secs(5), Instant::now());
        let outages = Outages::new(calm);
        let [first, second, _] = Party::ALL;
        let over = |after| outages.shared(start + after).collect::<Vec<_>>();
        for _ in 0..2 {
            assert_eq!(over(Duration::ZERO), []);
            assert!(outages.failed(second, start));
            assert!(!outages.failed(second, start + calm));
            assert!(outages.failed(first, start));
            assert_eq!(over(Duration::ZERO), [], "a clock that is late");
            assert_eq!(over(calm), [(first, 1)]);
            assert!(!outages.failed(second, start));
            assert!(!outages.failed(second, start + calm));
            assert_eq!(over(2 * calm - Duration::from_nanos(1)), []);
            assert_eq!(over(2 * calm), [(second, 4)]);
            assert_eq!(over(2 * calm), []);
        }
    }
}
