//! One line of an import, parsed: all that needs nothing from the database.

use tenmint_verifier::ScopeSet;

use crate::error::{Error, Result};
use crate::model::api_key::{ApiKeyType, QuotaAsk};
use crate::model::ask::ReadAsk;
use crate::model::import::{ImportApiKey, Refusal};
use crate::model::ip_rules::IpRules;
use crate::model::quota::Quota;
use crate::model::secret::{Pepper, SecretDigest, Sha256};
use crate::model::time::Timestamp;
use crate::service::asks::{
    Wrong, parse_description, parse_moment, parse_name, parse_quota, parse_scopes,
};

/// What a line names and is not looked up yet, good or not.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) key_type: Option<ApiKeyType>,
    pub(super) space: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) audiences: Option<Vec<String>>,
    /// Ahead or not: a line that was imported before may have expired since.
    pub(super) expires_at: Option<Timestamp>,
}

/// A line of which something is wrong already. What it names may be wrong as well.
#[derive(Debug)]
pub(super) struct BadLine {
    pub(super) refusal: Refusal,
    pub(super) names: Names,
}

impl BadLine {
    /// A line that cannot be taken apart.
    ///
    /// # Errors
    /// What is no fault of the line.
    pub(super) fn of(cause: Error) -> Result<Self> {
        Ok(Self { refusal: Refusal::of(cause, "")?, names: Names::default() })
    }
}

/// A line that was parsed, or is refused already.
pub(super) type Parsed = std::result::Result<Box<ParsedLine>, Box<BadLine>>;

/// A key that somebody brings.
#[derive(Debug)]
pub(super) struct ParsedLine {
    pub(super) digest: SecretDigest,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) scopes: Option<ScopeSet>,
    pub(super) ip_rules: IpRules,
    pub(super) quota: Option<Quota>,
    pub(super) names: Names,
}

impl ParsedLine {
    /// Parses the fields of a line: all that is wrong with them is told at once.
    ///
    /// # Errors
    /// What is no fault of the line.
    pub(super) fn parse(asked: ReadAsk<ImportApiKey>, pepper: &Pepper) -> Result<Parsed> {
        let ReadAsk { ask, misread } = asked;
        let mut wrong = Wrong::with(misread);
        let name = wrong.required("name", ask.name, parse_name);
        let digest = wrong.required("digest", ask.digest, |text| text.trim().parse::<Sha256>());
        let description = ask.description.unwrap_or_default();
        let description = wrong.checked("description", parse_description(description));
        let scopes = wrong.optional("scopes", ask.scopes, parse_scopes);
        let expires_at = wrong.optional("expires_at", ask.expires_at, |text| parse_moment(&text));
        if ask.audiences.as_ref().is_some_and(Vec::is_empty) {
            let cause = "an empty list is refused: leave it out for all of the organization";
            wrong.checked::<(), _>("audiences", Err(cause));
        }
        let quota = quota_of(&mut wrong, ask.quota_limit, ask.quota_window);
        let (allow, block) = (ask.allow.unwrap_or_default(), ask.block.unwrap_or_default());
        let ip_rules = IpRules::parse(&allow, &block).map_err(|fields| wrong.extend(fields)).ok();
        let (key_type, space, owner) = (ask.key_type, ask.space, ask.owner);
        let names = Names { key_type, space, owner, audiences: ask.audiences, expires_at };
        match wrong.finish(name.zip(digest).zip(description).zip(ip_rules)) {
            Ok((((name, digest), description), ip_rules)) => {
                let digest = pepper.digest_of_sha256(&digest);
                let line = Self { digest, name, description, scopes, ip_rules, quota, names };
                Ok(Ok(Box::new(line)))
            }
            Err(cause) => Ok(Err(Box::new(BadLine { names, ..BadLine::of(cause)? }))),
        }
    }

    /// The rows that storing it takes at most: with a bot of its own, and that with a role in the
    /// organization and one in the space.
    pub(super) fn rows(&self) -> usize {
        const KEY_SECRET_AND_AUDIT: usize = 3;
        match (&self.names.owner, &self.names.space) {
            (Some(_), _) => KEY_SECRET_AND_AUDIT,
            (None, None) => KEY_SECRET_AND_AUDIT + 2,
            (None, Some(_)) => KEY_SECRET_AND_AUDIT + 3,
        }
    }
}

fn quota_of(wrong: &mut Wrong, limit: Option<u64>, window: Option<u64>) -> Option<Quota> {
    match (limit, window) {
        (Some(limit), window) => {
            wrong.checked("quota_limit", parse_quota(QuotaAsk { limit, window }))
        }
        (None, Some(_)) => {
            let cause = "a window without a limit: give `quota_limit` too";
            wrong.checked("quota_window", Err(cause))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";

    fn parsed(ask: ImportApiKey) -> std::result::Result<Box<ParsedLine>, String> {
        let asked = ReadAsk { ask, misread: Vec::new() };
        let parsed = ParsedLine::parse(asked, &Pepper::new(&[7; 32])).unwrap();
        parsed.map_err(|bad| Error::Invalid(bad.refusal.errors).to_string())
    }

    fn line() -> ImportApiKey {
        ImportApiKey {
            name: Some("billing".to_owned()),
            digest: Some(format!(" {DIGEST} ")),
            ..ImportApiKey::default()
        }
    }

    #[test]
    fn the_digest_of_a_line_is_that_of_the_text() {
        let line = parsed(line()).unwrap();
        assert_eq!(line.digest, Pepper::new(&[7; 32]).digest(b"text"));
        assert_eq!((line.scopes, line.names.expires_at, line.quota), (None, None, None));
    }

    #[test]
    fn everything_that_is_wrong_with_a_line_is_told_at_once() {
        let ask = ImportApiKey {
            name: Some("a\u{7}".to_owned()),
            digest: Some("x".to_owned()),
            scopes: Some(Vec::new()),
            audiences: Some(Vec::new()),
            allow: Some(vec!["10.0.0.1/8".to_owned()]),
            quota_window: Some(60),
            expires_at: Some("90d".to_owned()),
            ..ImportApiKey::default()
        };
        let told = parsed(ask).unwrap_err();
        for field in
            ["name", "digest", "scopes", "audiences", "allow", "quota_window", "expires_at"]
        {
            assert!(told.contains(&format!("`{field}`: ")), "{field}: {told}");
        }
        let told = parsed(ImportApiKey::default()).unwrap_err();
        assert_eq!(told, "`name`: it is missing\n`digest`: it is missing");
    }

    #[test]
    fn an_expiry_is_a_moment_and_may_be_over() {
        let at = |text: &str| parsed(ImportApiKey { expires_at: Some(text.to_owned()), ..line() });
        assert!(at("2020-01-01").unwrap().names.expires_at.is_some());
        for text in ["1d", "9999-12-31T23:59:59.9999Z0", "10000-01-01", ""] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
