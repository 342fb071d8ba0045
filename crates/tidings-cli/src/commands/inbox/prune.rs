//! `tidings inbox prune`: forgets what need not be remembered, group by group.

use super::open;
use crate::arguments::Global;
use crate::commands::confirm::confirm;
use crate::failure::Failure;
use crate::inbox_arguments::InboxPrune;
use crate::output::{json, object, talk};
use crate::when::now;
use serde::Serialize;
use tidings::core::codes;
use tidings::core::store::{InboxStatus, InboxStore};
use tidings::inbox;

#[derive(Debug, Serialize)]
struct Pruned {
    inbox: String,
    forgotten: u64,
    groups: Vec<Group>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Group {
    group: String,
    rows: u64,
    forgotten: u64,
}

pub(crate) async fn run(global: &Global, arguments: InboxPrune) -> Result<(), Failure> {
    let opened = open(&arguments.inbox).await?;
    let retention = arguments.keep.known(arguments.forget_early);
    let chosen = chosen(&opened, &arguments.groups).await?;
    let question = format!(
        "Forget what {} groups in {} handled {} before their newest event{}?",
        chosen.len(),
        opened.name(),
        arguments.keep.keep,
        match arguments.forget_early {
            true => ", also what can still be delivered again",
            false => "",
        }
    );
    confirm(global, arguments.yes, &question)?;
    // The settings are warned of once, a group where it has too much.
    let warnings = inbox::warnings(opened.name(), &[], &retention, now());
    let mut pruned = Pruned {
        inbox: opened.name().to_owned(),
        forgotten: 0,
        groups: Vec::new(),
        warnings: warnings.iter().map(ToString::to_string).collect(),
    };
    for status in chosen {
        let (forgotten, warning) =
            inbox::look_after_group(&opened, &status, &retention, now()).await?;
        pruned.forgotten += forgotten;
        pruned.warnings.extend(warning.map(|one| one.to_string()));
        pruned.groups.push(Group {
            group: status.group,
            rows: status.rows.saturating_sub(forgotten),
            forgotten,
        });
    }
    for warning in &pruned.warnings {
        talk(global.quiet, format_args!("warning: {warning}"));
    }
    object(global.format(), &json(&pruned), || {
        format!("{} rows forgotten", pruned.forgotten)
    })
}

/// The groups that are named, each of which must be there; all of them where none is.
async fn chosen(inbox: &dyn InboxStore, named: &[String]) -> Result<Vec<InboxStatus>, Failure> {
    let there = inbox.status().await?;
    for name in named {
        if !there.iter().any(|status| status.group == *name) {
            return Err(Failure::new(
                codes::GROUP_UNKNOWN,
                format!(
                    "nothing is remembered of the group {name:?} in {}; nothing was done, see: tidings inbox status",
                    inbox.name()
                ),
            ));
        }
    }
    let is_named = |status: &InboxStatus| named.is_empty() || named.contains(&status.group);
    Ok(there.into_iter().filter(is_named).collect())
}
