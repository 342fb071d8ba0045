//! `tidings event get`: one event by its id.

use crate::arguments::{EventGet, Global};
use crate::failure::Failure;
use crate::folder;
use crate::output::{self, Output};
use crate::rows::{self, behind_damage};
use tidings::Pattern;
use tidings::broker::{LookUpBy, LookUpRequest, Reader, Recorded};
use tidings::core::codes;

pub(crate) async fn run(global: &Global, arguments: EventGet) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let found = find(&reader, &arguments.event_id).await?;
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

/// The first event with an id, whatever its type.
pub(super) async fn find(reader: &dyn Reader, event_id: &str) -> Result<Option<Recorded>, Failure> {
    let patterns = [Pattern::everything(), Pattern::internal()];
    let mut from = reader.earliest().await?;
    loop {
        let request = LookUpRequest {
            by: LookUpBy::EventId(event_id),
            from,
            patterns: &patterns,
            events_max: 1,
        };
        let page = match reader.look_up(request).await {
            Ok(page) => page,
            Err(error) => {
                from = behind_damage(error)?;
                continue;
            }
        };
        if let Some(found) = page.events.into_iter().next() {
            return Ok(Some(found));
        }
        if page.at_end {
            return Ok(None);
        }
        from = page.next;
    }
}
