//! Frames.
#![no_main]

#[path = "../properties/frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frame::check(data));
