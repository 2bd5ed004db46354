//! The check of `socket_io` on whatever libFuzzer comes up with.
#![no_main]

#[allow(dead_code)]
#[path = "../../crates/wire/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::socket_io(bytes));
