//! What the outcome of an event means for its relay.

use super::step::Verdict;
use tidings_core::broker::{PublishError, PublishOutcome};
use tidings_core::limits::REASON_BYTES_MAX;

/// Reads an outcome by its consequence.
pub(super) fn verdict(outcome: PublishOutcome) -> Verdict {
    let error = match outcome {
        Ok(_) => return Verdict::Accepted,
        Err(PublishError::NotAttempted) => return Verdict::NotAttempted,
        Err(error) => error,
    };
    let reason = format!("{}: {}", error.code(), bounded(error.to_string()));
    match (error.may_have_happened(), error.is_about_the_event()) {
        (true, _) => Verdict::Unclear(reason),
        (false, true) if error.class().is_transient() => Verdict::Failed(reason),
        (false, true) => Verdict::Rejected(reason),
        (false, false) => Verdict::Down(reason),
    }
}

/// A reason that is not longer than a reason may be.
pub(super) fn bounded(mut reason: String) -> String {
    let mut end = REASON_BYTES_MAX.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::time::Duration;
    use tidings_core::broker::{BrokerError, Receipt};
    use tidings_core::{ErrorClass, codes};

    fn refused(class: ErrorClass, code: tidings_core::Code) -> PublishError {
        let reason = "no".to_owned();
        PublishError::Refused {
            reason,
            class,
            code,
        }
    }

    #[test]
    fn an_outcome_is_read_by_its_consequence() {
        let full = BrokerError::DiskFull {
            path: PathBuf::from("x"),
        };
        let read_only = BrokerError::ReadOnly {
            path: PathBuf::from("x"),
            source: std::io::Error::other("x"),
        };
        let limit = Duration::from_secs(1);
        let down = |verdict| matches!(verdict, Verdict::Down(_));
        let unclear = |verdict| matches!(verdict, Verdict::Unclear(_));

        assert_eq!(verdict(Ok(Receipt { position: None })), Verdict::Accepted);
        assert_eq!(
            verdict(Err(PublishError::NotAttempted)),
            Verdict::NotAttempted
        );
        assert!(down(verdict(Err(PublishError::refused(&full)))));
        // A folder that may not be written is permanent, and still no fault of the event.
        assert!(down(verdict(Err(PublishError::refused(&read_only)))));
        assert!(down(verdict(Err(PublishError::refused(
            &BrokerError::Closed
        )))));
        assert!(unclear(verdict(Err(PublishError::Timeout { limit }))));
        assert!(matches!(
            verdict(Err(refused(ErrorClass::Permanent, codes::LIMIT_EXCEEDED))),
            Verdict::Rejected(reason) if reason == "TD0012: the event was refused: no"
        ));
        assert!(matches!(
            verdict(Err(refused(ErrorClass::Transient, codes::PUBLISH_REFUSED))),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn a_long_reason_is_cut_between_two_letters() {
        let reason = bounded("ü".repeat(REASON_BYTES_MAX));

        assert_eq!(reason.len(), REASON_BYTES_MAX);
        assert_eq!(
            bounded(format!("x{}", "ü".repeat(REASON_BYTES_MAX))).len(),
            REASON_BYTES_MAX - 1
        );
    }
}
