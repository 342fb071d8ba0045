//! The fuzz target `segment_open`; what it checks is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::segment_open::run(input));
