//! A cap on what is sent, in bytes per second: a bucket of tokens, whose time is told by whoever takes them.
//!
//! A bucket holds a burst at most: what the rate is in 20 ms, and 16 KiB at least. It is one number, the time at which it
//! will be full again (as in ATM's virtual scheduling, ITU-T I.371): what is taken moves that on, and answers from when
//! it may go. So all who want to send stand in line without a list of them, in the order in which they asked, and nobody
//! is passed over. In any time no more may go than the rate in that time and a burst; or one datagram, if that is longer.
//!
//! The bucket of a server is shared by its loops, and by its processes: one atomic number, exact, which nobody looks at
//! where there is no cap. What was asked for and is sent later than it might be, because of its own cap, because its peer
//! had no room or because its loop stood still, comes on top: of each connection [a portion](Cap::portion) at most, of a
//! datagram socket what had become due.
//!
//! Each of many connections may wait as long as its turn takes to come, and a datagram may not: so it is not in their
//! line. While connections wait, datagrams have half of the rate ahead of them, with the burst of that, and all who wait
//! go later by what was taken.
#![forbid(unsafe_code)]

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::budget::{Budget, Share};

/// The least that a bucket holds when it is full.
const BURST: u64 = 16 << 10;
const SECOND: u128 = 1_000_000_000;

/// So many bytes per second, which are not none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cap(u64);

impl Cap {
    /// `None`: there is none.
    pub(crate) fn of(rate: u64) -> Option<Self> {
        (rate > 0).then_some(Self(rate))
    }

    /// What may go at once after a silence, in bytes.
    pub(crate) fn burst(self) -> u64 {
        (self.0 / 50).max(BURST)
    }

    /// What a connection takes at once: what the rate is in 50 ms, and half a burst at most.
    pub(crate) fn portion(self) -> u64 {
        (self.0 / 20).clamp(1, self.burst() / 2)
    }

    /// Half of the rate.
    fn half(self) -> Self {
        Self((self.0 / 2).max(1))
    }

    /// In how many nanoseconds so many bytes may go, rounded up.
    fn time(self, bytes: u64) -> u64 {
        let nanos = (u128::from(bytes) * SECOND).div_ceil(u128::from(self.0));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Takes so many bytes out of a bucket that is full at `full_at`: when it will be then, and from when they may go.
    fn take(self, full_at: u64, bytes: u64, now: u64) -> (u64, u64) {
        let full_at = full_at.max(now).saturating_add(self.time(bytes));
        (full_at, full_at.saturating_sub(self.time(self.burst().max(bytes))).max(now))
    }
}

/// When a bucket of its own is full again, in nanoseconds since the engine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket(u64);

impl Bucket {
    /// Takes so many bytes. Answers from when they may go.
    pub(crate) fn take(&mut self, cap: Cap, bytes: u64, now: Duration) -> Duration {
        let (full_at, from) = cap.take(self.0, bytes, nanos(now));
        self.0 = full_at;
        Duration::from_nanos(from)
    }

    /// Takes so many bytes that another bucket lets go from `other` on. Answers from when they may go by both: what goes
    /// later than it might has what follows here go later too.
    pub(crate) fn take_both(&mut self, cap: Cap, other: Duration, bytes: u64, now: Duration) -> Duration {
        let own = self.take(cap, bytes, now);
        self.delay(other.saturating_sub(own));
        own.max(other)
    }

    /// What was taken last goes so much later than it might: what follows does too.
    pub(crate) fn delay(&mut self, by: Duration) {
        self.0 = self.0.saturating_add(nanos(by));
    }

    /// The next byte goes at `from` at the soonest.
    fn not_before(&mut self, cap: Cap, from: Duration) {
        self.0 = self.0.max(nanos(from).saturating_add(cap.time(cap.burst())));
    }

    /// So many bytes of what was taken will not go.
    pub(crate) fn give_back(&mut self, cap: Cap, bytes: u64) {
        self.0 = self.0.saturating_sub(cap.time(bytes));
    }

    /// From when the next byte might go.
    pub(crate) fn next(&self, cap: Cap) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(cap.time(cap.burst())))
    }
}

/// The bucket of a whole server.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) cap: Cap,
    full_at: FullAt,
    ahead: Box<Ahead>,
}

/// What datagrams have ahead of connections that wait. Only of processes that have datagrams, and such serve alone.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ahead {
    /// Until when connections wait.
    waited: AtomicU64,
    /// When the bucket of datagrams is full again.
    full_at: AtomicU64,
    /// How much later all who wait go than they were told.
    put_back: AtomicU64,
}

/// Where the number is.
#[derive(Debug)]
enum FullAt {
    /// Alone in what processors pass to each other.
    Here(Box<Apart>),
    Common(Share),
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicU64);

impl Common {
    /// `None`: the budget has no cap.
    pub(crate) fn of(budget: &Budget) -> Option<Self> {
        let full_at = FullAt::Here(Box::default());
        Some(Self { cap: Cap::of(budget.rate_all)?, full_at, ahead: Box::default() })
    }

    /// One that several processes have together.
    pub(crate) fn shared(budget: &Budget, share: &Share) -> Option<Self> {
        let full_at = FullAt::Common(share.clone());
        Some(Self { cap: Cap::of(budget.rate_all)?, full_at, ahead: Box::default() })
    }

    fn full_at(&self) -> &AtomicU64 {
        match &self.full_at {
            FullAt::Here(apart) => &apart.0,
            FullAt::Common(share) => share.books.full_at(),
        }
    }

    /// [`Bucket::take`], for a connection. It has to ask whether it was [put back](Common::put_back).
    pub(crate) fn take(&self, bytes: u64, now: Duration) -> Duration {
        let from = change(self.full_at(), |bucket| bucket.take(self.cap, bytes, now));
        if from > now {
            self.ahead.waited.fetch_max(nanos(from), Relaxed);
        }
        from
    }

    /// [`Bucket::give_back`].
    pub(crate) fn give_back(&self, bytes: u64) {
        change(self.full_at(), |bucket| bucket.give_back(self.cap, bytes));
    }

    /// How much later all who wait go than they were told, since the beginning.
    pub(crate) fn put_back(&self) -> Duration {
        Duration::from_nanos(self.ahead.put_back.load(Relaxed))
    }

    /// Takes so many bytes for a datagram: of its part if connections wait. Datagrams go in the order in which they ask.
    pub(crate) fn take_ahead(&self, bytes: u64, now: Duration) -> Duration {
        let (ahead, half) = (&*self.ahead, self.cap.half());
        if self.is_waited_for(now) {
            let time = self.cap.time(bytes);
            for later in [self.full_at(), &ahead.put_back, &ahead.waited] {
                later.fetch_add(time, Relaxed);
            }
            return change(&ahead.full_at, |bucket| bucket.take(half, bytes, now));
        }
        let from = change(self.full_at(), |bucket| bucket.take(self.cap, bytes, now));
        let from = from.max(Bucket(ahead.full_at.load(Relaxed)).next(half));
        if from > now {
            change(&ahead.full_at, |bucket| bucket.not_before(half, from));
        }
        from
    }

    /// What a datagram is taken out of now.
    pub(crate) fn of_datagrams(&self, now: Duration) -> (Cap, Bucket) {
        match self.is_waited_for(now) {
            true => (self.cap.half(), Bucket(self.ahead.full_at.load(Relaxed))),
            false => (self.cap, Bucket(self.full_at().load(Relaxed))),
        }
    }

    fn is_waited_for(&self, now: Duration) -> bool {
        // They may have gone, and given back what they had.
        let next = Bucket(self.full_at().load(Relaxed)).next(self.cap);
        self.ahead.waited.load(Relaxed) > nanos(now) && next > now
    }
}

/// Changes a bucket that is shared as `change` does, and answers what that answers.
fn change<T>(full_at: &AtomicU64, mut change: impl FnMut(&mut Bucket) -> T) -> T {
    let mut before = full_at.load(Relaxed);
    loop {
        let mut bucket = Bucket(before);
        let answer = change(&mut bucket);
        match full_at.compare_exchange_weak(before, bucket.0, Relaxed, Relaxed) {
            Ok(_) => return answer,
            Err(changed) => before = changed,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let cap = Cap::of(1_000_000).unwrap();
        assert_eq!((cap.burst(), cap.portion(), Cap::of(0)), (20_000, 10_000, None));
        let mut bucket = Bucket::default();
        let from: Vec<_> = (0..5).map(|_| bucket.take(cap, 10_000, 1_000 * MS)).collect();
        let ms = [1_000, 1_000, 1_010, 1_020, 1_030];
        assert_eq!(from, ms.map(|ms| ms * MS));
        assert_eq!(bucket.next(cap), 1_030 * MS);
        bucket.give_back(cap, 5_000);
        assert_eq!(bucket.take(cap, 10_000, 1_000 * MS), 1_035 * MS);
        assert_eq!(bucket.take(cap, 20_000, 9_000 * MS), 9_000 * MS, "it is full again, and not fuller");
        assert_eq!(bucket.take(cap, 1, 9_000 * MS), 9_000 * MS + Duration::from_micros(1));
    }

    #[test]
    fn what_is_longer_than_a_burst_waits_for_a_full_bucket_and_goes() {
        let (cap, mut bucket) = (Cap::of(1_000).unwrap(), Bucket::default());
        assert_eq!((cap.burst(), cap.portion()), (BURST, 50));
        assert_eq!(bucket.take(cap, 60_000, 7 * MS), 7 * MS);
        assert_eq!(bucket.take(cap, 60_000, 7 * MS), 60_007 * MS);
        assert_eq!(Cap::of(u64::MAX).unwrap().time(u64::MAX), 1_000_000_000);
        assert_eq!(Cap::of(1).unwrap().take(0, u64::MAX, 5).0, u64::MAX);
        assert_eq!([1, 19, 40, 1 << 40].map(|rate| Cap(rate).portion()), [1, 1, 2, (1 << 40) / 100]);
    }

    proptest! {
        #[test]
        fn in_any_time_no_more_goes_than_the_rate_and_a_burst(
            rate in prop_oneof![1..5_000_u64, 100_000..100_000_000_u64],
            asked in vec((0..40_000_000_u64, 1..70_000_u64, 0..100_u64), 1..60),
        ) {
            let budget = Budget::default().rate_all(rate);
            let common = Common::of(&budget).unwrap();
            let (cap, mut bucket, mut now, mut went) = (common.cap, Bucket::default(), 0, Vec::new());
            for (pause, bytes, unsent) in asked {
                now += pause;
                let when = Duration::from_nanos(now);
                let from = bucket.take(cap, bytes, when);
                prop_assert_eq!(from, common.take(bytes, when), "the shared one does the same");
                let unsent = bytes * unsent / 200;
                bucket.give_back(cap, unsent);
                common.give_back(unsent);
                prop_assert_eq!(common.full_at().load(Relaxed), bucket.0);
                went.push((nanos(from).max(now), bytes - unsent, bytes));
            }
            for first in 0..went.len() {
                for last in first..went.len() {
                    let sum: u64 = went[first..=last].iter().map(|one| one.1).sum();
                    let longest = went[first..=last].iter().map(|one| one.2).max().unwrap_or(0);
                    let time = went[first..=last].iter().map(|one| one.0).max().unwrap_or(0) - went[first].0;
                    let may = u128::from(rate) * u128::from(time) / SECOND;
                    // Every number is rounded to a nanosecond's worth.
                    let most = may as u64 + cap.burst().max(longest) + 60 * (rate / SECOND as u64 + 1);
                    prop_assert!(sum <= most, "{} in {} ns", sum, time);
                }
            }
        }
    }
}
