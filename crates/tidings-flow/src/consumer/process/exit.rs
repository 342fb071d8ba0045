//! How a process ended, in words and in what it says about who is to blame.

use super::stderr::Tail;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use tidings_core::limits::REASON_BYTES_MAX;

/// The exit code by which a command asks for another attempt: `EX_TEMPFAIL` of `sysexits.h`.
pub(super) const TRY_AGAIN: i32 = 75;

/// Exit codes by which a shell, or a program like `env`, says that it could not run what it was to run.
const CANNOT_BE_EXECUTED: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Exit codes of a shell whose command was ended by a signal: so much and its number.
const BY_SIGNAL: i32 = 128;
const SIGNAL_MAX: i32 = 64;

/// Signals that come from outside as a rule: an operator, a service manager, the system short of memory.
const FROM_OUTSIDE: &[i32] = &[1, 2, 3, 9, 15];

/// How a process ended, for example `exit status 3` or `signal 9 (SIGKILL)`.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => match told_by_shell(code) {
            Some(meaning) => format!("exit status {code} ({meaning})"),
            None => format!("exit status {code}"),
        },
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, None) => "an unknown end".to_owned(),
    }
}

/// Whether an end asks for another attempt: by the exit code for it, or because not the command has judged the event, but its end has come from a signal, or it could not be run at all.
pub(super) fn is_transient(status: ExitStatus) -> bool {
    match status.code() {
        Some(code) => code == TRY_AGAIN || told_by_shell(code).is_some(),
        None => true,
    }
}

/// What a shell says by an exit code that is not of its command.
fn told_by_shell(code: i32) -> Option<String> {
    match code {
        CANNOT_BE_EXECUTED => Some("cannot be executed".to_owned()),
        NOT_FOUND => Some("command not found".to_owned()),
        _ => {
            let signal = code - BY_SIGNAL;
            (1..=SIGNAL_MAX).contains(&signal).then(|| named(signal))
        }
    }
}

fn named(signal: i32) -> String {
    match signal_name(signal) {
        Some(name) => format!("signal {signal}, {name}"),
        None => format!("signal {signal}"),
    }
}

/// Whether something else than the event being handled may have ended the process: a signal from outside, or an orderly exit.
pub(super) fn may_be_from_outside(status: ExitStatus) -> bool {
    status.success()
        || status
            .signal()
            .is_some_and(|signal| FROM_OUTSIDE.contains(&signal))
}

/// A reason for a dead letter: what happened, then the end of what the process wrote to stderr, together within the limit.
pub(super) fn reason(what: &str, tail: &Tail) -> String {
    let mut what = bounded(what);
    let room = REASON_BYTES_MAX.saturating_sub(what.len() + 2);
    let last = tail.text(room);
    if !last.is_empty() {
        what.push_str(": ");
        what.push_str(&last);
    }
    what
}

/// The beginning of a text, within the limit of a reason.
pub(super) fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(REASON_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exit status 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "signal 9 (SIGKILL)");
        assert_eq!(describe(ExitStatus::from_raw(40)), "signal 40");
    }

    #[test]
    fn what_a_shell_says_of_its_command_is_told_in_words() {
        let told = |code: i32| describe(ExitStatus::from_raw(code << 8));

        assert_eq!(told(126), "exit status 126 (cannot be executed)");
        assert_eq!(told(127), "exit status 127 (command not found)");
        assert_eq!(told(128), "exit status 128");
        assert_eq!(told(139), "exit status 139 (signal 11, SIGSEGV)");
        assert_eq!(told(192), "exit status 192 (signal 64)");
        assert_eq!(told(193), "exit status 193");
    }

    #[test]
    fn only_a_command_that_ran_to_its_own_end_judges_an_event() {
        for code in [75, 126, 127, 129, 137, 192] {
            assert!(is_transient(ExitStatus::from_raw(code << 8)), "{code}");
        }
        for code in [1, 2, 74, 76, 125, 128, 193, 255] {
            assert!(!is_transient(ExitStatus::from_raw(code << 8)), "{code}");
        }
        assert!(is_transient(ExitStatus::from_raw(11)), "a signal");
    }

    #[test]
    fn kills_and_orderly_exits_may_come_from_outside_and_crashes_not() {
        for raw in [0, 9, 15] {
            assert!(may_be_from_outside(ExitStatus::from_raw(raw)), "{raw}");
        }
        for raw in [1 << 8, 6, 11] {
            assert!(!may_be_from_outside(ExitStatus::from_raw(raw)), "{raw}");
        }
    }

    #[test]
    fn a_reason_keeps_the_end_of_stderr_within_the_limit() {
        let mut tail = Tail::default();
        tail.push("é".repeat(REASON_BYTES_MAX).as_bytes());
        tail.push(b"\n\nthe last word\n\n");

        let reason = reason("exit status 1", &tail);

        assert!(reason.len() <= REASON_BYTES_MAX, "{}", reason.len());
        assert!(reason.starts_with("exit status 1: "), "{reason}");
        assert!(reason.ends_with("the last word"), "{reason}");
    }
}
