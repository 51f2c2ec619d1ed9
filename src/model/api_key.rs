//! API keys: long-lived, and worth nothing but a token of ten minutes.

use serde::Serialize;
use tenmint_verifier::ScopeSet;

use crate::model::id::{ApiKeyId, AudienceId, BotId, OrgId};
use crate::model::secret::{PlainSecret, SecretDigest};
use crate::model::time::{Timestamp, reached};

/// An API key, as it is stored.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Its id: the `client_id` of its tokens.
    pub id: ApiKeyId,
    /// Its organization.
    pub org: OrgId,
    /// Its owner: the `sub` of its tokens.
    pub owner: BotId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What its tokens may do at most; all that the owner may, where none are named.
    pub scopes: Option<ScopeSet>,
    /// The APIs its tokens are for; all of the organization, where none are named.
    pub audiences: Vec<AudienceId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops giving tokens by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, for ever.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// The status, computed so that it cannot go stale.
    pub fn status(&self, now: Timestamp) -> ApiKeyStatus {
        status(self.revoked_at, self.expires_at, now)
    }
}

/// The status of an API key with these moments.
pub fn status(
    revoked_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> ApiKeyStatus {
    // a revocation is a fact: a clock that goes back must not undo it
    match (revoked_at.is_some(), reached(expires_at, now)) {
        (true, _) => ApiKeyStatus::Revoked,
        (_, true) => ApiKeyStatus::Expired,
        _ => ApiKeyStatus::Active,
    }
}

/// Whether an API key gives tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyStatus {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked, which stands above expiry.
    Revoked,
}

impl ApiKeyStatus {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// An API key as somebody asks for it, nothing parsed yet.
#[derive(Debug, Clone, Default)]
pub struct CreateApiKey {
    /// What to call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// The URIs or slugs of its audiences.
    pub audiences: Vec<String>,
    /// When it shall expire: a moment, or a time from now like `90d`.
    pub expires: Option<String>,
}

/// An API key that was just made, with the only sight of its text there will ever be.
#[derive(Debug)]
pub struct CreatedApiKey {
    /// The key.
    pub api_key: ApiKey,
    /// Its text.
    pub text: PlainSecret,
}

/// One secret of an API key, and until when it is accepted.
#[derive(Debug, Clone, Copy)]
pub struct ApiKeySecret {
    /// Under which it is looked up.
    pub digest: SecretDigest,
    /// The end of its grace, once another secret replaced it.
    pub expires_at: Option<Timestamp>,
}

/// All that issuing needs of an API key: what the index holds.
#[derive(Debug, Clone)]
pub struct IndexedApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its organization.
    pub org: OrgId,
    /// Its owner.
    pub owner: BotId,
    /// Its scopes, where it has its own.
    pub scopes: Option<ScopeSet>,
    /// Its audiences, where it is restricted to some.
    pub audiences: Vec<AudienceId>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// One secret, or two in a grace period.
    pub secrets: Vec<ApiKeySecret>,
}
