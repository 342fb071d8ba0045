//! The events of the power cuts: each one's whole text follows from its number, so that what is read can be judged without a copy.

use crate::powercut::chance::Chance;

/// Keys among which order is watched.
pub(super) const KEYS: u64 = 8;
/// So that two segments are in play, the first one is filled almost to its end before the writes are logged.
const FILLER_BYTES: usize = 262_144;
/// Once in so many events, one is large.
const LARGE_ONCE_IN: u64 = 64;
const LARGE_BYTES_MAX: u64 = 40_000;
/// How each of our lines begins.
const BEGIN: &str = "{\"event_id\":\"cut-";
/// tidings' own facts may stand between our events.
const INTERNAL: &str = "\"event_type\":\"tidings.";

/// A family of events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events {
    pub(super) seed: u64,
    /// Events below this number do nothing but fill.
    pub(super) fillers: u64,
    /// Upper limit of what makes an event longer.
    pub(super) padding_bytes_max: u64,
}

/// What a line of `event ls -o jsonl` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// One of ours, every byte as it was written.
    Ours { number: u64, position: u64 },
    /// A fact that tidings states itself.
    Internal,
    /// Anything else: it was never written so.
    Foreign,
}

impl Events {
    /// The line that is imported.
    pub(super) fn line(&self, number: u64) -> String {
        let mut chance = Chance::of(self.seed, number);
        let padding = if number < self.fillers {
            "0123456789abcdef".repeat(FILLER_BYTES / 16)
        } else {
            let bytes = match chance.once_in(LARGE_ONCE_IN) {
                true => chance.below(LARGE_BYTES_MAX),
                false => chance.below(self.padding_bytes_max),
            };
            // One word, repeated: another event's sectors in its place differ, and it costs next to nothing.
            let words = usize::try_from(bytes / 16).unwrap_or(0);
            format!("{:016x}", chance.next()).repeat(words)
        };
        let key = number % KEYS;
        format!(
            "{BEGIN}{number}\",\"event_type\":\"cut.survived\",\"aggregate_id\":\"key-{key}\",\"source\":\"powercut\",\"payload\":{{\"number\":{number},\"padding\":\"{padding}\"}}}}"
        )
    }

    /// Judges a line of `event ls -o jsonl`.
    pub(super) fn listed(&self, line: &str) -> Listed {
        let Some(rest) = line.strip_prefix(BEGIN) else {
            return match line.contains(INTERNAL) {
                true => Listed::Internal,
                false => Listed::Foreign,
            };
        };
        let number = rest
            .split('"')
            .next()
            .and_then(|digits| digits.parse().ok());
        let position = line.rsplit_once(",\"position\":");
        let (Some(number), Some((event, position))) = (number, position) else {
            return Listed::Foreign;
        };
        let position = position.strip_suffix('}').and_then(|p| p.parse().ok());
        let whole = self.line(number);
        match position {
            Some(position) if whole.strip_suffix('}') == Some(event) => {
                Listed::Ours { number, position }
            }
            _ => Listed::Foreign,
        }
    }
}

/// The number of an event of ours, from the beginning of its line.
pub(super) fn number(line: &str) -> Option<u64> {
    let (number, _) = line.strip_prefix(BEGIN)?.split_once('"')?;
    number.parse().ok()
}

/// The answer of a handler that an event is done with.
pub(super) fn done(number: u64) -> String {
    format!("{BEGIN}{number}\",\"outcome\":\"ack\"}}")
}

/// Number and position of a receipt of `event import -o jsonl`.
pub(super) fn receipt(line: &str) -> Option<(u64, u64)> {
    let (number, position) = line.strip_prefix(BEGIN)?.split_once("\",\"position\":")?;
    let position = position.strip_suffix('}')?;
    Some((number.parse().ok()?, position.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Events = Events {
        seed: 3,
        fillers: 1,
        padding_bytes_max: 400,
    };

    fn listed_at(line: &str, position: u64) -> String {
        let event = line.strip_suffix('}').expect("an object");
        format!("{event},\"position\":{position}}}")
    }

    #[test]
    fn what_is_listed_as_it_was_written_is_ours() {
        for number in 0..200 {
            let line = listed_at(&EVENTS.line(number), 7);

            let position = 7;
            assert_eq!(EVENTS.listed(&line), Listed::Ours { number, position });
        }
    }

    #[test]
    fn a_changed_byte_or_an_unknown_line_is_foreign() {
        let line = listed_at(&EVENTS.line(5), 7);

        assert_eq!(
            EVENTS.listed(&line.replace("key-5", "key-6")),
            Listed::Foreign
        );
        assert_eq!(EVENTS.listed(&EVENTS.line(5)), Listed::Foreign);
        assert_eq!(EVENTS.listed("{\"event_id\":\"x\"}"), Listed::Foreign);
        assert_eq!(
            EVENTS.listed("{\"event_id\":\"x\",\"event_type\":\"tidings.log.cut\",\"position\":4}"),
            Listed::Internal
        );
    }

    #[test]
    fn an_event_is_told_by_the_beginning_of_its_line() {
        assert_eq!(number(&EVENTS.line(7)), Some(7));
        assert_eq!(number("{\"event_id\":\"x\"}"), None);
        assert_eq!(done(7), "{\"event_id\":\"cut-7\",\"outcome\":\"ack\"}");
    }

    #[test]
    fn a_receipt_names_number_and_position() {
        let line = "{\"event_id\":\"cut-12\",\"position\":40}";

        assert_eq!(receipt(line), Some((12, 40)));
        assert_eq!(receipt("{\"event_id\":\"other\",\"position\":40}"), None);
        assert_eq!(receipt(&line[..20]), None);
    }
}
