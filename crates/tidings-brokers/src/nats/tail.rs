//! Reading along without a group: an ordered consumer that the server forgets when we go.

use super::connection::{Link, timestamp};
use super::{NAME, consumer, mapping};
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::message::Message;
use futures_util::{FutureExt as _, StreamExt as _};
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_core::broker::{BrokerError, Position, Tail, TailPage, TailRequest, Tailed};

/// Events from some point on.
pub(super) struct NatsTail {
    link: Arc<Link>,
    filters: Vec<String>,
    /// Where to begin, until the first event came.
    begin: DeliverPolicy,
    /// The sequence behind the newest event that was given.
    next: Option<u64>,
    messages: Option<Ordered>,
    /// The newest sequence of the stream when reading began, until its end was told.
    end: Option<u64>,
}

/// Begins to read along.
pub(super) async fn open(link: &Arc<Link>, request: TailRequest) -> Result<NatsTail, BrokerError> {
    let stream = link.stream().await?;
    let patterns = if request.patterns.is_empty() {
        vec![tidings_core::Pattern::everything()]
    } else {
        request.patterns
    };
    let state = &stream.cached_info().state;
    let begin = match consumer::deliver_policy(request.start)? {
        // Told by number, so that nothing is left out until the consumer is there.
        DeliverPolicy::New => DeliverPolicy::ByStartSequence {
            start_sequence: state.last_sequence + 1,
        },
        other => other,
    };
    Ok(NatsTail {
        link: Arc::clone(link),
        filters: mapping::filters(&link.config.prefix, &patterns, link.takes_several_filters()),
        begin,
        next: None,
        messages: None,
        end: Some(state.last_sequence),
    })
}

impl NatsTail {
    /// A consumer that goes on where we stand; whether nothing is there for it at the moment.
    async fn begin(&mut self) -> Result<(Ordered, bool), BrokerError> {
        let link = &self.link;
        link.wait_connected(tidings_core::limits::REMOTE_REQUEST_TIMEOUT)
            .await?;
        let stream = link.stream().await?;
        let mut config = OrderedConfig {
            deliver_policy: match self.next {
                Some(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
                None => self.begin,
            },
            ..Default::default()
        };
        match self.filters.as_slice() {
            [one] => config.filter_subject.clone_from(one),
            several => config.filter_subjects = several.to_vec(),
        }
        let creating = stream.create_consumer(config);
        let created = link.within("make a consumer", creating).await?;
        let consumer = created.map_err(|error| link.failed("make a consumer", &error))?;
        let empty = consumer.cached_info().num_pending == 0;
        let starting = link.within("hand out events", consumer.messages()).await?;
        let messages = starting.map_err(|error| link.failed("hand out events", &error))?;
        Ok((messages, empty))
    }

    fn take(&mut self, message: &Message) -> Result<Tailed, BrokerError> {
        let info = message.info().map_err(|error| BrokerError::Remote {
            broker: NAME,
            action: "hand out events",
            reason: error.to_string(),
            class: tidings_core::ErrorClass::Transient,
        })?;
        let sequence = info.stream_sequence;
        self.next = Some(sequence + 1);
        let published = timestamp(info.published);
        let config = &self.link.config;
        let found = mapping::Found {
            subject: &message.subject,
            headers: message.headers.as_ref(),
            payload: &message.payload,
            sequence,
            timestamp: Some(published),
        };
        let carried = mapping::read(&config.stream, &config.prefix, found);
        Ok(Tailed {
            place: sequence.to_string().into(),
            position: Some(Position(sequence)),
            append_time: Some(published),
            envelope: carried.envelope,
            problem: carried.problem,
        })
    }

    /// Whether the newest event taken is the last one that was there when reading began.
    fn passes_end(&self, pending: u64) -> bool {
        self.end
            .is_some_and(|end| pending == 0 || self.next.is_some_and(|next| next > end))
    }
}

impl Tail for NatsTail {
    fn next(&mut self, events_max: usize) -> BoxFuture<'_, Result<TailPage, BrokerError>> {
        Box::pin(async move {
            if self.messages.is_none() {
                let (messages, empty) = self.begin().await?;
                self.messages = Some(messages);
                if empty && self.end.take().is_some() {
                    return Ok(TailPage {
                        events: Vec::new(),
                        at_end: true,
                    });
                }
            }
            let mut events = Vec::new();
            let mut at_end = false;
            while events.len() < events_max.max(1) && !at_end {
                let Some(messages) = &mut self.messages else {
                    break;
                };
                let next = if events.is_empty() {
                    messages.next().await
                } else {
                    match messages.next().now_or_never() {
                        Some(next) => next,
                        None => break,
                    }
                };
                match next {
                    Some(Ok(message)) => {
                        events.push(self.take(&message)?);
                        let pending = message.info().map_or(1, |info| info.pending);
                        at_end = self.passes_end(pending);
                    }
                    failed => {
                        self.messages = None;
                        if !events.is_empty() {
                            break;
                        }
                        let reason = match failed {
                            Some(Err(error)) => error.to_string(),
                            _ => "the consumer ended".to_owned(),
                        };
                        return Err(self.link.failed("hand out events", &reason));
                    }
                }
            }
            if at_end {
                self.end = None;
            }
            Ok(TailPage { events, at_end })
        })
    }
}
