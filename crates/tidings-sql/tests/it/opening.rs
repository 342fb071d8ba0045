//! A file that several open at the same moment.

use std::path::PathBuf;
use tidings_core::store::StoreError;
use tidings_sql::schema::{self, Part};
use tidings_sql::{Database, DatabaseOptions};
use tokio::task::JoinSet;

/// Each round is a file of its own; without waiting, one of a few dozen refused an opener.
const ROUNDS: usize = 20;
const OPENERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_that_several_open_at_once_is_opened_and_migrated_by_each() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let file = folder.path().join(format!("{round}.db"));
        let mut openers = JoinSet::new();
        for _ in 0..OPENERS {
            openers.spawn(open(file.clone()));
        }
        while let Some(opened) = openers.join_next().await {
            opened
                .unwrap()
                .unwrap_or_else(|error| panic!("round {round}: {error}"))
                .close()
                .await;
        }
    }
}

async fn open(file: PathBuf) -> Result<Database, StoreError> {
    let options = DatabaseOptions {
        create: true,
        ..DatabaseOptions::default()
    };
    let database = Database::open_file(&file, &options).await?;
    schema::migrate(&database, &Part::ALL).await?;
    Ok(database)
}
