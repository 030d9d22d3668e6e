//! Requests of RESP2, as an example service reads them.
#![no_main]

#[path = "../../crates/roadstead/examples/resp/request.rs"]
mod request;
#[path = "../properties/resp.rs"]
mod resp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| resp::check(data));
