//! A connection whose session reads frames, under any bytes in a network of any seed.
#![no_main]

#[path = "../properties/mirror.rs"]
mod mirror;
#[path = "../properties/network.rs"]
mod network;

libfuzzer_sys::fuzz_target!(|data: &[u8]| network::check(data));
