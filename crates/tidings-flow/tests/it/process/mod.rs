//! Handlers that are processes, with real scripts: `sh` and `python3` are needed.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the failure report, and a handling under way is a task of its test"
)]

mod exec;
mod pipe;
mod pipe_death;

use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tidings_core::broker::Position;
use tidings_core::extract::{
    Emit, HandlerContext, HandlerError, HandlerErrorKind, HandlerShared, Shutdown, States,
};
use tidings_core::store::WorkSlot;
use tidings_core::{Envelope, Pattern, envelope_json};
use tidings_flow::consumer::process::{ProcessConfig, StderrRoute};

/// How long anything may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// A time limit that is waited for in full, yet longer than an interpreter takes to start on a busy machine.
const SHORT_LIMIT: Duration = Duration::from_secs(10);

/// A folder with a handler's script; the script runs in it.
struct Script {
    folder: TempDir,
    command: String,
}

impl Script {
    fn shell(text: &str) -> Self {
        Self::new("sh", text)
    }

    /// A Python script after a preamble that reads and writes the lines of the protocol.
    fn python(text: &str) -> Self {
        Self::new("python3", &format!("{PREAMBLE}\n{text}\n"))
    }

    fn new(interpreter: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("handler"), text).unwrap();
        Self {
            folder,
            command: format!("{interpreter} handler"),
        }
    }

    fn config(&self) -> ProcessConfig {
        ProcessConfig {
            working_directory: Some(self.folder.path().to_owned()),
            stderr: Some(StderrRoute::Kept),
            ..ProcessConfig::new(self.command.clone(), "test", vec![Pattern::everything()])
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    /// The lines of a file that the script has written so far.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The lines of a file, once there are as many.
    async fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines in {name}"), || {
            self.lines(name).len() >= count
        })
        .await;
        self.lines(name)
    }

    async fn wait_for_pids(&self, name: &str, count: usize) -> Vec<Pid> {
        let lines = self.wait_for_lines(name, count).await;
        lines
            .iter()
            .map(|line| Pid::from_raw(line.parse().unwrap()).unwrap())
            .collect()
    }
}

const PREAMBLE: &str = r#"
import json, os, sys, time

def log(name, text):
    with open(name, "a") as file:
        file.write(f"{text}\n")

def read():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)

def answer(event, outcome="ack", **more):
    event_id = event["event_id"]
    print(json.dumps({"event_id": event_id, "outcome": outcome, **more}), flush=True)
"#;

/// Waits for a condition outside of this process, which nothing can announce.
async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let poll = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = tokio::time::timeout(DEADLINE, poll).await;
    assert!(outcome.is_ok(), "not within {DEADLINE:?}: {what}");
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("the handler answers in time")
}

async fn wait_until_dead(pid: Pid) {
    eventually(&format!("the end of process {pid:?}"), || is_dead(pid)).await;
}

/// A dead process may still wait for its parent to look at it.
fn is_dead(pid: Pid) -> bool {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    match fs::read_to_string(stat) {
        Ok(text) => text
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => test_kill_process(pid).is_err(),
    }
}

fn event(line: &str) -> Envelope {
    envelope_json::from_json(line.as_bytes()).unwrap()
}

fn order(event_id: &str) -> Envelope {
    event(&format!(
        r#"{{"event_id":"{event_id}","event_type":"order.placed","aggregate_id":"order-{event_id}","payload":{{"total": 59.980}}}}"#
    ))
}

fn context(envelope: Envelope) -> HandlerContext {
    HandlerContext {
        envelope,
        position: Some(Position(41)),
        append_time: None,
        attempt: 2,
        emit: Emit::default(),
        work: WorkSlot::default(),
        shared: Arc::new(HandlerShared {
            group: "inventory".parse().unwrap(),
            states: States::default(),
            shutdown: Shutdown::default(),
            time_limit: Duration::from_secs(30),
        }),
    }
}

fn message(error: &HandlerError) -> &str {
    error.chain().first().expect("an error has a message")
}

fn assert_transient(error: &HandlerError, words: &str) {
    assert_eq!(error.kind(), HandlerErrorKind::Transient, "{error:?}");
    assert!(message(error).contains(words), "{error:?}");
}

fn assert_permanent(error: &HandlerError, words: &str) {
    assert_eq!(error.kind(), HandlerErrorKind::Permanent, "{error:?}");
    assert!(message(error).contains(words), "{error:?}");
}
