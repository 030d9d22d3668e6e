//! Threads that a measurement needs: where the system has no room for them it fails, in good order.

use std::{
    io,
    thread::{self, Scope, ScopedJoinHandle},
};

/// Begins a thread of `scope`.
pub(crate) fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(|error| {
        io::Error::other(format!(
            "no thread could be had: {error}; allow more (`ulimit -u`), or measure with fewer"
        ))
    })
}
