//! Keys of selectors whose shares lie on lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roadstead_trident::fuzz::selectors(data));
