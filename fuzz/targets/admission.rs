//! A server's way from hello to requests, under any messages in any order.
#![no_main]

#[path = "../properties/admission.rs"]
mod admission;
#[path = "../properties/sharing.rs"]
mod sharing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| admission::check(data));
