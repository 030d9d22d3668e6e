//! The bytes between our TLS and a peer's, split, changed, lost, repeated and made up.
#![no_main]

#[path = "../properties/layer.rs"]
mod layer;

libfuzzer_sys::fuzz_target!(|data: &[u8]| layer::check(data));
