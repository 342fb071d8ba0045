//! `tidings consumer pause`, `resume` and `skip`: a person's word to a group, kept in the store; the consumer that runs obeys at its next look.

use crate::arguments::{DATA_DEFAULT, Global};
use crate::commands::dead_letter;
use crate::dlq_arguments::{ConsumerPause, ConsumerResume, ConsumerSkip, LetterPlace, Signature};
use crate::failure::Failure;
use crate::folder;
use crate::output::{json, object};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use tidings::Envelope;
use tidings::broker::{Admin as _, GroupName, LookUpBy, LookUpRequest, Reader as _};
use tidings::core::codes;
use tidings::core::store::{
    DeadLetterStore as _, ForeignLetter, LaneId, LetterFilter, ParkedDelivery, ParkedId,
    WaitingFilter,
};
use tidings::dead_letter::fingerprint;
use tidings::flow::runtime::SystemClock;
use tidings::log::LogReader;
use tidings::sql::Failures;

/// The cause of a dead letter whose event was passed over before anybody failed at it.
const SKIPPED: &str = "skipped";

/// How many groups are named at most where another one was meant.
const GROUPS_NAMED_MAX: usize = 20;

#[derive(Debug, Serialize)]
struct Paused<'a> {
    consumer: &'a str,
    paused: bool,
    changed: bool,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct Skipped<'a> {
    consumer: &'a str,
    event_id: &'a str,
    skipped: bool,
}

pub(crate) async fn pause(global: &Global, arguments: ConsumerPause) -> Result<(), Failure> {
    let (group, place) = (&arguments.group, &arguments.place);
    let failures = dead_letter::open(place).await?;
    if !arguments.new_group {
        let way = "; if it is new here, for example not begun yet, say so: --new-group";
        check_known(&failures, place, group, way).await?;
    }
    set(global, &failures, group, true, &arguments.signature).await
}

pub(crate) async fn resume(global: &Global, arguments: ConsumerResume) -> Result<(), Failure> {
    let (group, place) = (&arguments.group, &arguments.place);
    let failures = dead_letter::open(place).await?;
    check_known(&failures, place, group, "").await?;
    set(global, &failures, group, false, &arguments.signature).await
}

async fn set(
    global: &Global,
    failures: &Failures,
    group: &GroupName,
    paused: bool,
    signature: &Signature,
) -> Result<(), Failure> {
    let mut operator = signature.operator();
    if operator.reason.is_empty() {
        operator.reason = format!("by {}", operator.actor);
    }
    let group = group.as_str();
    let changed = failures.set_paused(group, paused, &operator).await?;
    let answer = Paused {
        consumer: group,
        paused,
        changed,
        reason: &operator.reason,
    };
    object(global.format(), &json(&answer), || {
        match (paused, changed) {
            (true, _) => format!(
                "{group} is paused: {}; let it go on: tidings consumer resume {group}",
                operator.reason
            ),
            (false, true) => format!("{group} goes on"),
            (false, false) => format!("{group} was not paused"),
        }
    })
}

pub(crate) async fn skip(global: &Global, arguments: ConsumerSkip) -> Result<(), Failure> {
    let operator = arguments.signature.operator_with_reason()?;
    let failures = dead_letter::open(&arguments.place).await?;
    check_known(&failures, &arguments.place, &arguments.group, "").await?;
    let (group, event_id) = (arguments.group.as_str(), arguments.event_id.as_str());
    let filter = LetterFilter {
        ids: vec![event_id.to_owned()],
        group: Some(group.to_owned()),
        ..LetterFilter::default()
    };
    if failures.letters(&filter, i64::MIN, 1).await?.is_empty() {
        let delivery = waiting(&failures, &arguments).await?;
        let letter = passed_over(group, delivery, &operator.reason);
        failures.take_over(&[letter], &operator).await?;
    }
    let clock = SystemClock::new();
    let done = tidings::dead_letter::discard(&failures, &filter, true, &operator, &clock).await?;
    let skipped = Skipped {
        consumer: group,
        event_id,
        skipped: done.discarded > 0,
    };
    object(global.format(), &json(&skipped), || {
        if skipped.skipped {
            format!("{group} passes over {event_id}; what waited behind it goes on")
        } else {
            format!("{event_id} was decided on already: tidings dlq show {event_id}")
        }
    })
}

/// Refuses a group that neither the log nor the store knows: where its name was mistyped, the group that is meant would go on while the person believes that it does not.
async fn check_known(
    failures: &Failures,
    place: &LetterPlace,
    group: &GroupName,
    way: &str,
) -> Result<(), Failure> {
    let group = group.as_str();
    let mut names = BTreeSet::new();
    if let Some(log) = log(place)? {
        let groups = log.groups().await?.into_iter();
        names.extend(groups.map(|known| known.name.to_string()));
    }
    if names.contains(group) || failures.knows(group).await? {
        return Ok(());
    }
    let dead = failures.tally(&LetterFilter::default(), i64::MIN).await?;
    names.extend(dead.into_iter().map(|letters| letters.group));
    let paused = failures.paused().await?.into_iter();
    names.extend(paused.map(|paused| paused.group));
    let asked = match &place.store.url {
        Some(_) => failures.database().name().to_owned(),
        None => place.data.folder.display().to_string(),
    };
    let known = known(&names);
    Err(Failure::new(
        codes::GROUP_UNKNOWN,
        format!("there is no consumer group {group:?} in {asked}; {known}{way}"),
    ))
}

/// Which groups may have been meant.
fn known(names: &BTreeSet<String>) -> String {
    let told = names.iter().take(GROUPS_NAMED_MAX).map(String::as_str);
    let told = told.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "it names no other".to_owned(),
        1..=GROUPS_NAMED_MAX => format!("it names {told}"),
        count => format!("it names {told} and {} more", count - GROUPS_NAMED_MAX),
    }
}

/// The log of the data folder; beside a shared store only of one that is named, which may keep no log.
fn log(place: &LetterPlace) -> Result<Option<LogReader>, Failure> {
    let folder = &place.data.folder;
    match &place.store.url {
        None => folder::read(folder).map(Some),
        Some(_) if folder == Path::new(DATA_DEFAULT) => Ok(None),
        Some(_) => Ok(folder::read(folder).ok()),
    }
}

/// The delivery of an event that waits in the store, or stands on the log of the data folder.
async fn waiting(failures: &Failures, arguments: &ConsumerSkip) -> Result<ParkedDelivery, Failure> {
    let event_id = &arguments.event_id;
    let filter = WaitingFilter {
        ids: vec![event_id.clone()],
        group: Some(arguments.group.to_string()),
        ..WaitingFilter::default()
    };
    let mut parked = failures.waiting(&filter, i64::MIN, 1).await?;
    if let Some(parked) = parked.pop() {
        return Ok(parked.delivery);
    }
    let envelope = on_log(&arguments.place, event_id).await?.ok_or_else(|| {
        Failure::new(
            codes::EVENT_UNKNOWN,
            format!(
                "the event {event_id} neither waits in {} nor stands on the log of the data folder",
                failures.database().name()
            ),
        )
    })?;
    Ok(ParkedDelivery {
        id: ParkedId(0),
        lead: 0,
        lane: LaneId::of(&envelope),
        envelope,
        problem: None,
        position: None,
        attempts: 0,
        rounds: 0,
        deaths: 0,
        history: Vec::new(),
        due: None,
        letter: None,
    })
}

async fn on_log(place: &LetterPlace, event_id: &str) -> Result<Option<Envelope>, Failure> {
    if place.store.url.is_some() {
        return Ok(None);
    }
    let reader = folder::read(&place.data.folder)?;
    let mut from = reader.earliest().await?;
    loop {
        let request = LookUpRequest {
            from,
            by: LookUpBy::EventId(event_id),
            patterns: &[],
            events_max: 1,
        };
        let page = reader.look_up(request).await?;
        if let Some(found) = page.events.into_iter().next() {
            return Ok(Some(found.envelope));
        }
        if page.at_end || page.next == from {
            return Ok(None);
        }
        from = page.next;
    }
}

fn passed_over(group: &str, delivery: ParkedDelivery, reason: &str) -> ForeignLetter {
    let reasons = vec![format!("passed over: {reason}")];
    ForeignLetter {
        id: tidings::dead_letter::letter_id(&delivery.envelope, group),
        group: group.to_owned(),
        delivery,
        handler: String::new(),
        fingerprint: fingerprint(SKIPPED, &[]),
        reasons,
        cause: SKIPPED.to_owned(),
        died: crate::when::now(),
    }
}
