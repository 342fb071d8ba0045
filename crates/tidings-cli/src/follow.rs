//! Events of a broker without positions: rows and objects, and the stream that `tail` and `event export` read there.

use crate::arguments::{Filter, Global};
use crate::failure::Failure;
use crate::output::{json, talk};
use crate::rows;
use std::ops::ControlFlow;
use tidings::Pattern;
use tidings::broker::{Broker, StartAt, TailRequest, Tailed};
use tidings::core::seam::Clock as _;
use tidings::core::{cloudevents, envelope_json};
use tidings::flow::runtime::{SystemClock, broker_backoff};

/// Events that one read asks for.
const PAGE_EVENTS: usize = 1_000;

/// The object of an event for programs: the envelope with its place, or the CloudEvent; of a message that is no event its bytes, and why.
pub(crate) fn object(tailed: &Tailed, as_cloudevent: bool) -> String {
    let mut line = if as_cloudevent {
        cloudevents::to_json(&tailed.envelope)
    } else {
        envelope_json::to_json(&tailed.envelope)
    };
    if as_cloudevent && tailed.problem.is_none() {
        return line;
    }
    line.pop();
    if !as_cloudevent {
        line.push_str(&format!(",\"place\":{}", json(&&*tailed.place)));
    }
    if let Some(problem) = &tailed.problem {
        line.push_str(&format!(",\"problem\":{}", json(&&**problem)));
    }
    line.push('}');
    line
}

/// One line of an export: the envelope as it was given, with nothing added to what is an event.
pub(crate) fn exported(tailed: &Tailed, as_cloudevent: bool, line: &mut Vec<u8>) {
    if tailed.problem.is_some() {
        line.extend_from_slice(object(tailed, as_cloudevent).as_bytes());
    } else if as_cloudevent {
        cloudevents::write_json(&tailed.envelope, line);
    } else {
        envelope_json::write_json(&tailed.envelope, line);
    }
}

/// The cells of an event for people.
pub(crate) fn cells(tailed: &Tailed, global: &Global) -> Vec<String> {
    let mut cells = rows::envelope_cells(
        &tailed.envelope,
        &tailed.place,
        tailed.append_time.unwrap_or_else(crate::when::now),
        global,
    );
    if let Some(problem) = &tailed.problem {
        cells.push(format!("no event: {problem}"));
    }
    cells
}

/// What is read, and up to where.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    /// Which events.
    pub(crate) filter: &'a Filter,
    /// Where to begin.
    pub(crate) start: StartAt,
    /// Stop at what is the end now.
    pub(crate) until_end: bool,
}

impl Follow<'_> {
    /// Reads a broker, telling trouble that may pass and going on behind it.
    pub(crate) async fn each(
        &self,
        broker: &dyn Broker,
        mut take: impl FnMut(&Tailed) -> Result<ControlFlow<()>, Failure>,
        mut live: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let patterns = patterns(&self.filter.types, self.filter.internal);
        let mut tail = broker
            .tail(TailRequest {
                patterns: patterns.clone(),
                start: self.start,
            })
            .await?;
        let mut failures = 0_u32;
        loop {
            let page = match tail.next(PAGE_EVENTS).await {
                Ok(page) => page,
                Err(error) if error.class().is_transient() => {
                    let delay = broker_backoff(failures);
                    failures += 1;
                    talk(false, format_args!("warning: {error}; again in {delay:?}"));
                    SystemClock::new().sleep(delay).await;
                    continue;
                }
                Err(error) => {
                    // A damaged stretch of a log is told, and the tail stands behind it already.
                    rows::behind_damage(error)?;
                    continue;
                }
            };
            failures = 0;
            for tailed in &page.events {
                if self.wants(&patterns, tailed) && take(tailed)?.is_break() {
                    return Ok(());
                }
            }
            if page.at_end {
                live()?;
                if self.until_end {
                    return Ok(());
                }
            }
        }
    }

    fn wants(&self, patterns: &[Pattern], tailed: &Tailed) -> bool {
        let envelope = &tailed.envelope;
        let filter = self.filter;
        let matches = |pattern: &Pattern| pattern.matches(envelope.event_type());
        (tailed.problem.is_some() || patterns.iter().any(matches))
            && filter.key.as_deref().is_none_or(|key| {
                envelope.key().as_deref() == Some(key) || envelope.aggregate_id() == Some(key)
            })
            && filter
                .source
                .as_deref()
                .is_none_or(|source| envelope.source() == Some(source))
            && filter
                .correlation_id
                .as_deref()
                .is_none_or(|id| envelope.correlation_id() == id)
    }
}

/// The patterns that are asked for: everything unless types are given, and tidings' own facts only on request.
pub(crate) fn patterns(types: &[Pattern], internal: bool) -> Vec<Pattern> {
    let mut patterns = types.to_vec();
    if patterns.is_empty() {
        patterns.push(Pattern::everything());
    }
    if internal {
        patterns.push(Pattern::internal());
    }
    patterns
}
