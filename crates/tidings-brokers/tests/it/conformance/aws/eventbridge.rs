//! Buses of EventBridge.

use super::{Aws, Kind, Place};
use crate::aws::{clock, events};
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, Target};
use bytes::Bytes;
use std::sync::Arc;
use tidings_brokers::EventBridgeBroker;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_testkit::conformance::broker::{RawMessage, Unavailable, unavailable};

struct Bus;

const RULE: &str = "foreign";

impl Kind for Bus {
    const NAME: &'static str = "eventbridge";
    const TEST: &'static str = "conformance::aws::eventbridge::eventbridge_conforms";
    const NUMBER: u16 = 2;
    const SCHEME: &'static str = "eventbridge";
    const PLACE: &'static str = "bus";

    fn connect(address: &str) -> BoxFuture<'_, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            let broker = EventBridgeBroker::connect(&address.parse()?, clock()).await?;
            Ok(Arc::new(broker) as Arc<dyn Broker>)
        })
    }

    fn remove(place: Place<'_>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let client = events(place.host);
            let removing = client.delete_event_bus().name(place.name).send();
            // A place that nobody connected to has none.
            let _removed = removing.await;
        })
    }

    fn garbage() -> Bytes {
        Bytes::from_static(b"garbage{")
    }

    fn send(place: Place<'_>, message: RawMessage) -> BoxFuture<'_, Result<(), Unavailable>> {
        let detail = String::from_utf8(message.body.to_vec()).unwrap();
        if serde_json::from_str::<serde_json::Value>(&detail).is_err() {
            return unavailable(
                "EventBridge takes an object of JSON with a type and a source, and each of them is an event",
            );
        }
        Box::pin(async move {
            let entry = PutEventsRequestEntry::builder()
                .event_bus_name(place.name)
                .source("foreign")
                .detail_type(message.event_type)
                .detail(detail);
            let sending = events(place.host)
                .put_events()
                .entries(entry.build())
                .send();
            assert_eq!(sending.await.unwrap().failed_entry_count(), 0);
            Ok(())
        })
    }

    fn forward(place: Place<'_>, queue: String) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let client = events(place.host);
            let ruling = client.put_rule().name(RULE).event_bus_name(place.name);
            let ruling = ruling.event_pattern(r#"{"detail-type":[{"exists":true}]}"#);
            ruling.send().await.unwrap();
            let target = Target::builder().id(RULE).arn(queue).build().unwrap();
            let aiming = client.put_targets().rule(RULE).event_bus_name(place.name);
            aiming.targets(target).send().await.unwrap();
        })
    }

    fn unpacked(body: &str) -> String {
        let message: serde_json::Value = serde_json::from_str(body).unwrap();
        message["detail"].to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eventbridge_conforms() {
    Aws::<Bus>::conforms().await;
}
