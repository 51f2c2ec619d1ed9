//! Pages of rows, each packed into one text of lines: a row of its own costs more on its way through the
//! pool than all that is in it.
//!
//! The statement of a page gives one text, by `string_agg` over lines that begin with an id. The order of an
//! aggregate is nobody's promise, so that rows are put in order here.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::id::{Id, Noun, OrgId};
use crate::model::time::Timestamp;
use crate::store::Connection;

/// Rows of a page.
const PAGE: i64 = 1_000;

/// The statement of a page, behind the table that its lines are of.
pub(crate) type PageOf = (&'static str, &'static str);

/// A half of all ids: two readers take half the time of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Ids that start with `0` to `U`.
    Lower,
    /// Ids that start with `V` to `z`.
    Upper,
}

impl Half {
    /// The text that every id of this half and of this noun is above, and the one it is below.
    fn bounds<N: Noun>(self) -> (String, String) {
        let (from, below) = match self {
            Self::Lower => ('0', 'V'),
            // above every letter and digit
            Self::Upper => ('V', '~'),
        };
        (format!("{}{from}", N::PREFIX), format!("{}{below}", N::PREFIX))
    }
}

/// Where a page ended of rows that are read in the order in which they were made, which is the one in
/// which they lie: rows that are read in the order of their ids cost a page of the file each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    revision: i64,
    id: String,
}

impl Made {
    /// Before every row.
    pub const START: Self = Self { revision: i64::MIN, id: String::new() };
}

/// Separates the fields of a packed line, and the lines. No id, scope or number holds a control
/// character.
const FIELD: &str = "\u{1f}";
const LINE: &str = "\u{1e}";
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
    fn lines(table: &'static str, page: Option<&'l str>) -> impl Iterator<Item = Self> {
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

/// A page of the rows that were made after a place, and the place of its last one; nothing where there is no
/// row. The statement knows the place as `$1` and `$2`, the size of a page as `$3`, the separators of fields
/// and lines as `$4` and `$5`; its lines end with the revision.
pub(crate) async fn made_after<T>(
    connection: &mut Connection,
    (table, statement): PageOf,
    after: &Made,
    unpacked: impl Fn(&mut Packed<'_>) -> Result<T>,
) -> Result<(Vec<T>, Option<Made>)> {
    let page: Option<String> = sqlx::query_scalar(statement)
        .bind(after.revision)
        .bind(after.id.clone())
        .bind(PAGE)
        .bind(FIELD)
        .bind(LINE)
        .fetch_one(connection)
        .await?;
    let (mut rows, mut last) = (Vec::new(), None);
    for mut line in Packed::lines(table, page.as_deref()) {
        let id = line.id();
        rows.push(unpacked(&mut line)?);
        last = last.max(Some((line.parsed()?, id)));
    }
    Ok((rows, last.map(|(revision, id)| Made { revision, id: id.to_owned() })))
}

/// What belongs to a page of a half of all ids behind one; an empty page ends the list. The statement knows
/// the ids between which it looks as `$1` and `$2`, and the rest as that of [`made_after`] does.
pub(crate) async fn half_after<N: Noun, T>(
    connection: &mut Connection,
    (table, statement): PageOf,
    (half, after): (Half, Option<&Id<N>>),
    unpacked: impl Fn(&mut Packed<'_>) -> Result<T>,
) -> Result<Vec<(Id<N>, T)>> {
    let (from, below) = half.bounds::<N>();
    let page: Option<String> = sqlx::query_scalar(statement)
        .bind(after.map_or(from, ToString::to_string))
        .bind(below)
        .bind(PAGE)
        .bind(FIELD)
        .bind(LINE)
        .fetch_one(connection)
        .await?;
    let unpacked = |mut line: Packed<'_>| Ok((line.parsed()?, unpacked(&mut line)?));
    let lines = Packed::lines(table, page.as_deref());
    let mut rows = lines.map(unpacked).collect::<Result<Vec<(Id<N>, T)>>>()?;
    rows.sort_unstable_by_key(|(id, _)| *id);
    Ok(rows)
}

/// The rows that were made for an organization in one revision, `$1` and `$2`, in no order. The statement
/// knows the separators of fields and lines as `$3` and `$4`.
pub(crate) async fn made_in<T>(
    connection: &mut Connection,
    (table, statement): PageOf,
    (org, revision): (&OrgId, i64),
    unpacked: impl Fn(&mut Packed<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let page: Option<String> = sqlx::query_scalar(statement)
        .bind(org.to_string())
        .bind(revision)
        .bind(FIELD)
        .bind(LINE)
        .fetch_one(connection)
        .await?;
    Packed::lines(table, page.as_deref()).map(|mut line| unpacked(&mut line)).collect()
}
