//! The budget's accounts beside a list of who has what: whatever happens in whatever order, both say the same, in one
//! process as over several of which any may be killed.

use std::{mem, net::IpAddr, sync::Arc};

use proptest::{collection::vec, prelude::*};

use roadstead_proto::{
    budget::{Account, Books, Budget, Charge, Gate, Meter, Permit, Refused},
    stats::Counted,
};

use crate::processes::ledger::Ledger;

/// Processes, each with a slot of the ledger.
const SLOTS: usize = 5;

/// Addresses, and for whom each is counted.
const ADDRESSES: [(&str, char); 8] = [
    ("192.0.2.1", 'a'),
    ("::ffff:192.0.2.1", 'a'),
    ("192.0.2.2", 'b'),
    ("::ffff:192.0.2.2", 'b'),
    ("2001:db8::1", 'c'),
    ("2001:db8::ffff:ffff:ffff:ffff", 'c'),
    ("2001:db8:0:1::1", 'd'),
    ("2001:db8:0:1:8000::", 'd'),
];

const ACCOUNTS: [Account; 2] = [Account::Memory, Account::Jobs];

#[derive(Debug, Clone)]
enum Step {
    /// The parent begins a child.
    Begin {
        slot: usize,
    },
    /// It is killed, with all it has.
    Kill {
        slot: usize,
    },
    /// Somebody has connected: the child accepts it, or the parent for it.
    Accept {
        slot: usize,
        from: usize,
        parent: bool,
    },
    /// A session opens a connection of its own.
    Dial {
        slot: usize,
    },
    /// One of those that are open ends.
    Close {
        which: usize,
    },
    Charge {
        slot: usize,
        account: usize,
        amount: usize,
    },
    Change {
        which: usize,
        amount: usize,
    },
    GiveBack {
        which: usize,
    },
}

/// One that is open: in which process, from whom, and its permits in both books.
struct Open {
    slot: usize,
    from: Option<char>,
    permits: [Permit; 2],
}

/// One that is charged.
struct Held {
    slot: usize,
    account: usize,
    amount: usize,
    charges: [Charge; 2],
}

/// The product's books, here and in common, and the list that is their model.
struct Rig {
    budget: Budget,
    limits: [usize; 2],
    here: Arc<Gate>,
    meters: [Arc<Meter>; 2],
    ledger: Arc<Ledger>,
    /// Of each process.
    gates: Vec<Arc<Gate>>,
    common: Vec<[Arc<Meter>; 2]>,
    lives: [bool; SLOTS],
    open: Vec<Open>,
    held: Vec<Held>,
}

impl Rig {
    fn new(connections: usize, per_address: usize, limits: [usize; 2]) -> Self {
        let budget = Budget::default().connections(connections).per_address(per_address);
        let ledger = Arc::new(Ledger::new(SLOTS).unwrap());
        let share = |slot| ledger.share(slot);
        let meters =
            |slot| [0, 1].map(|account| Meter::common(limits[account], share(slot), ACCOUNTS[account]));
        Self {
            here: Gate::new(&budget),
            meters: limits.map(Meter::new),
            gates: (0..SLOTS).map(|slot| Gate::common(&budget, share(slot))).collect(),
            common: (0..SLOTS).map(meters).collect(),
            ledger,
            budget,
            limits,
            lives: [false; SLOTS],
            open: Vec::new(),
            held: Vec::new(),
        }
    }

    /// What the list says of one more connection.
    fn expected(&self, from: Option<char>) -> Result<(), Refused> {
        let same = self.open.iter().filter(|open| open.from == from).count();
        if self.open.len() >= self.budget.connections {
            Err(Refused::Full(self.budget.connections))
        } else if from.is_some() && same >= self.budget.per_address {
            Err(Refused::Address(self.budget.per_address))
        } else {
            Ok(())
        }
    }

    fn used(&self, account: usize) -> usize {
        self.held.iter().filter(|held| held.account == account).map(|held| held.amount).sum()
    }

    /// Whether an account has room for `amount` in the place of `instead`.
    fn has_room(&self, account: usize, amount: usize, instead: usize) -> bool {
        let others = (self.used(account) - instead) as u128;
        others + amount as u128 <= self.limits[account] as u128
    }

    fn admit(&mut self, slot: usize, from: Option<usize>, parent: bool) {
        let address: Option<IpAddr> = from.map(|from| ADDRESSES[from].0.parse().unwrap());
        let from = from.map(|from| ADDRESSES[from].1);
        let here = self.here.admit(address);
        let common = match address {
            Some(address) if parent => {
                self.ledger.admit(slot, address, &self.budget).map(|()| self.gates[slot].adopt(Some(address)))
            }
            _ => self.gates[slot].admit(address),
        };
        let answers = [&here, &common].map(|answer| answer.as_ref().map(drop).map_err(|why| *why));
        assert_eq!(answers, [self.expected(from); 2]);
        if let (Ok(here), Ok(common)) = (here, common) {
            self.open.push(Open { slot, from, permits: [here, common] });
        }
    }

    /// Nobody drops what a killed process had, but who looks after it.
    fn kill(&mut self, slot: usize) {
        let mut connections = 0;
        for open in self.open.extract_if(.., |open| open.slot == slot) {
            let [here, common] = open.permits;
            drop(here);
            mem::forget(common);
            connections += 1;
        }
        for held in self.held.extract_if(.., |held| held.slot == slot) {
            let [here, common] = held.charges;
            drop(here);
            mem::forget(common);
        }
        assert_eq!(self.ledger.clear(slot), connections);
        self.lives[slot] = false;
    }

    /// Steps that the processes of a server cannot take do nothing.
    fn step(&mut self, step: &Step) {
        let has_accepted = |slot| self.open.iter().any(|open| open.slot == slot && open.from.is_some());
        match *step {
            Step::Begin { slot } => {
                self.ledger.occupy(slot);
                self.lives[slot] = true;
            }
            Step::Kill { slot } if self.lives[slot] => self.kill(slot),
            Step::Accept { slot, from, parent } if self.lives[slot] && !has_accepted(slot) => {
                self.admit(slot, Some(from), parent);
            }
            Step::Dial { slot } if self.lives[slot] => self.admit(slot, None, false),
            Step::Close { which } if !self.open.is_empty() => {
                drop(self.open.remove(which % self.open.len()));
            }
            Step::Charge { slot, account, amount } if self.lives[slot] => {
                let charges =
                    [self.meters[account].charge(amount), self.common[slot][account].charge(amount)];
                assert_eq!(charges.each_ref().map(Option::is_some), [self.has_room(account, amount, 0); 2]);
                if let [Some(here), Some(common)] = charges {
                    self.held.push(Held { slot, account, amount, charges: [here, common] });
                }
            }
            Step::Change { which, amount } if !self.held.is_empty() => {
                let which = which % self.held.len();
                let (account, before) = (self.held[which].account, self.held[which].amount);
                // Less is always possible.
                let fits = amount <= before || self.has_room(account, amount, before);
                let held = &mut self.held[which];
                assert_eq!(held.charges.each_mut().map(|charge| charge.change(amount)), [fits; 2]);
                held.amount = if fits { amount } else { before };
            }
            Step::GiveBack { which } if !self.held.is_empty() => {
                drop(self.held.remove(which % self.held.len()));
            }
            _ => {}
        }
    }

    /// Every book says what the list says, whoever asks.
    fn compare(&self) {
        assert_eq!(self.here.open(), self.open.len());
        assert!(self.gates.iter().all(|gate| gate.open() == self.open.len()));
        for account in [0, 1] {
            let meters = [&self.meters].into_iter().chain(&self.common);
            assert!(meters.map(|meters| meters[account].used()).all(|used| used == self.used(account)));
        }
        let is_open = |from: &char| self.open.iter().any(|open| open.from == Some(*from));
        let addresses = ['a', 'b', 'c', 'd'].iter().filter(|from| is_open(from)).count();
        let counted = [self.here.addresses(), self.ledger.snapshot().addresses];
        assert_eq!(counted, [addresses; 2], "addresses with connections, and none without");
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    let amount = prop_oneof![20 => 0_usize..12, 1 => Just(usize::MAX)];
    prop_oneof![
        2 => slot.clone().prop_map(|slot| Step::Begin { slot }),
        1 => slot.clone().prop_map(|slot| Step::Kill { slot }),
        4 => (slot.clone(), 0..ADDRESSES.len(), any::<bool>())
            .prop_map(|(slot, from, parent)| Step::Accept { slot, from, parent }),
        2 => slot.clone().prop_map(|slot| Step::Dial { slot }),
        2 => any::<usize>().prop_map(|which| Step::Close { which }),
        3 => (slot, 0..2_usize, amount.clone())
            .prop_map(|(slot, account, amount)| Step::Charge { slot, account, amount }),
        3 => (any::<usize>(), amount).prop_map(|(which, amount)| Step::Change { which, amount }),
        1 => any::<usize>().prop_map(|which| Step::GiveBack { which }),
    ]
}

proptest! {
    #[test]
    fn the_accounts_say_what_a_list_says_in_one_process_and_over_several_of_which_any_is_killed(
        connections in 0_usize..8,
        per_address in 0_usize..4,
        limits in [0_usize..30, 0_usize..30],
        steps in vec(steps(), 1..120),
    ) {
        let mut rig = Rig::new(connections, per_address, limits);
        for step in &steps {
            rig.step(step);
            rig.compare();
        }
        rig.open.clear();
        rig.held.clear();
        rig.compare();
        prop_assert_eq!((rig.here.open(), rig.ledger.open()), (0, 0));
    }
}
