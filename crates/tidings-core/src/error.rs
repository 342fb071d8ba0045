//! What an error means for the one who gets it: may it be tried again, and may the effect have happened.

/// The consequence of an error; retry and dead-letter decisions are read off it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The world is at fault and may heal: try again later, unchanged.
    Transient,
    /// The same input will fail the same way: change the input or the configuration.
    Permanent,
    /// The component stopped itself to protect what it holds: reopen it.
    Poison,
    /// The program is wrong; please report it.
    Bug,
}

impl ErrorClass {
    /// Whether trying again unchanged can help.
    pub fn is_transient(self) -> bool {
        self == Self::Transient
    }
}

/// The message of an error with the messages of its causes behind it, outermost first.
///
/// ```
/// let io = std::io::Error::other("disk on fire");
/// assert_eq!(tidings_core::error::chain(&io), vec!["disk on fire".to_owned()]);
/// ```
pub fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        messages.push(cause.to_string());
        source = cause.source();
    }
    messages
}
