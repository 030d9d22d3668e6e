//! What a peer says on a link between the members of an exchange.
#![no_main]

#[path = "../properties/link.rs"]
mod link;

libfuzzer_sys::fuzz_target!(|data: &[u8]| link::check(data));
