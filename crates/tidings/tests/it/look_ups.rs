//! Looking events up by id and by key through the front door.

use crate::shop::{Shop, cancelled, order};

#[tokio::test]
async fn an_event_is_found_by_its_id_and_a_history_by_its_key() {
    let shop = Shop::new();
    let tidings = shop.open().await;
    let mut ids = Vec::new();
    for number in 0..50 {
        let published = tidings
            .publish(order(&format!("order-{number}")))
            .await
            .unwrap();
        ids.push(published.event_id);
    }
    tidings.publish(cancelled("order-7")).await.unwrap();

    let found = tidings.find(&ids[33]).await.unwrap().unwrap();
    assert_eq!(found.position.0, 33);
    assert_eq!(found.envelope.aggregate_id(), Some("order-33"));
    assert_eq!(tidings.find("evt-nowhere").await.unwrap(), None);
    let history = |pattern| {
        let tidings = tidings.clone();
        async move {
            let history = tidings.history(pattern).await.unwrap();
            let events = history.of_key("order-7").collect().await.unwrap();
            events
                .iter()
                .map(|event| event.position.0)
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(history("**").await, [7, 50]);
    assert_eq!(history("order.cancelled").await, [50]);
}
