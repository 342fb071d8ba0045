//! A relay's life: it takes the lease, carries, is woken, drains, and is followed by another.

use super::*;
use crate::outbox::RelayPhase;
use tidings_core::limits::{RELAY_LEASE_DEFAULT, RELAY_POLL_IDLE_DEFAULT, RELAY_READ_GAP};
use tidings_core::store::{DeadTuples, SnapshotHolder};

#[tokio::test]
async fn committed_events_reach_the_broker_and_are_settled() {
    let shop = Shop::new();
    for number in 0..1_200 {
        shop.store
            .insert(Some(&format!("order-{}", number % 7)), "");
    }

    let relay = shop.start();
    shop.until("settled", || shop.store.is_settled()).await;
    let metrics = relay.drain(Duration::from_secs(30)).await.unwrap();

    assert_eq!(shop.log().len(), 1_200);
    assert_eq!(shop.broker.doubles(), [] as [String; 0]);
    assert_eq!(metrics.relayed(), 1_200);
    assert_eq!(metrics.phase, RelayPhase::Ended);
    assert_eq!(metrics.commit_to_ack.count(), 1_200);
    assert_eq!(shop.store.lock().releases, 1);
}

#[tokio::test]
async fn a_wake_is_answered_without_waiting_for_the_next_poll() {
    let shop = Shop::new();
    let relay = shop.start();
    relay.reached(RelayPhase::Relaying).await;
    shop.pass(Duration::from_millis(1_050)).await;
    // Behind the gap that two reads keep.
    shop.jump(RELAY_READ_GAP).await;
    let (before, reads) = (shop.clock.elapsed(), shop.store.lock().queries.len());

    shop.store.insert(None, "");
    relay.wake().notify();
    settle_tasks().await;

    assert_eq!(shop.log(), ["evt-1"]);
    assert!(shop.store.is_settled());
    assert_eq!(shop.clock.elapsed(), before);
    assert!(shop.store.lock().queries.len() > reads);
}

#[tokio::test]
async fn an_idle_relay_reads_seldom_and_finds_what_nobody_told() {
    let shop = Shop::new();
    let _relay = shop.start();
    for _ in 0..3_000 {
        shop.jump(Duration::from_millis(1)).await;
    }
    let reads = shop.store.lock().queries.len();
    for _ in 0..10_000 {
        shop.jump(Duration::from_millis(1)).await;
    }
    let idle = shop.store.lock().queries.len() - reads;

    shop.store.insert(None, "");

    assert!((38..=41).contains(&idle), "{idle} reads in ten seconds");
    shop.within(RELAY_POLL_IDLE_DEFAULT, "found by polling", || {
        shop.store.is_settled()
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_is_to_stop_when_empty_ends_by_itself_and_gives_the_lease_back() {
    let shop = Shop::new();
    for _ in 0..30 {
        shop.store.insert(Some("a"), "");
    }
    let options = RelayOptions {
        until_empty: true,
        ..RelayOptions::default()
    };

    let relay = shop.relay(options).start();
    shop.until("ended", || relay.phase() == RelayPhase::Ended)
        .await;

    assert_eq!(relay.finished().await.unwrap().relayed(), 30);
    assert!(shop.store.is_settled());
    assert_eq!(shop.store.lock().releases, 1);
}

#[tokio::test]
async fn a_second_relay_waits_and_takes_over_when_the_first_drains() {
    let shop = Shop::new();
    let first = shop.start();
    first.reached(RelayPhase::Relaying).await;
    let second = shop.start();
    shop.pass(Duration::from_secs(3)).await;
    assert_eq!(second.phase(), RelayPhase::Waiting);
    assert_eq!(
        shop.told(|notice| matches!(notice, RelayNotice::HeldByOther { .. })),
        1
    );

    first.drain(Duration::from_secs(1)).await.unwrap();
    shop.store.insert(None, "");

    shop.within(Duration::from_secs(2), "taken over", || {
        shop.store.is_settled()
    })
    .await;
    assert_eq!(second.metrics().lease_epoch, Some(2));
}

#[tokio::test]
async fn the_lease_of_a_killed_relay_ends_within_its_time_to_live() {
    let shop = Shop::new();
    let first = shop.start();
    first.reached(RelayPhase::Relaying).await;
    let second = shop.start();
    shop.pass(Duration::from_secs(1)).await;

    drop(first);
    shop.store.insert(None, "");

    let limit = RELAY_LEASE_DEFAULT + Duration::from_secs(1);
    shop.within(limit, "taken over", || shop.store.is_settled())
        .await;
    assert_eq!(second.phase(), RelayPhase::Relaying);
}

#[tokio::test]
async fn a_drain_that_cannot_settle_says_so_at_its_deadline() {
    let shop = Shop::new();
    shop.store.insert(None, "");
    let never = Scripted::slow(&shop.clock, Duration::from_secs(3_600));
    let options = RelayOptions {
        publish_timeout: Duration::from_secs(7_200),
        ..RelayOptions::default()
    };
    let relay = shop.relay_to(never, options).start();
    shop.until("on its way", || relay.metrics().in_flight_rows == 1)
        .await;

    let deadline = Duration::from_secs(5);
    let drained = tokio::join!(relay.drain(deadline), async {
        for _ in 0..60 {
            shop.pass(Duration::from_millis(100)).await;
        }
    });

    let error = drained.0.unwrap_err();
    assert_eq!(error.code().as_str(), "TD0085");
    assert!(error.to_string().contains("1 events"), "{error}");
}

#[tokio::test]
async fn what_is_on_its_way_when_draining_begins_is_settled_and_nothing_new_is_started() {
    let shop = Shop::new();
    shop.store.insert(Some("a"), "");
    let slow = Scripted::slow(&shop.clock, Duration::from_secs(20));
    let relay = shop.relay_to(slow.clone(), RelayOptions::default()).start();
    shop.until("on its way", || relay.metrics().in_flight_rows == 1)
        .await;

    relay.stop();
    shop.pass(Duration::from_millis(1)).await;
    let late = shop.store.insert(Some("b"), "");
    assert_eq!(relay.phase(), RelayPhase::Draining);
    shop.until("ended", || relay.phase() == RelayPhase::Ended)
        .await;

    assert_eq!(slow.accepted(), ["evt-1"]);
    assert!(!shop.store.lock().rows[&late].sent);
    assert_eq!(shop.store.unsettled(), 1);
    // The lease was kept while the batch was on its way.
    assert_eq!(relay.metrics().lease_lost, 0);
}

#[tokio::test]
async fn the_status_of_the_outbox_is_known_without_the_lease() {
    let shop = Shop::new();
    let first = shop.start();
    first.reached(RelayPhase::Relaying).await;
    shop.broker.fail_always(Some(crate::fakes::Fault::Full));
    let second = shop.start();
    shop.store.insert(None, "");

    shop.pass(Duration::from_secs(30)).await;
    shop.pass(Duration::from_secs(1)).await;

    let status = second.metrics().status.unwrap();
    assert_eq!(second.phase(), RelayPhase::Waiting);
    assert_eq!(status.pending, 1);
    assert!(status.oldest_unsent_age >= Duration::from_secs(30));
}

#[tokio::test]
async fn the_lag_grows_on_while_the_database_does_not_answer_and_is_nothing_once_nothing_waits() {
    let shop = Shop::new();
    let relay = shop.start();
    relay.reached(RelayPhase::Relaying).await;
    shop.broker.fail_always(Some(crate::fakes::Fault::Full));
    shop.store.insert(None, "");
    shop.pass(Duration::from_secs(10)).await;
    let lag = || relay.metrics().status.unwrap().oldest_unsent_age;
    let before = lag();

    shop.store.lock().down = true;
    shop.pass(Duration::from_secs(60)).await;
    let silent = lag();
    shop.store.lock().down = false;
    shop.broker.fail_always(None);
    shop.pass(Duration::from_secs(60)).await;

    assert!(before > Duration::ZERO && before <= Duration::from_secs(10));
    assert!(silent >= Duration::from_secs(60), "{silent:?}");
    assert!(silent <= Duration::from_secs(71), "{silent:?}");
    assert_eq!(lag(), Duration::ZERO);
}

#[tokio::test]
async fn the_figures_have_the_names_of_the_reference() {
    let shop = Shop::new();
    shop.store.insert(None, "mails");
    shop.store.lock().dead_tuples = Some(DeadTuples {
        count: 7,
        oldest_snapshot: Some(SnapshotHolder {
            pid: 1,
            age: Duration::from_secs(90),
        }),
    });
    let relay = shop.start();
    shop.until("settled", || shop.store.is_settled()).await;

    let text = crate::metrics::render(&relay.metrics().families());

    for expected in [
        "tidings_outbox_pending_rows{outbox=\"memory/outbox\"} ",
        "tidings_outbox_oldest_pending_age_seconds{outbox=\"memory/outbox\"} ",
        "tidings_outbox_dead_tuples{outbox=\"memory/outbox\"} 7\n",
        "tidings_outbox_oldest_snapshot_seconds{outbox=\"memory/outbox\"} 90\n",
        "tidings_outbox_published_total{outbox=\"memory/outbox\",shard=\"0\",destination=\"mails\"} 1\n",
        "tidings_outbox_publish_seconds_count{outbox=\"memory/outbox\",shard=\"0\"} 1\n",
        "tidings_outbox_commit_to_ack_seconds_count{outbox=\"memory/outbox\",shard=\"0\"} 1\n",
        "tidings_outbox_retries_total{outbox=\"memory/outbox\",shard=\"0\",class=\"down\"} 0\n",
        "tidings_outbox_blocked_keys{outbox=\"memory/outbox\",shard=\"0\"} 0\n",
        "tidings_outbox_lease_epoch{outbox=\"memory/outbox\",shard=\"0\"} 1\n",
        "tidings_outbox_late_rows_total{outbox=\"memory/outbox\",shard=\"0\"} 0\n",
        "tidings_outbox_relay_phase{outbox=\"memory/outbox\",shard=\"0\",phase=\"relaying\"} 1\n",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[test]
fn the_concept_page_tells_of_every_phase_in_its_diagram_and_in_its_table() {
    let page = include_str!("../../../../../docs/concepts/outbox.md");
    let section = page.split("## What a relay is at").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let diagram = section.split("```").nth(1).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();

    let phases: Vec<&str> = RelayPhase::ALL.iter().map(|phase| phase.as_str()).collect();

    assert_eq!(rows, phases);
    let drawn: Vec<&str> = diagram
        .lines()
        .find(|line| line.contains("──►"))
        .unwrap()
        .split("──►")
        .map(str::trim)
        .collect();
    assert_eq!(drawn, phases);
}
