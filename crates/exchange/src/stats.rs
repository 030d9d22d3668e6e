//! What an exchange counts: the health of each peer's links, and what came at the wrong time.
#![forbid(unsafe_code)]

use crate::options::MemberId;

/// An exchange's counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExchangeStats {
    /// Each peer's, in the order of their numbers.
    pub peers: Vec<(MemberId, PeerStats)>,
    /// Messages that came after their gather was over, and were dropped.
    pub late: u64,
    /// Messages that came twice, and were dropped.
    pub duplicate: u64,
    /// Messages that nobody has gathered in time, and were dropped.
    pub unclaimed: u64,
    /// Connections of peers that were refused.
    pub refused: u64,
    /// Gathers that are not complete, and messages' keys for which no gather has come.
    pub waiting: usize,
    /// Bytes that messages are charged with that were received and not yet dropped.
    pub held: usize,
}

/// The counts of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Links that can carry messages.
    pub up: usize,
    /// Links that this side has begun to open.
    pub connections_opened: u64,
    /// Links that were lost, or could not be opened.
    pub lost: u64,
    /// Why it could not be reached when that was last tried; none while it can.
    pub trouble: Option<String>,
    /// Messages that came whole.
    pub messages_in: u64,
    /// Messages that it has confirmed.
    pub messages_out: u64,
    /// Messages given up before they could be sent.
    pub expired: u64,
    /// Bytes of messages that came; an empty one counts as one byte.
    pub bytes_in: u64,
    /// Bytes of messages sent; an empty one counts as one byte.
    pub bytes_out: u64,
    /// Bytes that messages are charged with that wait to be sent, or to be confirmed.
    pub queued: usize,
    /// The most bytes that a message of a single part had before it on its link: sent and not confirmed.
    pub most_ahead: u64,
}
