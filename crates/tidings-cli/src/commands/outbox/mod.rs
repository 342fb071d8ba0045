//! `tidings outbox`: the table that applications write into, and what waits in it.

pub(crate) mod ddl;
pub(crate) mod decide;
pub(crate) mod ls;
pub(crate) mod migrate;
pub(crate) mod prune;
pub(crate) mod source;
pub(crate) mod status;

use tidings::sql::Shape;

/// The name of a shape, as flags take it.
pub(crate) fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Tidings => "tidings",
        Shape::Seed => "seed",
        Shape::Debezium => "debezium",
        _ => "other",
    }
}
