//! The form of a result, and where it goes: what stands behind `--output`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
    /// An object a line.
    JsonLines,
    /// For spreadsheets.
    Csv,
    /// For data tools.
    Parquet,
    /// The new secret alone.
    Secret,
}

impl Format {
    const NAMES: [(&str, Self); 6] = [
        ("table", Self::Table),
        ("json", Self::Json),
        ("jsonl", Self::JsonLines),
        ("csv", Self::Csv),
        ("parquet", Self::Parquet),
        ("secret", Self::Secret),
    ];

    fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, format)| format)
    }

    fn of_ending(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        let ending = if ending == "ndjson" { "jsonl" } else { ending };
        Self::of_name(ending).filter(|format| !matches!(format, Self::Table | Self::Secret))
    }
}

/// A form, and a file that it goes to instead of stdout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Form {
    pub(in crate::cli) format: Format,
    pub(in crate::cli) file: Option<PathBuf>,
}

impl FromStr for Form {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(format) = Format::of_name(text) {
            return Ok(Self { format, file: None });
        }
        let file = PathBuf::from(text);
        match Format::of_ending(&file) {
            Some(format) => Ok(Self { format, file: Some(file) }),
            None => Err("write `table`, `json`, `jsonl`, `csv`, `parquet`, `secret`, or the name \
                         of a file that ends in .json, .jsonl, .csv or .parquet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_a_name_or_a_file_whose_ending_says_it() {
        let form = |text: &str| text.parse::<Form>();
        assert_eq!(form("csv"), Ok(Form { format: Format::Csv, file: None }));
        let file = Form { format: Format::Parquet, file: Some("out/keys.parquet".into()) };
        assert_eq!(form("out/keys.parquet"), Ok(file));
        assert_eq!(form("keys.ndjson").unwrap().format, Format::JsonLines);
        for text in ["", "xml", "keys.secret", "keys.table", "./csv", ".csv", "keys.CSV"] {
            assert!(form(text).is_err(), "{text}");
        }
    }
}
