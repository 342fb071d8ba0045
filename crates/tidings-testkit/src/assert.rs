//! What a scenario is asked afterwards: each `then_…` claims one thing that happened, and says what happened instead.

use std::fmt::Write as _;
use tidings_core::{Envelope, Event};
use tidings_flow::dead_letter::DeadLetter;

/// What followed from the event of a scenario: events emitted and dead letters, in the order in which they were recorded.
///
/// Each `then_…` takes the first that fits and is not taken yet, so that the same fact twice needs to be asked for twice.
#[derive(Debug, Clone)]
#[must_use = "a scenario without `then` asserts nothing"]
pub struct Outcome {
    emitted: Vec<Taken<Envelope>>,
    dead_letters: Vec<Taken<DeadLetter>>,
}

#[derive(Debug, Clone)]
struct Taken<T> {
    value: T,
    taken: bool,
}

impl Outcome {
    pub(crate) fn new(emitted: Vec<Envelope>, dead_letters: Vec<DeadLetter>) -> Self {
        Self {
            emitted: emitted.into_iter().map(not_taken).collect(),
            dead_letters: dead_letters.into_iter().map(not_taken).collect(),
        }
    }

    /// An event of this type was emitted, and it looks like this; the check asserts.
    #[track_caller]
    pub fn then_emitted<E: Event>(mut self, check: impl FnOnce(&E)) -> Self {
        let wanted = |envelope: &Envelope| envelope.event_type().name() == E::TYPE;
        let Some(envelope) = take_first(&mut self.emitted, wanted) else {
            panic!("expected {} to be emitted, but {}", E::TYPE, self.told());
        };
        match serde_json::from_slice(envelope.payload_bytes()) {
            Ok(event) => check(&event),
            Err(error) => panic!(
                "{} was emitted with a payload that is no {}: {error}\n  {}",
                E::TYPE,
                std::any::type_name::<E>(),
                envelope.to_json()
            ),
        }
        self
    }

    /// An event of this type was emitted, whatever its attributes and payload; for events without a Rust type.
    #[track_caller]
    pub fn then_emitted_envelope(
        mut self,
        event_type: &str,
        check: impl FnOnce(&Envelope),
    ) -> Self {
        let wanted = |envelope: &Envelope| envelope.event_type().name() == event_type;
        let Some(envelope) = take_first(&mut self.emitted, wanted) else {
            panic!("expected {event_type} to be emitted, but {}", self.told());
        };
        check(&envelope);
        self
    }

    /// An event was given up, and its dead letter looks like this; the check asserts.
    #[track_caller]
    pub fn then_dead_letter(mut self, check: impl FnOnce(&DeadLetter)) -> Self {
        let Some(letter) = take_first(&mut self.dead_letters, |_| true) else {
            panic!("expected a dead letter, but {}", self.told());
        };
        check(&letter);
        self
    }

    /// Nothing was emitted and nothing was given up.
    #[track_caller]
    pub fn then_nothing(self) {
        assert!(
            self.emitted.is_empty() && self.dead_letters.is_empty(),
            "expected nothing to follow, but {}",
            self.told()
        );
    }

    /// Nothing was emitted and nothing was given up beside what was asked for before.
    #[track_caller]
    pub fn then_nothing_else(self) {
        let left = self.emitted.iter().any(|event| !event.taken)
            || self.dead_letters.iter().any(|letter| !letter.taken);
        assert!(
            !left,
            "expected nothing else to follow, but {}",
            self.told()
        );
    }

    /// The events that were emitted.
    pub fn emitted(&self) -> impl Iterator<Item = &Envelope> {
        self.emitted.iter().map(|event| &event.value)
    }

    /// The events that were given up.
    pub fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter> {
        self.dead_letters.iter().map(|letter| &letter.value)
    }

    /// What happened, as the second half of a sentence, a line each.
    fn told(&self) -> String {
        let mut told = String::new();
        for event in &self.emitted {
            let mark = if event.taken {
                " (asked for before)"
            } else {
                ""
            };
            // Writing to a String cannot fail.
            let _ = write!(
                told,
                "\n  emitted {} {}{mark}",
                event.value.event_type(),
                String::from_utf8_lossy(event.value.payload_bytes())
            );
        }
        for letter in &self.dead_letters {
            let mark = if letter.taken {
                " (asked for before)"
            } else {
                ""
            };
            let record = &letter.value.record;
            let _ = write!(
                told,
                "\n  {} gave up {} after {} attempts: {}{mark}",
                record.consumer,
                record.event_type,
                record.attempts,
                record.reasons.join(": ")
            );
        }
        if told.is_empty() {
            return "nothing followed".to_owned();
        }
        format!("what followed is:{told}")
    }
}

fn not_taken<T>(value: T) -> Taken<T> {
    Taken {
        value,
        taken: false,
    }
}

fn take_first<T: Clone>(all: &mut [Taken<T>], wanted: impl Fn(&T) -> bool) -> Option<T> {
    let found = all
        .iter_mut()
        .find(|candidate| !candidate.taken && wanted(&candidate.value))?;
    found.taken = true;
    Some(found.value.clone())
}
