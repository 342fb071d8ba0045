//! The page: one table of all properties and brokers, and the reasons below.

use std::collections::BTreeMap;

use super::results::{Results, property_order};

const HEAD: &str = "\
# Brokers: what each one shows

Made by `cargo xtask conformance` from results of the [suite](../../crates/tidings-testkit/src/conformance/broker/mod.rs), which every adapter passes on a
real server; `cargo xtask test` compares it with what its own run finds. *pass*: the property was seen to hold. *declared*: it does not apply, or cannot be
judged there; the refusal that is declared in its place was seen, and the reason stands [below](#reasons). An adapter of your own is held to the same by one
line of test.

";

/// What each family of properties is about.
const FAMILIES: &[(&str, &str)] = &[
    ("A", "Publishing, receiving, closing"),
    ("B", "Fidelity"),
    ("C", "Order"),
    ("D", "Durability"),
    ("E", "Failures"),
    ("F", "Flow"),
    ("G", "Time"),
    ("H", "Groups and history"),
    ("I", "Chaos"),
    ("J", "Lag and health"),
];

pub(super) fn text(results: &Results) -> String {
    let brokers = results.brokers();
    let mut page = HEAD.to_owned();
    page.push_str("| broker | looked at on |\n|---|---|\n");
    for broker in &brokers {
        let version = results.rows.iter().find(|row| row.broker == *broker);
        let version = version.map_or("", |row| &row.version);
        page.push_str(&format!("| {broker} | {version} |\n"));
    }
    let mut titles: BTreeMap<(String, usize), (&str, &str)> = BTreeMap::new();
    for row in &results.rows {
        titles.insert(property_order(&row.property), (&row.property, &row.title));
    }
    for (letter, family) in FAMILIES {
        let of_family: Vec<_> = titles
            .iter()
            .filter(|((letters, _), _)| letters == letter)
            .map(|(_, named)| *named)
            .collect();
        if !of_family.is_empty() {
            page.push_str(&format!("\n## {family}\n\n"));
            table(&mut page, results, &brokers, &of_family);
        }
    }
    reasons(&mut page, results, &brokers);
    page
}

fn table(page: &mut String, results: &Results, brokers: &[&str], properties: &[(&str, &str)]) {
    page.push_str(&format!("| | | {} |\n", brokers.join(" | ")));
    page.push_str(&format!("|---|---|{}\n", "---|".repeat(brokers.len())));
    for (property, title) in properties {
        let cells = brokers.iter().map(|broker| {
            let row = results.find(broker, property);
            row.map_or("not run", |row| row.result.as_str())
        });
        let cells: Vec<_> = cells.collect();
        page.push_str(&format!(
            "| {property} | {title} | {} |\n",
            cells.join(" | ")
        ));
    }
}

/// Why something is declared or has failed; one line for all properties of a broker with one reason.
fn reasons(page: &mut String, results: &Results, brokers: &[&str]) {
    page.push_str("\n## Reasons\n");
    for broker in brokers {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in results
            .rows
            .iter()
            .filter(|row| row.broker == *broker && !row.reason.is_empty())
        {
            match reasons.iter_mut().find(|(reason, _)| *reason == row.reason) {
                Some((_, properties)) => properties.push(&row.property),
                None => reasons.push((&row.reason, vec![&row.property])),
            }
        }
        if reasons.is_empty() {
            continue;
        }
        page.push_str(&format!("\n**{broker}**\n\n"));
        for (reason, properties) in reasons {
            page.push_str(&format!("- {}: {reason}\n", properties.join(", ")));
        }
    }
}
