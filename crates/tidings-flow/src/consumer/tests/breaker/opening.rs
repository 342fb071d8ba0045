//! What opens the circuit, and what does not.

use super::*;

/// Fails for the events of some keys.
fn failing_for(keys: &'static [&'static str], calls: &Seen) -> TestHandler {
    let calls = calls.clone();
    TestHandler::of("**", move |context| {
        let key = context.envelope.key().map(|key| key.to_string());
        let fails = key.is_some_and(|key| keys.contains(&&*key));
        let word = if fails { "fails" } else { "ok" };
        calls.note(format!(
            "{} at {} {word}",
            context.envelope.event_id(),
            context.attempt
        ));
        async move {
            match fails {
                true => Err(ProviderDown.into()),
                false => Ok(()),
            }
        }
    })
}

#[tokio::test]
async fn one_key_that_fails_opens_nothing_however_many_events_it_has() {
    for on_failure in [OnFailure::Hold, OnFailure::Continue] {
        let mut shop = Shop::new();
        shop.stage.config.on_failure = Some(on_failure);
        // Its events are the last ones: nothing else happens while they are tried again.
        shop.publish(30, 30);
        let poison = (100..120).map(|number| event("order.placed", Some("poison"), number));
        shop.stage.broker.append(poison);
        let handler = Arc::new(failing_for(&["poison"], &shop.calls));
        let consumer = shop.builder().handler(handler).start().await.unwrap();

        shop.stage.idle(&consumer).await;

        let stats = consumer.stats();
        assert_eq!((stats.circuit, stats.circuit_openings), (None, 0));
        let letters = match on_failure {
            OnFailure::Hold => 1,
            OnFailure::Continue => 20,
        };
        assert_eq!((stats.handled, stats.dead_lettered), (30, letters));
    }
}

#[tokio::test]
async fn a_few_poison_events_at_the_end_of_a_backlog_still_become_dead_letters() {
    let mut shop = Shop::new();
    shop.stage.config.attempts = 10;
    shop.publish(100, 50);
    let handler = failing_for(&["k1", "k2", "k3", "k47", "k48"], &shop.calls);
    let builder = shop.builder().handler(Arc::new(handler));
    let consumer = builder.start().await.unwrap();

    shop.stage.idle(&consumer).await;

    let stats = consumer.stats();
    assert_eq!(stats.circuit_openings, 0);
    assert_eq!((stats.handled, stats.dead_lettered), (90, 5));
}

#[tokio::test]
async fn what_is_wrong_with_events_themselves_opens_nothing() {
    let shop = Shop::new();
    let poison = (0..40).map(|number| {
        let key = format!("k{number}");
        match number % 2 {
            0 => event("order.placed", Some(&key), number),
            _ => garbage("order.placed", Some(&key), number),
        }
    });
    shop.stage.broker.append(poison);
    let failing = TestHandler::failing(|| HandlerError::permanent_message("no such order"));
    let builder = shop.builder().handler(Arc::new(failing));
    let consumer = builder.start().await.unwrap();

    shop.stage.idle(&consumer).await;

    let stats = consumer.stats();
    assert_eq!((stats.dead_lettered, stats.circuit_openings), (40, 0));
}

#[tokio::test]
async fn a_policy_opens_the_circuit_at_the_first_error_of_its_type() {
    let mut shop = Shop::new();
    shop.stage.config.breaker = None;
    shop.stage.config.attempts = 1;
    shop.stage.config.parallel = 1;
    shop.stage.config.policies.set::<ProviderDown>(Policy {
        pause_group: true,
        ..Policy::default()
    });
    shop.publish(20, 20);
    let consumer = shop.start().await;

    shop.opened(&consumer).await;

    assert_eq!(shop.calls.all(), ["evt-0 at 1 fails"]);
    shop.heals();
    shop.stage.idle(&consumer).await;
    shop.assert_each_succeeded_once(20);
    shop.assert_nothing_is_lost(&consumer);
}

#[tokio::test]
async fn a_group_that_is_told_to_stops_and_says_why() {
    let mut shop = Shop::new();
    shop.stage.config.until_end = true;
    if let Some(breaker) = &mut shop.stage.config.breaker {
        breaker.on_open = OnOpen::Stop;
    }
    shop.publish(50, 50);

    // Started again and again, as a supervisor does.
    for _ in 0..8 {
        let consumer = shop.start().await;
        let stopped = shop.stage.wait("stopped", consumer.finished()).await;
        let error = stopped.unwrap_err();
        assert_eq!(error.code(), codes::CIRCUIT_OPEN);
        assert!(error.class().is_transient());
        assert!(
            error.to_string().contains("the provider is down"),
            "{error}"
        );
        shop.assert_nothing_is_lost(&consumer);
        shop.stage.drain(consumer).await;
    }
    shop.heals();
    let consumer = shop.start().await;
    shop.stage
        .wait("finished", consumer.finished())
        .await
        .unwrap();

    shop.assert_each_succeeded_once(50);
}
