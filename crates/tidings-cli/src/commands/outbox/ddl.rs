//! `tidings outbox ddl`: the statements that make the tables, for a migration of your own.

use crate::failure::Failure;
use crate::outbox_arguments::{OutboxDdl, Shape};
use crate::output::Output;
use tidings::core::codes;
use tidings::sql::Kind;
use tidings::sql::schema::{self, Part};

pub(crate) fn run(arguments: &OutboxDdl) -> Result<(), Failure> {
    let kind = arguments.dialect.known();
    let mut text = match arguments.style {
        Shape::Tidings => of(kind, Part::Outbox)?,
        Shape::Seed | Shape::Debezium => {
            schema::foreign_ddl(kind, arguments.style.known()).to_owned()
        }
    };
    if arguments.with_relay {
        text.push('\n');
        text.push_str(&of(kind, Part::Relay)?);
    }
    print(&text)
}

/// The statements that make the tables of a part; a database that this program was built without is an error.
pub(crate) fn of(kind: Kind, part: Part) -> Result<String, Failure> {
    schema::ddl(kind, part).ok_or_else(|| {
        Failure::new(
            codes::STORE_URL_INVALID,
            format!(
                "this program was built without {0}; build it with the feature {0}",
                kind.feature()
            ),
        )
    })
}

/// Prints statements as they are.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = Output::new();
    output.bytes(text.as_bytes())?;
    output.flush()
}
