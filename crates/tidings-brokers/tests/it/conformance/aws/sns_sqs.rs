//! Topics of SNS, standard and FIFO.

use super::{ACCOUNT, Aws, Kind, Place};
use crate::aws::{clock, sns};
use crate::server::fresh;
use aws_sdk_sns::types::MessageAttributeValue;
use bytes::Bytes;
use std::sync::Arc;
use tidings_brokers::SnsSqsBroker;
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_testkit::conformance::broker::{RawMessage, Unavailable};

struct Standard;

struct Fifo;

async fn connect(address: &str) -> Result<Arc<dyn Broker>, BrokerError> {
    let broker = SnsSqsBroker::connect(&address.parse()?, clock()).await?;
    Ok(Arc::new(broker) as Arc<dyn Broker>)
}

fn topic<K: Kind>(place: Place<'_>) -> String {
    format!(
        "arn:aws:sns:us-east-1:{ACCOUNT}:{}{}",
        place.name,
        K::ENDING
    )
}

async fn remove<K: Kind>(place: Place<'_>) {
    let client = sns(place.host);
    let removing = client.delete_topic().topic_arn(topic::<K>(place)).send();
    // A place that nobody connected to has none.
    let _removed = removing.await;
}

async fn send<K: Kind>(place: Place<'_>, message: RawMessage) {
    let client = sns(place.host);
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    let event_type = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(message.event_type);
    let mut sending = client.publish().topic_arn(topic::<K>(place)).message(text);
    sending = sending.message_attributes("type", event_type.build().unwrap());
    if !K::ENDING.is_empty() {
        sending = sending
            .message_group_id(message.key.unwrap_or_default())
            .message_deduplication_id(fresh("sent"));
    }
    sending.send().await.unwrap();
}

async fn forward<K: Kind>(place: Place<'_>, queue: String) {
    let client = sns(place.host);
    let subscribing = client.subscribe().topic_arn(topic::<K>(place));
    let subscribing = subscribing.protocol("sqs").endpoint(queue);
    let subscribing = subscribing.attributes("RawMessageDelivery", "true");
    subscribing.send().await.unwrap();
}

/// What both kinds of topics have in common.
macro_rules! topics {
    () => {
        const SCHEME: &'static str = "sns+sqs";
        const PLACE: &'static str = "topic";

        fn connect(address: &str) -> BoxFuture<'_, Result<Arc<dyn Broker>, BrokerError>> {
            Box::pin(connect(address))
        }

        fn remove(place: Place<'_>) -> BoxFuture<'_, ()> {
            Box::pin(remove::<Self>(place))
        }

        fn garbage() -> Bytes {
            // A message is a text.
            Bytes::from_static(b"garbage{")
        }

        fn send(place: Place<'_>, message: RawMessage) -> BoxFuture<'_, Result<(), Unavailable>> {
            Box::pin(async move {
                send::<Self>(place, message).await;
                Ok(())
            })
        }

        fn forward(place: Place<'_>, queue: String) -> BoxFuture<'_, ()> {
            Box::pin(forward::<Self>(place, queue))
        }

        fn unpacked(body: &str) -> String {
            body.to_owned()
        }
    };
}

impl Kind for Standard {
    const NAME: &'static str = "sns_sqs";
    const TEST: &'static str = "conformance::aws::sns_sqs::sns_with_sqs_conforms";
    const NUMBER: u16 = 0;

    topics!();
}

impl Kind for Fifo {
    const NAME: &'static str = "sns_sqs_fifo";
    const TEST: &'static str = "conformance::aws::sns_sqs::sns_with_sqs_conforms_in_order";
    const NUMBER: u16 = 1;
    const ENDING: &'static str = ".fifo";

    topics!();
}

#[tokio::test(flavor = "multi_thread")]
async fn sns_with_sqs_conforms() {
    Aws::<Standard>::conforms().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sns_with_sqs_conforms_in_order() {
    Aws::<Fifo>::conforms().await;
}
