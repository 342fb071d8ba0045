//! Another value at one place of a JSON text; everything else keeps its text to the letter.

use crate::output;
use serde_json::value::RawValue;

/// The text with the value at the place that a JSON pointer (RFC 6901) names. The last step may be a new member of an object, or `-` for the end of an array.
///
/// **Errors**: what is wrong, for the person who wrote it.
pub(super) fn set(text: &str, pointer: &str, value: &str) -> Result<String, String> {
    let steps = match pointer.strip_prefix('/') {
        Some(steps) => steps.split('/').map(unescaped).collect::<Vec<_>>(),
        None if pointer.is_empty() => Vec::new(),
        None => {
            return Err(format!(
                "{pointer:?} is no place; write it like /customer/name"
            ));
        }
    };
    serde_json::from_str::<&RawValue>(value).map_err(|error| {
        format!("{value:?} is not JSON: {error}; a text needs quotes: '\"text\"'")
    })?;
    put(text, &steps, value).ok_or_else(|| format!("there is no place {pointer:?} in the payload"))
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

fn put(text: &str, steps: &[String], value: &str) -> Option<String> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value.to_owned());
    };
    if text.trim_start().starts_with('[') {
        let mut items: Vec<String> = serde_json::from_str::<Vec<&RawValue>>(text)
            .ok()?
            .into_iter()
            .map(|item| item.get().to_owned())
            .collect();
        if step == "-" && rest.is_empty() {
            items.push(value.to_owned());
        } else {
            let item = items.get_mut(step.parse::<usize>().ok()?)?;
            *item = put(item, rest, value)?;
        }
        return Some(format!("[{}]", items.join(",")));
    }
    let mut members = output::members_of(text)?;
    match members.iter_mut().find(|(name, _)| name == step) {
        Some((_, member)) => *member = put(member, rest, value)?,
        None if rest.is_empty() => members.push((step.clone(), value.to_owned())),
        None => return None,
    }
    let members = members.iter();
    let members: Vec<String> = members
        .map(|(name, member)| format!("{}:{member}", output::json(name)))
        .collect();
    Some(format!("{{{}}}", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_changes_and_the_rest_keeps_its_text() {
        let text = r#"{"total": 59.980,"items":[{"sku":"a"},{"sku":"b"}],"a/b":1}"#;

        assert_eq!(
            set(text, "/items/1/sku", "\"c\"").as_deref(),
            Ok(r#"{"total":59.980,"items":[{"sku":"a"},{"sku":"c"}],"a/b":1}"#)
        );
        assert_eq!(set("{}", "/new", "1.50").as_deref(), Ok(r#"{"new":1.50}"#));
        assert_eq!(set("[1]", "/-", "2").as_deref(), Ok("[1,2]"));
        assert_eq!(
            set(r#"{"a/b":1}"#, "/a~1b", "2").as_deref(),
            Ok(r#"{"a/b":2}"#)
        );
        assert_eq!(set("1", "", "2").as_deref(), Ok("2"));
    }

    #[test]
    fn a_place_that_is_not_there_is_named() {
        for (pointer, value) in [("/x/y", "1"), ("x", "1"), ("/items/9", "1"), ("/t", "word")] {
            let refused = set(r#"{"items":[1]}"#, pointer, value);
            let told = refused.unwrap_err();
            assert!(told.contains(pointer) || told.contains(value), "{told}");
        }
    }
}
