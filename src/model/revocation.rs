//! Revocations: whose tokens are void before they expire.

use crate::model::audience::AudienceUri;
use crate::model::id::{ApiKeyId, OrgId, SpaceId};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;

/// Whose tokens are void. A token names each of these in a claim, but the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokedSubject {
    /// Those of an API key.
    ApiKey(ApiKeyId),
    /// Those of all API keys of a person or bot.
    Owner(OwnerId),
    /// Those of all API keys of a space.
    Space(SpaceId),
    /// Those of all API keys of an organization.
    Org(OrgId),
    /// One token, by its `jti`, and the key it was issued to.
    Token(String, ApiKeyId),
    /// No token, but what verifiers were told of raw keys at this audience: they ask again.
    RawKeyPolicy(AudienceUri),
}

impl RevokedSubject {
    /// The id that the claim of a token holds, or the URI of the audience.
    pub fn id(&self) -> String {
        match self {
            Self::ApiKey(id) => id.to_string(),
            Self::Owner(id) => id.to_string(),
            Self::Space(id) => id.to_string(),
            Self::Org(id) => id.to_string(),
            Self::Token(id, _) => id.clone(),
            Self::RawKeyPolicy(uri) => uri.to_string(),
        }
    }
}

/// Which tokens of a subject are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokedTokens {
    /// Those that were issued under a lower revision than that of the change.
    Before,
    /// All of them, later ones included: the subject has ended for ever.
    All,
}

/// A revocation, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The id of the subject.
    pub subject: String,
    /// The organization it is of; none where it is of the installation.
    pub org: Option<OrgId>,
    /// Of a single token: the key it was issued to.
    pub api_key: Option<ApiKeyId>,
    /// The revision below which tokens are void; nothing for all of them.
    pub below: Option<i64>,
    /// The revision in which it was recorded.
    pub revision: i64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}
