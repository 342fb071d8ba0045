//! Stores for the suite: a file where one instance works for a group, a server's database where several do.

use crate::sql_stores::{self, Files};
use tidings_core::BoxFuture;
use tidings_testkit::conformance::broker::{Sharing, Stores, Unavailable};
use tidings_testkit::database::{Server, TestDatabase};

/// The stores of the suite of one adapter.
pub(super) struct SuiteStores {
    files: Files,
    /// The adapter, for names that no other one has.
    broker: &'static str,
    /// Which database it shares. The adapters share different ones, so that each is looked at.
    shared: Server,
}

impl SuiteStores {
    pub(super) fn new(broker: &'static str, shared: Server) -> Self {
        Self {
            files: Files::default(),
            broker,
            shared,
        }
    }

    pub(super) fn fresh<'a>(
        &'a self,
        property: &'a str,
        sharing: Sharing,
    ) -> BoxFuture<'a, Result<String, Unavailable>> {
        Box::pin(async move {
            match sharing {
                Sharing::OneInstance => Ok(self.files.fresh(property).await),
                Sharing::ManyInstances => self.fresh_shared(property).await,
            }
        })
    }

    async fn fresh_shared(&self, property: &str) -> Result<String, Unavailable> {
        let name = format!("suite_{}_{property}", self.broker);
        let Some(database) = TestDatabase::fresh(self.shared, &name).await else {
            let reason = "the test run does without the database that instances would share";
            return Err(Unavailable(reason.to_owned()));
        };
        sql_stores::migrate(database.url()).await;
        Ok(database.url().to_owned())
    }
}

/// Connections of their own to a store.
pub(super) fn open(address: &str) -> BoxFuture<'_, Stores> {
    Box::pin(sql_stores::open(address))
}
