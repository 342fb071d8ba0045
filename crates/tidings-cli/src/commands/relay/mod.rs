//! `tidings relay`: from an outbox table to where its events go.

pub(crate) mod check;
pub(crate) mod destination;
pub(crate) mod init;
pub(crate) mod run;
pub(crate) mod verify;
