//! `tidings tail`: events as they are published.

use crate::arguments::{Filter, Global, Tail};
use crate::failure::Failure;
use crate::folder;
use crate::interrupt::interrupted;
use crate::output::{Format, List, hint};
use crate::rows::{self, behind_damage};
use std::process::ExitCode;
use tidings::broker::{ReadRequest, Reader};

/// Events that one read asks for.
const PAGE_EVENTS: usize = 256;

pub(crate) async fn run(global: &Global, arguments: Tail) -> Result<ExitCode, Failure> {
    let reader = folder::read(&arguments.data.folder)?;
    // A stream has no last row to close a list with, so that JSON is one object a line.
    let format = if global.format() == Format::Json {
        Format::Jsonl
    } else {
        global.format()
    };
    let mut list = List::streamed(format);
    tokio::select! {
        result = follow(global, &arguments, &reader, &mut list) => result.map(|()| ExitCode::SUCCESS),
        interrupt = interrupted() => Ok(ExitCode::from(interrupt.exit_code())),
    }
}

async fn follow(
    global: &Global,
    arguments: &Tail,
    reader: &dyn Reader,
    list: &mut List,
) -> Result<(), Failure> {
    let filter = Filter {
        types: arguments.patterns.clone(),
        internal: arguments.internal,
        ..Filter::default()
    };
    let patterns = rows::Selection::new(&filter, reader).await?.into_patterns();
    let mut from = match arguments.since {
        Some(since) => since.position(reader).await?,
        None if arguments.from_start || arguments.until_end => reader.earliest().await?,
        None => reader.end().await?,
    };
    let end = if arguments.until_end {
        Some(reader.end().await?)
    } else {
        None
    };
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut told_live = false;
    while left > 0 && end.is_none_or(|end| from < end) {
        let request = ReadRequest {
            from,
            patterns: &patterns,
            events_max: PAGE_EVENTS,
        };
        let page = match reader.read(request).await {
            Ok(page) => page,
            Err(error) => {
                from = behind_damage(error)?;
                continue;
            }
        };
        for recorded in page.events {
            if left == 0 || end.is_some_and(|end| recorded.position >= end) {
                break;
            }
            list.row(
                || rows::object(&recorded, arguments.cloudevents),
                || rows::cells(&recorded, global),
            )?;
            left -= 1;
        }
        list.flush()?;
        from = page.next;
        if page.at_end && end.is_none_or(|end| from < end) && left > 0 {
            if !told_live {
                hint(global.quiet, "live; Ctrl-C to stop");
                told_live = true;
            }
            reader.wait_beyond(from).await?;
        }
    }
    list.flush()
}
