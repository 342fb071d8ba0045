//! The embedded broker passes the suite of brokers.

use crate::sql_stores::{self, Files};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_flow::runtime::SystemClock;
use tidings_log::{LogBroker, OpenOptions, RealDisk};
use tidings_testkit::conformance::broker::{
    self, Fixture, Sharing, Stores, Traits, Unavailable, unavailable,
};

/// A folder for each place; who connects in this process gets the one broker that owns it.
struct Embedded {
    root: tempfile::TempDir,
    /// The broker of each folder, open or closed.
    open: Mutex<BTreeMap<String, Arc<LogBroker>>>,
    stores: Files,
}

impl Fixture for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(async { format!("tidings {}", env!("CARGO_PKG_VERSION")) })
    }

    fn traits(&self) -> Traits {
        Traits {
            one_instance: Some("one instance works for a group at a time; a second is refused"),
            is_embedded: true,
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "conformance::the_embedded_broker_conforms"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let folder = tempfile::Builder::new()
                .prefix(property)
                .tempdir_in(self.root.path())
                .unwrap();
            folder.keep().to_str().unwrap().to_owned()
        })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            let mut open = self.open.lock().unwrap();
            let clock = Arc::new(SystemClock::new());
            match LogBroker::open(OpenOptions::new(address, clock, Arc::new(RealDisk))) {
                Ok(broker) => {
                    let broker = Arc::new(broker);
                    open.insert(address.to_owned(), Arc::clone(&broker));
                    Ok(broker as Arc<dyn Broker>)
                }
                Err(BrokerError::FolderOwned { .. }) if open.contains_key(address) => {
                    Ok(Arc::clone(&open[address]) as Arc<dyn Broker>)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn remove<'a>(&'a self, address: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.open.lock().unwrap().remove(address);
            std::fs::remove_dir_all(address).unwrap();
        })
    }

    fn fresh_stores<'a>(
        &'a self,
        property: &'a str,
        sharing: Sharing,
    ) -> BoxFuture<'a, Result<String, Unavailable>> {
        match sharing {
            Sharing::OneInstance => Box::pin(async { Ok(self.stores.fresh(property).await) }),
            Sharing::ManyInstances => unavailable("one instance works for a group at a time"),
        }
    }

    fn open_stores<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Stores> {
        Box::pin(sql_stores::open(address))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_conforms() {
    let embedded = Embedded {
        root: tempfile::tempdir().unwrap(),
        open: Mutex::default(),
        stores: Files::default(),
    };
    broker::run(Arc::new(embedded)).await.assert_holds();
}
