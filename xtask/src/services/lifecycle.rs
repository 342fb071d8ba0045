//! The life of a server: made, started, asked whether it is ready, stopped, killed; the same for each.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::services::compose::Container;
use crate::services::server::Server;
use crate::services::site::{self, Site};
use crate::services::{ports, process, process::Process, tls};

/// For a start on a busy machine with a recovery after a kill in it; usual are 1 to 10 s.
const START_LIMIT: Duration = Duration::from_secs(180);
/// For the port of a server that was killed.
const PORT_LIMIT: Duration = Duration::from_secs(3);
/// For an orderly end; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Far enough for every port of a server.
const PORT_STEP: u16 = 100;
/// So many checkouts on one machine test at the same time.
const MOVES_MAX: u32 = 10;
/// What a log says last is why it ended.
const LOG_LINES_SHOWN: usize = 8;
const LOG_BYTES_READ: u64 = 16 * 1024;

/// A server at its place.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) server: &'static Server,
    pub(super) site: Site,
    /// compose.yaml.
    pub(super) compose: PathBuf,
    /// Somebody else's server, to be used instead.
    pub(super) given: Option<Given>,
}

/// What the environment says of a server that is not ours.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) url: String,
    /// Its authority's certificate, if it is a secure one.
    pub(super) authority: Option<String>,
    /// Its listener with TLS and passwords: the URL and the authority's certificate.
    pub(super) secured: Option<(String, Option<String>)>,
}

/// A listener of a server: what a client has to know.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) url: String,
    /// The file with the certificate of the authority that signed the server's.
    pub(super) authority: Option<String>,
}

/// How a server is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It answers.
    Up,
    /// It runs and does not answer yet.
    Starting,
    Down,
    /// Somebody else's program has its port.
    Taken,
}

/// What `status` says of a listener.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) endpoint: Endpoint,
    pub(super) state: State,
    pub(super) version: Option<String>,
}

/// What `up` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Began {
    Now,
    Earlier,
    /// It is not ours.
    Given,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Starting => "starting",
            State::Down => "down",
            State::Taken => "taken",
        }
    }
}

impl Standing {
    pub(super) fn json(&self) -> Value {
        let Endpoint {
            name,
            url,
            authority,
            variable: _,
        } = &self.endpoint;
        let mut row =
            json!({"name": name, "state": self.state.word(), "version": self.version, "url": url});
        if let Some(authority) = authority {
            row["ca"] = json!(authority);
        }
        row
    }
}

impl Service {
    pub(super) fn url(&self) -> String {
        match &self.given {
            Some(given) => given.url.clone(),
            None => (self.server.url)(&self.site),
        }
    }

    /// The server's own listener first.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let ours = || tls::paths(&self.site).authority.display().to_string();
        let authority = match &self.given {
            Some(given) => given.authority.clone(),
            None => self.server.is_secure.then(ours),
        };
        let own = Endpoint {
            name: self.server.name,
            variable: self.server.variable,
            url: self.url(),
            authority,
        };
        let secured = self.server.secured.as_ref().and_then(|secured| {
            let (url, authority) = match &self.given {
                Some(given) => given.secured.clone()?,
                None => ((secured.url)(&self.site), Some(ours())),
            };
            Some(Endpoint {
                name: secured.name,
                variable: secured.variable,
                url,
                authority,
            })
        });
        [Some(own), secured].into_iter().flatten().collect()
    }

    pub(super) fn standings(&self) -> Vec<Standing> {
        let (own, version) = self.state();
        let standing = |(number, endpoint): (usize, Endpoint)| {
            let secured = match &endpoint.authority {
                Some(authority) if number > 0 => {
                    let begins_as = self.server.secured.as_ref().and_then(|one| one.begins_as);
                    tls::answer(&endpoint.url, authority, begins_as)
                }
                _ => Ok(()),
            };
            let state = match (own, secured) {
                (State::Up, Err(_)) => State::Starting,
                (own, _) => own,
            };
            Standing {
                endpoint,
                state,
                version: version.clone(),
            }
        };
        self.endpoints()
            .into_iter()
            .enumerate()
            .map(standing)
            .collect()
    }

    fn state(&self) -> (State, Option<String>) {
        let runs = self.running().is_some();
        let is_contained = self.container().is_chosen();
        if runs || is_contained || self.given.is_some() {
            return match (self.server.answer)(&self.url()) {
                Ok(version) if self.given.is_some() => (State::Up, version),
                Ok(version) => (
                    State::Up,
                    version.or(self.server.version.map(str::to_owned)),
                ),
                Err(_) if runs => (State::Starting, None),
                Err(_) => (State::Down, None),
            };
        }
        match ports::holder(self.site.port) {
            Some(_) => (State::Taken, None),
            None => (State::Down, None),
        }
    }

    fn container(&self) -> Container<'_> {
        Container {
            file: &self.compose,
            name: self.server.name,
            site: &self.site,
        }
    }

    /// The process, if it is ours to start and end.
    fn running(&self) -> Option<Process> {
        if self.given.is_some() {
            return None;
        }
        Process::recorded(&self.site).filter(Process::is_alive)
    }

    /// Takes other ports if somebody has ours: a test run is told where its servers are, so any will do.
    pub(super) fn give_way(&mut self) {
        if self.given.is_some() || self.running().is_some() || self.container().is_chosen() {
            return;
        }
        for _ in 0..MOVES_MAX {
            let next = self.site.port.checked_add(PORT_STEP);
            match (ports::holder(self.site.port), next) {
                (Some(_), Some(next)) => self.site.port = next,
                _ => return,
            }
        }
    }

    /// Starts it unless it runs, and waits until it answers.
    pub(super) fn up(&self, fresh: bool) -> Result<Began, Failure> {
        if self.given.is_some() {
            return self.meet().map(|()| Began::Given);
        }
        let _lock = self.lock()?;
        if fresh {
            self.end()?;
            site::remove_folder(&self.site.data())?;
            if self.container().is_chosen() {
                self.container().remove()?;
            }
        }
        if self.running().is_some() {
            return self.wait_until_ready(None).map(|()| Began::Earlier);
        }
        if self.container().is_chosen() {
            return self.begin_contained().map(|()| Began::Now);
        }
        process::sweep(&self.site);
        // A server that was killed may hold its port a moment longer than its process can be seen.
        process::wait_until(PORT_LIMIT, || ports::holder(self.site.port).is_none());
        if let Some(holder) = ports::holder(self.site.port) {
            return Err(self.failure(format!(
                "port {} of 127.0.0.1 is taken by {holder}: end it, move ours with TIDINGS_SERVICES_PORT_SHIFT, or name a server in {}",
                self.site.port, self.server.variable
            )));
        }
        self.begin()
            .map_err(|failure| self.failure(failure))
            .map(|()| Began::Now)
    }

    fn begin(&self) -> Result<(), Failure> {
        let installed = self.install();
        if installed.is_err() && self.container().is_possible() {
            return self.begin_contained();
        }
        installed?;
        if !self.site.data().exists() {
            self.create()?;
        }
        (self.server.mend)(&self.site)?;
        let command = (self.server.start)(&self.site)?;
        let child = process::start(&self.site, &command)?;
        self.wait_until_ready(Some(child))
    }

    fn install(&self) -> Result<(), Failure> {
        let installed = if cfg!(not(target_os = "linux")) {
            Err(Failure::new("it can be started on Linux only"))
        } else if (self.server.is_installed)(&self.site) {
            Ok(())
        } else {
            (self.server.install)(&self.site)
        };
        installed.map_err(|failure| {
            Failure::new(format!(
                "{failure}; or name a server in {}",
                self.server.variable
            ))
        })
    }

    fn begin_contained(&self) -> Result<(), Failure> {
        self.container().up()?;
        self.wait_until_ready(None)
    }

    /// Makes the data folder under another name, so that one under its own name is always whole.
    fn create(&self) -> Result<(), Failure> {
        let unfinished = self.site.data().with_extension("unfinished");
        site::remove_folder(&unfinished)?;
        self.site.create_owned(&unfinished)?;
        (self.server.create)(&self.site, &unfinished)?;
        fs::rename(&unfinished, self.site.data())
            .map_err(|cause| Failure::file("rename", &unfinished, &cause))
    }

    fn wait_until_ready(&self, mut child: Option<Child>) -> Result<(), Failure> {
        let url = self.url();
        let mut said = Err("it was not asked".to_owned());
        let mut has_ended = false;
        process::wait_until(START_LIMIT, || {
            has_ended = match &mut child {
                Some(child) => !matches!(child.try_wait(), Ok(None)),
                None => self.running().is_none() && !self.container().is_chosen(),
            };
            if !has_ended {
                said = (self.server.answer)(&url);
            }
            has_ended || said.is_ok()
        });
        match said {
            Ok(_) if !has_ended => Ok(()),
            _ if has_ended => Err(Failure::new(format!(
                "it ended at once; its log {} ends with:\n{}",
                self.site.log().display(),
                self.end_of_log()
            ))),
            said => Err(Failure::new(format!(
                "it does not answer after {} s ({}); see its log {}",
                START_LIMIT.as_secs(),
                said.err().unwrap_or_default(),
                self.site.log().display()
            ))),
        }
    }

    /// A server of somebody else: it is there or it is not.
    fn meet(&self) -> Result<(), Failure> {
        match (self.server.answer)(&self.url()) {
            Ok(_) => Ok(()),
            Err(said) => Err(self.failure(format!(
                "the server that {} names does not answer: {said}",
                self.server.variable
            ))),
        }
    }

    /// Ends it in good order; whether there was anything to end.
    pub(super) fn down(&self) -> Result<bool, Failure> {
        let _lock = self.lock()?;
        self.end()
    }

    fn end(&self) -> Result<bool, Failure> {
        if self.given.is_some() {
            return Ok(false);
        }
        if self.container().is_chosen() {
            return self.container().stop().map(|()| true);
        }
        let Some(running) = self.running() else {
            process::sweep(&self.site);
            return Ok(false);
        };
        running.signal(self.server.stop);
        if !process::wait_until(STOP_LIMIT, || !running.is_alive()) {
            println!(
                "{} did not end within {} s: killing it",
                self.server.name,
                STOP_LIMIT.as_secs()
            );
            self.kill_running(&running)?;
        }
        process::sweep(&self.site);
        Ok(true)
    }

    /// SIGKILL to the server and to every process of it, as a crash would.
    pub(super) fn kill(&self) -> Result<(), Failure> {
        if self.given.is_none() && self.container().is_chosen() {
            return self.container().kill();
        }
        let Some(running) = self.running() else {
            return Err(self.failure("it is not running, or not ours"));
        };
        self.kill_running(&running)
    }

    fn kill_running(&self, running: &Process) -> Result<(), Failure> {
        running.kill(&self.site);
        if process::wait_until(STOP_LIMIT, || !running.is_alive()) {
            return Ok(());
        }
        Err(self.failure(format!(
            "the process {} survives SIGKILL: the kernel holds it",
            running.pid()
        )))
    }

    /// One of us at a time starts or ends a server.
    fn lock(&self) -> Result<File, Failure> {
        site::create_folder(&self.site.folder)?;
        let path = self.site.folder.join("lock");
        let file = File::create(&path).map_err(|cause| Failure::file("create", &path, &cause))?;
        file.lock()
            .map_err(|cause| Failure::file("lock", &path, &cause))?;
        Ok(file)
    }

    fn end_of_log(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(self.site.log()).and_then(|mut log| {
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_READ)))?;
            log.read_to_end(&mut bytes)
        });
        if let Err(cause) = read {
            return cause.to_string();
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn failure(&self, what: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{}: {what}", self.server.name))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::services::server;

    #[test]
    fn a_test_run_takes_other_ports_when_somebody_has_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = listener.local_addr().expect("bound").port();
        let mut service = Service {
            server: server::named("nats").expect("known"),
            site: Site {
                folder: folder.path().to_path_buf(),
                port: taken,
                user: None,
            },
            compose: folder.path().join("compose.yaml"),
            given: None,
        };

        service.give_way();
        let moved = service.site.port;
        service.give_way();

        assert_ne!(moved, taken);
        assert_eq!((moved - taken) % PORT_STEP, 0);
        assert_eq!(service.site.port, moved);
    }
}
