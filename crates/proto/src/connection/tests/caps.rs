//! A connection over its cap waits, and is not punished for it.

use super::*;
use crate::{input::Input, output::FileRange, rate::Cap, session::Context};

const MS: Duration = Duration::from_millis(1);
/// In bytes per second.
const RATE: u64 = 100_000;

/// Owes its peer all that it is asked for: so many thousands of bytes, or of a file.
struct Owes;

impl Session for Owes {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        for &ask in input.bytes() {
            if ask < 128 {
                cx.output().write(&vec![ask; usize::from(ask) * 1_000]);
            } else {
                cx.output().file(Arc::new(vec![ask; 300_000]), 0, u64::from(ask) * 1_000);
            }
        }
        input.consume(usize::MAX);
        Ok(())
    }
}

struct Capped {
    connection: Connection<Owes>,
    host: Host,
    shared: Arc<Shared>,
    now: Duration,
    sending: bool,
    /// What the peer has, and when it came.
    sent: Vec<(Duration, u64)>,
    over: bool,
}

impl Capped {
    fn of(shared: &Arc<Shared>) -> Self {
        let permit = shared.gate.admit(None).unwrap();
        let peer = Peer { address: "192.0.2.1:7".parse().unwrap() };
        let connection = Connection::accepted(Owes, peer, Arc::clone(shared), permit);
        let host = Host::alone(Arc::clone(shared), 1);
        let (shared, sent) = (Arc::clone(shared), Vec::new());
        let mut capped =
            Self { connection, host, shared, now: Duration::ZERO, sending: false, sent, over: false };
        capped.connection.place(Token(1), &capped.host.wake_queue, capped.now);
        capped.happen(Event::Opened);
        capped
    }

    fn open(budget: Budget) -> Self {
        Self::of(&Shared::new(budget))
    }

    fn happen(&mut self, event: Event<'_>) {
        self.connection.handle(self.now, event, &mut self.host);
        self.connection.settle(self.now, &mut self.host);
        while let Some(op) = self.connection.next() {
            self.sending |= matches!(op, Op::Send);
            self.over |= matches!(op, Op::Close { .. });
        }
    }

    fn ask(&mut self, what: u8) {
        self.happen(Event::Received(&mut BytesMut::from(&[what][..])));
    }

    /// What would be sent now.
    fn offered(&self) -> u64 {
        let output = self.connection.output();
        let mut slices = [IoSlice::new(&[]); 4];
        let (count, _) = output.gather(&mut slices);
        let gathered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        assert!(output.whole().is_none_or(|whole| whole.len() == gathered));
        output.front_file().map_or(gathered as u64, |range| range.len)
    }

    /// The peer takes up to so many bytes of what is being sent.
    fn take(&mut self, most: u64) -> u64 {
        assert!(std::mem::take(&mut self.sending), "nothing is sent");
        let count = self.offered().min(most);
        self.sent.push((self.now, count));
        self.happen(Event::Sent(count));
        count
    }

    /// To the next deadline.
    fn pass(&mut self) {
        self.now = self.now.max(self.connection.deadline().unwrap());
        self.happen(Event::Tick);
    }

    /// Until all was sent.
    fn finish(&mut self) {
        while !self.connection.output().is_empty() {
            match self.sending {
                true => _ = self.take(u64::MAX),
                false => self.pass(),
            }
            assert!(!self.over, "it is closed at {:?}", self.now);
        }
    }

    fn total(&self) -> u64 {
        self.sent.iter().map(|(_, count)| count).sum()
    }
}

/// In no time does more go than the rate and a burst, and a portion of each of `others` that waited for its peer.
fn assert_within(sent: &[(Duration, u64)], rate: u64, others: u64) {
    let cap = Cap::of(rate).unwrap();
    let most = cap.burst() + others * cap.portion();
    for (first, &(from, _)) in sent.iter().enumerate() {
        let mut sum = 0;
        for &(at, count) in &sent[first..] {
            sum += count;
            let may = most as f64 + (at - from).as_secs_f64() * rate as f64 + 1.0;
            assert!(sum as f64 <= may, "{sum} bytes in {:?}", at - from);
        }
    }
}

#[test]
fn what_is_over_the_cap_waits_without_a_send_and_goes_in_portions() {
    let mut capped = Capped::open(Budget::default().rate_each(RATE));
    capped.ask(100);
    assert_eq!(capped.offered(), 5_000, "what the rate is in 50 ms");
    capped.finish();
    assert_within(&capped.sent, RATE, 0);
    assert_eq!(capped.total(), 100_000);
    // All but a burst of 16 KiB at the rate.
    assert!((830 * MS..840 * MS).contains(&capped.now), "{:?}", capped.now);
    assert_eq!(capped.connection.deadline(), Some(capped.now + IDLE), "nobody waits for leave");
}

#[test]
fn a_file_goes_in_portions_too_and_in_order() {
    let mut capped = Capped::open(Budget::default().rate_each(RATE).idle(IDLE));
    capped.ask(200);
    capped.ask(3);
    let mut files = 0;
    while capped.total() < 200_000 {
        while !capped.sending {
            capped.pass();
        }
        let range: Option<FileRange> = capped.connection.output().front_file().cloned();
        let range = range.unwrap();
        assert!(range.len <= 5_000 && range.offset == files);
        files += capped.take(4_999);
    }
    capped.finish();
    assert_eq!(capped.total(), 203_000);
    assert_within(&capped.sent, RATE, 0);
}

#[test]
fn nobody_is_closed_for_what_the_cap_does_and_the_peer_still_is_for_what_it_does() {
    // A cap below the rate that a peer has to keep to, and portions that come after the idle time.
    let budget = Budget::default().rate_each(20).slowest(1_000).idle(Duration::from_secs(2));
    let mut capped = Capped::open(budget.clone());
    capped.ask(20);
    while !capped.connection.output().is_empty() {
        if !capped.sending {
            capped.pass();
            continue;
        }
        // The peer takes it a little later, and somebody looks between.
        capped.now += MS;
        capped.happen(Event::Tick);
        assert!(!capped.over, "at {:?}", capped.now);
        capped.take(u64::MAX);
    }
    assert!(capped.now > Duration::from_secs(150), "{:?}", capped.now);

    let mut capped = Capped::open(budget);
    capped.ask(20);
    while capped.total() < 17_000 {
        match capped.sending {
            true => _ = capped.take(u64::MAX),
            false => capped.pass(),
        }
    }
    while !capped.sending {
        capped.pass();
    }
    // Now it takes nothing.
    let begun = capped.now;
    capped.pass();
    assert!(capped.over && capped.now - begun <= Duration::from_secs(2));
}

#[test]
fn all_together_keep_to_the_servers_cap_in_turn() {
    let shared = Shared::new(Budget::default().rate_all(RATE));
    let mut all: Vec<_> = (0..5).map(|_| Capped::of(&shared)).collect();
    all.iter_mut().for_each(|capped| capped.ask(100));
    let mut sent = Vec::new();
    for millis in 0..3_000 {
        for capped in &mut all {
            capped.now = millis * MS;
            if !capped.sending && capped.connection.deadline().is_some_and(|deadline| deadline <= capped.now)
            {
                capped.happen(Event::Tick);
            }
            while capped.sending {
                capped.take(u64::MAX);
            }
        }
        let totals = || all.iter().map(Capped::total);
        assert!(totals().max().unwrap() - totals().min().unwrap() <= 16_384 + 5_000, "nobody is passed over");
        sent.push((millis * MS, totals().sum::<u64>()));
    }
    let whole = sent.last().unwrap().1;
    assert!((300_000..=RATE * 3 + 16_384).contains(&whole), "{whole}");
    sent.dedup_by_key(|(_, total)| *total);
    let mut before = 0;
    let step = |&(at, total): &(Duration, u64)| (at, total - std::mem::replace(&mut before, total));
    let steps: Vec<_> = sent.iter().map(step).collect();
    assert_within(&steps, RATE, 0);
}

#[test]
fn a_turn_that_comes_after_the_idle_time_is_waited_for() {
    let shared = Shared::new(Budget::default().rate_all(20_000).idle(Duration::from_secs(2)));
    let mut all: Vec<_> = (0..100).map(|_| Capped::of(&shared)).collect();
    all.iter_mut().for_each(|capped| capped.ask(20));
    let mut now = Duration::ZERO;
    // Each has a thousand bytes in five seconds.
    while now < Duration::from_secs(12) {
        let next =
            |capped: &&mut Capped| if capped.sending { now } else { capped.connection.deadline().unwrap() };
        let first = all.iter_mut().min_by_key(next).unwrap();
        now = now.max(if first.sending { now } else { first.connection.deadline().unwrap() });
        first.now = now;
        match first.sending {
            true => _ = first.take(u64::MAX),
            false => first.happen(Event::Tick),
        }
        assert!(!first.over, "at {now:?}");
    }
    assert!(all.iter().all(|capped| capped.total() >= 2_000));
}

#[test]
fn leave_that_is_not_used_goes_back() {
    let shared = Shared::new(Budget::default().rate_all(RATE).rate_each(RATE));
    let mut first = Capped::of(&shared);
    first.ask(100);
    for _ in 0..3 {
        assert_eq!(first.take(1_000), 1_000);
    }
    let (cap, bucket) = first.shared.rate.as_ref().unwrap().of_datagrams(Duration::ZERO);
    assert_eq!((cap, bucket.next(cap)), (Cap::of(RATE).unwrap(), Duration::ZERO));
    let mut second = Capped::of(&shared);
    second.ask(100);
    // One has leave for 5,000 that it does not use, and is closed.
    assert!(second.sending && second.offered() == 5_000);
    drop(first);
    second.take(5_000);
    // 16,384 were there: 3,000 and 5,000 are gone, and another 5,000 go at once.
    assert!(second.sending);
    second.take(5_000);
    assert!(!second.sending);
    second.pass();
    assert!(second.now <= 17 * MS, "{:?}", second.now);
}
