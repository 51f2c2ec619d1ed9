//! Audiences: the APIs that take tokens.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::ask::asks;
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::installation::{Issuer, TokenLifetime};
use crate::model::raw_keys::{AskRawKeys, RawKeys};
use crate::model::scope_catalogue::ScopeCatalogue;
use crate::model::time::Timestamp;

/// An audience, as it is stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Audience {
    /// Its id.
    pub id: AudienceId,
    /// The organization whose API keys it takes tokens of.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// What people call it.
    pub slug: Slug,
    /// The value of `aud`.
    pub uri: AudienceUri,
    /// The scopes it knows; all, where it has no catalogue.
    pub catalogue: Option<ScopeCatalogue>,
    /// The seconds that a token for it lives, where that is less than everywhere.
    pub token_lifetime: Option<TokenLifetime>,
    /// The type that its tokens name in their header.
    pub token_type: TokenType,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was opened to the keys of all organizations.
    pub shared_at: Option<Timestamp>,
    /// What it does with API keys that are sent to it as they are; it takes them where this is
    /// `null`.
    pub raw_keys: Option<RawKeys>,
}

/// The `typ` of a token (RFC 9068, section 2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenType {
    /// `at+jwt`, as the RFC has it.
    #[default]
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// `JWT`, for verifiers that know no other: Spring's, out of the box.
    #[serde(rename = "JWT")]
    Jwt,
}

impl TokenType {
    /// The word in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Jwt => "JWT",
        }
    }
}

/// A text that is no type of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTokenType;

impl fmt::Display for InvalidTokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type of tokens is `at+jwt` or `JWT`")
    }
}

impl std::error::Error for InvalidTokenType {}

impl FromStr for TokenType {
    type Err = InvalidTokenType;

    fn from_str(text: &str) -> Result<Self, InvalidTokenType> {
        [Self::AccessToken, Self::Jwt]
            .into_iter()
            .find(|token_type| token_type.as_str() == text)
            .ok_or(InvalidTokenType)
    }
}

asks! {
    /// An audience as somebody asks for it.
    pub struct CreateAudience {
        /// The value of `aud`: an absolute URI without fragment. Nobody else's, for ever.
        #[schemars(required)]
        pub uri: String,
        /// What to call it; made of the URI where it is left out.
        pub slug: String,
        /// The actions it knows beside `read`, `write` and `admin`; with a catalogue, a scope that
        /// it does not know is refused when a key is made.
        pub actions: Vec<String>,
        /// The shapes of its paths, as `projects/{id}/logs`.
        pub paths: Vec<String>,
        /// The seconds that a token for it lives: 60 to what the installation has.
        pub token_lifetime: u32,
        /// The type that its tokens name in their header.
        pub token_type: TokenType,
        /// Whether it takes tokens of all organizations; for an admin of the account alone.
        pub shared: bool,
        /// What it does with API keys that are sent to it as they are.
        pub raw_keys: AskRawKeys,
    }

    /// What to change about an audience. Its URI and slug stay.
    pub struct EditAudience {
        /// The actions it knows; `null` for no catalogue.
        pub actions: Option<Vec<String>>,
        /// The shapes of its paths; `null` for no catalogue.
        pub paths: Option<Vec<String>>,
        /// The seconds that a token for it lives; `null` for what the installation has.
        pub token_lifetime: Option<u32>,
        /// The type that its tokens name in their header.
        pub token_type: TokenType,
        /// What it does with API keys that are sent to it as they are; `null` to take them. All of
        /// it is replaced.
        pub raw_keys: Option<AskRawKeys>,
    }
}

/// The URI of an audience: absolute, without fragment (RFC 8707, section 2), printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct AudienceUri(Box<str>);

/// Bytes that the URI of an audience may have: it stands in every token.
const MAX_URI_BYTES: usize = 256;

impl AudienceUri {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The audience of the management API of an issuer.
    pub fn management(issuer: &Issuer) -> Self {
        Self(format!("{issuer}/v1").into())
    }

    /// Whether the URI is the issuer or below it: there the tokens of tenmint itself are used.
    pub fn is_within(&self, issuer: &Issuer) -> bool {
        self.0
            .strip_prefix(issuer.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }
}

impl fmt::Display for AudienceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no URI of an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidAudienceUri;

impl fmt::Display for InvalidAudienceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an audience is an absolute URI without fragment, like `https://api.example.com`, \
             of at most {MAX_URI_BYTES} characters"
        )
    }
}

impl std::error::Error for InvalidAudienceUri {}

impl FromStr for AudienceUri {
    type Err = InvalidAudienceUri;

    fn from_str(text: &str) -> Result<Self, InvalidAudienceUri> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidAudienceUri)?;
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        // the characters of RFC 3986, and `#` not among them
        let rest_ok = rest
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte));
        let authority_ok = !rest.starts_with("//") || rest.len() > 2 && !rest.starts_with("///");
        let ok = scheme_ok && rest_ok && authority_ok && !rest.is_empty();
        if ok && text.len() <= MAX_URI_BYTES {
            Ok(Self(text.into()))
        } else {
            Err(InvalidAudienceUri)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_an_absolute_uri() {
        for text in ["https://api.example.com", "urn:default:api", "https://a:8443/v1?x=%20"] {
            assert!(text.parse::<AudienceUri>().is_ok(), "{text}");
        }
        for text in
            ["", "api", "https://", "https:///x", ":x", "9a:b", "a:b#c", "a:b c", "a:\"", "a:"]
        {
            assert!(text.parse::<AudienceUri>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_issuer_and_what_is_below_it_is_told_apart_from_its_neighbours() {
        let issuer: Issuer = "https://auth.example.com".parse().unwrap();
        let within = |text: &str| text.parse::<AudienceUri>().unwrap().is_within(&issuer);
        assert!(within("https://auth.example.com"));
        assert!(within("https://auth.example.com/v1"));
        assert!(!within("https://auth.example.com.evil.example"));
        assert!(!within("https://api.example.com"));
    }
}
