//! `tidings event get`: one event by its id.

use crate::arguments::{EventGet, Filter, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{self, Output};
use crate::rows::{self, Selection};
use std::ops::ControlFlow;
use tidings::broker::Recorded;
use tidings::core::codes;

pub(crate) async fn run(global: &Global, arguments: EventGet) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let filter = Filter {
        internal: true,
        ..Filter::default()
    };
    let mut found: Option<Recorded> = None;
    let take = |recorded: Recorded| {
        if recorded.envelope.event_id() != arguments.event_id {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(recorded);
        Ok(ControlFlow::Break(()))
    };
    Selection::new(&filter, &reader)
        .await?
        .each(&reader, take)
        .await?;
    let Some(recorded) = found else {
        let message = format!(
            "there is no event {:?} in {}",
            arguments.event_id,
            arguments.data.folder.display()
        );
        return Err(Failure::new(codes::EVENT_UNKNOWN, message));
    };
    if arguments.raw {
        let mut output = Output::new();
        output.bytes(recorded.envelope.payload_bytes())?;
        return output.flush();
    }
    let object = rows::object(&recorded, arguments.cloudevents);
    output::object(global.format(), &object, || output::attributes(&object))
}
