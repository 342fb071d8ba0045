//! The suite of [`Broker`](tidings_core::broker::Broker): each property is looked at on a fresh place, at the port and, where behaviour of the runtime is
//! judged, in the handlers of its consumers.
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn my_broker_conforms() {
//!     tidings_testkit::conformance::broker::run(Arc::new(MyFixture)).await.assert_holds();
//! }
//! ```
//!
//! `TIDINGS_CONFORMANCE=full` takes the full counts instead of the short ones, `TIDINGS_CONFORMANCE_ONLY=A1,C2` some properties alone, and
//! `TIDINGS_CONFORMANCE_RESULTS=FILE` writes the results as lines of JSON.

mod aborting;
mod batch;
mod chaos;
mod child;
mod classic;
mod closing;
mod consumer;
mod deciding;
mod durability;
mod failure;
mod fidelity;
mod fixture;
mod flow;
mod ground;
mod groups;
mod killed_worker;
mod member;
mod order;
mod outage;
mod parking;
mod property;
mod report;
mod sharing;
mod stores;
mod time;
mod trouble;
mod witness;

pub use fixture::{
    Fixture, RawListener, RawMessage, Sharing, Stores, Traits, Unavailable, unavailable,
};
pub use report::{Ending, PropertyResult, Report, Verdict};

use ground::Ground;
use property::{PROPERTIES, Property};
use report::{judge, variable};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Properties that are looked at at the same time.
const TOGETHER: usize = 4;
/// How long one property may take with short counts; with full ones, so many times as long.
const PROPERTY_TIME_MAX: Duration = Duration::from_secs(600);
const FULL_TIME_FACTOR: u32 = 5;

/// Runs every property, or those that `TIDINGS_CONFORMANCE_ONLY` names; those that disturb others one by one, after the rest.
///
/// # Panics
/// If the results cannot be written where `TIDINGS_CONFORMANCE_RESULTS` says. What a property finds is in the report.
pub async fn run(fixture: Arc<dyn Fixture>) -> Report {
    child::play(&fixture).await;
    let only = variable("TIDINGS_CONFORMANCE_ONLY");
    let all = PROPERTIES.iter().map(|property| property.name);
    let names: Vec<_> = match &only {
        Some(only) => only.split(',').collect(),
        None => all.collect(),
    };
    let report = run_some(fixture, &names).await;
    report.write();
    report
}

/// Runs the properties of these names, and keeps what it finds to itself: for tests of the suite.
pub async fn run_some(fixture: Arc<dyn Fixture>, names: &[&str]) -> Report {
    let full = variable("TIDINGS_CONFORMANCE").is_some_and(|value| value == "full");
    let wanted = |property: &&Property| names.contains(&property.name);
    let version = fixture.version().await;
    let (serial, parallel): (Vec<_>, Vec<_>) =
        PROPERTIES.iter().filter(wanted).partition(|it| it.serial);
    let mut results = Vec::new();
    let mut running = JoinSet::new();
    let mut waiting = parallel.into_iter();
    loop {
        while running.len() < TOGETHER
            && let Some(property) = waiting.next()
        {
            running.spawn(look_at(property, fixture.clone(), version.clone(), full));
        }
        match running.join_next().await {
            Some(result) => results.push(result.unwrap()),
            None => break,
        }
    }
    for property in serial {
        results.push(look_at(property, fixture.clone(), version.clone(), full).await);
    }
    let order = |result: &PropertyResult| {
        PROPERTIES
            .iter()
            .position(|property| property.name == result.property)
    };
    results.sort_by_key(order);
    Report { results }
}

/// Looks at one property in a task of its own, so that what it panics with is its result.
async fn look_at(
    property: &'static Property,
    fixture: Arc<dyn Fixture>,
    version: String,
    full: bool,
) -> PropertyResult {
    let traits = fixture.traits();
    let declined = traits.declined.iter();
    let declined = declined
        .into_iter()
        .find_map(|(name, reason)| (*name == property.name).then_some(*reason));
    let time_max = PROPERTY_TIME_MAX * if full { FULL_TIME_FACTOR } else { 1 };
    let broker = fixture.name().to_owned();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let address = fixture.fresh(property.name).await;
        let ground = Arc::new(Ground::new(Arc::clone(&fixture), address.clone(), full));
        let verdict = (property.check)(ground).await;
        fixture.remove(&address).await;
        verdict
    });
    let found = match tokio::time::timeout(time_max, task.join_next()).await {
        Ok(Some(Ok(verdict))) => Ok(verdict),
        Ok(Some(Err(error))) => Err(error
            .try_into_panic()
            .map_or_else(|error| error.to_string(), |panic| said(&*panic))),
        Ok(None) | Err(_) => Err(format!("it was not over after {time_max:?}")),
    };
    let (result, reason) = judge(declined, found);
    let result = PropertyResult {
        broker,
        version,
        property: property.name,
        title: property.title,
        result,
        reason,
    };
    eprintln!("{result}");
    result
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}
