//! What ties events together: correlation, causation and the W3C trace context, and how an emitted event inherits them.

use crate::Envelope;

/// The name of the extension attribute that carries the W3C trace parent.
pub const TRACEPARENT: &str = "traceparent";
/// The name of the extension attribute that carries the W3C trace state.
pub const TRACESTATE: &str = "tracestate";

/// A W3C trace parent, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The span that caused what carries this; never zero.
    pub parent_id: u64,
    /// Whether the trace is sampled.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of version 00 or a later one; `None` for anything that the W3C recommendation tells to ignore.
    ///
    /// **Source**: W3C Trace Context, `traceparent` header.
    ///
    /// ```
    /// use tidings_core::TraceContext;
    /// let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// assert!(TraceContext::parse(parent).is_some_and(|context| context.sampled));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let parent_id = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let extra = parts.next().is_some();
        if version == 0xff || (version == 0 && extra) || trace_id == 0 || parent_id == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            parent_id: u64::try_from(parent_id).ok()?,
            sampled: flags & 1 == 1,
        })
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok())?
}

/// What an event inherits from the event whose handling emits it, or from a request that no event caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// The correlation id of the cause, or its own id where it has none.
    pub correlation_id: String,
    /// The id of the event that is the cause; `None` where the cause is none, such as a request to an HTTP server.
    pub causation_id: Option<String>,
    /// The trace attributes of the cause, name and JSON text.
    pub trace: Vec<(String, String)>,
}

impl Inherited {
    /// What events emitted while handling `cause` inherit.
    pub fn from(cause: &Envelope) -> Self {
        let trace = [TRACEPARENT, TRACESTATE]
            .into_iter()
            .filter_map(|name| {
                cause
                    .extension(name)
                    .map(|value| (name.to_owned(), value.to_owned()))
            })
            .collect();
        Self {
            correlation_id: cause.correlation_id().to_owned(),
            causation_id: Some(cause.event_id().to_owned()),
            trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents_are_read_as_the_recommendation_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            TraceContext::parse(good).unwrap().parent_id,
            0x00f0_67aa_0ba9_02b7
        );
        assert!(TraceContext::parse(&good.replacen("00", "01", 1)).is_some());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
