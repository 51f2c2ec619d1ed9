//! `/v1/whoami`: what the presented credential is and holds.

use schemars::JsonSchema;
use serde::Serialize;
use tenmint_verifier::{ScopeSet, ScopeView};

use crate::error::Result;
use crate::http::api::answer::{Answer, shown};
use crate::http::api::operation::{Operation, Plane, get};
use crate::http::api::request::{Nothing, Read};
use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;

/// What a credential is and holds.
#[derive(Debug, Serialize, JsonSchema)]
struct WhoAmI {
    /// The API key, or the one of the token.
    api_key: ApiKeyId,
    /// Its owner.
    owner: OwnerId,
    /// Its organization.
    organization: OrgId,
    /// What it may do.
    scopes: Vec<String>,
    /// The audiences it is restricted to; empty for all.
    audiences: Vec<AudienceId>,
    /// When the API key expires.
    expires_at: Option<Timestamp>,
    /// Whether its owner is an admin of the account.
    is_account_admin: bool,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/v1/whoami", "who_am_i", show)
            .says("Show what the presented credential is and holds")
            .on_plane(Plane::Caller)
            .gives::<WhoAmI>(),
    ]
}

async fn show(read: Read<Nothing>) -> Result<Answer> {
    let held = read.actor.credential;
    let scopes = held.scopes.iter().flat_map(ScopeSet::iter);
    Ok(shown(&WhoAmI {
        api_key: held.api_key,
        owner: held.owner,
        organization: held.org,
        scopes: scopes.map(ScopeView::as_str).map(str::to_owned).collect(),
        audiences: held.audiences,
        expires_at: held.expires_at,
        is_account_admin: held.is_account_admin,
    }))
}
