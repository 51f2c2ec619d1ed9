//! How a command ends: the exit code, which scripts act on, and the words, which people read.

use std::fmt;
use std::process::ExitCode;

use http::StatusCode;

use crate::error::Error;

/// How a command ended. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    Failed = 1,
    Invalid = 2,
    NotFound = 3,
    Conflict = 4,
    Unavailable = 5,
    NotAllowed = 6,
}

impl Exit {
    pub(super) const ALL: [Self; 7] = [
        Self::Done,
        Self::Failed,
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::NotAllowed,
    ];

    /// What it means, for the reference.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "anything else: a file that cannot be written, a no to a question",
            Self::Invalid => "what was asked is wrong: the command, or a value in it",
            Self::NotFound => "there is no such thing, or it is none of the caller's business",
            Self::Conflict => "it does not fit to what there is; of an import: lines were refused",
            Self::Unavailable => "the server or its database is out of reach: try again",
            Self::NotAllowed => "the API key is missing, not known, dead, or may not do this",
        }
    }

    /// What the status of an answer means.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Done,
            400 | 405 | 413 | 415 | 422 => Self::Invalid,
            401 | 403 => Self::NotAllowed,
            404 => Self::NotFound,
            409 => Self::Conflict,
            408 | 429 | 502..=504 => Self::Unavailable,
            _ => Self::Failed,
        }
    }

    /// What a `code` of the management API means, where it comes without a status.
    pub(super) fn of_code(code: &str) -> Self {
        match code {
            "invalid_request" => Self::Invalid,
            "unauthenticated" | "forbidden" => Self::NotAllowed,
            "not_found" => Self::NotFound,
            "unavailable" | "outcome_unknown" => Self::Unavailable,
            "internal" | "" => Self::Failed,
            // every conflict has a code of its own
            _ => Self::Conflict,
        }
    }

    /// The number.
    pub(super) fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    message: String,
}

/// The result of a command.
pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The command itself is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// The same with what to do about it, on a line of its own.
    pub(super) fn hint(self, hint: &str) -> Self {
        Self { message: format!("{}\nhint: {hint}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Invalid(_) => Exit::Invalid,
            Error::NotFound(_) => Exit::NotFound,
            Error::Conflict(..) => Exit::Conflict,
            Error::Unavailable(_) | Error::OutcomeUnknown(_) => Exit::Unavailable,
            Error::Unauthenticated(_) | Error::Forbidden(_) => Exit::NotAllowed,
            Error::Setup(_) | Error::Broken(_) => Exit::Failed,
        };
        let cause = std::error::Error::source(&error);
        let cause = cause.map(|cause| format!("\ncause: {cause}")).unwrap_or_default();
        Self::new(exit, format!("{error}{cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_numbers_from_nought_on() {
        let codes: Vec<u8> = Exit::ALL.into_iter().map(Exit::code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn every_status_of_a_refusal_has_a_code() {
        for (status, exit) in [
            (201, Exit::Done),
            (302, Exit::Failed),
            (400, Exit::Invalid),
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (429, Exit::Unavailable),
            (500, Exit::Failed),
            (503, Exit::Unavailable),
        ] {
            assert_eq!(Exit::of_status(StatusCode::from_u16(status).unwrap()), exit, "{status}");
        }
    }
}
