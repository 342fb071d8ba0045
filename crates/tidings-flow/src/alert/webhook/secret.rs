//! The secret of a webhook and the signature that is made with it.

use super::WebhookError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use std::fmt;
use tidings_core::limits::{
    WEBHOOK_SECRET_BYTES_MAX, WEBHOOK_SECRET_BYTES_MIN, WEBHOOK_SECRETS_MAX,
};

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The secrets that messages are signed with: one, or several while one takes the place of another. Nothing prints them.
#[derive(Clone)]
pub struct WebhookSecret {
    keys: Vec<hmac::Key>,
}

impl WebhookSecret {
    /// Reads secrets, one a line: `whsec_` and 24 to 64 bytes in base64. Each signs each message, so that a receiver may change from one to the other at its own pace.
    ///
    /// **Errors**: what is wrong, without the text.
    ///
    /// **Source**: Standard Webhooks 1.0, *symmetric signatures*.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(invalid("it is empty"));
        }
        if keys.len() > WEBHOOK_SECRETS_MAX {
            return Err(invalid("it has too many lines"));
        }
        Ok(Self { keys })
    }

    /// The value of the header `webhook-signature`.
    pub(super) fn signatures(&self, id: &str, timestamp_secs: i64, body: &str) -> String {
        let signed = format!("{id}.{timestamp_secs}.{body}");
        let signatures = self.keys.iter().map(|key| {
            let tag = hmac::sign(key, signed.as_bytes());
            format!("v1,{}", STANDARD.encode(tag.as_ref()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(***)")
    }
}

fn key(line: &str) -> Result<hmac::Key, WebhookError> {
    let Some(encoded) = line.strip_prefix(PREFIX) else {
        return Err(invalid("it does not begin with whsec_"));
    };
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| invalid("what follows whsec_ is no base64"))?;
    if !(WEBHOOK_SECRET_BYTES_MIN..=WEBHOOK_SECRET_BYTES_MAX).contains(&bytes.len()) {
        return Err(invalid("it is too short or too long"));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn invalid(reason: &'static str) -> WebhookError {
    WebhookError::SecretInvalid { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example that the specification's libraries test with.
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();

        let signature = secret.signatures(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );

        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_of_several_secrets_signs() {
        let one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let alone = |text: &str| WebhookSecret::parse(text).unwrap().signatures("i", 1, "b");

        let both = alone(&format!("{one}\n\n{other}\n"));

        assert_eq!(both, format!("{} {}", alone(one), alone(other)));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_never_shown() {
        for (text, reason) in [
            ("", "empty"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begin with whsec_"),
            ("whsec_not base64", "base64"),
            ("whsec_c2hvcnQ=", "short"),
        ] {
            let error = WebhookSecret::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "WebhookSecret(***)");
    }
}
