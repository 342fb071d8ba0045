//! Several instances of one group: A2, C4.

use super::consumer::{builder, drain, start, without_order};
use super::ground::{Ground, assert_none_missing, counts, publish, spread};
use super::member::{Member, is_leased};
use super::order::assert_handled_in_order;
use super::report::Verdict;
use super::witness::{Witness, yielding};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::{Broker, KeyOrder};
use tidings_flow::consumer::RunningConsumer;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Connections that the competing consumers are spread over.
const CONNECTIONS: usize = 5;

/// The second instance of a group is refused where one works for it at a time.
pub(super) async fn refused(ground: &Ground, group: &str, why: &str) -> Verdict {
    let broker = ground.connect().await;
    let first = Member::join(ground, &*broker, group).await;
    assert!(
        is_leased(ground, &*broker, group).await,
        "a second instance of a group must be refused"
    );
    first.leave().await;
    Verdict::Declared(why.to_owned())
}

/// A2: many consumers of one group handle everything between them; what comes twice has a cause.
pub(super) async fn competing(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.one_instance {
        return refused(&ground, "a2", why).await;
    }
    let events = spread(ground.count(5_000, 100), 100);
    let instances = ground.count(50, 10);
    let mut brokers = Vec::new();
    for _ in 0..CONNECTIONS {
        brokers.push(ground.connect().await);
    }
    let (sender, mut received) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for instance in 0..instances {
        let broker: &Arc<dyn Broker> = &brokers[instance % CONNECTIONS];
        let member = Member::join(&ground, &**broker, "a2").await;
        tasks.spawn(consume(member, sender.clone()));
    }
    drop(sender);

    publish(&*brokers[0], &events).await;

    let mut seen: Vec<Envelope> = Vec::new();
    let mut different = BTreeSet::new();
    let mut losses = 0;
    let mut patience = super::ground::IDLE_MAX;
    while let Ok(Some((envelopes, lost))) = tokio::time::timeout(patience, received.recv()).await {
        losses = losses.max(lost);
        different.extend(envelopes.iter().map(|it| it.event_id().to_owned()));
        seen.extend(envelopes);
        if different.len() == events.len() {
            patience = ground.traits.quiet;
        }
    }
    tasks.shutdown().await;
    assert_none_missing(&events, &seen);
    let twice = counts(&seen).values().filter(|count| **count > 1).count();
    assert!(
        twice == 0 || losses > 0,
        "{twice} events were delivered again, though no instance had lost anything"
    );
    Verdict::Pass
}

/// Reads, acknowledges and tells until it is stopped.
async fn consume(mut member: Member, seen: mpsc::UnboundedSender<(Vec<Envelope>, usize)>) {
    loop {
        let deliveries = member.next(20, Duration::from_secs(3_600)).await;
        member.acknowledge(&deliveries).await;
        let envelopes = deliveries.into_iter().map(|it| it.envelope).collect();
        if seen.send((envelopes, member.losses)).is_err() {
            return;
        }
    }
}

/// C4: instances join and leave under load; per key, handlers begin in order, whatever instance they run in.
///
/// An event may be handled again by the next instance; what is committed by a stale one is looked at elsewhere.
pub(super) async fn changing(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    if let Some(declared) = without_order(&ground, &broker).await {
        return declared;
    }
    let across = broker.capabilities().key_order == KeyOrder::AcrossInstances;
    let together = if ground.traits.one_instance.is_none() && across {
        3
    } else {
        1
    };
    let rounds = ground.count(12, 4);
    let events = spread(ground.count(2_400, 400), 16);
    let witness = Witness::new();
    let mut running: Vec<RunningConsumer> = Vec::new();
    for (round, batch) in events.chunks(events.len().div_ceil(rounds)).enumerate() {
        if running.len() == together {
            drain(running.remove(0)).await;
        }
        let own = ground.connect().await;
        let build = || builder(&ground, &own, "c4", &witness, yielding());
        running.push(start(&ground, build).await);
        publish(&*broker, batch).await;
        let half = events.len().min((round + 1) * batch.len()) - batch.len() / 2;
        witness.until_handled(half).await;
    }

    witness.until_handled(events.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_handled_in_order(&events, &witness);
    for consumer in running {
        drain(consumer).await;
    }
    match ground.traits.one_instance {
        Some(why) => refused(&ground, "c4-second", why).await,
        None if !across => Verdict::Declared(
            "the order of a key is kept within one instance: one after the other was looked at"
                .to_owned(),
        ),
        None => Verdict::Pass,
    }
}
