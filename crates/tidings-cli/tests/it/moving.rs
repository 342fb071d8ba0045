//! The way out of one machine: everything in a data folder is copied to Kafka by `tidings bridge --until-end` and compared, event by event.

use crate::brokers::{self, Broker, by_key};
use crate::command::{Place, Running, tidings, until};
use crate::real_data::{real_data, text_of};
use std::collections::HashSet;
use tidings_testkit::loan_data;

fn bridge(place: &Place, broker: &Broker) -> crate::command::Tidings {
    let from = format!("file://{}", place.data().display());
    tidings(["bridge", "--from", &from, "--to", &broker.url]).arguments([
        "--until-end",
        "-o",
        "json",
    ])
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_real_events_are_on_kafka_as_they_were_in_the_folder() {
    let (Some(broker), Some(path)) = (brokers::kafka(), real_data("loan-applications.jsonl.gz"))
    else {
        return;
    };
    let went = lines(&text_of(&path));
    let place = Place::new();
    tidings(["event", "import", "-q"])
        .argument(&path)
        .data(&place.data())
        .ok();

    let bridged = bridge(&place, &broker).ok().json();

    assert_eq!(bridged["copied"], went.len());
    assert_eq!(bridged["unreadable"], 0);
    Broker::assert_same(&broker.export(), &went);
}

/// Kills a bridge once its group has got somewhere; it may have ended before.
fn kill_on_the_way(mut running: Running, place: &Place, events: usize) {
    until("the bridge gets somewhere", || {
        let lag = tidings(["consumer", "lag", "bridge", "-o", "json"])
            .data(&place.data())
            .run();
        let begun = lag.code == Some(0) && {
            let lag = lag.json()[0]["lag_events"].as_u64();
            lag.is_some_and(|left| left < events as u64)
        };
        begun || running.has_ended()
    });
    running.kill();
}

#[test]
fn a_move_that_is_killed_goes_on_and_leaves_nothing_out() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let went: Vec<String> = loan_data::lines(600).collect();
    let place = Place::new();
    place.import(&(went.join("\n") + "\n"));

    kill_on_the_way(bridge(&place, &broker).start(), &place, went.len());
    bridge(&place, &broker).ok();

    // What was not settled yet is copied again, under the same id: the first time counts.
    let came = broker.export();
    let mut seen = HashSet::new();
    let first: Vec<String> = came
        .into_iter()
        .filter(|line| seen.insert(line.clone()))
        .collect();
    Broker::assert_same(&first, &went);
    assert_eq!(by_key(&first).len(), 600);
}
