//! `Failure`: why a chore did not succeed, as the sentence that the person at the terminal reads.

use std::fmt;
use std::path::Path;

/// One sentence: what failed, on which value, and what to do.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure(message.into())
    }

    /// A file operation that failed: the verb, the path, the system's reason.
    pub(crate) fn file(verb: &str, path: &Path, cause: &std::io::Error) -> Failure {
        Failure(format!("cannot {verb} {}: {cause}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
