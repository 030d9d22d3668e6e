//! A delay line: bytes go in, and come out in their order a fixed time later. It has no socket and no clock.

use std::collections::VecDeque;
use std::time::Duration;

/// Most bytes that a line holds.
pub(super) const CAPACITY: usize = 32 << 20;

/// What is due within one tick is due at its end, so that there are never more marks than ticks in the delay.
const TICK: Duration = Duration::from_micros(50);

/// How a direction of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After all bytes.
    Finished,
    /// At its time, whatever is still unsent.
    Reset,
}

/// Times are those since an arbitrary start.
#[derive(Debug)]
pub(super) struct DelayLine {
    /// What arrives earlier counts as arriving then.
    opens: Duration,
    delay: Duration,
    bytes: VecDeque<u8>,
    /// How many of the bytes were due when it was last asked.
    released: usize,
    /// Of the others, how many are due when, in order.
    marks: VecDeque<(Duration, usize)>,
    end: Option<(Duration, End)>,
}

impl DelayLine {
    pub(super) fn new(opens: Duration, delay: Duration) -> Self {
        Self { opens, delay, bytes: VecDeque::new(), released: 0, marks: VecDeque::new(), end: None }
    }

    /// How many bytes can be pushed now; none after the end.
    pub(super) fn room(&self) -> usize {
        if self.end.is_some() { 0 } else { CAPACITY - self.bytes.len() }
    }

    /// Takes bytes that have arrived at `now`, not more than there is room for.
    pub(super) fn push(&mut self, now: Duration, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room());
        let due = self.due(now);
        self.bytes.extend(bytes);
        match self.marks.back_mut() {
            Some((last, count)) if *last == due => *count += bytes.len(),
            _ => self.marks.push_back((due, bytes.len())),
        }
    }

    /// Takes the end that has arrived at `now`.
    pub(super) fn finish(&mut self, now: Duration, end: End) {
        self.end = Some((self.due(now), end));
    }

    /// Bytes that are due, from the first on; not always all of them, but never none while there are some.
    pub(super) fn ready(&mut self, now: Duration) -> &[u8] {
        while let Some((_, count)) = self.marks.pop_front_if(|(due, _)| *due <= now) {
            self.released += count;
        }
        let (first, _) = self.bytes.as_slices();
        &first[..first.len().min(self.released)]
    }

    /// Drops the first `count` bytes of those that were ready.
    pub(super) fn consume(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.released -= count;
    }

    /// The end, if it is due and everything before it has gone.
    pub(super) fn end(&self, now: Duration) -> Option<End> {
        let (due, end) = self.end?;
        let passed = end == End::Reset || self.bytes.is_empty();
        (due <= now && passed).then_some(end)
    }

    /// When something becomes due that is not due yet. What was ready and could not be sent has no time.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let bytes = self.marks.front().map(|(due, _)| *due);
        let end = self.end.filter(|(_, end)| *end == End::Reset || self.bytes.is_empty());
        bytes.into_iter().chain(end.map(|(due, _)| due)).min()
    }

    fn due(&self, now: Duration) -> Duration {
        let due = now.max(self.opens).saturating_add(self.delay).as_nanos().next_multiple_of(TICK.as_nanos());
        Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_millis(5);

    fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order_and_never_early(
            pushes in prop::collection::vec((0_u64..3_000, 0_usize..300), 1..50),
            bites in prop::collection::vec(1_usize..200, 1..50),
            steps in prop::collection::vec(1_u64..2_000, 1..50),
        ) {
            let mut line = DelayLine::new(Duration::ZERO, DELAY);
            let (mut now, mut arrivals) = (Duration::ZERO, Vec::new());
            for (pause, count) in pushes {
                now += micros(pause);
                let from = arrivals.len();
                arrivals.extend(std::iter::repeat_n(now, count));
                let bytes: Vec<u8> = (from..from + count).map(|position| position as u8).collect();
                line.push(now, &bytes);
            }
            let last = now;
            line.finish(last, End::Finished);
            let (mut gone, mut now) = (0, Duration::ZERO);
            let (mut bites, mut steps) = (bites.iter().cycle(), steps.iter().cycle());
            while line.end(now).is_none() {
                prop_assert!(now <= last + DELAY + TICK || gone < arrivals.len());
                let ready = line.ready(now);
                let count = ready.len().min(*bites.next().unwrap());
                for (place, byte) in ready[..count].iter().enumerate() {
                    prop_assert_eq!(*byte, (gone + place) as u8);
                    prop_assert!(arrivals[gone + place] + DELAY <= now);
                }
                line.consume(count);
                gone += count;
                if count == 0 {
                    now += micros(*steps.next().unwrap());
                }
            }
            prop_assert_eq!(gone, arrivals.len());
        }
    }

    #[test]
    fn nothing_arrives_before_the_line_opens() {
        let mut line = DelayLine::new(2 * DELAY, DELAY);
        line.push(DELAY, b"x");
        assert_eq!((line.deadline(), line.ready(3 * DELAY - micros(1)).len()), (Some(3 * DELAY), 0));
        line.push(3 * DELAY, b"y");
        assert_eq!(line.ready(3 * DELAY), b"x");
        line.consume(1);
        assert_eq!(line.deadline(), Some(4 * DELAY));
    }

    #[test]
    fn there_is_room_up_to_the_capacity_and_again_when_bytes_have_gone() {
        let mut line = DelayLine::new(Duration::ZERO, DELAY);
        line.push(Duration::ZERO, &vec![1; CAPACITY - 1]);
        assert_eq!(line.room(), 1);
        line.push(Duration::ZERO, &[1]);
        assert_eq!(line.room(), 0);
        let ready = line.ready(DELAY).len();
        line.consume(ready);
        assert_eq!(line.room(), ready);
        line.finish(DELAY, End::Finished);
        assert_eq!(line.room(), 0);
    }

    #[test]
    fn many_small_pieces_cost_a_mark_a_tick() {
        let mut line = DelayLine::new(Duration::ZERO, DELAY);
        for part in 0..10_000 {
            line.push(TICK * part / 10_000, b"x");
        }
        assert!(line.marks.len() <= 2, "{}", line.marks.len());
    }

    #[test]
    fn an_end_waits_for_the_bytes_and_a_reset_does_not() {
        for (end, passes) in [(End::Finished, false), (End::Reset, true)] {
            let mut line = DelayLine::new(Duration::ZERO, DELAY);
            line.push(Duration::ZERO, b"x");
            line.finish(Duration::ZERO, end);
            assert_eq!(line.end(DELAY - micros(1)), None);
            assert_eq!(line.end(DELAY).is_some(), passes);
            assert_eq!(line.ready(DELAY), b"x");
            // Unsent bytes wait for their receiver and not for a time, or the loop would spin.
            assert_eq!(line.deadline(), passes.then_some(DELAY));
            line.consume(1);
            assert_eq!(line.end(DELAY), Some(end));
        }
    }
}
