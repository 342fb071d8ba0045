//! Runs the binary and looks at what it answers; every wait has a deadline.

use rustix::event::{PollFd, PollFlags};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// A command of the binary under test.
pub(crate) struct Tidings {
    command: Command,
    input: Vec<u8>,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command with its arguments.
pub(crate) fn tidings<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Tidings {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(arguments).env_remove("TIDINGS_DATA");
    Tidings {
        command,
        input: Vec::new(),
    }
}

/// A line that a person types into a shell, in which `tidings` is the binary under test.
pub(crate) fn shell(line: &str) -> Tidings {
    let binary = Path::new(env!("CARGO_BIN_EXE_tidings"));
    let mut paths = vec![binary.parent().expect("it is in a folder").to_owned()];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let paths = std::env::join_paths(paths).expect("folders are joined");
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", paths);
    command.env_remove("TIDINGS_DATA");
    Tidings {
        command,
        input: Vec::new(),
    }
}

/// This test binary again, to be another process of the test of that name; what it says stands on lines of its own.
pub(crate) fn itself(test: &str) -> Tidings {
    let program = std::env::current_exe().expect("this program is known");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]);
    Tidings {
        command,
        input: Vec::new(),
    }
}

impl Tidings {
    /// Names the data folder.
    pub(crate) fn data(mut self, folder: &Path) -> Self {
        self.command.arg("--data").arg(folder);
        self
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn arguments<S: AsRef<OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives the command something to read.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Answer {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let input = self.input;
        let feeding = std::thread::spawn(move || {
            // A command that fails early closes its input.
            let _closed = stdin.write_all(&input);
        });
        let stdout = drain(child.stdout.take().expect("standard output is piped"));
        let stderr = drain(child.stderr.take().expect("standard error is piped"));
        let status = wait(&mut child);
        feeding.join().expect("feeding ends");
        Answer {
            code: status.code(),
            stdout: stdout.join().expect("standard output ends"),
            stderr: stderr.join().expect("standard error ends"),
        }
    }

    /// Runs it and expects success.
    pub(crate) fn ok(self) -> Answer {
        let answer = self.run();
        assert_eq!(answer.code, Some(0), "{}\n{}", answer.stdout, answer.stderr);
        answer
    }

    /// Starts it in the background; it is killed when dropped.
    pub(crate) fn start(mut self) -> Running {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let said = Arc::new(Mutex::new(String::new()));
        let stderr = hear(
            child.stderr.take().expect("standard error is piped"),
            Arc::clone(&said),
        );
        Running {
            child,
            stdout: Some(stdout),
            stderr: Some(stderr),
            said,
        }
    }
}

impl Answer {
    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Standard output as lines.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

/// A command that runs in the background.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
    stderr: Option<std::thread::JoinHandle<()>>,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it said something on standard error, and answers the line.
    pub(crate) fn heard(&self, words: &str) -> String {
        let mut found = None;
        until(&format!("it says {words:?}"), || {
            let said = self.said.lock().unwrap();
            let mut lines = said.lines();
            found = lines.find(|line| line.contains(words)).map(str::to_owned);
            found.is_some()
        });
        found.expect("it was found")
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The next line of standard output; `None` at its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        let stdout = self.stdout.as_mut()?;
        let deadline = Instant::now() + DEADLINE;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            if stdout.buffer().is_empty() && !is_readable(stdout.get_ref(), deadline) {
                panic!(
                    "it took too long until the command says something; so far: {}",
                    self.said.lock().unwrap()
                );
            }
            let bytes = stdout.fill_buf().expect("a pipe is read");
            if bytes.is_empty() {
                break;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |at| at + 1);
            line.extend_from_slice(&bytes[..taken]);
            stdout.consume(taken);
        }
        let line = String::from_utf8(line).expect("standard output is text");
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// Its standard output, for who reads it elsewhere.
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.stdout.take().expect("it was not taken").into_inner()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process ends");
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn interrupt(mut self, signal: rustix::process::Signal) -> Answer {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is ours");
        self.end()
    }

    /// Whether it ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the process is ours")
            .is_some()
    }

    /// Closes its standard output without reading on, and waits for its end.
    pub(crate) fn close(mut self) -> Answer {
        drop(self.stdout.take());
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> Answer {
        let mut stdout = String::new();
        while let Some(line) = self.line() {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let status = wait(&mut self.child);
        if let Some(stderr) = self.stderr.take() {
            stderr.join().expect("standard error ends");
        }
        let stderr = self.said.lock().unwrap().clone();
        Answer {
            code: status.code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Whether there is something to read, or nothing more to come, before the deadline.
fn is_readable(pipe: &std::process::ChildStdout, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = left.try_into().expect("a deadline is near");
    let mut pipe = [PollFd::new(pipe, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut pipe, Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn drain(source: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut source = source;
        source.read_to_end(&mut bytes).expect("a pipe is read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// As [`drain`], and others may see what came so far.
fn hear(
    source: impl std::io::Read + Send + 'static,
    said: Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n') {
            let line = line.expect("a pipe is read");
            let mut said = said.lock().unwrap();
            said.push_str(&String::from_utf8_lossy(&line));
            said.push('\n');
        }
    })
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the command ends", || {
        status = child.try_wait().expect("the process is ours");
        status.is_some()
    });
    status.expect("it ended")
}

/// Waits until a condition holds, with a deadline.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it took too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder of the test, removed at its end, and the data folder within it.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    /// A new place.
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().expect("a temporary folder is made"),
        }
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A file beside the data folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file beside the data folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).expect("a file is written");
        path
    }

    /// Imports lines into the data folder.
    pub(crate) fn import(&self, lines: &str) -> Answer {
        tidings(["event", "import", "-"])
            .data(&self.data())
            .input(lines)
            .ok()
    }
}

/// An owner of the data folder that stands still, and holds no lock of its database: what is published beside it waits. One event, `folder.opened`, is in the log.
pub(crate) struct Halted {
    /// Killed when dropped.
    _owner: Running,
    pid: rustix::process::Pid,
}

impl Halted {
    /// Starts an owner and stops it.
    pub(crate) fn at(place: &Place) -> Self {
        let group = [
            "consumer", "run", "halted", "--type", "mail.*", "--exec", "true",
        ];
        let owner = tidings(group).data(&place.data()).start();
        until("the folder has an owner with a database", || {
            place.data().join("state.db").exists()
        });
        tidings(["emit", "folder.opened"]).data(&place.data()).ok();
        let file = format!("sqlite://{}/state.db", place.data().display());
        until("the owner has carried and settled it", || {
            let status = ["outbox", "status", "-o", "json", "--from", &file];
            let status = tidings(status).run();
            status.code == Some(0) && status.json()["unsent"] == 0
        });
        let pid = i32::try_from(owner.id()).expect("a process id is small");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id is not zero");
        let halted = Self { _owner: owner, pid };
        until("the owner is stopped outside a transaction", || {
            halted.stop();
            let is_free = may_write(&file);
            if !is_free {
                halted.go_on();
            }
            is_free
        });
        halted
    }

    fn stop(&self) {
        rustix::process::kill_process(self.pid, rustix::process::Signal::STOP)
            .expect("the process is ours");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        rustix::process::kill_process(self.pid, rustix::process::Signal::CONT)
            .expect("the process is ours");
    }
}

/// Whether nobody holds the lock under which a file of SQLite is written.
fn may_write(file: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options: SqliteConnectOptions = file.parse().expect("a URL of a file");
        let options = options.busy_timeout(Duration::from_millis(200));
        let mut connection = options.connect().await.expect("the file can be opened");
        let begun = sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await;
        connection.close().await.expect("it is closed");
        begun.is_ok()
    })
}

/// Whether repetitions should be few.
pub(crate) fn is_quick() -> bool {
    std::env::var_os("TIDINGS_TEST_QUICK").is_some()
}
