//! Round robin: every connection that has something waiting has its turn, one slice, and then it is the next one's.
//!
//! So a connection that asks for much waits for itself, and the others do not wait for it (J. Nagle, RFC 970, section
//! "Fairness in packet switching systems"; among processes `SCHED_RR` in sched(7)). Within a connection tasks take
//! turns too: one that is not done after its slice goes behind the connection's others.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use super::task::{Discipline, Owner, Task};

/// A turn: a hundred times what it costs to change the task, and less than anybody notices.
const SLICE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Rr {
    /// Who has something waiting, in the order of their turns; each once.
    turns: VecDeque<Owner>,
    /// What they have waiting; nobody has an empty line.
    lines: HashMap<Owner, VecDeque<Task>>,
}

impl Discipline for Rr {
    fn push(&mut self, task: Task) {
        match self.lines.entry(task.owner) {
            Entry::Occupied(line) => line.into_mut().push_back(task),
            Entry::Vacant(place) => {
                self.turns.push_back(task.owner);
                place.insert(VecDeque::from([task]));
            }
        }
    }

    fn pop(&mut self) -> Option<(Task, Duration)> {
        let owner = self.turns.pop_front()?;
        let line = self.lines.get_mut(&owner)?;
        let task = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        Some((task, SLICE))
    }

    fn is_ready(&self) -> bool {
        !self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::queue::tests::{order, pops_until, run, sliced, task};

    #[test]
    fn connections_take_turns_and_each_keeps_its_order() {
        let mut queue = Rr::default();
        for (number, owner) in [7, 7, 7, 8, 8, 9].into_iter().enumerate() {
            queue.push(task(number, owner, 0));
        }
        assert_eq!(order(&mut queue), [0, 3, 5, 1, 4, 2]);
    }

    #[test]
    fn a_long_task_keeps_neither_its_own_connection_waiting_nor_another() {
        let mut queue = Rr::default();
        queue.push(sliced(0, 7, 3));
        queue.push(task(1, 7, 0));
        queue.push(task(2, 8, 0));
        assert_eq!(order(&mut queue), [0, 2, 1, 0, 0]);
    }

    #[test]
    fn new_connections_starve_no_old_one() {
        let mut queue = Rr::default();
        (0..3).for_each(|number| queue.push(task(number, 7, 0)));
        for found in 0..3 {
            let taken = pops_until(&mut queue, found, |number| task(number, number as u64, 0));
            assert!(taken <= 1 << found, "task {found} after {taken}");
        }
    }

    proptest! {
        /// Between two turns of a connection no other one has two, and none that waits has none.
        #[test]
        fn nobody_has_two_turns_while_another_waits(owners in vec(0_u64..5, 1..200), burst in 1_usize..9) {
            let mut queue = Rr::default();
            let mut arrivals = owners.iter().copied().enumerate();
            // For everybody who waits, who has had a turn since.
            let mut since: HashMap<u64, Vec<u64>> = HashMap::new();
            let mut left: HashMap<u64, usize> = HashMap::new();
            loop {
                for (number, owner) in arrivals.by_ref().take(burst) {
                    queue.push(task(number, owner, 0));
                    since.entry(owner).or_default();
                    *left.entry(owner).or_default() += 1;
                }
                let Some((task, slice)) = queue.pop() else { break };
                prop_assert_eq!(slice, SLICE);
                let owner = owners[run(task).0];
                for (waits, turns) in &mut since {
                    prop_assert!(*waits == owner || !turns.contains(&owner), "{owner} twice before {waits}");
                    turns.push(owner);
                }
                since.remove(&owner);
                let left = left.get_mut(&owner).unwrap();
                *left -= 1;
                if *left > 0 {
                    since.insert(owner, Vec::new());
                }
            }
            prop_assert!(since.is_empty());
        }
    }
}
