//! What groups could not handle yet, in `state.db` of a folder that this process owns: looked at without making the database, which is made when the first failure is noted.

use super::outbox::StateOutbox;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use tidings_core::BoxFuture;
use tidings_core::DedupeKey;
use tidings_core::store::{
    Decision, Due, FailureChange, FailureState, FailureStore, LaneId, OpenCircuit, ParkedDelivery,
    StoreError,
};
use tidings_sql::Failures;
use tokio::sync::OnceCell;

/// The store of failures of a folder that this process owns.
pub(crate) struct StateFailures {
    state: Arc<StateOutbox>,
    path: PathBuf,
    name: String,
    opened: OnceCell<Failures>,
}

impl StateFailures {
    pub(super) fn new(state: Arc<StateOutbox>, path: PathBuf) -> Self {
        let name = path.display().to_string();
        Self {
            state,
            path,
            name,
            opened: OnceCell::new(),
        }
    }

    /// The store, and the database with it where it is missing.
    async fn opened(&self) -> Result<&Failures, StoreError> {
        let open = || async {
            let database = self.state.database().await?;
            Ok(Failures::open(&database)
                .await?
                .with_outbox(self.state.waking()?))
        };
        self.opened.get_or_try_init(open).await
    }

    /// The store, if there can be anything in it.
    async fn known(&self) -> Result<Option<&Failures>, StoreError> {
        if self.opened.get().is_none() && !self.path.exists() {
            return Ok(None);
        }
        self.opened().await.map(Some)
    }
}

impl FailureStore for StateFailures {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn state<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<FailureState, StoreError>> {
        Box::pin(async move {
            match self.known().await? {
                Some(failures) => failures.state(group).await,
                None => Ok(FailureState::default()),
            }
        })
    }

    fn apply<'a>(
        &'a self,
        group: &'a str,
        changes: &'a [FailureChange],
    ) -> BoxFuture<'a, Result<Vec<usize>, StoreError>> {
        Box::pin(async move { self.opened().await?.apply(group, changes).await })
    }

    fn decisions<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<HashMap<DedupeKey, Decision>, StoreError>> {
        Box::pin(async move {
            match self.known().await? {
                Some(failures) => failures.decisions(group).await,
                None => Ok(HashMap::new()),
            }
        })
    }

    fn due<'a>(&'a self, group: &'a str, limit: u32) -> BoxFuture<'a, Result<Due, StoreError>> {
        Box::pin(async move {
            match self.known().await? {
                Some(failures) => failures.due(group, limit).await,
                None => Ok(Due::default()),
            }
        })
    }

    fn rows<'a>(
        &'a self,
        group: &'a str,
        lane: LaneId,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedDelivery>, StoreError>> {
        Box::pin(async move { self.opened().await?.rows(group, lane, limit).await })
    }

    fn tell_circuit<'a>(
        &'a self,
        group: &'a str,
        circuit: Option<&'a OpenCircuit>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let store = match circuit {
                Some(_) => Some(self.opened().await?),
                // Where there is no store yet, nothing says that it is open.
                None => self.known().await?,
            };
            match store {
                Some(failures) => failures.tell_circuit(group, circuit).await,
                None => Ok(()),
            }
        })
    }

    fn tell_attempts_max<'a>(
        &'a self,
        group: &'a str,
        attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let failures = self.opened().await?;
            failures.tell_attempts_max(group, attempts).await
        })
    }

    fn deaths<'a>(
        &'a self,
        group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>> {
        Box::pin(async move { self.opened().await?.deaths(group, events).await })
    }
}
