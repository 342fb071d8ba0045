//! Names a failure, so that dead letters with the same cause are found together: numbers, ids and quoted values of its messages do not count.

use tidings_core::DedupeKey;

/// What the hash of a fingerprint is mixed with; it must never change.
const FINGERPRINTS: &str = "tidings.fingerprint";
/// Stands for what differs from event to event.
const HOLE: &str = "<>";

/// The name of a failure, such as `dlq-3fa9`: the same for error chains that differ in numbers, ids and quoted values alone.
///
/// Four digits are enough for a person to tell the failures of a group apart; two that share a name share a cluster, which costs a second look.
///
/// ```
/// use tidings_flow::dead_letter::fingerprint;
/// let of = |message: &str| fingerprint("payment", &[message.to_owned()]);
/// assert_eq!(of("order 17 is unknown"), of("order 4711 is unknown"));
/// assert_ne!(of("order 17 is unknown"), of("order 17 is closed"));
/// ```
pub fn fingerprint(handler: &str, reasons: &[String]) -> String {
    let mut text = handler.to_owned();
    for reason in reasons {
        text.push('\n');
        text.push_str(&normalised(reason));
    }
    let [first, second, ..] = *DedupeKey::from_id(&text, Some(FINGERPRINTS)).as_bytes();
    format!("dlq-{first:02x}{second:02x}")
}

/// A message with a hole for each part that differs from event to event.
fn normalised(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let in_word = text.chars().next_back().is_some_and(is_of_word);
        if let Some(length) = quoted(rest).filter(|_| !in_word) {
            text.push_str(HOLE);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        let length = rest
            .find(|letter: char| !is_of_word(letter))
            .unwrap_or(rest.len());
        if length == 0 {
            text.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (word, behind) = rest.split_at(length);
        text.push_str(if is_value(word) { HOLE } else { word });
        rest = behind;
    }
    text
}

/// The bytes of a quoted value at the beginning, quotes included.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    if !matches!(quote, '"' | '\'' | '`') {
        return None;
    }
    let inner = text.get(1..)?;
    let end = inner.find(quote)?;
    // An apostrophe begins no value that goes over lines.
    (!inner.get(..end)?.contains('\n')).then_some(end + 2)
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '-' | '_')
}

/// Whether a word names one thing among many: it has a digit, as numbers, ids and hashes have. An HTTP status or an error code tells failures apart, so that a short number with a letter in
/// front, such as `E17`, stays.
fn is_value(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let is_code = word.chars().take_while(char::is_ascii_uppercase).count() > 0
        && word
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit())
        && word.len() <= 8;
    !is_code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        fingerprint("handler", &[message.to_owned()])
    }

    #[test]
    fn values_do_not_count() {
        for (one, other) in [
            ("order 17 is unknown", "order 4711 is unknown"),
            ("no row for \"anna\"", "no row for \"bert and more\""),
            (
                "user 0190b0f0-7b7a-7c3e-9d6d-6e1f2a3b4c5d is locked",
                "user 0190b0f1-0000-7c3e-9d6d-6e1f2a3b4c5e is locked",
            ),
            ("hash 9f86d081884c7d65", "hash 60303ae22b998861"),
            ("after 30.5ms", "after 1.25ms"),
            ("order-7: missing", "order-8: missing"),
        ] {
            assert_eq!(of(one), of(other), "{one} / {other}");
        }
    }

    #[test]
    fn words_and_codes_count() {
        for (one, other) in [
            ("order 17 is unknown", "order 17 is closed"),
            ("TD0012: no", "TD0013: no"),
            ("can't do", "can't be"),
        ] {
            assert_ne!(of(one), of(other), "{one} / {other}");
        }
        let chain = ["no".to_owned(), "because".to_owned()];
        assert_ne!(fingerprint("handler", &chain), of("no"));
        assert_ne!(fingerprint("other", &chain), fingerprint("handler", &chain));
    }

    #[test]
    fn a_name_is_short() {
        let name = of("connection refused");

        assert_eq!(name.len(), 8, "{name}");
        assert!(name.starts_with("dlq-"), "{name}");
    }
}
