//! What servers send each other.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roadstead_trident::fuzz::parts(data));
