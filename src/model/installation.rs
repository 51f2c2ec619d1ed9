//! The installation: one issuer, one set of signing keys, one master key.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tenmint_verifier::Algorithm;

/// What an installation is set up with, once.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The `iss` of its tokens.
    pub issuer: Issuer,
    /// What the text of an API key starts with.
    pub api_key_prefix: ApiKeyPrefix,
    /// The algorithm of its signing keys.
    pub algorithm: Algorithm,
    /// How long a token lives.
    pub token_lifetime: TokenLifetime,
}

/// The issuer: a bare origin without slash at the end, since clients compare it byte for byte
/// (RFC 8414, section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Issuer(Box<str>);

impl Issuer {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidIssuer;

impl fmt::Display for InvalidIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an issuer is a bare origin in lower case, like `https://auth.example.com`, without a \
             path and without a slash at the end",
        )
    }
}

impl std::error::Error for InvalidIssuer {}

impl FromStr for Issuer {
    type Err = InvalidIssuer;

    fn from_str(text: &str) -> Result<Self, InvalidIssuer> {
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let allowed =
            |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b':' | b'[' | b']');
        match authority {
            Some(host) if !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed) => {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidIssuer),
        }
    }
}

/// What the text of an API key starts with, so that a scanner knows it: `[a-z]{2,12}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKeyPrefix(Box<str>);

impl ApiKeyPrefix {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ApiKeyPrefix {
    fn default() -> Self {
        Self("tm".into())
    }
}

/// A text that is no prefix of API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidApiKeyPrefix;

impl fmt::Display for InvalidApiKeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a prefix of API keys is 2 to 12 of the letters a-z")
    }
}

impl std::error::Error for InvalidApiKeyPrefix {}

impl FromStr for ApiKeyPrefix {
    type Err = InvalidApiKeyPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidApiKeyPrefix> {
        if (2..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidApiKeyPrefix)
        }
    }
}

/// How long a token lives: 60 to 3600 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct TokenLifetime(u16);

impl TokenLifetime {
    /// So many seconds, if that is 60 to 3600.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        u16::try_from(seconds).ok().filter(|seconds| (60..=3600).contains(seconds)).map(Self)
    }

    /// The seconds.
    pub fn as_seconds(self) -> u64 {
        u64::from(self.0)
    }

    /// The same as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.as_seconds())
    }
}

impl Default for TokenLifetime {
    /// Ten minutes.
    fn default() -> Self {
        Self(600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_bare_origin() {
        for text in ["https://auth.example.com", "http://127.0.0.1:8080", "http://[::1]:80"] {
            assert!(text.parse::<Issuer>().is_ok(), "{text}");
        }
        for text in
            ["https://a/", "https://a/b", "ftp://a", "https://", "https://A", "https://a?b", "a"]
        {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_lives_a_minute_to_an_hour() {
        assert!(
            TokenLifetime::from_seconds(60).is_some()
                && TokenLifetime::from_seconds(3600).is_some()
        );
        assert!(
            TokenLifetime::from_seconds(59).is_none()
                && TokenLifetime::from_seconds(3601).is_none()
        );
    }
}
