//! The system's limit of descriptors, raised as far as it must and may be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::load::LoadError;

/// Descriptors that a process needs beside its connections.
const OTHERS: u64 = 64;

/// Lets this process, and those that it starts from now on, have so many connections: raises the soft limit of
/// descriptors if it is lower. Fails with [`LoadError::Descriptors`] if the hard limit is.
pub fn allow_connections(count: u64) -> Result<(), LoadError> {
    let needed = count + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if enough(limit.maximum) && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(LoadError::Descriptors { needed, limit: limit.maximum.unwrap_or(u64::MAX) })
}
