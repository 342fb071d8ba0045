//! Sending a batch in requests of at most ten events, several requests at once, within a time limit.

use super::error::{Failure, Fault, Speaker};
use super::rounds::Rounds;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidings_core::broker::{BrokerError, KeyOrder, PublishError, PublishOutcome};
use tidings_core::limits::{AWS_MESSAGE_BYTES_MAX, AWS_PUBLISH_LIMIT, AWS_REQUESTS_IN_FLIGHT_MAX};
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Envelope, ErrorClass, codes};

/// What one request came to: an outcome for each event, in order; and whether the broker is in such trouble that nothing further is sent.
pub(crate) struct Sent {
    pub(crate) outcomes: Vec<Result<(), PublishError>>,
    pub(crate) stop: bool,
}

/// Sends events, in the order of each key where the service keeps one.
///
/// `send` takes the places of the events of one request.
pub(crate) async fn publish<'a>(
    batch: &[Envelope],
    prepared: Vec<Result<usize, PublishError>>,
    order: KeyOrder,
    clock: &dyn Clock,
    send: impl Fn(Vec<usize>) -> BoxFuture<'a, Sent>,
) -> Vec<PublishOutcome> {
    let mut rounds = Rounds::new(batch, prepared, order);
    let ends = clock.elapsed() + AWS_PUBLISH_LIMIT;
    let mut under_way = FuturesUnordered::new();
    loop {
        if clock.elapsed() >= ends {
            rounds.stop();
        }
        while under_way.len() < AWS_REQUESTS_IN_FLIGHT_MAX {
            let Some(places) = rounds.next_request() else {
                break;
            };
            let answer = send(places.clone());
            under_way.push(async move { (places, answer.await) });
        }
        let Some((places, sent)) = under_way.next().await else {
            return rounds.finish();
        };
        for (place, outcome) in places.into_iter().zip(sent.outcomes) {
            rounds.settle(place, outcome);
        }
        if sent.stop {
            rounds.stop();
        }
    }
}

/// The outcome of `events` events whose request failed as a whole.
pub(crate) fn failed(
    failure: Failure,
    events: usize,
    speaker: &Speaker,
    missing: impl FnOnce() -> BrokerError,
) -> Sent {
    let stop = failure.fault.is_trouble();
    let error = if failure.fault.may_have_happened() {
        PublishError::Ambiguous {
            reason: failure.reason,
        }
    } else if failure.fault == Fault::Missing {
        PublishError::refused(&missing())
    } else {
        PublishError::refused(&failure.into_error(speaker, "publish"))
    };
    Sent {
        outcomes: (0..events).map(|_| Err(error.clone())).collect(),
        stop,
    }
}

/// What became of an entry that the service did not take.
pub(crate) fn entry_failed(
    code: &str,
    message: &str,
    ours: bool,
    speaker: &Speaker,
) -> PublishError {
    let reason = format!("{code}: {message}");
    let fault = Fault::of_code(code, ours);
    match fault {
        Fault::Refused | Fault::Receipt => PublishError::Refused {
            reason,
            class: ErrorClass::Permanent,
            code: codes::PUBLISH_REFUSED,
        },
        fault if fault.may_have_happened() => PublishError::Ambiguous { reason },
        fault => PublishError::refused(&Failure { fault, reason }.into_error(speaker, "publish")),
    }
}

/// Refuses an event that is larger than what the service takes, before anything is sent.
pub(crate) fn check_size(service: &str, bytes: usize) -> Result<usize, PublishError> {
    if bytes <= AWS_MESSAGE_BYTES_MAX {
        return Ok(bytes);
    }
    Err(PublishError::Refused {
        reason: format!(
            "as a message it has {bytes} bytes, {service} takes {AWS_MESSAGE_BYTES_MAX}; keep the payload elsewhere and send where it is"
        ),
        class: ErrorClass::Permanent,
        code: codes::LIMIT_EXCEEDED,
    })
}
