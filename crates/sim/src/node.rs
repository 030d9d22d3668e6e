//! One simulated machine, as a run sees it.

use std::{sync::Arc, time::Duration};

use roadstead_drivers::orders::{Order, Orders};
use roadstead_proto::{host::Shared, ticket::WakeQueue};

use crate::{jobs::Backlog, tenant::Resident, turns::Turns};

/// One simulated machine.
pub(crate) struct Node {
    /// Gone once the node has drained or stopped, with all that it held.
    pub(crate) turns: Option<Box<dyn Turns>>,
    pub(crate) shared: Arc<Shared>,
    /// How each of its loops is called.
    pub(crate) loops: Vec<(Arc<Orders>, Arc<WakeQueue>)>,
    /// The numbers of their pollers.
    pub(crate) pollers: Vec<usize>,
    pub(crate) backlogs: Vec<Backlog>,
    pub(crate) paused: Duration,
    pub(crate) resident: Option<Box<dyn Resident>>,
}

impl Node {
    /// Whether a job waits that will be run.
    fn has_jobs(&self) -> bool {
        self.turns.is_some() && self.backlogs.iter().any(|backlog| !backlog.is_empty())
    }

    /// Whether it does nothing more on its own account. The connections of a resident stay open until it is drained.
    pub(crate) fn is_done(&self) -> bool {
        match self.resident() {
            Some(resident) => resident.held().iter().all(|(_, left)| *left == 0),
            None => self.shared.gate.open() == 0 && !self.has_jobs(),
        }
    }

    /// Who lives here.
    pub(crate) fn resident(&self) -> Option<&dyn Resident> {
        self.resident.as_deref().filter(|_| self.turns.is_some())
    }

    /// What it was ordered.
    pub(crate) fn order(&self) -> Order {
        self.loops[0].0.order()
    }

    /// Has it let nobody in and end when all are gone.
    pub(crate) fn drain(&self) {
        self.loops.iter().for_each(|(orders, wake_queue)| orders.drain(wake_queue));
    }

    /// Has it end at once.
    pub(crate) fn stop(&self) {
        self.loops.iter().for_each(|(orders, wake_queue)| orders.stop(wake_queue));
    }
}
