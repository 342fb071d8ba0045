//! `tidings event`: look-ups, counting, import and export.

pub(crate) mod count;
mod existing;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
mod known;
pub(crate) mod ls;
