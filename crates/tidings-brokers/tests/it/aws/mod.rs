//! The server that speaks like AWS, and time.

pub(crate) mod partial;
#[cfg(feature = "sns_sqs")]
pub(crate) mod tls;

use crate::server;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidings_core::seam::Clock;
use tidings_core::{BoxFuture, Timestamp};

const VARIABLE: &str = "TIDINGS_TEST_AWS_URL";

/// Host and port of moto, or nothing where the tests do without.
pub(crate) fn host(test: &str) -> Option<String> {
    let url = server::url("moto", VARIABLE, test)?;
    let (_, host) = url.split_once("://").expect("a URL has a scheme");
    Some(host.trim_end_matches('/').to_owned())
}

/// The machine's time.
struct RealClock(Instant);

impl Clock for RealClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "servers go by the machine's time"
    )]
    fn now(&self) -> Timestamp {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = time.expect("after 1970").as_micros();
        Timestamp::from_micros(i64::try_from(micros).expect("before 292277"))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "servers go by the machine's time"
    )]
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "servers go by the machine's time"
)]
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(RealClock(Instant::now()))
}

/// A client of a service, for what an adapter does not do.
macro_rules! client {
    ($name:ident, $service:ident) => {
        pub(crate) fn $name(host: &str) -> $service::Client {
            let config = $service::Config::builder()
                .behavior_version($service::config::BehaviorVersion::latest())
                .region($service::config::Region::new("us-east-1"))
                .endpoint_url(format!("http://{host}"))
                .credentials_provider($service::config::Credentials::new(
                    "test", "test", None, None, "test",
                ));
            $service::Client::from_conf(config.build())
        }
    };
}

client!(sqs, aws_sdk_sqs);
#[cfg(feature = "sns_sqs")]
client!(sns, aws_sdk_sns);
#[cfg(feature = "eventbridge")]
client!(events, aws_sdk_eventbridge);

/// Names of queues that begin so.
pub(crate) async fn queues(host: &str, prefix: &str) -> Vec<String> {
    let answer = sqs(host).list_queues().queue_name_prefix(prefix).send();
    let urls = answer.await.expect("a listing").queue_urls;
    let urls = urls.unwrap_or_default().into_iter();
    urls.map(|url| url.rsplit('/').next().unwrap_or_default().to_owned())
        .collect()
}

/// Deletes the queues whose names begin so.
pub(crate) async fn delete_queues(host: &str, prefix: &str) {
    let client = sqs(host);
    let answer = client.list_queues().queue_name_prefix(prefix).send();
    for url in answer
        .await
        .expect("a listing")
        .queue_urls
        .unwrap_or_default()
    {
        let deleting = client.delete_queue().queue_url(url).send();
        deleting.await.expect("deleted");
    }
}
