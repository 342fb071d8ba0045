//! `tidings event export`: one envelope a line, in the order of the log, as it was given.

use crate::arguments::EventExport;
use crate::failure::Failure;
use crate::folder;
use crate::follow::{self, Follow};
use crate::place;
use crate::rows::Selection;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use tidings::broker::{StartAt, Tailed};
use tidings::core::{cloudevents, envelope_json};
use tidings::{Durability, Location, Tidings};

pub(crate) async fn run(arguments: EventExport) -> Result<(), Failure> {
    let name = arguments.out.as_ref().map_or_else(
        || "standard output".to_owned(),
        |path| path.display().to_string(),
    );
    let failed = |error: std::io::Error| Failure::file("write to", &name, &error);
    let sink: Box<dyn Write> = match &arguments.out {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let mut sink = BufWriter::with_capacity(262_144, sink);
    let mut line = Vec::new();
    let folder = match arguments.place.location()? {
        Location::Folder(folder) => folder,
        broker @ Location::Broker(_) => {
            let tidings = place::open(&broker, Durability::Synced).await?;
            return follow(&arguments, &tidings, |tailed| {
                line.clear();
                follow::exported(tailed, arguments.cloudevents, &mut line);
                line.push(b'\n');
                sink.write_all(&line).map_err(failed)
            })
            .await
            .and_then(|()| sink.flush().map_err(failed));
        }
    };
    let reader = folder::read(&folder)?;
    let selection = Selection::new(&arguments.filter, &reader).await?;
    let take = |recorded: tidings::broker::Recorded| {
        line.clear();
        if arguments.cloudevents {
            cloudevents::write_json(&recorded.envelope, &mut line);
        } else {
            envelope_json::write_json(&recorded.envelope, &mut line);
        }
        line.push(b'\n');
        sink.write_all(&line).map_err(failed)?;
        Ok(ControlFlow::Continue(()))
    };
    selection.each(&reader, take).await?;
    sink.flush().map_err(failed)
}

/// Exports what a broker has; one without history is refused by it with the reason.
async fn follow(
    arguments: &EventExport,
    tidings: &Tidings,
    mut write: impl FnMut(&Tailed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if arguments.filter.until.is_some() {
        return Err(Failure::usage(
            "--until needs positions, which a broker behind --url does not have; leave it out, or bridge the events to a data folder first",
        ));
    }
    let read = Follow {
        filter: &arguments.filter,
        start: arguments
            .filter
            .since
            .map_or(StartAt::Earliest, |since| since.0),
        until_end: true,
    };
    let take = |tailed: &Tailed| {
        write(tailed)?;
        Ok(ControlFlow::Continue(()))
    };
    read.each(&**tidings.broker(), take, || Ok(())).await?;
    Ok(tidings.shutdown().await?)
}
