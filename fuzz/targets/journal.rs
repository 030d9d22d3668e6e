//! Logs, as they are found on a disk.
#![no_main]

#[path = "../properties/journal.rs"]
mod journal;

libfuzzer_sys::fuzz_target!(|data: &[u8]| journal::check(data));
