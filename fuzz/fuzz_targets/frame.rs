//! The fuzz target `frame`; what it checks is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::frame::run(input));
