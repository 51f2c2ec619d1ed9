//! Columns on their way into the model: a text that does not parse names its table and row.
//!
//! A page of the index comes as one text of lines, because a row of its own costs more on its way
//! through the pool than all that is in it.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::error::{Error, Result};
use crate::model::time::Timestamp;
use crate::store::Made;
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

/// Separates the fields of a packed line, and the lines. No id, scope or number holds a control
/// character.
pub(crate) const FIELD: &str = "\u{1f}";
pub(crate) const LINE: &str = "\u{1e}";
/// The same, to split at: a character is found faster than a text.
const FIELD_CHAR: char = '\u{1f}';
const LINE_CHAR: char = '\u{1e}';

/// One line of a packed page, read field by field.
pub(crate) struct Packed<'l> {
    table: &'static str,
    line: &'l str,
    fields: std::str::Split<'l, char>,
}

impl<'l> Packed<'l> {
    /// The lines of a page, which is `None` where no row was found.
    pub(crate) fn lines(table: &'static str, page: Option<&'l str>) -> impl Iterator<Item = Self> {
        page.into_iter().flat_map(|page| page.split(LINE_CHAR)).map(move |line| Self {
            table,
            line,
            fields: line.split(FIELD_CHAR),
        })
    }

    pub(crate) fn text(&mut self) -> Result<&'l str> {
        self.fields.next().ok_or_else(|| self.bad("a field is missing"))
    }

    pub(crate) fn parsed<T>(&mut self) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?.parse().map_err(|cause| self.bad(cause))
    }

    /// The empty field is `None`.
    pub(crate) fn parsed_or_none<T>(&mut self) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text()? {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|cause| self.bad(cause)),
        }
    }

    /// A list that is separated by spaces.
    pub(crate) fn parsed_list<T>(&mut self) -> Result<Vec<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let items = self.text()?.split_ascii_whitespace();
        items.map(|item| item.parse().map_err(|cause| self.bad(cause))).collect()
    }

    pub(crate) fn moment_or_none(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.parsed_or_none::<i64>()?.map(Timestamp::from_millis))
    }

    /// The first field.
    fn id(&self) -> &'l str {
        self.line.split(FIELD_CHAR).next().unwrap_or_default()
    }

    pub(crate) fn bad(&self, cause: impl Display) -> Error {
        Error::bad_row(self.table, self.id(), cause)
    }
}

/// The rows of a page whose lines begin with an id and end with a revision, and the last of these;
/// nothing where there is no row.
pub(crate) fn made_of<T>(
    table: &'static str,
    page: Option<&str>,
    unpacked: impl Fn(&mut Packed<'_>) -> Result<T>,
) -> Result<(Vec<T>, Option<Made>)> {
    let mut last = None;
    let mut rows = Vec::new();
    for mut line in Packed::lines(table, page) {
        let id = line.id();
        rows.push(unpacked(&mut line)?);
        // the order of an aggregate is nobody's promise
        last = last.max(Some((line.parsed()?, id)));
    }
    Ok((rows, last.map(|(revision, id)| Made { revision, id: id.to_owned() })))
}
