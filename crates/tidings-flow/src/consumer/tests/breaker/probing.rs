//! Which event is tried while the circuit is open.

use super::*;

#[tokio::test]
async fn parked_keys_stay_as_they_are_until_they_are_all_that_can_be_tried() {
    let mut shop = Shop::new();
    shop.stage.config.attempts = 1;
    shop.stage.config.later = vec![2 * SECOND, 60 * SECOND];
    if let Some(breaker) = &mut shop.stage.config.breaker {
        (breaker.failures, breaker.of) = (4, 4);
    }
    // Three keys are parked, which is too few to judge by.
    shop.publish(9, 3);
    let consumer = shop.start().await;
    shop.stage
        .until("they are parked", || shop.store.lock().parked.len() == 9)
        .await;
    let rounds = |shop: &Shop| -> Vec<u32> {
        let store = shop.store.lock();
        store.parked.iter().map(|row| row.rounds).collect()
    };
    let before = rounds(&shop);
    // The fourth opens the circuit.
    shop.stage
        .broker
        .append([event("order.placed", Some("k4"), 40)]);
    shop.opened(&consumer).await;

    shop.tried_in_vain(&consumer, 5).await;

    assert_eq!(rounds(&shop), before, "no round is counted");
    assert_eq!(consumer.stats().dead_lettered, 0);
    shop.heals();
    let free = || shop.store.lock().parked.is_empty();
    shop.stage.until("the keys are free", free).await;
    shop.stage.idle(&consumer).await;
    shop.assert_each_succeeded_once(10);
    let of_one_key: Vec<String> = shop
        .succeeded()
        .into_iter()
        .filter(|id| ["evt-1", "evt-4", "evt-7"].contains(&&**id))
        .collect();
    assert_eq!(of_one_key, ["evt-1", "evt-4", "evt-7"]);
}

#[tokio::test]
async fn an_event_of_a_key_that_did_not_fail_is_tried_first() {
    let shop = Shop::new();
    shop.publish(9, 9);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;
    shop.tried_in_vain(&consumer, 1).await;

    shop.heals();
    shop.stage
        .broker
        .append([event("order.placed", Some("fresh"), 77)]);
    shop.stage.idle(&consumer).await;

    assert_eq!(shop.succeeded()[0], "evt-77");
    shop.assert_each_succeeded_once(10);
}

#[tokio::test]
async fn an_event_that_is_wrong_in_itself_decides_nothing_and_another_is_tried() {
    let shop = Shop::new();
    let (down, calls) = (Arc::clone(&shop.is_down), shop.calls.clone());
    let handler = TestHandler::of("**", move |context| {
        let is_down = down.load(Ordering::Relaxed);
        let wrong = context.envelope.event_type().name() == "order.wrong";
        calls.note(context.envelope.event_id());
        async move {
            match (wrong, is_down) {
                (true, _) => Err(HandlerError::permanent_message("no such order")),
                (_, true) => Err(ProviderDown.into()),
                (_, false) => Ok(()),
            }
        }
    });
    let builder = shop.builder().handler(Arc::new(handler));
    let consumer = builder.start().await.unwrap();
    shop.publish(20, 20);
    shop.opened(&consumer).await;
    let wrong = (50..53).map(|number| event("order.wrong", Some(&format!("w{number}")), number));
    shop.stage.broker.append(wrong);

    shop.heals();
    shop.stage.idle(&consumer).await;

    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.dead_lettered), (20, 3));
    assert_eq!((stats.circuit, stats.circuit_openings), (None, 1));
}

/// Fails for all of a batch while the provider is down.
struct Batches {
    patterns: Vec<Pattern>,
    is_down: Arc<AtomicBool>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl crate::handler::BatchHandler for Batches {
    fn name(&self) -> &str {
        "batches"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn events_max(&self) -> usize {
        10
    }

    fn handle(&self, contexts: Vec<HandlerContext>) -> BoxFuture<'static, Vec<HandlerResult>> {
        self.sizes.lock().unwrap().push(contexts.len());
        let is_down = self.is_down.load(Ordering::Relaxed);
        Box::pin(async move {
            let result = |_| match is_down {
                true => Err(ProviderDown.into()),
                false => Ok(()),
            };
            contexts.iter().map(result).collect()
        })
    }
}

#[tokio::test]
async fn one_event_alone_is_tried_where_batches_are_handled() {
    let shop = Shop::new();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let handler = Batches {
        patterns: vec!["**".parse().unwrap()],
        is_down: Arc::clone(&shop.is_down),
        sizes: Arc::clone(&sizes),
    };
    shop.publish(200, 200);
    let builder = shop.builder().batch_handler(Arc::new(handler));
    let consumer = builder.start().await.unwrap();
    shop.opened(&consumer).await;
    let before = sizes.lock().unwrap().len();

    shop.tried_in_vain(&consumer, 3).await;

    assert_eq!(sizes.lock().unwrap()[before..], [1, 1, 1]);
    shop.assert_nothing_is_lost(&consumer);
    shop.heals();
    shop.stage.idle(&consumer).await;
    assert_eq!(consumer.stats().handled, 200);
}

#[tokio::test]
async fn a_rate_holds_for_what_is_tried_too() {
    let mut shop = Shop::new();
    shop.stage.config.rate_max = Some(20);
    shop.publish(30, 30);
    let consumer = shop.start().await;
    shop.opened(&consumer).await;

    shop.heals();
    shop.stage.idle(&consumer).await;

    shop.assert_each_succeeded_once(30);
}
