//! The bus, and for each group a rule that sends to its queue: looked at, made, or named with the command that makes it.

use super::Inner;
use crate::aws::error::{Failure, Fault};
use crate::aws::group::{Found, GROUP_TAG, OF_TAG, Wanted, quoted};
use crate::aws::names::{fitting, matchers, queue_name};
use crate::aws::session::Session;
use aws_sdk_eventbridge::operation::create_event_bus::CreateEventBusError;
use aws_sdk_eventbridge::types::Target;
use serde_json::{Value, json};
use std::sync::Arc;
use tidings_core::Pattern;
use tidings_core::broker::{
    BrokerError, SubscribeRequest, TopologyItem, TopologyRequest, TopologyState,
};
use tidings_core::limits::EVENTBRIDGE_RULE_CHARS_MAX;

/// The bus that every account has.
const DEFAULT_BUS: &str = "default";
const TYPE: &str = "detail-type";
/// The name of the one target of our rules.
const TARGET: &str = "tidings";

/// Rule and queue of a group or of a tail.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) rule: String,
    pub(super) queue: Wanted,
}

impl Inner {
    /// The full name of the bus; made if it is missing and that is allowed.
    pub(super) async fn bus_arn(&self) -> Result<Arc<str>, BrokerError> {
        if let Some(bus) = self.session.known() {
            return Ok(bus);
        }
        let (state, bus) = self.bring_bus(self.config.ensure).await?;
        bus.ok_or_else(|| {
            self.session
                .not_good(&format!("bus {}", self.config.bus), state)
        })
    }

    pub(super) fn bus_missing(&self) -> BrokerError {
        BrokerError::TopologyMissing {
            broker: self.session.speaker.broker,
            what: format!("bus {}", self.config.bus),
            command: self.bus_command(),
        }
    }

    async fn bring_bus(
        &self,
        ensure: bool,
    ) -> Result<(TopologyState, Option<Arc<str>>), BrokerError> {
        self.session.know(None);
        let mut found = self.find_bus().await?;
        if found.is_none() && ensure && self.config.bus != DEFAULT_BUS {
            let request = self.events.create_event_bus().name(&self.config.bus);
            match request.send().await {
                Ok(answer) => {
                    let bus: Arc<str> = answer.event_bus_arn.unwrap_or_default().into();
                    self.session.know(Some(bus.clone()));
                    return Ok((TopologyState::Created, Some(bus)));
                }
                // Another program made it since we looked.
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(CreateEventBusError::is_resource_already_exists_exception) =>
                {
                    found = self.find_bus().await?;
                }
                Err(error) => return Err(self.session.error(error.into(), "make the bus")),
            }
        }
        let Some(bus) = found else {
            let command = self.bus_command();
            return Ok((TopologyState::Missing { command }, None));
        };
        self.session.know(Some(bus.clone()));
        Ok((TopologyState::Present, Some(bus)))
    }

    /// The full name of the bus, if it exists.
    async fn find_bus(&self) -> Result<Option<Arc<str>>, BrokerError> {
        let request = self.events.describe_event_bus().name(&self.config.bus);
        match request.send().await.map_err(Failure::from) {
            Ok(answer) => Ok(Some(answer.arn.unwrap_or_default().into())),
            Err(failure) if failure.fault == Fault::Missing => Ok(None),
            Err(failure) => Err(self.session.error(failure, "look for the bus")),
        }
    }

    fn bus_command(&self) -> String {
        let options = &self.session.queues.aws.options;
        format!(
            "aws events create-event-bus --name {} {options}",
            self.config.bus
        )
    }

    pub(super) async fn topology(
        &self,
        request: TopologyRequest<'_>,
    ) -> Result<Vec<TopologyItem>, BrokerError> {
        let (state, bus) = self.bring_bus(request.ensure).await?;
        let mut items = vec![TopologyItem {
            what: format!("bus {}", self.config.bus),
            state,
        }];
        for group in request.groups {
            let way = self.way_of(group, bus.as_deref());
            let there = bus.is_some();
            let (more, _) = self
                .bring_way(&way, &group.patterns, there, request.ensure)
                .await?;
            items.extend(more);
        }
        Ok(items)
    }

    /// What a group needs.
    pub(super) fn way_of(&self, group: &SubscribeRequest, bus: Option<&str>) -> Way {
        let name = group.group.as_str();
        let tags = vec![
            (OF_TAG, self.config.bus.clone()),
            (GROUP_TAG, group.group.to_string()),
        ];
        self.way(name, tags, bus)
    }

    pub(super) fn rule_name(&self, name: &str) -> String {
        fitting(&self.config.prefix, name, EVENTBRIDGE_RULE_CHARS_MAX)
    }

    pub(super) fn way(
        &self,
        name: &str,
        tags: Vec<(&'static str, String)>,
        bus: Option<&str>,
    ) -> Way {
        let aws = &self.session.queues.aws;
        let account = Session::account(bus);
        let rule = self.rule_name(name);
        let path = if self.config.bus == DEFAULT_BUS {
            rule.clone()
        } else {
            format!("{}/{rule}", self.config.bus)
        };
        let (partition, region) = (aws.partition(), &aws.region);
        Way {
            rule,
            queue: Wanted {
                name: queue_name(&self.config.prefix, name, false),
                fifo: false,
                tags,
                service: "events.amazonaws.com",
                sender: format!("arn:{partition}:events:{region}:{account}:rule/{path}"),
                account,
            },
        }
    }

    /// Queue, rule and target, where the bus is there.
    pub(super) async fn bring_way(
        &self,
        way: &Way,
        patterns: &[Pattern],
        bus_is_there: bool,
        ensure: bool,
    ) -> Result<(Vec<TopologyItem>, Option<Found>), BrokerError> {
        let (state, found) = self.session.queues.bring(&way.queue, ensure).await?;
        let mut items = vec![TopologyItem {
            what: format!("queue {}", way.queue.name),
            state,
        }];
        let rule = if bus_is_there {
            self.bring_rule(way, patterns, ensure).await?
        } else {
            self.rule_missing(way, patterns)
        };
        let rule_is_there = rule.is_good();
        items.push(TopologyItem {
            what: format!("rule {} of bus {}", way.rule, self.config.bus),
            state: rule,
        });
        let state = match &found {
            Some(found) if rule_is_there => self.bring_target(way, &found.arn, ensure).await?,
            _ => self.target_missing(way, &self.session.queues.arn(&way.queue)),
        };
        items.push(TopologyItem {
            what: format!("target queue {} of rule {}", way.queue.name, way.rule),
            state,
        });
        Ok((items, found))
    }

    async fn bring_rule(
        &self,
        way: &Way,
        patterns: &[Pattern],
        ensure: bool,
    ) -> Result<TopologyState, BrokerError> {
        let wanted = filter(patterns);
        let found = self.filtered_by(&way.rule).await?;
        if found.as_ref() == Some(&wanted) {
            return Ok(TopologyState::Present);
        }
        if ensure {
            let request = self.events.put_rule().name(&way.rule);
            let request = request.event_bus_name(&self.config.bus);
            let answer = request.event_pattern(wanted.to_string()).send().await;
            answer.map_err(|error| self.session.error(error.into(), "make a rule"))?;
            return Ok(TopologyState::Created);
        }
        if found.is_none() {
            return Ok(self.rule_missing(way, patterns));
        }
        Ok(TopologyState::Wrong {
            reason: "its pattern must be another".to_owned(),
            way_out: format!("run: {}", self.rule_command(way, patterns)),
        })
    }

    /// The pattern of a rule, if there is such a rule.
    pub(super) async fn filtered_by(&self, rule: &str) -> Result<Option<Value>, BrokerError> {
        let request = self.events.describe_rule().name(rule);
        let request = request.event_bus_name(&self.config.bus);
        match request.send().await.map_err(Failure::from) {
            Ok(answer) => {
                let pattern = answer.event_pattern.unwrap_or_default();
                Ok(Some(serde_json::from_str(&pattern).unwrap_or(Value::Null)))
            }
            Err(failure) if failure.fault == Fault::Missing => Ok(None),
            Err(failure) => Err(self.session.error(failure, "look for a rule")),
        }
    }

    async fn bring_target(
        &self,
        way: &Way,
        queue: &str,
        ensure: bool,
    ) -> Result<TopologyState, BrokerError> {
        let request = self.events.list_targets_by_rule().rule(&way.rule);
        let answer = request.event_bus_name(&self.config.bus).send().await;
        let answer = answer.map_err(|error| self.session.error(error.into(), "look at a rule"))?;
        if answer.targets().iter().any(|target| target.arn() == queue) {
            return Ok(TopologyState::Present);
        }
        if !ensure {
            return Ok(self.target_missing(way, queue));
        }
        let target = Target::builder().id(TARGET).arn(queue).build();
        let request = self.events.put_targets().rule(&way.rule);
        let request = request.event_bus_name(&self.config.bus);
        let answer = request
            .targets(target.expect("id and name are given"))
            .send()
            .await;
        let answer =
            answer.map_err(|error| self.session.error(error.into(), "send a rule to a queue"))?;
        match answer.failed_entries().first() {
            None => Ok(TopologyState::Created),
            Some(entry) => {
                let code = entry.error_code().unwrap_or_default();
                let failure = Failure {
                    fault: Fault::of_code(code, true),
                    reason: format!("{code}: {}", entry.error_message().unwrap_or_default()),
                };
                Err(self.session.error(failure, "send a rule to a queue"))
            }
        }
    }

    fn rule_missing(&self, way: &Way, patterns: &[Pattern]) -> TopologyState {
        TopologyState::Missing {
            command: self.rule_command(way, patterns),
        }
    }

    fn rule_command(&self, way: &Way, patterns: &[Pattern]) -> String {
        format!(
            "aws events put-rule --name {} --event-bus-name {} --event-pattern {} {}",
            way.rule,
            self.config.bus,
            quoted(&filter(patterns).to_string()),
            self.session.queues.aws.options
        )
    }

    fn target_missing(&self, way: &Way, queue: &str) -> TopologyState {
        TopologyState::Missing {
            command: format!(
                "aws events put-targets --rule {} --event-bus-name {} --targets Id={TARGET},Arn={queue} {}",
                way.rule, self.config.bus, self.session.queues.aws.options
            ),
        }
    }

    /// Removes a rule with its target; one that is not there is no error.
    pub(super) async fn remove_rule(&self, rule: &str) -> Result<(), BrokerError> {
        let bus = &self.config.bus;
        let request = self.events.remove_targets().rule(rule).event_bus_name(bus);
        let targets = request.ids(TARGET).send().await.map(drop);
        self.unless_missing(targets.map_err(Failure::from))?;
        let request = self.events.delete_rule().name(rule).event_bus_name(bus);
        let deleted = request.send().await.map(drop);
        self.unless_missing(deleted.map_err(Failure::from))
    }

    fn unless_missing(&self, outcome: Result<(), Failure>) -> Result<(), BrokerError> {
        match outcome {
            Err(failure) if failure.fault != Fault::Missing => {
                Err(self.session.error(failure, "remove a rule"))
            }
            _ => Ok(()),
        }
    }
}

/// The pattern of a rule. EventBridge has no pattern for everything but one that everything matches.
fn filter(patterns: &[Pattern]) -> Value {
    match matchers(patterns) {
        Some(matchers) => json!({TYPE: matchers}),
        None => json!({"source": [{"prefix": ""}]}),
    }
}

/// The matchers of a rule's pattern; none where everything comes.
pub(super) fn types_of(pattern: &Value) -> Vec<Value> {
    pattern[TYPE].as_array().cloned().unwrap_or_default()
}
