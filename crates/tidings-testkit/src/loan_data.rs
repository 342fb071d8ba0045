//! Business events with the shape of a real process: loan applications, each a key with twenty events of three families.

use std::fmt::Write as _;

/// Keys of the full set.
pub const KEYS: u64 = 13_087;
/// Events of each key.
pub const EVENTS_PER_KEY: u64 = 20;

/// What happens to an application, in order: event type and source.
const STEPS: [(&str, &str); EVENTS_PER_KEY as usize] = [
    ("application.submitted", "application-service"),
    ("application.partlysubmitted", "application-service"),
    ("application.preaccepted", "application-service"),
    ("work.complete-application.scheduled", "workflow-service"),
    ("work.complete-application.started", "workflow-service"),
    ("application.accepted", "application-service"),
    ("offer.selected", "offer-service"),
    ("application.finalized", "application-service"),
    ("offer.created", "offer-service"),
    ("offer.sent", "offer-service"),
    ("work.call-about-offer.scheduled", "workflow-service"),
    ("work.complete-application.completed", "workflow-service"),
    ("work.call-about-offer.started", "workflow-service"),
    ("work.call-about-offer.completed", "workflow-service"),
    ("offer.sent-back", "offer-service"),
    ("work.assess-application.scheduled", "workflow-service"),
    ("work.assess-application.started", "workflow-service"),
    ("application.registered", "application-service"),
    ("application.approved", "application-service"),
    ("offer.accepted", "offer-service"),
];

/// Applications that run at the same time, so that the events of different keys interleave.
const OPEN_AT_ONCE: u64 = 50;

/// The lines of the first `keys` applications, one envelope each, without line breaks. The same arguments give the same lines.
///
/// ```
/// assert_eq!(tidings_testkit::loan_data::lines(3).count(), 60);
/// ```
pub fn lines(keys: u64) -> impl Iterator<Item = String> {
    (0..keys.div_ceil(OPEN_AT_ONCE)).flat_map(move |block| {
        let first = block * OPEN_AT_ONCE;
        let open = OPEN_AT_ONCE.min(keys - first);
        (0..EVENTS_PER_KEY)
            .flat_map(move |step| (0..open).map(move |offset| line(first + offset, step)))
    })
}

/// One event of one application.
fn line(key: u64, step: u64) -> String {
    let (event_type, source) = STEPS[(step % EVENTS_PER_KEY) as usize];
    let number = key * EVENTS_PER_KEY + step;
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let seconds = key * 40 + step * 3;
    let (day, hour, minute, second) = (
        1 + seconds / 86_400 % 28,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    let millis = number % 1_000;
    let amount = 5_000 + key % 90 * 500;
    let mut line = String::with_capacity(340);
    // Writing to a text cannot fail.
    let _written = write!(
        line,
        r#"{{"event_id":"evt-{id:016x}","event_type":"{event_type}","aggregate_id":"loan-{key:06}","timestamp":"2011-10-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z","version":1,"source":"{source}","correlation_id":"loan-{key:06}","payload":{{"REG_DATE":"2011-10-{day:02}T00:38:44.546+02:00","AMOUNT_REQ":"{amount}","resource":"{}"}}}}"#,
        10_000 + number % 900
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_interleave_and_every_line_has_an_id_of_its_own() {
        let lines: Vec<String> = lines(120).collect();
        let ids: HashSet<&str> = lines.iter().map(|line| &line[13..37]).collect();

        assert_eq!(lines.len(), 2_400);
        assert_eq!(ids.len(), 2_400);
        assert!(lines[0].contains("loan-000000") && lines[1].contains("loan-000001"));
        for line in &lines {
            assert_eq!(
                tidings_core::envelope_json::to_json(
                    &tidings_core::envelope_json::from_json(line.as_bytes()).unwrap()
                ),
                *line
            );
        }
    }
}
