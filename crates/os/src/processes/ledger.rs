//! The accounts of a server that is several processes, in memory that they have in common.
//!
//! Each child writes to a slot of its own, and a total is the sum over all slots: when a child is killed, clearing its
//! slot gives back whatever it had, down to the last byte, without its help.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use roadstead_proto::{
    budget::{Account, Books, Budget, Refused, Share, origin},
    stats::{Counted, Snapshot, Stats},
};

use crate::processes::shared_memory::Common;

/// What one child has of the budget.
#[derive(Debug, Default)]
struct ProcessAccounts {
    /// Accepted connections: one or none.
    accepted: AtomicUsize,
    /// From which address, as a hash.
    from: AtomicU64,
    /// Those that count for no address: opened itself, or of Unix sockets.
    others: AtomicUsize,
    memory: AtomicUsize,
    jobs: AtomicUsize,
    detached: AtomicUsize,
}

impl ProcessAccounts {
    fn account(&self, account: Account) -> &AtomicUsize {
        match account {
            Account::Memory => &self.memory,
            Account::Jobs => &self.jobs,
            Account::Detached => &self.detached,
        }
    }

    /// How many connections it has open.
    fn open(&self) -> usize {
        self.accepted.load(SeqCst) + self.others.load(SeqCst)
    }
}

/// The accounts of a server that is several processes.
pub(crate) struct Ledger {
    stats: Common<Stats>,
    slots: Common<ProcessAccounts>,
    /// All slots from this one on have nothing: sums need not look at them.
    used: Common<AtomicUsize>,
    /// When the bucket of what all may send is full again.
    full_at: Common<AtomicU64>,
    /// Of addresses, so that they can be compared across processes.
    hasher: RandomState,
}

impl Ledger {
    /// Accounts at zero for up to `children`.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        let (stats, slots, used) = (Common::new(1)?, Common::new(children)?, Common::new(1)?);
        Ok(Self { stats, slots, used, full_at: Common::new(1)?, hasher: RandomState::new() })
    }

    /// The accounts of one child.
    pub(crate) fn share(self: &Arc<Self>, slot: usize) -> Share {
        let books = Arc::clone(self);
        Share { books, slot }
    }

    /// There is to be a child for this slot. Said by the parent, before anything is counted there.
    pub(crate) fn occupy(&self, slot: usize) {
        self.used[0].fetch_max(slot + 1, SeqCst);
    }

    /// The slots that may have something.
    fn used(&self) -> &[ProcessAccounts] {
        &self.slots[..self.used[0].load(SeqCst)]
    }

    /// The child of `slot` is gone, with all it had. Answers how many connections that were. Said by the parent, as
    /// `occupy` is.
    pub(crate) fn clear(&self, slot: usize) -> usize {
        let mine = &self.slots[slot];
        let had = [&mine.accepted, &mine.others].map(|account| account.swap(0, SeqCst));
        for account in [&mine.memory, &mine.jobs, &mine.detached] {
            account.store(0, SeqCst);
        }
        mine.from.store(0, SeqCst);
        // Fails if it was not the last, and then there is nothing to give up.
        let _ = self.used[0].compare_exchange(slot + 1, slot, SeqCst, SeqCst);
        had.iter().sum()
    }
}

impl Books for Ledger {
    fn admit(&self, slot: usize, from: IpAddr, budget: &Budget) -> Result<(), Refused> {
        let mine = &self.slots[slot];
        // Zero is nobody.
        let from = self.hasher.hash_one(origin(from)) | 1;
        mine.from.store(from, SeqCst);
        mine.accepted.store(1, SeqCst);
        let same = self.used().iter().filter(|slot| slot.from.load(SeqCst) == from).count();
        let refused = if self.open() > budget.connections {
            Refused::Full(budget.connections)
        } else if same > budget.per_address {
            Refused::Address(budget.per_address)
        } else {
            return Ok(());
        };
        self.release(slot);
        Err(refused)
    }

    fn admit_other(&self, slot: usize, budget: &Budget) -> Result<(), Refused> {
        self.slots[slot].others.fetch_add(1, SeqCst);
        if self.open() <= budget.connections {
            return Ok(());
        }
        self.release_other(slot);
        Err(Refused::Full(budget.connections))
    }

    fn release(&self, slot: usize) {
        let mine = &self.slots[slot];
        mine.from.store(0, SeqCst);
        mine.accepted.store(0, SeqCst);
    }

    fn release_other(&self, slot: usize) {
        self.slots[slot].others.fetch_sub(1, SeqCst);
    }

    fn open(&self) -> usize {
        self.used().iter().map(ProcessAccounts::open).sum()
    }

    fn add(&self, slot: usize, account: Account, amount: usize, limit: usize) -> bool {
        let mine = self.slots[slot].account(account);
        if amount > limit {
            return false;
        }
        mine.fetch_add(amount, SeqCst);
        let fits = self.sum(account) <= limit;
        if !fits {
            mine.fetch_sub(amount, SeqCst);
        }
        fits
    }

    fn subtract(&self, slot: usize, account: Account, amount: usize) {
        self.slots[slot].account(account).fetch_sub(amount, SeqCst);
    }

    fn sum(&self, account: Account) -> usize {
        sum(self.used(), account)
    }

    fn full_at(&self) -> &AtomicU64 {
        &self.full_at[0]
    }
}

impl Counted for Ledger {
    fn stats(&self) -> &Stats {
        &self.stats[0]
    }

    /// Also of slots without a child, where nothing should be left.
    fn snapshot(&self) -> Snapshot {
        let addresses = self.slots.iter().map(|slot| slot.from.load(SeqCst)).filter(|&from| from != 0);
        Snapshot {
            open: self.slots.iter().map(ProcessAccounts::open).sum(),
            addresses: addresses.collect::<BTreeSet<_>>().len(),
            buffered: sum(&self.slots, Account::Memory),
            tickets: sum(&self.slots, Account::Jobs),
            detached: sum(&self.slots, Account::Detached),
            ..self.stats().snapshot()
        }
    }
}

fn sum(slots: &[ProcessAccounts], account: Account) -> usize {
    slots.iter().map(|slot| slot.account(account).load(SeqCst)).fold(0, usize::saturating_add)
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("open", &self.open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of so many children, all of whom live.
    fn of(children: usize) -> Ledger {
        let ledger = Ledger::new(children).unwrap();
        ledger.occupy(children - 1);
        ledger
    }

    #[test]
    fn slots_without_children_are_not_looked_at() {
        let ledger = Ledger::new(1000).unwrap();
        assert_eq!(ledger.used().len(), 0);
        (0..3).for_each(|slot| ledger.occupy(slot));
        ledger.clear(1);
        assert_eq!(ledger.used().len(), 3);
        ledger.clear(2);
        assert_eq!(ledger.used().len(), 2);
        ledger.occupy(999);
        assert_eq!(ledger.used().len(), 1000);
    }

    #[test]
    fn limits_hold_over_all_slots_and_a_cleared_slot_gives_all_back() {
        let ledger = of(3);
        let memory = Account::Memory;
        assert!(ledger.add(0, memory, 6, 10) && ledger.add(1, memory, 4, 10));
        assert!(!ledger.add(2, memory, 1, 10) && !ledger.add(2, memory, usize::MAX, 10));
        ledger.subtract(1, memory, 1);
        assert!(ledger.add(2, memory, 1, 10));
        ledger.clear(0);
        assert_eq!(ledger.sum(memory), 4);
    }

    #[test]
    fn a_child_that_is_gone_has_nothing_of_any_kind_and_nobody_of_any_address() {
        let ledger = of(3);
        let budget = Budget::default().per_address(1);
        let address = IpAddr::from([127, 0, 0, 1]);
        let accounts = [Account::Memory, Account::Jobs, Account::Detached];
        assert_eq!(ledger.admit(0, address, &budget), Ok(()));
        assert!((0..5).all(|_| ledger.admit_other(0, &budget).is_ok()));
        assert!(accounts.iter().all(|account| ledger.add(0, *account, 5, 9)));
        assert_eq!(ledger.admit(1, address, &budget), Err(Refused::Address(1)));
        assert_eq!(ledger.clear(0), 6);
        assert_eq!((ledger.open(), accounts.map(|account| ledger.sum(account))), (0, [0; 3]));
        assert_eq!(ledger.admit(1, address, &budget), Ok(()));
    }

    #[test]
    fn what_is_held_is_told_of_all_slots() {
        let ledger = Ledger::new(4).unwrap();
        let budget = Budget::default();
        let [a, b] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        ledger.occupy(2);
        for (slot, from) in [a, b, a].into_iter().enumerate() {
            assert_eq!(ledger.admit(slot, from, &budget), Ok(()));
        }
        assert_eq!(ledger.admit_other(0, &budget), Ok(()));
        // There is no child that could have these.
        assert!(ledger.add(3, Account::Memory, 5, 9) && ledger.add(3, Account::Jobs, 1, 9));
        assert!(ledger.add(3, Account::Detached, 2, 9));
        let held = ledger.snapshot();
        assert_eq!((held.open, held.addresses, held.buffered), (4, 2, 5));
        assert_eq!((held.tickets, held.detached), (1, 2));
        (0..4).for_each(|slot| _ = ledger.clear(slot));
        assert_eq!(ledger.snapshot(), Snapshot::default());
    }

    #[test]
    fn who_is_refused_is_counted_nowhere() {
        let ledger = of(3);
        let budget = Budget::default().connections(1).per_address(1);
        let [a, b] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        let jobs = Account::Jobs;
        assert_eq!(ledger.admit(0, a, &budget), Ok(()));
        assert!(ledger.add(0, jobs, 1, 1) && !ledger.add(1, jobs, 1, 1));
        assert_eq!(ledger.admit(1, b, &budget), Err(Refused::Full(1)));
        assert_eq!(ledger.admit_other(1, &budget), Err(Refused::Full(1)));
        assert_eq!((ledger.open(), ledger.sum(jobs)), (1, 1));
        ledger.clear(0);
        assert_eq!((ledger.open(), ledger.sum(jobs)), (0, 0));
        assert_eq!(ledger.admit(2, b, &budget), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_and_an_address_of_ipv4_however_it_is_written_count_as_one() {
        for (first, same, other) in [
            ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
            ("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.2"),
        ] {
            let (ledger, budget) = (of(3), Budget::default().per_address(1));
            assert_eq!(ledger.admit(0, first.parse().unwrap(), &budget), Ok(()));
            assert_eq!(ledger.admit(1, same.parse().unwrap(), &budget), Err(Refused::Address(1)));
            assert_eq!(ledger.admit(1, other.parse().unwrap(), &budget), Ok(()));
            assert_eq!(ledger.snapshot().addresses, 2);
            ledger.release(0);
            assert_eq!(ledger.admit(2, same.parse().unwrap(), &budget), Ok(()));
        }
    }

    #[test]
    fn connections_are_counted_over_all_slots_and_per_address() {
        let ledger = of(4);
        let budget = Budget::default().connections(3).per_address(2);
        let [a, b] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        assert_eq!((ledger.admit(0, a, &budget), ledger.admit(1, a, &budget)), (Ok(()), Ok(())));
        assert_eq!(ledger.admit(2, a, &budget), Err(Refused::Address(2)));
        assert_eq!(ledger.admit(2, b, &budget), Ok(()));
        assert_eq!(ledger.admit(3, b, &budget), Err(Refused::Full(3)));
        assert_eq!(ledger.admit_other(2, &budget), Err(Refused::Full(3)));
        assert_eq!((ledger.clear(0), ledger.clear(0)), (1, 0));
        assert_eq!(ledger.admit_other(2, &budget), Ok(()));
        assert_eq!((ledger.open(), ledger.clear(2)), (3, 2));
    }
}
