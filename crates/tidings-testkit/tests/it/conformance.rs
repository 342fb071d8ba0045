//! The broker in memory passes the suite of brokers.

use crate::sql_stores::{self, Files};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tidings_core::BoxFuture;
use tidings_core::broker::{Broker, BrokerError};
use tidings_flow::runtime::SystemClock;
use tidings_testkit::MemoryBroker;
use tidings_testkit::conformance::broker::{
    self, Fixture, Sharing, Stores, Traits, Unavailable, unavailable,
};

/// A broker in memory for each place.
#[derive(Default)]
struct InMemory {
    stores: Files,
    places: Mutex<BTreeMap<String, MemoryBroker>>,
}

impl Fixture for InMemory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn version(&self) -> BoxFuture<'_, String> {
        Box::pin(async { format!("tidings-testkit {}", env!("CARGO_PKG_VERSION")) })
    }

    fn traits(&self) -> Traits {
        Traits {
            one_instance: Some(
                "one instance works for a group at a time, as on the embedded broker; a second is refused",
            ),
            in_process: Some("it ends with its process"),
            ..Traits::default()
        }
    }

    fn test(&self) -> &'static str {
        "conformance::the_broker_in_memory_conforms"
    }

    fn fresh<'a>(&'a self, property: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let mut places = self.places.lock().unwrap();
            let address = format!("memory/{property}/{}", places.len());
            let broker = MemoryBroker::new(Arc::new(SystemClock::new()));
            places.insert(address.clone(), broker);
            address
        })
    }

    fn connect<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Broker>, BrokerError>> {
        Box::pin(async move {
            let broker = self.places.lock().unwrap()[address].another();
            Ok(Arc::new(broker) as Arc<dyn Broker>)
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
async fn the_broker_in_memory_conforms() {
    broker::run(Arc::new(InMemory::default()))
        .await
        .assert_holds();
}
