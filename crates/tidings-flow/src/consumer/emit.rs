//! What a handling emits: drafts become envelopes under ids that repeat, and are published before their cause is settled.

use super::pipeline::{Pipeline, Trouble, Work};
use super::resume;
use crate::producer::unanswered;
use std::collections::HashSet;
use tidings_core::broker::{Position, PublishError};
use tidings_core::correlation::Inherited;
use tidings_core::event_id::{self, Origin};
use tidings_core::extract::{Draft, HandlerError};
use tidings_core::limits::PAUSE_RETRY_INTERVAL;
use tidings_core::{DedupeKey, Envelope};

impl Pipeline {
    /// Publishes what a handling emitted and answers what was published now.
    ///
    /// **Errors**: an event that breaks a rule; then nothing is published. An event that the broker refuses for what it is; both are permanent.
    ///
    /// **Cancel**: some of it may be published; the ids repeat.
    pub(super) async fn publish_emitted(
        &self,
        work: &Work,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Envelope>, HandlerError> {
        let envelopes = self.envelopes_of(work, drafts)?;
        self.publish_until_accepted(work.position, &envelopes)
            .await
            .map_err(|error| {
                HandlerError::from(error)
                    .with_kind(tidings_core::extract::HandlerErrorKind::Permanent)
            })?;
        Ok(envelopes)
    }

    /// What a handling emitted as envelopes, without those that an earlier run had published.
    ///
    /// **Errors**: an event that breaks a rule; permanent.
    pub(super) fn envelopes_of(
        &self,
        work: &Work,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Envelope>, HandlerError> {
        let cause = &work.envelope;
        let group = self.group.as_str();
        let handler = self.handler_name(work.handler);
        let inherited = Inherited::from(cause);
        let now = self.clock.now();
        let mut envelopes = Vec::with_capacity(drafts.len());
        for (ordinal, mut draft) in drafts.into_iter().enumerate() {
            let id = event_id::repeatable(Origin {
                cause,
                group,
                handler,
                ordinal,
            });
            draft.source.get_or_insert_with(|| group.to_owned());
            let event_type = draft.event_type.to_string();
            let envelope = draft
                .into_envelope(id, now, Some(inherited.clone()))
                .map_err(|error| {
                    let number = ordinal + 1;
                    HandlerError::permanent_message(format!(
                        "event {number} that the handler emits, {event_type}, is not valid: {error}"
                    ))
                })?;
            envelopes.push(envelope);
        }
        if work.suspect
            && let Some(known) = self.known.get()
        {
            envelopes.retain(|envelope| !known.has(envelope));
        }
        Ok(envelopes)
    }

    /// The name of a handler by its index.
    pub(super) fn handler_name(&self, index: usize) -> &str {
        self.handlers
            .get(index)
            .map_or("", |handler| handler.name())
    }

    /// Publishes until the broker has accepted everything; while it refuses for reasons of its own the group is paused.
    ///
    /// There is no time limit: a broker that takes long makes the group wait, and draining cancels it.
    ///
    /// **Errors**: the broker refuses an event for what it is.
    pub(super) async fn publish_until_accepted(
        &self,
        cause: Option<Position>,
        envelopes: &[Envelope],
    ) -> Result<(), PublishError> {
        if envelopes.is_empty() {
            return Ok(());
        }
        match self.publish_once(envelopes).await? {
            None => Ok(()),
            // Boxed, so that the common way does not carry the room for the rare one.
            Some(trouble) => Box::pin(self.publish_in_trouble(cause, trouble)).await,
        }
    }

    async fn publish_in_trouble(
        &self,
        cause: Option<Position>,
        mut trouble: Unpublished,
    ) -> Result<(), PublishError> {
        let _paused = Trouble::begin(self, &trouble.reason);
        loop {
            self.clock.sleep(PAUSE_RETRY_INTERVAL).await;
            if trouble.ambiguous {
                let wanted: HashSet<DedupeKey> = trouble.left.iter().map(DedupeKey::of).collect();
                let found = resume::recorded(self, cause, &wanted).await;
                trouble
                    .left
                    .retain(|envelope| !found.contains(&DedupeKey::of(envelope)));
            }
            match self.publish_once(&trouble.left).await? {
                None => return Ok(()),
                // What may have been written once is looked for from then on, however clearly later tries are refused.
                Some(next) => {
                    trouble = Unpublished {
                        ambiguous: trouble.ambiguous || next.ambiguous,
                        ..next
                    }
                }
            }
        }
    }

    /// Publishes once; `None` if everything was accepted.
    async fn publish_once(
        &self,
        envelopes: &[Envelope],
    ) -> Result<Option<Unpublished>, PublishError> {
        if envelopes.is_empty() {
            return Ok(None);
        }
        let mut outcomes = self.broker.publish(envelopes).await;
        outcomes.resize_with(envelopes.len(), || Err(unanswered()));
        let mut unpublished = Unpublished {
            left: Vec::new(),
            ambiguous: false,
            reason: String::new(),
        };
        for (envelope, outcome) in envelopes.iter().zip(outcomes) {
            match outcome {
                Ok(_) => {}
                Err(error) if is_fault_of_the_event(&error) => return Err(error),
                Err(error) => {
                    unpublished.ambiguous |= error.may_have_happened();
                    if unpublished.reason.is_empty() {
                        unpublished.reason = error.to_string();
                    }
                    unpublished.left.push(envelope.clone());
                }
            }
        }
        Ok((!unpublished.left.is_empty()).then_some(unpublished))
    }
}

/// What the broker did not accept.
struct Unpublished {
    left: Vec<Envelope>,
    /// Whether some of it may be there all the same.
    ambiguous: bool,
    /// The first reason.
    reason: String,
}

/// Whether the event itself must change; everything else is trouble of the broker and heals or is healed by a person.
fn is_fault_of_the_event(error: &PublishError) -> bool {
    error.is_about_the_event() && !error.class().is_transient()
}
