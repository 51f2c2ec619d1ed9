//! Audiences: the APIs that take tokens.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::ask::asks;
pub use crate::model::audience_uri::{AudienceUri, InvalidAudienceUri};
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::installation::TokenLifetime;
use crate::model::raw_keys::{AskRawKeys, RawKeys};
use crate::model::scope_catalogue::ScopeCatalogue;
use crate::model::time::Timestamp;

/// The slug under which every organization finds the audience of the management API.
pub const MANAGEMENT_SLUG: &str = "management";

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
        /// The value of `aud`: an absolute URI without fragment, in the one spelling that it has
        /// (RFC 3986, section 6.2). Nobody else's, for ever.
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
