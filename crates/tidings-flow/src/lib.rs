//! The behaviour of tidings, written against ports only: it never names an adapter.

pub mod handler;
