//! A layer between a loop and an endpoint.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{
    contract::{End, Layers, Unmade, guarded},
    layered::Layered,
};
use crate::{endpoint::Endpoint, host::Shared};

/// `inner`, which speaks with its peer through a layer of its own. The loop that drives it sees an endpoint as any
/// other.
pub fn through(
    layers: &dyn Layers,
    inner: Box<dyn Endpoint>,
    end: End,
    shared: Arc<Shared>,
) -> Box<dyn Endpoint> {
    let layer = guarded(|| layers.layer()).unwrap_or_else(|error| Box::new(Unmade(Some(error))));
    Box::new(Layered::new(inner, layer, end, shared))
}
