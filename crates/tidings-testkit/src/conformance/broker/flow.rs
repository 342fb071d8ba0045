//! How much is taken, pausing and draining: F1, F2, F3, F4.

use super::child::{Child, Part};
use super::consumer::{builder, drain, start};
use super::ground::{END_MAX, Ground, assert_none_missing, event, publish, spread};
use super::member::Member;
use super::report::Verdict;
use super::witness::{Act, Witness, content};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::{Envelope, Payload};
use tidings_flow::consumer::DrainError;
use tokio::sync::Semaphore;

/// F1: with everything held in the handlers, no more is received than may be in flight, and no more is handled at once than allowed.
pub(super) async fn in_flight(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let events = spread(ground.count(1_000, 200), 50);
    let (parallel, in_flight) = (4, 20);
    let witness = Witness::new();
    let gate = Arc::new(Semaphore::new(0));
    let consumer = start(&ground, || {
        let gate = Arc::clone(&gate);
        let act: Act = Arc::new(move |_| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                let _open = gate.acquire().await.expect("the gate stays");
                Ok(())
            })
        });
        builder(&ground, &broker, "f1", &witness, act).configure(|config| {
            config.parallel = parallel;
            config.in_flight_max = in_flight;
        })
    })
    .await;
    publish(&*broker, &events).await;

    witness
        .until("handlers to be busy", |seen| seen.running() == parallel)
        .await;
    tokio::time::sleep(ground.traits.quiet).await;
    let held = consumer.stats().in_flight;
    assert!(held <= in_flight, "{held} in flight, {in_flight} allowed");
    assert_eq!(witness.seen().begun.len(), parallel, "handlings begun");
    gate.add_permits(parallel);
    witness.until_handled(events.len()).await;

    assert_eq!(witness.seen().running_max, parallel, "handlings at once");
    drain(consumer).await;
    Verdict::Pass
}

const GROUP: &str = "f2";
/// So many events are asked for in F2.
const SIP: usize = 10;
/// Bytes of one event of F2: small enough that what may be in flight is little.
const EVENT_BYTES: usize = 4_096;
/// Events and their bytes where each event takes long: as much in fewer of them.
const FEW: (usize, usize) = (1_000, 16_384);

/// F2: with a few events taken and nobody asking for more, the rest stays with the broker. The consumer is a process of its own: what else goes on in this one
/// would be measured too.
pub(super) async fn memory(ground: Arc<Ground>) -> Verdict {
    if let Some(why) = ground.traits.in_process {
        return Verdict::Declared(format!("{why}: it keeps every event in memory"));
    }
    if anonymous_bytes().is_none() {
        return Verdict::Declared("this system does not tell how much memory is used".to_owned());
    }
    let (count, bytes) = if ground.traits.slow {
        FEW
    } else {
        (ground.count(40_000, 16_000), EVENT_BYTES)
    };
    let broker = ground.connect().await;
    ground.prepare(&*broker, GROUP).await;
    for batch in 0..count / 100 {
        let of_batch = (0..100).map(|number| large_event(batch * 100 + number, bytes));
        publish(&*broker, &of_batch.collect::<Vec<_>>()).await;
    }
    // Where one process has the broker, the other one must find it free.
    broker.close().await.expect("closing works");
    drop(broker);

    let mut child = Child::start(&ground, Part::Sip);
    let grown = child.tells().await.expect("the child takes a few events");
    child.kill();

    let grown: usize = grown.parse().unwrap();
    let volume = count * bytes;
    assert!(
        grown < volume / 2,
        "{grown} of {volume} bytes were taken into memory, though {SIP} events were asked for"
    );
    Verdict::Pass
}

/// In another process: takes a few events, asks for no more, and answers by how much its memory grew meanwhile.
pub(super) async fn sip(ground: &Ground) -> usize {
    let broker = ground.connect().await;
    let before = anonymous_bytes().unwrap_or_default();
    let mut member = Member::join(ground, &*broker, GROUP).await;
    let held = member.take(SIP).await;
    tokio::time::sleep(ground.traits.quiet * 3).await;
    let grown = anonymous_bytes().unwrap_or_default().saturating_sub(before);
    member.acknowledge(&held).await;
    member.leave().await;
    grown
}

fn large_event(number: usize, bytes: usize) -> Envelope {
    let mut parts = event("large", number).into_parts();
    // Numbers that no codec shrinks.
    let mut chance = fastrand::Rng::with_seed(number as u64);
    let bytes: Vec<u8> = (0..bytes).map(|_| chance.u8(..)).collect();
    parts.aggregate_id = Some(format!("k{}", number % 10));
    parts.content_type = Some("application/octet-stream".to_owned());
    parts.payload = Some(Payload::binary(bytes));
    Envelope::new(parts).unwrap()
}

/// What this process has allocated and touched, on Linux; files that are mapped into it, its program among them, do not count.
fn anonymous_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes = line.split_whitespace().next()?.parse::<usize>().ok()?;
    Some(kibibytes * 1_024)
}

/// F3: while it is paused nothing is handled; afterwards everything, once.
pub(super) async fn paused(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let events = spread(ground.count(500, 60), 10);
    let half = events.len() / 2;
    let witness = Witness::new();
    let build = || builder(&ground, &broker, "f3", &witness, content());
    let consumer = start(&ground, build).await;
    publish(&*broker, &events[..half]).await;
    witness.until_handled(half).await;

    consumer.pause();
    publish(&*broker, &events[half..]).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_eq!(witness.seen().begun.len(), half, "handled while paused");
    consumer.resume();

    witness.until_handled(events.len()).await;
    tokio::time::sleep(ground.traits.quiet).await;
    assert_eq!(witness.seen().begun.len(), events.len(), "handled again");
    drain(consumer).await;
    Verdict::Pass
}

/// F4: draining with handlers that hang ends at its deadline; what was not finished is handled by the next consumer, what was is not.
pub(super) async fn drained(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let events = spread(40, 40);
    let witness = Witness::new();
    let build = || {
        let act: Act = Arc::new(|context| {
            let hangs = super::ground::number_of(&context.envelope) >= 30;
            Box::pin(async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(())
            })
        });
        builder(&ground, &broker, "f4", &witness, act)
    };
    let consumer = start(&ground, build).await;
    publish(&*broker, &events).await;
    witness
        .until("all to begin", |seen| seen.begun.len() == 40)
        .await;
    witness.until_handled(30).await;

    let deadline = Duration::from_millis(300);
    let began = ground.elapsed();
    let drained = consumer.drain(deadline).await;
    let took = ground.elapsed() - began;

    assert!(
        matches!(drained, Err(DrainError::Unfinished { unfinished: 10, .. })),
        "{drained:?}"
    );
    assert!(took < deadline + END_MAX * 4, "draining took {took:?}");
    let second = Witness::new();
    let build = || builder(&ground, &broker, "f4", &second, content());
    let consumer = start(&ground, build).await;
    second.until_handled(10).await;
    tokio::time::sleep(ground.traits.quiet).await;
    let seen: Vec<_> = second
        .seen()
        .begun
        .iter()
        .map(|it| it.envelope.clone())
        .collect();
    let unfinished = |it: &&tidings_core::Envelope| super::ground::number_of(it) >= 30;
    let again: Vec<_> = seen.iter().filter(unfinished).cloned().collect();
    assert_none_missing(&events[30..], &again);
    assert_eq!(again.len(), 10, "handled again by the next consumer");
    drain(consumer).await;
    Verdict::Pass
}
