//! The payload: bytes as they were given, and how an envelope in JSON carries them.

use bytes::Bytes;

/// How a JSON envelope carries a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// The bytes are the text of one JSON value and stand in the envelope as they are.
    Json,
    /// The bytes are anything and stand in the envelope as base64.
    Binary,
}

/// The payload of an event; no byte of it is ever re-rendered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payload {
    bytes: Bytes,
    carriage: Carriage,
}

impl Payload {
    /// A payload that is the text of one JSON value.
    ///
    /// **Errors**: permanent if it is not one JSON value in UTF-8.
    pub fn json(text: impl Into<Bytes>) -> Result<Self, serde_json::Error> {
        let bytes = text.into();
        Self::check_json(&bytes)?;
        Ok(Self {
            bytes,
            carriage: Carriage::Json,
        })
    }

    /// Whether bytes are the text of one JSON value.
    pub(crate) fn check_json(bytes: &[u8]) -> Result<(), serde_json::Error> {
        let _checked: serde::de::IgnoredAny = serde_json::from_slice(bytes)?;
        // IgnoredAny skips the inside of strings, so that UTF-8 is checked on its own.
        std::str::from_utf8(bytes).map_err(serde::de::Error::custom)?;
        Ok(())
    }

    /// A payload of any bytes; the envelope's content type says what they are.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            carriage: Carriage::Binary,
        }
    }

    /// A payload that was checked when it was first carried: nothing is checked again.
    pub fn trusted(bytes: Bytes, carriage: Carriage) -> Self {
        Self { bytes, carriage }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How a JSON envelope carries the bytes.
    pub fn carriage(&self) -> Carriage {
        self.carriage
    }

    /// The JSON text, if it can stand in one line as it is.
    pub fn json_line(&self) -> Option<&str> {
        if self.carriage == Carriage::Binary {
            return None;
        }
        one_line(&self.bytes)
    }
}

/// The text of bytes that hold no line break.
pub(crate) fn one_line(bytes: &[u8]) -> Option<&str> {
    if bytes.iter().any(|&byte| byte == b'\n' || byte == b'\r') {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_must_be_one_value_in_utf_8() {
        assert!(Payload::json(r#"{"a":1.0,"a":1}"#).is_ok());
        assert!(Payload::json("").is_err());
        assert!(Payload::json("1 2").is_err());
        assert!(Payload::json(&b"\"\xff\""[..]).is_err());
    }

    #[test]
    fn raw_line_breaks_keep_a_payload_off_a_line() {
        assert_eq!(Payload::json("{ }").unwrap().json_line(), Some("{ }"));
        assert_eq!(Payload::json("{\n}").unwrap().json_line(), None);
        assert_eq!(Payload::binary(&b"{}"[..]).json_line(), None);
    }
}
