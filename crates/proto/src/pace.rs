//! A connection's caps: its own bucket beside that of all, and what it has taken out of both.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::{
    host::Shared,
    rate::{Bucket, Cap, Common},
};

/// A connection's caps, and its leave to send.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Its own cap, if it has one.
    each: Option<(Cap, Bucket)>,
    /// Bytes that it may send, and from when.
    pub(crate) leave: u64,
    pub(crate) from: Duration,
    /// From when by the bucket of all.
    all_from: Duration,
    /// What [`Common::put_back`] was when that was so.
    put_back: Duration,
    /// When it began to wait for that.
    pub(crate) since: Duration,
}

impl Pace {
    /// None where there is no cap.
    pub(crate) fn of(shared: &Shared) -> Option<Box<Self>> {
        let each = Cap::of(shared.budget.rate_each).map(|cap| (cap, Bucket::default()));
        let [from, all_from, put_back, since] = [Duration::ZERO; 4];
        let pace = Self { each, leave: 0, from, all_from, put_back, since };
        (each.is_some() || shared.rate.is_some()).then(|| Box::new(pace))
    }

    /// Takes leave to send up to so many bytes.
    pub(crate) fn ask(&mut self, bytes: u64, now: Duration, shared: &Shared) {
        let own = self.each.map(|(cap, _)| cap);
        let caps = own.into_iter().chain(shared.rate.as_ref().map(|all| all.cap));
        self.leave = caps.map(Cap::portion).fold(bytes, u64::min);
        self.take(self.leave, now, shared);
    }

    fn take(&mut self, bytes: u64, now: Duration, shared: &Shared) {
        let all = shared.rate.as_ref();
        self.put_back = all.map_or(Duration::ZERO, Common::put_back);
        self.all_from = all.map_or(now, |all| all.take(bytes, now));
        self.from = match &mut self.each {
            Some((cap, bucket)) => bucket.take_both(*cap, self.all_from, bytes, now),
            None => self.all_from,
        };
    }

    /// It waits, and others may have gone ahead meanwhile.
    pub(crate) fn give_way(&mut self, shared: &Shared) {
        let Some(all) = &shared.rate else { return };
        let (put_back, before) = (all.put_back(), self.from);
        self.all_from = self.all_from.saturating_add(put_back.saturating_sub(self.put_back));
        self.put_back = put_back;
        self.from = self.from.max(self.all_from);
        if let Some((_, own)) = &mut self.each {
            own.delay(self.from.saturating_sub(before));
        }
    }

    /// So many bytes were sent. A layer may tell of what it was given in parts, and then of more than the leave is for.
    #[cold]
    pub(crate) fn sent(&mut self, count: u64, now: Duration, shared: &Shared) {
        if count > self.leave {
            self.take(count - self.leave, now, shared);
        } else {
            let unsent = self.leave - count;
            if let Some((cap, bucket)) = &mut self.each {
                bucket.give_back(*cap, unsent);
            }
            if let Some(all) = shared.rate.as_ref().filter(|_| unsent > 0) {
                all.give_back(unsent);
            }
        }
        self.leave = 0;
    }
}
