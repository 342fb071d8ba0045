//! `tidings relay`: from an outbox table to where its events go.

pub(crate) mod check;
mod destination;
pub(crate) mod init;
pub(crate) mod run;
pub(crate) mod verify;
