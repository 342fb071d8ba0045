//! `--pipe`: answers of every kind, order, bounds and an orderly end.

use super::{
    SHORT_LIMIT, Script, assert_permanent, assert_transient, context, event, order,
    wait_until_dead, within_deadline,
};
use std::time::Duration;
use tidings_core::codes;
use tidings_core::extract::HandlerErrorKind;
use tidings_core::limits::HANDLER_LINE_BYTES_MAX;
use tidings_core::{Envelope, EnvelopeParts, Payload};
use tidings_flow::consumer::process::{PipeHandler, ProcessConfig};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};
use tokio::task::JoinHandle;

const ACK_ALL: &str = "
log('pids', os.getpid())
while True:
    answer(read())
";

async fn handle(handler: &PipeHandler, event_id: &str) -> HandlerResult {
    within_deadline(handler.handle(context(order(event_id)))).await
}

fn begin(handler: &PipeHandler, envelope: Envelope) -> JoinHandle<HandlerResult> {
    tokio::spawn(handler.handle(context(envelope)))
}

async fn end(handling: JoinHandle<HandlerResult>) -> HandlerResult {
    within_deadline(handling).await.unwrap()
}

#[tokio::test]
async fn every_outcome_reaches_its_event() {
    let script = Script::python(
        r#"
answer(read(), emit=[{"event_type": "a.done", "payload": {"n": 1.5}}, {"event_type": "b.done"}])
answer(read(), "retry")
answer(read(), "retry", after_ms=1500, reason="busy")
answer(read(), "dead_letter", reason="no such user")
read()
"#,
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let first = context(order("a"));

    within_deadline(handler.handle(first.clone()))
        .await
        .unwrap();
    let retry = handle(&handler, "b").await.unwrap_err();
    let later = handle(&handler, "c").await.unwrap_err();
    let dead = handle(&handler, "d").await.unwrap_err();

    let drafts = first.emit.take();
    let types: Vec<_> = drafts
        .iter()
        .map(|draft| draft.event_type.as_str())
        .collect();
    assert_eq!(types, ["a.done", "b.done"]);
    assert_transient(&retry, "asked for another attempt");
    assert_eq!(
        later.kind(),
        HandlerErrorKind::RetryAfter(Duration::from_millis(1_500))
    );
    assert_eq!(later.chain(), ["busy"]);
    assert_permanent(&dead, "no such user");
}

#[tokio::test]
async fn the_process_gets_envelopes_to_the_letter() {
    let script = Script::python(
        "
line = sys.stdin.readline()
log('stdin', line.rstrip('\\n'))
answer(json.loads(line))
read()
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let line = r#"{"event_id":"evt-1","event_type":"order.placed","X-Tenant":[1.10],"payload":{"n":1.0e+2, "z":"\u00e9"}}"#;

    end(begin(&handler, event(line))).await.unwrap();

    assert_eq!(script.lines("stdin"), [line]);
}

#[tokio::test]
async fn answers_may_come_in_any_order_while_eight_events_are_in_the_process() {
    let script = Script::python(
        "
events = [read() for _ in range(8)]
log('ready', '')
for event in reversed(events):
    answer(event, 'ack' if event['event_id'] != '3' else 'dead_letter', reason=event['event_id'])
read()
",
    );
    let config = ProcessConfig {
        parallel: 8,
        ..script.config()
    };
    let handler = PipeHandler::new(config).unwrap();

    let handlings: Vec<_> = (0..8)
        .map(|number| begin(&handler, order(&number.to_string())))
        .collect();

    for (number, handling) in handlings.into_iter().enumerate() {
        let result = end(handling).await;
        if number == 3 {
            assert_permanent(&result.unwrap_err(), "3");
        } else {
            assert!(result.is_ok(), "{number}: {result:?}");
        }
    }
}

#[tokio::test]
async fn no_more_events_are_in_the_process_than_allowed() {
    let script = Script::python(
        "
import select
os.set_blocking(0, False)
pending, buffer = [], b''
while True:
    ready, _, _ = select.select([0], [], [], 0.05 if pending else None)
    if ready:
        chunk = os.read(0, 65536)
        if not chunk:
            sys.exit(0)
        buffer += chunk
        *lines, buffer = buffer.split(b'\\n')
        pending += [json.loads(line) for line in lines]
        log('pending', len(pending))
    else:
        answer(pending.pop(0))
",
    );
    let config = ProcessConfig {
        parallel: 3,
        ..script.config()
    };
    let handler = PipeHandler::new(config).unwrap();

    let handlings: Vec<_> = (0..9)
        .map(|number| begin(&handler, order(&number.to_string())))
        .collect();
    for handling in handlings {
        end(handling).await.unwrap();
    }

    let pending = script.lines("pending");
    let most = pending.iter().filter_map(|line| line.parse().ok()).max();
    assert_eq!(most, Some(3), "{pending:?}");
}

#[tokio::test]
async fn two_events_with_one_id_are_both_handled_one_after_the_other() {
    let script = Script::python(
        "
while True:
    event = read()
    log('sources', event['source'])
    answer(event)
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let from = |source: &str| {
        event(&format!(
            r#"{{"event_id":"same","event_type":"order.placed","source":"{source}"}}"#
        ))
    };

    let handlings = [
        begin(&handler, from("shop")),
        begin(&handler, from("store")),
        begin(&handler, from("shop")),
    ];

    for handling in handlings {
        end(handling).await.unwrap();
    }
    let mut sources = script.lines("sources");
    sources.sort();
    assert_eq!(sources, ["shop", "shop", "store"]);
}

#[tokio::test]
async fn an_answer_that_breaks_a_rule_is_a_transient_failure_and_the_process_goes_on() {
    let script = Script::python(&format!(
        r#"
log('pids', os.getpid())
answer(read(), "done")
answer(read(), emit=[{{"payload": 1}}])
event = read()
print('{{"event_id":"c","outcome":"ack"', flush=True)
answer(read(), reason="x" * {HANDLER_LINE_BYTES_MAX})
answer(read())
read()
"#
    ));
    let handler = PipeHandler::new(script.config()).unwrap();

    let verb = handle(&handler, "a").await.unwrap_err();
    let emit = handle(&handler, "b").await.unwrap_err();
    let json = handle(&handler, "c").await.unwrap_err();
    let long = handle(&handler, "d").await.unwrap_err();
    let good = handle(&handler, "e").await;

    assert_transient(&verb, "unknown variant `done`");
    assert_transient(&emit, "emit[0] is no event: event_type");
    assert_transient(&json, "EOF while parsing");
    assert_transient(&long, "longer than 8388608 bytes");
    assert!(good.is_ok(), "{good:?}");
    assert_eq!(script.lines("pids").len(), 1);
}

#[tokio::test]
async fn a_process_that_reads_slowly_holds_up_the_writer_and_nobody_else() {
    let script = Script::python(
        "
log('started', '')
while not os.path.exists('go'):
    time.sleep(0.005)
while True:
    answer(read())
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let big = |number: usize| {
        let mut parts = EnvelopeParts::new(number.to_string(), "order.placed");
        parts.payload = Some(Payload::binary(vec![7; 100_000]));
        Envelope::new(parts).unwrap()
    };

    let handlings: Vec<_> = (0..200)
        .map(|number| begin(&handler, big(number)))
        .collect();
    script.wait_for_lines("started", 1).await;
    assert!(handlings.iter().all(|handling| !handling.is_finished()));
    script.write("go");

    for handling in handlings {
        end(handling).await.unwrap();
    }
}

#[tokio::test]
async fn a_process_that_works_in_order_is_not_silent_while_events_wait_in_it() {
    let script = Script::python(
        "
log('pids', os.getpid())
while True:
    event = read()
    time.sleep(0.8)
    answer(event)
",
    );
    let config = ProcessConfig {
        time_limit: SHORT_LIMIT,
        ..script.config()
    };
    let handler = PipeHandler::new(config).unwrap();

    let handlings: Vec<_> = (0..6)
        .map(|number| begin(&handler, order(&number.to_string())))
        .collect();

    for handling in handlings {
        end(handling).await.unwrap();
    }
    assert_eq!(script.lines("pids").len(), 1);
}

#[tokio::test]
async fn a_big_stderr_does_not_block_the_process() {
    let script = Script::python(
        "
event = read()
sys.stderr.write('e' * 10_000_000 + '\\n')
answer(event)
read()
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();

    assert!(handle(&handler, "a").await.is_ok());
}

#[tokio::test]
async fn a_cancelled_event_does_not_disturb_the_others() {
    let script = Script::python(
        "
first = read()
log('read', first['event_id'])
second = read()
answer(first)
answer(second)
answer(read())
read()
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let cancelled = begin(&handler, order("a"));
    script.wait_for_lines("read", 1).await;

    cancelled.abort();

    assert!(handle(&handler, "b").await.is_ok());
    assert!(handle(&handler, "a").await.is_ok());
}

#[tokio::test]
async fn stop_lets_the_process_finish_what_it_has_and_refuses_what_comes_later() {
    let script = Script::python(
        "
first = read()
log('read', first['event_id'])
sys.stdin.read()
answer(first)
log('bye', '')
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let handling = begin(&handler, order("a"));
    script.wait_for_lines("read", 1).await;

    within_deadline(handler.stop(super::DEADLINE)).await;

    assert_eq!(script.lines("bye").len(), 1);
    assert!(end(handling).await.is_ok());
    assert_transient(&handle(&handler, "b").await.unwrap_err(), "stopped");
    within_deadline(handler.stop(super::DEADLINE)).await;
}

#[tokio::test]
async fn stop_kills_a_process_that_does_not_end_and_what_it_started() {
    let script =
        Script::shell(r#"echo $$ >> pids; sleep 1000 & echo $! >> pids; while :; do wait; done"#);
    let handler = PipeHandler::new(script.config()).unwrap();
    let handling = begin(&handler, order("a"));
    let pids = script.wait_for_pids("pids", 2).await;

    within_deadline(handler.stop(Duration::from_millis(50))).await;

    for pid in pids {
        wait_until_dead(pid).await;
    }
    assert_transient(&end(handling).await.unwrap_err(), "stopped");
}

#[tokio::test]
async fn stop_before_the_first_event_starts_nothing() {
    let script = Script::python(ACK_ALL);
    let handler = PipeHandler::new(script.config()).unwrap();

    within_deadline(handler.stop(super::DEADLINE)).await;

    assert_transient(&handle(&handler, "a").await.unwrap_err(), "stopped");
    assert!(script.lines("pids").is_empty());
}

#[tokio::test]
async fn dropping_the_handler_kills_the_process_and_what_it_started() {
    let script = Script::shell("echo $$ >> pids; sleep 1000 & echo $! >> pids; wait");
    let handler = PipeHandler::new(script.config()).unwrap();
    let handling = begin(&handler, order("a"));
    let pids = script.wait_for_pids("pids", 2).await;

    drop(handler);

    for pid in pids {
        wait_until_dead(pid).await;
    }
    assert_transient(&end(handling).await.unwrap_err(), "stopped");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_refused_when_the_handler_is_built() {
    let config = ProcessConfig::new("no-such-program", "test", Vec::new());

    let error = PipeHandler::new(config).unwrap_err();

    assert_eq!(error.code(), codes::COMMAND_MISSING);
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

#[test]
fn a_handler_can_be_built_without_a_runtime() {
    let script = Script::python(ACK_ALL);
    let handler = PipeHandler::new(script.config()).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    assert!(runtime.block_on(handle(&handler, "a")).is_ok());
}
