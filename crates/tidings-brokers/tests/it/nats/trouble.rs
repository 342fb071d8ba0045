//! Trouble on the way to a server: connections that are lost or swallow everything, servers that are not there or refuse.

use super::*;
use futures_util::StreamExt as _;

#[tokio::test]
async fn a_lost_connection_loses_nothing_and_doubles_nothing_that_was_settled() {
    let Some(server) = url("nats", VARIABLE, "cut") else {
        return;
    };
    let proxy = FaultProxy::start(host_of(&server)).unwrap();
    let stream = fresh("cut");
    let through = format!("nats://{}?stream={stream}&ack_wait=2", proxy.address());
    let broker = Arc::new(connect(&through).await.unwrap());
    let mut joined = broker.subscribe(&group("g", &["**"])).await.unwrap();

    let mut got: Vec<String> = Vec::new();
    for round in 0..3_u32 {
        let batch: Vec<Envelope> = (0..50)
            .map(|number| event("a.b", "k", round * 50 + number))
            .collect();
        let publishing = {
            let broker = Arc::clone(&broker);
            async move {
                let mut rest = batch;
                while !rest.is_empty() {
                    let outcomes = broker.publish(&rest).await;
                    rest = rest
                        .into_iter()
                        .zip(&outcomes)
                        .filter(|(_, one)| one.is_err())
                        .map(|(one, _)| one)
                        .collect();
                }
            }
        };
        let cutting = async {
            tokio::task::yield_now().await;
            proxy.cut();
        };
        tokio::time::timeout(DEADLINE * 2, async { tokio::join!(publishing, cutting) })
            .await
            .expect("published");
        proxy.cut();
        let deliveries = receive(&mut joined, 50).await;
        got.extend(ids(&deliveries));
        let mut outcomes: Vec<_> = deliveries
            .iter()
            .map(|one| (one.token, SettleAction::Ack))
            .collect();
        let settling = async {
            while !outcomes.is_empty() {
                let answers = joined.settle.settle(&outcomes).await;
                outcomes = outcomes
                    .iter()
                    .zip(&answers)
                    .filter(|(_, answer)| matches!(answer, Err(SettleError::Broker(_))))
                    .map(|(one, _)| *one)
                    .collect();
            }
        };
        tokio::time::timeout(DEADLINE, settling)
            .await
            .expect("settled");
    }
    let expected: Vec<String> = (0..150).map(|number| format!("k-{number}")).collect();
    assert_eq!(got, expected);
    expect_quiet(&mut joined).await;
}

#[tokio::test]
async fn a_server_that_swallows_everything_makes_outcomes_unknown_in_bounded_time() {
    let Some(server) = url("nats", VARIABLE, "swallow") else {
        return;
    };
    let proxy = FaultProxy::start(host_of(&server)).unwrap();
    let through = format!("nats://{}?stream={}", proxy.address(), fresh("swallow"));
    let broker = connect(&through).await.unwrap();
    // Who does not look at the stream does not know that it takes batches.
    let one_by_one = connect(&format!("{through}&ensure=false")).await.unwrap();
    proxy.half_open();
    let batch = [event("a.b", "k", 0), event("a.b", "k", 1)];
    let publishing = async { tokio::join!(broker.publish(&batch), one_by_one.publish(&batch)) };
    let (of_batch, of_events) = tokio::time::timeout(DEADLINE, publishing)
        .await
        .expect("in time");
    for outcome in of_batch.iter().chain(&of_events[..1]) {
        let error = outcome.as_ref().unwrap_err();
        assert!(error.may_have_happened(), "{error:?}");
    }
    assert!(
        matches!(of_events[1], Err(PublishError::NotAttempted)),
        "{of_events:?}"
    );
}

#[tokio::test]
async fn who_may_not_come_in_is_told_so() {
    let Some(server) = url("nats-tls", TLS_VARIABLE, "login") else {
        return;
    };
    let authority = read("TIDINGS_TEST_NATS_TLS_CA").expect("the authority of the TLS server");
    let secure = with(
        &server,
        &format!("stream={}&ca={authority}", fresh("login")),
    );
    let broker = connect(&secure).await.expect("with the right authority");
    publish(&broker, &[event("a.b", "k", 0)]).await;

    let untrusted = connect(&server).await.unwrap_err();
    assert_eq!(untrusted.code(), codes::BROKER_UNAUTHORISED, "{untrusted}");
    assert!(untrusted.to_string().contains("certificate"), "{untrusted}");
    let wrong = connect(&as_user(&secure, "tidings", "wrong"))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), codes::BROKER_UNAUTHORISED, "{wrong}");
    assert!(!wrong.to_string().contains("wrong"), "{wrong}");
    let reader = connect(&as_user(&secure, "reader", "reader"))
        .await
        .unwrap_err();
    assert_eq!(reader.code(), codes::BROKER_UNAUTHORISED, "{reader}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    if url("nats", VARIABLE, "unreachable").is_none() {
        return;
    }
    // Bound and never listened on, so nobody else can answer there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let error = connect(&format!("nats://{address}")).await.unwrap_err();
    assert_eq!(error.code(), codes::BROKER_UNREACHABLE, "{error}");
}

#[tokio::test]
async fn a_consumer_that_was_removed_makes_its_tokens_stale() {
    let Some(fixture) = Fixture::new("removed").await else {
        return;
    };
    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    let mut joined = fixture
        .broker
        .subscribe(&group("g", &["**"]))
        .await
        .unwrap();
    let got = receive(&mut joined, 1).await;
    let client = fixture.client().await;
    client
        .delete_consumer_from_stream("g", fixture.stream.as_str())
        .await
        .unwrap();
    let told = async {
        loop {
            match joined.receive.receive(1).await {
                Ok(Received::Lost(_)) => break,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("told");
    let stale = joined
        .settle
        .settle(&[(got[0].token, SettleAction::Ack)])
        .await;
    assert!(matches!(stale[0], Err(SettleError::Stale)), "{stale:?}");
}

#[tokio::test]
async fn nothing_newer_passes_what_a_lost_connection_swallowed() {
    let Some(fixture) = Fixture::new("swallowed").await else {
        return;
    };
    let target = fixture.url.split_once("://").unwrap().1;
    let proxy = FaultProxy::start(target.split('?').next().unwrap()).unwrap();
    let through = connect(&proxy.in_place_of(&fixture.url)).await.unwrap();
    let mut joined = through.subscribe(&group("g", &["**"])).await.unwrap();
    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    let got = receive(&mut joined, 1).await;
    settle(&joined, &got, SettleAction::Ack).await;

    proxy.swallow(Direction::ToClient);
    let batch: Vec<Envelope> = (1..10).map(|number| event("a.b", "k", number)).collect();
    publish(&fixture.broker, &batch).await;
    let context = fixture.client().await;
    let stream = context.get_stream(&fixture.stream).await.unwrap();
    let sent = async {
        while stream.consumer_info("g").await.unwrap().num_ack_pending < 9 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, sent).await.expect("sent");
    proxy.cut();
    proxy.heal();
    publish(&fixture.broker, &[event("a.b", "k", 10)]).await;
    let expected: Vec<String> = (1..=10).map(|number| format!("k-{number}")).collect();
    assert_eq!(ids(&receive(&mut joined, 10).await), expected);
}

/// A group whose only instance stands still: it has received these events, has asked for one more, and will settle nothing.
async fn stopped(
    fixture: &Fixture,
    request: &SubscribeRequest,
    received: &[Envelope],
) -> async_nats::jetstream::consumer::pull::Batch {
    let joined = fixture.broker.subscribe(request).await;
    drop(joined.expect("a group"));
    let context = fixture.client().await;
    let stream = context.get_stream(&fixture.stream).await.expect("a stream");
    let consumer: async_nats::jetstream::consumer::PullConsumer = stream
        .get_consumer(request.group.as_str())
        .await
        .expect("a consumer");
    let ask = |events| consumer.batch().max_messages(events).expires(DEADLINE);
    if !received.is_empty() {
        publish(&fixture.broker, received).await;
        let messages = ask(received.len()).messages().await.expect("an answer");
        assert_eq!(messages.count().await, received.len());
    }
    ask(1).messages().await.expect("an answer")
}

fn alone() -> SubscribeRequest {
    SubscribeRequest {
        single_instance: true,
        ..group("g", &["**"])
    }
}

#[tokio::test]
async fn what_goes_to_an_instance_that_stands_still_comes_before_what_is_newer() {
    let Some(fixture) = Fixture::new("stands-still").await else {
        return;
    };
    let mut stopped = stopped(&fixture, &alone(), &[]).await;
    let mut joined = fixture.broker.subscribe(&alone()).await.unwrap();

    publish(&fixture.broker, &[event("a.b", "k", 0)]).await;
    let lost = tokio::time::timeout(DEADLINE, stopped.next()).await;
    assert!(lost.unwrap().is_some(), "the first event goes elsewhere");
    publish(&fixture.broker, &[event("a.b", "k", 1)]).await;

    let deliveries = receive(&mut joined, 2).await;
    assert_eq!(ids(&deliveries), ["k-0", "k-1"]);
}

#[tokio::test]
async fn what_comes_again_is_in_order_although_some_of_it_goes_to_an_instance_that_stands_still() {
    let Some(fixture) = Fixture::new("stands-still-again").await else {
        return;
    };
    let received = [0, 1, 2].map(|number| event("a.b", "k", number));
    let mut stopped = stopped(&fixture, &alone(), &received).await;
    let mut joined = fixture.broker.subscribe(&alone()).await.unwrap();

    let lost = tokio::time::timeout(DEADLINE, stopped.next()).await;
    assert!(lost.unwrap().is_some(), "one comes again elsewhere");

    let deliveries = receive(&mut joined, 3).await;
    assert_eq!(ids(&deliveries), ["k-0", "k-1", "k-2"]);
}
