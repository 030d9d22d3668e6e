//! Faults planted on purpose, and which test finds each: a measure of how sharp the tests are.
//!
//! The product's source stays clean. `faults/*.toml` says, for every fault, what a good engineer could have written
//! instead of what stands there, and what a user would see of it:
//!
//! ```toml
//! [[fault]]
//! name = "sleeps-over-a-wake"
//! file = "crates/proto/src/ticket/wake_queue.rs"
//! was = "self.woken.lock().unwrap_or_else(PoisonError::into_inner).is_empty()"
//! becomes = "true"
//! user = "a reply that comes just before the loop waits is not heard until something else happens"
//! tests = ["proto/lib ticket::"]
//! ```
//!
//! `was` stands in the file exactly once. Where it needs its surroundings to be found, what is replaced is between `«`
//! and `»`, in several places if need be. Each is a whole expression, or whole statements, since [`copy`](copy::plant)
//! makes a copy of the tree with
//!
//! ```text
//! (if planted::is!("sleeps-over-a-wake") { true } else { self.woken.lock()…is_empty() })
//! ```
//!
//! in it, or the same without the parentheses around statements. So one build has all faults, and the environment
//! variable `ROADSTEAD_PLANT` chooses one for a process and its children. Nothing of this can reach a release: no crate
//! of the product knows of it, and the copy lies under the target directory.
//!
//! A run plays each fault to the tests that are likely to find it, the quickest first ([`order`]), and stops at the
//! first that fails. A failure counts if the test fails again by itself with the fault, and passes three times without
//! it; a test program that does not end is a find if it ends without the fault. So nothing has to be green beforehand,
//! and a test that a busy machine disturbs is not taken for a sharp one.
//!
//! | what | file |
//! |---|---|
//! | what a fault is, and where it goes | `fault.rs` |
//! | the copy, and its build | `copy.rs`, `planted.rs` |
//! | which tests are tried, in which order | `order.rs` |
//! | a test program and whether it finds something | `program.rs`, `hunt.rs` |
//! | what was found, the table | `record.rs` |
#![forbid(unsafe_code)]

pub mod copy;
pub mod fault;
pub mod hunt;
pub mod order;
pub mod program;
pub mod record;
