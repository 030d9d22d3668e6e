//! A client's reading of what three servers answer.
#![no_main]

#[path = "../properties/answers.rs"]
mod answers;
#[path = "../properties/sharing.rs"]
mod sharing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| answers::check(data));
