//! `tidings dlq actions`: what persons did, with who, when and why; and the record of what they do outside of the store.

use crate::arguments::Global;
use crate::commands::outbox::source;
use crate::dlq_arguments::{DlqActions, Signature};
use crate::failure::Failure;
use crate::folder;
use crate::output::{List, json, talk};
use crate::place::Place;
use crate::store_arguments::SharedStore;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings::core::store::OperatorAction;
use tidings::sql::schema::{self, Part};
use tidings::sql::{ActionRecord, Failures};

/// What a person did, as programs read it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    at: String,
    actor: &'a str,
    action: &'a str,
    consumer: Option<&'a str>,
    target: &'a str,
    reason: &'a str,
    detail: Option<Box<RawValue>>,
}

const HEADERS: [&str; 6] = ["AT", "ACTOR", "ACTION", "CONSUMER", "TARGET", "REASON"];

pub(crate) async fn run(global: &Global, arguments: DlqActions) -> Result<(), Failure> {
    let failures = super::open(&arguments.place).await?;
    let group = arguments.consumer.as_ref().map(|group| group.as_str());
    let actions = failures.newest_actions(group, arguments.limit).await?;
    let mut list = List::aligned(global.format(), &HEADERS, !global.no_headers);
    for action in &actions {
        let row = row(action);
        let cells = || {
            vec![
                row.at.clone(),
                row.actor.to_owned(),
                row.action.to_owned(),
                row.consumer.unwrap_or("-").to_owned(),
                row.target.to_owned(),
                super::row::brief(row.reason),
            ]
        };
        list.row(|| json(&row), cells)?;
    }
    list.finish().map(drop)
}

fn row(action: &OperatorAction) -> Row<'_> {
    Row {
        at: action.at.to_string(),
        actor: &action.actor,
        action: &action.action,
        consumer: action.group.as_deref(),
        target: &action.target,
        reason: &action.reason,
        detail: RawValue::from_string(action.detail.clone()).ok(),
    }
}

/// What was done to a group where its cursor is.
pub(crate) struct Done<'a> {
    /// What, in one word.
    pub(crate) action: &'a str,
    /// The group.
    pub(crate) group: &'a str,
    /// What else is known, as JSON.
    pub(crate) detail: String,
}

/// Where it is recorded what a person does to groups on their broker.
pub(crate) struct Record {
    place: Place,
    shared: Option<Failures>,
}

impl Record {
    /// Opens the shared store, so that one which cannot be used is told before anything is done.
    pub(crate) async fn open(place: &Place, store: &SharedStore) -> Result<Self, Failure> {
        let shared = match &store.url {
            Some(url) => Some(Failures::open(&source::database(url, false).await?).await?),
            None => None,
        };
        let place = place.clone();
        Ok(Self { place, shared })
    }

    /// The shared store, or that of the data folder, which is made where it is missing.
    async fn store(self) -> Result<Failures, Failure> {
        if let Some(shared) = self.shared {
            return Ok(shared);
        }
        let Some(folder) = self.place.notes()? else {
            return Err(Failure::usage(
                "neither --store URL nor --data DIR says where",
            ));
        };
        let database = source::file(&folder::state(&folder), true).await?;
        schema::migrate(&database, &Part::ALL).await?;
        Ok(Failures::open(&database).await?)
    }

    /// Records what was done to a group. It is done whether that succeeds or not, so that a failure is only told.
    pub(crate) async fn note(self, done: &Done<'_>, signature: &Signature) {
        let recorded = async {
            let action = ActionRecord {
                action: done.action,
                group: Some(done.group),
                target: done.group,
                operator: &signature.operator(),
                detail: &done.detail,
            };
            let store = self.store().await?;
            Ok::<_, Failure>(store.record_action(&action).await?)
        };
        if let Err(failure) = recorded.await {
            let message = failure.message();
            talk(
                false,
                format_args!("warning: who did it and why is not recorded: {message}"),
            );
        }
    }
}
