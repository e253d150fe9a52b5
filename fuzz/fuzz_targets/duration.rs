#![no_main]

// The command is no library: its one file is built here.
#[path = "../../crates/tenure-cli/src/options/duration.rs"]
mod duration;

libfuzzer_sys::fuzz_target!(|text: &str| duration::check(text));
