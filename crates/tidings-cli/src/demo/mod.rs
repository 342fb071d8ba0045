//! `tidings demo`: the order flow of five services by choreography, for real, on the embedded log.
//!
//! The order service states `order.placed`; payment, inventory and shipping react in turn, notification on its own. Some payments are declined, one order
//! is poisonous and ends in the dead letters, one transient fault heals by a retry. Killed and started again on the same folder, it goes on where it was.

mod events;
mod report;
mod screen;
mod services;

use crate::arguments::{Demo, Filter, Global};
use crate::failure::Failure;
use crate::folder;
use crate::interrupt::interrupted;
use crate::output::talk;
use crate::rows::Selection;
use report::Report;
use screen::Screen;
use services::Services;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tidings::Tidings;
use tidings::broker::{Reader, Recorded};
use tidings::core::seam::Clock as _;
use tidings::flow::runtime::SystemClock;

pub(crate) async fn run(global: &Global, arguments: Demo) -> Result<ExitCode, Failure> {
    let folder = match arguments.folder {
        Some(folder) => folder,
        None => temporary_folder()?,
    };
    let screen = Screen::new(global.format().is_table() && !global.quiet);
    screen.say(&format!(
        "Five services, {} orders, one folder: {}\n",
        arguments.orders,
        folder.display()
    ));
    let tidings = folder::own(&folder).await?;
    let services = Services::default();
    let flow = flow(&tidings, &services, &screen, arguments.orders);
    let elapsed = tokio::select! {
        elapsed = flow => elapsed?,
        interrupt = interrupted() => {
            tidings.shutdown().await?;
            talk(global.quiet, format_args!("interrupted; go on with: tidings demo --orders {} --data {}", arguments.orders, folder.display()));
            return Ok(ExitCode::from(interrupt.exit_code()));
        }
    };
    let report = Report::of(&folder::read(&folder)?, &folder, elapsed, &screen).await?;
    report.print(global, &services, &screen)?;
    Ok(ExitCode::SUCCESS)
}

/// How long the services may take for what is left once all orders are placed; a million orders take minutes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Places the orders that are not placed yet and lets everybody finish; answers how long it took.
async fn flow(
    tidings: &Tidings,
    services: &Services,
    screen: &Screen,
    orders: u64,
) -> Result<Duration, Failure> {
    let placed = recall(tidings.reader()?, services).await?;
    if !placed.is_empty() {
        screen.say(&format!(
            "  {} orders were placed before; going on\n",
            placed.len()
        ));
    }
    let clock = SystemClock::new();
    let started = clock.elapsed();
    let _consumers = services.start(tidings, screen).await?;
    for number in 1..=orders {
        let order = events::order(number);
        if !placed.contains(&order.order_id) {
            screen.tell(&order.order_id, "order", "is placed → order.placed");
            tidings.publish(order).await?;
        }
    }
    tidings.drain_within(DRAIN_TIMEOUT).await?;
    Ok(clock.elapsed().saturating_sub(started))
}

/// Rebuilds what the services know from the log, and tells which orders are placed.
async fn recall(reader: &dyn Reader, services: &Services) -> Result<HashSet<String>, Failure> {
    let mut placed = HashSet::new();
    let filter = Filter::default();
    let take = |recorded: Recorded| {
        services.recall(&recorded);
        if recorded.envelope.event_type().name() == "order.placed" {
            placed.extend(recorded.envelope.aggregate_id().map(str::to_owned));
        }
        Ok(ControlFlow::Continue(()))
    };
    Selection::new(&filter, reader)
        .await?
        .each(reader, take)
        .await?;
    Ok(placed)
}

/// A new folder for this run.
fn temporary_folder() -> Result<PathBuf, Failure> {
    let base = std::env::temp_dir();
    let name = format!(
        "tidings-demo-{}-{}",
        std::process::id(),
        crate::when::now().as_micros() / 1_000
    );
    let folder = base.join(name);
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::file("make", Path::new(&folder).display(), &error))?;
    Ok(folder)
}
