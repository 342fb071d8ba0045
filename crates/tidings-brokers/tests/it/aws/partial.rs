//! A service that takes a batch in part: by the id of an event it says what becomes of it.

use crate::events::event;
use tidings_core::broker::{Broker, PublishError};
use tidings_core::{Envelope, codes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the ids begin with of events that are not taken, the code, and whether we are held guilty.
const FAULTS: [(&str, &str, bool); 3] = [
    ("faulty", "InvalidParameter", true),
    ("unlucky", "InternalFailure", false),
    ("hasty", "ThrottlingException", true),
];

/// What a request got: its head in lower case, and its body.
struct Request {
    head: String,
    body: String,
}

impl Request {
    async fn read(socket: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .map_or(0, |length| length.trim().parse().expect("a number"));
                let body = bytes.split_off(end + 4);
                if body.len() >= length {
                    let body = String::from_utf8(body).expect("text");
                    return Self { head, body };
                }
                bytes.extend(body);
            }
            let read = socket.read_buf(&mut bytes).await.expect("a request");
            assert!(read > 0, "the request ends early");
        }
    }

    fn answer(&self) -> String {
        if self.head.contains("awsevents.putevents") {
            return self.answer_put_events();
        }
        if self.head.contains("x-amz-target") {
            return r#"{"Name":"bus","Arn":"arn:aws:events:us-east-1:1:event-bus/bus"}"#.to_owned();
        }
        if self.body.contains("Action=PublishBatch&") {
            return self.answer_publish_batch();
        }
        "<ListTopicsResponse><ListTopicsResult><Topics><member><TopicArn>arn:aws:sns:us-east-1:1:topic</TopicArn></member></Topics></ListTopicsResult></ListTopicsResponse>".to_owned()
    }

    /// By place, as EventBridge does.
    fn answer_put_events(&self) -> String {
        let request: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        let entries = request["Entries"].as_array().expect("entries").iter();
        let answers = entries.map(|entry| match fault(&entry.to_string()) {
            None => serde_json::json!({"EventId": "1"}),
            Some((code, _)) => serde_json::json!({"ErrorCode": code, "ErrorMessage": "no"}),
        });
        let answers: Vec<_> = answers.collect();
        serde_json::json!({"FailedEntryCount": 1, "Entries": answers}).to_string()
    }

    /// By id, the last first, as SNS may.
    fn answer_publish_batch(&self) -> String {
        let member = |number: usize, field: &str| {
            let name = format!("PublishBatchRequestEntries.member.{number}.{field}=");
            let mut fields = self.body.split('&');
            fields.find_map(|field| field.strip_prefix(&name))
        };
        let (mut taken, mut failed) = (String::new(), String::new());
        for number in (1..=10).rev() {
            let (Some(id), Some(message)) = (member(number, "Id"), member(number, "Message"))
            else {
                continue;
            };
            match fault(message) {
                Some((code, ours)) => {
                    failed += &format!(
                        "<member><Id>{id}</Id><Code>{code}</Code><Message>no</Message><SenderFault>{ours}</SenderFault></member>"
                    )
                }
                None => taken += &format!("<member><Id>{id}</Id><MessageId>1</MessageId></member>"),
            }
        }
        format!(
            "<PublishBatchResponse><PublishBatchResult><Successful>{taken}</Successful><Failed>{failed}</Failed></PublishBatchResult></PublishBatchResponse>"
        )
    }
}

fn fault(entry: &str) -> Option<(&'static str, bool)> {
    let fault = FAULTS
        .iter()
        .find(|(kind, _, _)| entry.contains(&format!("{kind}-")));
    fault.map(|(_, code, ours)| (*code, *ours))
}

async fn serve(listener: TcpListener) {
    let mut answering = JoinSet::new();
    loop {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        answering.spawn(async move {
            let body = Request::read(&mut socket).await.answer();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            socket.write_all(answer.as_bytes()).await.expect("answered");
        });
    }
}

/// Publishes to the service as a broker that `connect` makes, and expects of each event what the service said of it.
pub(crate) async fn each_event_has_its_own_outcome<B: Broker>(
    connect: impl AsyncFnOnce(String) -> B,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    // It ends with the test.
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener));
    let broker = connect(address).await;
    // More than one request holds, and no two neighbours alike.
    let kinds = ["fine", "faulty", "fine", "unlucky", "fine", "hasty", "fine"];
    let batch: Vec<Envelope> = (0..21)
        .zip(kinds.iter().cycle())
        .map(|(number, kind)| event("order.placed", &format!("{kind}-{number}"), number))
        .collect();

    let outcomes = broker.publish(&batch).await;

    assert_eq!(outcomes.len(), batch.len());
    for (outcome, event) in outcomes.iter().zip(&batch) {
        let id = event.event_id();
        let (kind, _) = id.split_once('-').expect("a kind");
        match (kind, outcome) {
            ("fine", Ok(_)) => {}
            ("faulty", Err(error)) => {
                assert_eq!(error.code(), codes::PUBLISH_REFUSED, "{id}: {error}");
                assert!(
                    !error.class().is_transient() && !error.may_have_happened(),
                    "{id}"
                );
                assert!(
                    error.to_string().contains("InvalidParameter"),
                    "{id}: {error}"
                );
            }
            ("unlucky", Err(error @ PublishError::Ambiguous { .. })) => {
                assert!(
                    error.to_string().contains("InternalFailure"),
                    "{id}: {error}"
                );
            }
            ("hasty", Err(error)) => {
                assert_eq!(error.code(), codes::BROKER_FAILED, "{id}: {error}");
                assert!(
                    error.class().is_transient() && !error.may_have_happened(),
                    "{id}"
                );
            }
            _ => panic!("{id}: {outcome:?}"),
        }
    }
}
