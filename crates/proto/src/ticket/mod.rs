//! Finishing something later, from any thread: tickets, the mailbox they come back to, and the wake queue that wakes
//! the loop.
//!
//! ```text
//! worker ── Ticket::finish ──▶ Mailbox (one per connection) ── WakeFlag ──▶ WakeQueue (one per loop) ──▶ the loop's wait
//! ```
//! A wake flag that is up does not wake again, so a burst of replies costs one wake.
#![forbid(unsafe_code)]

mod handles;
mod mailbox;
mod reply;
#[cfg(test)]
mod tests;
mod token;
mod wake_flag;
mod wake_queue;

pub use handles::{Ticket, Waker};
pub(crate) use mailbox::Mailbox;
pub use reply::{JobId, Lost};
pub use token::Token;
pub(crate) use wake_flag::WakeFlag;
pub use wake_queue::WakeQueue;
