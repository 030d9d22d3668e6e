//! The other two servers, as one that computes with them sees them: every query sends each a message and waits for one.

use std::time::Duration;

use bytes::Bytes;

use roadstead_exchange::{Exchange, GatherError, Gathered, Key, MemberId};

use crate::arithmetic::party::Party;

/// How long a server waits for the others' parts of a row, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Carries messages between the servers of a cluster; each message belongs to a query.
pub trait Peers: Send + Sync + 'static {
    /// Sends `messages` to the two others and calls `done`, once, with the messages that they sent for the same
    /// `query`, in the order of the parties, or when `patience` is over. Does not block; `done` is short and does not
    /// either.
    fn exchange(&self, query: u128, messages: [(Party, Bytes); 2], patience: Duration, done: Done);
}

/// What is called in the end.
pub type Done = Box<dyn FnOnce(Result<[(Party, &[u8]); 2], Absent>) + Send>;

/// Who took no part in a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} took no part: {why}", names(.missing))]
pub struct Absent {
    /// Which servers.
    pub missing: Vec<Party>,
    /// What happened, in words for people.
    pub why: String,
}

fn names(missing: &[Party]) -> String {
    let names: Vec<String> = missing.iter().map(Party::to_string).collect();
    names.join(" and ")
}

/// Members of the exchange are the parties, by their numbers.
impl Peers for Exchange {
    fn exchange(&self, query: u128, messages: [(Party, Bytes); 2], patience: Duration, done: Done) {
        let key = Key { query, round: 0 };
        for (party, message) in messages {
            if let Err(error) = self.send(MemberId(party.number()), key, message) {
                self.forget(key);
                return done(Err(Absent { missing: vec![party], why: error.to_string() }));
            }
        }
        self.gather(key, patience, move |result| match result {
            Ok(gathered) => done(in_parties(&gathered)),
            Err(error) => done(Err(absent(&error))),
        });
    }
}

fn in_parties(gathered: &Gathered) -> Result<[(Party, &[u8]); 2], Absent> {
    let named = gathered.iter().filter_map(|(id, message)| Some((Party::new(id.0)?, &message[..])));
    let why = "the members of the exchange are not the three servers";
    <[_; 2]>::try_from(named.collect::<Vec<_>>()).map_err(|_| Absent { missing: Vec::new(), why: why.into() })
}

fn absent(error: &GatherError) -> Absent {
    let missing = match error {
        GatherError::Missing { missing, .. } => missing.iter().filter_map(|it| Party::new(it.id.0)).collect(),
        GatherError::Repeated => Vec::new(),
    };
    Absent { missing, why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use roadstead_exchange::Missing;

    use super::*;

    #[test]
    fn all_who_are_missing_at_the_deadline_took_no_part_and_nobody_if_it_is_the_callers_fault() {
        let missing = |ids: &[u8]| {
            let of = |&id: &u8| Missing { id: MemberId(id), address: ([127, 0, 0, 1], 9).into(), why: None };
            let error = GatherError::Missing {
                patience: Duration::from_secs(5),
                missing: ids.iter().map(of).collect(),
            };
            (absent(&error), error.to_string())
        };
        let [one, two, three] = Party::ALL;
        for (ids, parties) in
            [(&[2][..], vec![two]), (&[1, 3], vec![one, three]), (&[2, 3], vec![two, three])]
        {
            let (absent, why) = missing(ids);
            assert_eq!(absent, Absent { missing: parties, why });
        }
        assert_eq!(absent(&GatherError::Repeated).missing, []);
    }

    #[test]
    fn all_who_took_no_part_are_named() {
        let absent = |missing: &[Party]| Absent { missing: missing.into(), why: "gone".into() }.to_string();
        let [one, two, _] = Party::ALL;
        assert_eq!(absent(&[two]), format!("{two} took no part: gone"));
        assert_eq!(absent(&[one, two]), format!("{one} and {two} took no part: gone"));
    }
}
