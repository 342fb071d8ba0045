//! What a command answers when it fails: a message with what, which value and what to do, a stable code, an exit code.

use std::fmt::Display;
use std::process::ExitCode;
use tidings::Code;
use tidings::broker::{BrokerError, PublishError};
use tidings::core::codes;
use tidings::core::store::StoreError;
use tidings::flow::outbox::RelayError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
    causes: Vec<String>,
    quiet: bool,
}

impl Failure {
    /// A failure with a code of its own.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            quiet: false,
        }
    }

    /// Arguments that do not fit together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(codes::USAGE, message)
    }

    /// A file, or standard input or output, that cannot be used. A closed pipe behind us is not told: whoever closed it knows.
    pub(crate) fn file(action: &str, path: impl Display, error: &std::io::Error) -> Self {
        let quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => codes::DISK_FULL,
            _ => codes::FILE,
        };
        Self {
            quiet,
            ..Self::new(code, format!("cannot {action} {path}: {error}"))
        }
    }

    /// The stable code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What, which value, and what to do.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The exit code.
    fn exit(&self) -> u8 {
        if self.quiet {
            return 0;
        }
        exit_code(self.code)
    }

    /// Prints the failure to standard error and gives the exit code.
    pub(crate) fn report(self, verbose: bool) -> ExitCode {
        if !self.quiet {
            eprintln!("error[{}]: {}", self.code, self.message);
            if verbose {
                for cause in &self.causes {
                    eprintln!("  caused by: {cause}");
                }
            }
            eprintln!("  see docs/errors/{}.md", self.code);
        }
        ExitCode::from(self.exit())
    }
}

/// The exit code that a code stands for.
pub(crate) fn exit_code(code: Code) -> u8 {
    if [
        codes::GROUP_NAME_INVALID,
        codes::PATTERN_INVALID,
        codes::START_INVALID,
        codes::USAGE,
        codes::COMMAND_MISSING,
        codes::CONFIG_INVALID,
        codes::STORE_URL_INVALID,
        codes::BROKER_URL_INVALID,
        codes::STORE_REFUSED,
        codes::DESTINATION_WITHOUT_HISTORY,
        codes::WEBHOOK_URL_INVALID,
        codes::WEBHOOK_SECRET_INVALID,
        codes::WEBHOOK_NOT_BUILT_IN,
        codes::LETTER_EDIT_INVALID,
    ]
    .contains(&code)
    {
        2
    } else if [
        codes::FOLDER_MISSING,
        codes::EVENT_UNKNOWN,
        codes::GROUP_UNKNOWN,
        codes::STORE_TABLE_MISSING,
        codes::TOPOLOGY_MISSING,
        codes::LETTER_UNKNOWN,
    ]
    .contains(&code)
    {
        3
    } else if [
        codes::FOLDER_OWNED,
        codes::FOLDER_FOREIGN,
        codes::GROUP_LEASED,
        codes::FOLDER_NOT_PRIVATE,
        codes::EVENTS_ELSEWHERE,
        codes::FORMAT_NEWER,
        codes::EVENTS_CONFLICT,
        codes::STORE_CONFLICT,
        codes::STORE_SHAPE_WRONG,
        codes::TOPOLOGY_WRONG,
        codes::STORE_SCHEMA_NEWER,
        codes::ADDRESS_TAKEN,
        codes::LETTER_DECIDED,
    ]
    .contains(&code)
    {
        5
    } else if [
        codes::STORE_PRIVILEGE_MISSING,
        codes::BROKER_UNAUTHORISED,
        codes::WEBHOOK_ADDRESS_REFUSED,
    ]
    .contains(&code)
    {
        6
    } else if [codes::STORE_UNAVAILABLE, codes::BROKER_UNREACHABLE].contains(&code) {
        7
    } else if code == codes::CIRCUIT_OPEN {
        // EX_UNAVAILABLE of sysexits.h.
        69
    } else if code == codes::REDRIVE_ABORTED {
        4
    } else if code == codes::INTERRUPTED {
        130
    } else {
        1
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let causes = tidings::core::error::chain(&error).split_off(1);
        Self {
            causes,
            ..Self::new(error.code(), error.to_string())
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<tidings::Error> for Failure {
    fn from(error: tidings::Error) -> Self {
        let causes = tidings::core::error::chain(&error).split_off(1);
        Self {
            causes,
            ..Self::new(error.code(), error.to_string())
        }
    }
}
