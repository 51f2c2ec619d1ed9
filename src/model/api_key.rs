//! API keys: long-lived, and worth nothing but a token of ten minutes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use tenmint_verifier::{ScopeSet, ScopeView};

use crate::model::ask::asks;
use crate::model::id::{ApiKeyId, AudienceId, OrgId, SpaceId};
use crate::model::ip_rules::IpRules;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::secret::{PlainSecret, SecretDigest};
use crate::model::time::{Timestamp, reached};

/// An API key, as it is stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ApiKey {
    /// Its id: the `client_id` of its tokens.
    pub id: ApiKeyId,
    /// Its organization.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// Whether a person or a bot owns it.
    pub key_type: ApiKeyType,
    /// Its owner: the `sub` of its tokens.
    pub owner: OwnerId,
    /// The space it belongs to.
    pub space: Option<SpaceId>,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The first characters of its text; nothing for a key that was imported.
    pub prefix: Option<String>,
    /// What its tokens may do at most; all that the owner may, where none are named.
    #[serde(serialize_with = "scope_list")]
    #[schemars(with = "Option<Vec<String>>")]
    pub scopes: Option<ScopeSet>,
    /// The APIs its tokens are for; all of the organization, where none are named.
    pub audiences: Vec<AudienceId>,
    /// From which addresses it may be used.
    #[serde(flatten)]
    pub ip_rules: IpRules,
    /// How many tokens it may fetch in a time.
    pub quota: Option<Quota>,
    /// The key that it replaced.
    pub replaces: Option<ApiKeyId>,
    /// Who made it.
    pub created_by: Option<OwnerId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it got the secret it has, where that was not when it was made.
    pub rotated_at: Option<Timestamp>,
    /// Until when the secret before that one is accepted too; `null` where it died at once.
    pub old_secret_expires_at: Option<Timestamp>,
    /// When it stops giving tokens by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, for ever.
    pub revoked_at: Option<Timestamp>,
    /// When it left the lists.
    pub deleted_at: Option<Timestamp>,
    /// How long it was made to live: a replacement lives no longer.
    #[serde(skip)]
    pub lifetime: Option<Duration>,
    /// The key whose quota it shares: the first of a chain of replacements.
    #[serde(skip)]
    pub quota_counter: ApiKeyId,
}

/// The scopes as a list, which is how they are asked for.
#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
fn scope_list<S: Serializer>(scopes: &Option<ScopeSet>, serializer: S) -> Result<S::Ok, S::Error> {
    match scopes {
        Some(scopes) => serializer.collect_seq(scopes.iter().map(ScopeView::as_str)),
        None => serializer.serialize_none(),
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
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

/// Who owns an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyType {
    /// A person: the key may what the person may, narrowed by its scopes.
    User,
    /// A bot, which outlives the person who made it.
    Service,
}

impl ApiKeyType {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// A text that is no type of API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidApiKeyType;

impl fmt::Display for InvalidApiKeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type of API keys is `user` or `service`")
    }
}

impl std::error::Error for InvalidApiKeyType {}

impl FromStr for ApiKeyType {
    type Err = InvalidApiKeyType;

    fn from_str(text: &str) -> Result<Self, InvalidApiKeyType> {
        [Self::User, Self::Service]
            .into_iter()
            .find(|key_type| key_type.as_str() == text)
            .ok_or(InvalidApiKeyType)
    }
}

asks! {
    /// An API key as somebody asks for it, nothing parsed yet.
    pub struct CreateApiKey {
        /// What to call it: 1 to 256 characters.
        #[schemars(required, length(min = 1, max = 256))]
        pub name: String,
        /// What it is for: at most 1000 characters.
        pub description: String,
        /// `user`, for oneself, or `service`. Left out, it is the kind of the caller.
        pub key_type: ApiKeyType,
        /// The id or slug of the space it belongs to.
        pub space: String,
        /// Its scopes. Left out, it has all of its owner.
        pub scopes: Vec<String>,
        /// The URIs, slugs or ids of its audiences. Left out, it is for all of the organization.
        pub audiences: Vec<String>,
        /// The addresses and CIDRs it may be used from. Left out, from everywhere.
        pub allow: Vec<String>,
        /// The addresses and CIDRs it may not be used from, which stand above those allowed.
        pub block: Vec<String>,
        /// How many tokens it may fetch in a time.
        pub quota: QuotaAsk,
        /// When it shall expire: a moment, or a time from now like `90d`.
        pub expires_at: String,
        /// The bot that shall own it, of a service key. Left out, it gets one of its own.
        pub bot: String,
        /// The role of its own bot in the space.
        pub space_role: String,
        /// The role of its own bot in the organization.
        pub org_role: String,
        /// The role of its own bot in the account.
        pub account_role: String,
    }

    /// What to change about an API key. What is left out stays.
    pub struct EditApiKey {
        /// What to call it.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// Its scopes; `null` for all of its owner.
        pub scopes: Option<Vec<String>>,
        /// Its audiences; `null` for all of the organization.
        pub audiences: Option<Vec<String>>,
        /// The addresses it may be used from; `null` for everywhere.
        pub allow: Option<Vec<String>>,
        /// The addresses it may not be used from; `null` for none.
        pub block: Option<Vec<String>>,
        /// How many tokens it may fetch in a time; `null` for any number.
        pub quota: Option<QuotaAsk>,
        /// When it shall expire: earlier than now set, never later.
        pub expires_at: String,
    }

    /// How to give an API key a new secret.
    pub struct RotateApiKey {
        /// How long the old secret goes on, at most 86400 seconds. Left out, not at all.
        pub grace_period_seconds: u32,
        /// Rotate within the grace period of the last rotation too: the oldest secret dies at once.
        pub force: bool,
    }

    /// How to replace an API key.
    pub struct RefreshApiKey {
        /// How long the old key goes on, at most 86400 seconds. Left out, not at all.
        pub grace_period_seconds: u32,
        /// When the new key shall expire: a moment, a time from now, or `never`. Has to be said
        /// where the old key expires.
        pub expires_at: String,
    }
}

/// A quota as it is asked for.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaAsk {
    /// Requests in the window.
    pub limit: u64,
    /// The window in seconds, 60 where it is left out.
    #[serde(default)]
    pub window: Option<u64>,
}

/// An API key that was just made or rotated, with the only sight of its text there will ever be.
#[derive(Debug)]
pub struct CreatedApiKey {
    /// The key.
    pub api_key: ApiKey,
    /// Its text; nothing of a dry run, and nothing where an earlier answer showed it.
    pub text: Option<PlainSecret>,
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
    pub owner: OwnerId,
    /// Its space.
    pub space: Option<SpaceId>,
    /// Its scopes, where it has its own.
    pub scopes: Option<ScopeSet>,
    /// Its audiences, where it is restricted to some.
    pub audiences: Vec<AudienceId>,
    /// From which addresses it may be used.
    pub ip_rules: IpRules,
    /// Its quota.
    pub quota: Option<Quota>,
    /// The key whose quota it shares.
    pub quota_counter: ApiKeyId,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// One secret, or two in a grace period.
    pub secrets: Vec<ApiKeySecret>,
}
