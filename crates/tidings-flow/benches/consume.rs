//! Events a second of the consumer runtime alone, over a broker in memory: no disk, no decoding, handlers that do next to nothing.
//!
//! `cargo bench -p tidings-flow --bench consume [-- NAME]` prints a line for each kind of work, next to a bare loop over the same envelopes.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_core::broker::{
    Admin, Broker, BrokerError, Capabilities, Delivery, KeyOrder, LowWatermark, Position,
    PublishOutcome, Reader, Receipt, Receive, Received, Scope, Settle, SettleAction, SettleError,
    SubscribeRequest, Subscription, Token,
};
use tidings_core::extract::{Draft, HandlerContext};
use tidings_core::seam::Clock;
use tidings_core::{
    BoxFuture, Envelope, EnvelopeParts, EventType, Pattern, Payload, Timestamp, payload::Carriage,
};
use tidings_flow::consumer::{Consumer, ConsumerConfig};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};
use tidings_flow::runtime::SystemClock;

/// As many keys as the loan data has.
const KEYS: usize = 13_087;
const ROUNDS: usize = 5;

/// Makes an envelope of about 340 bytes with strings of its own, as an adapter does that decodes one.
fn build(number: usize, keys: usize) -> Envelope {
    let mut parts = EnvelopeParts::new(
        format!("018d0c2e-1234-7abc-8def-{number:012}"),
        "loan.application.submitted",
    );
    parts.aggregate_id = (keys > 0).then(|| format!("Application_{:08}", number % keys));
    parts.source = Some("loan-service".to_owned());
    parts.timestamp = Some(Timestamp::from_micros(1_300_000_000_000_000).into());
    parts.correlation_id = Some(format!("flow-{number}"));
    let payload =
        br#"{"amount":20000,"activity":"A_SUBMITTED","resource":"112","lifecycle":"COMPLETE"}"#;
    parts.payload = Some(Payload::trusted(payload[..].into(), Carriage::Json));
    Envelope::trusted(parts)
}

struct MemoryBroker {
    envelopes: Arc<Vec<Envelope>>,
    /// Builds each envelope anew instead of sharing it.
    fresh: Option<usize>,
}

struct MemorySubscription {
    envelopes: Arc<Vec<Envelope>>,
    fresh: Option<usize>,
    next: usize,
    settled: Arc<MemorySettle>,
}

struct MemorySettle {
    watermark: Mutex<LowWatermark>,
}

impl Broker for MemoryBroker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "memory",
            key_order: KeyOrder::OneInstance,
            group_leased: true,
            tells_assignment: true,
            replay: false,
            old_events_for_late_groups: true,
            payload_bytes_max: 1 << 20,
            synced: false,
        }
    }

    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        let outcomes = batch
            .iter()
            .map(|_| Ok(Receipt { position: None }))
            .collect();
        Box::pin(async move {
            // As a group commit does, it answers later.
            tokio::task::yield_now().await;
            outcomes
        })
    }

    fn subscribe<'a>(
        &'a self,
        _request: &'a SubscribeRequest,
    ) -> BoxFuture<'a, Result<Subscription, BrokerError>> {
        Box::pin(async {
            let settled = Arc::new(MemorySettle {
                watermark: Mutex::new(LowWatermark::new(0)),
            });
            Ok(Subscription {
                receive: Box::new(MemorySubscription {
                    envelopes: Arc::clone(&self.envelopes),
                    fresh: self.fresh,
                    next: 0,
                    settled: Arc::clone(&settled),
                }),
                settle: settled,
                resumed: None,
            })
        })
    }

    fn reader(&self) -> Option<&dyn Reader> {
        None
    }

    fn admin(&self) -> Option<&dyn Admin> {
        None
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Receive for MemorySubscription {
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>> {
        Box::pin(async move {
            if self.next >= self.envelopes.len() {
                return std::future::pending().await;
            }
            let end = (self.next + events_max).min(self.envelopes.len());
            let mut deliveries = Vec::with_capacity(end - self.next);
            for number in self.next..end {
                let envelope = match self.fresh {
                    Some(keys) => build(number, keys),
                    None => self.envelopes[number].clone(),
                };
                deliveries.push(Delivery {
                    token: Token(number as u64),
                    position: Some(Position(number as u64)),
                    append_time: None,
                    envelope,
                    problem: None,
                    redelivered: false,
                });
            }
            let mut watermark = self.settled.watermark.lock().expect("no panic");
            for number in self.next..end {
                watermark.hand_out(number as u64);
            }
            self.next = end;
            Ok(Received::Deliveries {
                scope: Scope {
                    name: "memory".into(),
                    generation: 1,
                },
                deliveries,
            })
        })
    }

    fn is_caught_up(&self) -> bool {
        self.next >= self.envelopes.len()
    }

    fn behind(&self, _now: Timestamp) -> Option<Duration> {
        None
    }
}

impl Settle for MemorySettle {
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>> {
        let mut watermark = self.watermark.lock().expect("no panic");
        let answers = outcomes
            .iter()
            .map(|(token, _)| {
                watermark.settle(token.0);
                Ok(())
            })
            .collect();
        Box::pin(std::future::ready(answers))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        Box::pin(async { Ok(()) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    Nothing,
    Waits,
    Emits,
    /// Keeps a core busy for so many microseconds.
    Computes(u64),
}

struct BenchHandler {
    patterns: Vec<Pattern>,
    work: Work,
    clock: SystemClock,
}

impl DeliveryHandler for BenchHandler {
    fn name(&self) -> &str {
        "bench"
    }

    fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    fn handle(&self, context: HandlerContext) -> BoxFuture<'static, HandlerResult> {
        let (work, clock) = (self.work, self.clock);
        Box::pin(async move {
            match work {
                Work::Nothing => {
                    black_box(context.envelope.event_id());
                }
                Work::Waits => tokio::task::yield_now().await,
                Work::Emits => context.emit.draft(Draft {
                    event_type: EventType::trusted("loan.application.checked".to_owned()),
                    version: Some(1),
                    aggregate_id: context.envelope.aggregate_id().map(str::to_owned),
                    source: None,
                    timestamp: None,
                    content_type: None,
                    extensions: Vec::new(),
                    payload: Some(Payload::trusted(b"{}"[..].into(), Carriage::Json)),
                })?,
                Work::Computes(micros) => {
                    let until = clock.elapsed() + Duration::from_micros(micros);
                    while clock.elapsed() < until {
                        std::hint::spin_loop();
                    }
                }
            }
            Ok(())
        })
    }
}

struct Case {
    name: &'static str,
    events: usize,
    keys: usize,
    fresh: bool,
    work: Work,
    groups: usize,
}

fn bare(case: &Case, envelopes: &[Envelope], clock: SystemClock) -> f64 {
    let began = clock.elapsed();
    for (number, envelope) in envelopes.iter().enumerate() {
        let envelope = if case.fresh {
            build(number, case.keys)
        } else {
            envelope.clone()
        };
        black_box(envelope.event_id());
    }
    case.events as f64 / (clock.elapsed() - began).as_secs_f64()
}

fn consume(case: &Case, envelopes: &Arc<Vec<Envelope>>, clock: SystemClock) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut consumers = Vec::new();
        let began = clock.elapsed();
        for group in 0..case.groups {
            let broker = MemoryBroker {
                envelopes: Arc::clone(envelopes),
                fresh: case.fresh.then_some(case.keys),
            };
            let handler = BenchHandler {
                patterns: vec![Pattern::everything()],
                work: case.work,
                clock,
            };
            let name = format!("bench-{group}").parse().expect("a group name");
            let consumer = Consumer::builder(Arc::new(broker), name)
                .handler(Arc::new(handler))
                .config(ConsumerConfig {
                    until_end: true,
                    ..ConsumerConfig::default()
                })
                .start()
                .await;
            consumers.push(consumer.expect("a consumer"));
        }
        for consumer in &consumers {
            consumer.finished().await.expect("the end");
        }
        let rate = (case.events * case.groups) as f64 / (clock.elapsed() - began).as_secs_f64();
        for consumer in &consumers {
            assert_eq!(consumer.stats().handled, case.events as u64);
        }
        rate
    })
}

/// Processor time of this process, all threads together; zero where the system does not tell.
fn processor_time() -> Duration {
    // The 14th and 15th field, counted behind the program's name, in hundredths of a second.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn main() {
    let case = |name, events, keys, fresh, work, groups| Case {
        name,
        events,
        keys,
        fresh,
        work,
        groups,
    };
    let cases = [
        case("shared", 1_000_000, KEYS, false, Work::Nothing, 1),
        case("fresh", 1_000_000, KEYS, true, Work::Nothing, 1),
        case("one key", 300_000, 1, true, Work::Nothing, 1),
        case("no key", 1_000_000, 0, true, Work::Nothing, 1),
        case("ten groups", 200_000, KEYS, true, Work::Nothing, 10),
        case("waits", 500_000, KEYS, true, Work::Waits, 1),
        case("emits", 300_000, KEYS, true, Work::Emits, 1),
        case("computes 20 us", 50_000, KEYS, true, Work::Computes(20), 1),
        case("computes 1 ms", 2_000, KEYS, true, Work::Computes(1_000), 1),
    ];
    let clock = SystemClock::new();
    let wanted: BTreeSet<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    println!(
        "{:16} {:>12} {:>12} {:>7} {:>13}",
        "kind", "events/s", "bare loop", "ratio", "cpu ns/event"
    );
    for case in cases {
        if !wanted.is_empty() && !wanted.contains(case.name) {
            continue;
        }
        let envelopes: Arc<Vec<Envelope>> = Arc::new(
            (0..case.events)
                .map(|number| build(number, case.keys))
                .collect(),
        );
        let mut rates = Vec::new();
        let mut bares = Vec::new();
        let mut processor = Duration::ZERO;
        for _ in 0..ROUNDS {
            bares.push(bare(&case, &envelopes, clock));
            let before = processor_time();
            rates.push(consume(&case, &envelopes, clock));
            processor += processor_time() - before;
        }
        let events = (ROUNDS * case.groups * case.events) as f64;
        let nanos = processor.as_nanos() as f64 / events;
        rates.sort_by(f64::total_cmp);
        bares.sort_by(f64::total_cmp);
        let (rate, bare) = (rates[ROUNDS / 2], bares[ROUNDS / 2]);
        println!(
            "{:16} {rate:>12.0} {bare:>12.0} {:>7.2} {nanos:>13.0}",
            case.name,
            rate / bare
        );
    }
}
