//! What an answer of AWS means: whether a request may have had its effect, and which of our errors it is.

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::io::ErrorKind;
use tidings_core::ErrorClass;
use tidings_core::broker::BrokerError;

/// Codes by which the services say that they do not know us, or do not let us do this.
const UNAUTHORISED: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "AuthorizationError",
    "AuthorizationErrorException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "KMSAccessDenied",
    "KmsAccessDenied",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];
/// Codes by which they say that it was too much at once: nothing was done.
const THROTTLED: &[&str] = &[
    "KMSThrottling",
    "KmsThrottled",
    "OverLimit",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];
/// Codes by which they say that what was named does not exist.
const MISSING: &[&str] = &[
    "AWS.SimpleQueueService.NonExistentQueue",
    "NonExistentQueue",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFound",
    "ResourceNotFoundException",
];
/// Codes of a receipt handle that does not hold any more.
const RECEIPT_INVALID: &[&str] = &[
    "InvalidIdFormat",
    "InvalidParameterValue",
    "MessageNotInflight",
    "ReceiptHandleIsInvalid",
    "AWS.SimpleQueueService.MessageNotInflight",
];

/// What is said where there are none at all.
const NO_CREDENTIALS: &str = "there are no credentials: neither KEY_ID:SECRET@ in the URL, nor AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, nor a profile with them";

/// What went wrong with a request, or with one entry of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection came about.
    Unreachable,
    /// No answer came.
    Unanswered,
    /// We are not known, or not allowed.
    Unauthorised,
    /// Too much at once.
    Throttled,
    /// What was named does not exist.
    Missing,
    /// A receipt handle does not hold any more, or another value is not taken.
    Receipt,
    /// The request is wrong.
    Refused,
    /// The service failed.
    Broken,
}

impl Fault {
    /// By a code of the service; `ours` says that the service holds us guilty.
    pub(crate) fn of_code(code: &str, ours: bool) -> Self {
        // The JSON protocol of SQS puts a name of the service before the code.
        let bare = code.rsplit('#').next().unwrap_or(code);
        if UNAUTHORISED.contains(&bare) {
            Self::Unauthorised
        } else if THROTTLED.contains(&bare) {
            Self::Throttled
        } else if MISSING.contains(&bare) {
            Self::Missing
        } else if RECEIPT_INVALID.contains(&bare) {
            Self::Receipt
        } else if ours {
            Self::Refused
        } else {
            Self::Broken
        }
    }

    /// Whether the request may have had its effect all the same.
    pub(crate) fn may_have_happened(self) -> bool {
        matches!(self, Self::Unanswered | Self::Broken)
    }

    /// Whether the same answer is to be expected for anything else that is sent now.
    pub(crate) fn is_trouble(self) -> bool {
        !matches!(self, Self::Receipt | Self::Refused)
    }
}

/// A failed request.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// What it means.
    pub(crate) fault: Fault,
    /// What the service or its client said.
    pub(crate) reason: String,
}

/// Who is spoken to, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    /// The broker.
    pub(crate) broker: &'static str,
    /// Host and port, or the region.
    pub(crate) address: String,
}

impl Failure {
    /// As an error about what was tried.
    pub(crate) fn into_error(self, speaker: &Speaker, action: &'static str) -> BrokerError {
        let broker = speaker.broker;
        let address = speaker.address.clone();
        let reason = self.reason;
        match self.fault {
            Fault::Unreachable => BrokerError::Unreachable {
                broker,
                address,
                reason,
            },
            Fault::Unauthorised => BrokerError::Unauthorised {
                broker,
                address,
                reason: format!("{action}: {reason}"),
            },
            fault => BrokerError::Remote {
                broker,
                action,
                reason,
                class: match fault {
                    Fault::Missing | Fault::Receipt | Fault::Refused => ErrorClass::Permanent,
                    _ => ErrorClass::Transient,
                },
            },
        }
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let reason = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ if has_no_credentials(&causes(&error)) => NO_CREDENTIALS.to_owned(),
            _ => causes(&error),
        };
        let fault = match &error {
            SdkError::ServiceError(refusal) => {
                let status = refusal.raw().status().as_u16();
                Fault::of_code(error.code().unwrap_or_default(), status < 500)
            }
            SdkError::ConstructionFailure(_) => Fault::Refused,
            SdkError::TimeoutError(_) if reason.contains("connect") => Fault::Unreachable,
            SdkError::DispatchFailure(_) => undelivered(&error, &reason),
            _ => Fault::Unanswered,
        };
        Self { fault, reason }
    }
}

/// A request that did not get its answer: whether it can have been read by anybody.
fn undelivered(error: &(dyn Error + 'static), reason: &str) -> Fault {
    if reason == NO_CREDENTIALS || reason.contains("credentials") {
        return Fault::Unauthorised;
    }
    if reason.contains("invalid peer certificate") {
        return Fault::Unauthorised;
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == ErrorKind::ConnectionRefused
        {
            return Fault::Unreachable;
        }
        cause = error.source();
    }
    // So the client names what went wrong while it connected: name resolution, the handshake of TLS.
    if reason.contains("(Connect)") || reason.contains("connect timeout") {
        Fault::Unreachable
    } else {
        Fault::Unanswered
    }
}

/// So the client says that nobody gave it any.
fn has_no_credentials(reason: &str) -> bool {
    ["no credentials found in chain", "no providers in chain"]
        .iter()
        .any(|words| reason.contains(words))
}

/// The chain of causes in one line, without the debug form that the client would append.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        cause = error.source();
    }
    if texts.is_empty() {
        texts.push(DisplayErrorContext(error).to_string());
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_services_are_told_apart() {
        for code in [
            "InvalidClientTokenId",
            "SignatureDoesNotMatch",
            "AccessDenied",
        ] {
            assert_eq!(Fault::of_code(code, true), Fault::Unauthorised, "{code}");
        }
        let queue_is_missing = "com.amazonaws.sqs#QueueDoesNotExist";
        assert_eq!(Fault::of_code(queue_is_missing, true), Fault::Missing);
        assert_eq!(Fault::of_code("Throttling", true), Fault::Throttled);
        assert_eq!(Fault::of_code("InvalidParameter", true), Fault::Refused);
        assert_eq!(Fault::of_code("InternalFailure", false), Fault::Broken);
        assert!(Fault::of_code("InternalFailure", false).may_have_happened());
        assert!(!Fault::of_code("ThrottledException", false).may_have_happened());
    }

    #[test]
    fn a_wrong_secret_is_an_error_about_the_credentials() {
        let failure = Failure {
            fault: Fault::of_code("SignatureDoesNotMatch", true),
            reason: "SignatureDoesNotMatch: check the secret".to_owned(),
        };
        let speaker = Speaker {
            broker: "SNS",
            address: "us-east-1".to_owned(),
        };

        let error = failure.into_error(&speaker, "look for the topic");

        assert!(matches!(error, BrokerError::Unauthorised { .. }));
        assert!(error.to_string().contains("check the secret"));
    }
}
