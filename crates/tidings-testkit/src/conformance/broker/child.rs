//! A process of its own that publishes or consumes until it is killed: the test that runs the suite, begun again with a part to play.

use super::aborting;
use super::fixture::Fixture;
use super::flow;
use super::ground::{self, Ground, event};
use super::killed_worker;
use super::member::Member;
use super::report::variable;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::Envelope;
use tokio::sync::mpsc;

/// Part and address, with a space between.
const VARIABLE: &str = "TIDINGS_CONFORMANCE_CHILD";
/// What else a part has to know.
const DETAIL: &str = "TIDINGS_CONFORMANCE_CHILD_DETAIL";
/// Begins the lines that are meant for the parent; the test harness prints others.
const MARK: &str = "conformance: ";
/// A child whose parent forgot it ends by itself.
const LIFE_MAX: Duration = Duration::from_secs(120);
/// Keys of what a child publishes.
pub(super) const CHILD_KEYS: usize = 7;
/// Events that a child publishes at once.
pub(super) const TOGETHER: usize = 70;

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Publishes without end and tells what was acknowledged.
    Publish,
    /// The same with many events at once; it tells how many were acknowledged in all.
    PublishTogether,
    /// Takes one event, tells it, and hangs without settling.
    Hold,
    /// Takes a few events and tells by how much its memory grew.
    Sip,
    /// Handles events that fail, and tells each attempt.
    Fail,
    /// Handles events of which one ends the process.
    Abort,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::PublishTogether => "together",
            Self::Hold => "hold",
            Self::Sip => "sip",
            Self::Fail => "fail",
            Self::Abort => "abort",
        }
    }
}

/// A child process; killed when it is dropped.
pub(super) struct Child {
    process: std::process::Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Child {
    pub(super) fn start(ground: &Ground, part: Part) -> Self {
        Self::start_with(ground, part, "")
    }

    /// The same with what else it has to know.
    pub(super) fn start_with(ground: &Ground, part: Part, detail: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut process = Command::new(program)
            .args([ground.fixture.test(), "--exact", "--nocapture"])
            .env(VARIABLE, format!("{} {}", part.name(), ground.address))
            .env(DETAIL, detail)
            .env_remove("TIDINGS_CONFORMANCE_RESULTS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(MARK)
                    && sender.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// The next thing that it tells; nothing once it has ended.
    pub(super) async fn tells(&mut self) -> Option<String> {
        let telling = tokio::time::timeout(LIFE_MAX, self.lines.recv());
        telling.await.expect("the child process is silent")
    }

    /// SIGKILL, and the end of the process.
    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that was killed before cannot be killed again.
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Plays the part that the environment names, and does not come back; nothing in the process of the suite.
pub(super) async fn play(fixture: &Arc<dyn Fixture>) {
    let Some(part) = variable(VARIABLE) else {
        return;
    };
    let (part, address) = part.split_once(' ').expect("part and address");
    let detail = variable(DETAIL).unwrap_or_default();
    let ground = Ground::new(Arc::clone(fixture), address.to_owned(), false);
    let playing = async {
        match part {
            "publish" => publish(&ground).await,
            "together" => publish_together(&ground).await,
            "hold" => hold(&ground).await,
            "sip" => sip(&ground).await,
            "fail" => killed_worker::work(&ground, &detail).await,
            "abort" => aborting::work(&ground, &detail).await,
            other => panic!("no child can {other}"),
        }
    };
    // The parent is to kill it; what it says is an error of the harness.
    drop(tokio::time::timeout(LIFE_MAX, playing).await);
    std::process::exit(1);
}

/// Past the test harness, which keeps what is printed.
pub(super) fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone; then nobody is left to be told.
    let _told = writeln!(out, "\n{MARK}{text}").and_then(|()| out.flush());
}

/// The event `number` of a child.
pub(super) fn of_child(number: usize) -> Envelope {
    event(&format!("k{}", number % CHILD_KEYS), number)
}

async fn publish(ground: &Ground) {
    let broker = ground.connect().await;
    for number in 0.. {
        let envelope = of_child(number);
        if let [Ok(_)] = broker
            .publish(std::slice::from_ref(&envelope))
            .await
            .as_slice()
        {
            tell(&number.to_string());
        }
    }
}

async fn publish_together(ground: &Ground) {
    let broker = ground.connect().await;
    for first in (0..).step_by(TOGETHER) {
        let events: Vec<_> = (first..first + TOGETHER).map(of_child).collect();
        ground::publish(&*broker, &events).await;
        tell(&(first + TOGETHER).to_string());
    }
}

async fn hold(ground: &Ground) {
    let broker = ground.connect().await;
    let mut member = Member::join(ground, &*broker, "held").await;
    let held = member.take(1).await;
    tell(held[0].envelope.event_id());
    std::future::pending::<()>().await;
}

async fn sip(ground: &Ground) {
    tell(&flow::sip(ground).await.to_string());
    std::future::pending::<()>().await;
}
