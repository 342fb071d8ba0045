//! `tidings.toml`: what is too long for flags. Flags and environment go before it.

use crate::failure::Failure;
use serde::Deserialize;
use std::path::Path;
use tidings::core::codes;
use tidings::sql::ColumnMapping;

/// The file that is read where none is named.
const USUAL: &str = "tidings.toml";

/// The whole file. A name that is not known is an error: a misspelt one would change what is published.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    relay: RelaySection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RelaySection {
    mapping: ColumnMapping,
}

/// The mapping of columns in the file that is named, or in the usual one if it is there.
pub(crate) fn mapping(named: Option<&Path>) -> Result<ColumnMapping, Failure> {
    let path = named.unwrap_or(Path::new(USUAL));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(ColumnMapping::default());
        }
        Err(error) => return Err(Failure::file("read", path.display(), &error)),
    };
    parse(&text).map_err(|error| {
        Failure::new(
            codes::CONFIG_INVALID,
            format!("{} cannot be used: {error}", path.display()),
        )
    })
}

fn parse(text: &str) -> Result<ColumnMapping, String> {
    let config: Result<Config, _> = toml::from_str(text);
    match config {
        Ok(config) => Ok(config.relay.mapping),
        Err(error) => Err(error.to_string().trim_end().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_read() {
        let mapping =
            parse("[relay.mapping]\naggregate_id = \"order_no\"\ndefault_source = \"shop\"\n")
                .unwrap();

        assert_eq!(mapping.aggregate_id.as_deref(), Some("order_no"));
        assert_eq!(mapping.default_source.as_deref(), Some("shop"));
        assert_eq!(parse("").unwrap(), ColumnMapping::default());
    }

    #[test]
    fn a_name_that_is_not_known_is_named_with_its_line_and_those_that_are() {
        let error = parse("[relay.mapping]\naggregate = \"order_no\"\n").unwrap_err();

        assert!(error.contains("line 2"), "{error}");
        assert!(error.contains("`aggregate`"), "{error}");
        assert!(error.contains("`aggregate_id`"), "{error}");
        assert!(parse("[realy]\n").is_err());
        assert!(parse("[relay]\nmaping = {}\n").is_err());
    }
}
