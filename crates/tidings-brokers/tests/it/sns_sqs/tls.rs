//! HTTPS: an authority of one's own is trusted, any other certificate is refused.

use super::*;
use crate::aws::tls::{Certificate, behind_a_door};

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_and_no_other_certificate() {
    let Some(server) = host("tls") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Certificate::new(folder.path(), "ours");
    let theirs = Certificate::new(folder.path(), "theirs");
    let topic = fresh("tls");
    let parameters = |more: &str| format!("topic={topic}&wait=0&{more}");
    let trusting = |certificate: &Certificate| format!("ca={}", certificate.file.display());

    behind_a_door(&ours, &server, async |address: String| {
        let broker = connect(&address, &parameters(&trusting(&ours)))
            .await
            .expect("a broker");
        let mut subscription = broker
            .subscribe(&group("g", &["**"]))
            .await
            .expect("a group");
        publish(&broker, &[event("order.placed", "a", 1)]).await;
        let came = receive(&mut subscription, 1).await;
        settle(&subscription, &came, SettleAction::Ack).await;
        assert_eq!(ids(&came), ["a-1"]);
        subscription.settle.leave().await.expect("left");

        for mistrusting in [trusting(&theirs), "tls=true".to_owned()] {
            let parameters = parameters(&mistrusting);
            let connecting = connect(&address, &parameters);
            let refused = tokio::time::timeout(DEADLINE, connecting).await;
            let error = refused.expect("in time").expect_err("a refusal");
            assert_eq!(error.code(), codes::BROKER_UNAUTHORISED, "{error}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_file_without_an_authority_is_named_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "no certificate").expect("written");
    let half = folder.path().join("half.pem");
    let text = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n";
    std::fs::write(&half, text).expect("written");
    let absent = folder.path().join("absent.pem");

    for (file, word) in [
        (nothing, "no certificate"),
        (half, "half.pem"),
        (absent, "No such file"),
    ] {
        let refused = connect("127.0.0.1:9", &format!("ca={}", file.display())).await;
        let error = refused.expect_err("no authority");
        assert_eq!(error.code(), codes::BROKER_URL_INVALID, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
