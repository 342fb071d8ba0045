//! `tidings outbox migrate`: makes the tables.

use super::{shape_name, source};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::outbox_arguments::OutboxMigrate;
use crate::output::talk;
use tidings::core::codes;
use tidings::core::store::StoreError;
use tidings::sql::schema::{self, Part};
use tidings::sql::{Database, Shape, shape_of};

/// The table that is ours.
const TABLE: &str = "outbox";

pub(crate) async fn run(global: &Global, arguments: OutboxMigrate) -> Result<(), Failure> {
    let database = source::database(&arguments.from, true).await?;
    // Before anything is made: whoever has such a table did not ask for ours.
    refuse_a_table_of_others(&database).await?;
    schema::migrate(&database, &[Part::Outbox, Part::Relay]).await?;
    talk(
        global.quiet,
        format_args!(
            "the outbox and the tables of the relay are in {}",
            database.name()
        ),
    );
    Ok(())
}

/// Our statements would leave a table of that name as it is and fail half-way, or worse, not fail.
async fn refuse_a_table_of_others(database: &Database) -> Result<(), Failure> {
    let shape = match shape_of(database, TABLE).await {
        Ok(None | Some(Shape::Tidings)) => return Ok(()),
        Ok(Some(shape)) => shape_name(shape).to_owned(),
        Err(StoreError::ShapeWrong { fault, .. }) => format!("none that is known: {fault}"),
        Err(error) => return Err(error.into()),
    };
    Err(Failure::new(
        codes::STORE_SHAPE_WRONG,
        format!(
            "the table {TABLE} in {} is somebody else's (shape: {shape}) and stays as it is; relay it as it stands: tidings relay check",
            database.name()
        ),
    ))
}
