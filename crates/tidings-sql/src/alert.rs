//! What watchers keep in a database, and how far behind groups are there.

use crate::changing::Changing;
use crate::database::Database;
use crate::dialect::Dialect;
use crate::driver::{Bind, Row};
use crate::error::Access;
use crate::schema::{self, Part};
use crate::statement::Statement;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tidings_core::BoxFuture;
use tidings_core::store::{
    AlertStore, Backlog, Kept, KeptChange, KeptKind, LetterBacklog, ParkedBacklog, StoreError,
};

/// The store of watchers in a database. Clones are the same one.
///
/// **Guarantee**: what is answered is committed.
#[derive(Clone)]
pub struct Alerts {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    kept: Statement,
    put: Statement,
    forget: Statement,
    parked: Statement,
    letters: Statement,
}

impl Alerts {
    /// The store in a database. Its table is made by [`migrate`](crate::schema::migrate); to look at what groups could not handle it is not needed.
    ///
    /// **Errors**: [`StoreError::SchemaNewer`]; [`StoreError::ShapeWrong`] where the server is too old; a database that is down.
    ///
    /// **Cancel**: no effect.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        schema::installed(database, Part::Alert).await?;
        let of = |template| Statement::new(database.dialect() as &Dialect, template, &[]);
        Ok(Self {
            inner: Arc::new(Inner {
                database: database.clone(),
                kept: of(include_str!("../sql/alert/kept.sql")),
                put: of(include_str!("../sql/alert/put.sql")),
                forget: of(include_str!("../sql/alert/forget.sql")),
                parked: of(include_str!("../sql/alert/parked.sql")),
                letters: of(include_str!("../sql/alert/letters.sql")),
            }),
        })
    }

    async fn read(&self, watcher: &str) -> Result<Vec<Kept>, StoreError> {
        let values = [("watcher", Bind::text(watcher))];
        let rows = self.ask(&self.inner.kept, &values).await?;
        Ok(rows.into_iter().filter_map(kept_of).collect())
    }

    async fn make(&self, watcher: &str, changes: &[KeptChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut changing = Changing::begin(&self.inner.database, access()).await?;
        for change in changes {
            let (kind, name) = match change {
                KeptChange::Put(kept) => (kept.kind, &kept.name),
                KeptChange::Forget { kind, name } => (*kind, name),
            };
            let mut values = vec![
                ("watcher", Bind::text(watcher)),
                ("kind", Bind::text(kind.as_str())),
                ("name", Bind::text(name.clone())),
            ];
            changing.execute(&self.inner.forget, &values).await?;
            if let KeptChange::Put(kept) = change {
                values.push(("body", Bind::text(kept.body.clone())));
                changing.execute(&self.inner.put, &values).await?;
            }
        }
        changing.commit().await
    }

    async fn look(&self) -> Result<Backlog, StoreError> {
        // Where no group ever parked anything the tables may not be there.
        let parked = or_nothing(self.ask(&self.inner.parked, &[]).await)?;
        let letters = or_nothing(self.ask(&self.inner.letters, &[]).await)?;
        Ok(Backlog {
            parked: parked.into_iter().filter_map(parked_of).collect(),
            letters: letters.into_iter().filter_map(letters_of).collect(),
        })
    }

    async fn ask(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<Vec<Row>, StoreError> {
        let binds = statement.binds(values);
        let database = &self.inner.database;
        database.fetch(statement.sql(), &binds, &access()).await
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alerts").field(&self.name()).finish()
    }
}

impl AlertStore for Alerts {
    fn name(&self) -> &str {
        self.inner.database.name()
    }

    fn kept<'a>(&'a self, watcher: &'a str) -> BoxFuture<'a, Result<Vec<Kept>, StoreError>> {
        Box::pin(self.read(watcher))
    }

    fn keep<'a>(
        &'a self,
        watcher: &'a str,
        changes: &'a [KeptChange],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.make(watcher, changes))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        Box::pin(self.look())
    }
}

fn or_nothing(answer: Result<Vec<Row>, StoreError>) -> Result<Vec<Row>, StoreError> {
    match answer {
        Err(StoreError::TableMissing { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn kept_of(mut row: Row) -> Option<Kept> {
    Some(Kept {
        kind: KeptKind::parse(&row.text(0)?)?,
        name: row.text(1)?,
        body: row.text(2)?,
    })
}

fn parked_of(mut row: Row) -> Option<ParkedBacklog> {
    Some(ParkedBacklog {
        deliveries: row.count(1),
        keys: row.count(2),
        oldest_age: Duration::from_micros(row.count(3)),
        held: row.count(4),
        held_age: Duration::from_micros(row.count(5)),
        group: row.text(0)?,
    })
}

fn letters_of(mut row: Row) -> Option<LetterBacklog> {
    Some(LetterBacklog {
        open: row.count(2),
        total: row.count(3),
        oldest_age: Duration::from_micros(row.count(4)),
        cluster: row.text(1)?,
        group: row.text(0)?,
    })
}

fn access() -> Access<'static> {
    Access {
        table: "tidings_alert",
        privileges: "SELECT, INSERT, DELETE",
        remedy: "tidings alert run makes it where the user may",
    }
}
