//! The pages of fields say what is printed: every field of the output stands on them.

use crate::command::{Answer, Place, tidings};
use serde_json::Value;

const PAGE: &str = include_str!("../../../../docs/reference/looks.md");

/// The part of the page under a heading that names the command.
fn part(command: &str) -> &'static str {
    let heading = format!("`{command}`");
    let mut parts = PAGE.split("\n## ").skip(1);
    parts
        .find(|part| part.lines().next().unwrap().contains(&heading))
        .unwrap_or_else(|| panic!("no heading names {command}"))
}

/// Every field of every object is named under the heading of the command.
fn is_documented(command: &str, printed: &Value) {
    let part = part(command);
    match printed {
        Value::Array(all) => {
            assert!(!all.is_empty(), "{command} prints nothing to look at");
            all.iter().for_each(|one| is_documented(command, one));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                assert!(
                    part.contains(&format!("`{name}`")),
                    "{command} prints {name}, which its page does not tell"
                );
                if name == "measures" {
                    is_documented(command, value);
                }
            }
        }
        other => panic!("{command} prints {other}"),
    }
}

#[test]
fn every_field_that_is_printed_stands_on_the_page_of_its_command() {
    let place = Place::new();
    place.import(r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#);
    let run = |arguments: &[&str]| -> Answer { tidings(arguments).data(&place.data()).ok() };
    let fails = ["--exec", "sh -c 'exit 75'", "--attempts", "1"];
    let running = tidings(["consumer", "run", "bad", "--type", "order.*"])
        .arguments(fails)
        .arguments(["--later", "1h"])
        .data(&place.data())
        .start();
    running.heard("later  first");
    running.kill();
    run(&["retry", "now", "--consumer", "bad"]);
    let add = ["schedule", "add", "order.expired", "--every", "0 9 * * MON"];

    let json = |arguments: &[&str]| run(&[arguments, &["-o", "json"]].concat()).json();
    is_documented("event explain", &json(&["event", "explain", "first"]));
    is_documented("schedule add", &json(&add));
    is_documented("schedule ls", &json(&["schedule", "ls"]));
    is_documented("dlq actions", &json(&["dlq", "actions"]));
    is_documented("alert test", &json(&["alert", "test"]));
    let check = ["check", "lag", "--format", "json", "--warn", "100"];
    is_documented("check --format json", &run(&check).json());
}
