//! Columns: what of an item goes to a cell, in a table for people and in a file for tools.

use serde_json::Value;

/// What a cell holds. A file keeps the types apart where its form can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Kind {
    /// Text, or several with a space between them: scopes and addresses have none.
    Text,
    /// A moment (UTC).
    Moment,
    /// A whole number.
    Number,
}

/// One column of a list.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Column {
    /// The member of the item, as `last_use.address`.
    path: &'static str,
    #[cfg_attr(
        not(feature = "parquet"),
        expect(dead_code, reason = "CSV and tables have text alone")
    )]
    pub(super) kind: Kind,
    /// Its heading in a table; a column without one is in files alone.
    pub(super) heading: Option<&'static str>,
    /// What a table shows where there is nothing.
    absent: &'static str,
    /// What the text must be for the table to say `yes`.
    yes: Option<&'static str>,
}

impl Column {
    const fn new(path: &'static str, kind: Kind) -> Self {
        Self { path, kind, heading: None, absent: "-", yes: None }
    }

    pub(in crate::cli) const fn text(path: &'static str) -> Self {
        Self::new(path, Kind::Text)
    }

    pub(in crate::cli) const fn moment(path: &'static str) -> Self {
        Self::new(path, Kind::Moment)
    }

    pub(in crate::cli) const fn number(path: &'static str) -> Self {
        Self::new(path, Kind::Number)
    }

    /// It stands in tables too, under this heading.
    pub(in crate::cli) const fn titled(mut self, heading: &'static str) -> Self {
        self.heading = Some(heading);
        self
    }

    /// What a table shows where there is nothing.
    pub(in crate::cli) const fn or(mut self, absent: &'static str) -> Self {
        self.absent = absent;
        self
    }

    /// A table says `yes` where the text is this, and `no` elsewhere.
    pub(in crate::cli) const fn yes_if(mut self, text: &'static str) -> Self {
        self.yes = Some(text);
        self
    }

    /// Its name in a file.
    pub(super) fn name(&self) -> String {
        self.path.replace('.', "_")
    }

    /// The member of the item that it is in.
    pub(super) fn member(&self) -> &'static str {
        self.path.split('.').next().unwrap_or_default()
    }

    /// What stands for nothing in this member, where the column is of all of it.
    pub(super) fn absent_for(&self, member: &str) -> Option<&'static str> {
        (self.path == member).then_some(self.absent)
    }

    /// What a file holds of an item.
    pub(super) fn value(&self, item: &Value) -> Option<String> {
        let found = self.path.split('.').try_fold(item, |value, name| value.get(name))?;
        text_of(found)
    }

    /// What a table shows of an item.
    pub(super) fn cell(&self, item: &Value) -> String {
        let value = self.value(item).filter(|text| !text.is_empty());
        match (value, self.yes) {
            (value, Some(yes)) => if value.as_deref() == Some(yes) { "yes" } else { "no" }.into(),
            (Some(text), None) => text,
            (None, None) => self.absent.to_owned(),
        }
    }
}

/// A value in one line: a list with spaces between, an object as JSON.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(text_of).collect::<Vec<_>>().join(" ")),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_finds_what_lies_deeper_and_lists_with_spaces() {
        let item = json!({"a": {"b": "x"}, "list": ["1", "2"], "none": null, "empty": []});
        assert_eq!(Column::text("a.b").value(&item).as_deref(), Some("x"));
        assert_eq!(Column::text("list").value(&item).as_deref(), Some("1 2"));
        for path in ["none", "a.c", "a.b.c", "list.0"] {
            assert_eq!(Column::text(path).value(&item), None, "{path}");
        }
        assert_eq!(Column::text("none").or("never").cell(&item), "never");
        assert_eq!(Column::text("empty").or("all").cell(&item), "all");
        assert_eq!(Column::text("a.b").yes_if("x").cell(&item), "yes");
        assert_eq!(Column::text("none").yes_if("x").cell(&item), "no");
    }
}
