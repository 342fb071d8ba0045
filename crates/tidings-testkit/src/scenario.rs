//! Given what happened, when something happens, then this follows: a test of a flow in its own words.

use crate::assert::Outcome;
use crate::stage::Stage;
use std::fmt;
use tidings_core::Event;
use tidings_core::extract::Draft;
use tidings_flow::consumer::ConsumerBuilder;
use tokio::sync::oneshot;

/// Gives a consumer its handlers.
pub(crate) type Build = Box<dyn FnOnce(ConsumerBuilder) -> ConsumerBuilder + Send>;

/// A flow of events under test: its consumers, what has happened, and what happens now.
///
/// The real consumer runtime works on a [`MemoryBroker`](crate::MemoryBroker), in a tokio runtime of its own whose time passes at once: retries take no time, and a scenario ends
/// when nothing is left to do. It can be used inside and outside of another runtime.
///
/// **Example**
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tidings_core::{Event, extract::{Emit, HandlerError}};
/// # #[derive(Serialize, Deserialize)] struct OrderPlaced { order_id: String }
/// # impl Event for OrderPlaced { const TYPE: &'static str = "order.placed"; }
/// # #[derive(Serialize, Deserialize)] struct StockReserved { order_id: String }
/// # impl Event for StockReserved { const TYPE: &'static str = "stock.reserved"; }
/// use tidings_testkit::Scenario;
///
/// async fn reserve(order: OrderPlaced, emit: Emit) -> Result<(), HandlerError> {
///     emit.event(&StockReserved { order_id: order.order_id })
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// Scenario::new()
///     .consumer("inventory", |consumer| consumer.on(reserve))
///     .when(OrderPlaced { order_id: "order-1".into() })
///     .await
///     .then_emitted(|reserved: &StockReserved| assert_eq!(reserved.order_id, "order-1"))
///     .then_nothing_else();
/// # }
/// ```
#[must_use = "nothing happens before `when`"]
#[derive(Default)]
pub struct Scenario {
    consumers: Vec<(String, Build)>,
    given: Vec<Draft>,
}

impl Scenario {
    /// A scenario in which nobody listens and nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a consumer of a group, with the handlers and states that the closure gives it.
    pub fn consumer(
        mut self,
        group: impl Into<String>,
        build: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder + Send + 'static,
    ) -> Self {
        self.consumers.push((group.into(), Box::new(build)));
        self
    }

    /// This has happened, and the consumers have done what follows from it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a scenario reads better without a reference before each event"
    )]
    pub fn given<E: Event>(self, event: E) -> Self {
        self.given_draft(draft(&event))
    }

    /// This has happened; for events without a Rust type.
    pub fn given_draft(mut self, draft: Draft) -> Self {
        self.given.push(draft);
        self
    }

    /// This happens now. The answer comes when nothing is left to do.
    ///
    /// **Cancel**: the scenario is played to its end, and nobody looks.
    ///
    /// # Panics
    ///
    /// If a consumer cannot start, or the flow does not come to rest within a minute or 20,000 events.
    pub async fn when<E: Event>(self, event: E) -> Outcome {
        self.when_all(vec![draft(&event)]).await
    }

    /// These happen now, in this order; for several events, and for events without a Rust type.
    ///
    /// # Panics
    ///
    /// As [`when`](Self::when).
    pub async fn when_all(self, drafts: Vec<Draft>) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        // A thread with a runtime of its own: pausing the time of the caller's would stop the caller's other waits, and is not possible on several threads.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime of one thread can be made");
            let outcome = runtime.block_on(self.run(drafts));
            // The caller may have stopped waiting; then nobody needs the outcome.
            let _ = sender.send(outcome);
        });
        match receiver.await {
            Ok(outcome) => outcome,
            // The thread panicked: its message is the caller's failure.
            Err(_) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a thread without a panic sends its outcome"),
            },
        }
    }

    async fn run(self, when: Vec<Draft>) -> Outcome {
        let mut stage = Stage::new();
        for (group, build) in self.consumers {
            stage.start(&group, build).await;
        }
        stage.publish(self.given).await;
        stage.come_to_rest().await;
        let before = stage.recorded();
        let published = stage.publish(when).await;
        stage.come_to_rest().await;
        stage.outcome(before, &published)
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<&str> = self
            .consumers
            .iter()
            .map(|(group, _)| group.as_str())
            .collect();
        f.debug_struct("Scenario")
            .field("consumers", &groups)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

fn draft<E: Event>(event: &E) -> Draft {
    Draft::of(event)
        .unwrap_or_else(|error| panic!("{} cannot be written as JSON: {error}", E::TYPE))
}
