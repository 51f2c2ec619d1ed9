//! `/v1/keys`: API keys.

use axum::extract::Path;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, delete, get, patch, post};
use crate::http::api::request::{Nothing, Number, Place, Read, Text, Write, cursor_of, limit_of};
use crate::model::api_key::{
    ApiKey, ApiKeyStatus, ApiKeyType, CreateApiKey, CreatedApiKey, EditApiKey, RefreshApiKey,
    RotateApiKey,
};
use crate::model::ask::asks;
use crate::model::id::ApiKeyId;
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;
use crate::model::usage::LastUse;
use crate::service::api_keys::ListApiKeys;
use crate::service::call::Changed;
use crate::service::spaces;
use crate::service::{SealedCursor, Service};

/// An API key as it is told.
#[derive(Debug, Serialize, JsonSchema)]
struct ApiKeyBody {
    #[serde(flatten)]
    api_key: ApiKey,
    /// Whether it gives tokens.
    status: ApiKeyStatus,
    /// When, from where and with which program it was used last.
    last_use: Option<LastUse>,
}

impl ApiKeyBody {
    fn new(api_key: ApiKey, now: Timestamp, last_use: Option<LastUse>) -> Self {
        Self { status: api_key.status(now), api_key, last_use }
    }
}

/// An API key that was just made, with its text: the only sight of it there will ever be.
#[derive(Debug, Serialize, JsonSchema)]
struct CreatedBody {
    #[serde(flatten)]
    body: ApiKeyBody,
    /// The text. Left out of a dry run, and of the answer to a repeated request.
    #[serde(rename = "api_key", skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Which keys a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StatusFilter {
    #[default]
    Active,
    Expired,
    Revoked,
    All,
}

impl StatusFilter {
    fn status(self) -> Option<ApiKeyStatus> {
        match self {
            Self::Active => Some(ApiKeyStatus::Active),
            Self::Expired => Some(ApiKeyStatus::Expired),
            Self::Revoked => Some(ApiKeyStatus::Revoked),
            Self::All => None,
        }
    }
}

asks! {
    /// Which keys a list shows.
    struct ListQuery {
        /// Keys in this state; `active` where it is left out. Deleted ones are in `all` alone.
        status: StatusFilter,
        /// Keys whose name starts so, whatever the case, in the order of the names.
        name: String,
        /// Keys of this type.
        key_type: ApiKeyType,
        /// Keys in the space of this id or slug.
        space: String,
        /// Keys of this owner.
        owner: Text<OwnerId>,
        /// Keys on the page.
        limit: Number,
        /// Where the page before ended.
        cursor: Text<Place<SealedCursor>>,
    }
}

pub(super) fn operations() -> Vec<Operation> {
    const OWN: &str = "write:org/keys/own/{id} or admin:org/keys/{id}";
    vec![
        post("/v1/keys", "create_api_key", create)
            .says("Create an API key; its text is in this answer alone")
            .needs(OWN)
            .changes("api_key.create")
            .takes::<CreateApiKey>()
            .creates::<Written<CreatedBody>>(),
        get("/v1/keys", "list_api_keys", list)
            .says("List API keys, from new to old")
            .needs("read:org/keys/{id}")
            .asks::<ListQuery>()
            .gives::<Listed<ApiKeyBody>>(),
        get("/v1/keys/{id}", "get_api_key", show)
            .says("Show an API key")
            .needs("read:org/keys/{id}")
            .gives::<ApiKeyBody>(),
        patch("/v1/keys/{id}", "edit_api_key", edit)
            .says("Change an API key; what is left out stays")
            .needs(OWN)
            .changes("api_key.edit")
            .takes::<EditApiKey>()
            .gives::<Written<ApiKeyBody>>(),
        post("/v1/keys/{id}/rotate", "rotate_api_key", rotate)
            .says("Give an API key a new secret; the old one dies at once or after a grace period")
            .needs(OWN)
            .changes("api_key.rotate")
            .takes::<RotateApiKey>()
            .gives::<Written<CreatedBody>>()
            .once(),
        post("/v1/keys/{id}/refresh", "refresh_api_key", refresh)
            .says(
                "Replace an API key by a new one; the old one dies at once or after a grace period",
            )
            .needs(OWN)
            .changes("api_key.refresh")
            .takes::<RefreshApiKey>()
            .creates::<Written<CreatedBody>>(),
        post("/v1/keys/{id}/revoke", "revoke_api_key", revoke)
            .says("Revoke an API key, for ever")
            .needs(OWN)
            .changes("api_key.revoke")
            .gives::<Written<ApiKeyBody>>(),
        delete("/v1/keys/{id}", "delete_api_key", remove)
            .says("Revoke an API key and take it out of the lists; the record stays")
            .needs(OWN)
            .changes("api_key.delete")
            .gives::<Written<ApiKeyBody>>(),
    ]
}

/// An id that is none is a key that is not there.
pub(super) fn id_of(text: &str) -> Result<ApiKeyId> {
    let what = || format!("API key `{}`", spaces::shown(text));
    text.parse().map_err(|_| Error::NotFound(what()))
}

async fn create(write: Write<CreateApiKey>) -> Result<Answer> {
    let (service, now) = (write.service().clone(), write.service().clock().now());
    let changed = service.create_api_key(&write.call, write.ask).await?;
    Ok(created(changed, now, (StatusCode::CREATED, None)))
}

/// The answer with a new text: of a new key, which nobody has used, or of one that was there.
fn created(
    changed: Changed<CreatedApiKey>,
    now: Timestamp,
    (status, last_use): (StatusCode, Option<LastUse>),
) -> Answer {
    written(changed, status, |created: CreatedApiKey| CreatedBody {
        body: ApiKeyBody::new(created.api_key, now, last_use.clone()),
        text: created.text.map(crate::model::secret::PlainSecret::reveal),
    })
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let query = &read.query;
    let ask = ListApiKeys {
        owner: query.owner.as_ref().map(|Text(owner)| *owner),
        space: query.space.clone(),
        key_type: query.key_type,
        name: query.name.clone(),
        status: query.status.unwrap_or_default().status(),
        limit: limit_of(query.limit),
        after: cursor_of(read.service(), query.cursor.clone(), query.name.is_some())?,
    };
    let service = read.service();
    let page = service.list_api_keys(&read.actor, read.org, ask).await?;
    let ids: Vec<ApiKeyId> = page.items.iter().map(|api_key| api_key.id).collect();
    let mut last_uses = service.list_last_uses(&ids).await?;
    let now = service.clock().now();
    let body = |api_key: ApiKey| {
        let last_use = last_uses.remove(&api_key.id);
        ApiKeyBody::new(api_key, now, last_use)
    };
    Ok(shown(&Listed::of(service, page, body)?))
}

async fn show(Path(id): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    let service = read.service();
    let api_key = service.get_api_key(&read.actor, read.org, &id_of(&id)?).await?;
    let last_use = service.list_last_uses(&[api_key.id]).await?.remove(&api_key.id);
    Ok(shown(&ApiKeyBody::new(api_key, service.clock().now(), last_use)))
}

async fn edit(Path(id): Path<String>, write: Write<EditApiKey>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_api_key(&write.call, &id_of(&id)?, write.ask).await?;
    Ok(changed_key(&service, changed).await)
}

/// The answer to a change of a key that was there.
async fn changed_key(service: &Service, changed: Changed<ApiKey>) -> Answer {
    let (now, last_use) = (service.clock().now(), last_use_of(service, &changed.after.id).await);
    written(changed, StatusCode::OK, |api_key| ApiKeyBody::new(api_key, now, last_use.clone()))
}

/// The change is made already: that its last use cannot be read does not undo it.
async fn last_use_of(service: &Service, id: &ApiKeyId) -> Option<LastUse> {
    service.list_last_uses(std::slice::from_ref(id)).await.ok()?.remove(id)
}

async fn rotate(Path(id): Path<String>, write: Write<RotateApiKey>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.rotate_api_key(&write.call, &id_of(&id)?, write.ask).await?;
    let last_use = last_use_of(&service, &changed.after.api_key.id).await;
    Ok(created(changed, service.clock().now(), (StatusCode::OK, last_use)))
}

async fn refresh(Path(id): Path<String>, write: Write<RefreshApiKey>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.refresh_api_key(&write.call, &id_of(&id)?, write.ask).await?;
    Ok(created(changed, service.clock().now(), (StatusCode::CREATED, None)))
}

async fn revoke(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let service = write.service();
    let changed = service.revoke_api_key(&write.call, &id_of(&id)?).await?;
    Ok(changed_key(service, changed).await)
}

async fn remove(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let service = write.service();
    let changed = service.delete_api_key(&write.call, &id_of(&id)?).await?;
    Ok(changed_key(service, changed).await)
}
