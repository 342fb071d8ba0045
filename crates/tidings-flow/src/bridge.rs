//! A bridge copies events from one broker to another: nothing lost, in the order of each key, resumable, as a group of its own on the source.

use crate::runtime::{SystemClock, broker_backoff};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::broker::{
    Broker, BrokerError, Delivery, Destination, GroupName, PublishError, Received, Scope, Settle,
    SettleAction, SettleError, StartAt, SubscribeRequest, Subscription, Token,
};
use tidings_core::limits::{BRIDGE_BATCH_EVENTS, FOLLOW_POLL_INTERVAL, RETRY_BACKOFF_MAX};
use tidings_core::seam::Clock;
use tidings_core::{Code, Envelope, Pattern, codes};

/// What is copied, and under which name the source remembers how far.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// The group on the source: a bridge that is started again goes on where its group stands.
    pub group: GroupName,
    /// Events of these types.
    pub patterns: Vec<Pattern>,
    /// Where a new group begins.
    pub start: StartAt,
    /// End when everything that is there was copied.
    pub until_end: bool,
}

/// What a bridge has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BridgeReport {
    /// Events that the destination has accepted.
    pub copied: u64,
    /// Messages of the source that are no events and were handed to the observer instead.
    pub unreadable: u64,
    /// Attempts that failed and were repeated.
    pub retried: u64,
}

/// Why a bridge ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The source could not be joined, or its group is lost for good.
    #[error(transparent)]
    Source(#[from] BrokerError),
    /// The destination will never take this event.
    #[error(
        "the destination refuses the event {event_id} ({event_type}): {reason}; leave its type out, or raise the limit of the destination, and start the bridge again: it goes on there"
    )]
    Refused {
        /// Which.
        event_id: String,
        /// Of which type.
        event_type: String,
        /// What the destination said.
        reason: PublishError,
    },
    /// The observer could not keep a message that is no event.
    #[error("a message of the source is no event ({problem}), and {reason}")]
    Unreadable {
        /// Why it is none.
        problem: String,
        /// Why it was not put aside.
        reason: String,
    },
}

impl BridgeError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Source(error) => error.code(),
            Self::Refused { reason, .. } => reason.code(),
            Self::Unreadable { .. } => codes::MESSAGE_UNREADABLE,
        }
    }
}

/// Who hears of what a bridge does, and puts aside what is no event.
pub trait BridgeObserver: Send + Sync {
    /// A batch was copied.
    fn copied(&self, report: &BridgeReport);

    /// The source or the destination is in trouble; the bridge tries again after the delay.
    fn trouble(&self, reason: &str, delay: Duration);

    /// A message is no event. Once this returns, the bridge goes on without it.
    ///
    /// **Errors**: it could not be put aside; the bridge ends, and meets it again when it is started again.
    fn unreadable(&self, envelope: &Envelope, problem: &str) -> Result<(), String>;
}

/// Copies until it is dropped, or until the end if that was asked for.
///
/// **Guarantee**: an event leaves the group on the source only after the destination has accepted it. After a crash or an ambiguous outcome events are copied again under
/// the same ids. Within a key they arrive in the order of the source.
///
/// **Errors**: an event that the destination refuses for good, a message that could not be put aside, a source that cannot be joined. Trouble that may pass is waited out.
///
/// **Cancel**: what was copied and not yet settled is copied again by the next run.
pub async fn bridge(
    source: &dyn Broker,
    destination: &dyn Destination,
    config: &BridgeConfig,
    observer: &dyn BridgeObserver,
) -> Result<BridgeReport, BridgeError> {
    let request = SubscribeRequest {
        group: config.group.clone(),
        patterns: config.patterns.clone(),
        start: config.start,
        single_instance: true,
    };
    let Subscription {
        mut receive,
        settle,
        ..
    } = source.subscribe(&request).await?;
    let clock = SystemClock::new();
    let mut run = Run {
        destination,
        config,
        observer,
        settle,
        clock: &clock,
        report: BridgeReport::default(),
    };
    let mut failures = 0;
    loop {
        let received = tokio::select! {
            biased;
            received = receive.receive(BRIDGE_BATCH_EVENTS) => received,
            () = clock.sleep(FOLLOW_POLL_INTERVAL), if config.until_end => {
                if receive.is_caught_up() {
                    break;
                }
                continue;
            }
        };
        match received {
            Ok(Received::Deliveries { scope, deliveries }) => {
                failures = 0;
                run.copy(&scope, deliveries).await?;
            }
            // What was lost comes again, to whoever has it now.
            Ok(Received::Assigned(_) | Received::Revoked(_) | Received::Lost(_)) => {}
            Err(error) if error.class().is_transient() => run.wait(&mut failures, &error).await,
            Err(error) => return Err(error.into()),
        }
    }
    run.settle.flush().await?;
    run.settle.leave().await?;
    Ok(run.report)
}

struct Run<'a> {
    destination: &'a dyn Destination,
    config: &'a BridgeConfig,
    observer: &'a dyn BridgeObserver,
    settle: Arc<dyn Settle>,
    clock: &'a SystemClock,
    report: BridgeReport,
}

impl Run<'_> {
    /// Takes a batch to its end: everything in it is accepted or put aside.
    async fn copy(&mut self, scope: &Scope, deliveries: Vec<Delivery>) -> Result<(), BridgeError> {
        tracing::trace!(scope = %scope.name, events = deliveries.len(), "a batch to copy");
        let mut tokens = Vec::with_capacity(deliveries.len());
        let mut waiting = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if let Some(problem) = &delivery.problem {
                self.put_aside(&delivery.envelope, problem)?;
                tokens.push(delivery.token);
            } else if self.wants(&delivery.envelope) {
                waiting.push((delivery.token, delivery.envelope));
            } else {
                tokens.push(delivery.token);
            }
        }
        let mut failures = 0;
        while !waiting.is_empty() {
            let reason = self.publish(&mut waiting, &mut tokens).await?;
            self.acknowledge(std::mem::take(&mut tokens)).await?;
            if let Some(reason) = reason {
                self.report.retried += 1;
                self.extend(&waiting).await;
                self.wait(&mut failures, &reason).await;
            }
        }
        self.acknowledge(tokens).await?;
        self.observer.copied(&self.report);
        Ok(())
    }

    fn put_aside(&mut self, envelope: &Envelope, problem: &str) -> Result<(), BridgeError> {
        let kept = self.observer.unreadable(envelope, problem);
        kept.map_err(|reason| BridgeError::Unreadable {
            problem: problem.to_owned(),
            reason,
        })?;
        self.report.unreadable += 1;
        Ok(())
    }

    fn wants(&self, envelope: &Envelope) -> bool {
        let mut patterns = self.config.patterns.iter();
        patterns.any(|pattern| pattern.matches(envelope.event_type()))
    }

    /// Publishes what waits; what was accepted moves to the tokens, the rest stays in its order. Gives the first reason to try again.
    async fn publish(
        &mut self,
        waiting: &mut Vec<(Token, Envelope)>,
        accepted: &mut Vec<Token>,
    ) -> Result<Option<PublishError>, BridgeError> {
        let (tokens, batch): (Vec<Token>, Vec<Envelope>) =
            std::mem::take(waiting).into_iter().unzip();
        let outcomes = self.destination.publish(&batch).await;
        let mut first = None;
        let mut refused = None;
        for ((token, envelope), outcome) in tokens.into_iter().zip(batch).zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.report.copied += 1;
                    accepted.push(token);
                }
                Err(reason) if reason.is_about_the_event() => {
                    refused.get_or_insert(BridgeError::Refused {
                        event_id: envelope.event_id().to_owned(),
                        event_type: envelope.event_type().as_str().to_owned(),
                        reason,
                    });
                }
                Err(reason) => {
                    first.get_or_insert(reason);
                    waiting.push((token, envelope));
                }
            }
        }
        match refused {
            None => Ok(first),
            Some(error) => {
                self.acknowledge(std::mem::take(accepted)).await?;
                self.settle.flush().await?;
                Err(error)
            }
        }
    }

    /// Settles what was copied. What has become somebody else's is copied again by them.
    async fn acknowledge(&self, tokens: Vec<Token>) -> Result<(), BridgeError> {
        if tokens.is_empty() {
            return Ok(());
        }
        let actions: Vec<(Token, SettleAction)> = tokens
            .into_iter()
            .map(|token| (token, SettleAction::Ack))
            .collect();
        for outcome in self.settle.settle(&actions).await {
            match outcome {
                Ok(()) | Err(SettleError::Stale | SettleError::Unknown) => {}
                Err(SettleError::Broker(error)) if error.class().is_transient() => {
                    // It comes again, under the same id.
                    tracing::warn!(%error, "an event that was copied could not be settled");
                }
                Err(SettleError::Broker(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Keeps what waits from being handed to others meanwhile.
    async fn extend(&self, waiting: &[(Token, Envelope)]) {
        let extension = SettleAction::Extend(RETRY_BACKOFF_MAX.saturating_mul(2));
        let actions: Vec<(Token, SettleAction)> = waiting
            .iter()
            .map(|(token, _)| (*token, extension))
            .collect();
        // One that is gone already is copied by whoever has it now.
        let _outcomes = self.settle.settle(&actions).await;
    }

    async fn wait(&self, failures: &mut u32, reason: &(dyn std::fmt::Display + Sync)) {
        let delay = broker_backoff(*failures);
        *failures = failures.saturating_add(1);
        self.observer.trouble(&reason.to_string(), delay);
        self.clock.sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{FakeBroker, Fault, SharedBroker, event, garbage};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Notes {
        unreadable: Mutex<Vec<String>>,
        troubles: Mutex<u32>,
        full: bool,
    }

    impl BridgeObserver for Notes {
        fn copied(&self, _report: &BridgeReport) {}

        fn trouble(&self, _reason: &str, _delay: Duration) {
            *self.troubles.lock().unwrap() += 1;
        }

        fn unreadable(&self, envelope: &Envelope, problem: &str) -> Result<(), String> {
            if self.full {
                return Err("the disk is full".to_owned());
            }
            let note = format!("{}: {problem}", envelope.event_id());
            self.unreadable.lock().unwrap().push(note);
            Ok(())
        }
    }

    fn shared() -> SharedBroker {
        SharedBroker(Arc::new(FakeBroker::new()))
    }

    fn config() -> BridgeConfig {
        BridgeConfig {
            group: "bridge".parse().unwrap(),
            patterns: vec!["order.*".parse().unwrap()],
            start: StartAt::Earliest,
            until_end: true,
        }
    }

    fn ids(broker: &SharedBroker) -> Vec<String> {
        let events = broker.0.events_of("order.placed");
        events
            .iter()
            .map(|event| event.event_id().to_owned())
            .collect()
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_the_next_run_goes_on() {
        let (source, destination) = (shared(), shared());
        let key = |number: usize| format!("k{}", number % 3);
        source
            .0
            .append((0..50).map(|number| event("order.placed", Some(&key(number)), number)));
        source.0.append([event("stock.moved", None, 99)]);

        let notes = Notes::default();
        let report = bridge(&source, &destination, &config(), &notes)
            .await
            .unwrap();
        assert_eq!(report.copied, 50);
        assert_eq!(destination.0.lock().log.len(), 50);

        source.0.append([event("order.placed", Some("k1"), 50)]);
        let report = bridge(&source, &destination, &config(), &notes)
            .await
            .unwrap();
        assert_eq!(report.copied, 1);
        let expected: Vec<String> = (0..51).map(|number| format!("evt-{number}")).collect();
        assert_eq!(ids(&destination), expected);
    }

    #[tokio::test]
    async fn trouble_of_the_destination_is_waited_out() {
        let (source, destination) = (shared(), shared());
        source
            .0
            .append((0..5).map(|number| event("order.placed", Some("k"), number)));
        destination
            .0
            .fail_next([Fault::Full, Fault::LostBatch, Fault::Full]);

        let notes = Notes::default();
        let report = bridge(&source, &destination, &config(), &notes)
            .await
            .unwrap();

        assert_eq!(report.copied, 5);
        assert!(report.retried >= 2 && *notes.troubles.lock().unwrap() >= 2);
        assert_eq!(
            ids(&destination),
            ["evt-0", "evt-1", "evt-2", "evt-3", "evt-4"]
        );
    }

    #[tokio::test]
    async fn an_event_that_is_refused_ends_it_and_is_met_again() {
        let (source, destination) = (shared(), shared());
        source
            .0
            .append((0..3).map(|number| event("order.placed", Some("k"), number)));
        destination.0.fail_next([Fault::Refused]);

        let notes = Notes::default();
        let error = bridge(&source, &destination, &config(), &notes)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("evt-0"), "{error}");
        assert_eq!(error.code(), codes::PUBLISH_REFUSED);

        source.0.lose_scope();
        let report = bridge(&source, &destination, &config(), &notes)
            .await
            .unwrap();
        assert_eq!(report.copied, 3);
    }

    #[tokio::test]
    async fn what_is_no_event_is_put_aside_or_ends_it() {
        let (source, destination) = (shared(), shared());
        source.0.append([
            event("order.placed", Some("k"), 0),
            garbage("order.placed", Some("k"), 1),
            event("order.placed", Some("k"), 2),
        ]);
        let full = Notes {
            full: true,
            ..Notes::default()
        };
        let error = bridge(&source, &destination, &config(), &full)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");

        source.0.lose_scope();
        let notes = Notes::default();
        let report = bridge(&source, &destination, &config(), &notes)
            .await
            .unwrap();
        assert_eq!((report.copied, report.unreadable), (2, 1));
        assert_eq!(*notes.unreadable.lock().unwrap(), ["evt-1: not JSON"]);
        assert_eq!(ids(&destination), ["evt-0", "evt-2"]);
    }
}
