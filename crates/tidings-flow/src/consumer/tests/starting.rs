//! What is refused before a consumer starts, and what reaches which handler.

use super::*;
use crate::consumer::{Backoff, ConsumerError};
use crate::fakes::failures::FakeFailures;
use tidings_core::broker::{KeyOrder, StartAt};
use tidings_core::codes;
use tidings_core::extract::States;

fn ignore(pattern: &str) -> Arc<TestHandler> {
    Arc::new(TestHandler::of(pattern, |_| async { Ok(()) }))
}

async fn refusal(builder: ConsumerBuilder) -> ConsumerError {
    builder
        .start()
        .await
        .expect_err("the consumer must be refused")
}

#[tokio::test]
async fn a_consumer_without_a_handler_is_refused() {
    let error = refusal(Stage::new().builder("payment")).await;

    assert_eq!(error.code(), codes::CONSUMER_INVALID);
    assert!(
        error.to_string().contains("\"payment\" has no handler"),
        "{error}"
    );
}

#[tokio::test]
async fn two_handlers_of_one_pattern_or_one_name_are_refused() {
    let stage = Stage::new();
    let other = || Arc::new(TestHandler::of("order.placed", |_| async { Ok(()) }).named("other"));

    let pattern = refusal(
        stage
            .builder("a")
            .handler(ignore("order.placed"))
            .handler(other()),
    )
    .await;
    let name = refusal(
        stage
            .builder("a")
            .handler(ignore("a.b"))
            .handler(ignore("c.d")),
    )
    .await;

    let message = pattern.to_string();
    assert!(
        message.contains("\"handler\" and \"other\" both handle order.placed"),
        "{message}"
    );
    assert!(
        name.to_string().contains("two handlers named \"handler\""),
        "{name}"
    );
}

#[tokio::test]
async fn a_setting_out_of_bounds_is_refused_by_name() {
    let stage = Stage::new();
    type Change = fn(&mut ConsumerConfig);
    let broken: [(&str, Change); 8] = [
        ("attempts 0; allowed is 1 to 1000", |config| {
            config.attempts = 0
        }),
        ("attempts 1001", |config| config.attempts = 1_001),
        ("parallel 0; allowed is 1 to 4096", |config| {
            config.parallel = 0
        }),
        ("in_flight_max 0", |config| config.in_flight_max = 0),
        ("code version 256; allowed is 0 to 255", |config| {
            config.code_version = "v".repeat(256)
        }),
        ("time_limit 0", |config| config.time_limit = Duration::ZERO),
        ("jitter_percent 101", |config| {
            config.backoff.jitter_percent = 101
        }),
        ("first back-off", |config| {
            config.backoff = Backoff {
                first: Duration::from_secs(11),
                ..Backoff::default()
            };
        }),
    ];
    for (message, change) in broken {
        let mut config = ConsumerConfig::default();
        change(&mut config);

        let error = refusal(stage.builder("a").handler(ignore("a.b")).config(config)).await;

        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.code(), codes::LIMIT_EXCEEDED);
    }
}

#[tokio::test]
async fn a_broker_without_order_needs_a_consumer_that_says_so() {
    let mut broker = FakeBroker::new();
    broker.key_order = KeyOrder::None;
    let mut stage = Stage::on(broker);

    let error = refusal(stage.builder("a").handler(ignore("a.b"))).await;
    stage.config.unordered = true;

    assert_eq!(error.code(), codes::CAPABILITY_MISSING);
    let consumer = stage.builder("a").handler(ignore("a.b")).start().await;
    assert!(consumer.is_ok());
}

#[tokio::test]
async fn a_missing_state_is_refused_with_the_way_out() {
    struct Needs(TestHandler);
    impl DeliveryHandler for Needs {
        fn name(&self) -> &str {
            "needs"
        }
        fn patterns(&self) -> &[Pattern] {
            self.0.patterns()
        }
        fn check(&self, states: &States) -> Result<(), String> {
            let there = states.get::<u32>().is_some();
            there
                .then_some(())
                .ok_or_else(|| "add .state(7)".to_owned())
        }
        fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
            self.0.handle(context)
        }
    }
    let stage = Stage::new();
    let needs = || Arc::new(Needs(TestHandler::of("a.b", |_| async { Ok(()) })));

    let error = refusal(stage.builder("a").handler(needs())).await;

    assert!(error.to_string().contains("add .state(7)"), "{error}");
    assert!(
        stage
            .builder("a")
            .handler(needs())
            .state(7_u32)
            .start()
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_group_that_somebody_has_is_refused() {
    let stage = Stage::new();
    let _first = stage
        .builder("a")
        .handler(ignore("a.b"))
        .start()
        .await
        .unwrap();

    let error = refusal(stage.builder("a").handler(ignore("a.b"))).await;

    assert_eq!(error.code(), codes::GROUP_LEASED);
    assert!(error.class().is_transient());
}

#[tokio::test]
async fn an_event_goes_to_the_first_handler_that_wants_it_and_to_no_other() {
    let stage = Stage::new();
    let seen = Seen::default();
    let noting = |name: &'static str, pattern| {
        let seen = seen.clone();
        let handler = TestHandler::of(pattern, move |context| {
            seen.note(format!("{name}: {}", context.envelope.event_type()));
            async { Ok(()) }
        });
        Arc::new(handler.named(name))
    };
    let builder = stage.builder("group");
    let builder = builder.handler(noting("exact", "order.placed"));
    let consumer = builder
        .handler(noting("rest", "order.*"))
        .start()
        .await
        .unwrap();

    stage.broker.append([
        event("order.placed.v2", Some("a"), 1),
        event("order.shipped", Some("a"), 2),
        event("payment.failed", Some("a"), 3),
        event("tidings.dead_letter.recorded", Some("a"), 4),
    ]);
    stage.idle(&consumer).await;

    assert_eq!(
        seen.all(),
        ["exact: order.placed.v2", "rest: order.shipped"]
    );
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.skipped, stats.in_flight), (2, 2, 0));
}

#[tokio::test]
async fn a_new_group_starts_where_it_is_told() {
    let mut stage = Stage::new();
    stage
        .broker
        .append([event("a.b", None, 1), event("a.b", None, 2)]);
    stage.config.start = StartAt::Latest;

    let consumer = stage
        .start(TestHandler::of("**", |_| async { Ok(()) }))
        .await;
    stage.broker.append([event("a.b", None, 3)]);
    stage.idle(&consumer).await;

    assert_eq!(consumer.stats().handled, 1);
}

#[tokio::test]
async fn a_broker_with_order_within_one_instance_needs_a_consumer_that_is_one() {
    let mut broker = FakeBroker::new();
    broker.key_order = KeyOrder::OneInstance;
    broker.group_leased = false;
    let mut stage = Stage::on(broker);
    let mut store = FakeFailures::new(&stage.clock);
    store.shared = false;

    let error = refusal(stage.builder("a").handler(ignore("a.b"))).await;
    // With a store that no other instance sees it is told the same: a shared one would not help.
    let with_store = stage.builder("a").handler(ignore("a.b"));
    let of_store = refusal(with_store.failures(Arc::new(store))).await;
    assert_eq!(of_store.code(), codes::CAPABILITY_MISSING);
    stage.config.single_instance = true;

    assert_eq!(error.code(), codes::CAPABILITY_MISSING);
    assert!(error.to_string().contains("single instance"), "{error}");
    let consumer = stage.builder("a").handler(ignore("a.b")).start().await;
    assert!(consumer.is_ok());
}
