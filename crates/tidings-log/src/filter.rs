//! Which events a reader wants. The answer for a type is remembered, because a log holds many events of few types.

use std::collections::HashMap;
use tidings_core::Pattern;
use tidings_core::event_type::EventTypeRef;

/// Types whose answer is remembered; a log with more of them is asked again for the rest.
const REMEMBERED_MAX: usize = 4_096;

/// Which events a reader wants.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    patterns: Vec<Pattern>,
    remembered: HashMap<Box<str>, bool>,
    /// The type asked for last and its answer: events of one type often stand together, and to compare is faster than to hash.
    last: Option<(Box<str>, bool)>,
}

impl Filter {
    /// Events that match one of these; none given means everything but internal facts.
    pub(crate) fn new(patterns: &[Pattern]) -> Self {
        let patterns = if patterns.is_empty() {
            vec![Pattern::everything()]
        } else {
            patterns.to_vec()
        };
        Self {
            patterns,
            remembered: HashMap::new(),
            last: None,
        }
    }

    /// Every event, internal facts included.
    pub(crate) fn all() -> Self {
        Self::new(&[Pattern::everything(), Pattern::internal()])
    }

    /// Whether this is the filter of these patterns.
    pub(crate) fn is_of(&self, patterns: &[Pattern]) -> bool {
        self.patterns == patterns
            || (patterns.is_empty() && self.patterns == [Pattern::everything()])
    }

    /// Whether events of this type are wanted.
    pub(crate) fn wants(&mut self, event_type: &str) -> bool {
        if let Some((known, answer)) = &self.last
            && **known == *event_type
        {
            return *answer;
        }
        let answer = self.look_up(event_type);
        self.last = Some((event_type.into(), answer));
        answer
    }

    fn look_up(&mut self, event_type: &str) -> bool {
        if let Some(answer) = self.remembered.get(event_type) {
            return *answer;
        }
        let parsed = EventTypeRef::of(event_type);
        let answer = self.patterns.iter().any(|pattern| pattern.matches(parsed));
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(event_type.into(), answer);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_means_everything_but_internal_facts() {
        let mut filter = Filter::new(&[]);

        assert!(filter.wants("order.placed"));
        assert!(!filter.wants("tidings.dead_letter.recorded"));
        assert!(!filter.wants("tidings.dead_letter.recorded"));
    }

    #[test]
    fn one_of_several_patterns_is_enough() {
        let mut filter = Filter::new(&["order.*".parse().unwrap(), "tidings.**".parse().unwrap()]);

        assert!(filter.wants("order.placed.v2"));
        assert!(filter.wants("tidings.dead_letter.recorded"));
        assert!(!filter.wants("payment.failed"));
    }
}
