//! Bots: service accounts that own API keys and outlive the person who made them.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use tenmint_verifier::{ScopeSet, ScopeView};

use crate::model::ask::asks;
use crate::model::id::{BotId, OrgId, SpaceId};
use crate::model::time::Timestamp;

/// A bot, as it is stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Bot {
    /// Its id: the `sub` of the tokens of its API keys.
    pub id: BotId,
    /// Its organization.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// The space it belongs to.
    pub space: Option<SpaceId>,
    /// What people call it.
    pub name: String,
    /// What it holds beside its roles: the scopes that were given when its keys were made.
    #[serde(serialize_with = "grant_list")]
    #[schemars(with = "Vec<String>")]
    pub grants: Option<ScopeSet>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was suspended: its API keys get no token.
    pub suspended_at: Option<Timestamp>,
    /// When it was deleted, for ever.
    pub deleted_at: Option<Timestamp>,
}

#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
fn grant_list<S: Serializer>(grants: &Option<ScopeSet>, serializer: S) -> Result<S::Ok, S::Error> {
    let scopes = grants.iter().flat_map(ScopeSet::iter);
    serializer.collect_seq(scopes.map(ScopeView::as_str))
}

asks! {
    /// A bot as somebody asks for it.
    pub struct CreateBot {
        /// What to call it: 1 to 256 characters.
        #[schemars(required, length(min = 1, max = 256))]
        pub name: String,
        /// The id or slug of the space it belongs to.
        pub space: String,
        /// Scopes that it holds beside its roles.
        pub grants: Vec<String>,
        /// Its role in the space; `member` where it has one.
        pub space_role: String,
        /// Its role in the organization; `read-only` where it is left out.
        pub org_role: String,
    }

    /// What to change about a bot.
    pub struct EditBot {
        /// What to call it.
        pub name: String,
        /// Scopes that it holds beside its roles.
        pub grants: Vec<String>,
    }
}
