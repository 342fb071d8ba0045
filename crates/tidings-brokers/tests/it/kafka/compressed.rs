//! What other programs compress, and what nobody can read.

use super::wire::{batch, produce};
use super::*;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;

const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

fn client(host: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", host);
    client
}

// A client that was built without zstd said nothing of what it could not read: the group and whoever read along waited for ever.
#[tokio::test]
async fn what_is_compressed_in_any_way_is_read() {
    let Some((broker, url)) = fresh("compressed").await else {
        return;
    };
    let (topic, (_, rest)) = (topic(&url), url.split_once("://").unwrap());
    let host = rest.split('?').next().unwrap();
    let admin: AdminClient<DefaultClientContext> = client(host).create().unwrap();
    // As most producers have it: a batch stays as it was sent.
    let new =
        NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("compression.type", "producer");
    let made = admin.create_topics([&new], &AdminOptions::new()).await;
    made.unwrap().pop().unwrap().unwrap();
    for codec in CODECS {
        let producer = client(host).set("compression.codec", codec).create();
        let producer: FutureProducer = producer.unwrap();
        // Worth to be compressed: the client sends as it is what does not get smaller.
        let body = format!(
            r#"{{"specversion":"1.0","id":"{codec}","source":"/s","type":"a.happened","data":"{}"}}"#,
            codec.repeat(500)
        );
        let headers = OwnedHeaders::new().insert(Header {
            key: "content-type",
            value: Some("application/cloudevents+json"),
        });
        let record = FutureRecord::to(&topic)
            .key("k")
            .payload(&body)
            .headers(headers);
        producer.send(record, DEADLINE).await.unwrap();
    }
    let url = server::with(&url, "compression=zstd");
    let compressing = connect(&url).await.unwrap();
    publish(&compressing, &[event("a.happened", "k", 0)]).await;

    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let received = receive(&mut subscription, CODECS.len() + 1).await;
    let everything = TailRequest {
        patterns: Vec::new(),
        start: StartAt::Earliest,
    };
    let mut tail = broker.tail(everything).await.unwrap();

    let sent: Vec<_> = CODECS.into_iter().chain(["k-0"]).collect();
    assert_eq!(ids(&received), sent);
    assert_eq!(read_to_end(&mut *tail).await, sent);
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_told_to_the_group_and_to_who_reads_along() {
    let topic = server::fresh("unreadable");
    // A server checks what it takes; this one of the client library does not.
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(&topic, 1, 1).unwrap();
    let host = cluster.bootstrap_servers();
    let mut odd = batch(br#"{"n":1}"#, &[]);
    // The last three bits of a batch's attributes name the codec; there is no fifth.
    odd[22] = 5;
    produce(&host, &topic, &odd).unwrap();
    let broker = connect(&format!("kafka://{host}?topic={topic}"))
        .await
        .unwrap();

    let mut subscription = broker.subscribe(&group("g", &["**"])).await.unwrap();
    let told = async {
        loop {
            if let Err(error) = subscription.receive.receive(1).await {
                break error;
            }
        }
    };
    let to_group = tokio::time::timeout(DEADLINE, told).await.expect("told");
    let everything = TailRequest {
        patterns: Vec::new(),
        start: StartAt::Earliest,
    };
    let mut tail = broker.tail(everything).await.unwrap();
    let told = tokio::time::timeout(DEADLINE, tail.next(1)).await;
    let to_reader = told.expect("told").unwrap_err();

    for error in [to_group, to_reader] {
        assert!(!error.class().is_transient(), "{error}");
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
