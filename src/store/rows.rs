//! Many rows by one statement: the statement of one row is written once, and its group of values
//! repeated.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::store::{Connection, block_sizes};

/// A statement and its values.
pub(crate) type AnyQuery<'q> = Query<'q, Any, AnyArguments>;

/// Runs the insert of one row for all of these. `bind` gives a row its values.
pub(crate) async fn insert_all<T>(
    connection: &mut Connection,
    insert: &'static str,
    mut rows: &[T],
    bind: impl for<'q> Fn(AnyQuery<'q>, &T) -> AnyQuery<'q>,
) -> sqlx::Result<()> {
    let sizes = block_sizes(connection);
    while let Some((block, rest)) = next_block(sizes, rows) {
        let query = sqlx::query(for_rows(insert, block.len()));
        block.iter().fold(query, &bind).execute(&mut *connection).await?;
        rows = rest;
    }
    Ok(())
}

/// The rows that a query of one `VALUES ($1)` gives for all of these.
pub(crate) async fn fetch_for_all<T>(
    connection: &mut Connection,
    select: &'static str,
    mut wanted: &[T],
    bind: impl for<'q> Fn(AnyQuery<'q>, &T) -> AnyQuery<'q>,
) -> sqlx::Result<Vec<AnyRow>> {
    let sizes = block_sizes(connection);
    let mut found = Vec::new();
    while let Some((block, rest)) = next_block(sizes, wanted) {
        let query = sqlx::query(for_rows(select, block.len()));
        found.extend(block.iter().fold(query, &bind).fetch_all(&mut *connection).await?);
        wanted = rest;
    }
    Ok(found)
}

/// The largest block that the rows fill.
fn next_block<'r, T>(sizes: &[usize], rows: &'r [T]) -> Option<(&'r [T], &'r [T])> {
    sizes.iter().find_map(|size| rows.split_at_checked(*size))
}

/// `INSERT INTO t (a, b) VALUES ($1, $2)` for so many rows: `($1, $2), ($3, $4)` and so on. What
/// stands behind the values stays.
fn for_rows(insert: &'static str, rows: usize) -> SqlStr {
    let parts = insert.split_once("VALUES (").and_then(|(before, rest)| {
        let (group, after) = rest.split_once(')')?;
        Some((before, group.split(',').count(), after))
    });
    match parts {
        Some((before, values, after)) if rows > 1 => {
            let group = |row: usize| {
                let numbers = (1..=values).map(|value| format!("${}", row * values + value));
                format!("({})", numbers.collect::<Vec<_>>().join(", "))
            };
            let groups = (0..rows).map(group).collect::<Vec<_>>().join(", ");
            // made of a literal and of numbers, and of nothing that anybody sent
            AssertSqlSafe(format!("{before}VALUES {groups}{after}")).into_sql_str()
        }
        _ => insert.into_sql_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_values_is_repeated_and_counted_on() {
        let insert = "PUT (a, b)\n  VALUES ($1,\n $2) AND SO ON";
        assert_eq!(for_rows(insert, 1).as_str(), insert);
        assert_eq!(
            for_rows(insert, 3).as_str(),
            "PUT (a, b)\n  VALUES ($1, $2), ($3, $4), ($5, $6) AND SO ON"
        );
    }

    #[test]
    fn rows_are_cut_into_few_sizes_and_none_is_lost() {
        for count in 0..200 {
            let all: Vec<usize> = (0..count).collect();
            let (mut rest, mut seen) = (all.as_slice(), Vec::new());
            while let Some((block, behind)) = next_block(&[16, 4, 1], rest) {
                assert!([16, 4, 1].contains(&block.len()));
                seen.extend_from_slice(block);
                rest = behind;
            }
            assert_eq!(seen, all);
        }
    }
}
