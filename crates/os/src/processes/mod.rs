//! The processes of one server: a parent that accepts nothing itself, its children, and what they have in common.

pub mod child;
pub mod ledger;
pub mod parent;
pub mod plan;
pub mod prefork;
pub mod process;
pub mod shared_memory;

#[cfg(test)]
mod reference;
