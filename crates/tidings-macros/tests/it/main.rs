//! What the derive writes, and what it says to a wrong event.

mod compile_errors;
mod derive;
