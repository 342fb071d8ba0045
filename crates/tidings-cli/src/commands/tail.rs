//! `tidings tail`: events as they are published.

use crate::arguments::{Filter, Global, Tail};
use crate::failure::Failure;
use crate::folder;
use crate::follow::{self, Follow};
use crate::interrupt::interrupted;
use crate::output::{Format, List, hint};
use crate::place;
use crate::rows::{self, behind_damage};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::process::ExitCode;
use tidings::broker::{ReadRequest, Reader, StartAt, Tailed};
use tidings::{Durability, Location, Tidings};

/// Events that one read asks for.
const PAGE_EVENTS: usize = 256;

pub(crate) async fn run(global: &Global, arguments: Tail) -> Result<ExitCode, Failure> {
    // A stream has no last row to close a list with, so that JSON is one object a line.
    let format = if global.format() == Format::Json {
        Format::Jsonl
    } else {
        global.format()
    };
    let mut list = List::streamed(format);
    let work = async {
        match arguments.place.location()? {
            Location::Folder(folder) => {
                let reader = folder::read(&folder)?;
                follow(global, &arguments, &reader, &mut list).await
            }
            broker @ Location::Broker(_) => {
                let tidings = place::open(&broker, Durability::Synced).await?;
                follow_broker(global, &arguments, &tidings, &mut list).await
            }
        }
    };
    tokio::select! {
        result = work => result.map(|()| ExitCode::SUCCESS),
        interrupt = interrupted() => Ok(ExitCode::from(interrupt.exit_code())),
    }
}

async fn follow(
    global: &Global,
    arguments: &Tail,
    reader: &dyn Reader,
    list: &mut List,
) -> Result<(), Failure> {
    let filter = filter(arguments);
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

fn filter(arguments: &Tail) -> Filter {
    Filter {
        types: arguments.patterns.clone(),
        internal: arguments.internal,
        ..Filter::default()
    }
}

/// Follows a broker that has no positions.
async fn follow_broker(
    global: &Global,
    arguments: &Tail,
    tidings: &Tidings,
    list: &mut List,
) -> Result<(), Failure> {
    let filter = filter(arguments);
    let read = Follow {
        filter: &filter,
        start: match arguments.since {
            Some(since) => since.0,
            None if arguments.from_start || arguments.until_end => StartAt::Earliest,
            None => StartAt::Latest,
        },
        until_end: arguments.until_end,
    };
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let list = RefCell::new(list);
    let take = |tailed: &Tailed| {
        let mut list = list.borrow_mut();
        list.row(
            || follow::object(tailed, arguments.cloudevents),
            || follow::cells(tailed, global),
        )?;
        list.flush()?;
        left -= 1;
        Ok(if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    };
    let live = || {
        if !arguments.until_end {
            hint(global.quiet, "live; Ctrl-C to stop");
        }
        list.borrow_mut().flush()
    };
    if arguments.limit != Some(0) {
        read.each(&**tidings.broker(), take, live).await?;
    }
    Ok(tidings.shutdown().await?)
}
