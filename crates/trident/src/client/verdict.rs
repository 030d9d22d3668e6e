//! What can be wrong with the answers of three servers.

use thiserror::Error;

use crate::{
    agreed::wire::BodyError,
    arithmetic::{check::Check, party::Party},
};

/// Why an answer is not believed: the servers' fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    /// One server's answer is malformed.
    #[error("{party} sent a malformed answer: {error}")]
    Malformed {
        /// Which server.
        party: Party,
        /// What is wrong with it.
        error: BodyError,
    },
    /// One server answered another request.
    #[error("{party} answered request {got} instead of {want}")]
    Counter {
        /// Which server.
        party: Party,
        /// Counter of the answer.
        got: u64,
        /// Counter of the request.
        want: u64,
    },
    /// Too few answers.
    #[error("two answers are needed, and {0} is among those that did not answer")]
    Missing(Party),
    /// The answers together are wrong; which of them is, nobody can tell.
    #[error("the answer is wrong and was refused: check failed: {0}")]
    Refused(#[from] Check),
}

/// One answer of three that does not go with a row that the two others give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Odd {
    /// It is none, which proves that its server does not keep to the protocol.
    #[error(transparent)]
    Malformed(AnswerError),
    /// It is another share than the two others make it. That proves nobody's fault: one of the two may have sent this
    /// server a wrong part of its share.
    #[error(
        "the answer of {0} contradicts the other two, from which the row was made and checked: \
         one of the three, no check can tell which, does not compute with what it was given"
    )]
    Contradicts(Party),
}

impl Odd {
    /// Whose answer it is.
    pub fn party(&self) -> Option<Party> {
        match self {
            Self::Contradicts(party)
            | Self::Malformed(AnswerError::Malformed { party, .. } | AnswerError::Counter { party, .. }) => {
                Some(*party)
            }
            Self::Malformed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_answer_is_that_of_the_server_that_gave_it_if_one_did() {
        for party in Party::ALL {
            let malformed = AnswerError::Malformed { party, error: BodyError::Element { at: 1 } };
            let counter = AnswerError::Counter { party, got: 1, want: 2 };
            for odd in [Odd::Contradicts(party), Odd::Malformed(malformed), Odd::Malformed(counter)] {
                assert_eq!(odd.party(), Some(party), "{odd}");
                assert!(odd.to_string().contains(&party.to_string()), "{odd}");
            }
            assert_eq!(
                Odd::Malformed(AnswerError::Missing(party)).party(),
                None,
                "who said nothing said nothing odd"
            );
        }
        assert_eq!(Odd::Malformed(Check::RowDigest.into()).party(), None);
    }
}
