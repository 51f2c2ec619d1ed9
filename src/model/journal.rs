//! What ends for ever, as the journal of revocations keeps it apart from the database: one line each.
//!
//! A restore of an older backup knows nothing of it, and must not bring it back. Lines that say nothing but
//! how far the database had come tell a backup that is older.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::model::api_key::{ApiKeySecret, IndexedApiKey};
use crate::model::id::ApiKeyId;
use crate::model::secret::SecretDigest;
use crate::model::signing_key::Kid;
use crate::model::time::Timestamp;

/// Something that has ended, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// An API key that was revoked.
    ApiKey(ApiKeyId),
    /// A secret of an API key that was replaced, and its last moment.
    Secret(SecretDigest, Timestamp),
    /// A signing key that was withdrawn, and the fingerprint of its public half; lines of before have none.
    SigningKey(Kid, Option<String>),
}

impl Ended {
    /// What has ended of an API key that is over then, if it is.
    pub fn of(api_key: &IndexedApiKey, over: Option<Timestamp>) -> impl Iterator<Item = Self> {
        let itself = api_key.revoked_at.map(|_| Self::ApiKey(api_key.id));
        itself.into_iter().chain(Self::of_secrets(&api_key.secrets, over))
    }

    /// What has ended of the secrets of an API key that is over then, if it is. Those of one that was revoked
    /// count too: an import of before may come again after a restore, and would give them to another key.
    pub fn of_secrets(
        secrets: &[ApiKeySecret],
        over: Option<Timestamp>,
    ) -> impl Iterator<Item = Self> {
        secrets.iter().filter_map(move |secret| {
            let end = [secret.expires_at, over].into_iter().flatten().min()?;
            Some(Self::Secret(secret.digest, end))
        })
    }
}

/// When an API key is over, as the journal has to know: it was revoked, or its expiry came earlier, which it never
/// does later.
pub fn end_of(api_key: &IndexedApiKey, came_earlier: bool) -> Option<Timestamp> {
    let expiry = api_key.expires_at.filter(|_| came_earlier);
    [api_key.revoked_at, expiry].into_iter().flatten().min()
}

/// A line of the journal: what has ended, and the revision under which that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLine {
    /// The revision.
    pub revision: i64,
    /// What has ended; nothing where the line only says how far the database had come.
    pub ended: Option<Ended>,
}

impl fmt::Display for JournalLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.revision)?;
        match &self.ended {
            None => f.write_str("seen"),
            Some(Ended::ApiKey(id)) => write!(f, "api_key {id}"),
            Some(Ended::Secret(digest, end)) => {
                write!(
                    f,
                    "secret {} {}",
                    URL_SAFE_NO_PAD.encode(digest.as_bytes()),
                    end.as_millis()
                )
            }
            Some(Ended::SigningKey(kid, None)) => write!(f, "signing_key {kid}"),
            Some(Ended::SigningKey(kid, Some(fingerprint))) => {
                write!(f, "signing_key {kid} {fingerprint}")
            }
        }
    }
}

/// A text that is no line of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidJournalLine;

impl FromStr for JournalLine {
    type Err = InvalidJournalLine;

    fn from_str(line: &str) -> Result<Self, InvalidJournalLine> {
        parsed(line).ok_or(InvalidJournalLine)
    }
}

fn parsed(line: &str) -> Option<JournalLine> {
    let mut words = line.split(' ');
    let revision = words.next()?.parse().ok()?;
    let ended = match (words.next()?, words.next(), words.next()) {
        ("seen", None, None) => None,
        ("api_key", Some(id), None) => Some(Ended::ApiKey(id.parse().ok()?)),
        ("signing_key", Some(kid), fingerprint) => {
            Some(Ended::SigningKey(kid.parse().ok()?, fingerprint.map(str::to_owned)))
        }
        ("secret", Some(digest), Some(end)) => {
            let digest = URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()?;
            let end = Timestamp::from_millis(end.parse().ok()?);
            Some(Ended::Secret(SecretDigest::from_bytes(digest), end))
        }
        _ => return None,
    };
    words.next().is_none().then_some(JournalLine { revision, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_and_a_part_of_one_never_is() {
        let end = Timestamp::from_millis(1_800_000_000_000);
        for ended in [
            None,
            Some(Ended::ApiKey(ApiKeyId::from_random([7; 16]))),
            Some(Ended::Secret(SecretDigest::from_bytes([9; 32]), end)),
            Some(Ended::SigningKey(Kid::from_random([3; 16]), None)),
            Some(Ended::SigningKey(Kid::from_random([3; 16]), Some("abc".to_owned()))),
        ] {
            let line = JournalLine { revision: 1_234, ended };
            assert_eq!(line.to_string().parse(), Ok(line.clone()));
            let text = line.to_string();
            let torn = text.split_at(text.len() / 2).0;
            assert_ne!(torn.parse(), Ok(line), "{torn}");
        }
        for text in [
            "",
            "7",
            "7 api_key",
            "7 api_key key_x",
            "x api_key",
            "7 other x",
            "7 secret AA",
            "7 seen x",
        ] {
            assert_eq!(text.parse::<JournalLine>(), Err(InvalidJournalLine), "{text}");
        }
    }
}
