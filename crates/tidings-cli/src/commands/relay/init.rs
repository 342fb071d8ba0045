//! `tidings relay init`: the tables that a relay keeps beside an outbox.

use crate::arguments::Global;
use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::outbox_arguments::RelayInit;
use crate::output::talk;
use tidings::sql::schema::{self, Part};

pub(crate) async fn run(global: &Global, arguments: RelayInit) -> Result<(), Failure> {
    let url = arguments.state.as_deref().unwrap_or(&arguments.from);
    let database = source::database(url, arguments.state.is_some()).await?;
    schema::migrate(&database, &[Part::Relay]).await?;
    talk(
        global.quiet,
        format_args!("the tables of the relay are in {}", database.name()),
    );
    Ok(())
}
