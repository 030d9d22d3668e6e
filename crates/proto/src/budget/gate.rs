//! The account of connections: how many there are, in all and from each address.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Budget, Refused, Share, give_back};

/// Counts connections, in all and per address.
#[derive(Debug)]
pub struct Gate {
    budget: Budget,
    tally: Tally,
}

/// Where a gate counts.
#[derive(Debug)]
enum Tally {
    Here(Mutex<Open>),
    Common(Share),
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    from: HashMap<IpAddr, usize>,
}

impl Open {
    fn admit(&mut self, from: Option<IpAddr>, budget: &Budget) -> Result<(), Refused> {
        if self.all >= budget.connections {
            return Err(Refused::Full(budget.connections));
        }
        if let Some(address) = from {
            let limit = budget.per_address;
            if limit == 0 || self.from.get(&address).is_some_and(|&count| count >= limit) {
                return Err(Refused::Address(limit));
            }
            *self.from.entry(address).or_default() += 1;
        }
        self.all += 1;
        Ok(())
    }

    fn release(&mut self, from: Option<IpAddr>) {
        give_back(&mut self.all, 1);
        if let Some(address) = from
            && let Some(count) = self.from.get_mut(&address)
        {
            give_back(count, 1);
            if *count == 0 {
                self.from.remove(&address);
            }
        }
    }
}

impl Gate {
    /// A gate with the limits of `budget`.
    pub fn new(budget: &Budget) -> Arc<Self> {
        Arc::new(Self { budget: budget.clone(), tally: Tally::Here(Mutex::default()) })
    }

    /// One that counts together with those of other processes.
    pub fn common(budget: &Budget, share: Share) -> Arc<Self> {
        Arc::new(Self { budget: budget.clone(), tally: Tally::Common(share) })
    }

    /// Admits a connection, counted until the permit is dropped. `None` counts for no address: what we open, and who
    /// comes through a Unix socket, often one proxy for many, and let in by the mode of a file.
    ///
    /// # Errors
    /// [`Refused`] at the limit; nothing is counted then.
    pub fn admit(self: &Arc<Self>, from: Option<IpAddr>) -> Result<Permit, Refused> {
        let from = from.map(origin);
        match (&self.tally, from) {
            (Tally::Here(open), _) => lock(open).admit(from, &self.budget)?,
            (Tally::Common(Share { books, slot }), Some(address)) => {
                books.admit(*slot, address, &self.budget)?;
            }
            (Tally::Common(Share { books, slot }), None) => books.admit_other(*slot, &self.budget)?,
        }
        Ok(Permit { gate: Arc::clone(self), from })
    }

    fn release(&self, from: Option<IpAddr>) {
        match &self.tally {
            Tally::Here(open) => lock(open).release(from),
            Tally::Common(Share { books, slot }) if from.is_some() => books.release(*slot),
            Tally::Common(Share { books, slot }) => books.release_other(*slot),
        }
    }

    /// Counts as its own, until the permit is dropped, what another process has admitted from there in its stead.
    pub fn adopt(self: &Arc<Self>, from: Option<IpAddr>) -> Permit {
        Permit { gate: Arc::clone(self), from: from.map(origin) }
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        match &self.tally {
            Tally::Here(open) => lock(open).all,
            Tally::Common(Share { books, .. }) => books.open(),
        }
    }

    /// How many addresses have a connection open, as far as this process counts them.
    pub fn addresses(&self) -> usize {
        match &self.tally {
            Tally::Here(open) => lock(open).from.len(),
            Tally::Common(_) => 0,
        }
    }
}

/// Whom the connections from an address are counted for: the address; of IPv6 the network, its first 64 bits.
pub fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One admitted connection. Dropping it makes room for another.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    from: Option<IpAddr>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.release(self.from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_counts_below_at_and_above_its_limits() {
        let gate = Gate::new(&Budget::default().connections(3).per_address(2));
        let a = Some(IpAddr::from([127, 0, 0, 1]));
        let b = Some(IpAddr::from([127, 0, 0, 2]));
        let first = gate.admit(a).unwrap();
        let _second = gate.admit(a).unwrap();
        assert_eq!(gate.admit(a).unwrap_err(), Refused::Address(2));
        let _third = gate.admit(b).unwrap();
        assert_eq!(gate.admit(None).unwrap_err(), Refused::Full(3));
        drop(first);
        assert_eq!(gate.open(), 2);
        gate.admit(a).unwrap();
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let gate = Gate::new(&Budget::default());
        for last in 0..200 {
            drop(gate.admit(Some(IpAddr::from([127, 0, 0, last]))).unwrap());
        }
        let Tally::Here(open) = &gate.tally else { unreachable!() };
        assert!(open.lock().unwrap().from.is_empty());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_an_ipv4_address_is_the_same_in_both_notations() {
        let admitted = |addresses: [&str; 2]| {
            let budget = Budget::default().per_address(1);
            let gate = Gate::new(&budget);
            let [first, second] = addresses.map(|address| address.parse().unwrap());
            let permits = (gate.admit(Some(first)), gate.admit(Some(second)));
            let both = permits.0.is_ok() && permits.1.is_ok();
            drop(permits);
            assert_eq!(gate.open(), 0);
            both
        };
        assert!(!admitted(["2001:db8::1", "2001:db8::ffff:2"]));
        assert!(admitted(["2001:db8::1", "2001:db8:0:1::1"]));
        assert!(!admitted(["::ffff:192.0.2.1", "192.0.2.1"]));
        assert!(admitted(["::ffff:192.0.2.1", "::ffff:192.0.2.2"]));
    }

    #[test]
    fn a_limit_of_zero_lets_nobody_in_and_is_named() {
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        let none = Gate::new(&Budget::default().connections(0));
        assert_eq!([none.admit(address).unwrap_err(), none.admit(None).unwrap_err()], [Refused::Full(0); 2]);
        let closed = Gate::new(&Budget::default().per_address(0));
        assert_eq!(closed.admit(address).unwrap_err(), Refused::Address(0));
        let other = closed.admit(None).unwrap();
        assert_eq!((closed.open(), closed.addresses()), (1, 0));
        drop(other);
        assert_eq!(closed.open(), 0);
    }

    #[test]
    fn what_another_process_has_admitted_is_given_back_once() {
        let (gate, address) = (Gate::new(&Budget::default().connections(1)), Some([127, 0, 0, 1].into()));
        std::mem::forget(gate.admit(address).unwrap());
        drop(gate.adopt(address));
        assert_eq!((gate.open(), gate.addresses()), (0, 0));
    }
}
