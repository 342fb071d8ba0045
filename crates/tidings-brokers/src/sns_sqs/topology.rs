//! The topic, and for each group a queue that is subscribed to it: looked at, made, or named with the command that makes it.

use super::Inner;
use super::mapping::TYPE;
use crate::aws::error::{Failure, Fault};
use crate::aws::group::{Found, GROUP_TAG, OF_TAG, Wanted, quoted};
use crate::aws::names::{matchers, queue_name};
use crate::aws::session::Session;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{
    BrokerError, SubscribeRequest, TopologyItem, TopologyRequest, TopologyState,
};
use tidings_core::limits::AWS_PAGES_MAX;

const RAW: &str = "RawMessageDelivery";
const FILTER: &str = "FilterPolicy";

impl Inner {
    /// The full name of the topic; made if it is missing and that is allowed.
    pub(super) async fn topic_arn(&self) -> Result<Arc<str>, BrokerError> {
        if let Some(topic) = self.session.known() {
            return Ok(topic);
        }
        let (state, topic) = self.bring_topic(self.config.ensure).await?;
        match topic {
            Some(topic) => Ok(topic),
            None => Err(self
                .session
                .not_good(&format!("topic {}", self.config.topic), state)),
        }
    }

    pub(super) fn topic_missing(&self) -> BrokerError {
        BrokerError::TopologyMissing {
            broker: self.session.speaker.broker,
            what: format!("topic {}", self.config.topic),
            command: self.topic_command(),
        }
    }

    async fn bring_topic(
        &self,
        ensure: bool,
    ) -> Result<(TopologyState, Option<Arc<str>>), BrokerError> {
        if let Some(topic) = self.find_topic().await? {
            self.session.know(Some(topic.clone()));
            return Ok((TopologyState::Present, Some(topic)));
        }
        self.session.know(None);
        // A topic that is named with its account may be another account's.
        if !ensure || self.config.topic_arn.is_some() {
            let command = self.topic_command();
            return Ok((TopologyState::Missing { command }, None));
        }
        let mut request = self.sns.create_topic().name(&self.config.topic);
        if self.config.fifo {
            request = request.attributes("FifoTopic", "true");
        }
        let answer = request.send().await.map_err(Failure::from);
        let answer = answer.map_err(|failure| self.session.error(failure, "make the topic"))?;
        let topic: Arc<str> = answer.topic_arn.unwrap_or_default().into();
        self.session.know(Some(topic.clone()));
        Ok((TopologyState::Created, Some(topic)))
    }

    async fn find_topic(&self) -> Result<Option<Arc<str>>, BrokerError> {
        let full = self.session.known();
        let full = full.or_else(|| self.config.topic_arn.as_deref().map(Into::into));
        if let Some(topic) = full {
            let request = self.sns.get_topic_attributes().topic_arn(&*topic);
            return match request.send().await.map_err(Failure::from) {
                Ok(_) => Ok(Some(topic)),
                Err(failure) if failure.fault == Fault::Missing => Ok(None),
                Err(failure) => Err(self.session.error(failure, "look for the topic")),
            };
        }
        let ending = format!(":{}", self.config.topic);
        let mut next = None;
        for _ in 0..AWS_PAGES_MAX {
            let answer = self.sns.list_topics().set_next_token(next).send().await;
            let answer =
                answer.map_err(|error| self.session.error(error.into(), "look for the topic"))?;
            let mut names = answer.topics().iter().filter_map(|topic| topic.topic_arn());
            if let Some(topic) = names.find(|name| name.ends_with(&ending)) {
                return Ok(Some(topic.into()));
            }
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }

    fn topic_command(&self) -> String {
        let ordered = if self.config.fifo {
            " --attributes FifoTopic=true"
        } else {
            ""
        };
        let options = &self.session.queues.aws.options;
        format!(
            "aws sns create-topic --name {}{ordered} {options}",
            self.config.topic
        )
    }

    pub(super) async fn topology(
        &self,
        request: TopologyRequest<'_>,
    ) -> Result<Vec<TopologyItem>, BrokerError> {
        let (state, topic) = self.bring_topic(request.ensure).await?;
        let mut items = vec![TopologyItem {
            what: format!("topic {}", self.config.topic),
            state,
        }];
        for group in request.groups {
            let wanted = self.wanted(group, topic.as_deref());
            let (more, _) = self
                .bring_group(&wanted, &group.patterns, topic.as_deref(), request.ensure)
                .await?;
            items.extend(more);
        }
        Ok(items)
    }

    /// The queue that a group must have.
    pub(super) fn wanted(&self, group: &SubscribeRequest, topic: Option<&str>) -> Wanted {
        let name = queue_name(
            &self.config.queue_prefix,
            group.group.as_str(),
            self.config.fifo,
        );
        let tags = vec![
            (OF_TAG, self.config.topic.clone()),
            (GROUP_TAG, group.group.to_string()),
        ];
        self.queue(name, tags, topic)
    }

    pub(super) fn queue(
        &self,
        name: String,
        tags: Vec<(&'static str, String)>,
        topic: Option<&str>,
    ) -> Wanted {
        let aws = &self.session.queues.aws;
        let account = Session::account(topic);
        let sender = topic.map_or_else(
            || {
                format!(
                    "arn:{}:sns:{}:{account}:{}",
                    aws.partition(),
                    aws.region,
                    self.config.topic
                )
            },
            str::to_owned,
        );
        Wanted {
            name,
            fifo: self.config.fifo,
            tags,
            service: "sns.amazonaws.com",
            sender,
            account,
        }
    }

    /// Queue and subscription of a group or of a tail.
    pub(super) async fn bring_group(
        &self,
        wanted: &Wanted,
        patterns: &[Pattern],
        topic: Option<&str>,
        ensure: bool,
    ) -> Result<(Vec<TopologyItem>, Option<Found>), BrokerError> {
        let (state, found) = self.session.queues.bring(wanted, ensure).await?;
        let mut items = vec![TopologyItem {
            what: format!("queue {}", wanted.name),
            state,
        }];
        let state = match (topic, &found) {
            (Some(topic), Some(found)) => {
                self.bring_subscription(topic, &found.arn, patterns, ensure)
                    .await?
            }
            _ => {
                let queue = self.session.queues.arn(wanted);
                let command = self.subscribe_command(&wanted.sender, &queue, patterns);
                TopologyState::Missing { command }
            }
        };
        items.push(TopologyItem {
            what: format!(
                "subscription of queue {} to topic {}",
                wanted.name, self.config.topic
            ),
            state,
        });
        Ok((items, found))
    }

    async fn bring_subscription(
        &self,
        topic: &str,
        queue: &str,
        patterns: &[Pattern],
        ensure: bool,
    ) -> Result<TopologyState, BrokerError> {
        let policy = filter(patterns);
        let Some(subscription) = self.find_subscription(topic, queue).await? else {
            if !ensure {
                let command = self.subscribe_command(topic, queue, patterns);
                return Ok(TopologyState::Missing { command });
            }
            let mut request = self.sns.subscribe().topic_arn(topic);
            request = request
                .protocol("sqs")
                .endpoint(queue)
                .attributes(RAW, "true");
            if let Some(policy) = &policy {
                request = request.attributes(FILTER, policy.to_string());
            }
            let answer = request.send().await.map_err(Failure::from);
            answer.map_err(|failure| {
                self.session
                    .error(failure, "subscribe a queue to the topic")
            })?;
            return Ok(TopologyState::Created);
        };
        let has = self.subscription_attributes(&subscription).await?;
        let mut wrong = Vec::new();
        if has.get(RAW).map(String::as_str) != Some("true") {
            wrong.push((RAW, "true".to_owned()));
        }
        let found: Option<Value> = has
            .get(FILTER)
            .and_then(|text| serde_json::from_str(text).ok());
        let found = found.filter(|found| *found != json!({}));
        if found != policy {
            let policy = policy.unwrap_or_else(|| json!({}));
            wrong.push((FILTER, policy.to_string()));
        }
        if wrong.is_empty() {
            return Ok(TopologyState::Present);
        }
        if !ensure {
            return Ok(self.subscription_wrong(&subscription, &wrong));
        }
        for (name, value) in wrong {
            let request = self.sns.set_subscription_attributes();
            let request = request.subscription_arn(&subscription).attribute_name(name);
            let answer = request.attribute_value(value).send().await;
            answer.map_err(|error| self.session.error(error.into(), "change a subscription"))?;
        }
        Ok(TopologyState::Created)
    }

    /// The subscription of a queue, by its full name.
    pub(super) async fn find_subscription(
        &self,
        topic: &str,
        queue: &str,
    ) -> Result<Option<String>, BrokerError> {
        let mut next = None;
        for _ in 0..AWS_PAGES_MAX {
            let request = self.sns.list_subscriptions_by_topic().topic_arn(topic);
            let answer = match request
                .set_next_token(next)
                .send()
                .await
                .map_err(Failure::from)
            {
                Ok(answer) => answer,
                Err(failure) if failure.fault == Fault::Missing => return Ok(None),
                Err(failure) => return Err(self.session.error(failure, "list the subscriptions")),
            };
            let mut found = answer.subscriptions().iter();
            let found =
                found.find(|one| one.protocol() == Some("sqs") && one.endpoint() == Some(queue));
            if let Some(arn) = found.and_then(|one| one.subscription_arn()) {
                return Ok(Some(arn.to_owned()));
            }
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }

    /// What a subscription filters by, and how it delivers.
    async fn subscription_attributes(
        &self,
        subscription: &str,
    ) -> Result<HashMap<String, String>, BrokerError> {
        let request = self.sns.get_subscription_attributes();
        let answer = request.subscription_arn(subscription).send().await;
        let answer =
            answer.map_err(|error| self.session.error(error.into(), "look at a subscription"))?;
        Ok(answer.attributes.unwrap_or_default())
    }

    /// The matchers of a subscription's filter; none where everything comes.
    pub(super) async fn filtered_by(&self, subscription: &str) -> Result<Vec<Value>, BrokerError> {
        let attributes = self.subscription_attributes(subscription).await?;
        let policy: Option<Value> = attributes
            .get(FILTER)
            .and_then(|text| serde_json::from_str(text).ok());
        let matchers = policy.and_then(|policy| policy[TYPE].as_array().cloned());
        Ok(matchers.unwrap_or_default())
    }

    fn subscription_wrong(&self, arn: &str, wrong: &[(&str, String)]) -> TopologyState {
        let commands = wrong.iter().map(|(name, value)| {
            format!(
                "aws sns set-subscription-attributes --subscription-arn {arn} --attribute-name {name} --attribute-value {} {}",
                quoted(value),
                self.session.queues.aws.options
            )
        });
        let names: Vec<_> = wrong.iter().map(|(name, _)| *name).collect();
        TopologyState::Wrong {
            reason: format!("its {} must be another", names.join(" and its ")),
            way_out: format!("run: {}", commands.collect::<Vec<_>>().join("; ")),
        }
    }

    fn subscribe_command(&self, topic: &str, queue: &str, patterns: &[Pattern]) -> String {
        let mut attributes = json!({RAW: "true"});
        if let Some(policy) = filter(patterns) {
            attributes[FILTER] = json!(policy.to_string());
        }
        format!(
            "aws sns subscribe --topic-arn {topic} --protocol sqs --notification-endpoint {queue} --attributes {} {}",
            quoted(&attributes.to_string()),
            self.session.queues.aws.options
        )
    }
}

/// The filter of a subscription; none where everything must come.
fn filter(patterns: &[Pattern]) -> Option<Value> {
    Some(json!({TYPE: matchers(patterns)?}))
}
