//! The hard limits of a server, and the two accounts that enforce them: [`Gate`] counts connections, [`Meter`] bytes.
//!
//! A limit is checked before the thing it limits exists. Nothing in the engine grows without one of these numbers.
#![forbid(unsafe_code)]

mod gate;

use std::{
    fmt, io,
    net::IpAddr,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

pub use gate::{Gate, Permit, origin};

/// What a server may use at most. Start from [`Budget::default`] and change what matters.
///
/// ```
/// # use roadstead_proto as roadstead;
/// use roadstead::Budget;
/// use std::time::Duration;
/// let budget = Budget::default().connections(10_000).first_byte(Duration::from_secs(5));
/// assert_eq!(budget.connections, 10_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Connections open at once, accepted and outgoing together. Default 10,000.
    pub connections: usize,
    /// Accepted connections open at once from one IP address; for IPv6 from one network of 64 bits, as any host there
    /// may have all of its addresses (RFC 7421, section 2). Default 10,000. Not of Unix sockets: see [`Gate::admit`].
    pub per_address: usize,
    /// Bytes of unread input that one connection may buffer, and as many of unsent output. Default 1 MiB.
    pub buffer_each: usize,
    /// Bytes that all connections may buffer between turns, together with kept chunks. Default 256 MiB.
    pub buffer_all: usize,
    /// Tickets that may be outstanding at once. Default 10,000.
    pub jobs: usize,
    /// Accepts that a listener of a reactor or a proactor has outstanding: at least, and at most while whoever comes has
    /// to wait; never none. Default 4 to 64: to take so many keeps a loop's connections waiting for less than 1 ms.
    pub accepts: RangeInclusive<usize>,
    /// Bytes of sends that a proactor's loop has in flight at once, in pages of 4 KiB, or one send. Beyond that they
    /// wait in order of arrival. Default 8 MiB: what Linux lets a process lock unless it is told otherwise.
    pub in_flight: usize,
    /// From the connection to its first byte. Default 10 s.
    pub first_byte: Duration,
    /// Without a byte in either direction while nothing is being worked on. Default 60 s.
    pub idle: Duration,
    /// Bytes per second that a connection has to move while it has something unread or unsent, on the average over any
    /// such time; [`idle`](Budget::idle) of it is free. 0 does not ask. Default 64: a peer that sends a message, or
    /// takes an answer, one byte at a time ties up memory no longer than that, however fast it was before.
    pub slowest: u64,
    /// Bytes per second that all connections and datagram sockets together may send; 0, the default, is no cap. What is
    /// over it waits. The engine counts what sessions send, without what a layer adds to it, and of datagrams with the
    /// headers of IP and UDP. A burst of what that is in 20 ms, and of 16 KiB at least, may go at once. Where both
    /// connections and datagrams have more to send, each have half.
    pub rate_all: u64,
    /// The same for each connection; of datagrams for each peer that is remembered, and each other IP address.
    pub rate_each: u64,
    /// For an outgoing connection to be answered. Default 5 s.
    pub connect: Duration,
    /// How long the engine waits for the peer's end after its own, so that the last bytes are not lost to a reset; or
    /// before its own, where the peer is to end first. Of datagrams: how long what is left to be sent may wait when their
    /// session has finished. Default 2 s.
    pub linger: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_address: 10_000,
            buffer_each: 1 << 20,
            buffer_all: 256 << 20,
            jobs: 10_000,
            accepts: 4..=64,
            in_flight: 8 << 20,
            first_byte: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            slowest: 64,
            rate_all: 0,
            rate_each: 0,
            connect: Duration::from_secs(5),
            linger: Duration::from_secs(2),
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {$(
        #[doc = concat!("Sets [`Budget::", stringify!($name), "`](struct@Budget).")]
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    )*};
}

impl Budget {
    setters! {
        connections: usize, per_address: usize, buffer_each: usize, buffer_all: usize, jobs: usize,
        accepts: RangeInclusive<usize>, in_flight: usize,
        first_byte: Duration, idle: Duration, slowest: u64, rate_all: u64, rate_each: u64, connect: Duration, linger: Duration,
    }

    /// Output above which a connection is not read from: a quarter of what it may buffer.
    #[doc(hidden)]
    pub fn high_water(&self) -> usize {
        self.buffer_each / 4
    }
}

/// Takes `amount` off `count`, of which it is a part. Where it is not, a test fails, and a server counts nothing rather
/// than nearly everything.
pub fn give_back(count: &mut usize, amount: usize) {
    debug_assert!(amount <= *count, "more is given back than was taken");
    *count = count.saturating_sub(amount);
}

/// What several processes count together, each in a slot of its own.
pub trait Books: Send + Sync + fmt::Debug {
    /// Admits a connection to `slot`, which has none.
    fn admit(&self, slot: usize, from: IpAddr, budget: &Budget) -> Result<(), Refused>;
    /// Admits a connection of `slot` that counts for no address: one that it opens itself, or of a Unix socket.
    fn admit_other(&self, slot: usize, budget: &Budget) -> Result<(), Refused>;
    /// The accepted connection of `slot` has ended.
    fn release(&self, slot: usize);
    /// One that counts for no address has ended.
    fn release_other(&self, slot: usize);
    /// How many connections are open, in all processes.
    fn open(&self) -> usize;
    /// Counts `amount` more for `slot`, unless all together would pass `limit` then. Two that ask at once for the last
    /// of it may both be turned away; they are never both admitted.
    fn add(&self, slot: usize, account: Account, amount: usize, limit: usize) -> bool;
    /// Counts `amount` less for `slot`.
    fn subtract(&self, slot: usize, account: Account, amount: usize);
    /// The sum of one kind of account.
    fn sum(&self, account: Account) -> usize;
    /// When the bucket is full again from which all that is sent is taken.
    fn full_at(&self) -> &AtomicU64;
}

/// What a [`Meter`] counts in [`Books`].
#[derive(Debug, Clone, Copy)]
pub enum Account {
    /// Buffered bytes.
    Memory,
    /// Outstanding tickets.
    Jobs,
    /// Jobs without a ticket.
    Detached,
}

/// Which accounts of several processes are this one's.
#[derive(Debug, Clone)]
pub struct Share {
    /// The accounts of all.
    pub books: Arc<dyn Books>,
    /// Whose accounts in them are this process's.
    pub slot: usize,
}

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The server holds as many connections as it may.
    #[error("the server already holds {0} connections")]
    Full(usize),
    /// This address holds as many connections as one may.
    #[error("this address already holds {0} connections")]
    Address(usize),
}

/// Counts something up to a limit: buffered bytes, outstanding tickets.
#[derive(Debug)]
pub struct Meter {
    limit: usize,
    count: Count,
}

/// Where a meter counts.
#[derive(Debug)]
enum Count {
    Here(AtomicUsize),
    Common(Share, Account),
}

impl Meter {
    /// A meter at zero.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, count: Count::Here(AtomicUsize::new(0)) })
    }

    /// One that counts together with those of other processes.
    pub fn common(limit: usize, share: Share, account: Account) -> Arc<Self> {
        Arc::new(Self { limit, count: Count::Common(share, account) })
    }

    /// Counts `amount` more until the charge is dropped; `None` if that would pass the limit.
    pub fn charge(self: &Arc<Self>, amount: usize) -> Option<Charge> {
        self.add(amount).then(|| Charge { meter: Arc::clone(self), amount })
    }

    /// What a connection ends with for which there is no room.
    pub fn exceeded(&self) -> io::Error {
        let why = format!("all connections together would buffer more than {} bytes", self.limit());
        io::Error::new(io::ErrorKind::OutOfMemory, why)
    }

    fn add(&self, amount: usize) -> bool {
        let within = |used: usize| used.checked_add(amount).filter(|&sum| sum <= self.limit);
        match &self.count {
            Count::Here(used) => used.fetch_update(Relaxed, Relaxed, within).is_ok(),
            Count::Common(share, account) => share.books.add(share.slot, *account, amount, self.limit),
        }
    }

    fn subtract(&self, amount: usize) {
        match &self.count {
            Count::Here(used) => {
                let before = used.fetch_sub(amount, Relaxed);
                debug_assert!(amount <= before, "a charge gives back what it has taken");
            }
            Count::Common(share, account) => share.books.subtract(share.slot, *account, amount),
        }
    }

    /// What is counted now.
    pub fn used(&self) -> usize {
        match &self.count {
            Count::Here(used) => used.load(Relaxed),
            Count::Common(share, account) => share.books.sum(*account),
        }
    }

    /// The most that can be counted.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// An amount counted on a [`Meter`] until dropped.
#[derive(Debug)]
pub struct Charge {
    pub(crate) meter: Arc<Meter>,
    pub(crate) amount: usize,
}

impl Charge {
    /// Counts `amount` instead of what was counted before. False, with nothing changed, if that passes the limit.
    #[inline]
    pub fn change(&mut self, amount: usize) -> bool {
        if amount > self.amount {
            if !self.meter.add(amount - self.amount) {
                return false;
            }
        } else if amount < self.amount {
            self.meter.subtract(self.amount - amount);
        }
        self.amount = amount;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.subtract(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_holds_at_its_limit_and_not_above() {
        let meter = Meter::new(10);
        let mut charge = meter.charge(9).unwrap();
        assert!(meter.charge(2).is_none());
        assert!(charge.change(10));
        assert!(!charge.change(11));
        assert_eq!(meter.used(), 10);
        assert!(charge.change(3));
        assert_eq!(meter.used(), 3);
        drop(charge);
        assert!(meter.used() == 0 && meter.charge(usize::MAX).is_none());
        assert!(Meter::new(0).charge(1).is_none() && Meter::new(0).charge(0).is_some());
    }

    #[test]
    fn each_setter_sets_what_it_is_called_after() {
        let second = Duration::from_secs;
        let set =
            Budget::default().connections(1).per_address(2).buffer_each(3).buffer_all(4).jobs(5).slowest(6);
        let set = set.first_byte(second(7)).idle(second(8)).connect(second(9));
        let set = set.linger(second(11)).accepts(12..=13).in_flight(14).rate_all(15).rate_each(16);
        let expected = Budget {
            connections: 1,
            per_address: 2,
            buffer_each: 3,
            buffer_all: 4,
            jobs: 5,
            accepts: 12..=13,
            in_flight: 14,
            first_byte: second(7),
            idle: second(8),
            slowest: 6,
            rate_all: 15,
            rate_each: 16,
            connect: second(9),
            linger: second(11),
        };
        assert_eq!(set, expected);
    }
}
