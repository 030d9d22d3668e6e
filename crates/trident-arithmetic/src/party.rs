//! The three servers, and what follows from a server's number: its components and its roles in their selection, its
//! neighbours, its coefficient.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::field::P;

/// A server's number: 1, 2 or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Party(u8);

impl Party {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self(1), Self(2), Self(3)];

    /// The party of that number, if there is one.
    pub fn new(number: u8) -> Option<Self> {
        (1..=3).contains(&number).then_some(Self(number))
    }

    /// 1, 2 or 3.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Position in arrays over the parties: 0, 1 or 2.
    pub fn index(self) -> usize {
        usize::from(self.0 - 1)
    }

    /// The party after this one, cyclically.
    pub fn next(self) -> Self {
        Self(self.0 % 3 + 1)
    }

    /// The party before this one, cyclically.
    pub fn previous(self) -> Self {
        self.next().next()
    }

    /// The components that this party holds, and its role in the selection of each: all but the one of its own number.
    ///
    /// Component c is held by the parties after c; the first of them is [`Role::First`].
    pub fn components(self) -> [(u8, Role); 2] {
        [(self.next().0, Role::Second), (self.previous().0, Role::First)]
    }

    /// Its coefficient in the interpolation of a polynomial of degree two at zero: 3, -3, 1 modulo p.
    pub fn coefficient(self) -> u32 {
        [3, P - 3, 1][self.index()]
    }
}

/// Which key of a pair a server expands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts with control bit 0.
    First,
    /// Starts with control bit 1.
    Second,
}

impl TryFrom<u8> for Party {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a party is 1, 2 or 3")
    }
}

impl From<Party> for u8 {
    fn from(party: Party) -> Self {
        party.0
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_is_held_by_two_parties_in_two_roles() {
        for component in 1..=3 {
            let mut roles = Vec::new();
            for party in Party::ALL {
                let held = party.components();
                assert!(held.iter().all(|(held, _)| *held != party.number()));
                roles.extend(held.iter().filter(|(held, _)| *held == component).map(|(_, role)| *role));
            }
            roles.sort_by_key(|role| *role as u8);
            assert_eq!(roles, [Role::First, Role::Second]);
        }
    }

    #[test]
    fn the_parties_stand_in_a_ring_and_nobody_else_does() {
        let [one, two, three] = Party::ALL;
        assert_eq!(Party::ALL.map(Party::next), [two, three, one]);
        assert_eq!(Party::ALL.map(Party::previous), [three, one, two]);
        assert_eq!(Party::ALL.map(Party::number), [1, 2, 3]);
        assert_eq!(Party::ALL.map(Party::index), [0, 1, 2]);
        for number in 0..=u8::MAX {
            assert_eq!(Party::new(number).map(Party::number), (1..=3).contains(&number).then_some(number));
        }
    }
}
