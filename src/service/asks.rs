//! From what was asked to what the model knows: parsers that several use cases share.

use tenmint_verifier::ScopeSet;

use crate::error::{Error, InvalidField, Result};
use crate::model::api_key::QuotaAsk;
use crate::model::ask::joined;
use crate::model::quota::Quota;
use crate::model::time::{InvalidTimestamp, Timestamp, parse_duration};

/// Characters that a name may have.
const MAX_NAME: usize = 256;
/// Characters that a description may have.
const MAX_DESCRIPTION: usize = 1000;
/// The last moment whose year has four digits, which is all that ISO 8601 has without agreement.
const LAST_EXPIRY: Timestamp = Timestamp::from_millis(253_402_300_799_999);

const TOO_LATE: &str = "an expiry lies before the year 10000: leave it out for never";

/// What is wrong with the fields of an ask, gathered so that all of it is told at once.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    /// What could not even be read; nothing more is said of those fields.
    misread: Vec<InvalidField>,
    fields: Vec<InvalidField>,
    /// What was refused about a field and is no bad field by itself: there is no such thing, it may
    /// not be used.
    refused: Vec<(&'static str, Error)>,
}

impl Wrong {
    /// Begins with the fields that could not be read.
    pub(crate) fn with(misread: Vec<InvalidField>) -> Self {
        Self { misread, ..Self::default() }
    }

    /// A parsed field, or a note of what is wrong with it.
    pub(crate) fn checked<T, E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        parsed: std::result::Result<T, E>,
    ) -> Option<T> {
        parsed.map_err(|cause| self.note(field, cause.to_string())).ok()
    }

    /// A field that may be left out.
    pub(crate) fn optional<A, T, E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        asked: Option<A>,
        parse: impl FnOnce(A) -> std::result::Result<T, E>,
    ) -> Option<T> {
        asked.and_then(|asked| self.checked(field, parse(asked)))
    }

    /// A field that has to be there.
    pub(crate) fn required<A, T, E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        asked: Option<A>,
        parse: impl FnOnce(A) -> std::result::Result<T, E>,
    ) -> Option<T> {
        if asked.is_none() {
            self.note(field, "it is missing".to_owned());
        }
        self.optional(field, asked, parse)
    }

    /// What a field names, or a note that it may not be named.
    ///
    /// # Errors
    /// What is no fault of the caller.
    pub(crate) fn looked_up<T>(
        &mut self,
        field: &'static str,
        found: Result<T>,
    ) -> Result<Option<T>> {
        match found {
            Ok(found) => return Ok(Some(found)),
            Err(Error::Invalid(fields)) => self.extend(fields),
            Err(refused @ (Error::NotFound(_) | Error::Forbidden(_) | Error::Conflict(..))) => {
                self.refused.push((field, refused));
            }
            Err(ours) => return Err(ours),
        }
        Ok(None)
    }

    pub(crate) fn extend(&mut self, fields: Vec<InvalidField>) {
        let is_read = |field: &InvalidField| self.misread.iter().all(|it| it.field != field.field);
        self.fields.extend(fields.into_iter().filter(is_read));
    }

    fn note(&mut self, field: &'static str, message: String) {
        self.extend(vec![InvalidField { field: field.into(), message }]);
    }

    /// The result of a parser that was done field by field.
    ///
    /// # Errors
    /// Everything that is wrong, if anything is. A refusal that stands alone is told as what it is.
    pub(crate) fn finish<T>(self, parsed: Option<T>) -> Result<T> {
        let Self { misread: mut wrong, fields, refused } = self;
        wrong.extend(fields);
        let mut refused = refused.into_iter();
        match (parsed, wrong.is_empty()) {
            (Some(parsed), true) if refused.len() == 0 => return Ok(parsed),
            (_, true) => {
                if let Some((_, cause)) = refused.next() {
                    return Err(cause);
                }
            }
            (_, false) => {}
        }
        wrong.extend(refused.map(|(field, cause)| InvalidField {
            field: field.into(),
            message: cause.to_string(),
        }));
        Err(Error::Invalid(wrong))
    }
}

/// Both of two checks, or all that is wrong.
pub(crate) fn both(one: Result<()>, other: Result<()>) -> Result<()> {
    match (one, other) {
        (Err(Error::Invalid(mut wrong)), Err(Error::Invalid(more))) => {
            wrong.extend(more);
            Err(Error::Invalid(wrong))
        }
        (one, other) => one.and(other),
    }
}

/// The one thing of a name.
///
/// # Errors
/// [`Error::Conflict`] `name_ambiguous` where there are more.
pub(crate) fn the_only<T>(
    mut named: Vec<T>,
    message: impl FnOnce() -> String,
) -> Result<Option<T>> {
    if named.len() > 1 {
        return Err(Error::Conflict("name_ambiguous", message()));
    }
    Ok(named.pop())
}

pub(crate) fn parse_name(text: impl AsRef<str>) -> std::result::Result<String, String> {
    let text = text.as_ref();
    let length = text.chars().count();
    let is_refused = |c: char| c.is_control() || turns_text(c);
    if length == 0 || length > MAX_NAME || text.chars().any(is_refused) {
        return Err(format!("a name has 1 to {MAX_NAME} characters, none of them a control"));
    }
    if text.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
        return Err("a name has a character that one can see".to_owned());
    }
    Ok(text.to_owned())
}

/// Characters that turn the direction of what follows: a list could be made to read as another one
/// (Unicode, annex 9, section 2).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a shape of their own. Within a name they join emoji and shape scripts.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

pub(crate) fn parse_description(text: impl AsRef<str>) -> std::result::Result<String, String> {
    let text = text.as_ref();
    let is_control = |c: char| c.is_control() && c != '\n';
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(is_control) {
        return Err(format!("a description has at most {MAX_DESCRIPTION} characters, no controls"));
    }
    Ok(text.to_owned())
}

/// Scopes as a list. An empty one is refused everywhere: leaving it out means all.
pub(crate) fn parse_scopes(scopes: impl AsRef<[String]>) -> std::result::Result<ScopeSet, String> {
    let text = joined(scopes.as_ref())?;
    text.parse().map_err(|cause: tenmint_verifier::SyntaxError| cause.to_string())
}

pub(crate) fn parse_quota(ask: QuotaAsk) -> std::result::Result<Quota, String> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Quota::new(number(ask.limit), ask.window.map(number)).map_err(|cause| cause.to_string())
}

/// A moment, ahead or not.
pub(crate) fn parse_moment(text: &str) -> std::result::Result<Timestamp, String> {
    let moment: Timestamp = text.parse().map_err(|cause: InvalidTimestamp| cause.to_string())?;
    if moment > LAST_EXPIRY { Err(TOO_LATE.to_owned()) } else { Ok(moment) }
}

/// A moment, or a time from now like `90d`. It must lie ahead.
pub(crate) fn parse_expiry(text: &str, now: Timestamp) -> std::result::Result<Timestamp, String> {
    let moment = match parse_duration(text) {
        Some(from_now) => now + from_now,
        None => text.parse().map_err(|cause| format!("{cause}; or a time from now like `90d`"))?,
    };
    if moment <= now {
        return Err("an expiry lies ahead".to_owned());
    }
    if moment > LAST_EXPIRY {
        return Err(TOO_LATE.to_owned());
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_moment_or_a_time_from_now_and_lies_ahead() {
        let now: Timestamp = "2027-01-01".parse().unwrap();
        let parsed = |text: &str| parse_expiry(text, now).map(|moment| moment.to_string());
        assert_eq!(parsed("90d").unwrap(), "2027-04-01T00:00:00Z");
        assert_eq!(parsed("15m").unwrap(), "2027-01-01T00:15:00Z");
        assert_eq!(parsed("2027-02-01").unwrap(), "2027-02-01T00:00:00Z");
        for text in
            ["", "d", "0d", "-1d", "4294967295d", "2026-01-01", "2027-01-01", "soon", "1\u{e9}"]
        {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
