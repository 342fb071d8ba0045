//! Statements as they stand in `sql/`: with `{fragments}` that a dialect or a table fills, and `:values` by name.

use crate::dialect::{Dialect, Kind};
use crate::driver::Bind;

/// A statement that one database understands.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    sql: String,
    /// The names of the values, in the order in which the database counts them.
    names: Vec<String>,
}

impl Statement {
    /// Leaves out comments, fills the fragments, again and again where they hold further ones, and numbers the values as the database does.
    pub(crate) fn new(dialect: &Dialect, template: &str, fragments: &[(&str, &str)]) -> Self {
        Self::counted_by(dialect.numbered_by, dialect, template, fragments)
    }

    /// The same for a statement of very many values. SQLite looks for each number of a value through all of them; counted by their place they have none.
    pub(crate) fn of_many_values(
        dialect: &Dialect,
        template: &str,
        fragments: &[(&str, &str)],
    ) -> Self {
        let numbered_by = dialect.numbered_by.filter(|_| dialect.kind != Kind::Sqlite);
        Self::counted_by(numbered_by, dialect, template, fragments)
    }

    fn counted_by(
        numbered_by: Option<char>,
        dialect: &Dialect,
        template: &str,
        fragments: &[(&str, &str)],
    ) -> Self {
        let lines = template.lines().filter(|line| !line.starts_with("--"));
        let mut text = lines.collect::<Vec<_>>().join("\n");
        // A fragment may hold another; what does not end after some rounds holds itself, and the database will refuse its braces.
        for _ in 0..8 {
            if !text.contains('{') {
                break;
            }
            for (name, fragment) in dialect.fragments.iter().chain(fragments) {
                text = text.replace(&format!("{{{name}}}"), fragment);
            }
        }
        number(numbered_by, &text)
    }

    /// The text.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// The names of the values, in the order of the text.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The values in the order of the text.
    pub(crate) fn binds(&self, values: &[(&str, Bind)]) -> Vec<Bind> {
        self.names
            .iter()
            .map(|name| {
                values
                    .iter()
                    .find(|(given, _)| given == name)
                    .map_or(Bind::Text(None), |(_, bind)| bind.clone())
            })
            .collect()
    }
}

/// Replaces `:name` by what the database counts values with. Quoted texts and casts (`::`) stay as they are.
fn number(numbered_by: Option<char>, text: &str) -> Statement {
    let mut sql = String::with_capacity(text.len());
    let mut names: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find([':', '\'']) {
        let (before, from) = rest.split_at(at);
        sql.push_str(before);
        if let Some(quoted) = from.strip_prefix('\'') {
            let bytes = quoted.find('\'').map_or(from.len(), |end| end + 2);
            let (literal, after) = from.split_at(bytes);
            sql.push_str(literal);
            rest = after;
        } else if let Some(after) = from.strip_prefix("::") {
            sql.push_str("::");
            rest = after;
        } else {
            let after = &from[1..];
            let bytes = after
                .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .unwrap_or(after.len());
            let (name, after) = after.split_at(bytes);
            sql.push_str(&placeholder(numbered_by, &mut names, name));
            rest = after;
        }
    }
    sql.push_str(rest);
    Statement { sql, names }
}

fn placeholder(numbered_by: Option<char>, names: &mut Vec<String>, name: &str) -> String {
    let Some(sign) = numbered_by else {
        names.push(name.to_owned());
        return "?".to_owned();
    };
    let number = names.iter().position(|given| given == name);
    let number = number.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    format!("{sign}{}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{MYSQL, POSTGRES};

    #[test]
    fn values_are_counted_as_the_database_counts_them() {
        let template = "SELECT ':a'::text, :b, :c WHERE {x}";
        let fragments = [("x", "y = :b")];

        let postgres = Statement::new(&POSTGRES, template, &fragments);
        assert_eq!(postgres.sql(), "SELECT ':a'::text, $1, $2 WHERE y = $1");
        let mysql = Statement::new(&MYSQL, template, &fragments);
        assert_eq!(mysql.sql(), "SELECT ':a'::text, ?, ? WHERE y = ?");

        let values = [("b", Bind::Int(1)), ("c", Bind::Int(2))];
        assert_eq!(postgres.binds(&values), [Bind::Int(1), Bind::Int(2)]);
        assert_eq!(
            mysql.binds(&values),
            [Bind::Int(1), Bind::Int(2), Bind::Int(1)]
        );
    }
}
