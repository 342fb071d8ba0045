//! Closing, leaving, dropping: A6, A7, A10, A12, A13.

use super::consumer::{builder, drain, start};
use super::ground::{
    END_MAX, Ground, assert_none_missing, assert_seen, connect, event, publish, spread,
};
use super::member::Member;
use super::report::Verdict;
use super::witness::{Act, Witness, content};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::Broker;
use tidings_flow::consumer::DrainError;
use tokio::task::JoinSet;

/// Closes twice, in bounded time.
async fn close_twice(broker: &dyn Broker) {
    for time in ["once", "twice"] {
        let closing = tokio::time::timeout(END_MAX, broker.close());
        let closed = closing
            .await
            .unwrap_or_else(|_| panic!("closing {time} takes more than {END_MAX:?}"));
        closed.unwrap_or_else(|error| panic!("closing {time} failed: {error}"));
    }
}

/// A6: consumer and connection are closed in the middle of each batch, and others go on.
pub(super) async fn mid_stream(ground: Arc<Ground>) -> Verdict {
    let batches = ground.count(5, 2);
    let events = spread(ground.count(5_000, 50), 10);
    let witness = Witness::new();
    let first = ground.connect().await;
    ground.prepare(&*first, "a6").await;
    close_twice(&*first).await;
    for (index, batch) in events.chunks(events.len() / batches).enumerate() {
        let broker = ground.connect().await;
        let build = || builder(&ground, &broker, "a6", &witness, content());
        let consumer = start(&ground, build).await;
        publish(&*broker, batch).await;
        let half = (index + 1) * batch.len() - batch.len() / 2;
        witness.until_handled(half).await;
        drain(consumer).await;
        close_twice(&*broker).await;
    }

    let broker = ground.connect().await;
    let build = || builder(&ground, &broker, "a6", &witness, content());
    let consumer = start(&ground, build).await;
    witness.until_handled(events.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;
    drain(consumer).await;

    let begun: Vec<_> = witness
        .seen()
        .begun
        .iter()
        .map(|it| it.envelope.clone())
        .collect();
    assert_seen(&events, &begun, 1);
    Verdict::Pass
}

/// A7: many join and leave at once, politely and not; afterwards everything works, and nothing is left running.
pub(super) async fn storm(ground: Arc<Ground>) -> Verdict {
    let events = spread(50, 10);
    let steady = ground.connect().await;
    ground.prepare(&*steady, "a7").await;
    let behind_proxy = ground.fixture.behind_proxy(&ground.address).await.ok();
    let address = behind_proxy
        .as_ref()
        .map_or(&ground.address, |(address, _)| address);
    let tasks_before = alive_tasks();
    let mut tasks = JoinSet::new();
    for task in 0..10 {
        let ground = Arc::clone(&ground);
        let steady = Arc::clone(&steady);
        let address = address.clone();
        tasks.spawn(async move {
            let own = connect(&*ground.fixture, &address).await;
            let request = ground.request("a7");
            // Where one instance works for a group at a time, most are refused, which is an answer too.
            if let Ok(subscription) = own.subscribe(&request).await {
                if task % 2 == 0 {
                    subscription.settle.leave().await.expect("leaving works");
                }
                drop(subscription);
            }
            if !Arc::ptr_eq(&own, &steady) {
                close_twice(&*own).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let connections = || {
        behind_proxy
            .as_ref()
            .map_or(0, |(_, proxy)| proxy.figures().open)
    };
    let left = tokio::time::timeout(END_MAX, async {
        while alive_tasks() > tasks_before || connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(
        left.await.is_ok(),
        "{} tasks and {} connections are left",
        alive_tasks().saturating_sub(tasks_before),
        connections()
    );

    publish(&*steady, &events).await;
    let mut member = Member::join(&ground, &*steady, "a7").await;
    let seen = member.read(&ground, events.len()).await;
    assert_seen(&events, &seen, 1);
    Verdict::Pass
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// A10: a publisher is closed while it publishes: what it acknowledged is there, everything else is there whole or not at all, and later it says that it is closed.
pub(super) async fn publisher(ground: Arc<Ground>) -> Verdict {
    let publishers = 20;
    let events = spread(ground.count(10_000, 100), publishers);
    let before = ground.connect().await;
    ground.prepare(&*before, "a10").await;
    let broker = ground.connect().await;
    let mut tasks = JoinSet::new();
    for publisher in 0..publishers {
        let own: Vec<_> = events
            .iter()
            .skip(publisher)
            .step_by(publishers)
            .cloned()
            .collect();
        let broker = Arc::clone(&broker);
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            for batch in own.chunks(5) {
                let outcomes = broker.publish(batch).await;
                for (envelope, outcome) in batch.iter().zip(outcomes) {
                    if outcome.is_ok() {
                        acknowledged.push(envelope.clone());
                    }
                }
                tokio::task::yield_now().await;
            }
            acknowledged
        });
    }
    tokio::task::yield_now().await;
    close_twice(&*broker).await;
    let mut acknowledged = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(more) => acknowledged.extend(more),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let late = broker.publish(&[event("late", 0)]).await;
    assert!(
        matches!(late.as_slice(), [Err(error)] if !error.may_have_happened()),
        "publishing after closing answers {late:?}"
    );

    let reader = ground.connect().await;
    let mut member = Member::join(&ground, &*reader, "a10").await;
    let seen = member.read(&ground, acknowledged.len()).await;
    let whole: BTreeSet<&str> = acknowledged.iter().map(Envelope::event_id).collect();
    let of_acknowledged = seen.iter().filter(|it| whole.contains(it.event_id()));
    let of_acknowledged: Vec<_> = of_acknowledged.cloned().collect();
    assert_none_missing(&acknowledged, &of_acknowledged);
    for envelope in &seen {
        assert!(
            events.contains(envelope),
            "an event that was not acknowledged is there in part: {envelope:?}"
        );
    }
    Verdict::Pass
}

/// A12: a handling that ended is not cancelled; one that runs when its consumer must end is dropped, and its event comes again.
pub(super) async fn cancelled(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let witness = Witness::new();
    let build = || {
        let act: Act = Arc::new(|context| {
            let hangs = super::ground::number_of(&context.envelope) == 1;
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(())
            })
        });
        builder(&ground, &broker, "a12", &witness, act)
    };
    let consumer = start(&ground, build).await;
    publish(&*broker, &[event("a", 0), event("b", 1)]).await;
    witness
        .until("both to begin", |seen| seen.begun.len() == 2)
        .await;
    witness.until_handled(1).await;

    let deadline = Duration::from_millis(200);
    let drained = tokio::time::timeout(END_MAX, consumer.drain(deadline)).await;

    let drained = drained.expect("draining ends at its deadline");
    assert!(
        matches!(drained, Err(DrainError::Unfinished { unfinished: 1, .. })),
        "{drained:?}"
    );
    witness
        .until("the handling to be dropped", |seen| seen.cancelled == 1)
        .await;
    let build = || builder(&ground, &broker, "a12", &witness, content());
    let next = start(&ground, build).await;
    witness.until_handled(2).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_eq!(
        witness.seen().begun.len(),
        3,
        "the other one came again too"
    );
    drain(next).await;
    Verdict::Pass
}

/// A13: a subscription is dropped without a word: what it had acknowledged is settled, what not goes to the next one, soon.
pub(super) async fn dropped(ground: Arc<Ground>) -> Verdict {
    let events = spread(20, 20);
    let broker = ground.connect().await;
    let mut member = Member::join(&ground, &*broker, "a13").await;
    publish(&*broker, &events).await;
    let deliveries = member.take(events.len()).await;
    // The first half: what is settled behind a hole may come again where a cursor is one number.
    let (acknowledged, held) = deliveries.split_at(events.len() / 2);
    member.acknowledge(acknowledged).await;
    member
        .subscription
        .settle
        .flush()
        .await
        .expect("flushing works");
    drop(member);

    let began = ground.elapsed();
    let mut next = Member::join(&ground, &*broker, "a13").await;
    let again = next.take(held.len()).await;
    let took = ground.elapsed() - began;

    let allowed = ground.traits.takeover_max + Duration::from_secs(10);
    assert!(took <= allowed, "what was held came after {took:?}");
    next.acknowledge(&again).await;
    let mut seen: Vec<_> = again.into_iter().map(|it| it.envelope).collect();
    seen.extend(next.read_on(&ground).await);
    let held: Vec<_> = held.iter().map(|it| it.envelope.clone()).collect();
    assert_seen(&held, &seen, 1);
    Verdict::Pass
}
