//! Why a server does not answer, in words and as the numbers that stand for them on the wire.

use thiserror::Error;

use roadstead_proto::frame::FrameError;

use super::manifest::Digest;
use super::wire::{BodyError, Kind, Refusal, VERSION};
use crate::arithmetic::{dpf::KeyError, party::Party};

/// The code of a refusal because the server's own shares could not be read.
pub const CODE_STORE: u16 = 101;
/// The code of a refusal because the server has no peers to share a result with.
pub const CODE_NO_PEERS: u16 = 102;
/// The code of a refusal because another server took no part, or a malformed one.
pub const CODE_PEERS: u16 = 103;

/// Why a connection is refused; the client's fault each time.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Another version of the protocol.
    #[error("the client speaks version {0}, this server {v}; update the older one", v = VERSION)]
    Version(u16),
    /// The client takes this server for another.
    #[error("the client wants {wanted}, this is {this}; check the order of the addresses")]
    Party {
        /// Whom the client wants.
        wanted: Party,
        /// Who this is.
        this: Party,
    },
    /// Client and server hold different sharings.
    #[error("the client's manifest is {theirs}, this server's {ours}; both must come from one run of share")]
    Manifest {
        /// Digest of the client's.
        theirs: Digest,
        /// Digest of the server's.
        ours: Digest,
    },
    /// A message at the wrong time.
    #[error("a message of kind {0:?} is not allowed now")]
    Order(Kind),
    /// The nonce in this server's place is not the one it issued.
    #[error("the nonce in the place of {0} was not issued to this connection")]
    Nonce(Party),
    /// A counter that does not rise.
    #[error("counter {got} is not above {last}")]
    Counter {
        /// Counter received.
        got: u64,
        /// Highest counter before.
        last: u64,
    },
    /// A malformed selection key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A malformed body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The collection has no search shares.
    #[error("this collection was shared for fetching only")]
    NoSearch,
    /// Nothing is proven about a client that has to prove it.
    #[error("the client has proven nothing about itself: this sharing is served over TLS only")]
    Unproven,
    /// A server in the place of a client.
    #[error(
        "the certificate is that of {0}: a server of the sharing may not ask for what it holds a share of"
    )]
    Server(Party),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Refused {
    /// The number that stands for this refusal on the wire.
    pub fn code(&self) -> u16 {
        match self {
            Self::Version(_) => 1,
            Self::Party { .. } => 2,
            Self::Manifest { .. } => 3,
            Self::Order(_) => 4,
            Self::Nonce(_) => 5,
            Self::Counter { .. } => 6,
            Self::Key(_) => 7,
            Self::Body(_) => 8,
            Self::NoSearch => 9,
            Self::Unproven => 10,
            Self::Server(_) => 11,
            Self::Frame(_) => 12,
        }
    }

    /// The message that tells the client.
    pub fn refusal(&self) -> Refusal {
        Refusal { counter: 0, code: self.code(), text: self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_number_of_its_own_that_never_changes_and_says_whose_is_what() {
        let [one, two, three] = Party::ALL;
        let [theirs, ours] = [1, 2].map(|byte| Digest([byte; 32]));
        for (code, refused, words) in [
            (1, Refused::Version(7), "the client speaks version 7, this server 2".to_owned()),
            (2, Refused::Party { wanted: one, this: two }, format!("the client wants {one}, this is {two}")),
            (
                3,
                Refused::Manifest { theirs, ours },
                format!("the client's manifest is {theirs}, this server's {ours}"),
            ),
            (4, Refused::Order(Kind::Fetched), "a message of kind Fetched is not allowed now".into()),
            (5, Refused::Nonce(three), format!("the nonce in the place of {three}")),
            (6, Refused::Counter { got: 3, last: 4 }, "counter 3 is not above 4".into()),
            (7, Refused::Key(KeyError::StrayBits), KeyError::StrayBits.to_string()),
            (8, Refused::Body(BodyError::Element { at: 5 }), "element 5 is not below p".into()),
            (9, Refused::NoSearch, "this collection was shared for fetching only".into()),
            (10, Refused::Unproven, "the client has proven nothing about itself".into()),
            (11, Refused::Server(two), format!("the certificate is that of {two}")),
            (12, Refused::Frame(FrameError::Magic), FrameError::Magic.to_string()),
        ] {
            let refusal = refused.refusal();
            assert_eq!((refused.code(), refusal.code, refusal.counter), (code, code, 0));
            assert!(refusal.text.starts_with(&words), "{}", refusal.text);
        }
        assert_eq!([CODE_STORE, CODE_NO_PEERS, CODE_PEERS], [101, 102, 103]);
    }
}
