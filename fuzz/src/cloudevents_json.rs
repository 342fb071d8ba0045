//! The target `cloudevents_json`: any bytes as a CloudEvent or an envelope in JSON. As a CloudEvent and back, no attribute is lost, whichever form it came in.

use crate::envelope_json::{comes_back, is_one_line, same};
use tidings_core::{Envelope, cloudevents, envelope_json};

/// Runs the target on an input.
pub fn run(input: &[u8]) {
    let read = [
        cloudevents::from_json(input),
        envelope_json::from_json(input),
    ];
    for envelope in read.into_iter().flatten() {
        goes_there_and_back(&envelope);
        comes_back(&envelope);
        let batch = cloudevents::to_batch(&[envelope.clone(), envelope]);
        is_one_line(&batch);
        let elements = envelope_json::from_batch(batch.as_bytes()).expect("an array was written");
        assert!(
            elements.len() == 2 && elements.iter().all(Result::is_ok),
            "{batch}"
        );
    }
}

fn goes_there_and_back(envelope: &Envelope) {
    let line = cloudevents::to_json(envelope);
    is_one_line(&line);
    let again =
        cloudevents::from_json(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
    same(&sorted(envelope), &sorted(&again), &line);
}

/// Attributes that are no legal extensions come back behind the others.
fn sorted(envelope: &Envelope) -> Envelope {
    let mut parts = envelope.parts();
    parts.extensions.sort();
    Envelope::trusted(parts)
}
