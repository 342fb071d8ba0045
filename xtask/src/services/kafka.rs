//! Kafka, from Maven's published jars: one node without ZooKeeper, in clear and with SASL over TLS.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::child;
use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::server::{Secured, Server};
use crate::services::site::Site;
use crate::services::tls;

pub(super) const SERVER: Server = Server {
    name: "kafka",
    variable: "TIDINGS_TEST_KAFKA_URL",
    port: 19092,
    user: None,
    needed_by_tests: true,
    version: Some(VERSION),
    is_installed: |site| {
        install::is_whole(&jars(site))
            && ["java", "openssl"]
                .iter()
                .all(|name| install::program(name).is_some())
    },
    install,
    create,
    mend: |_| Ok(()),
    start,
    url: |site| format!("kafka://127.0.0.1:{}", site.port),
    answer,
    is_secure: false,
    secured: Some(Secured {
        name: "kafka-tls",
        variable: "TIDINGS_TEST_KAFKA_TLS_URL",
        url: |site| format!("kafka://tidings:tidings@127.0.0.1:{}", secure_port(site)),
        begins_as: None,
    }),
    stop: Signal::TERM,
};

/// Newer ones may be published only in part.
const VERSION: &str = "4.3.1";

const ARTEFACTS: [[&str; 3]; 3] = [
    ["org.apache.kafka", "kafka_2.13", VERSION],
    ["org.apache.kafka", "kafka-tools", VERSION],
    ["org.slf4j", "slf4j-simple", "1.7.36"],
];

/// Any will do; the same after `--fresh`, because clients that outlive it remember it.
const CLUSTER: &str = "dGlkaW5ncy10ZXN0cy4uLg";

/// Each password is the name. `reader` is nobody's super user, so it may do nothing.
const PASSWORDS: [&str; 2] = [
    "SCRAM-SHA-256=[name=tidings,password=tidings]",
    "SCRAM-SHA-256=[name=reader,password=reader]",
];

/// Topics are made by who needs them, so that one that is missing is missing. A killed broker may come back once its
/// session has ended, so that is shorter than usual; one node is all there is.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-256
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:tidings
ssl.keystore.type=PEM
auto.create.topics.enable=false
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
num.partitions=6
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
";

fn controller_port(site: &Site) -> u16 {
    site.port + 1
}

fn secure_port(site: &Site) -> u16 {
    site.port + 2
}

/// Where a test may put a proxy: whoever asks the cluster by way of it is told to come there again.
fn advertised_port(site: &Site) -> u16 {
    site.port + 3
}

/// Where such a proxy connects to.
fn proxied_port(site: &Site) -> u16 {
    site.port + 4
}

fn jars(site: &Site) -> PathBuf {
    site.folder.with_file_name(format!("kafka-{VERSION}"))
}

/// The jars, once they are all there.
pub(super) fn installed(site: &Site) -> Option<PathBuf> {
    install::is_whole(&jars(site)).then(|| jars(site).join("lib"))
}

fn install(site: &Site) -> Result<(), Failure> {
    tls::install()?;
    for (program, package) in [("java", "default-jre-headless"), ("mvn", "maven")] {
        if install::program(program).is_none() {
            install::packages(&[package])?;
        }
    }
    install::whole(&jars(site), |folder| {
        let project = folder.join("pom.xml");
        fs::write(&project, pom()).map_err(|cause| Failure::file("write", &project, &cause))?;
        println!("fetching Kafka {VERSION} with Maven (about 54 MB)");
        let mut maven = Command::new("mvn");
        maven
            .current_dir(folder)
            .args(["-q", "-B", "dependency:copy-dependencies"])
            .arg("-DoutputDirectory=lib");
        child::quietly(&mut maven).map(drop)
    })
}

/// A project that is nothing but what it depends on.
fn pom() -> String {
    let dependencies = ARTEFACTS.map(|[group, artefact, version]| {
        format!("<dependency><groupId>{group}</groupId><artifactId>{artefact}</artifactId><version>{version}</version></dependency>")
    });
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>tidings</groupId><artifactId>kafka</artifactId><version>1</version>\
         <dependencies>{}</dependencies></project>\n",
        dependencies.concat()
    )
}

fn java(site: &Site) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-cp"])
        .arg(jars(site).join("lib").join("*"));
    java
}

fn configuration(site: &Site, data: &Path) -> Result<PathBuf, Failure> {
    let made = tls::certificates(site)?;
    let (clear, secure, controller) = (site.port, secure_port(site), controller_port(site));
    let (advertised, proxied) = (advertised_port(site), proxied_port(site));
    let path = site.folder.join("server.properties");
    let settings = [
        SETTINGS.to_owned(),
        format!("listeners=PLAINTEXT://127.0.0.1:{clear},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller},PROXIED://127.0.0.1:{proxied}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{clear},SASL_SSL://127.0.0.1:{secure},PROXIED://127.0.0.1:{advertised}"),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("ssl.keystore.location={}", made.both.display()),
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
        format!("log.dirs={}\n", data.display()),
    ];
    fs::write(&path, settings.join("\n")).map_err(|cause| Failure::file("write", &path, &cause))?;
    Ok(path)
}

fn create(site: &Site, data: &Path) -> Result<(), Failure> {
    let configuration = configuration(site, data)?;
    let mut format = java(site);
    format
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
        .arg(configuration);
    for password in PASSWORDS {
        format.args(["--add-scram", password]);
    }
    child::quietly(&mut format).map(drop)
}

fn start(site: &Site) -> Result<Command, Failure> {
    let configuration = configuration(site, &site.data())?;
    let mut kafka = java(site);
    kafka.arg("kafka.Kafka").arg(configuration);
    Ok(kafka)
}

/// Asks for the brokers of the cluster: there is one as soon as it takes requests.
fn answer(url: &str) -> Result<Option<String>, String> {
    let mut stream = connection::open(url, 9092)?;
    let io = |cause: std::io::Error| cause.to_string();
    stream.write_all(&metadata_request()).map_err(io)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(io)?;
    let mut response = Vec::new();
    stream
        .take(u32::from_be_bytes(length).into())
        .read_to_end(&mut response)
        .map_err(io)?;
    match brokers(&response) {
        Some(1..) => Ok(None),
        Some(0) => Err("no broker has joined yet".to_owned()),
        _ => Err(format!("no Kafka: {}", connection::readable(&response))),
    }
}

const CORRELATION: i32 = 0x7464;

/// Metadata, version 4: of no topic, without making any.
fn metadata_request() -> Vec<u8> {
    const CLIENT: &[u8] = b"tidings";
    let mut request = Vec::new();
    request.extend(3i16.to_be_bytes());
    request.extend(4i16.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend(7i16.to_be_bytes());
    request.extend(CLIENT);
    request.extend(0i32.to_be_bytes());
    request.push(0);
    let mut framed = u32::try_from(request.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    framed.extend(request);
    framed
}

/// How many brokers the response lists: behind the correlation and the throttle time.
fn brokers(response: &[u8]) -> Option<i32> {
    let (correlation, rest) = response.split_first_chunk()?;
    let (_throttle, rest) = rest.split_first_chunk::<4>()?;
    let (count, _) = rest.split_first_chunk()?;
    (i32::from_be_bytes(*correlation) == CORRELATION).then_some(i32::from_be_bytes(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_counts_itself_but_for_its_length() {
        let request = metadata_request();

        let length = u32::from_be_bytes([request[0], request[1], request[2], request[3]]);
        assert_eq!(usize::try_from(length).expect("short"), request.len() - 4);
    }

    #[test]
    fn brokers_are_counted_only_in_an_answer_to_our_question() {
        let answer = [0, 0, 0x74, 0x64, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9];

        assert_eq!(brokers(&answer), Some(1));
        assert_eq!(brokers(&answer[..9]), None);
        assert_eq!(brokers(b"HTTP/1.1 400 Bad"), None);
    }

    #[test]
    fn the_project_names_every_artefact() {
        let project = pom();

        assert_eq!(project.matches("<dependency>").count(), ARTEFACTS.len());
    }
}
