//! What the processes of one server have in common.

pub(crate) mod ledger;
pub(crate) mod shared_memory;

#[cfg(test)]
mod reference;
