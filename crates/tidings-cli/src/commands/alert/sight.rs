//! How the watcher looks: through the broker at groups, through databases at outboxes and at what groups could not handle.

use crate::alert_arguments::AlertRun;
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::outbox_arguments::Source;
use std::sync::Arc;
use tidings::Tidings;
use tidings::broker::{Admin, BrokerError, GroupLag, GroupName};
use tidings::core::BoxFuture;
use tidings::core::store::{AlertStore, OutboxStore as _, StoreError};
use tidings::flow::alert::{GroupSeen, OutboxSeen, Seen, Sight};
use tidings::flow::runtime::{SystemChance, SystemClock};
use tidings::sql::{Database, OutboxOptions, SqlOutbox};

/// What is looked at.
pub(super) struct Eyes {
    tidings: Tidings,
    store: Arc<dyn AlertStore>,
    outboxes: Vec<SqlOutbox>,
    /// Groups of a broker that cannot list them.
    named: Vec<GroupName>,
}

impl Eyes {
    /// Opens what is to be looked at. A store without an outbox has none to look at; one that is named must be there.
    pub(super) async fn open(
        tidings: Tidings,
        store: Arc<dyn AlertStore>,
        database: &Database,
        arguments: &AlertRun,
    ) -> Result<Self, Failure> {
        let own = SqlOutbox::open(
            database.clone(),
            OutboxOptions {
                unordered: true,
                ..OutboxOptions::default()
            },
            Arc::new(SystemClock::new()),
            &SystemChance,
        );
        let mut outboxes = match own.await {
            Ok(outbox) => vec![outbox],
            Err(StoreError::TableMissing { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for url in &arguments.outbox {
            outboxes.push(outbox(url, "outbox", source::Access::DECIDE).await?);
        }
        Ok(Self {
            tidings,
            store,
            outboxes,
            named: arguments.consumer.clone(),
        })
    }

    async fn groups(
        &self,
        admin: &dyn Admin,
        problems: &mut Vec<String>,
    ) -> Option<Vec<GroupSeen>> {
        let mut seen = Vec::new();
        let listed = match admin.groups().await {
            Ok(groups) => groups,
            // Those that are named are looked at, and the other rules work.
            Err(BrokerError::Unsupported { .. }) if self.named.is_empty() => return None,
            Err(BrokerError::Unsupported { .. }) => Vec::new(),
            Err(error) => {
                problems.push(format!("the groups: {error}"));
                return None;
            }
        };
        for group in &listed {
            let lag = self.lag(admin, &group.name, problems).await?;
            seen.extend(lag.map(|lag| GroupSeen::new(group, lag)));
        }
        for name in &self.named {
            if listed.iter().all(|group| group.name != *name) {
                let lag = self.lag(admin, name, problems).await?;
                seen.extend(lag.map(|lag| GroupSeen::named(name, lag)));
            }
        }
        Some(seen)
    }

    /// How far a group is behind, or nothing where there is no such group: it may have been removed meanwhile, or not have begun. `None` where the broker does not answer.
    async fn lag(
        &self,
        admin: &dyn Admin,
        group: &GroupName,
        problems: &mut Vec<String>,
    ) -> Option<Option<GroupLag>> {
        match admin.lag(group).await {
            Ok(lag) => Some(Some(lag)),
            Err(BrokerError::GroupUnknown { .. }) => Some(None),
            Err(error) => {
                problems.push(format!("the group {group}: {error}"));
                None
            }
        }
    }

    async fn outboxes(&self, problems: &mut Vec<String>) -> Option<Vec<OutboxSeen>> {
        let mut seen = Vec::with_capacity(self.outboxes.len());
        for outbox in &self.outboxes {
            match outbox.status().await {
                Ok(status) => seen.push(OutboxSeen {
                    outbox: outbox.name().to_owned(),
                    pending: status.pending,
                    oldest_age: status.oldest_unsent_age,
                }),
                Err(error) => {
                    problems.push(format!("the outbox {}: {error}", outbox.name()));
                    return None;
                }
            }
        }
        Some(seen)
    }
}

impl Sight for Eyes {
    fn look(&self) -> BoxFuture<'_, Seen> {
        Box::pin(async move {
            let mut problems = Vec::new();
            // A broker that cannot tell of groups is no trouble: the other rules work.
            let groups = match self.tidings.admin() {
                Ok(admin) => self.groups(admin, &mut problems).await,
                Err(_) => None,
            };
            let outboxes = self.outboxes(&mut problems).await;
            let backlog = match self.store.backlog().await {
                Ok(backlog) => Some(backlog),
                Err(error) => {
                    problems.push(format!("the store: {error}"));
                    None
                }
            };
            Seen {
                groups,
                outboxes,
                backlog,
                problems,
            }
        })
    }
}

/// Opens an outbox for looking.
pub(crate) async fn outbox(
    url: &str,
    table: &str,
    access: source::Access,
) -> Result<SqlOutbox, Failure> {
    let source = Source {
        from: url.to_owned(),
        table: table.to_owned(),
        shape: None,
        state: None,
        unordered: true,
        mark: false,
        config: None,
    };
    source::open(&source, access).await
}
