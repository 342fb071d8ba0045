//! Statements over many rows: what stands in square brackets is said once for each of them.
//!
//! A text is made for a few numbers of rows only, so that each is prepared once, whatever number there is.

use crate::dialect::Dialect;
use crate::driver::Bind;
use crate::statement::Statement;
use tidings_core::limits::{SQL_MANY_BYTES_MAX, SQL_MANY_ROWS_MAX};

/// The values of one row, by name. All rows of a call have the same names in the same order.
pub(crate) type Values = Vec<(&'static str, Bind)>;

/// A statement that one database understands, for each of the numbers of rows.
#[derive(Debug)]
pub(crate) struct ManyStatement {
    /// The largest number first.
    sizes: Vec<OfSize>,
    /// The names in the brackets, in their order.
    names: Vec<String>,
    /// Whether a row may be said twice, as in a list of what is looked for: then what is left of the rows goes into one statement.
    is_list: bool,
}

#[derive(Debug)]
struct OfSize {
    rows: usize,
    statement: Statement,
    slots: Vec<Slot>,
}

/// Where a value comes from.
#[derive(Debug)]
enum Slot {
    Shared(String),
    OfRow { row: usize, name: usize },
}

/// A statement for some of the rows, ready to run.
pub(crate) struct Part<'s> {
    pub(crate) sql: &'s str,
    pub(crate) binds: Vec<Bind>,
}

impl ManyStatement {
    /// Fills the fragments and repeats the brackets, with commas between. A template without brackets stays as it is.
    pub(crate) fn new(dialect: &Dialect, template: &str, fragments: &[(&str, &str)]) -> Self {
        let (before, rest) = template.split_once('[').unwrap_or((template, "]"));
        let (repeated, after) = rest.rsplit_once(']').unwrap_or((rest, ""));
        let names = names_in(repeated);
        let sizes = sizes().map(|rows| {
            let each = (0..rows).map(|row| of_row(repeated, row));
            let each = each.collect::<Vec<_>>().join(", ");
            let text = format!("{before}{each}{after}");
            let statement = Statement::of_many_values(dialect, &text, fragments);
            let slots = statement.names().iter().map(|name| slot(name, &names));
            OfSize {
                rows,
                slots: slots.collect(),
                statement,
            }
        });
        Self {
            sizes: sizes.collect(),
            is_list: before.ends_with("IN ("),
            names,
        }
    }

    /// The statements that together are about all of the rows, in their order.
    pub(crate) fn parts<'s>(
        &'s self,
        shared: &'s [(&'s str, Bind)],
        rows: &'s [Values],
    ) -> impl Iterator<Item = Part<'s>> {
        let columns: Vec<Option<usize>> = self
            .names
            .iter()
            .map(|name| {
                let first = rows.first()?;
                first.iter().position(|(given, _)| given == name)
            })
            .collect();
        let mut rest = rows;
        std::iter::from_fn(move || {
            let fits = fitting(rest);
            let sized = if self.is_list {
                let mut smallest_first = self.sizes.iter().rev();
                smallest_first.find(|sized| fits > 0 && sized.rows >= fits)?
            } else {
                self.sizes.iter().find(|sized| sized.rows <= fits)?
            };
            let (taken, after) = rest.split_at(sized.rows.min(fits));
            rest = after;
            Some(Part {
                sql: sized.statement.sql(),
                binds: sized.binds(shared, taken, &columns),
            })
        })
    }
}

impl OfSize {
    fn binds(
        &self,
        shared: &[(&str, Bind)],
        rows: &[Values],
        columns: &[Option<usize>],
    ) -> Vec<Bind> {
        let value = |slot: &Slot| match slot {
            Slot::Shared(name) => {
                let found = shared.iter().find(|(given, _)| given == name);
                found.map(|(_, bind)| bind.clone())
            }
            Slot::OfRow { row, name } => {
                let column = columns.get(*name).copied().flatten()?;
                // What a list is longer than its rows, the last one fills.
                let row = rows.get(*row).or(rows.last())?;
                let (_, bind) = row.get(column)?;
                Some(bind.clone())
            }
        };
        self.slots
            .iter()
            .map(|slot| value(slot).unwrap_or(Bind::Text(None)))
            .collect()
    }
}

/// How many of the rows one statement may be about. A single row that is larger than a statement should be goes alone.
fn fitting(rows: &[Values]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        bytes += row.iter().map(|(_, bind)| bind.bytes()).sum::<usize>();
        bytes <= SQL_MANY_BYTES_MAX
    });
    let fits = fits.take(SQL_MANY_ROWS_MAX).count();
    fits.max(1).min(rows.len())
}

/// The numbers of rows for which there are texts, the largest first.
pub(crate) fn sizes() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(SQL_MANY_ROWS_MAX), |size| {
        (*size > 1).then_some(size / 2)
    })
}

/// The names of values in a text.
fn names_in(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for piece in text.split(':').skip(1) {
        let name = &piece[..name_bytes(piece)];
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The text for one row, whose values are told from those of the others by its number.
fn of_row(text: &str, row: usize) -> String {
    let mut pieces = text.split(':');
    let mut made = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, after) = piece.split_at(name_bytes(piece));
        made.push_str(&format!(":{name}{SEPARATOR}{row}{after}"));
    }
    made
}

/// Between a name and the number of its row; no name has it.
const SEPARATOR: &str = "__";

fn name_bytes(text: &str) -> usize {
    text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(text.len())
}

fn slot(name: &str, names: &[String]) -> Slot {
    let of_row = name.split_once(SEPARATOR).and_then(|(name, row)| {
        let name = names.iter().position(|known| known == name)?;
        Some((row.parse().ok()?, name))
    });
    match of_row {
        Some((row, name)) => Slot::OfRow { row, name },
        None => Slot::Shared(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{POSTGRES, SQLITE};

    fn row(number: i64) -> Values {
        vec![("a", Bind::Int(number)), ("b", Bind::text("b"))]
    }

    #[test]
    fn every_row_is_in_one_part_and_in_its_order() {
        let insert = "INSERT INTO t (c, a, b) VALUES [(:c, :b, :a)]";
        let shared = [("c", Bind::text("c"))];
        for count in [0, 1, 3, 4, 21, 300] {
            let rows: Vec<Values> = (0..count).map(row).collect();

            for dialect in [&SQLITE, &POSTGRES] {
                let statement = ManyStatement::new(dialect, insert, &[]);
                let parts: Vec<Part<'_>> = statement.parts(&shared, &rows).collect();

                let numbers = parts.iter().flat_map(|part| &part.binds);
                let numbers: Vec<&Bind> = numbers
                    .filter(|bind| matches!(bind, Bind::Int(_)))
                    .collect();
                let expected: Vec<Bind> = (0..count).map(Bind::Int).collect();
                assert_eq!(numbers, expected.iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn values_are_counted_as_the_database_counts_them() {
        let statement = "DELETE FROM t WHERE c = :c AND (a, b) IN ([(:a, :b)])";
        let shared = [("c", Bind::text("c"))];
        let rows = [row(1), row(2), row(3), row(4)];

        let postgres = ManyStatement::new(&POSTGRES, statement, &[]);
        let part = postgres.parts(&shared, &rows).next().unwrap();
        assert_eq!(
            part.sql,
            "DELETE FROM t WHERE c = $1 AND (a, b) IN (($2, $3), ($4, $5), ($6, $7), ($8, $9))"
        );
        assert_eq!(part.binds.len(), 9);
        let sqlite = ManyStatement::new(&SQLITE, statement, &[]);
        let part = sqlite.parts(&shared, &rows).next().unwrap();
        assert!(part.sql.ends_with("IN ((?, ?), (?, ?), (?, ?), (?, ?))"));
    }

    #[test]
    fn a_row_that_is_too_large_for_company_goes_alone() {
        let statement = ManyStatement::new(&SQLITE, "INSERT INTO t (a) VALUES [(:a)]", &[]);
        let large = || vec![("a", Bind::text("x".repeat(SQL_MANY_BYTES_MAX)))];
        let small = || vec![("a", Bind::text("x"))];
        let rows = [large(), small(), small(), small(), small(), large()];

        let parts = statement.parts(&[], &rows).map(|part| part.binds.len());

        assert_eq!(parts.collect::<Vec<_>>(), [1, 4, 1]);
    }

    #[test]
    fn a_list_is_filled_up_with_its_last_row() {
        let template = "DELETE FROM t WHERE c = :c AND a IN ([:a])";
        let statement = ManyStatement::new(&SQLITE, template, &[]);
        let shared = [("c", Bind::text("c"))];
        let rows: Vec<Values> = (0..SQL_MANY_ROWS_MAX as i64 + 3).map(row).collect();

        let parts: Vec<Part<'_>> = statement.parts(&shared, &rows).collect();

        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].binds.len(), 1 + SQL_MANY_ROWS_MAX);
        let last = [128, 129, 130, 130].map(Bind::Int);
        assert_eq!(parts[1].binds[1..], last);
        assert_eq!(statement.parts(&shared, &[]).count(), 0);
    }
}
