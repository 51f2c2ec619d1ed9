//! Imports: keys of another service that go on working here, brought as digests, never as texts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Error, InvalidField};
use crate::model::api_key::ApiKeyType;
use crate::model::ask::asks;
use crate::model::id::{ApiKeyId, ImportId};

asks! {
    /// One line of an import, nothing parsed yet.
    pub struct ImportApiKey {
        /// What to call the key: 1 to 256 characters.
        #[schemars(required, length(min = 1, max = 256))]
        pub name: String,
        /// The SHA-256 of its text, in hex or base64.
        #[schemars(required)]
        pub digest: String,
        /// What it is for: at most 1000 characters.
        pub description: String,
        /// `user` or `service`. Left out, it is what the owner makes it.
        pub key_type: ApiKeyType,
        /// The id or slug of the space it belongs to.
        pub space: String,
        /// The bot or person that owns it, by id; a person also by the address of e-mail. Left out,
        /// it gets a bot of its own.
        pub owner: String,
        /// Its scopes. Left out, it has all of its owner.
        pub scopes: Vec<String>,
        /// The URIs, slugs or ids of its audiences. Left out, it is for all of the organization.
        pub audiences: Vec<String>,
        /// The addresses and CIDRs it may be used from. Left out, from everywhere.
        pub allow: Vec<String>,
        /// The addresses and CIDRs it may not be used from.
        pub block: Vec<String>,
        /// How many tokens it may fetch in a window.
        pub quota_limit: u64,
        /// The seconds of the window, 60 where it is left out.
        pub quota_window: u64,
        /// When it expires: a moment, so that a repeated import says the same.
        pub expires_at: String,
    }
}

/// The fields of a line, and which of them are lists: the columns that a CSV file may have.
pub const COLUMNS: [(&str, Column); 13] = [
    ("name", Column::Text),
    ("digest", Column::Text),
    ("description", Column::Text),
    ("key_type", Column::Text),
    ("space", Column::Text),
    ("owner", Column::Text),
    ("scopes", Column::List),
    ("audiences", Column::List),
    ("allow", Column::List),
    ("block", Column::List),
    ("quota_limit", Column::Number),
    ("quota_window", Column::Number),
    ("expires_at", Column::Text),
];

/// The columns that a CSV file must have.
pub const REQUIRED_COLUMNS: [&str; 2] = ["name", "digest"];

/// How a cell is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// As it stands.
    Text,
    /// Items separated by spaces.
    List,
    /// Digits.
    Number,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// A row of column names, then one row a key.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

impl ImportFormat {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::JsonLines => "application/x-ndjson",
        }
    }
}

/// A text that is the media type of no import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidImportFormat;

impl fmt::Display for InvalidImportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an import is `text/csv` or `application/x-ndjson`, in UTF-8")
    }
}

impl std::error::Error for InvalidImportFormat {}

impl FromStr for ImportFormat {
    type Err = InvalidImportFormat;

    /// Takes a media type, whatever its case; its parameters say nothing that changes the reading.
    fn from_str(text: &str) -> Result<Self, InvalidImportFormat> {
        let media_type = text.split(';').next().unwrap_or_default().trim();
        [Self::Csv, Self::JsonLines]
            .into_iter()
            .find(|format| media_type.eq_ignore_ascii_case(format.media_type()))
            .ok_or(InvalidImportFormat)
    }
}

/// How to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportApiKeys {
    /// How the file is written.
    pub format: ImportFormat,
    /// Whether nothing is stored unless every line is good.
    pub atomic: bool,
}

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImportedLine {
    /// Its number in the file, from 1; the header of a CSV file counts.
    pub line: u64,
    /// What became of it.
    pub status: ImportStatus,
    /// The key; of a refused line, only where the digest is that of a key that the caller may see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ApiKeyId>,
    /// Why it was refused: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub errors: Vec<LineError>,
    /// What the caller should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub warnings: Vec<String>,
}

/// What can become of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportStatus {
    /// The key works.
    Created,
    /// The line is good: the key would be made, or will be with all others.
    Accepted,
    /// The same digest was imported before with the same fields.
    Unchanged,
    /// The line is not good.
    Refused,
}

/// What is wrong with one field of a line; with the line itself, where the field is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LineError {
    /// The field.
    pub field: Cow<'static, str>,
    /// What is wrong, and the fix.
    pub message: String,
}

impl From<InvalidField> for LineError {
    fn from(wrong: InvalidField) -> Self {
        Self { field: wrong.field, message: wrong.message }
    }
}

impl ImportedLine {
    /// A line that is good.
    pub fn good(line: u64, status: ImportStatus, id: Option<ApiKeyId>) -> Self {
        Self { line, status, id, code: None, errors: Vec::new(), warnings: Vec::new() }
    }

    /// A line that is not good.
    pub fn refused(line: u64, refusal: Refusal) -> Self {
        let errors = refusal.errors.into_iter().map(LineError::from).collect();
        Self {
            line,
            status: ImportStatus::Refused,
            id: refusal.id,
            code: Some(Cow::Borrowed(refusal.code)),
            errors,
            warnings: Vec::new(),
        }
    }
}

/// Errors of one line that are told: a short line can have thousands.
const MAX_ERRORS: usize = 20;

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub errors: Vec<InvalidField>,
    /// The key that is in the way, where the caller may see it.
    pub id: Option<ApiKeyId>,
}

impl Refusal {
    /// Makes a refusal of a line of what a use case refused.
    ///
    /// # Errors
    /// What is no fault of the line: the database, the machine.
    pub fn of(cause: Error, field: &'static str) -> Result<Self, Error> {
        let code = cause.code();
        let errors: Vec<_> = match cause {
            Error::Invalid(errors) => errors.into_iter().take(MAX_ERRORS).collect(),
            Error::Forbidden(_) | Error::NotFound(_) | Error::Conflict(..) => {
                vec![InvalidField { field: field.into(), message: cause.to_string() }]
            }
            ours => return Err(ours),
        };
        let errors = errors.iter().map(InvalidField::masked).collect();
        Ok(Self { code, errors, id: None })
    }

    /// The same, where more is wrong. Reasons of two kinds are those of a bad line.
    pub fn and(&mut self, more: Self) {
        if self.code != more.code {
            self.code = "invalid_request";
        }
        self.errors.extend(more.errors);
        self.errors.truncate(MAX_ERRORS);
    }
}

/// What became of all of it: the last line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImportSummary {
    /// How it ended.
    pub status: ImportEnd,
    /// The import, as the audit names it.
    pub import: ImportId,
    /// Lines of keys, empty ones and the header left out.
    pub lines: u64,
    /// Keys that were made.
    pub created: u64,
    /// Good lines of which no key was made.
    pub accepted: u64,
    /// Lines that were imported before.
    pub unchanged: u64,
    /// Lines that were refused.
    pub refused: u64,
    /// Whether nothing should be stored.
    pub dry_run: bool,
    /// Whether it was all or nothing.
    pub atomic: bool,
    /// Why it did not come to its end: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl ImportSummary {
    /// Of an import of which no line was read.
    pub fn of(import: ImportId, dry_run: bool, atomic: bool) -> Self {
        Self {
            status: ImportEnd::Done,
            import,
            lines: 0,
            created: 0,
            accepted: 0,
            unchanged: 0,
            refused: 0,
            dry_run,
            atomic,
            code: None,
            detail: None,
        }
    }
}

/// How an import ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportEnd {
    /// To the last line. What was not refused is there.
    Done,
    /// It was all or nothing, and lines were refused: nothing was stored.
    Abandoned,
    /// Before the last line. What was reported as created is there, and no more.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ask;

    #[test]
    fn a_format_is_a_media_type() {
        let parsed = |text: &str| text.parse::<ImportFormat>();
        assert_eq!(parsed("Text/CSV; charset=utf-8"), Ok(ImportFormat::Csv));
        assert_eq!(parsed("application/x-ndjson"), Ok(ImportFormat::JsonLines));
        for text in ["", "text/plain", "text/csvx", "application/json"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_columns_are_the_fields() {
        let columns = COLUMNS.map(|(name, column)| {
            let value = match column {
                Column::Text if name == "key_type" => "user".into(),
                Column::Text => "x".into(),
                Column::List => vec!["x"].into(),
                Column::Number => 1.into(),
            };
            (name.to_owned(), value)
        });
        let ask: ImportApiKey =
            ask::parse(serde_json::Value::Object(columns.into_iter().collect())).unwrap();
        let shown = format!("{ask:?}");
        assert!(!shown.contains("None"), "a field has no column: {shown}");
    }

    #[test]
    fn a_refusal_names_the_field_or_the_line() {
        let report = |cause| {
            let refusal = Refusal::of(cause, "").unwrap();
            serde_json::to_value(ImportedLine::refused(3, refusal)).unwrap()
        };
        assert_eq!(
            report(Error::invalid("digest", "no")),
            serde_json::json!({"line": 3, "status": "refused", "code": "invalid_request",
                "errors": [{"field": "digest", "message": "no"}]})
        );
        assert_eq!(
            report(Error::Forbidden("no".to_owned())),
            serde_json::json!({"line": 3, "status": "refused", "code": "forbidden",
                "errors": [{"field": "", "message": "no"}]})
        );
        assert!(Refusal::of(Error::Broken("x".to_owned()), "").is_err());
    }
}
