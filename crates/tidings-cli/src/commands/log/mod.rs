//! `tidings log`: the log of a data folder as a whole.

pub(crate) mod retention;
