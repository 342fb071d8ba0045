//! `tidings emit`: one event by hand.

use crate::arguments::{Emit, Global};
use crate::failure::Failure;
use crate::output::{hint, object};
use crate::place;
use crate::rows;
use std::time::Duration;
use tidings::broker::{Position, ReadRequest};
use tidings::core::codes;
use tidings::extract::Draft;
use tidings::producer::Stamp;
use tidings::{Durability, Envelope, Error, Location, Pattern, Tidings};

/// How long an owner waits for what others have left to be carried into the log.
const LEFT_OVER_WAIT: Duration = Duration::from_secs(5);

pub(crate) async fn run(global: &Global, arguments: Emit) -> Result<(), Failure> {
    let draft = arguments.event.draft(global.quiet)?;
    let location = arguments.place.location()?;
    let tidings = place::open(&location, Durability::Synced).await?;
    let stamp = arguments.event.stamp();
    let published = publish(&tidings, draft, stamp).await;
    // An owner carries what others left for it; it does not wait for those who go on writing.
    match tidings.drain_within(LEFT_OVER_WAIT).await {
        Err(Error::DrainTimeout { .. }) => {}
        ended => ended?,
    }
    let (envelope, position) = published?;
    let event_id = envelope.event_id();
    object(global.format(), &rows::stored(&envelope, position), || {
        let key = envelope.aggregate_id().unwrap_or("-");
        let place = match (position, &location) {
            (Some(position), _) => format!("position {position}"),
            (None, Location::Folder(_)) => "durable, its owner carries it into the log".to_owned(),
            (None, Location::Broker(_)) => format!("accepted by {location}"),
        };
        format!("{}  {event_id}  {key}  {place}", envelope.event_type())
    })?;
    if let Location::Folder(_) = location {
        hint(
            global.quiet,
            format_args!("see it with: tidings event get {event_id}"),
        );
    }
    Ok(())
}

/// Publishes the event and reads it back, so that what is shown is what is stored; beside the owner it has no position yet.
async fn publish(
    tidings: &Tidings,
    draft: Draft,
    stamp: Stamp,
) -> Result<(Envelope, Option<Position>), Failure> {
    let patterns = [Pattern::exact(&draft.event_type)];
    let envelope = tidings.producer().stamp(draft, stamp)?;
    let outcomes = tidings
        .publish_envelopes(std::slice::from_ref(&envelope))
        .await;
    let missing = || Failure::new(codes::BUG, "the event was acknowledged and cannot be read");
    let receipt = outcomes.into_iter().next().ok_or_else(missing)??;
    let (Some(from), Some(_)) = (receipt.position, tidings.broker().reader()) else {
        return Ok((envelope, receipt.position));
    };
    let request = ReadRequest {
        from,
        patterns: &patterns,
        events_max: 1,
    };
    let page = tidings.reader()?.read(request).await?;
    let stored = page.events.into_iter().next().ok_or_else(missing)?;
    Ok((stored.envelope, Some(stored.position)))
}
