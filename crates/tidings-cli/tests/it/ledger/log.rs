//! The log against the books: every event of a committed transaction and nothing else, first occurrences in the order of their keys, doubles under one id.

use crate::command::tidings;
use crate::table::Table;
use serde_json::Value;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What stands in the log.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) events: u64,
    pub(super) doubles: u64,
}

/// Reads the whole log and compares.
pub(super) fn compare(table: &Table, folder: &Path, transfers: u64) -> Found {
    let committed = table.texts("SELECT event_id FROM transfer");
    let mut committed: HashMap<String, bool> =
        committed.into_iter().map(|id| (id, false)).collect();
    assert_eq!(
        committed.len() as u64,
        transfers,
        "every transfer has an event of its own"
    );
    let mut found = Found::default();
    let mut ids: HashMap<String, (String, u64)> = HashMap::new();
    let mut last: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut export = tidings(["event", "export"]).data(folder).start();
    while let Some(line) = export.line() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let (id, event_type, key) = (text("event_id"), text("event_type"), text("aggregate_id"));
        let seq = event["payload"]["seq"].as_u64().unwrap();
        found.events += 1;
        match ids.entry(id.clone()) {
            Entry::Occupied(first) => {
                assert_eq!(
                    first.get(),
                    &(key, seq),
                    "a double of {id} is another event"
                );
                found.doubles += 1;
                continue;
            }
            Entry::Vacant(first) => first.insert((key.clone(), seq)),
        };
        let before = last
            .insert((event_type.clone(), key.clone()), seq)
            .unwrap_or_default();
        assert_eq!(
            seq,
            before + 1,
            "{event_type} of {key} is out of order: {line}"
        );
        if event_type == "transfer.made" {
            let known = committed.get_mut(&id);
            *known.unwrap_or_else(|| panic!("a phantom: {line}")) = true;
        }
    }
    let answer = export.end();
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    let lost = committed.values().filter(|arrived| !**arrived).count();
    assert_eq!(lost, 0, "committed transfers whose event is not in the log");
    assert_eq!(
        ids.len() as u64,
        2 * transfers,
        "one event made, one booked"
    );
    found
}
