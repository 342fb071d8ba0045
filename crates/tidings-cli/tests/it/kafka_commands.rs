//! What tidings tells a person to run on Kafka is run, to the letter, with Kafka's own tools.

use crate::brokers::{self, Broker};
use crate::brokers_bad_input::refused;
use crate::command::{Answer, Place, Tidings, tidings};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// The folder of the jars; without it the tools are those that the machine has.
const TOOLS: &str = "TIDINGS_TEST_KAFKA_TOOLS";

/// Kafka's tools, by the names under which Kafka is shipped with them.
struct Tools {
    place: Place,
}

impl Tools {
    fn new() -> Self {
        let place = Place::new();
        if let Ok(jars) = std::env::var(TOOLS) {
            for (name, class) in [
                ("kafka-topics.sh", "TopicCommand"),
                ("kafka-acls.sh", "AclCommand"),
            ] {
                let text = format!(
                    "#!/bin/sh\nexec java -Xmx128m -cp '{jars}/*' org.apache.kafka.tools.{class} \"$@\"\n"
                );
                let script = place.write(name, text);
                std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        Self { place }
    }

    /// Runs a line as a shell does.
    fn run(&self, line: &str) {
        let folder = self.place.file("");
        let path = std::env::var("PATH").unwrap_or_default();
        let answer = Command::new("sh")
            .args(["-c", line])
            .env("PATH", format!("{}:{path}", folder.display()))
            .output()
            .unwrap();
        assert!(
            answer.status.success(),
            "{line}: {}{}\n{TOOLS} is where the jars of Kafka are: target/services/kafka-VERSION/lib once `cargo xtask services up kafka` has run",
            String::from_utf8_lossy(&answer.stdout),
            String::from_utf8_lossy(&answer.stderr)
        );
    }
}

fn emit(url: &str) -> Tidings {
    tidings(["emit", "order.placed", "--key", "order-1", "--url", url])
}

fn handle(url: &str) -> Tidings {
    tidings(["consumer", "run", "mailer", "--type", "**", "--until-end"])
        .arguments(["--exec", "sh -c 'cat > /dev/null'", "-o", "json"])
        .arguments(["--url", url])
}

/// The command in an error.
fn way_out(answer: &Answer) -> String {
    let (_, behind) = answer.stderr.split_once("make it: ").unwrap();
    behind.lines().next().unwrap().to_owned()
}

/// A topic and a prefix of groups that nobody else has.
fn topic_of(broker: &Broker) -> &str {
    broker.url.rsplit('=').next().unwrap()
}

#[test]
fn a_missing_topic_that_must_not_be_made_is_there_once_the_printed_command_has_run() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let topic = topic_of(&broker);
    let url = format!(
        "{}&group_prefix={topic}.&partitions=3&ensure=false",
        broker.url
    );

    let published = emit(&url).run();
    refused(&published, 3, "TD0103", topic);
    let consumed = handle(&url).run();
    refused(&consumed, 3, "TD0103", topic);
    let command = way_out(&published);
    assert_eq!(way_out(&consumed), command);
    Tools::new().run(&command);

    emit(&url).ok();
    assert_eq!(handle(&url).ok().json()["handled"], 1);
    let checked = tidings(["broker", "check", "-o", "json", "--url", &url]).ok();
    assert_eq!(checked.json()[0]["state"], "present");
}

#[test]
fn who_may_not_make_a_missing_topic_is_told_the_command_for_somebody_who_may() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let Some((secured, authority)) = brokers::kafka_with_logins() else {
        return;
    };
    let (topic, tools) = (topic_of(&broker), Tools::new());
    let (address, _) = broker
        .url
        .split_once("://")
        .unwrap()
        .1
        .split_once('?')
        .unwrap();
    for (kind, name, rights) in [
        (
            "topic",
            topic,
            "--operation Describe --operation Read --operation Write",
        ),
        ("group", topic, "--operation Describe --operation Read"),
    ] {
        tools.run(&format!(
            "kafka-acls.sh --bootstrap-server {address} --add --allow-principal User:reader --resource-pattern-type prefixed --{kind} '{name}' {rights}"
        ));
    }
    let host = secured.rsplit_once('@').unwrap().1;
    let url = format!(
        "kafka://reader:reader@{host}?tls&sasl=SCRAM-SHA-256&ca={authority}&topic={topic}&group_prefix={topic}.&partitions=2"
    );

    for answer in [emit(&url).run(), handle(&url).run()] {
        refused(&answer, 3, "TD0103", &format!("--create --topic {topic}"));
        assert!(!answer.stderr.contains("reader@"), "{}", answer.stderr);
    }
    let by_somebody = way_out(&emit(&url).run())
        .replace(host, address)
        .replace(" --command-config client.properties", "");
    tools.run(&by_somebody);

    emit(&url).ok();
    assert_eq!(handle(&url).ok().json()["handled"], 1);
}
