//! `tidings dlq export`: the events of dead letters as JSON lines, with who gave them up and why.

use crate::dlq_arguments::DlqExport;
use crate::failure::Failure;
use std::fs::File;
use std::io::{BufWriter, Write};
use tidings::core::{cloudevents, envelope_json};
use tidings::dead_letter::exported;

pub(crate) async fn run(arguments: DlqExport) -> Result<(), Failure> {
    let name = arguments.out.as_ref().map_or_else(
        || "standard output".to_owned(),
        |path| path.display().to_string(),
    );
    let failed = |error: std::io::Error| Failure::file("write to", &name, &error);
    let failures = super::open(&arguments.place).await?;
    let filter = super::filter(&arguments.filters, &[])?;
    let filter = super::unsettled(filter, arguments.all);
    let sink: Box<dyn Write> = match &arguments.out {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let mut sink = BufWriter::with_capacity(262_144, sink);
    let mut line = Vec::new();
    super::each(&failures, &filter, |letter| {
        let event = exported(&letter);
        line.clear();
        if arguments.cloudevents {
            cloudevents::write_json(&event, &mut line);
        } else {
            envelope_json::write_json(&event, &mut line);
        }
        line.push(b'\n');
        sink.write_all(&line).map_err(failed)?;
        Ok(true)
    })
    .await?;
    sink.flush().map_err(failed)
}
