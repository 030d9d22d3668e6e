//! What a parent and its children go by: limits, and how it may end.
#![forbid(unsafe_code)]

use std::{io, sync::Arc, time::Duration};

use roadstead_drivers::accept::Open;
use roadstead_proto::{budget::Budget, host::Shared, layer::Layers, queue::Queue, tuning::Tuning};

use crate::{audit::Audit, outcome::Undrained};

/// Makes the opener of a process's connections.
pub(crate) type MakeOpen = dyn Fn(Arc<Shared>) -> Arc<Open>;

/// What parent and children go by.
pub struct Plan {
    /// The limits of all processes together.
    pub budget: Budget,
    /// How sockets are set up.
    pub tuning: Tuning,
    /// In which order jobs run.
    pub queue: Queue,
    /// What stands between wire and sessions.
    pub layers: Option<Arc<dyn Layers>>,
    /// Who may ask what is held.
    pub audit: Option<Audit>,
    /// Makes what makes the endpoints of a process's connections.
    pub open: Box<MakeOpen>,
    /// How long a drain may take.
    pub patience: Duration,
}

/// Why a parent and its children came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum ForkEnd {
    /// A drain ran out of patience.
    #[error(transparent)]
    Undrained(#[from] Undrained),
    /// It was told to end at once.
    #[error("ended at once by a second signal")]
    Interrupted,
    /// The system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}
