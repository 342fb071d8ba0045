//! Filters as conditions of statements: what is left out restricts nothing.

use crate::dialect::Dialect;
use crate::driver::Bind;
use tidings_core::store::{LetterFilter, WaitingFilter};
use tidings_core::{EventType, Pattern, Timestamp};

/// Conditions, and the values that they name.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// Each begins with `AND`.
    pub(super) sql: String,
    pub(super) values: Vec<(&'static str, Bind)>,
}

impl Conditions {
    pub(super) fn add(&mut self, condition: &str, name: &'static str, value: Bind) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.push((name, value));
    }

    fn add_list(&mut self, dialect: &Dialect, columns: &[&str], name: &'static str, of: &[String]) {
        let texts = listed(dialect, "texts", name);
        let each = columns
            .iter()
            .map(|column| format!("{column} IN ({texts})"));
        let condition = each.collect::<Vec<_>>().join(" OR ");
        self.add(&format!("({condition})"), name, list(of));
    }
}

/// The select that answers the values of a list by their name.
pub(super) fn listed(dialect: &Dialect, kind: &str, name: &str) -> String {
    let mut fragments = dialect.fragments.iter();
    let select = fragments.find(|(given, _)| *given == kind);
    select.map_or_else(String::new, |(_, select)| {
        select.replace("{list}", &format!(":{name}"))
    })
}

/// Several texts as one value.
pub(super) fn list(texts: &[String]) -> Bind {
    Bind::text(serde_json::to_string(texts).unwrap_or_default())
}

/// Several numbers as one value.
pub(super) fn numbers(of: &[i64]) -> Bind {
    Bind::text(serde_json::to_string(of).unwrap_or_default())
}

/// The conditions of a filter of dead letters, with the types that its patterns match.
pub(super) fn letters(
    dialect: &Dialect,
    filter: &LetterFilter,
    types: Option<&[String]>,
) -> Conditions {
    let mut conditions = Conditions::default();
    if !filter.ids.is_empty() {
        conditions.add_list(dialect, &["id", "event_id"], "ids", &filter.ids);
    }
    if let Some(group) = &filter.group {
        conditions.add("consumer = :group", "group", Bind::text(group));
    }
    if let Some(types) = types {
        conditions.add_list(dialect, &["event_type"], "types", types);
    }
    if let Some(cluster) = &filter.cluster {
        conditions.add("fingerprint = :cluster", "cluster", Bind::text(cluster));
    }
    if let Some(key) = &filter.key {
        let condition = "(lane_key = :key OR aggregate_id = :key)";
        conditions.add(condition, "key", Bind::text(key));
    }
    if let Some(since) = filter.since {
        conditions.add("died_us >= :since", "since", instant(since));
    }
    if let Some(until) = filter.until {
        conditions.add("died_us < :until", "until", instant(until));
    }
    if !filter.statuses.is_empty() {
        let statuses = filter.statuses.iter();
        let words: Vec<String> = statuses
            .map(|status| format!("'{}'", status.as_str()))
            .collect();
        let condition = format!(" AND status IN ({})", words.join(", "));
        conditions.sql.push_str(&condition);
    }
    conditions
}

/// The conditions of a filter of deliveries that wait.
pub(super) fn waiting(dialect: &Dialect, filter: &WaitingFilter) -> Conditions {
    let mut conditions = Conditions::default();
    if !filter.ids.is_empty() {
        conditions.add_list(dialect, &["event_id"], "ids", &filter.ids);
    }
    if let Some(group) = &filter.group {
        conditions.add("consumer = :group", "group", Bind::text(group));
    }
    if let Some(key) = &filter.key {
        conditions.add("lane_key = :key", "key", Bind::text(key));
    }
    if filter.due_only {
        conditions.sql.push_str(" AND due_us IS NOT NULL");
    }
    conditions
}

/// Which of the types are meant by one of the patterns.
pub(super) fn matching(patterns: &[Pattern], types: Vec<String>) -> Vec<String> {
    let is_meant = |text: &String| {
        let event_type = EventType::trusted(text.clone());
        patterns.iter().any(|pattern| pattern.matches(&event_type))
    };
    types.into_iter().filter(is_meant).collect()
}

fn instant(time: Timestamp) -> Bind {
    Bind::Int(time.as_micros())
}
