//! `/v1/migration` and the APIs of one key: how far the way from raw API keys to tokens is gone.

use axum::extract::Path;
use schemars::JsonSchema;
use serde::Serialize;
use tenmint_verifier::Scope;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, shown};
use crate::http::api::api_keys::id_of;
use crate::http::api::operation::{Operation, get};
use crate::http::api::request::{Flag, Number, Place, Read, Text, page_of};
use crate::model::ask::asks;
use crate::model::migration::Days;
use crate::service::SealedCursor;
use crate::service::migration::{KeyAtApi, ListMigratingKeys, MigratingApi, MigratingKey};

asks! {
    /// Which APIs are told of.
    struct ApisQuery {
        /// Days that count: a key that did not come raw in them is not expected to. 1 to 366, and 30
        /// where it is left out.
        days: Text<Days>,
        /// APIs on the page.
        limit: Number,
        /// Where the page before ended.
        cursor: Text<Place<SealedCursor>>,
    }
}

asks! {
    /// Which keys are told of.
    struct KeysQuery {
        /// Days that count: a key that did not come raw in them is not expected to. 1 to 366, and 30
        /// where it is left out.
        days: Text<Days>,
        /// Only keys that requiring tokens now would lock out, the last that came first.
        locked_out: Flag,
        /// Only keys that may do something of this scope, as `write:*`.
        scope: Text<Scope>,
        /// Keys on the page.
        limit: Number,
        /// Where the page before ended.
        cursor: Text<Place<SealedCursor>>,
    }
}

asks! {
    /// How the APIs of a key are told of.
    struct KeyQuery {
        /// Days that count, 1 to 366, and 30 where it is left out.
        days: Text<Days>,
    }
}

/// The APIs that a key came to.
#[derive(Debug, Serialize, JsonSchema)]
struct ApisOfKey {
    /// One by one.
    items: Vec<KeyAtApi>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/v1/migration", "list_migrating_apis", list_apis)
            .says("List the APIs, and how far each is on the way from raw keys to tokens")
            .needs("read:org/usage")
            .asks::<ApisQuery>()
            .gives::<Listed<MigratingApi>>(),
        get("/v1/audiences/{audience}/migration", "list_migrating_keys", list_keys)
            .says("List active API keys, and how each came to an API: raw or by token")
            .needs("read:org/keys/{id}")
            .asks::<KeysQuery>()
            .gives::<Listed<MigratingKey>>(),
        get("/v1/keys/{id}/migration", "list_apis_of_api_key", list_of_key)
            .says("Show to which APIs a key came, and how: raw or by token")
            .needs("read:org/keys/{id}")
            .asks::<KeyQuery>()
            .gives::<ApisOfKey>(),
    ]
}

async fn list_apis(read: Read<ApisQuery>) -> Result<Answer> {
    let query = &read.query;
    let page = page_of(read.service(), query.limit, query.cursor.clone())?;
    let days = days_of(query.days.as_ref());
    let apis = read.service().list_migrating_apis(&read.actor, read.org, days, page).await?;
    Ok(shown(&Listed::of(read.service(), apis, |api| api)?))
}

async fn list_keys(Path(audience): Path<String>, read: Read<KeysQuery>) -> Result<Answer> {
    let query = &read.query;
    let (limit, after) = page_of(read.service(), query.limit, query.cursor.clone())?;
    let ask = ListMigratingKeys {
        days: days_of(query.days.as_ref()),
        locked_out: query.locked_out.is_some_and(|Flag(flag)| flag),
        scope: query.scope.as_ref().map(|Text(scope)| scope.clone()),
        limit,
        after,
    };
    let of = (read.org, audience.as_str());
    let keys = read.service().list_migrating_keys(&read.actor, of, ask).await?;
    Ok(shown(&Listed::of(read.service(), keys, |api_key| api_key)?))
}

async fn list_of_key(Path(id): Path<String>, read: Read<KeyQuery>) -> Result<Answer> {
    let days = days_of(read.query.days.as_ref());
    let of = (read.org, &id_of(&id)?);
    let items = read.service().list_apis_of_key(&read.actor, of, days).await?;
    Ok(shown(&ApisOfKey { items }))
}

fn days_of(asked: Option<&Text<Days>>) -> Days {
    asked.map_or_else(Days::default, |Text(days)| *days)
}
