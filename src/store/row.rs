//! Columns on their way into the model: a text that does not parse names its table and row.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::error::{Error, Result};
use crate::model::time::Timestamp;
use crate::store::page::Cursor;

/// A row of one table, read by column names.
pub(crate) struct Row<'r> {
    table: &'static str,
    row: &'r AnyRow,
}

impl<'r> Row<'r> {
    pub(crate) fn of(table: &'static str, row: &'r AnyRow) -> Self {
        Self { table, row }
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<i64> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn text_or_none(&self, column: &'static str) -> Result<Option<String>> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn number_or_none(&self, column: &'static str) -> Result<Option<i64>> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>> {
        Ok(self.row.try_get(column)?)
    }

    pub(crate) fn moment(&self, column: &'static str) -> Result<Timestamp> {
        self.number(column).map(Timestamp::from_millis)
    }

    pub(crate) fn moment_or_none(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.number_or_none(column)?.map(Timestamp::from_millis))
    }

    pub(crate) fn parsed<T>(&self, column: &'static str) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text: &str = self.row.try_get(column)?;
        self.parse(column, text)
    }

    pub(crate) fn parsed_or_none<T>(&self, column: &'static str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text: Option<&str> = self.row.try_get(column)?;
        text.map(|text| self.parse(column, text)).transpose()
    }

    /// The empty text is nothing.
    pub(crate) fn parsed_unless_empty<T>(&self, column: &'static str) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text: &str = self.row.try_get(column)?;
        if text.is_empty() { Ok(None) } else { self.parse(column, text).map(Some) }
    }

    /// The place of the row in a list of its table.
    pub(crate) fn cursor(&self, id: &'static str) -> Result<Cursor> {
        let revision = self.number("created_revision")?;
        Ok(Cursor { name: None, revision, id: self.text(id)? })
    }

    /// A list that is separated by spaces; the empty text is the empty list.
    pub(crate) fn parsed_list<T>(&self, column: &'static str) -> Result<Vec<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text: &str = self.row.try_get(column)?;
        text.split_ascii_whitespace().map(|item| self.parse(column, item)).collect()
    }

    fn parse<T>(&self, column: &'static str, text: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        text.parse().map_err(|cause| self.bad(column, cause))
    }

    /// The error of a column that holds what it must not.
    pub(crate) fn bad(&self, column: &'static str, cause: impl Display) -> Error {
        let number = || self.row.try_get(0).map(|number: i64| number.to_string());
        let id: String = self.row.try_get(0).or_else(|_| number()).unwrap_or_default();
        Error::bad_row(self.table, &id, format!("`{column}`: {cause}"))
    }
}

/// A number on its way to the database: both engines keep signed ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
