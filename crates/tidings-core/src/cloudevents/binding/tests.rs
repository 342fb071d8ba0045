//! Golden messages of each transport, foreign messages, and every envelope there and back.

use super::*;
use proptest::prelude::*;

const ALL: [Binding; 4] = [
    Binding::KAFKA,
    Binding::RABBITMQ,
    Binding::NATS,
    Binding::HTTP,
];

const ORIGIN: Origin<'_> = Origin {
    place: &"events/3/1042",
    source: &"kafka://events",
    key: Some("order-9"),
    event_type: None,
    timestamp: None,
};

fn read(binding: Binding, message: &Message) -> Carried {
    let headers: Vec<(&str, &[u8])> = message
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    binding.read(Incoming {
        content_type: message.content_type.as_deref(),
        headers: &headers,
        body: Some(Body::Shared(&message.body)),
        origin: ORIGIN,
    })
}

fn foreign(content_type: Option<&str>, headers: &[(&str, &[u8])], body: &'static [u8]) -> Carried {
    Binding::KAFKA.read(Incoming {
        content_type,
        headers,
        body: Some(Body::Borrowed(body)),
        origin: ORIGIN,
    })
}

fn order() -> Envelope {
    Envelope::from_json(r#"{"event_id":"evt 1","event_type":"order.placed.v2","aggregate_id":"bestellung-é","timestamp":"2024-01-15T10:30:00.10Z","version":2,"source":"order-service","correlation_id":"c-1","causation_id":"c-0","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","X_Tenant":{"a":[1.0]},"payload":{"total": 59.980}}"#).unwrap()
}

fn names_and_values(message: &Message) -> Vec<(&str, &str)> {
    let pairs = message.headers.iter();
    pairs
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn kafka_has_attributes_as_plain_headers() {
    let message = Binding::KAFKA.write(&order());
    assert_eq!(message.content_type, None);
    assert_eq!(message.body.as_ref(), br#"{"total": 59.980}"#);
    assert_eq!(
        names_and_values(&message),
        [
            ("ce_specversion", "1.0"),
            ("ce_id", "evt 1"),
            ("ce_source", "order-service"),
            ("ce_type", "order.placed.v2"),
            ("ce_subject", "bestellung-é"),
            ("ce_time", "2024-01-15T10:30:00.10Z"),
            ("ce_dataversion", "2"),
            ("ce_correlationid", "c-1"),
            ("ce_causationid", "c-0"),
            (
                "ce_traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            ),
            ("ce_tdgattributes", r#"{"X_Tenant":{"a":[1.0]}}"#),
        ]
    );
}

#[test]
fn nats_and_http_encode_what_a_header_cannot_hold() {
    let nats = Binding::NATS.write(&order());
    assert!(names_and_values(&nats).contains(&("ce-id", "evt%201")));
    assert!(names_and_values(&nats).contains(&("ce-subject", "bestellung-%C3%A9")));
    assert_eq!(nats.headers, Binding::HTTP.write(&order()).headers);

    let mut parts = order().into_parts();
    parts.content_type = Some("text/plain".to_owned());
    parts.payload = Some(Payload::binary("hello"));
    let text = Envelope::new(parts).unwrap();
    let nats = Binding::NATS.write(&text);
    assert!(names_and_values(&nats).contains(&("ce-datacontenttype", "text/plain")));
    assert_eq!(nats.content_type, None);
    let http = Binding::HTTP.write(&text);
    assert_eq!(http.content_type.as_deref(), Some("text/plain"));
    assert!(
        http.headers
            .iter()
            .all(|(name, _)| name != "ce-datacontenttype")
    );
}

#[test]
fn rabbitmq_has_the_prefix_that_amqp_1_0_consumers_know() {
    let message = Binding::RABBITMQ.write(&order());
    assert!(names_and_values(&message).contains(&("cloudEvents_id", "evt 1")));
}

#[test]
fn what_binary_mode_would_change_travels_as_one_document() {
    for line in [
        r#"{"event_id":"a","event_type":"t"}"#,
        r#"{"event_id":"a","event_type":"t","payload_base64":"eyJhIjoxfQ=="}"#,
        r#"{"event_id":"a","event_type":"t","content_type":"text/plain","payload":"x"}"#,
        r#"{"event_id":"a","event_type":"t","count":5,"payload":1}"#,
        r#"{"event_id":"a","event_type":"t","flag":true,"payload":1}"#,
    ] {
        let envelope = Envelope::from_json(line).unwrap();
        for binding in ALL {
            let message = binding.write(&envelope);
            assert_eq!(
                message.content_type.as_deref(),
                Some("application/cloudevents+json; charset=utf-8"),
                "{line}"
            );
            assert_eq!(read(binding, &message).envelope, envelope);
        }
    }
}

#[test]
fn every_spelling_of_the_prefix_is_read_everywhere() {
    for prefix in ["ce_", "ce-", "CE-", "cloudEvents_", "cloudEvents:"] {
        let headers: Vec<(String, String)> = [
            ("specversion", "1.0"),
            ("id", "7"),
            ("source", "/s"),
            ("Type", "order.placed"),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{prefix}{name}"), value.to_owned()))
        .collect();
        for binding in ALL {
            let message = Message {
                content_type: Some("application/json".to_owned()),
                headers: headers.clone(),
                body: Bytes::from_static(b"{}"),
            };
            let carried = read(binding, &message);
            assert_eq!(carried.problem, None);
            assert_eq!(carried.envelope.event_id(), "7", "{prefix}");
        }
    }
}

#[test]
fn http_values_are_decoded_as_the_binding_says() {
    let read = |value: &[u8]| {
        Binding::HTTP.read(Incoming {
            content_type: None,
            headers: &[
                ("ce-specversion", b"1.0"),
                ("ce-id", b"1"),
                ("ce-source", b"s"),
                ("ce-type", b"t"),
                ("ce-subject", value),
            ],
            body: Some(Body::Borrowed(b"1")),
            origin: ORIGIN,
        })
    };
    for (given, expected) in [
        (&b"a%20b"[..], "a b"),
        (b"\"quoted\"", "quoted"),
        (b"%c3%a9", "é"),
    ] {
        assert_eq!(read(given).envelope.aggregate_id(), Some(expected));
    }
    let problem = read(b"%C0%A0").problem.unwrap();
    assert!(problem.contains("subject is not UTF-8"), "{problem}");
}

#[test]
fn plain_json_becomes_an_event_with_what_the_transport_knows() {
    let carried = foreign(None, &[("retries", b"3")], br#"{"total": 5}"#);

    assert_eq!(carried.problem, None);
    let envelope = carried.envelope;
    assert_eq!(envelope.event_id(), "events/3/1042");
    assert_eq!(envelope.event_type().as_str(), FOREIGN_TYPE);
    assert_eq!(envelope.source(), Some("kafka://events"));
    assert_eq!(envelope.aggregate_id(), Some("order-9"));
    assert_eq!(envelope.payload_bytes(), br#"{"total": 5}"#);

    let seed = foreign(
        Some("application/json"),
        &[],
        br#"{"event_id":"e","event_type":"order.placed","payload":1}"#,
    );
    assert_eq!(seed.envelope.event_id(), "e");
}

#[test]
fn what_is_no_event_keeps_its_bytes_and_says_why() {
    let binary: &[(&str, &[u8])] = &[("ce_specversion", b"1.0"), ("ce_id", b"1")];
    let old: &[(&str, &[u8])] = &[
        ("ce_specversion", b"0.3"),
        ("ce_id", b"1"),
        ("ce_source", b"s"),
        ("ce_type", b"t"),
    ];
    for (content_type, headers, body, word) in [
        (
            None,
            &[][..],
            &b"\xff\x00garbage"[..],
            "neither a CloudEvent nor JSON",
        ),
        (Some("text/csv"), &[], b"a;b", "\"text/csv\""),
        (None, binary, b"1", "source is missing"),
        (None, old, b"1", "must be \"1.0\""),
        (
            Some("application/cloudevents+json"),
            &[],
            b"{}",
            "is missing",
        ),
        (
            Some("application/cloudevents-batch+json"),
            &[],
            b"[]",
            "over HTTP only",
        ),
    ] {
        let carried = foreign(content_type, headers, body);
        let problem = carried.problem.expect("no event");
        assert!(problem.contains(word), "{problem}");
        assert_eq!(carried.envelope.payload_bytes(), body);
        assert_eq!(carried.envelope.event_id(), "events/3/1042");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 _.%éß✓\"\\\\{}-]{0,12}"
}

prop_compose! {
    fn envelopes()(
        id in "[a-z0-9é%-]{1,12}",
        event_type in "[a-zA-Z_.✓]{1,12}",
        [aggregate_id, source, correlation_id, causation_id] in prop::array::uniform4(prop::option::of(text())),
        content_type in prop::option::of(prop_oneof![
            text(),
            Just("application/json".to_owned()),
            Just("application/vnd.x+json; a=b".to_owned()),
            Just("application/cloudevents+json".to_owned()),
            Just("application/octet-stream".to_owned()),
        ]),
        version in prop::option::of(any::<u32>()),
        micros in prop::option::of(-2_000_000_000_000_000_i64..4_000_000_000_000_000),
        names in prop::collection::btree_set("[a-zA-Z_0-9]{1,10}", 0..5),
        payload in prop::option::of(prop_oneof![
            text().prop_map(|text| Payload::json(serde_json::to_vec(&text).unwrap()).unwrap()),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Payload::binary),
        ]),
    ) -> Envelope {
        let values = ["1", "\"é %\"", "1e3", "\"x\"", "null", "{\"a\":[1,2.50]}", "true", "\"\"", "\"\\u0041\""];
        let mut parts = EnvelopeParts::new(id, event_type);
        parts.extensions = names.into_iter().enumerate()
            .filter(|(_, name)| !envelope_json::NAMES.contains(&name.as_str()))
            .map(|(index, name)| (name, values[index % values.len()].to_owned()))
            .collect();
        parts.timestamp = micros.map(|micros| Timestamp::from_micros(micros).into());
        (parts.aggregate_id, parts.source, parts.correlation_id) = (aggregate_id, source, correlation_id);
        (parts.causation_id, parts.content_type, parts.version, parts.payload) = (causation_id, content_type, version, payload);
        Envelope::new(parts).unwrap()
    }
}

/// With its extensions by name: the overflowing ones come back behind the others.
fn by_name(envelope: &Envelope) -> EnvelopeParts {
    let mut parts = envelope.parts();
    parts.extensions.sort();
    parts
}

proptest! {
    #[test]
    fn every_envelope_comes_back_from_every_transport(envelope in envelopes()) {
        for binding in ALL {
            let carried = read(binding, &binding.write(&envelope));
            prop_assert_eq!(&carried.problem, &None);
            prop_assert_eq!(by_name(&carried.envelope), by_name(&envelope));
        }
    }

    #[test]
    fn no_message_makes_it_fail(content_type in prop::option::of(".{0,20}"), name in "(ce_|ce-)?[a-z]{0,12}", value in prop::collection::vec(any::<u8>(), 0..12), body in prop::collection::vec(any::<u8>(), 0..60)) {
        let body = Bytes::from(body);
        for binding in ALL {
            let carried = binding.read(Incoming {
                content_type: content_type.as_deref(),
                headers: &[("ce_specversion", b"1.0"), (name.as_str(), value.as_slice())],
                body: Some(Body::Shared(&body)),
                origin: ORIGIN,
            });
            prop_assert!(carried.problem.is_some());
        }
    }
}

#[test]
fn a_body_that_ends_with_its_message_reads_as_one_that_is_kept() {
    let long = "x".repeat(crate::limits::ENVELOPE_PAYLOAD_INLINE_BYTES_MAX);
    for (content_type, body) in [
        ("application/json", "{}".to_owned()),
        ("application/json", format!("\"{long}\"")),
        ("text/plain", long.clone()),
        ("application/cloudevents+json", "{".to_owned()),
        ("image/png", String::new()),
    ] {
        for headers in [
            &[
                ("ce_specversion", &b"1.0"[..]),
                ("ce_id", b"7"),
                ("ce_source", b"/s"),
                ("ce_type", b"order.placed"),
                ("ce_Tenant", b"a"),
                ("ce_dataversion", b"007"),
            ][..],
            &[],
        ] {
            let shared = Bytes::from(body.clone());
            let incoming = |body| Incoming {
                content_type: Some(content_type),
                headers,
                body: Some(body),
                origin: ORIGIN,
            };
            let kept = Binding::KAFKA.read(incoming(Body::Shared(&shared)));
            let copied = Binding::KAFKA.read(incoming(Body::Borrowed(body.as_bytes())));

            assert_eq!(kept, copied);
            if kept.problem.is_none() && !headers.is_empty() {
                // Small letters, and a number that would be printed in another way stays as it is.
                assert_eq!(kept.envelope.extension("tenant"), Some("\"a\""));
                assert_eq!(kept.envelope.extension(DATA_VERSION), Some("\"007\""));
            }
        }
    }
}

#[test]
fn the_order_of_headers_matters_where_there_are_extensions_or_one_twice() {
    let plain: [(&str, &[u8]); 4] = [
        ("ce-id", b"7"),
        ("CE-Source", b"/s"),
        ("ce-type", b"a.b"),
        ("x-other", b""),
    ];
    assert!(!order_matters(&plain));
    for more in ["ce-tenant", "ce_ID"] {
        let headers = [&plain[..], &[(more, b"x")]].concat();
        assert!(order_matters(&headers), "{more}");
    }
}

#[test]
fn a_foreign_message_has_the_type_that_its_transport_prints() {
    let read = |event_type: &str| {
        let origin = Origin {
            event_type: Some(&event_type),
            ..ORIGIN
        };
        let body = Body::Borrowed(b"{}");
        let incoming = Incoming {
            content_type: None,
            headers: &[],
            body: Some(body),
            origin,
        };
        let carried = Binding::NATS.read(incoming);
        assert!(format!("{incoming:?}").contains("events/3/1042"));
        carried.envelope.event_type().as_str().to_owned()
    };

    assert_eq!(read("shop.opened"), "shop.opened");
    assert_eq!(read(""), FOREIGN_TYPE);
}
