//! The fuzz target `look_up_table`; what it checks is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::look_up_table::run(input));
