//! What comes back of a job, and of which.
#![forbid(unsafe_code)]

use crate::guard::Guarded;

/// Names a deferred job within its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub(crate) u64);

/// The ticket was dropped unfinished: its job panicked, was cancelled, or forgot it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job was lost before it finished")]
pub struct Lost;

/// What a job came to. Whichever thread drops it, a panic of that ends there.
pub(crate) type Reply<R> = Guarded<Result<R, Lost>>;
