//! What arrives is what was published: B1, B2, B3, B4.

use super::fixture::RawMessage;
use super::ground::{Ground, IDLE_MAX, assert_seen, declared, event, publish};
use super::member::Member;
use super::report::Verdict;
use std::sync::Arc;
use tidings_core::broker::Broker;
use tidings_core::cloudevents::binding;
use tidings_core::limits::{ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, PAYLOAD_BYTES_MAX};
use tidings_core::{Envelope, EnvelopeParts, EventType, Payload, Timestamp};

/// Texts that have broken encodings before.
const TEXTS: &[&str] = &[
    "plain",
    "with space",
    "Łódź – 東京 🦀",
    "per%20cent 100%",
    "quote\"back\\slash'",
    " leading and trailing ",
    "e\u{301} combining",
    "שלום",
];

/// Texts that only extensions may have: control characters.
const CONTROLS: &[&str] = &["line\nbreak\tand\r\n", "\u{1}control\u{7f}"];

/// Extensions: legal names, and those that no CloudEvents transport can have.
const NAMES: &[&str] = &[
    "tenant",
    "traceparent",
    "a1",
    "Tenant-Id",
    "with_underscore",
    "naïve",
    "data",
    "specversion",
    "ce_type",
];
/// What is declared where a message is one JSON document.
const STRUCTURED_ALONE: &str = "a message is one JSON document: structured events alone were looked at, there are no binary ones";
const TRACEPARENT: &str = "\"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"";

/// B1: envelopes made by chance, every attribute there or not.
pub(super) async fn envelopes(ground: Arc<Ground>) -> Verdict {
    let seed = fastrand::Rng::new().u64(..);
    eprintln!("B1 on {}: seed {seed}", ground.fixture.name());
    let mut chance = fastrand::Rng::with_seed(seed);
    let count = ground.count(1_000, 100);
    let events: Vec<_> = (0..count)
        .map(|number| any_envelope(&mut chance, number))
        .collect();
    round_trip(&ground, "b1", &events).await;
    Verdict::Pass
}

/// Publishes, reads, and compares whatever the order of attributes.
async fn round_trip(ground: &Ground, group: &str, events: &[Envelope]) {
    let broker = ground.connect().await;
    let mut member = Member::join(ground, &*broker, group).await;
    publish(&*broker, events).await;
    let seen = member.read(ground, events.len()).await;
    let published: Vec<_> = events.iter().map(sorted).collect();
    let seen: Vec<_> = seen.iter().map(sorted).collect();
    assert_seen(&published, &seen, 1);
}

/// The same envelope with its extensions in the order of their names: a transport may carry them in another.
fn sorted(envelope: &Envelope) -> Envelope {
    let mut parts = envelope.parts();
    parts.extensions.sort();
    Envelope::trusted(parts)
}

fn any_envelope(chance: &mut fastrand::Rng, number: usize) -> Envelope {
    let mut parts = EnvelopeParts::new(format!("b1-{number}"), "order.placed");
    if chance.bool() {
        parts.event_type = EventType::carried("order.placed.v2").unwrap();
    }
    parts.aggregate_id = any_text(chance);
    parts.source = any_text(chance);
    parts.correlation_id = any_text(chance);
    parts.causation_id = any_text(chance);
    parts.version = chance.bool().then(|| chance.u32(1..1_000));
    if chance.bool() {
        let micros = chance.i64(0..4_000_000_000_000_000);
        parts.timestamp = Some(Timestamp::from_micros(micros).into());
    }
    for name in NAMES {
        if chance.u8(..4) == 0 {
            parts
                .extensions
                .push(((*name).to_owned(), any_value(chance, name)));
        }
    }
    (parts.payload, parts.content_type) = any_payload(chance);
    match Envelope::new(parts.clone()) {
        Ok(envelope) => envelope,
        Err(error) => panic!("the suite made an envelope that is none: {error}: {parts:?}"),
    }
}

fn any_text(chance: &mut fastrand::Rng) -> Option<String> {
    chance.bool().then(|| any_of(chance, TEXTS).to_owned())
}

fn any_of<'a>(chance: &mut fastrand::Rng, texts: &[&'a str]) -> &'a str {
    texts[chance.usize(..texts.len())]
}

fn any_value(chance: &mut fastrand::Rng, name: &str) -> String {
    if name == "traceparent" {
        return TRACEPARENT.to_owned();
    }
    match chance.u8(..8) {
        0 => "true".to_owned(),
        1 => "42".to_owned(),
        2 => "{\"nested\":[1,2.50,null]}".to_owned(),
        3 => "\"\"".to_owned(),
        4 => serde_json::to_string(any_of(chance, CONTROLS)).unwrap(),
        _ => serde_json::to_string(any_of(chance, TEXTS)).unwrap(),
    }
}

fn any_payload(chance: &mut fastrand::Rng) -> (Option<Payload>, Option<String>) {
    match chance.u8(..6) {
        0 => (None, None),
        1 => (Some(Payload::json("null").unwrap()), None),
        2 => (
            Some(Payload::json("{\"n\": 1.0, \"n2\":1e2}").unwrap()),
            None,
        ),
        3 => (
            Some(Payload::json("\"text\"").unwrap()),
            Some("application/json".to_owned()),
        ),
        4 => {
            let bytes: Vec<u8> = (0..chance.usize(..300)).map(|_| chance.u8(..)).collect();
            (
                Some(Payload::binary(bytes)),
                Some("application/octet-stream".to_owned()),
            )
        }
        _ => (
            Some(Payload::binary("plain text")),
            Some("text/plain; charset=utf-8".to_owned()),
        ),
    }
}

/// B2: attribute values of every script, with control characters, empty, as many as allowed, and as long as allowed.
pub(super) async fn attributes(ground: Arc<Ground>) -> Verdict {
    let with = |id: &str, extensions: Vec<(String, String)>| {
        let mut parts = EnvelopeParts::new(id, "order.placed");
        parts.payload = Some(Payload::json("{}").unwrap());
        parts.extensions = extensions;
        Envelope::new(parts).unwrap()
    };
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let mut events: Vec<_> = TEXTS
        .iter()
        .chain(CONTROLS)
        .enumerate()
        .map(|(number, value)| {
            with(
                &format!("text-{number}"),
                vec![("note".to_owned(), text(value))],
            )
        })
        .collect();
    events.push(with("empty", vec![("note".to_owned(), text(""))]));
    let many = (0..ATTRIBUTES_MAX).map(|number| (format!("attribute{number}"), text("value")));
    events.push(with("many", many.collect()));
    let long = "x".repeat(ATTRIBUTE_VALUE_BYTES_MAX - 2);
    events.push(with("large", vec![("note".to_owned(), text(&long))]));
    round_trip(&ground, "b2", &events).await;
    Verdict::Pass
}

/// B3: no bytes and as many as allowed arrive; one more is refused for good, and its neighbours are not concerned.
pub(super) async fn payloads(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let most = broker.capabilities().payload_bytes_max;
    let of = |id: &str, bytes: usize| {
        let mut parts = EnvelopeParts::new(id, "order.placed");
        parts.aggregate_id = Some(id.to_owned());
        parts.content_type = Some("application/octet-stream".to_owned());
        parts.payload = Some(Payload::binary(vec![0xa7; bytes]));
        Envelope::new(parts)
    };
    let events = [
        of("none", 0).unwrap(),
        of("one", 1).unwrap(),
        of("most", most).unwrap(),
    ];
    let mut member = Member::join(&ground, &*broker, "b3").await;
    publish(&*broker, &events).await;
    assert_seen(&events, &member.read(&ground, events.len()).await, 1);
    if most >= PAYLOAD_BYTES_MAX {
        // The limit of every envelope is the broker's too: what is above cannot be made.
        let above = of("above", most + 1);
        assert!(above.is_err(), "an envelope above the limit was made");
        return Verdict::Pass;
    }
    // The declared limit leaves room for attributes; with few of them the broker may take a little more, but never so much.
    let above = of("above", PAYLOAD_BYTES_MAX).unwrap();
    let neighbours = [of("before", 1).unwrap(), above, of("behind", 1).unwrap()];
    let outcomes = broker.publish(&neighbours).await;
    let [Ok(_), Err(error), Ok(_)] = outcomes.as_slice() else {
        panic!("one event of three is too large, and the outcomes are {outcomes:?}");
    };
    assert!(
        error.is_about_the_event() && !error.may_have_happened(),
        "{error:?}"
    );
    let accepted = [neighbours[0].clone(), neighbours[2].clone()];
    assert_seen(&accepted, &member.read(&ground, 2).await, 1);
    Verdict::Pass
}

/// B4: a foreign producer's event in binary and in structured mode is the same envelope; what we send is a conformant event to a foreign consumer.
pub(super) async fn modes(ground: Arc<Ground>) -> Verdict {
    let broker = ground.connect().await;
    let mut member = Member::join(&ground, &*broker, "b4").await;
    let mut foreign = event("k", 0).into_parts();
    foreign
        .extensions
        .push(("tenant".to_owned(), "\"Łódź\"".to_owned()));
    foreign
        .extensions
        .push(("traceparent".to_owned(), TRACEPARENT.to_owned()));
    let foreign = Envelope::new(foreign).unwrap();
    let mut messages = vec![binding::structured(&foreign)];
    messages.extend(
        ground
            .fixture
            .binding()
            .map(|binding| binding.write(&foreign)),
    );
    let sent = messages.len();
    for message in messages {
        let raw = RawMessage {
            event_type: "order.placed".to_owned(),
            key: Some("k".to_owned()),
            content_type: message.content_type,
            headers: message.headers,
            body: message.body,
        };
        if let Err(reason) = ground.fixture.send_raw(&ground.address, raw).await {
            return declared(&reason);
        }
    }
    let received = member.take(sent).await;
    for delivery in &received {
        assert_eq!(delivery.problem, None);
        assert_eq!(
            sorted(&delivery.envelope),
            sorted(&foreign),
            "a foreign event"
        );
    }
    member.acknowledge(&received).await;
    assert!(member.read_on(&ground).await.is_empty());
    on_the_wire(&ground, &*broker).await
}

/// What a foreign consumer sees of an event of ours.
async fn on_the_wire(ground: &Ground, broker: &dyn Broker) -> Verdict {
    let mut listener = match ground.fixture.listen_raw(&ground.address).await {
        Ok(listener) => listener,
        Err(reason) => return declared(&reason),
    };
    let ours = event("wire", 0);
    publish(broker, std::slice::from_ref(&ours)).await;
    let message = loop {
        let next = tokio::time::timeout(IDLE_MAX, listener.next()).await;
        let message = next.expect("a foreign consumer sees it").expect("readable");
        let text = String::from_utf8_lossy(&message.body);
        let names_it = |(_, value): &(String, String)| value.contains(ours.event_id());
        if text.contains(ours.event_id()) || message.headers.iter().any(names_it) {
            break message;
        }
    };
    let Some(binding) = ground.fixture.binding() else {
        let event: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(
            (&event["id"], &event["type"]),
            (&ours.event_id().into(), &"order.placed".into())
        );
        return Verdict::Declared(STRUCTURED_ALONE.to_owned());
    };
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("id", ours.event_id()),
        ("type", "order.placed"),
    ] {
        let name = format!("{}{attribute}", binding.prefix);
        let header = message.headers.iter().find(|(header, _)| *header == name);
        assert_eq!(
            header.map(|(_, value)| value.as_str()),
            Some(value),
            "the header {name}"
        );
    }
    assert_eq!(
        message.body,
        ours.payload_bytes(),
        "the body is the payload"
    );
    Verdict::Pass
}
