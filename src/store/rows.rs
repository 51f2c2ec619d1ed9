//! Many rows by one statement: the statement of one row is written once, and its group of values
//! repeated.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::store::Connection;

/// A statement and its values.
pub(crate) type AnyQuery<'q> = Query<'q, Any, AnyArguments>;

/// Runs the insert of one row for all of these. `bind` gives a row its values.
pub(crate) async fn insert_all<T>(
    connection: &mut Connection,
    insert: &'static str,
    rows: &[T],
    bind: impl for<'q> Fn(AnyQuery<'q>, &T) -> AnyQuery<'q>,
) -> sqlx::Result<()> {
    let placeholder = Placeholder::of(connection);
    for block in blocks(rows) {
        let query = sqlx::query(for_rows(insert, block.len(), placeholder));
        block.iter().fold(query, &bind).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The rows that a query of one `VALUES ($1)` gives for all of these.
pub(crate) async fn fetch_for_all<T>(
    connection: &mut Connection,
    select: &'static str,
    wanted: &[T],
    bind: impl for<'q> Fn(AnyQuery<'q>, &T) -> AnyQuery<'q>,
) -> sqlx::Result<Vec<AnyRow>> {
    let placeholder = Placeholder::of(connection);
    let mut found = Vec::new();
    for block in blocks(wanted) {
        let query = sqlx::query(for_rows(select, block.len(), placeholder));
        found.extend(block.iter().fold(query, &bind).fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

/// Rows cut into blocks of few sizes, so that there are few statements to prepare.
fn blocks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sizes = [96, 32, 8, 2, 1].into_iter();
        let (block, rest) = sizes.find_map(|size| rows.split_at_checked(size))?;
        rows = rest;
        Some(block)
    })
}

/// How a value of a row is written. SQLite takes numbers too, but as names, and walks all names of a
/// statement for each value that is bound: too long where there are hundreds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    InOrder,
    Numbered,
}

impl Placeholder {
    fn of(connection: &Connection) -> Self {
        if connection.backend_name() == "SQLite" { Self::InOrder } else { Self::Numbered }
    }

    fn write(self, number: usize) -> String {
        match self {
            Self::InOrder => "?".to_owned(),
            Self::Numbered => format!("${number}"),
        }
    }
}

/// `INSERT INTO t (a, b) VALUES ($1, $2)` for so many rows: `($1, $2), ($3, $4)` and so on. What
/// stands behind the values stays, and names none of them.
fn for_rows(statement: &'static str, rows: usize, placeholder: Placeholder) -> SqlStr {
    let parts = statement.split_once("VALUES (").and_then(|(before, rest)| {
        let (group, after) = rest.split_once(')')?;
        Some((before, group.split(',').count(), after))
    });
    match parts {
        Some((before, values, after)) if rows > 1 => {
            let group = |row: usize| {
                let numbers = (1..=values).map(|value| placeholder.write(row * values + value));
                format!("({})", numbers.collect::<Vec<_>>().join(", "))
            };
            let groups = (0..rows).map(group).collect::<Vec<_>>().join(", ");
            // made of a literal and of placeholders, and of nothing that anybody sent
            AssertSqlSafe(format!("{before}VALUES {groups}{after}")).into_sql_str()
        }
        _ => statement.into_sql_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_values_is_repeated_and_counted_on() {
        let insert = "PUT (a, b)\n  VALUES ($1,\n $2) AND SO ON";
        assert_eq!(for_rows(insert, 1, Placeholder::InOrder).as_str(), insert);
        assert_eq!(
            for_rows(insert, 3, Placeholder::Numbered).as_str(),
            "PUT (a, b)\n  VALUES ($1, $2), ($3, $4), ($5, $6) AND SO ON"
        );
        assert_eq!(
            for_rows(insert, 2, Placeholder::InOrder).as_str(),
            "PUT (a, b)\n  VALUES (?, ?), (?, ?) AND SO ON"
        );
    }

    #[test]
    fn rows_are_cut_into_few_sizes_and_none_is_lost() {
        for count in 0..200 {
            let all: Vec<usize> = (0..count).collect();
            let mut seen = Vec::new();
            for block in blocks(&all) {
                assert!([96, 32, 8, 2, 1].contains(&block.len()));
                seen.extend_from_slice(block);
            }
            assert_eq!(seen, all);
        }
    }
}
