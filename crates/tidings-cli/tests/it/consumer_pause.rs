//! `tidings consumer pause`, `resume` and `skip` of a group that nobody knows: a mistyped name is told, and nothing is written.

use crate::command::{Answer, Place, Tidings, tidings};
use crate::table::{Kind, Table, kinds};

const SKIP: [&str; 4] = ["skip", "first", "--reason", "a test"];

/// Handles what there is.
fn handle(place: &Place, group: &str) -> Tidings {
    let run = ["consumer", "run", group, "--type", "order.*"];
    tidings(run)
        .arguments(["--exec", "true", "--until-end"])
        .data(&place.data())
}

/// A decision about a group.
fn decide(group: &str, what: &[&str]) -> Tidings {
    let (word, more) = what.split_first().unwrap();
    tidings(["consumer", word, group]).arguments(more)
}

fn refused(answer: &Answer, words: &[&str]) {
    assert_eq!(answer.code, Some(3), "{}", answer.stderr);
    for words in [&["TD0031", "\"shiping\""][..], words].concat() {
        assert!(answer.stderr.contains(words), "{words}: {}", answer.stderr);
    }
}

/// How many actions of persons are recorded.
fn actions(place: &[&str]) -> usize {
    let actions = tidings(["dlq", "actions", "-o", "json"]).arguments(place);
    actions.ok().json().as_array().unwrap().len()
}

fn shop() -> Place {
    let place = Place::new();
    place.import(r#"{"event_id":"first","event_type":"order.placed","aggregate_id":"k"}"#);
    handle(&place, "shipping").ok();
    place
}

#[test]
fn a_mistyped_group_is_neither_paused_nor_resumed_and_passes_over_nothing() {
    let place = shop();
    let data = place.data();
    let here = ["--data", data.to_str().unwrap()];

    let mistyped = |what: &[&str]| decide("shiping", what).data(&data).run();
    refused(&mistyped(&["pause"]), &["it names shipping", "--new-group"]);
    refused(&mistyped(&["resume"]), &["it names shipping"]);
    refused(&mistyped(&SKIP), &["it names shipping"]);

    assert_eq!(actions(&here), 0);
    let letters = ["dlq", "ls", "--all", "-o", "json"];
    let letters = tidings(letters).data(&data).ok().json();
    assert_eq!(letters, serde_json::json!([]));
    decide("shipping", &["pause"]).data(&data).ok();
    decide("shipping", &["resume"]).data(&data).ok();
    assert_eq!(actions(&here), 2);
}

#[test]
fn a_group_that_has_not_begun_is_paused_where_that_is_said() {
    let place = shop();
    let data = place.data();
    refused(&decide("shiping", &["pause"]).data(&data).run(), &[]);

    let new = ["pause", "--new-group", "--reason", "not yet"];
    decide("shiping", &new).data(&data).ok();

    let run = ["consumer", "run", "shiping", "--type", "order.*"];
    let running = tidings(run).arguments(["--exec", "true"]).data(&data);
    running.start().heard("paused  not yet");
    decide("shiping", &["resume"]).data(&data).ok();
    handle(&place, "shiping").ok();
}

#[test]
fn a_group_of_which_a_shared_store_has_never_heard_is_refused_unless_it_is_new() {
    for kind in kinds() {
        let test = "a_group_of_which_a_shared_store_has_never_heard_is_refused_unless_it_is_new";
        let Some(table) = Table::fresh(kind, test) else {
            continue;
        };
        table.migrate();
        let store = ["--store", table.url()];
        let shared = |group: &str, what: &[&str]| decide(group, what).arguments(store);

        refused(&shared("shiping", &["pause"]).run(), &["--new-group"]);
        refused(&shared("shiping", &["resume"]).run(), &[]);
        refused(&shared("shiping", &SKIP).run(), &[]);
        assert_eq!(actions(&store), 0, "{kind:?}");

        shared("billing", &["pause", "--new-group"]).ok();
        shared("billing", &["resume"]).ok();
        shared("billing", &["pause"]).ok();
        assert_eq!(actions(&store), 3, "{kind:?}");
        let named = shared("shiping", &["pause"]).run();
        refused(&named, &["it names billing"]);

        // A group of a folder is known by its log, whatever it keeps in the store.
        let place = shop();
        let handled = handle(&place, "shipping").arguments(store).ok();
        assert!(!handled.stderr.contains("error["), "{}", handled.stderr);
        shared("shipping", &["pause"]).data(&place.data()).ok();
        if kind != Kind::Sqlite {
            handle(&place, "mailer").arguments(store).ok();
            shared("mailer", &["pause"]).ok();
        }
    }
}
