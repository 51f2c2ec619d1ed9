//! What can go wrong with a use case, in the words of the domain. Each face gives it its own form:
//! a problem document, an exit code.

use std::borrow::Cow;
use std::fmt;

/// Why a use case did not happen.
#[derive(Debug)]
pub enum Error {
    /// The caller's input is wrong, field by field.
    Invalid(Vec<InvalidField>),
    /// The caller is nobody that is known here; says no more than the text.
    Unauthenticated(&'static str),
    /// The caller may know of it and may not do it; the text says what is missing.
    Forbidden(String),
    /// There is no such thing, or it is none of the caller's business.
    NotFound(String),
    /// It does not fit to what there is; the code is stable.
    Conflict(&'static str, String),
    /// The operator has something to do first; the text says what.
    Setup(String),
    /// The database is out of reach, and nothing was stored.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// The database went away in the very act of committing a change of this object, and is out of
    /// reach: whether it was stored, nobody can tell yet.
    OutcomeUnknown(String),
    /// Stored data or the machine is not as it must be.
    Broken(String),
}

/// One field of the caller's input, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    /// The name of the field; of an unknown one, as it was sent.
    pub field: Cow<'static, str>,
    /// What is wrong, and the fix.
    pub message: String,
}

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// One wrong field.
    pub fn invalid(field: &'static str, message: impl fmt::Display) -> Self {
        Self::Invalid(vec![InvalidField { field: field.into(), message: message.to_string() }])
    }

    /// The stable code that programs tell errors apart by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_request",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Conflict(code, _) => code,
            Self::Unavailable(_) => "unavailable",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::Setup(_) | Self::Broken(_) => "internal",
        }
    }

    /// A stored row that cannot be read back.
    pub fn bad_row(table: &str, id: &str, cause: impl fmt::Display) -> Self {
        Self::Broken(format!("the row `{id}` of the table `{table}` is bad: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(fields) => {
                for (at, field) in fields.iter().enumerate() {
                    let separator = if at == 0 { "" } else { "\n" };
                    write!(f, "{separator}`{}`: {}", field.field, field.message)?;
                }
                Ok(())
            }
            Self::Unauthenticated(message) => f.write_str(message),
            Self::NotFound(what) => write!(f, "there is no {what}"),
            Self::Forbidden(message)
            | Self::Conflict(_, message)
            | Self::Setup(message)
            | Self::Broken(message) => f.write_str(message),
            Self::Unavailable(_) => f.write_str("the database is out of reach"),
            Self::OutcomeUnknown(object) => write!(
                f,
                "the database went away while a change of `{object}` was stored: look whether it \
                 was before you try again"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}
