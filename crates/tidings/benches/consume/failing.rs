//! Events a second through a group of which every tenth event fails at each of its three attempts, beside the same group without failures.

use crate::measure::{Goal, Outcome, Report, Request, Rounds, per_second, progress};
use crate::stage::{envelopes, fresh_folder, open, publish, remove};
use std::hint::black_box;
use tidings::extract::HandlerError;
use tidings::{Envelope, OnFailure, Tidings};
use tokio::runtime::Runtime;

/// One of so many events fails.
const FAILING_OF: usize = 10;
const ATTEMPTS: u32 = 3;

/// A backlog of the loan data. Every tenth event fails at three attempts in place, each noted in the store before the next one, and becomes a dead letter there; its group goes on behind it. Bare: the same backlog,
/// the same store, and no failure.
pub(crate) fn failing(request: &Request, report: &mut Report, runtime: &Runtime) -> Outcome<()> {
    progress("consume.failing");
    let count = request.full_or_quick(1_000_000, 20_000);
    let folder = fresh_folder("failing")?;
    let tidings = runtime.block_on(async {
        let tidings = open(&folder).await?;
        publish(&tidings, &envelopes(count)?).await?;
        Outcome::Ok(tidings)
    })?;
    let (mut failing, mut well) = (0, 0);
    let rounds = Rounds::measure(
        request.full_or_quick(3, 1),
        || {
            failing += 1;
            consume(
                runtime,
                &tidings,
                &format!("failing-{failing}"),
                count,
                true,
            )
        },
        || {
            well += 1;
            consume(runtime, &tidings, &format!("well-{well}"), count, false)
        },
    )?;
    runtime.block_on(tidings.shutdown())?;
    remove(&folder)?;
    report.compared("consume.failing", "events/s", &rounds, Goal::RatioMin(0.5));
    report.processor("consume.failing", (count, count), &rounds);
    Ok(())
}

fn consume(
    runtime: &Runtime,
    tidings: &Tidings,
    group: &str,
    count: usize,
    fails: bool,
) -> Outcome<f64> {
    runtime.block_on(async {
        let consumer = tidings
            .consumer(group)
            .attempts(ATTEMPTS)
            .on_failure(OnFailure::Continue)
            .until_end();
        let began = tidings::flow::runtime::SystemClock::new();
        let consumer = if fails {
            consumer.on_raw("**", fail_some).start().await?
        } else {
            consumer.on_raw("**", ignore).start().await?
        };
        consumer.finished().await?;
        let took = tidings::core::seam::Clock::elapsed(&began);
        let stats = consumer.stats();
        assert_eq!(
            stats.handled + stats.dead_lettered,
            count as u64,
            "every event is handled or given up"
        );
        assert_eq!(stats.dead_lettered > 0, fails);
        consumer.drain().await?;
        Ok(per_second(count, took))
    })
}

async fn ignore(envelope: Envelope) {
    black_box(envelope);
}

async fn fail_some(envelope: Envelope) -> Result<(), HandlerError> {
    // The ids of the data are spread evenly.
    let sum: usize = envelope.event_id().bytes().map(usize::from).sum();
    if sum.is_multiple_of(FAILING_OF) {
        return Err(HandlerError::transient_message("the bank does not answer"));
    }
    black_box(envelope);
    Ok(())
}
