//! A connection under any order of events.
#![no_main]

#[path = "../properties/connection.rs"]
mod connection;
#[path = "../properties/mirror.rs"]
mod mirror;

libfuzzer_sys::fuzz_target!(|data: &[u8]| connection::check(data));
