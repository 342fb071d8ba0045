//! `tidings relay run`: carries events from an outbox table to their destination until it is stopped, or until nothing is left.

use super::destination::{Open, Target};
use crate::arguments::Global;
use crate::commands::outbox::{shape_name, source};
use crate::failure::Failure;
use crate::health::{Health, Listening, during};
use crate::interrupt::{Interrupt, interrupted};
use crate::outbox_arguments::RelayRun;
use crate::output::{json, object, talk};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use tidings::Tidings;
use tidings::core::codes;
use tidings::core::store::{OutboxStore as _, Settlement};
use tidings::flow::outbox::{
    Relay, RelayHandle, RelayMetrics, RelayNotice, RelayOptions, RelayPhase, RetryClass,
};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::{RelayTables, SqlOutbox};

/// What the relay did in this run.
#[derive(Debug, Serialize)]
struct Summary {
    outbox: String,
    relayed: u64,
    dead: u64,
    retries: u64,
    duplicates_suspected: u64,
    unsent: Option<u64>,
}

/// Why the relay stopped.
enum Ended {
    /// Nothing was left.
    Empty(Box<RelayMetrics>),
    Interrupted(Interrupt),
    /// The destination is gone for good.
    Gone(String),
}

pub(crate) async fn run(global: &Global, arguments: RelayRun) -> Result<ExitCode, Failure> {
    let target = Target::parse(&arguments.to)?;
    let access = source::Access {
        relay_tables: RelayTables::Make,
        listen: arguments.listen_notify,
    };
    let outbox = source::open(&arguments.source, access).await?;
    let destination = Open::new(&target).await?;
    let ready = ready_line(&outbox, &target, &arguments);
    let relay = Relay::new(
        Arc::new(outbox),
        destination.destination(),
        Arc::new(SystemClock::new()),
        Arc::new(SystemChance),
        options(&arguments),
    );
    let quiet = global.quiet;
    let relay = relay
        .observe(move |notice| tell(quiet, &ready, notice))
        .start();
    let listening = listen(&arguments, relay.handle(), destination.place(), quiet).await?;
    let work = async {
        let ended = tokio::select! {
            done = relay.finished() => Ended::Empty(Box::new(done?)),
            interrupt = interrupted() => Ended::Interrupted(interrupt),
            reason = destination.gone() => Ended::Gone(reason),
        };
        let deadline = arguments.drain_timeout.0;
        match ended {
            Ended::Empty(metrics) => Ok((*metrics, ExitCode::SUCCESS)),
            Ended::Interrupted(interrupt) => {
                talk(quiet, "draining: what is on its way is settled");
                let metrics = relay.drain(deadline).await?;
                Ok((metrics, ExitCode::from(interrupt.exit_code())))
            }
            Ended::Gone(reason) => {
                let done = relay.drain(deadline).await;
                let relayed = done.map_or(0, |metrics| metrics.relayed());
                Err(Failure::new(
                    codes::FILE,
                    format!(
                        "the destination, {}, is gone: {reason}; {relayed} events were accepted before, the others stay in the outbox",
                        target.name()
                    ),
                ))
            }
        }
    };
    let outcome = during(listening, work).await;
    destination.close().await?;
    let (metrics, code) = outcome?;
    print(global, &target, &metrics)?;
    Ok(code)
}

fn options(arguments: &RelayRun) -> RelayOptions {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "this host",
        name => name,
    };
    RelayOptions {
        shard: arguments.shard,
        label: format!("{host} {}", std::process::id()),
        attempts_max: arguments.attempts,
        policy: arguments.policy.known(),
        batch_rows: arguments.batch,
        poll_idle: arguments.poll_max.0,
        until_empty: arguments.until_empty,
        ..RelayOptions::default()
    }
}

async fn listen(
    arguments: &RelayRun,
    relay: RelayHandle,
    place: Option<Tidings>,
    quiet: bool,
) -> Result<Option<Listening>, Failure> {
    let Some(address) = arguments.listen else {
        return Ok(None);
    };
    let observed = relay.clone();
    let health = Health {
        metrics: Box::new(move || {
            let mut families = observed.metrics().families();
            families.extend(place.iter().flat_map(Tidings::log_metrics));
            Box::pin(std::future::ready(families))
        }),
        unready: Box::new(move || match relay.phase() {
            RelayPhase::Relaying => None,
            RelayPhase::Waiting => Some(
                "waiting: another relay has the shard, or the database does not answer".to_owned(),
            ),
            phase => Some(phase.as_str().to_owned()),
        }),
    };
    let listening = Listening::open(address, health).await?;
    talk(quiet, format_args!("metrics {}", listening.url()));
    Ok(Some(listening))
}

/// What is said once the relay works.
fn ready_line(outbox: &SqlOutbox, target: &Target, arguments: &RelayRun) -> String {
    format!(
        "relay ready  {} -> {}  shape {}  sent rows are {}  polling up to {:?}  batch {}  shard {}/{}  {}",
        outbox.name(),
        target.name(),
        shape_name(outbox.shape()),
        match outbox.settlement() {
            Settlement::Delete => "deleted",
            Settlement::Mark => "marked",
        },
        arguments.poll_max.0,
        arguments.batch,
        arguments.shard.index,
        arguments.shard.count,
        if arguments.source.unordered {
            "unordered"
        } else {
            "ordered per key"
        },
    )
}

/// Tells the person what happens; what goes well is only counted.
pub(crate) fn tell(quiet: bool, ready: &str, notice: &RelayNotice) {
    let named = |destination: &str| match destination {
        "" => String::new(),
        name => format!(" {name}"),
    };
    match notice {
        RelayNotice::Acquired { epoch } => talk(quiet, format_args!("{ready}  epoch {epoch}")),
        RelayNotice::HeldByOther { owner } => talk(
            quiet,
            format_args!("waiting  {owner} relays this shard; this relay takes over when it ends"),
        ),
        RelayNotice::LeaseLost => talk(
            quiet,
            "warning: the lease was lost or could not be renewed in time; asking for it again",
        ),
        RelayNotice::Retry(RetryClass::Unclear) => talk(
            quiet,
            "retry  an outcome is unknown, the event is sent again under the same event id",
        ),
        RelayNotice::Dead { row, reason } => talk(
            quiet,
            format_args!("given up  row {row}: {reason}; see: tidings outbox ls --dead"),
        ),
        RelayNotice::DestinationDown {
            destination,
            reason,
            delay,
        } => talk(
            quiet,
            format_args!(
                "warning: the destination{} is in trouble: {reason}; again in {delay:?}",
                named(destination)
            ),
        ),
        RelayNotice::DestinationUp { destination } => talk(
            quiet,
            format_args!("the destination{} accepts again", named(destination)),
        ),
        RelayNotice::StoreFailed {
            doing,
            reason,
            delay,
        } => talk(
            quiet,
            format_args!("warning: {doing}: {reason}; again in {delay:?}"),
        ),
        RelayNotice::StoreHealed { doing } => {
            talk(quiet, format_args!("the database works again: {doing}"));
        }
        RelayNotice::OrderRace => talk(
            quiet,
            "warning: two writers of one key committed in the other order than they wrote; serialise them, or publish by key in one transaction at a time",
        ),
        // Counted.
        _ => {}
    }
}

fn print(global: &Global, target: &Target, metrics: &RelayMetrics) -> Result<(), Failure> {
    let summary = Summary {
        outbox: metrics.outbox.clone(),
        relayed: metrics.relayed(),
        dead: metrics.dead,
        retries: metrics.retries.values().sum(),
        duplicates_suspected: metrics.duplicates_suspected,
        unsent: metrics.status.as_ref().map(|status| status.pending),
    };
    let text = format!(
        "{}: {} events relayed, {} given up, {} retries",
        summary.outbox, summary.relayed, summary.dead, summary.retries
    );
    // Standard output holds the events then, and nothing else.
    if global.format().is_table() || *target == Target::StandardOutput {
        talk(global.quiet, text);
        return Ok(());
    }
    object(global.format(), &json(&summary), || text)
}
