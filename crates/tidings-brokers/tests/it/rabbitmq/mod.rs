//! The adapter of RabbitMQ against a real server.

mod trouble;

use crate::events::{
    DEADLINE, event, every_kind, expect_quiet, group, ids, plain, publish, receive, settle,
};
use crate::server::{as_user, fresh, host_of, read, url, with};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use std::sync::Arc;
use std::time::Duration;
use tidings_brokers::rabbitmq::RabbitMqBroker;
use tidings_core::broker::{
    Broker, BrokerError, GroupName, PublishError, Received, SettleAction, SettleError, StartAt,
    SubscribeRequest, TailRequest, TopologyRequest, TopologyState,
};
use tidings_core::{Envelope, codes};
use tidings_testkit::proxy::FaultProxy;

const VARIABLE: &str = "TIDINGS_TEST_RABBITMQ_URL";
const TLS_VARIABLE: &str = "TIDINGS_TEST_RABBITMQ_TLS_URL";

async fn connect(url: &str) -> Result<RabbitMqBroker, BrokerError> {
    RabbitMqBroker::connect(&url.parse().expect("a URL")).await
}

/// A broker with an exchange of its own; what is left of it is removed at the end.
struct Fixture {
    broker: RabbitMqBroker,
    url: String,
    exchange: String,
}

impl Fixture {
    async fn new(test: &str) -> Option<Self> {
        let server = url("rabbitmq", VARIABLE, test)?;
        let exchange = fresh(test);
        let url = with(&server, &format!("exchange={exchange}"));
        let broker = connect(&url).await.expect("a broker");
        Some(Self {
            broker,
            url,
            exchange,
        })
    }

    async fn channel(&self) -> lapin::Channel {
        let server = self.url.split('?').next().expect("a server");
        let connection = lapin::Connection::connect(server, lapin::ConnectionProperties::default());
        let connection = connection.await.expect("a connection");
        connection.create_channel().await.expect("a channel")
    }
}

#[tokio::test]
async fn every_attribute_comes_back() {
    let Some(fixture) = Fixture::new("attributes").await else {
        return;
    };
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let sent = every_kind();
    publish(&fixture.broker, &sent).await;
    let got = receive(&mut joined, sent.len()).await;
    for (delivery, envelope) in got.iter().zip(&sent) {
        assert_eq!(plain(&delivery.envelope), plain(envelope));
        assert_eq!(delivery.problem, None);
    }
    settle(&joined, &got, SettleAction::Ack).await;
    expect_quiet(&mut joined).await;
    assert_eq!(fixture.broker.unrouted(), 0);
}

#[tokio::test]
async fn order_is_kept_and_what_nobody_wants_is_a_success_that_is_counted() {
    let Some(fixture) = Fixture::new("order").await else {
        return;
    };
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["order.*"]))
        .await
        .unwrap();
    let batch: Vec<Envelope> = (0..3_000)
        .map(|number| event("order.placed.v2", &format!("k{}", number % 7), number))
        .collect();
    publish(&fixture.broker, &batch).await;
    publish(&fixture.broker, &[event("stock.counted", "k", 0)]).await;
    assert_eq!(fixture.broker.unrouted(), 1);
    let mut got = Vec::new();
    while got.len() < batch.len() {
        let some = receive(&mut joined, 500).await;
        settle(&joined, &some, SettleAction::Ack).await;
        got.extend(ids(&some));
    }
    let sent: Vec<String> = batch.iter().map(|one| one.event_id().to_owned()).collect();
    assert_eq!(got, sent);
    expect_quiet(&mut joined).await;
}

#[tokio::test]
async fn what_is_released_comes_again_first_and_a_token_settles_once() {
    let Some(fixture) = Fixture::new("release").await else {
        return;
    };
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let batch: Vec<Envelope> = (0..6).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
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
    settle(&joined, &rest[2..], SettleAction::Ack).await;
    settle(&joined, &got[3..], SettleAction::Ack).await;
    settle(&joined, &rest[..2], SettleAction::Ack).await;

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
async fn one_instance_is_at_work_and_another_takes_over_in_order() {
    let Some(fixture) = Fixture::new("takeover").await else {
        return;
    };
    let mut first = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let mut second = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let batch: Vec<Envelope> = (0..200).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let got = receive(&mut first, 100).await;
    expect_quiet(&mut second).await;
    settle(&first, &got[..3], SettleAction::Ack).await;
    settle(&first, &got[5..6], SettleAction::Ack).await;
    first.settle.leave().await.unwrap();

    let rest = receive(&mut second, 196).await;
    let expected: Vec<String> = (3..200)
        .filter(|number| *number != 5)
        .map(|number| format!("k-{number}"))
        .collect();
    assert_eq!(ids(&rest), expected);
}

#[tokio::test]
async fn what_a_killed_instance_had_comes_first_and_in_order() {
    let Some(fixture) = Fixture::new("killed").await else {
        return;
    };
    let url = fixture.url.clone();
    let (joined, wait) = std::sync::mpsc::channel();
    let (go_on, published) = std::sync::mpsc::channel();
    let killed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let subscription = runtime.block_on(async {
            let broker = connect(&url).await.unwrap();
            let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
            joined.send(()).unwrap();
            published.recv().unwrap();
            let got = receive(&mut subscription, 50).await;
            settle(&subscription, &got[..1], SettleAction::Ack).await;
            subscription.settle.flush().await.unwrap();
            subscription
        });
        // Its tasks and its connection end where they stand.
        runtime.shutdown_background();
        drop(subscription);
    });
    wait.recv().unwrap();
    let batch: Vec<Envelope> = (0..50).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    go_on.send(()).unwrap();
    killed.join().unwrap();
    publish(&fixture.broker, &[event("a.b", "k", 50)]).await;

    let mut next = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut next, 50).await;
    let expected: Vec<String> = (1..=50).map(|number| format!("k-{number}")).collect();
    assert_eq!(ids(&got), expected);
}

#[tokio::test]
async fn groups_get_what_they_want_from_when_they_began() {
    let Some(fixture) = Fixture::new("start").await else {
        return;
    };
    publish(&fixture.broker, &[event("order.placed", "a", 0)]).await;
    let mut typed = fixture
        .broker
        .subscribe(&group("typed.x", &["order.placed"]))
        .await
        .unwrap();
    publish(
        &fixture.broker,
        &[
            event("order.placed", "a", 1),
            event("order.placed.v2", "a", 2),
            event("stock.reserved", "a", 3),
        ],
    )
    .await;
    assert_eq!(ids(&receive(&mut typed, 2).await), ["a-1", "a-2"]);
    expect_quiet(&mut typed).await;
    let early = SubscribeRequest {
        start: StartAt::Time(tidings_core::Timestamp::from_micros(0)),
        ..group("time", &["**"])
    };
    let error = fixture.broker.subscribe(&early).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unsupported { .. }), "{error}");

    // A group that comes back with further patterns goes on where it stood.
    typed.settle.leave().await.unwrap();
    publish(&fixture.broker, &[event("order.placed", "a", 4)]).await;
    let mut wider = fixture
        .broker
        .subscribe(&group("typed.x", &["order.*"]))
        .await
        .unwrap();
    publish(&fixture.broker, &[event("order.paid", "a", 5)]).await;
    assert_eq!(
        ids(&receive(&mut wider, 4).await),
        ["a-1", "a-2", "a-4", "a-5"]
    );
}

#[tokio::test]
async fn a_group_knows_when_nothing_is_left() {
    let Some(fixture) = Fixture::new("caughtup").await else {
        return;
    };
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let batch: Vec<Envelope> = (0..500).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let mut count = 0;
    let caught_up = async {
        while !joined.receive.is_caught_up() {
            let received = joined.receive.receive(100);
            if let Ok(Ok(Received::Deliveries { deliveries, .. })) =
                tokio::time::timeout(Duration::from_millis(20), received).await
            {
                count += deliveries.len();
            }
        }
    };
    tokio::time::timeout(DEADLINE, caught_up)
        .await
        .expect("in time");
    assert_eq!(count, 500);
}

#[tokio::test]
async fn a_tail_begins_now_and_has_no_history() {
    let Some(fixture) = Fixture::new("tail").await else {
        return;
    };
    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    let request = |start| TailRequest {
        patterns: Vec::new(),
        start,
    };
    let Err(error) = fixture.broker.tail(request(StartAt::Earliest)).await else {
        panic!("it has no history");
    };
    assert!(error.to_string().contains("no history"), "{error}");
    let mut tail = fixture.broker.tail(request(StartAt::Latest)).await.unwrap();
    assert!(tail.next(10).await.unwrap().at_end);
    let batch: Vec<Envelope> = (1..=50).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let mut read = 0;
    while read < 50 {
        let page = tokio::time::timeout(DEADLINE, tail.next(20))
            .await
            .unwrap()
            .unwrap();
        for one in page.events {
            read += 1;
            assert_eq!(one.envelope.event_id(), format!("k-{read}"));
        }
    }
}

#[tokio::test]
async fn foreign_messages_are_read_and_garbage_keeps_its_bytes() {
    let Some(fixture) = Fixture::new("foreign").await else {
        return;
    };
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["shop.*"]))
        .await
        .unwrap();
    let channel = fixture.channel().await;
    for (key, body) in [
        ("shop.opened", &br#"{"id":7,"city":"Bonn"}"#[..]),
        ("shop.closed", &b"\xff\xfe no event"[..]),
    ] {
        let sent = channel.basic_publish(
            fixture.exchange.as_str().into(),
            key.into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default(),
        );
        sent.await.unwrap().await.unwrap();
    }
    let got = receive(&mut joined, 2).await;
    assert_eq!(got[0].envelope.event_type().as_str(), "shop.opened");
    assert_eq!(got[0].problem, None);
    assert_eq!(got[1].envelope.payload_bytes(), b"\xff\xfe no event");
    assert!(got[1].problem.is_some());
    // The same at every delivery.
    joined.settle.leave().await.unwrap();
    let mut again = fixture
        .broker
        .subscribe(&group("g", &["shop.*"]))
        .await
        .unwrap();
    let second = receive(&mut again, 2).await;
    assert_eq!(second[0].envelope, got[0].envelope);
    assert_eq!(second[1].envelope, got[1].envelope);
    settle(&again, &second, SettleAction::Ack).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let Some(fixture) = Fixture::new("large").await else {
        return;
    };
    let small = connect(&with(&fixture.url, "message_bytes_max=100"))
        .await
        .unwrap();
    let long = format!(
        r#"{{"event_id":"2","event_type":"a.b","aggregate_id":"k","source":"s","payload":"{}"}}"#,
        "x".repeat(100)
    );
    let batch = [
        event("a.b", "k", 1),
        Envelope::from_json(long.as_bytes()).unwrap(),
        event("a.b", "k", 3),
        event("a.b", "other", 4),
    ];
    let outcomes = small.publish(&batch).await;
    assert!(outcomes[0].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(
        error.is_about_the_event() && error.code() == codes::LIMIT_EXCEEDED,
        "{error}"
    );
    assert!(matches!(outcomes[2], Err(PublishError::NotAttempted)));
}

#[tokio::test]
async fn the_exchange_is_made_or_its_command_is_told() {
    let Some(server) = url("rabbitmq", VARIABLE, "topology") else {
        return;
    };
    let exchange = fresh("topology");
    let broker = connect(&with(&server, &format!("exchange={exchange}&ensure=false")))
        .await
        .unwrap();
    let request = group("g", &["order.*"]);
    let groups = std::slice::from_ref(&request);
    let check = |ensure| TopologyRequest { groups, ensure };

    let items = broker.topology(check(false)).await.unwrap();
    assert_eq!(items.len(), 2);
    for item in &items {
        let TopologyState::Missing { command } = &item.state else {
            panic!("{items:?}");
        };
        assert!(
            command.contains(&exchange) && command.starts_with("rabbitmqadmin "),
            "{command}"
        );
    }
    let outcomes = broker.publish(&[event("a.b", "k", 0)]).await;
    let error = outcomes[0].as_ref().unwrap_err();
    assert_eq!(error.code(), codes::TOPOLOGY_MISSING, "{error}");
    let error = broker.subscribe(&request).await.unwrap_err();
    assert_eq!(error.code(), codes::TOPOLOGY_MISSING, "{error}");

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
    let mut joined = broker.subscribe(&request).await.unwrap();
    publish(&broker, &[event("order.placed", "k", 0)]).await;
    receive(&mut joined, 1).await;
}

#[tokio::test]
async fn a_queue_of_another_kind_is_told() {
    let Some(fixture) = Fixture::new("otherwise").await else {
        return;
    };
    let channel = fixture.channel().await;
    let queue = format!("{}.g", fixture.exchange);
    let options = lapin::options::QueueDeclareOptions::default();
    channel
        .queue_declare(queue.as_str().into(), options, Default::default())
        .await
        .unwrap();
    let error = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), codes::TOPOLOGY_WRONG, "{error}");
    assert!(error.to_string().contains(&queue), "{error}");
    let delete = lapin::options::QueueDeleteOptions::default();
    channel
        .queue_delete(queue.as_str().into(), delete)
        .await
        .unwrap();
}

#[tokio::test]
async fn groups_are_measured_and_removed() {
    let Some(fixture) = Fixture::new("admin").await else {
        return;
    };
    let admin = fixture.broker.admin().unwrap();
    let name: GroupName = "audit.v2".parse().unwrap();
    let unknown = admin.lag(&name).await.unwrap_err();
    assert!(
        matches!(unknown, BrokerError::GroupUnknown { .. }),
        "{unknown}"
    );
    let joined = fixture
        .broker
        .subscribe(&group("audit.v2", &["**"]))
        .await
        .unwrap();
    let leased = admin.remove(&name).await.unwrap_err();
    assert!(
        matches!(leased, BrokerError::GroupLeased { .. }),
        "{leased}"
    );
    joined.settle.leave().await.unwrap();
    publish(
        &fixture.broker,
        &[event("a.b", "k", 0), event("a.b", "k", 1)],
    )
    .await;
    assert_eq!(admin.lag(&name).await.unwrap().events, 2);
    let mut joined = fixture
        .broker
        .subscribe(&group("audit.v2", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut joined, 2).await;
    assert_eq!(admin.lag(&name).await.unwrap().events, 2);
    settle(&joined, &got[..1], SettleAction::Ack).await;
    assert_eq!(admin.lag(&name).await.unwrap().events, 1);
    joined.settle.leave().await.unwrap();
    let error = admin.seek(&name, StartAt::Earliest).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unsupported { .. }), "{error}");
    // The server may count who has left for a moment longer.
    let removed = async {
        loop {
            match admin.remove(&name).await {
                Err(BrokerError::GroupLeased { .. }) => {}
                other => break other,
            }
        }
    };
    tokio::time::timeout(DEADLINE, removed)
        .await
        .unwrap()
        .unwrap();
    let unknown = admin.lag(&name).await.unwrap_err();
    assert!(
        matches!(unknown, BrokerError::GroupUnknown { .. }),
        "{unknown}"
    );
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
