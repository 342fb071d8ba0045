//! JSON that may be read and written again on its way: what of a text survives that, and the text as it was before.

use serde_json::value::RawValue;
use std::collections::HashSet;

/// Whole numbers up to here are the same in every program.
const INTEGER_MAX: u64 = 1 << 53;
/// From here on some programs write numbers with an exponent.
const DECIMALS: std::ops::Range<f64> = 1e-4..1e15;

/// A JSON text without blanks, its strings spelled in the usual way, members and numbers as they stand.
///
/// `None` if the text is not JSON.
pub(super) fn usual(text: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(text).ok()?;
    let mut usual = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, after) = if first == '"' {
            rest.split_at(string_bytes(rest))
        } else {
            rest.split_at(first.len_utf8())
        };
        rest = after;
        if first == '"' {
            match serde_json::from_str::<String>(token) {
                Ok(string) => usual.push_str(&serde_json::to_string(&string).ok()?),
                // Half of a pair of surrogates has no other spelling.
                Err(_) => usual.push_str(token),
            }
        } else if !first.is_ascii_whitespace() {
            usual.push_str(token);
        }
    }
    Some(usual)
}

/// Whether a JSON text comes back from any program as it is, or as [`usual`] makes it again.
pub(super) fn survives(text: &str) -> bool {
    usual(text).as_deref() == Some(text) && !text.contains("\\ud") && members_and_numbers(text)
}

/// Bytes of the string that a text begins with.
fn string_bytes(text: &str) -> usize {
    let mut is_escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether no object has a member twice, and every number is spelled as any program would. The text has no blanks.
fn members_and_numbers(text: &str) -> bool {
    let mut members: Vec<HashSet<&str>> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let bytes = match first {
            '"' => string_bytes(rest),
            '-' | '0'..='9' => rest
                .find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'))
                .unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(bytes);
        rest = after;
        match first {
            '{' => members.push(HashSet::new()),
            '}' => drop(members.pop()),
            '"' if rest.starts_with(':') => {
                let is_new = members.last_mut().is_none_or(|names| names.insert(token));
                if !is_new {
                    return false;
                }
            }
            '-' | '0'..='9' if !is_plain(token) => return false,
            _ => {}
        }
    }
    true
}

fn is_plain(number: &str) -> bool {
    if number.contains(['e', 'E']) || number == "-0" {
        return false;
    }
    if !number.contains('.') {
        let digits = number.trim_start_matches('-');
        return digits
            .parse::<u64>()
            .is_ok_and(|value| value <= INTEGER_MAX);
    }
    number
        .parse::<f64>()
        .is_ok_and(|value| DECIMALS.contains(&value.abs()) && format!("{value:?}") == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_program_writes_alike_survives() {
        for text in [
            r#"{"a":[1,-2.5,true,null],"b":"naïve \"x\" \n","c":{"a":19.99}}"#,
            "\"text\"",
            "9007199254740992",
        ] {
            assert!(survives(text), "{text}");
        }
        for text in [
            r#"{"a": 1}"#,
            "1.50",
            "1e3",
            "-0",
            "0.00001",
            "9007199254740993",
            r#"{"a":1,"a":2}"#,
            r#""\u0041""#,
            r#""\ud800""#,
        ] {
            assert!(!survives(text), "{text}");
        }
    }

    #[test]
    fn another_spelling_becomes_the_usual_one() {
        let other = "{ \"b\" : \"na\\u00efve \\\" \" , \"a\": 1.0 }\n";
        assert_eq!(usual(other).unwrap(), r#"{"b":"naïve \" ","a":1.0}"#);
        assert_eq!(usual("{half"), None);
    }
}
