//! The adapter of NATS JetStream against a real server.

mod batches;
mod trouble;

use crate::events::{
    DEADLINE, event, every_kind, expect_quiet, group, ids, plain, publish, read_to_end, receive,
    settle, until_caught_up,
};
use crate::server::{as_user, fresh, host_of, read, url, with};
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::nats::NatsBroker;
use tidings_core::broker::{
    Broker, BrokerError, GroupName, PublishError, Received, SettleAction, SettleError, StartAt,
    SubscribeRequest, TailRequest, TopologyRequest, TopologyState,
};
use tidings_core::{Envelope, EnvelopeParts, Payload, codes};
use tidings_testkit::proxy::{Direction, FaultProxy};

const VARIABLE: &str = "TIDINGS_TEST_NATS_URL";
const TLS_VARIABLE: &str = "TIDINGS_TEST_NATS_TLS_URL";

async fn connect(url: &str) -> Result<NatsBroker, BrokerError> {
    NatsBroker::connect(&url.parse().expect("a URL")).await
}

/// A broker with a stream of its own.
struct Fixture {
    broker: NatsBroker,
    url: String,
    stream: String,
}

impl Fixture {
    async fn new(test: &str) -> Option<Self> {
        let server = url("nats", VARIABLE, test)?;
        let stream = fresh(test);
        let url = with(&server, &format!("stream={stream}&ack_wait=5"));
        let broker = connect(&url).await.expect("a broker");
        Some(Self {
            broker,
            url,
            stream,
        })
    }

    async fn client(&self) -> async_nats::jetstream::Context {
        let server = self.url.split('?').next().expect("a server");
        let client = async_nats::connect(server).await.expect("a client");
        async_nats::jetstream::new(client)
    }
}

#[tokio::test]
async fn every_attribute_comes_back() {
    let Some(fixture) = Fixture::new("attributes").await else {
        return;
    };
    let sent = every_kind();
    let outcomes = publish(&fixture.broker, &sent).await;
    let positions: Vec<_> = outcomes.iter().flatten().map(|one| one.position).collect();
    assert!(positions.iter().all(Option::is_some), "{positions:?}");

    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let mut got = receive(&mut joined, sent.len()).await;
    got.sort_by_key(|one| one.envelope.event_id().to_owned());
    let mut sent = sent;
    sent.sort_by_key(|one| one.event_id().to_owned());
    for (delivery, envelope) in got.iter().zip(&sent) {
        assert_eq!(plain(&delivery.envelope), plain(envelope));
        assert_eq!(delivery.problem, None);
        assert!(delivery.append_time.is_some());
    }
    settle(&joined, &got, SettleAction::Ack).await;
    expect_quiet(&mut joined).await;
}

#[tokio::test]
async fn order_of_each_key_is_kept_and_a_duplicate_is_a_success() {
    let Some(fixture) = Fixture::new("order").await else {
        return;
    };
    let batch: Vec<Envelope> = (0..300)
        .map(|number| event("order.placed", &format!("k{}", number % 7), number))
        .collect();
    let first = publish(&fixture.broker, &batch).await;
    let again = publish(&fixture.broker, &batch).await;
    for (one, other) in first.iter().zip(&again) {
        assert_eq!(
            one.as_ref().unwrap().position,
            other.as_ref().unwrap().position
        );
    }

    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["order.*"]))
        .await
        .unwrap();
    let got = receive(&mut joined, batch.len()).await;
    for key in 0..7 {
        let of = |id: &String| id.starts_with(&format!("k{key}-"));
        let got: Vec<String> = ids(&got).into_iter().filter(of).collect();
        let sent: Vec<String> = batch
            .iter()
            .map(|one| one.event_id().to_owned())
            .filter(of)
            .collect();
        assert_eq!(got, sent);
    }
    settle(&joined, &got, SettleAction::Ack).await;
    expect_quiet(&mut joined).await;
}

#[tokio::test]
async fn what_is_released_comes_again_first_and_a_token_settles_once() {
    let Some(fixture) = Fixture::new("release").await else {
        return;
    };
    let batch: Vec<Envelope> = (0..6).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut joined, 4).await;
    settle(&joined, &got[..1], SettleAction::Ack).await;
    settle(&joined, &got[1..3], SettleAction::Release).await;
    let rest = receive(&mut joined, 4).await;
    assert_eq!(ids(&rest), ["k-1", "k-2", "k-4", "k-5"]);
    let twice = joined
        .settle
        .settle(&[(got[0].token, SettleAction::Ack)])
        .await;
    assert!(matches!(twice[0], Err(SettleError::Unknown)), "{twice:?}");
    settle(&joined, &rest, SettleAction::Ack).await;
    settle(&joined, &got[3..], SettleAction::Ack).await;

    joined.settle.leave().await.unwrap();
    let stale = joined
        .settle
        .settle(&[(got[3].token, SettleAction::Ack)])
        .await;
    assert!(matches!(stale[0], Err(SettleError::Stale)), "{stale:?}");
    let mut next = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    expect_quiet(&mut next).await;
}

#[tokio::test]
async fn who_leaves_gives_back_what_is_open_in_order_and_at_once() {
    let Some(fixture) = Fixture::new("leave").await else {
        return;
    };
    let batch: Vec<Envelope> = (0..20).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let mut first = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut first, 10).await;
    settle(&first, &got[..3], SettleAction::Ack).await;
    first.settle.leave().await.unwrap();

    let mut second = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let rest = receive(&mut second, 17).await;
    let expected: Vec<String> = (3..20).map(|number| format!("k-{number}")).collect();
    assert_eq!(ids(&rest), expected);
}

#[tokio::test]
async fn nothing_newer_passes_what_a_killed_instance_had() {
    let Some(fixture) = Fixture::new("killed").await else {
        return;
    };
    let batch: Vec<Envelope> = (0..3).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let url = fixture.url.clone();
    let killed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let subscription = runtime.block_on(async {
            let broker = connect(&url).await.unwrap();
            let mut joined = broker.subscribe(&group("g", &["**"])).await.unwrap();
            let got = receive(&mut joined, 3).await;
            settle(&joined, &got[..1], SettleAction::Ack).await;
            joined
        });
        // Its tasks end where they stand; nothing is given back.
        runtime.shutdown_background();
        drop(subscription);
    });
    killed.join().unwrap();
    publish(&fixture.broker, &[event("a.b", "k", 3)]).await;

    let mut next = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut next, 3).await;
    assert_eq!(ids(&got), ["k-1", "k-2", "k-3"]);
}

#[tokio::test]
async fn an_event_at_work_is_not_delivered_again() {
    let Some(fixture) = Fixture::new("slow").await else {
        return;
    };
    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut joined, 1).await;
    let mut other = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    // Longer than the wait for an acknowledgement.
    let longer = tokio::time::timeout(Duration::from_secs(8), receive(&mut other, 1)).await;
    assert!(longer.is_err(), "{longer:?}");
    settle(&joined, &got, SettleAction::Ack).await;
    expect_quiet(&mut other).await;
}

#[tokio::test]
async fn groups_begin_where_they_ask_and_get_what_they_want() {
    let Some(fixture) = Fixture::new("start").await else {
        return;
    };
    let batch = [
        event("order.placed", "a", 0),
        event("order.placed.v2", "a", 1),
        event("stock.reserved", "a", 2),
    ];
    let outcomes = publish(&fixture.broker, &batch).await;
    let second = outcomes[1].as_ref().unwrap().position.unwrap();
    let starting = |name: &str, start| SubscribeRequest {
        start,
        ..group(name, &["**"])
    };

    let mut typed = fixture
        .broker
        .subscribe(&group("typed.x", &["order.placed"]))
        .await
        .unwrap();
    assert_eq!(ids(&receive(&mut typed, 2).await), ["a-0", "a-1"]);
    expect_quiet(&mut typed).await;
    let late = starting("position", StartAt::Position(second));
    let mut late = fixture.broker.subscribe(&late).await.unwrap();
    let got = receive(&mut late, 2).await;
    assert_eq!(ids(&got), ["a-1", "a-2"]);
    let time = got[1].append_time.unwrap();
    let mut timed = fixture
        .broker
        .subscribe(&starting("time", StartAt::Time(time)))
        .await
        .unwrap();
    assert_eq!(ids(&receive(&mut timed, 1).await), ["a-2"]);
    let mut latest = fixture
        .broker
        .subscribe(&starting("new", StartAt::Latest))
        .await
        .unwrap();
    expect_quiet(&mut latest).await;
    publish(&fixture.broker, &[event("order.paid", "a", 3)]).await;
    assert_eq!(ids(&receive(&mut latest, 1).await), ["a-3"]);

    // A group that comes back with other patterns goes on where it stood.
    typed.settle.leave().await.unwrap();
    let mut wider = fixture
        .broker
        .subscribe(&group("typed.x", &["order.*"]))
        .await
        .unwrap();
    assert_eq!(ids(&receive(&mut wider, 3).await), ["a-0", "a-1", "a-3"]);
}

#[tokio::test]
async fn a_group_knows_when_nothing_is_left() {
    let Some(fixture) = Fixture::new("caughtup").await else {
        return;
    };
    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    assert!(!joined.receive.is_caught_up());
    let got = receive(&mut joined, 1).await;
    until_caught_up(&joined).await;
    settle(&joined, &got, SettleAction::Ack).await;
}

#[tokio::test]
async fn a_tail_tells_its_end_and_goes_on() {
    let Some(fixture) = Fixture::new("tail").await else {
        return;
    };
    let everything = |start| TailRequest {
        patterns: Vec::new(),
        start,
    };
    let mut empty = fixture
        .broker
        .tail(everything(StartAt::Earliest))
        .await
        .unwrap();
    assert!(read_to_end(&mut *empty).await.is_empty());
    let batch: Vec<Envelope> = (0..50).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let live = tokio::time::timeout(DEADLINE, empty.next(100))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(live.events[0].envelope.event_id(), "k-0");

    let mut tail = fixture
        .broker
        .tail(everything(StartAt::Earliest))
        .await
        .unwrap();
    let read = read_to_end(&mut *tail).await;
    assert_eq!(read.len(), 50);
    let mut latest = fixture
        .broker
        .tail(everything(StartAt::Latest))
        .await
        .unwrap();
    assert!(read_to_end(&mut *latest).await.is_empty());
    publish(&fixture.broker, &[event("a.c", "k", 50)]).await;
    for tail in [&mut tail, &mut latest] {
        let page = tokio::time::timeout(DEADLINE, tail.next(100))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(page.events[0].envelope.event_id(), "k-50");
        assert!(!page.at_end);
    }
}

#[tokio::test]
async fn foreign_messages_are_read_and_garbage_keeps_its_bytes() {
    let Some(fixture) = Fixture::new("foreign").await else {
        return;
    };
    let client = fixture.client().await;
    let stream = &fixture.stream;
    for (subject, body) in [
        ("shop.opened", &br#"{"id":7,"city":"Bonn"}"#[..]),
        ("shop.closed", &b"\xff\xfe no event"[..]),
    ] {
        let sent = client
            .publish(format!("{stream}.{subject}"), body.to_vec().into())
            .await;
        sent.unwrap().await.unwrap();
    }
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["shop.*"]))
        .await
        .unwrap();
    let got = receive(&mut joined, 2).await;
    assert_eq!(got[0].envelope.event_type().as_str(), "shop.opened");
    assert_eq!(got[0].problem, None);
    assert_eq!(got[1].envelope.payload_bytes(), b"\xff\xfe no event");
    assert!(got[1].problem.is_some());
    settle(&joined, &got, SettleAction::Ack).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let Some(fixture) = Fixture::new("large").await else {
        return;
    };
    let sized = |id: &str, key: &str, bytes: usize| {
        let mut parts = EnvelopeParts::new(id, "file.stored");
        parts.aggregate_id = Some(key.into());
        parts.source = Some("s".into());
        parts.content_type = Some("application/octet-stream".into());
        parts.payload = Some(Payload::binary(vec![7; bytes]));
        Envelope::new(parts).unwrap()
    };
    let most = fixture.broker.capabilities().payload_bytes_max;
    let batch = [
        sized("1", "a", most),
        sized("2", "b", most + 1),
        event("x.y", "b", 3),
        event("x.y", "c", 4),
    ];
    let outcomes = fixture.broker.publish(&batch).await;
    assert!(outcomes[0].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(
        error.is_about_the_event() && error.code() == codes::LIMIT_EXCEEDED,
        "{error}"
    );
    assert!(matches!(outcomes[2], Err(PublishError::NotAttempted)));
}

#[tokio::test]
async fn a_stream_is_made_or_its_command_is_told() {
    let Some(server) = url("nats", VARIABLE, "topology") else {
        return;
    };
    let stream = fresh("topology");
    let checking = with(&server, &format!("stream={stream}&ensure=false"));
    let broker = connect(&checking).await.unwrap();
    let request = group("g", &["order.*"]);
    let groups = std::slice::from_ref(&request);

    let check = |ensure| TopologyRequest { groups, ensure };
    let items = broker.topology(check(false)).await.unwrap();
    assert_eq!(items.len(), 2);
    let TopologyState::Missing { command } = &items[0].state else {
        panic!("{items:?}");
    };
    assert!(
        command.starts_with(&format!("nats stream add {stream} ")),
        "{command}"
    );
    let outcomes = broker.publish(&[event("a.b", "k", 0)]).await;
    let error = outcomes[0].as_ref().unwrap_err();
    assert_eq!(error.code(), codes::TOPOLOGY_MISSING, "{error}");
    let error = broker.subscribe(&request).await.unwrap_err();
    assert!(error.to_string().contains("nats stream add"), "{error}");

    let items = broker.topology(check(true)).await.unwrap();
    assert!(
        items
            .iter()
            .all(|item| item.state == TopologyState::Created),
        "{items:?}"
    );
    let items = broker.topology(check(false)).await.unwrap();
    assert!(
        items
            .iter()
            .all(|item| item.state == TopologyState::Present),
        "{items:?}"
    );
    publish(&broker, &[event("order.placed", "k", 0)]).await;
    let mut joined = broker.subscribe(&request).await.unwrap();
    receive(&mut joined, 1).await;
}

#[tokio::test]
async fn a_consumer_with_other_filters_is_wrong_until_it_may_be_changed() {
    let Some(fixture) = Fixture::new("filters").await else {
        return;
    };
    let strict = connect(&with(&fixture.url, "ensure=false")).await.unwrap();
    let (orders, payments) = (group("g", &["order.*"]), group("g", &["payment.*", "a.**"]));
    let joined = fixture.broker.subscribe(&orders).await.unwrap();
    joined.settle.leave().await.unwrap();
    let state = async |request: &SubscribeRequest, ensure| {
        let groups = std::slice::from_ref(request);
        let request = TopologyRequest { groups, ensure };
        strict.topology(request).await.unwrap()[1].state.clone()
    };

    assert_eq!(state(&orders, false).await, TopologyState::Present);
    let TopologyState::Wrong { reason, way_out } = state(&payments, false).await else {
        panic!("its filters are those of orders");
    };
    let stream = &fixture.stream;
    assert!(reason.contains(&format!("{stream}.order.*")), "{reason}");
    assert_eq!(
        way_out,
        format!(
            "nats consumer edit {stream} g --filter '{stream}.a.>' --filter '{stream}.payment.*' --filter '{stream}.payment.*.*' --description '[\"payment.*\",\"a.**\"]' --force"
        )
    );
    let refused = strict.subscribe(&payments).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), codes::TOPOLOGY_WRONG, "{refused}");
    assert!(refused.to_string().contains(&way_out), "{refused}");
    let joined = strict.subscribe(&orders).await.unwrap();
    joined.settle.leave().await.unwrap();

    assert_eq!(state(&payments, true).await, TopologyState::Present);
    publish(&fixture.broker, &[event("payment.made", "k", 0)]).await;
    let mut joined = strict.subscribe(&payments).await.unwrap();
    assert_eq!(ids(&receive(&mut joined, 1).await), ["k-0"]);
}

#[tokio::test]
async fn groups_are_listed_measured_moved_and_removed() {
    let Some(fixture) = Fixture::new("admin").await else {
        return;
    };
    let batch: Vec<Envelope> = (0..5).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let admin = fixture.broker.admin().unwrap();
    let name: GroupName = "audit.v2".parse().unwrap();
    let unknown = admin.lag(&name).await.unwrap_err();
    assert!(
        matches!(unknown, BrokerError::GroupUnknown { .. }),
        "{unknown}"
    );

    let mut joined = fixture
        .broker
        .subscribe(&group("audit.v2", &["a.*"]))
        .await
        .unwrap();
    let got = receive(&mut joined, 5).await;
    settle(&joined, &got[..2], SettleAction::Ack).await;
    assert_eq!(admin.lag(&name).await.unwrap().events, 3);
    let groups = admin.groups().await.unwrap();
    assert_eq!(groups[0].name, name);
    assert_eq!(groups[0].patterns, ["a.*".parse().unwrap()]);
    assert_eq!(groups[0].position, got[2].position);
    let busy = admin.seek(&name, StartAt::Earliest).await.unwrap_err();
    assert!(matches!(busy, BrokerError::GroupLeased { .. }), "{busy}");

    joined.settle.leave().await.unwrap();
    let moved = admin
        .seek(&name, StartAt::Position(got[4].position.unwrap()))
        .await
        .unwrap();
    assert_eq!(moved, got[4].position);
    let mut joined = fixture
        .broker
        .subscribe(&group("audit.v2", &["a.*"]))
        .await
        .unwrap();
    assert_eq!(ids(&receive(&mut joined, 1).await), ["k-4"]);
    joined.settle.leave().await.unwrap();
    admin.remove(&name).await.unwrap();
    assert!(admin.groups().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_closed_broker_tells_so_and_what_it_held_goes_to_others() {
    let Some(fixture) = Fixture::new("closed").await else {
        return;
    };
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    receive(&mut joined, 1).await;
    fixture.broker.close().await.unwrap();
    let told = joined.receive.receive(1).await.unwrap_err();
    assert!(matches!(told, BrokerError::Closed), "{told}");
    let outcomes = fixture.broker.publish(&[event("a.b", "k", 1)]).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().code(), codes::CLOSED);
    drop(joined);

    let other = connect(&fixture.url).await.unwrap();
    let mut next = other.subscribe(&group("g", &["**"])).await.unwrap();
    assert_eq!(ids(&receive(&mut next, 1).await), ["k-0"]);
}
