//! Topology, groups and tails: what is looked at, made, listed and removed.

use super::*;

#[tokio::test]
async fn what_is_missing_is_named_with_its_command_where_it_must_not_be_made() {
    let Some(host) = host("topology") else {
        return;
    };
    let topic = fresh("topology");
    let bound = connect(&host, &format!("topic={topic}&ensure=false&fifo=true")).await;
    let bound = bound.expect("a broker that only looks");
    let groups = [group("stock", &["order.*"])];
    let look = |ensure| TopologyRequest {
        groups: &groups,
        ensure,
    };

    let items = bound.topology(look(false)).await.expect("a look");
    let commands: Vec<_> = items
        .iter()
        .map(|item| match &item.state {
            TopologyState::Missing { command } => command.as_str(),
            other => panic!("{}: {other:?}", item.what),
        })
        .collect();
    assert!(commands[0].contains(&format!("aws sns create-topic --name {topic}.fifo")));
    assert!(commands[1].contains(&format!(
        "aws sqs create-queue --queue-name {topic}-stock.fifo"
    )));
    assert!(
        commands[2].contains("aws sns subscribe") && commands[2].contains("RawMessageDelivery")
    );
    let outcomes = bound.publish(&[event("order.placed", "a", 1)]).await;
    let refused = outcomes[0].as_ref().expect_err("there is no topic");
    assert_eq!(refused.code(), codes::TOPOLOGY_MISSING);
    let refused = bound
        .subscribe(&groups[0])
        .await
        .expect_err("there is no topic");
    assert!(
        matches!(refused, BrokerError::TopologyMissing { .. }),
        "{refused}"
    );

    let states = |items: Vec<tidings_core::broker::TopologyItem>| -> Vec<TopologyState> {
        items.into_iter().map(|item| item.state).collect()
    };
    let made = bound.topology(look(true)).await.expect("made");
    assert_eq!(states(made), [const { TopologyState::Created }; 3]);
    let there = bound.topology(look(false)).await.expect("a look");
    assert_eq!(states(there), [const { TopologyState::Present }; 3]);
    let other = [group("stock", &["order.*", "stock.moved"])];
    let request = TopologyRequest {
        groups: &other,
        ensure: false,
    };
    let wrong = bound.topology(request).await.expect("a look");
    match &wrong[2].state {
        TopologyState::Wrong { way_out, .. } => {
            assert!(way_out.contains("stock.moved"), "{way_out}")
        }
        other => panic!("{other:?}"),
    }
    let mut subscription = bound.subscribe(&groups[0]).await.expect("a group");
    publish(&bound, &[event("order.placed", "a", 1)]).await;
    assert_eq!(receive(&mut subscription, 1).await.len(), 1);
    subscription.settle.leave().await.expect("left");
}

#[tokio::test]
async fn groups_are_listed_with_their_lag_and_removed() {
    let Some(fixture) = Fixture::new("admin", "&fifo=true").await else {
        return;
    };
    let admin = fixture.broker.admin().expect("administration");
    let name: GroupName = "stock.v2".parse().expect("a name");
    let request = group(name.as_str(), &["order.placed", "stock.*"]);
    let subscription = fixture.broker.subscribe(&request).await.expect("a group");
    subscription.settle.leave().await.expect("left");
    publish(
        &fixture.broker,
        &[event("order.placed", "a", 1), event("order.placed", "a", 2)],
    )
    .await;

    let groups = admin.groups().await.expect("groups");
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].name, name);
    let patterns: Vec<_> = groups[0].patterns.iter().map(|one| one.as_str()).collect();
    assert_eq!(patterns, ["order.placed", "stock.**"]);
    assert_eq!(admin.lag(&name).await.expect("a lag").events, 2);
    let refused = admin.seek(&name, StartAt::Earliest).await;
    assert!(matches!(refused, Err(BrokerError::Unsupported { .. })));
    admin.remove(&name).await.expect("removed");

    assert!(matches!(
        admin.lag(&name).await,
        Err(BrokerError::GroupUnknown { .. })
    ));
    assert!(queues(&fixture.host, &fixture.topic).await.is_empty());
}

#[tokio::test]
async fn a_tail_reads_along_from_now_on_and_leaves_nothing_behind() {
    let Some(fixture) = Fixture::new("tail", "&fifo=true").await else {
        return;
    };
    let request = |start| TailRequest {
        patterns: vec!["order.*".parse().expect("a pattern")],
        start,
    };
    let refused = fixture.broker.tail(request(StartAt::Earliest)).await.err();
    let refused = refused.expect("no history").to_string();
    assert!(refused.contains("keeps no history"), "{refused}");
    let mut tail = fixture
        .broker
        .tail(request(StartAt::Latest))
        .await
        .expect("a tail");
    assert!(tail.next(10).await.expect("a page").at_end);
    assert_eq!(
        queues(&fixture.host, &format!("{}-tail-", fixture.topic))
            .await
            .len(),
        1
    );

    publish(
        &fixture.broker,
        &[event("order.placed", "a", 1), event("stock.moved", "a", 2)],
    )
    .await;
    publish(&fixture.broker, &[event("order.placed", "a", 3)]).await;
    let mut read = Vec::new();
    while read.len() < 2 {
        let page = tokio::time::timeout(DEADLINE, tail.next(10))
            .await
            .expect("in time");
        let page = page.expect("a page");
        read.extend(
            page.events
                .iter()
                .map(|one| one.envelope.event_id().to_owned()),
        );
    }
    drop(tail);
    fixture.broker.close().await.expect("closed");

    assert_eq!(read, ["a-1", "a-3"]);
    assert!(queues(&fixture.host, &fixture.topic).await.is_empty());
    let outcomes = fixture
        .broker
        .publish(&[event("order.placed", "a", 4)])
        .await;
    assert_eq!(
        outcomes[0].as_ref().expect_err("closed").code(),
        codes::CLOSED
    );
}
