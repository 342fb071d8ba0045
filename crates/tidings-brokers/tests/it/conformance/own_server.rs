//! A server that nobody else uses, on ports and in a folder of its own, started by `cargo xtask services`.

use crate::server::read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_testkit::conformance::broker::Unavailable;
use tidings_testkit::proxy::FaultProxy;
use tokio::sync::OnceCell;

/// Added to the ports that the run's own servers have.
const PORT_SHIFT: u16 = 2_000;
/// Between the ports of several servers of a kind.
const PORTS_OF_ONE: u16 = 10;

/// Whether the tests were told to do without a server.
pub(crate) fn is_left_out(server: &str) -> bool {
    let without = read("TIDINGS_TEST_WITHOUT").unwrap_or_default();
    without.split(',').any(|name| name.trim() == server)
}

/// A server for one suite; it is started when its URL is first asked for and stopped at the end.
pub(crate) struct OwnServer {
    service: Arc<Service>,
    standing: OnceCell<Standing>,
}

/// What `services status` says.
struct Standing {
    url: String,
    version: String,
}

impl OwnServer {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            service: Arc::new(Service {
                name,
                folder: "services-conformance".to_owned(),
                port_shift: PORT_SHIFT,
                variables: Vec::new(),
            }),
            standing: OnceCell::new(),
        }
    }

    /// One of several servers of a kind: each suite has its own, on other ports than the others.
    pub(super) fn number(name: &'static str, number: u16, suite: &str) -> Self {
        Self {
            service: Arc::new(Service {
                name,
                folder: format!("services-conformance-{suite}"),
                port_shift: PORT_SHIFT + number * PORTS_OF_ONE,
                variables: Vec::new(),
            }),
            standing: OnceCell::new(),
        }
    }

    /// One that is set up otherwise than the others, by a variable that it reads when it starts.
    pub(crate) fn set_up_by(
        name: &'static str,
        number: u16,
        suite: &str,
        variable: (&'static str, PathBuf),
    ) -> Self {
        Self {
            service: Arc::new(Service {
                name,
                folder: format!("services-conformance-{suite}"),
                port_shift: PORT_SHIFT + number * PORTS_OF_ONE,
                variables: vec![variable],
            }),
            standing: OnceCell::new(),
        }
    }

    async fn standing(&self) -> &Standing {
        let starting = async {
            self.chore(&["up", "--fresh", self.service.name]).await;
            let status = self
                .chore(&["status", self.service.name, "-o", "json"])
                .await;
            let rows: serde_json::Value = serde_json::from_str(&status).unwrap();
            let text = |name: &str| rows[0][name].as_str().unwrap_or("?").to_owned();
            Standing {
                url: text("url"),
                version: text("version"),
            }
        };
        self.standing.get_or_init(|| starting).await
    }

    /// Its URL, usable as it is.
    pub(crate) async fn url(&self) -> &str {
        &self.standing().await.url
    }

    /// `NATS 2.15.1`.
    pub(super) async fn version(&self, product: &str) -> String {
        format!("{product} {}", self.standing().await.version)
    }

    pub(super) fn kill(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.done(&["kill", "-9"])
    }

    pub(super) fn start(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.done(&["up"])
    }

    pub(super) fn restart(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.done(&["restart"])
    }

    fn done<'a>(&'a self, verb: &'a [&'a str]) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let mut arguments = verb.to_vec();
            arguments.push(self.service.name);
            self.chore(&arguments).await;
            Ok(())
        })
    }

    async fn chore(&self, arguments: &[&str]) -> String {
        let service = Arc::clone(&self.service);
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        tokio::task::spawn_blocking(move || service.chore(&arguments))
            .await
            .unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if self.standing.initialized() {
            self.service
                .chore(&["down".to_owned(), self.service.name.to_owned()]);
        }
    }
}

/// The address by way of a network that the suite owns, for brokers whose clients connect where they are told to.
pub(super) fn proxied(address: &str) -> (String, FaultProxy) {
    let (_, rest) = address.split_once("://").expect("a URL");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let target = rest[..end].rsplit('@').next().expect("a host");
    let proxy = FaultProxy::start(target).unwrap();
    (proxy.in_place_of(address), proxy)
}

struct Service {
    name: &'static str,
    /// Below the target directory of the checkout.
    folder: String,
    port_shift: u16,
    /// What the server reads besides the settings that all have.
    variables: Vec<(&'static str, PathBuf)>,
}

impl Service {
    /// Runs `xtask services` for the folder and the ports of this suite, and answers what it printed.
    fn chore(&self, arguments: &[String]) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let usual =
            read("TIDINGS_SERVICES_DIR").map_or(root.join("target/services"), PathBuf::from);
        let own = root.join("target").join(&self.folder);
        share_tools(&usual, &own);
        let shift = read("TIDINGS_SERVICES_PORT_SHIFT").map_or(0, |shift| shift.parse().unwrap());
        let mut command = match read("TIDINGS_XTASK") {
            Some(program) => Command::new(program),
            None => {
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["run", "--quiet", "--package", "xtask", "--"]);
                cargo
            }
        };
        command
            .current_dir(&root)
            .arg("services")
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("TIDINGS_SERVICES_DIR", own)
            .env(
                "TIDINGS_SERVICES_PORT_SHIFT",
                (self.port_shift + shift).to_string(),
            );
        for variable in ["RABBITMQ", "NATS", "KAFKA", "AWS"] {
            // These name the servers of the other tests.
            command.env_remove(format!("TIDINGS_TEST_{variable}_URL"));
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "services {arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }
}

/// What is installed for the other servers need not be installed again.
fn share_tools(usual: &Path, own: &Path) {
    std::fs::create_dir_all(own).unwrap();
    for entry in std::fs::read_dir(usual).into_iter().flatten().flatten() {
        let link = own.join(entry.file_name());
        if entry.path().join(".whole").exists() && !link.exists() {
            // Another suite may have made it in between.
            let _made = std::os::unix::fs::symlink(entry.path(), link);
        }
    }
}
