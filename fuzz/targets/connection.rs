//! A connection whose session reads frames, under any bytes in a network of any seed.
#![no_main]

#[path = "../properties/connection.rs"]
mod connection;

libfuzzer_sys::fuzz_target!(|data: &[u8]| connection::check(data));
