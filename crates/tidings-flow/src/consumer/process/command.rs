//! The command of a handler: split into words by the rules of a shell, its program found before the first event.

use super::{StderrRoute, environment};
use rustix::fs::{Access, access};
use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tidings_core::limits::PARALLEL_MAX;
use tidings_core::{Code, ErrorClass, codes};

/// Where a program is looked for when there is no `PATH`; what `execvp` does.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A command whose program exists.
#[derive(Debug, Clone)]
pub(super) struct HandlerCommand {
    program: PathBuf,
    name: String,
    arguments: Vec<String>,
    working_directory: Option<PathBuf>,
    stderr_route: StderrRoute,
}

impl HandlerCommand {
    /// Splits a command into words and finds its program. A program named with a slash is looked for from the working directory, as the
    /// process itself would.
    pub(super) fn resolve(
        text: &str,
        working_directory: Option<&Path>,
        stderr_route: StderrRoute,
    ) -> Result<Self, ProcessError> {
        if text.contains('\0') {
            return Err(ProcessError::Unreadable {
                command: text.to_owned(),
                rule: "contains a NUL byte; remove it",
            });
        }
        let words = shell_words::split(text).map_err(|_| ProcessError::Unreadable {
            command: text.to_owned(),
            rule: "has a quote or a backslash that is not closed; close it",
        })?;
        let mut words = words.into_iter();
        let Some(name) = words.next().filter(|name| !name.is_empty()) else {
            return Err(ProcessError::Unreadable {
                command: text.to_owned(),
                rule: "names no program; give one, like: python3 handler.py",
            });
        };
        if let Some(directory) = working_directory
            && !directory.is_dir()
        {
            return Err(ProcessError::WorkingDirectoryMissing {
                path: directory.to_owned(),
            });
        }
        let program = if name.contains('/') {
            at_path(&name, text, working_directory)?
        } else {
            on_search_path(&name, text)?
        };
        Ok(Self {
            program,
            name,
            arguments: words.collect(),
            working_directory: working_directory.map(Path::to_owned),
            stderr_route,
        })
    }

    /// The first word.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where the stderr of its process goes.
    pub(super) fn stderr_route(&self) -> StderrRoute {
        self.stderr_route
    }

    /// The command, ready to be started: every stream piped, a process group of its own, and none of the variables that describe an event,
    /// which this process may have inherited from a handler that started it.
    pub(super) fn prepare(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(directory) = &self.working_directory {
            command.current_dir(directory);
        }
        for name in environment::NAMES {
            command.env_remove(name);
        }
        command
    }
}

fn at_path(
    name: &str,
    command: &str,
    working_directory: Option<&Path>,
) -> Result<PathBuf, ProcessError> {
    let path = match working_directory {
        Some(directory) => directory.join(name),
        None => PathBuf::from(name),
    };
    let path = std::path::absolute(&path).unwrap_or(path);
    if !path.exists() {
        return Err(ProcessError::Missing {
            program: name.to_owned(),
            command: command.to_owned(),
            place: format!("there is no file {}", path.display()),
        });
    }
    if !is_program(&path) {
        return Err(ProcessError::NotExecutable {
            program: path,
            command: command.to_owned(),
        });
    }
    Ok(path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "PATH is how the system finds programs, not configuration of tidings"
)]
fn on_search_path(name: &str, command: &str) -> Result<PathBuf, ProcessError> {
    let search_path = env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
    for directory in env::split_paths(&search_path) {
        let candidate = directory.join(name);
        if is_program(&candidate) {
            return Ok(std::path::absolute(&candidate).unwrap_or(candidate));
        }
    }
    Err(ProcessError::Missing {
        program: name.to_owned(),
        command: command.to_owned(),
        place: "it is in no folder of PATH".to_owned(),
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// Whether a failure to start is the fault of what was to be started, so that trying again cannot help.
pub(super) fn is_permanent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong
    )
}

/// Why a handler cannot be built from its configuration; permanent, and nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The command cannot be split into words.
    #[error("the command {command:?} {rule}")]
    Unreadable {
        /// The command.
        command: String,
        /// The rule that it breaks and the way out.
        rule: &'static str,
    },
    /// The program does not exist.
    #[error(
        "the program {program:?} of the command {command:?} does not exist: {place}; install it or give its path (the command is run without a shell)"
    )]
    Missing {
        /// The first word of the command.
        program: String,
        /// The command.
        command: String,
        /// Where it was looked for.
        place: String,
    },
    /// The program is there but cannot be run.
    #[error(
        "the program {} of the command {command:?} is no file that may be executed; make it executable (chmod +x) or name its interpreter first", program.display()
    )]
    NotExecutable {
        /// Its path.
        program: PathBuf,
        /// The command.
        command: String,
    },
    /// The folder to run in does not exist.
    #[error("there is no folder {} to run the command in; make it or name another", path.display())]
    WorkingDirectoryMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The number of events at the same time is out of bounds.
    #[error("{parallel} events at the same time are not possible: give 1 to {PARALLEL_MAX}")]
    Parallel {
        /// The number given.
        parallel: usize,
    },
    /// The time limit leaves no time.
    #[error("a time limit of 0 leaves the handler no time; give a longer one")]
    NoTime,
}

impl ProcessError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing { .. } | Self::NotExecutable { .. } => codes::COMMAND_MISSING,
            Self::Unreadable { .. }
            | Self::WorkingDirectoryMissing { .. }
            | Self::Parallel { .. }
            | Self::NoTime => codes::CONSUMER_INVALID,
        }
    }

    /// Always permanent: the configuration must change.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Permanent
    }

    /// Never: nothing is started before the whole configuration is checked.
    pub fn may_have_happened(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn resolve(text: &str, directory: Option<&Path>) -> Result<HandlerCommand, ProcessError> {
        HandlerCommand::resolve(text, directory, StderrRoute::Kept)
    }

    fn refused(text: &str, directory: Option<&Path>) -> ProcessError {
        resolve(text, directory).unwrap_err()
    }

    #[test]
    fn words_are_split_by_shell_rules_and_not_interpreted() {
        let command = resolve("sh -c 'echo $HOME' \"a b\" c\\ d > *", None).unwrap();

        assert!(command.program.ends_with("sh"), "{command:?}");
        assert_eq!(
            command.arguments,
            ["-c", "echo $HOME", "a b", "c d", ">", "*"]
        );
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = refused("no-such-program --fast", None);

        assert_eq!(error.code(), codes::COMMAND_MISSING);
        let message = error.to_string();
        assert!(message.contains("\"no-such-program --fast\""), "{message}");
        assert!(message.contains("PATH"), "{message}");
    }

    #[test]
    fn a_path_is_taken_from_the_working_directory_and_must_be_executable() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("handler.sh");

        let missing = refused("./handler.sh", Some(folder.path()));
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
        let plain = refused("./handler.sh", Some(folder.path()));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let found = resolve("./handler.sh", Some(folder.path()));

        assert_eq!(missing.code(), codes::COMMAND_MISSING);
        assert!(missing.to_string().contains("handler.sh"), "{missing}");
        assert!(plain.to_string().contains("chmod +x"), "{plain}");
        assert!(found.is_ok(), "{found:?}");
        assert!(
            refused("/", None).to_string().contains("no file"),
            "a folder is no program"
        );
    }

    #[test]
    fn what_cannot_be_split_says_why() {
        for (text, word) in [
            ("", "no program"),
            ("   ", "no program"),
            ("''", "no program"),
            ("sh -c 'open", "not closed"),
            ("sh \0", "NUL"),
        ] {
            let error = refused(text, None);
            assert!(error.to_string().contains(word), "{text:?}: {error}");
            assert_eq!(error.code(), codes::CONSUMER_INVALID);
        }
        let error = refused("sh", Some(Path::new("/no/such/folder")));
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
