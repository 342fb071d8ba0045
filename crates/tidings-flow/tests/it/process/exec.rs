//! `--exec`: outcomes, what the command is given, what it emits, and that nothing outlives its time.

use super::{
    SHORT_LIMIT, Script, assert_permanent, assert_transient, context, eventually, message, order,
    wait_until_dead, within_deadline,
};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tidings_core::codes;
use tidings_core::extract::HandlerContext;
use tidings_core::limits::{EMITTED_EVENTS_MAX, HANDLER_LINE_BYTES_MAX, REASON_BYTES_MAX};
use tidings_core::{EnvelopeParts, Payload, envelope_json};
use tidings_flow::consumer::process::{ExecHandler, ProcessConfig};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};

async fn run(script: &Script, context: HandlerContext) -> HandlerResult {
    let handler = ExecHandler::new(script.config()).unwrap();
    within_deadline(handler.handle(context)).await
}

fn emitted(context: &HandlerContext) -> Vec<String> {
    let drafts = context.emit.take();
    drafts
        .iter()
        .map(|draft| draft.event_type.as_str().to_owned())
        .collect()
}

#[tokio::test]
async fn exit_codes_are_outcomes_and_stderr_is_the_reason() {
    let done = run(&Script::shell("exit 0"), context(order("a"))).await;
    let later = run(
        &Script::shell("echo busy >&2; exit 75"),
        context(order("a")),
    )
    .await;
    let never = run(
        &Script::shell("echo first >&2; echo >&2; echo 'no such user' >&2; exit 3"),
        context(order("a")),
    )
    .await;
    let killed = run(&Script::shell("kill -9 $$"), context(order("a"))).await;

    assert!(done.is_ok());
    let later = later.unwrap_err();
    assert_transient(&later, "exit status 75: busy");
    let never = never.unwrap_err();
    assert_permanent(&never, "exit status 3: first\nno such user");
    assert_transient(&killed.unwrap_err(), "signal 9 (SIGKILL)");
}

/// A shell between us and the command says so by its exit code. A script that was not deployed, or a crash, must not send a backlog to the dead letters one by one.
#[tokio::test]
async fn a_command_that_did_not_run_or_did_not_end_by_itself_has_judged_no_event() {
    let run = |script: &'static str| async move {
        run(&Script::shell(script), context(order("a"))).await
    };

    let missing = run("exec ./not-there").await;
    let no_program = run("echo '#' > plain; exec ./plain").await;
    let interpreter = run("printf '#!/no/such/thing\\n' > script; chmod +x script; ./script").await;
    let crashed = run("sh -c 'kill -SEGV $$'; exit $?").await;
    let own = run("exit 125").await;

    let said = missing.unwrap_err();
    assert_transient(&said, "exit status 127 (command not found)");
    let said = no_program.unwrap_err();
    assert_transient(&said, "exit status 126 (cannot be executed)");
    // Shells differ in which of both they say.
    assert_transient(&interpreter.unwrap_err(), "exit status 12");
    let said = crashed.unwrap_err();
    assert_transient(&said, "exit status 139 (signal 11, SIGSEGV)");
    assert_permanent(&own.unwrap_err(), "exit status 125");
}

#[tokio::test]
async fn stdin_is_the_envelope_to_the_letter_and_then_ends() {
    let script = Script::shell("cat > stdin");
    let line = r#"{"event_id":"evt-1","event_type":"order.placed.v2","timestamp":"2024-01-15T10:30:00.0+02:00","X-Tenant":{"a":[1.10]},"payload":{"n":1.0e+2, "z":"\u00e9"}}"#;

    run(&script, context(super::event(line))).await.unwrap();

    let stdin = fs::read_to_string(script.path("stdin")).unwrap();
    assert_eq!(stdin, format!("{line}\n"));
}

#[tokio::test]
async fn variables_are_the_seeds_attributes_and_the_delivery_and_nothing_else() {
    let script = Script::shell("env -0 > variables");
    let line = r#"{"event_id":"evt-1","event_type":"order.placed","aggregate_id":"order 1 $(touch owned)","timestamp":"2024-01-15T10:30:00.000Z","version":3,"source":"shop","correlation_id":"flow-1","causation_id":"evt-0","LD_PRELOAD":"evil.so","PATH":"/evil","TIDINGS_SECRET":"x","tidings_event_id":"y","BASH_FUNC_cat%%":"() { :; }","payload":{}}"#;

    run(&script, context(super::event(line))).await.unwrap();

    let text = fs::read_to_string(script.path("variables")).unwrap();
    let all: BTreeMap<&str, &str> = text
        .split('\0')
        .filter_map(|line| line.split_once('='))
        .collect();
    let ours: Vec<String> = all
        .iter()
        .filter(|(name, _)| name.to_uppercase().starts_with("TIDINGS_") && !is_inherited(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        ours,
        [
            "TIDINGS_AGGREGATE_ID=order 1 $(touch owned)",
            "TIDINGS_ATTEMPT=2",
            "TIDINGS_CAUSATION_ID=evt-0",
            "TIDINGS_CORRELATION_ID=flow-1",
            "TIDINGS_EVENT_ID=evt-1",
            "TIDINGS_EVENT_TYPE=order.placed",
            "TIDINGS_GROUP=inventory",
            "TIDINGS_POSITION=41",
            "TIDINGS_SOURCE=shop",
            "TIDINGS_TIMESTAMP=2024-01-15T10:30:00.000Z",
            "TIDINGS_VERSION=3",
        ]
    );
    assert_ne!(all.get("PATH"), Some(&"/evil"));
    assert!(!all.contains_key("LD_PRELOAD") && !text.contains("BASH_FUNC"));
}

/// Whether the tests themselves were started with a variable, as those are that need servers; a handler gets it from there.
fn is_inherited(name: &str) -> bool {
    std::env::vars_os().any(|(inherited, _)| inherited == name)
}

#[tokio::test]
async fn absent_attributes_have_no_variable() {
    let script = Script::shell("env | grep ^TIDINGS_ | sort > variables");
    let mut context = context(super::event(
        r#"{"event_id":"evt-1","event_type":"order.placed.v2"}"#,
    ));
    context.position = None;

    run(&script, context).await.unwrap();

    let lines = script.lines("variables");
    let ours = lines
        .iter()
        .filter(|line| !is_inherited(line.split('=').next().unwrap()));
    assert_eq!(
        ours.collect::<Vec<_>>(),
        [
            "TIDINGS_ATTEMPT=2",
            "TIDINGS_CORRELATION_ID=evt-1",
            "TIDINGS_EVENT_ID=evt-1",
            "TIDINGS_EVENT_TYPE=order.placed.v2",
            "TIDINGS_GROUP=inventory",
            "TIDINGS_VERSION=2",
        ]
    );
}

#[tokio::test]
async fn what_the_command_prints_is_emitted_in_order_and_to_the_letter() {
    let script = Script::shell(
        r#"printf '\n{"event_type":"a.done","aggregate_id":"x","payload":{"n":1.0}}\r\n  \n{"event_type":"b.done"}\n{"event_type":"c.done"}'"#,
    );
    let context = context(order("a"));

    run(&script, context.clone()).await.unwrap();

    let drafts = context.emit.take();
    let types: Vec<_> = drafts
        .iter()
        .map(|draft| draft.event_type.as_str())
        .collect();
    assert_eq!(types, ["a.done", "b.done", "c.done"]);
    assert_eq!(
        drafts[0].payload.as_ref().unwrap().bytes().as_ref(),
        br#"{"n":1.0}"#
    );
}

#[tokio::test]
async fn one_bad_line_refuses_all_of_the_output_and_is_named() {
    let script = Script::shell(
        r#"echo '{"event_type":"a.done"}'; echo; echo 'working...'; echo '{"event_type":"b.done"}'; echo why >&2"#,
    );
    let context = context(order("a"));

    let error = run(&script, context.clone()).await.unwrap_err();

    assert_transient(&error, "line 3 of its stdout is no event");
    assert_transient(&error, "why");
    assert_eq!(emitted(&context), Vec::<String>::new());
}

#[tokio::test]
async fn a_failing_command_emits_nothing_and_its_output_is_not_judged() {
    let script = Script::shell(r#"echo '{"event_type":"a.done"}'; echo nonsense; exit 75"#);
    let context = context(order("a"));

    let error = run(&script, context.clone()).await.unwrap_err();

    assert_transient(&error, "exit status 75");
    assert_eq!(emitted(&context), Vec::<String>::new());
}

#[tokio::test]
async fn lines_and_events_beyond_their_limits_are_failures_of_the_command() {
    let long = Script::python(&format!(
        "print('{{}}' + ' ' * {HANDLER_LINE_BYTES_MAX} + 'x')"
    ));
    let many = Script::python(&format!(
        "for _ in range({EMITTED_EVENTS_MAX} + 1): print('{{\"event_type\":\"a.done\"}}')"
    ));

    let too_long = run(&long, context(order("a"))).await.unwrap_err();
    let too_many = run(&many, context(order("a"))).await.unwrap_err();

    assert_transient(&too_long, "line 1 of its stdout is longer than 8388608");
    assert_transient(&too_many, "10000 events at most");
}

#[tokio::test]
async fn big_streams_in_every_direction_do_not_block_each_other() {
    let script = Script::python(
        r#"
for number in range(100):
    sys.stderr.write("e" * 100_000 + "\n")
    print(json.dumps({"event_type": "part.done", "payload": "x" * 100_000}), flush=True)
print("last words", file=sys.stderr)
count = len(sys.stdin.read())
print(json.dumps({"event_type": "input.read", "payload": count}))
"#,
    );
    let mut parts = EnvelopeParts::new("a", "order.placed");
    parts.payload = Some(Payload::binary(vec![7; 700_000]));
    let envelope = tidings_core::Envelope::new(parts).unwrap();
    let line_bytes = envelope_json::to_json(&envelope).len() + 1;
    let context = context(envelope);

    run(&script, context.clone()).await.unwrap();

    let drafts = context.emit.take();
    assert_eq!(drafts.len(), 101);
    let count = drafts[100].payload.as_ref().unwrap().bytes();
    assert_eq!(count.as_ref(), line_bytes.to_string().as_bytes());
}

#[tokio::test]
async fn a_long_stderr_is_kept_by_its_end() {
    let script = Script::python(
        "for n in range(100_000): print(f'line {n} é', file=sys.stderr)\nsys.exit(1)",
    );

    let error = run(&script, context(order("a"))).await.unwrap_err();

    assert!(message(&error).starts_with("the command ended with exit status 1: line "));
    assert!(message(&error).ends_with("line 99999 é"));
    assert!(message(&error).len() <= REASON_BYTES_MAX);
}

#[tokio::test]
async fn a_command_may_ignore_its_stdin() {
    let script = Script::shell("exec <&-; exit 0");
    let mut parts = EnvelopeParts::new("a", "order.placed");
    parts.payload = Some(Payload::binary(vec![7; 1_000_000]));

    let envelope = tidings_core::Envelope::new(parts).unwrap();
    let result = run(&script, context(envelope)).await;

    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_refused_when_the_handler_is_built() {
    let config = ProcessConfig::new("no-such-program --fast", "test", Vec::new());

    let error = ExecHandler::new(config).unwrap_err();

    assert_eq!(error.code(), codes::COMMAND_MISSING);
    assert!(error.to_string().contains("no-such-program --fast"));
}

#[tokio::test]
async fn bounds_of_the_configuration_are_checked() {
    let script = Script::shell("exit 0");
    let none = ProcessConfig {
        parallel: 0,
        ..script.config()
    };
    let no_time = ProcessConfig {
        time_limit: Duration::ZERO,
        ..script.config()
    };

    assert!(
        ExecHandler::new(none)
            .unwrap_err()
            .to_string()
            .contains("1 to 4096")
    );
    assert!(
        ExecHandler::new(no_time)
            .unwrap_err()
            .to_string()
            .contains("time limit")
    );
}

#[tokio::test]
async fn a_program_that_vanishes_later_is_a_transient_failure() {
    let script = Script::shell("exit 0");
    fs::copy("/bin/sh", script.path("program")).unwrap();
    let config = ProcessConfig {
        command: "./program handler".to_owned(),
        ..script.config()
    };
    let handler = ExecHandler::new(config).unwrap();
    within_deadline(handler.handle(context(order("a"))))
        .await
        .unwrap();

    fs::remove_file(script.path("program")).unwrap();
    let error = within_deadline(handler.handle(context(order("a")))).await;

    assert_transient(&error.unwrap_err(), "cannot be started: No such file");
}

#[tokio::test]
async fn the_time_limit_kills_the_command_and_what_it_started() {
    let script =
        Script::shell("echo $$ >> pids; sleep 1000 & echo $! >> pids; echo waiting >&2; wait");
    let config = ProcessConfig {
        time_limit: SHORT_LIMIT,
        ..script.config()
    };
    let handler = ExecHandler::new(config).unwrap();

    let error = within_deadline(handler.handle(context(order("a"))))
        .await
        .unwrap_err();

    assert_transient(&error, "took longer than 10s and was killed: waiting");
    for pid in script.wait_for_pids("pids", 2).await {
        wait_until_dead(pid).await;
    }
}

#[tokio::test]
async fn dropping_a_handling_kills_the_command_and_what_it_started() {
    let script = Script::shell("echo $$ >> pids; sleep 1000 & echo $! >> pids; wait");
    let handler = ExecHandler::new(script.config()).unwrap();
    let handling = tokio::spawn(handler.handle(context(order("a"))));
    let pids = script.wait_for_pids("pids", 2).await;

    handling.abort();

    for pid in pids {
        wait_until_dead(pid).await;
    }
}

#[tokio::test]
async fn what_a_command_leaves_running_does_not_hold_up_the_event() {
    let script =
        Script::shell(r#"sleep 1000 & echo $! > pids; echo '{"event_type":"a.done"}'; exit 0"#);
    let context = context(order("a"));

    run(&script, context.clone()).await.unwrap();

    assert_eq!(emitted(&context), ["a.done"]);
    for pid in script.wait_for_pids("pids", 1).await {
        wait_until_dead(pid).await;
    }
}

#[tokio::test]
async fn a_pipeline_that_outlives_the_command_for_a_moment_still_emits() {
    let script = Script::shell(
        r#"(while kill -0 $$ 2>/dev/null; do :; done; echo '{"event_type":"late.done"}') & exit 0"#,
    );
    let context = context(order("a"));

    run(&script, context.clone()).await.unwrap();

    assert_eq!(emitted(&context), ["late.done"]);
}

#[tokio::test]
async fn no_more_commands_run_at_the_same_time_than_allowed() {
    let script = Script::shell("mkdir busy || exit 3; echo x >> started; rmdir busy");
    let config = ProcessConfig {
        parallel: 1,
        ..script.config()
    };
    let handler = ExecHandler::new(config).unwrap();

    let handlings: Vec<_> = (0..5)
        .map(|number| tokio::spawn(handler.handle(context(order(&number.to_string())))))
        .collect();

    for handling in handlings {
        within_deadline(handling).await.unwrap().unwrap();
    }
    assert_eq!(script.lines("started").len(), 5);
}

#[tokio::test]
async fn different_events_run_at_the_same_time() {
    let script = Script::shell("echo x >> started; until [ $(wc -l < started) -ge 3 ]; do :; done");
    let handler = ExecHandler::new(script.config()).unwrap();

    let handlings: Vec<_> = (0..3)
        .map(|number| tokio::spawn(handler.handle(context(order(&number.to_string())))))
        .collect();

    eventually("all three run", || script.lines("started").len() == 3).await;
    for handling in handlings {
        within_deadline(handling).await.unwrap().unwrap();
    }
}
