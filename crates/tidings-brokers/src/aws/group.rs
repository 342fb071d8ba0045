//! The queue of a group as it must be: there, marked as ours, and open to whoever sends events to it.

use super::client::AwsClient;
use super::error::{Failure, Fault, Speaker};
use super::queue::Queue;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use tidings_core::broker::{BrokerError, TopologyState};

/// The tag that says which topic or bus a queue belongs to.
pub(crate) const OF_TAG: &str = "tidings-of";
/// The tag that says which group reads a queue.
pub(crate) const GROUP_TAG: &str = "tidings-group";
/// The longest that SQS keeps a message that nobody deletes, in seconds: 14 days.
const RETENTION_SECONDS: &str = "1209600";

/// A queue as it must be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) fifo: bool,
    pub(crate) tags: Vec<(&'static str, String)>,
    /// The service that sends, for example `sns.amazonaws.com`.
    pub(crate) service: &'static str,
    /// What it sends for: the name of a topic or of a rule.
    pub(crate) sender: String,
    /// The account of the sender, which has the queue unless the credentials say otherwise.
    pub(crate) account: String,
}

/// A queue as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) queue: Queue,
    pub(crate) arn: String,
    policy: Option<String>,
}

/// The queues of an account.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    pub(crate) client: Client,
    pub(crate) aws: AwsClient,
    pub(crate) speaker: Speaker,
}

impl Queues {
    /// Looks for a queue.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<Found>, BrokerError> {
        let request = self.client.get_queue_url().queue_name(name);
        let url = match request.send().await.map_err(Failure::from) {
            Ok(answer) => answer.queue_url.unwrap_or_default(),
            Err(failure) if failure.fault == Fault::Missing => return Ok(None),
            Err(failure) => return Err(self.error(failure, "look for a queue")),
        };
        let request = self.client.get_queue_attributes().queue_url(&url);
        let request = request
            .attribute_names(QueueAttributeName::QueueArn)
            .attribute_names(QueueAttributeName::Policy);
        let attributes = match request.send().await.map_err(Failure::from) {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(failure) if failure.fault == Fault::Missing => return Ok(None),
            Err(failure) => return Err(self.error(failure, "look at a queue")),
        };
        Ok(Some(Found {
            queue: Queue {
                client: self.client.clone(),
                url,
                name: name.to_owned(),
                fifo: name.ends_with(super::names::FIFO),
            },
            arn: attributes
                .get(&QueueAttributeName::QueueArn)
                .cloned()
                .unwrap_or_default(),
            policy: attributes.get(&QueueAttributeName::Policy).cloned(),
        }))
    }

    /// Looks for a queue and makes it, or opens it to its sender, where that is wanted and needed.
    pub(crate) async fn bring(
        &self,
        wanted: &Wanted,
        ensure: bool,
    ) -> Result<(TopologyState, Option<Found>), BrokerError> {
        let found = self.look(&wanted.name).await?;
        let (found, made) = match found {
            Some(found) => (found, false),
            None if ensure => (self.make(wanted).await?, true),
            None => {
                let command = self.command(wanted);
                return Ok((TopologyState::Missing { command }, None));
            }
        };
        if let Some(owner) = self.foreign_owner(wanted, &found, made).await? {
            let reason = format!("it belongs to {owner}");
            let way_out = "choose another queue_prefix".to_owned();
            return Ok((TopologyState::Wrong { reason, way_out }, None));
        }
        if lets_in(found.policy.as_deref(), &wanted.sender, ensure) {
            let state = if made {
                TopologyState::Created
            } else {
                TopologyState::Present
            };
            return Ok((state, Some(found)));
        }
        let policy = with_grant(found.policy.as_deref(), &found.arn, wanted);
        if ensure {
            let request = self
                .client
                .set_queue_attributes()
                .queue_url(&found.queue.url);
            let request = request.attributes(QueueAttributeName::Policy, policy.to_string());
            let answer = request.send().await.map_err(Failure::from);
            answer.map_err(|failure| self.error(failure, "open a queue to its sender"))?;
            return Ok((TopologyState::Created, Some(found)));
        }
        let attributes = json!({"Policy": policy.to_string()});
        let way_out = format!(
            "run: aws sqs set-queue-attributes --queue-url {} --attributes {} {}",
            found.queue.url,
            quoted(&attributes.to_string()),
            self.aws.options
        );
        let reason = format!("its policy does not let {} send to it", wanted.sender);
        Ok((TopologyState::Wrong { reason, way_out }, Some(found)))
    }

    /// The topic or bus that a queue of this name belongs to, if it is another one.
    async fn foreign_owner(
        &self,
        wanted: &Wanted,
        found: &Found,
        made: bool,
    ) -> Result<Option<String>, BrokerError> {
        if made {
            return Ok(None);
        }
        let tags = self.tags(&found.queue.url).await?;
        let differs = wanted.tags.iter().find_map(|(name, value)| {
            let has = tags.iter().find(|(found, _)| found == name)?;
            (has.1 != *value).then(|| format!("{name}={}", has.1))
        });
        Ok(differs)
    }

    pub(crate) async fn tags(&self, url: &str) -> Result<Vec<(String, String)>, BrokerError> {
        let request = self.client.list_queue_tags().queue_url(url);
        match request.send().await.map_err(Failure::from) {
            Ok(answer) => Ok(answer.tags.unwrap_or_default().into_iter().collect()),
            Err(failure) if failure.fault == Fault::Missing => Ok(Vec::new()),
            Err(failure) => Err(self.error(failure, "read the tags of a queue")),
        }
    }

    async fn make(&self, wanted: &Wanted) -> Result<Found, BrokerError> {
        let mut request = self
            .client
            .create_queue()
            .queue_name(&wanted.name)
            .attributes(
                QueueAttributeName::MessageRetentionPeriod,
                RETENTION_SECONDS,
            );
        if wanted.fifo {
            request = request.attributes(QueueAttributeName::FifoQueue, "true");
        }
        for (name, value) in &wanted.tags {
            request = request.tags(*name, value);
        }
        let answer = request.send().await.map_err(Failure::from);
        answer.map_err(|failure| self.error(failure, "make a queue"))?;
        self.look(&wanted.name)
            .await?
            .ok_or_else(|| self.vanished(wanted))
    }

    fn vanished(&self, wanted: &Wanted) -> BrokerError {
        BrokerError::TopologyMissing {
            broker: self.speaker.broker,
            what: format!("queue {}", wanted.name),
            command: self.command(wanted),
        }
    }

    /// Deletes a queue.
    pub(crate) async fn delete(&self, url: &str) -> Result<(), BrokerError> {
        let request = self.client.delete_queue().queue_url(url);
        match request.send().await.map_err(Failure::from) {
            Ok(_) => Ok(()),
            Err(failure) if failure.fault == Fault::Missing => Ok(()),
            Err(failure) => Err(self.error(failure, "delete a queue")),
        }
    }

    /// What a person runs to make a queue.
    pub(crate) fn command(&self, wanted: &Wanted) -> String {
        let arn = self.arn(wanted);
        let policy = with_grant(None, &arn, wanted).to_string();
        let mut attributes = json!({"MessageRetentionPeriod": RETENTION_SECONDS, "Policy": policy});
        if wanted.fifo {
            attributes["FifoQueue"] = json!("true");
        }
        let tags: Vec<_> = wanted
            .tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!(
            "aws sqs create-queue --queue-name {} --attributes {} --tags {} {}",
            wanted.name,
            quoted(&attributes.to_string()),
            tags.join(","),
            self.aws.options
        )
    }

    /// The full name that a queue will have.
    pub(crate) fn arn(&self, wanted: &Wanted) -> String {
        let (partition, region) = (self.aws.partition(), &self.aws.region);
        format!(
            "arn:{partition}:sqs:{region}:{}:{}",
            wanted.account, wanted.name
        )
    }

    pub(crate) fn error(&self, failure: Failure, action: &'static str) -> BrokerError {
        failure.into_error(&self.speaker, action)
    }
}

/// A text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether a policy lets the sender in. Where nothing is to be changed, a policy that names it otherwise is given the benefit of the doubt.
fn lets_in(policy: Option<&str>, sender: &str, strictly: bool) -> bool {
    let Some(policy) = policy.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return false;
    };
    statements(&policy).iter().any(|statement| {
        let text = statement.to_string();
        let sends = text.to_ascii_lowercase();
        let sends = sends.contains("sqs:sendmessage") || sends.contains("sqs:*");
        statement["Effect"] == "Allow" && sends && (!strictly || text.contains(sender))
    })
}

fn statements(policy: &Value) -> Vec<Value> {
    match &policy["Statement"] {
        Value::Array(statements) => statements.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

/// The policy with a further statement that lets the sender in.
fn with_grant(policy: Option<&str>, arn: &str, wanted: &Wanted) -> Value {
    let policy = policy.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut statements = policy.as_ref().map(statements).unwrap_or_default();
    statements.push(json!({
        "Sid": format!("tidings{}", statements.len()),
        "Effect": "Allow",
        "Principal": {"Service": wanted.service},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": wanted.sender}},
    }));
    json!({"Version": "2012-10-17", "Statement": statements})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            name: "q".to_owned(),
            fifo: false,
            tags: Vec::new(),
            service: "sns.amazonaws.com",
            sender: "arn:aws:sns:us-east-1:1:events".to_owned(),
            account: "1".to_owned(),
        }
    }

    #[test]
    fn a_grant_is_added_to_what_a_policy_has() {
        let theirs =
            r#"{"Statement":{"Effect":"Allow","Action":"sqs:ReceiveMessage","Principal":"*"}}"#;
        let wanted = wanted();
        assert!(!lets_in(Some(theirs), &wanted.sender, true));
        assert!(!lets_in(None, &wanted.sender, false));

        let policy = with_grant(Some(theirs), "arn:q", &wanted);

        assert_eq!(policy["Statement"].as_array().unwrap().len(), 2);
        assert!(lets_in(Some(&policy.to_string()), &wanted.sender, true));
        assert!(!lets_in(Some(&policy.to_string()), "arn:other", true));
    }

    #[test]
    fn a_word_of_a_shell_may_have_quotes_in_it() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
