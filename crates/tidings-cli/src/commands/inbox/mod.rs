//! `tidings inbox`: what consumers remember of the events that they have handled.

pub(crate) mod prune;
pub(crate) mod status;
pub(crate) mod tables;

use crate::commands::outbox::source;
use crate::failure::Failure;
use crate::folder;
use crate::inbox_arguments;
use tidings::core::codes;
use tidings::sql::{self, Database};

/// Opens the database that the arguments name; a file that does not exist is made only where `create` says so.
async fn database(inbox: &inbox_arguments::Inbox, create: bool) -> Result<Database, Failure> {
    let Some(folder) = &inbox.folder else {
        return source::database(inbox.from.as_deref().unwrap_or_default(), create).await;
    };
    let file = folder::state(folder);
    if !file.exists() && !create {
        return Err(Failure::new(
            codes::FOLDER_MISSING,
            format!(
                "there is no database in {}; name a data folder that has one, or a database with --from",
                folder.display()
            ),
        ));
    }
    source::file(&file, create).await
}

/// Opens the inbox that the arguments name, as a person does who may not be allowed what consumers are.
async fn open(inbox: &inbox_arguments::Inbox) -> Result<sql::Inbox, Failure> {
    let database = database(inbox, false).await?;
    Ok(sql::Inbox::open_to_look(&database).await?)
}
