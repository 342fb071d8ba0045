//! `--pipe`: a process that dies, is killed, falls silent or talks nonsense, and which event pays for it.

use super::{
    SHORT_LIMIT, Script, assert_transient, context, order, wait_until_dead, within_deadline,
};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use tidings_core::limits::PROCESS_RESTART_BACKOFF_FIRST;
use tidings_flow::consumer::process::{PipeHandler, ProcessConfig};
use tidings_flow::handler::{DeliveryHandler, HandlerResult};
use tokio::task::JoinHandle;

async fn handle(handler: &PipeHandler, event_id: &str) -> HandlerResult {
    within_deadline(handler.handle(context(order(event_id)))).await
}

fn begin(handler: &PipeHandler, event_id: &str) -> JoinHandle<HandlerResult> {
    tokio::spawn(handler.handle(context(order(event_id))))
}

async fn end(handling: JoinHandle<HandlerResult>) -> HandlerResult {
    within_deadline(handling).await.unwrap()
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn of_five_unanswered_events_only_the_culprit_pays_and_the_rest_goes_on() {
    let script = Script::python(
        "
if not os.path.exists('first'):
    log('first', '')
    events = [read() for _ in range(5)]
    os._exit(7)
while True:
    event = read()
    log('alone', event['event_id'])
    if event['event_id'] == 'culprit':
        print('cannot bear this', file=sys.stderr, flush=True)
        os._exit(7)
    answer(event)
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();

    let innocent: Vec<_> = ["a", "b"].map(|event_id| begin(&handler, event_id)).into();
    let culprit = begin(&handler, "culprit");
    let later: Vec<_> = ["c", "d"].map(|event_id| begin(&handler, event_id)).into();

    for handling in innocent.into_iter().chain(later) {
        assert!(end(handling).await.is_ok(), "the first call succeeds");
    }
    let reason = "the handler process died: exit status 7: cannot bear this";
    assert_transient(&end(culprit).await.unwrap_err(), reason);
    for _attempt in 2..=3 {
        assert_transient(&handle(&handler, "culprit").await.unwrap_err(), reason);
    }
    assert!(handle(&handler, "next").await.is_ok());
    assert_eq!(
        script.lines("alone"),
        ["a", "b", "culprit", "c", "d", "culprit", "culprit", "next"]
    );
}

#[tokio::test]
async fn while_a_suspect_is_handled_nothing_else_is_in_the_process() {
    let script = Script::python(
        "
import select
if not os.path.exists('first'):
    log('first', '')
    events = [read(), read()]
    os._exit(1)
while True:
    event = read()
    company, _, _ = select.select([0], [], [], 0.2)
    log('handled', event['event_id'] + (' in company' if company else ' alone'))
    answer(event)
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();

    let suspects = [begin(&handler, "a"), begin(&handler, "b")];
    script.wait_for_lines("first", 1).await;
    let fresh: Vec<_> = ["c", "d"].map(|event_id| begin(&handler, event_id)).into();

    for handling in suspects.into_iter().chain(fresh) {
        end(handling).await.unwrap();
    }
    let handled = script.lines("handled");
    assert_eq!(handled[..2], ["a alone", "b alone"], "{handled:?}");
    assert_eq!(handled.len(), 4);
}

#[tokio::test]
async fn a_kill_from_outside_costs_no_event_an_attempt() {
    let script = Script::python(
        "
log('pids', os.getpid())
while True:
    event = read()
    log('read', event['event_id'])
    if len(open('pids').readlines()) > 1:
        answer(event)
",
    );
    for count in [1, 4] {
        let handler = PipeHandler::new(script.config()).unwrap();
        let handlings: Vec<_> = (0..count)
            .map(|number| begin(&handler, &number.to_string()))
            .collect();
        script.wait_for_lines("read", count).await;

        kill(script.wait_for_pids("pids", 1).await[0]);

        for handling in handlings {
            assert!(end(handling).await.is_ok(), "{count} in the process");
        }
        for name in ["pids", "read"] {
            fs::remove_file(script.path(name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_kill_of_the_same_event_alone_counts() {
    let script = Script::python(
        "
log('pids', os.getpid())
event = read()
log('read', event['event_id'])
read()
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    let handling = begin(&handler, "a");

    for number in 1..=2 {
        script.wait_for_lines("read", number).await;
        kill(*script.wait_for_pids("pids", number).await.last().unwrap());
    }

    assert_transient(
        &end(handling).await.unwrap_err(),
        "the handler process died: signal 9 (SIGKILL)",
    );
}

#[tokio::test]
async fn a_process_killed_while_idle_is_started_again_for_the_next_event() {
    let script = Script::python(
        "
log('pids', os.getpid())
while True:
    answer(read())
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();
    handle(&handler, "a").await.unwrap();
    let pid = script.wait_for_pids("pids", 1).await[0];

    kill(pid);
    wait_until_dead(pid).await;

    assert!(handle(&handler, "b").await.is_ok());
    assert_eq!(script.lines("pids").len(), 2);
}

#[tokio::test]
async fn answers_written_before_the_death_count_and_a_line_cut_by_it_does_not() {
    let script = Script::python(
        "
if not os.path.exists('first'):
    log('first', '')
    first, second = read(), read()
    answer(first)
    sys.stdout.write('{\"event_id\":\"' + second['event_id'] + '\",\"outc')
    sys.stdout.flush()
    os._exit(1)
while True:
    event = read()
    log('again', event['event_id'])
    answer(event)
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();

    let handlings = [begin(&handler, "a"), begin(&handler, "b")];

    for handling in handlings {
        end(handling).await.unwrap();
    }
    assert_eq!(script.lines("again"), ["b"]);
}

#[tokio::test]
async fn a_silent_process_is_killed_with_what_it_started_and_the_event_pays_if_it_was_alone() {
    let script = Script::python(
        "
import subprocess
while True:
    event = read()
    if event['event_id'] == 'slow':
        child = subprocess.Popen(['sleep', '1000'])
        log('pids', os.getpid())
        log('pids', child.pid)
        child.wait()
    answer(event)
",
    );
    let config = ProcessConfig {
        time_limit: SHORT_LIMIT,
        ..script.config()
    };
    let handler = PipeHandler::new(config).unwrap();
    handle(&handler, "a").await.unwrap();

    let error = handle(&handler, "slow").await.unwrap_err();

    assert_transient(&error, "took longer than 10s and was killed");
    for pid in script.wait_for_pids("pids", 2).await {
        wait_until_dead(pid).await;
    }
    assert!(handle(&handler, "b").await.is_ok());
}

#[tokio::test]
async fn with_company_a_silent_event_is_found_and_the_others_do_not_pay() {
    let script = Script::python(
        "
while True:
    event = read()
    if event['event_id'] == 'slow':
        time.sleep(1000)
    answer(event)
",
    );
    let config = ProcessConfig {
        time_limit: SHORT_LIMIT,
        ..script.config()
    };
    let handler = PipeHandler::new(config).unwrap();

    let before = begin(&handler, "a");
    let slow = begin(&handler, "slow");
    let after = begin(&handler, "b");

    assert!(end(before).await.is_ok());
    assert!(end(after).await.is_ok());
    assert_transient(&end(slow).await.unwrap_err(), "took longer than 10s");
}

#[tokio::test]
async fn a_line_that_answers_no_event_breaks_the_process_and_is_quoted() {
    for (line, words) in [
        ("processing order 17", "begins \"processing order 17\""),
        (
            "{\"event_id\":\"other\",\"outcome\":\"ack\"}",
            "no event with the id \"other\"",
        ),
        ("[]", "answers no event"),
    ] {
        let script = Script::python(&format!(
            "
log('pids', os.getpid())
while True:
    event = read()
    if event['event_id'] == 'bad':
        print('{line}', flush=True)
        time.sleep(1000)
    answer(event)
"
        ));
        let handler = PipeHandler::new(script.config()).unwrap();

        let error = handle(&handler, "bad").await.unwrap_err();

        assert_transient(&error, words);
        assert!(handle(&handler, "good").await.is_ok());
        assert_eq!(script.lines("pids").len(), 2);
    }
}

#[tokio::test]
async fn a_process_that_closes_its_stdout_is_as_good_as_dead() {
    let script = Script::shell("echo $$ > pids; read line; exec >&-; echo gone >&2; sleep 1000");
    let handler = PipeHandler::new(script.config()).unwrap();

    let error = handle(&handler, "a").await.unwrap_err();

    assert_transient(&error, "closed its stdout and was killed: gone");
    wait_until_dead(script.wait_for_pids("pids", 1).await[0]).await;
}

#[tokio::test]
async fn a_process_that_dies_at_once_is_started_ever_more_slowly_and_events_are_told_why() {
    let script = Script::python(
        "
log('times', time.monotonic())
print('no configuration', file=sys.stderr, flush=True)
log('times', time.monotonic())
os._exit(2)
",
    );
    let handler = PipeHandler::new(script.config()).unwrap();

    for _attempt in 0..4 {
        let error = handle(&handler, "a").await.unwrap_err();
        assert_transient(&error, "died: exit status 2: no configuration");
    }

    let times: Vec<f64> = script
        .lines("times")
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(times.len(), 8, "a beginning and an end of each process");
    let mut pause_min = PROCESS_RESTART_BACKOFF_FIRST.as_secs_f64();
    for number in 0..3 {
        let pause = times[2 * number + 2] - times[2 * number + 1];
        assert!(pause >= pause_min, "{times:?}");
        pause_min *= 2.0;
    }
}

#[tokio::test]
async fn a_program_that_vanished_fails_one_event_at_a_time_until_it_is_back() {
    let script = Script::python(
        "
while True:
    answer(read())
",
    );
    let program = script.path("program");
    fs::write(&program, "#!/bin/sh\nexec python3 handler\n").unwrap();
    let executable = || {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    executable();
    let config = ProcessConfig {
        command: "./program".to_owned(),
        ..script.config()
    };
    let handler = PipeHandler::new(config).unwrap();
    fs::rename(&program, script.path("away")).unwrap();

    let handlings = ["a", "b"].map(|event_id| begin(&handler, event_id));
    let [first, second] = handlings;
    let error = end(first).await.unwrap_err();
    fs::rename(script.path("away"), &program).unwrap();

    assert_transient(&error, "cannot be started: No such file");
    assert!(end(second).await.is_ok());
    assert!(handle(&handler, "a").await.is_ok());
}
