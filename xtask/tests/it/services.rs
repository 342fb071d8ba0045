//! `cargo xtask services` with real databases: their lives from an empty folder, and what stands in their way.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::own_port::{own_port, own_ports};

/// A place for servers of its own: another folder, other ports. Stops its server when the test ends.
pub(crate) struct Place {
    folder: TempDir,
    server: &'static str,
    pub(crate) port: u16,
    usual_port: u16,
}

/// Of a server with further listeners: AMQP with TLS, controllers of Kafka.
pub(crate) const PORTS_OF_ONE: u16 = 8;

impl Place {
    /// For PostgreSQL, as most of these tests.
    fn of_its_own() -> Option<Place> {
        Place::for_server("postgres", 15432)
    }

    /// For a server of events, with what is installed for the other tests, so that nothing is fetched again.
    pub(crate) fn with_tools(server: &'static str, usual_port: u16) -> Option<Place> {
        let mut place = Place::for_server(server, usual_port)?;
        place.port = own_ports(PORTS_OF_ONE);
        let usual = std::env::var_os("TIDINGS_SERVICES_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/services"),
            PathBuf::from,
        );
        for entry in fs::read_dir(usual).into_iter().flatten().flatten() {
            if entry.path().join(".whole").exists() {
                let link = place.folder.path().join(entry.file_name());
                std::os::unix::fs::symlink(entry.path(), link).expect("linked");
            }
        }
        Some(place)
    }

    /// Nothing, and a line that says so, if this run has to do without the server.
    fn for_server(server: &'static str, usual_port: u16) -> Option<Place> {
        let without = std::env::var("TIDINGS_TEST_WITHOUT").unwrap_or_default();
        if without.split(',').any(|name| name == server) {
            eprintln!("SKIPPED: this run is without {server}");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = own_port();
        Some(Place {
            folder,
            server,
            port,
            usual_port,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .arg("services")
            .args(arguments)
            .env("TIDINGS_SERVICES_DIR", self.folder.path())
            .env(
                "TIDINGS_SERVICES_PORT_SHIFT",
                (self.port - self.usual_port).to_string(),
            );
        for variable in ["POSTGRES", "MYSQL", "RABBITMQ", "NATS", "KAFKA", "AWS"] {
            command.env_remove(format!("TIDINGS_TEST_{variable}_URL"));
        }
        command
    }

    /// What it printed; fails the test if it failed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("runs");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    /// What it complained about; fails the test if it succeeded.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("runs");
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    pub(crate) fn standing(&self) -> Value {
        let printed = self.run(&["status", self.server, "-o", "json"]);
        let rows: Value = serde_json::from_str(&printed).expect("a JSON array");
        rows[0].clone()
    }

    pub(crate) fn state(&self) -> String {
        let standing = self.standing();
        standing["state"].as_str().expect("a state").to_owned()
    }

    /// Through the URL that `status` prints, as it is.
    fn sql(&self, statement: &str) -> Output {
        let standing = self.standing();
        Command::new("psql")
            .args([standing["url"].as_str().expect("a URL"), "-AtXc", statement])
            .output()
            .expect("psql runs")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(self.server).join(name)
    }

    pub(crate) fn process(&self) -> String {
        fs::read_to_string(self.file("process")).expect("a record")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed has more to say than this.
        let _ = self.command(&["down", self.server]).output();
    }
}

fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn data_outlives_a_kill_and_ends_with_fresh() {
    let Some(place) = Place::of_its_own() else {
        return;
    };

    place.run(&["up", "postgres"]);
    let standing = place.standing();
    assert_eq!(standing["name"], "postgres");
    assert_eq!(standing["state"], "up");
    assert!(standing["version"].is_string(), "{standing}");
    assert!(
        place
            .sql("CREATE TABLE kept AS SELECT 42 AS answer")
            .status
            .success()
    );

    let first = place.process();
    assert!(place.run(&["up", "postgres"]).contains("was up"));
    assert_eq!(place.process(), first);

    place.run(&["kill", "-9", "postgres"]);
    assert_eq!(place.state(), "down");
    place.run(&["up", "postgres"]);
    assert_eq!(said(&place.sql("SELECT answer FROM kept")).trim(), "42");

    let second = place.process();
    place.run(&["restart", "postgres"]);
    assert_ne!(place.process(), second);
    assert_eq!(said(&place.sql("SELECT answer FROM kept")).trim(), "42");

    place.run(&["up", "--fresh", "postgres"]);
    assert!(!place.sql("SELECT answer FROM kept").status.success());

    assert!(place.run(&["down", "postgres"]).contains("stopped"));
    assert!(place.run(&["down", "postgres"]).contains("was down"));
    assert_eq!(place.state(), "down");
    assert!(
        place
            .refused(&["kill", "-9", "postgres"])
            .contains("not running")
    );
}

#[test]
fn mariadb_keeps_its_data_over_a_kill_and_asks_for_a_password() {
    let Some(place) = Place::for_server("mariadb", 13306) else {
        return;
    };
    let sql = |password: &str, statement: &str| {
        Command::new("mariadb")
            .args(["--no-defaults", "--host=127.0.0.1", "--user=root"])
            .arg(format!("--port={}", place.port))
            .arg(format!("--password={password}"))
            .args(["--skip-column-names", "--execute", statement, "tidings"])
            .output()
            .expect("the client runs")
    };

    place.run(&["up", "mariadb"]);
    let made = sql("tidings", "CREATE TABLE kept AS SELECT 42 AS answer");
    assert!(made.status.success(), "{}", said(&made));
    place.run(&["kill", "-9", "mariadb"]);
    assert_eq!(place.state(), "down");
    place.run(&["up", "mariadb"]);

    let kept = sql("tidings", "SELECT answer FROM kept");
    let with_a_wrong_password = sql("wrong", "SELECT answer FROM kept");
    let standing = place.standing();
    assert_eq!(said(&kept).trim(), "42");
    assert!(!with_a_wrong_password.status.success());
    assert_eq!(standing["state"], "up");
    assert!(
        standing["version"]
            .as_str()
            .is_some_and(|version| version.contains('.')),
        "{standing}"
    );
}

/// Takes a port. Between fork and exec a child that another test starts has what was open here, so that the look whether the port is free may still hold it.
pub(crate) fn listen(port: u16) -> TcpListener {
    let tries = 100;
    for _ in 1..tries {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    TcpListener::bind(("127.0.0.1", port)).expect("the port")
}

#[test]
fn a_port_in_use_is_refused_with_who_has_it() {
    let Some(place) = Place::of_its_own() else {
        return;
    };
    let _other = listen(place.port);

    let refusal = place.refused(&["up", "postgres"]);

    assert!(
        refusal.contains(&format!("port {} of 127.0.0.1 is taken", place.port)),
        "{refusal}"
    );
    assert!(refusal.contains("TIDINGS_TEST_POSTGRES_URL"), "{refusal}");
    assert!(
        refusal.contains(&format!("process {}", std::process::id())),
        "{refusal}"
    );
    assert_eq!(place.state(), "taken");
}

#[test]
fn a_stale_record_ends_nobody_and_unfinished_data_is_made_anew() {
    let Some(place) = Place::of_its_own() else {
        return;
    };
    let mut bystander = Command::new("sleep").arg("600").spawn().expect("runs");
    fs::create_dir_all(place.file("data.unfinished/base")).expect("created");
    // The bystander has the number of a server that ran before the machine was started anew.
    let record = format!("{} 1 another-boot\n", bystander.id());
    fs::write(place.file("process"), record).expect("written");

    let down = place.run(&["down", "postgres"]);
    let kill = place.refused(&["kill", "-9", "postgres"]);
    let up = place.run(&["up", "postgres"]);

    assert!(down.contains("was down"), "{down}");
    assert!(kill.contains("not running"), "{kill}");
    assert!(up.contains("up after"), "{up}");
    assert!(!place.file("data.unfinished").exists());
    assert!(bystander.try_wait().expect("asked").is_none());
    bystander.kill().expect("killed");
    bystander.wait().expect("fetched");
}

/// `cargo clean` takes record and data away from a server that runs.
#[test]
fn a_server_without_its_record_is_known_by_what_it_was_started_with() {
    let Some(place) = Place::of_its_own() else {
        return;
    };
    place.run(&["up", "postgres"]);
    fs::remove_dir_all(place.file("")).expect("removed");

    assert_eq!(place.state(), "taken");
    let up = place.run(&["up", "postgres"]);

    assert!(up.contains("up after"), "{up}");
    assert_eq!(place.state(), "up");
}

#[test]
fn a_server_that_ends_at_once_shows_the_end_of_its_log() {
    let Some(place) = Place::of_its_own() else {
        return;
    };
    place.run(&["up", "postgres"]);
    place.run(&["down", "postgres"]);
    fs::remove_file(place.file("data/PG_VERSION")).expect("removed");

    let refusal = place.refused(&["up", "postgres"]);
    assert!(refusal.contains("postgres: it ended at once"), "{refusal}");
    assert!(refusal.contains("PG_VERSION"), "{refusal}");

    place.run(&["up", "--fresh", "postgres"]);
    assert_eq!(place.state(), "up");
}

#[test]
fn a_server_of_somebody_else_is_used_and_left_alone() {
    let Some(theirs) = Place::of_its_own() else {
        return;
    };
    let ours = Place::of_its_own().expect("as before");
    theirs.run(&["up", "postgres"]);
    let url = theirs.standing()["url"].as_str().expect("a URL").to_owned();
    let with_theirs = |arguments: &[&str]| {
        let mut command = ours.command(arguments);
        command.env("TIDINGS_TEST_POSTGRES_URL", &url);
        command.output().expect("runs")
    };

    let up = with_theirs(&["up", "--fresh", "postgres"]);
    let down = with_theirs(&["down", "postgres"]);
    let kill = with_theirs(&["kill", "-9", "postgres"]);
    let status = with_theirs(&["status", "postgres"]);

    assert!(said(&up).contains("data left alone"), "{}", said(&up));
    assert!(said(&down).contains("was down"), "{}", said(&down));
    assert!(!kill.status.success());
    assert!(said(&status).contains(&url), "{}", said(&status));
    assert_eq!(theirs.state(), "up");
    assert!(!ours.file("data").exists());

    theirs.run(&["down", "postgres"]);
    let nobody = with_theirs(&["up", "postgres"]);
    assert!(!nobody.status.success());
    assert!(
        said(&nobody).contains("does not answer"),
        "{}",
        said(&nobody)
    );
}

#[test]
fn a_checkout_below_a_closed_folder_has_a_server_too() {
    let Some(place) = Place::of_its_own() else {
        return;
    };
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(place.folder.path(), closed).expect("closed");

    place.run(&["up", "postgres"]);
    let state = place.state();
    place.run(&["down", "postgres"]);

    assert_eq!(state, "up");
    let beside = place.file("").to_string_lossy().replace('/', "-");
    let beside =
        std::env::temp_dir().join(format!("tidings-services{}", beside.trim_end_matches('-')));
    // Root's server runs as another user and keeps its data there; anybody else's in the folder itself.
    assert_ne!(beside.exists(), place.file("data").exists());
    let _ = fs::remove_dir_all(beside);
}
