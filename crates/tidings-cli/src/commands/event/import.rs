//! `tidings event import`: the events of a file of JSON lines, in its order, each acknowledged once it is durable.

use super::existing::{self, Beside, Existing, Place};
use crate::arguments::{AcknowledgedOnce, EventImport, Global};
use crate::failure::{Failure, exit_code};
use crate::input::{Line, Lines};
use crate::interrupt::interrupted;
use crate::output::{Format, Output, json, object, talk};
use crate::place;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tidings::broker::{Broker, Position, PublishOutcome};
use tidings::core::codes;
use tidings::core::envelope_json::{self, EnvelopeJsonError};
use tidings::limits::LINE_BYTES_MAX;
use tidings::{Durability, Envelope};
use tokio::sync::mpsc;

/// Events of one batch.
const BATCH_EVENTS: usize = 1_000;
/// Bytes of payload of one batch, so that memory stays bounded whatever the size of the events.
const BATCH_BYTES: usize = 2_097_152;
/// Batches that wait between the reader of the file and the writer of the log.
const BATCHES_AHEAD: usize = 2;
/// Rejected lines, and conflicts, that are told one by one.
const TOLD_MAX: u64 = 100;

/// What the reader of the file hands over.
enum Step {
    Batch(Vec<Envelope>),
    Rejected { number: u64, reason: String },
    Failed(Failure),
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    imported: u64,
    rejected: u64,
    /// Left out because they were there already.
    skipped: u64,
    /// Those of them that say something else than what is there.
    conflicts: u64,
    first_position: Option<u64>,
    last_position: Option<u64>,
}

#[derive(Serialize)]
struct Receipt<'a> {
    event_id: &'a str,
    position: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skipped: bool,
}

pub(crate) async fn run(global: &Global, arguments: EventImport) -> Result<ExitCode, Failure> {
    let lines = Lines::open(&arguments.file)?;
    let rejects = Rejects::create(&arguments)?;
    let durability = durability(arguments.durability);
    let location = arguments.place.location()?;
    let tidings = place::open(&location, durability).await?;
    let beside = match arguments.skip_existing {
        true => Some(Beside::open(&location, &tidings).await?),
        false => None,
    };
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let file = arguments.file.display().to_string();
    let reading = std::thread::spawn(move || read(lines, rejects, &sender, &file));
    let mut import = Import {
        broker: Arc::clone(tidings.broker()),
        global,
        output: Output::new(),
        summary: Summary::default(),
        progress: progress(global),
    };
    let result = tokio::select! {
        result = import.publish_all(receiver, beside.as_ref()) => result.map(|()| None),
        interrupt = interrupted() => Ok(Some(interrupt)),
    };
    import.progress.finish_and_clear();
    import.output.flush()?;
    let summary = import.summary;
    if let Some(beside) = beside {
        beside.close().await;
    }
    tidings.shutdown().await?;
    if result?.is_some() {
        // Whatever the signal was, the file is not imported whole.
        let message = format!(
            "interrupted after {} acknowledged events; up to {BATCH_EVENTS} more may be written; to go on, import the file again with --skip-existing",
            summary.imported
        );
        return Err(Failure::new(codes::INTERRUPTED, message));
    }
    if reading.join().is_err() {
        return Err(Failure::new(
            codes::BUG,
            "the reader of the file ended unexpectedly",
        ));
    }
    finish(global, &arguments, &summary)
}

/// What is asked for; giving up the promise is never silent, whatever else is.
fn durability(chosen: AcknowledgedOnce) -> Durability {
    match chosen {
        AcknowledgedOnce::Synced => Durability::Synced,
        AcknowledgedOnce::Written => {
            talk(
                false,
                "warning: --durability written: receipts come before the disk is flushed, and a power cut may lose these events",
            );
            Durability::Written
        }
    }
}

fn finish(
    global: &Global,
    arguments: &EventImport,
    summary: &Summary,
) -> Result<ExitCode, Failure> {
    let mut text = format!(
        "imported {} events, rejected {} lines",
        summary.imported, summary.rejected
    );
    if arguments.skip_existing {
        text.push_str(&format!(
            ", skipped {} that were there, {} of them with other content",
            summary.skipped, summary.conflicts
        ));
    }
    if global.format() == Format::Jsonl {
        talk(global.quiet, text);
    } else {
        object(global.format(), &json(summary), || text)?;
    }
    let mut code = None;
    if summary.conflicts > 0 {
        code = Some(codes::EVENTS_CONFLICT);
        talk(
            false,
            format_args!(
                "error[{}]: {} events of the file say something else than those with the same id that are there; what was there stays",
                codes::EVENTS_CONFLICT,
                summary.conflicts
            ),
        );
    }
    if summary.rejected > 0 {
        code = Some(codes::LINES_REJECTED);
        let kept = match &arguments.rejects {
            Some(path) => format!("they are in {}", path.display()),
            None => "give --rejects FILE to keep them".to_owned(),
        };
        talk(
            false,
            format_args!(
                "error[{}]: {} lines are no events and were left out; {kept}",
                codes::LINES_REJECTED,
                summary.rejected
            ),
        );
    }
    Ok(code.map_or(ExitCode::SUCCESS, |code| ExitCode::from(exit_code(code))))
}

struct Import<'a> {
    broker: Arc<dyn Broker>,
    global: &'a Global,
    output: Output,
    summary: Summary,
    progress: ProgressBar,
}

impl Import<'_> {
    /// Publishes the batches; with `beside` only what is not there yet.
    async fn publish_all(
        &mut self,
        mut steps: mpsc::Receiver<Step>,
        beside: Option<&Beside>,
    ) -> Result<(), Failure> {
        while let Some(step) = steps.recv().await {
            match step {
                Step::Batch(batch) => match beside {
                    Some(beside) => self.publish_fresh(beside, batch).await?,
                    None => self.publish(&batch).await.map(drop)?,
                },
                Step::Rejected { number, reason } => self.reject(number, &reason),
                Step::Failed(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Publishes what of a batch is not there yet.
    async fn publish_fresh(
        &mut self,
        beside: &Beside,
        batch: Vec<Envelope>,
    ) -> Result<(), Failure> {
        let parted = existing::part(&*self.broker, beside, batch).await?;
        let positions = self.publish(&parted.fresh).await?;
        for left_out in &parted.existing {
            // A receipt for an event of this batch must not come before that event is durable.
            let position = match left_out.place {
                Place::At(Position(position)) => Some(position),
                Place::Waiting => None,
                Place::Fresh(place) => positions.get(place).copied().flatten(),
            };
            self.skip(left_out, position)?;
        }
        self.progress.inc(parted.existing.len() as u64);
        self.output.flush()
    }

    fn skip(&mut self, left_out: &Existing, position: Option<u64>) -> Result<(), Failure> {
        let event_id = &left_out.event_id;
        self.summary.skipped += 1;
        if self.global.format() == Format::Jsonl {
            self.output.line(&json(&Receipt {
                event_id,
                position,
                skipped: true,
            }))?;
        }
        if left_out.differs {
            self.summary.conflicts += 1;
            let place = position.map_or_else(
                || "that is on its way into the log".to_owned(),
                |position| format!("at position {position}"),
            );
            let text = format!(
                "event {event_id}: the one {place} has the same id and other content; it stays, that of the file is left out"
            );
            self.tell(
                self.summary.conflicts,
                &text,
                "further conflicts are only counted",
            );
        }
        Ok(())
    }

    async fn publish(&mut self, batch: &[Envelope]) -> Result<Vec<Option<u64>>, Failure> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = self.broker.publish(batch).await;
        self.acknowledge(batch, outcomes)
    }

    /// Prints the receipts of what is durable, and answers the positions; the first event that is not ends the import.
    fn acknowledge(
        &mut self,
        batch: &[Envelope],
        outcomes: Vec<PublishOutcome>,
    ) -> Result<Vec<Option<u64>>, Failure> {
        let mut positions = Vec::with_capacity(batch.len());
        for (envelope, outcome) in batch.iter().zip(outcomes) {
            let receipt = match outcome {
                Ok(receipt) => receipt,
                Err(error) => {
                    self.output.flush()?;
                    let event_id = envelope.event_id();
                    let message = format!(
                        "event {event_id} was not imported: {error}; {} events before it are",
                        self.summary.imported
                    );
                    return Err(Failure::new(error.code(), message));
                }
            };
            let position = receipt.position.map(|Position(position)| position);
            if self.global.format() == Format::Jsonl {
                self.output.line(&json(&Receipt {
                    event_id: envelope.event_id(),
                    position,
                    skipped: false,
                }))?;
            }
            self.summary.imported += 1;
            self.summary.first_position = self.summary.first_position.or(position);
            self.summary.last_position = position;
            positions.push(position);
        }
        self.progress.inc(batch.len() as u64);
        self.output.flush()?;
        Ok(positions)
    }

    fn reject(&mut self, number: u64, reason: &str) {
        self.summary.rejected += 1;
        let text = format!("line {number}: {reason}");
        self.tell(
            self.summary.rejected,
            &text,
            "further rejected lines are only counted",
        );
    }

    /// Tells the first of many troubles one by one.
    fn tell(&self, count: u64, text: &str, no_more: &str) {
        self.progress.suspend(|| match count {
            ..=TOLD_MAX => talk(false, text),
            _ if count == TOLD_MAX + 1 => talk(false, no_more),
            _ => {}
        });
    }
}

/// A bar on a terminal; elsewhere nothing is drawn.
fn progress(global: &Global) -> ProgressBar {
    if global.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} events  {per_sec}  {elapsed}");
    let bar = ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Where rejected lines go.
struct Rejects {
    sink: Box<dyn Write + Send>,
}

impl Rejects {
    fn create(arguments: &EventImport) -> Result<Self, Failure> {
        let sink: Box<dyn Write + Send> = match &arguments.rejects {
            Some(path) => {
                let file = File::create(path).map_err(|error| {
                    Failure::file("write rejected lines to", path.display(), &error)
                })?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(std::io::sink()),
        };
        Ok(Self { sink })
    }

    fn line(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.sink.write_all(line)?;
        self.sink.write_all(b"\n")
    }
}

/// Reads the file on a thread of its own, so that parsing and writing overlap.
fn read(mut lines: Lines, mut rejects: Rejects, steps: &mpsc::Sender<Step>, file: &str) {
    let mut reader = Batches {
        steps,
        batch: Vec::new(),
        bytes: 0,
    };
    let outcome = reader.read(&mut lines, &mut rejects);
    let flushed = rejects.sink.flush();
    match outcome.and(flushed) {
        Ok(()) => {}
        Err(error) => {
            let failure = Failure::file(
                "read or reject a line of",
                format_args!("{file} (after line {})", lines.number),
                &error,
            );
            // The receiver is gone only if the import has already failed.
            let _ended = steps.blocking_send(Step::Failed(failure));
        }
    }
}

struct Batches<'a> {
    steps: &'a mpsc::Sender<Step>,
    batch: Vec<Envelope>,
    bytes: usize,
}

impl Batches<'_> {
    fn read(&mut self, lines: &mut Lines, rejects: &mut Rejects) -> std::io::Result<()> {
        loop {
            // Whoever feeds us slowly gets receipts before more is read.
            if lines.may_wait() && !self.send() {
                return Ok(());
            }
            let Some(line) = lines.next(&mut rejects.sink)? else {
                return Ok(());
            };
            let going_on = match line {
                Line::TooLong { bytes } => {
                    let reason =
                        format!("the line has {bytes} bytes, at most {LINE_BYTES_MAX} are allowed");
                    self.reject(lines.number, reason)
                }
                Line::Whole(line) => self.line(lines.number, &line, rejects)?,
            };
            if !going_on {
                return Ok(());
            }
        }
    }

    /// Takes one line: an event, a CloudEvents batch, or nothing; `false` once nobody listens any more.
    fn line(&mut self, number: u64, line: &[u8], rejects: &mut Rejects) -> std::io::Result<bool> {
        let text = line.trim_ascii();
        if text.is_empty() {
            return Ok(true);
        }
        if !text.starts_with(b"[") {
            return self.event(number, envelope_json::from_either(text), line, rejects);
        }
        match envelope_json::split_batch(text) {
            Ok(elements) => {
                for element in elements {
                    if !self.event(
                        number,
                        envelope_json::from_either(element.as_bytes()),
                        element.as_bytes(),
                        rejects,
                    )? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Err(error) => self.event(number, Err(error), line, rejects),
        }
    }

    fn event(
        &mut self,
        number: u64,
        event: Result<Envelope, EnvelopeJsonError>,
        line: &[u8],
        rejects: &mut Rejects,
    ) -> std::io::Result<bool> {
        match event {
            Ok(envelope) => {
                self.bytes += line.len();
                self.batch.push(envelope);
                Ok(
                    if self.batch.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES {
                        self.send()
                    } else {
                        true
                    },
                )
            }
            Err(error) => {
                rejects.line(line)?;
                Ok(self.reject(number, error.to_string()))
            }
        }
    }

    fn reject(&mut self, number: u64, reason: String) -> bool {
        self.steps
            .blocking_send(Step::Rejected { number, reason })
            .is_ok()
    }

    fn send(&mut self) -> bool {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        batch.is_empty() || self.steps.blocking_send(Step::Batch(batch)).is_ok()
    }
}
