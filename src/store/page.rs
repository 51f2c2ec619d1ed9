//! Pages of lists: a place is the revision in which a row was made, and its id.
//!
//! Rows that are made meanwhile come before the first page and move nothing.

use std::str::FromStr;

use sqlx::any::AnyRow;

use crate::error::{Error, Result};
use crate::store::row::Row;

/// Rows that a list looks at for one page, so that it takes 20 ms at most. Filters that no index
/// leads with can make a page short; only a missing cursor ends a list.
pub(crate) const SCANNED: i64 = 2_000;

/// The place of a row in a list, from new to old; a list by name goes by the name first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The name in lower case, in a list by name.
    pub name: Option<String>,
    /// The revision in which the row was made.
    pub revision: i64,
    /// Its id.
    pub id: String,
}

impl Cursor {
    /// The place before all rows, from new to old.
    pub fn start() -> Self {
        Self { name: None, revision: i64::MAX, id: String::new() }
    }

    /// The text of a cursor, which is sealed before anybody gets it.
    pub fn encode(&self) -> String {
        let name: String = self.name.iter().flat_map(|name| name.bytes()).map(hex).collect();
        let named = if self.name.is_some() { "n" } else { "r" };
        format!("{named}{name}.{}.{}", self.revision, self.id)
    }

    /// What is said of a text that no page gave.
    pub(crate) const INVALID: &str = "take the cursor that the page before gave";

    /// The same, where it is of such a list: by name or from new to old.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one of the other kind.
    pub fn of_list(self, by_name: bool) -> Result<Self> {
        if self.name.is_some() == by_name {
            return Ok(self);
        }
        Err(Self::invalid())
    }

    pub(crate) fn invalid() -> Error {
        Error::invalid("cursor", Self::INVALID)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (name, revision, id) = (parts.next()?, parts.next()?, parts.next()?);
        let name = match name.split_at_checked(1)? {
            ("r", "") => None,
            // no database stores or looks for a NUL
            ("n", name) => Some(unhex(name).filter(|name| !name.contains('\0'))?),
            _ => return None,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let id = Some(id.to_owned()).filter(|id| id.len() <= 64 && id.chars().all(plain))?;
        Some(Self { name, revision: revision.parse().ok()?, id })
    }
}

/// A text that no page gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidCursor> {
        Self::decode(text).ok_or(InvalidCursor)
    }
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

fn unhex(text: &str) -> Option<String> {
    if !text.is_ascii() || text.len() > 2_200 {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

/// One page.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows, from new to old.
    pub items: Vec<T>,
    /// Where the next page starts; none where there is no more.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of rows of which one more than asked for was read.
    pub(crate) fn of(mut rows: Vec<(T, Cursor)>, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|(_, cursor)| cursor.clone());
        Self { items: rows.into_iter().map(|(item, _)| item).collect(), next }
    }

    /// A page of rows of a table, by the column of their ids, of which one more than asked for was
    /// read.
    pub(crate) fn read(
        rows: &[AnyRow],
        (table, id): (&'static str, &'static str),
        limit: i64,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Self> {
        let placed = |row| {
            let row = Row::of(table, row);
            Ok((read(&row)?, row.cursor(id)?))
        };
        Ok(Self::of(rows.iter().map(placed).collect::<Result<_>>()?, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        let id = "key_0123456789abcdef".to_owned();
        for name in [None, Some(String::new()), Some("\u{fc}ber. alles".to_owned())] {
            let cursor = Cursor { name, revision: 7, id: id.clone() };
            let (by_name, read) = (cursor.name.is_some(), cursor.encode().parse::<Cursor>());
            assert_eq!(read.unwrap().of_list(by_name).unwrap(), cursor);
            assert!(cursor.of_list(!by_name).is_err());
        }
        for text in [
            "",
            "r",
            "r.1",
            "x.1.a",
            "r.a.b",
            "nzz.1.a",
            "n00.1.a",
            "n\u{e9}.1.a",
            "r.1.a'b",
            "rx.1.a",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
