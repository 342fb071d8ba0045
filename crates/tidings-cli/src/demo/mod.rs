//! `tidings demo`: the order flow of five services by choreography, for real, on the embedded log or on a broker.
//!
//! The order service writes each order and its `order.placed` in one transaction; payment, inventory and shipping react in turn, notification on its own.
//! Inventory keeps its shelves in the database and takes the transaction from its arguments. Some payments are declined, one order is poisonous and ends in
//! the dead letters, one transient fault heals by a retry. Killed and started again on the same folder, it goes on where it was.

mod events;
mod journal;
mod orders;
mod report;
mod screen;
mod services;

use crate::arguments::{Demo, Filter, Global};
use crate::failure::Failure;
use crate::folder;
use crate::interrupt::interrupted;
use crate::output::talk;
use crate::place;
use crate::rows::Selection;
use orders::Orders;
use report::{Facts, Report, Whereabouts};
use screen::Screen;
use services::{Services, Terms};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tidings::broker::{Reader, Recorded};
use tidings::core::seam::Clock as _;
use tidings::flow::runtime::SystemClock;
use tidings::{Location, Tidings};

pub(crate) async fn run(global: &Global, arguments: Demo) -> Result<ExitCode, Failure> {
    let (folder, broker) = whereabouts(&arguments)?;
    let screen = Screen::new(global.format().is_table() && !global.quiet);
    let carrier = broker
        .as_ref()
        .map_or_else(|| "one folder".to_owned(), Location::to_string);
    screen.say(&format!(
        "Five services, {} orders, {carrier}: {}\n",
        arguments.orders,
        folder.display()
    ));
    let tidings = open(&folder, broker.as_ref()).await?;
    let services = Services::default();
    let demo = Run {
        tidings: &tidings,
        services: &services,
        screen: &screen,
        terms: Terms {
            unordered: arguments.unordered,
            single_instance: arguments.single_instance,
            goes_on: broker.is_some() && !arguments.single_instance,
            from_latest: broker.is_some(),
        },
    };
    let flow = async {
        match &broker {
            None => demo.in_folder(&folder, arguments.orders).await,
            Some(_) => demo.on_broker(&folder, arguments.orders).await,
        }
    };
    let (facts, elapsed) = tokio::select! {
        ended = flow => ended?,
        interrupt = interrupted() => {
            tidings.shutdown().await?;
            talk(global.quiet, format_args!("interrupted; go on with: {}", again(&arguments, &folder)));
            return Ok(ExitCode::from(interrupt.exit_code()));
        }
    };
    let whereabouts = Whereabouts {
        folder: &folder,
        broker: broker.as_ref(),
        has_history: tidings.broker().capabilities().replay,
    };
    let report = Report::of(facts, &whereabouts, elapsed, &screen);
    report.print(global, &services, &screen)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of the demo, and the broker where the events are not in it.
fn whereabouts(arguments: &Demo) -> Result<(PathBuf, Option<Location>), Failure> {
    let location = arguments.url.as_deref().map(place::location).transpose()?;
    match (location, arguments.folder.clone()) {
        (Some(Location::Folder(folder)), None) => Ok((folder, None)),
        (Some(Location::Folder(folder)), Some(data)) if folder == data => Ok((folder, None)),
        (Some(Location::Folder(folder)), Some(data)) => Err(Failure::usage(format!(
            "--url names the folder {} and --data {}; give one of them",
            folder.display(),
            data.display()
        ))),
        (broker, Some(folder)) => Ok((folder, broker)),
        (broker, None) => Ok((temporary_folder()?, broker)),
    }
}

async fn open(folder: &Path, broker: Option<&Location>) -> Result<Tidings, Failure> {
    match broker {
        Some(Location::Broker(url)) => {
            let builder = Tidings::builder().program("tidings");
            Ok(builder.connect_with_data(url, folder).await?)
        }
        _ => folder::own(folder).await,
    }
}

/// The command that goes on.
fn again(arguments: &Demo, folder: &Path) -> String {
    let mut command = format!(
        "tidings demo --orders {} --data {}",
        arguments.orders,
        folder.display()
    );
    for (flag, is_set) in [
        (" --unordered", arguments.unordered),
        (" --single-instance", arguments.single_instance),
        (" --url URL", arguments.url.is_some()),
    ] {
        if is_set {
            command.push_str(flag);
        }
    }
    command
}

/// How long the services may take for what is left once all orders are placed; a million orders take minutes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3_600);

/// One run of the demo.
struct Run<'a> {
    tidings: &'a Tidings,
    services: &'a Services,
    screen: &'a Screen,
    terms: Terms,
}

impl Run<'_> {
    /// On the log of the folder, whose history tells what happened, before and now.
    async fn in_folder(&self, folder: &Path, orders: u64) -> Result<(Facts, Duration), Failure> {
        self.recall(self.tidings.reader()?).await?;
        let elapsed = self.flow(orders).await?;
        let facts = Facts::of_folder(&folder::read(folder)?).await?;
        Ok((facts, elapsed))
    }

    /// On a broker, where a journal tells what happened.
    async fn on_broker(&self, folder: &Path, orders: u64) -> Result<(Facts, Duration), Failure> {
        journal::start(self.tidings, self.terms).await?;
        for envelope in journal::read(folder).await? {
            self.services.recall(&envelope);
        }
        let elapsed = self.flow(orders).await?;
        Ok((Facts::of_journal(journal::read(folder).await?), elapsed))
    }

    /// Places the orders that are not placed yet and lets everybody finish; answers how long it took.
    async fn flow(&self, orders: u64) -> Result<Duration, Failure> {
        let orders_of_shop = Orders::open(self.tidings).await?;
        let placed = orders_of_shop.placed().await?;
        if !placed.is_empty() {
            self.screen.say(&format!(
                "  {} orders were placed before; going on\n",
                placed.len()
            ));
        }
        let clock = SystemClock::new();
        let started = clock.elapsed();
        let _consumers = self
            .services
            .start(self.tidings, self.screen, self.terms)
            .await?;
        for number in 1..=orders {
            let order = events::order(number);
            if !placed.contains(&order.order_id) {
                self.screen
                    .tell(&order.order_id, "order", "is placed → order.placed");
                orders_of_shop.place(&order).await?;
            }
        }
        self.tidings.drain_within(DRAIN_TIMEOUT).await?;
        Ok(clock.elapsed().saturating_sub(started))
    }

    /// Rebuilds what the services without a database know from the log.
    async fn recall(&self, reader: &dyn Reader) -> Result<(), Failure> {
        let filter = Filter::default();
        let take = |recorded: Recorded| {
            self.services.recall(&recorded.envelope);
            Ok(ControlFlow::Continue(()))
        };
        Selection::new(&filter, reader)
            .await?
            .each(reader, take)
            .await
    }
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
