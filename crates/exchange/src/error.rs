//! Why an exchange does not start, does not send, or has not gathered.
#![forbid(unsafe_code)]

use std::{fmt, io, net::SocketAddr, time::Duration};

use roadstead_proto::layer::Unfit;

use crate::options::MemberId;

/// Why a message was not taken for sending: the caller's fault, or too much at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No member has this number, or it is this one's own.
    #[error("{0} is not a peer of this exchange")]
    Unknown(MemberId),
    /// Larger than any message may be.
    #[error("a message of {length} bytes; at most {limit} can be sent")]
    TooLarge {
        /// Its length.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// As much as may wait for this peer does so already.
    #[error("{limit} bytes already wait to be sent to {to}")]
    Full {
        /// To whom.
        to: MemberId,
        /// How much may wait, in bytes.
        limit: usize,
    },
}

/// A member whose message did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Who.
    pub id: MemberId,
    /// Where it was expected.
    pub address: SocketAddr,
    /// What is known of the reason, if there is no link to it.
    pub why: Option<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.address)?;
        self.why.iter().try_for_each(|why| write!(f, " ({why})"))
    }
}

/// Why a gather has not what it wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// The deadline has passed.
    #[error("no message within {patience:?} from {}", names(.missing))]
    Missing {
        /// How long was waited.
        patience: Duration,
        /// Whose messages are missing.
        missing: Vec<Missing>,
    },
    /// This key was gathered before, or given up: the caller's fault, or it came too late.
    #[error("the messages of this query and round were gathered or given up before")]
    Repeated,
}

fn names(missing: &[Missing]) -> String {
    let names: Vec<String> = missing.iter().map(Missing::to_string).collect();
    names.join(", ")
}

/// Why an exchange could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The members are not a cluster.
    #[error("{0}")]
    Members(String),
    /// Without keys nobody else may reach the members.
    #[error("{0} is not a loopback address: links without keys stay on one machine; give the members keys")]
    Open(SocketAddr),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] Unfit),
    /// The system.
    #[error("the exchange could not be started: {0}")]
    System(#[from] io::Error),
}
