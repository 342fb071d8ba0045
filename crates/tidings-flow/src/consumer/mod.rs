//! The consumer runtime, and handlers that are processes.

pub mod process;
