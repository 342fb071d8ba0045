//! The fuzz target `cloudevents_json`; what it checks is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::cloudevents_json::run(input));
