//! Finishing something later, from any thread: tickets, the mailbox they come back to, and the bell that wakes the loop.
//!
//! ```text
//! worker ── Ticket::finish ──▶ Mailbox (one per connection) ── Alarm ──▶ Bell (one per loop) ──▶ the loop's wait
//! ```
//! An alarm that has rung and has not been heard does not ring again, so a burst of replies costs one wake.
#![forbid(unsafe_code)]

mod alarm;
mod bell;
mod handles;
mod mailbox;
mod reply;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use alarm::Alarm;
pub use bell::Bell;
pub use handles::{Ticket, Waker};
pub(crate) use mailbox::Mailbox;
pub use reply::{JobId, Lost};
pub use token::Token;
