//! Files of vectors in every format that is read.
#![no_main]

#[path = "../properties/dataset.rs"]
mod dataset;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dataset::check(data));
