//! `tidings event export`: one envelope a line, in the order of the log, as it was given.

use crate::arguments::EventExport;
use crate::failure::Failure;
use crate::folder;
use crate::rows::Selection;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use tidings::core::{cloudevents, envelope_json};

pub(crate) async fn run(arguments: EventExport) -> Result<(), Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    let selection = Selection::new(&arguments.filter, &reader).await?;
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
