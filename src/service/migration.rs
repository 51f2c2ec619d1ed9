//! The way from raw API keys to tokens, as it is told: how each key came to each API, and whether
//! tokens can be required there.
//!
//! What this node has counted and not written yet is told of each key too; what another node has, and
//! what is told of all keys together, comes ten seconds later at most.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use schemars::JsonSchema;
use serde::Serialize;
use tenmint_verifier::{Action, Scope, ScopeSet};

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::api_key::{ApiKey, ApiKeyStatus};
use crate::model::audience::{Audience, AudienceUri};
use crate::model::id::{ApiKeyId, AudienceId, OrgId, Slug};
use crate::model::migration::{CountedUses, Days, Form, Reason, Uses, Watched};
use crate::model::owner::OwnerId;
use crate::model::raw_keys::RawKeys;
use crate::model::time::Timestamp;
use crate::service::access::{guarded, require};
use crate::service::api_keys::{ListApiKeys, MAX_PAGE, only_visible};
use crate::service::audiences::visible_audience;
use crate::service::owners::{OwnerScopes, read_owner_in};
use crate::service::usage_writer::Unwritten;
use crate::service::{Service, page_limit};
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, api_key_lists, api_uses, audiences};

/// An API on the way from raw keys to tokens.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MigratingApi {
    /// Its audience.
    pub audience: AudienceId,
    /// The slug of that.
    pub slug: Slug,
    /// The URI of that.
    pub uri: AudienceUri,
    /// What it does with raw keys; nothing where it takes them.
    pub raw_keys: Option<RawKeys>,
    /// Since when it tells of raw keys without a gap of a day: by asking about them or by its reports.
    pub watched_since: Option<Timestamp>,
    /// When it was heard last.
    pub heard_at: Option<Timestamp>,
    /// Active keys that came raw within the days that count; 10,000 stands for more too.
    pub raw: u64,
    /// Active keys that came by token within these days; 10,000 stands for more too.
    pub by_token: u64,
    /// When a key came raw last.
    pub last_raw_at: Option<Timestamp>,
    /// Whether requiring tokens locks nobody out, as far as is known.
    pub safe_to_require_tokens: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// An API key on the way from raw keys to tokens, at one API.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MigratingKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// What its text starts with, where that is known.
    pub prefix: Option<String>,
    /// Who owns it.
    pub owner: OwnerId,
    /// How it came there.
    #[serde(flatten)]
    pub at: KeyAtApi,
}

/// How a key came to an API.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyAtApi {
    /// The audience of the API.
    pub audience: AudienceId,
    /// As it is; absent where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Uses>,
    /// By token; absent where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Uses>,
    /// Whether requiring tokens of it there locks nobody out, as far as is known.
    pub safe_to_require_tokens: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// Which keys are told of, and where they came to.
#[derive(Debug, Clone, Default)]
pub struct ListMigratingKeys {
    /// Days that count.
    pub days: Days,
    /// Only those that requiring tokens now would lock out, the last that came first.
    pub locked_out: bool,
    /// Only those that may do something of this.
    pub scope: Option<Scope>,
    /// Keys on the page.
    pub limit: u32,
    /// Behind this place.
    pub after: Option<Cursor>,
}

/// Keys that are counted at an API, so that a look at it is quick.
const COUNTED: i64 = 10_000;

/// Whose keys are told of at an API: all, where an admin of the account looks at a shared one, because
/// such a one decides on it for every organization.
fn counted_of<'o>(actor: &Actor, audience: &Audience, org: &'o OrgId) -> Option<&'o OrgId> {
    let is_for_all = audience.shared_at.is_some() && actor.credential.is_account_admin;
    (!is_for_all).then_some(org)
}

impl Service {
    /// A page of the APIs of an organization, and how far each is on its way.
    ///
    /// # Errors
    /// [`Error::NotFound`] for whoever may not see the usage of the organization.
    pub async fn list_migrating_apis(
        &self,
        actor: &Actor,
        org: OrgId,
        days: Days,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<MigratingApi>> {
        let thing = guarded(org, ["org", "usage"])?;
        require(actor, &Action::Read, &thing, || "usage".to_owned())?;
        let mut read = self.store.read().await?;
        let after = after.unwrap_or_else(Cursor::start);
        let page = audiences::list(&mut read, &org, &after, page_limit(limit)).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for audience in page.items {
            let counted = counted_of(actor, &audience, &org);
            items.push(self.migrating_api(&mut read, audience, counted, days).await?);
        }
        Ok(Page { items, next: page.next })
    }

    async fn migrating_api(
        &self,
        read: &mut Connection,
        audience: Audience,
        org: Option<&OrgId>,
        days: Days,
    ) -> Result<MigratingApi> {
        let now = self.clock.now();
        let (id, since) = (&audience.id, days.before(now));
        let watched = api_uses::find_watched(read, id).await?;
        let (raw, token, then) = ((id, Form::Raw), (id, Form::Token), (since, now));
        let keys_raw = api_uses::count_since(read, raw, then, org, COUNTED).await?;
        let by_token = api_uses::count_since(read, token, then, org, COUNTED).await?;
        let last_raw_at = api_uses::find_last(read, raw, org, now).await?;
        let last_token_at = api_uses::find_last(read, token, org, now).await?;
        let reason = Reason::of((last_raw_at, last_token_at), watched, days, now);
        Ok(MigratingApi {
            audience: audience.id,
            slug: audience.slug,
            uri: audience.uri,
            raw_keys: audience.raw_keys,
            watched_since: watched.map(|watched| watched.since_at),
            heard_at: watched.map(|watched| watched.heard_at),
            raw: keys_raw,
            by_token,
            last_raw_at,
            safe_to_require_tokens: reason.is_safe(),
            reason,
        })
    }

    /// A page of the active API keys that the caller may see, and how each came to one API: from new
    /// to old, or of those that would be locked out the last that came first.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an audience that is not there.
    pub async fn list_migrating_keys(
        &self,
        actor: &Actor,
        (org, audience): (OrgId, &str),
        ask: ListMigratingKeys,
    ) -> Result<Page<MigratingKey>> {
        let unwritten = self.hold_usage().await;
        let mut read = self.store.read().await?;
        let audience = visible_audience(&mut read, actor, org, audience).await?;
        let page = if ask.locked_out {
            let of = (&audience.id, counted_of(actor, &audience, &org));
            self.list_locked_out(&mut read, actor, of, &ask).await?
        } else {
            let status = Some(ApiKeyStatus::Active);
            let (limit, after) = (ask.limit, ask.after.clone());
            let all = ListApiKeys { status, limit, after, ..ListApiKeys::default() };
            self.list_api_keys_in(&mut read, actor, org, all).await?
        };
        let audience = audience.id;
        let keys = match &ask.scope {
            Some(scope) => only_with(&mut read, page.items, scope).await?,
            None => page.items,
        };
        let ids: Vec<ApiKeyId> = keys.iter().map(|api_key| api_key.id).collect();
        let mut known = KnownUses::default();
        known.extend(api_uses::list_at(&mut read, &audience, &ids).await?);
        known.extend_unwritten(&mut read, unwritten.as_ref(), &ids).await?;
        let watched = api_uses::find_watched(&mut read, &audience).await?;
        let told = |api_key: ApiKey| {
            let at = self.key_at(&mut known, (api_key.id, audience), watched, ask.days);
            let ApiKey { id, name, prefix, owner, .. } = api_key;
            MigratingKey { id, name, prefix, owner, at }
        };
        Ok(Page { items: keys.into_iter().map(told).collect(), next: page.next })
    }

    async fn list_locked_out(
        &self,
        read: &mut Connection,
        actor: &Actor,
        of: (&AudienceId, Option<&OrgId>),
        ask: &ListMigratingKeys,
    ) -> Result<Page<ApiKey>> {
        let now = self.clock.now();
        let limit = i64::from(ask.limit.clamp(1, MAX_PAGE));
        let after = ask.after.clone().unwrap_or_else(Cursor::start);
        let since = ask.days.before(now);
        let places = api_uses::list_raw_since(read, of, since, &after, limit + 1).await?;
        let places =
            Page::of(places.into_iter().map(|place| (place.clone(), place)).collect(), limit);
        let ids: Vec<String> = places.items.into_iter().map(|place| place.id).collect();
        let found = api_key_lists::find_all(read, &ids, false).await?;
        let active = found.into_iter().map(|(api_key, _)| api_key);
        let active = active.filter(|api_key| api_key.status(now) == ApiKeyStatus::Active);
        only_visible(read, actor, Page { items: active.collect(), next: places.next }).await
    }

    /// How one API key came to each API.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a key that the caller may not see.
    pub async fn list_apis_of_key(
        &self,
        actor: &Actor,
        (org, id): (OrgId, &ApiKeyId),
        days: Days,
    ) -> Result<Vec<KeyAtApi>> {
        self.get_api_key(actor, org, id).await?;
        let unwritten = self.hold_usage().await;
        let mut read = self.store.read().await?;
        let mut known = KnownUses::default();
        known.extend(api_uses::list_of_key(&mut read, id).await?);
        known.extend_unwritten(&mut read, unwritten.as_ref(), &[*id]).await?;
        let mut apis: Vec<AudienceId> = known.0.keys().map(|(_, audience, _)| *audience).collect();
        apis.sort_unstable();
        apis.dedup();
        let mut told = Vec::with_capacity(apis.len());
        for audience in apis {
            let watched = api_uses::find_watched(&mut read, &audience).await?;
            told.push(self.key_at(&mut known, (*id, audience), watched, days));
        }
        Ok(told)
    }

    fn key_at(
        &self,
        known: &mut KnownUses,
        (id, audience): (ApiKeyId, AudienceId),
        watched: Option<Watched>,
        days: Days,
    ) -> KeyAtApi {
        let [raw, token] =
            [Form::Raw, Form::Token].map(|form| known.0.remove(&(id, audience, form)));
        let [last_raw, last_token] =
            [&raw, &token].map(|uses| uses.as_ref().map(|uses: &Uses| uses.last_at));
        let reason = Reason::of((last_raw, last_token), watched, days, self.clock.now());
        KeyAtApi { audience, raw, token, safe_to_require_tokens: reason.is_safe(), reason }
    }
}

/// What is known of keys at APIs.
#[derive(Default)]
struct KnownUses(HashMap<(ApiKeyId, AudienceId, Form), Uses>);

impl KnownUses {
    fn extend(&mut self, rows: impl IntoIterator<Item = CountedUses>) {
        for CountedUses { of, uses, .. } in rows {
            let of = (of.api_key, of.audience, of.form);
            let both = match self.0.remove(&of) {
                Some(known) => known.and(uses),
                None => uses,
            };
            self.0.insert(of, both);
        }
    }

    async fn extend_unwritten(
        &mut self,
        read: &mut Connection,
        unwritten: Option<&Unwritten<'_>>,
        ids: &[ApiKeyId],
    ) -> Result<()> {
        if let Some(unwritten) = unwritten {
            self.extend(unwritten.api_uses_of(read, ids).await?);
        }
        Ok(())
    }
}

/// The keys that may do something of a scope.
async fn only_with(
    connection: &mut Connection,
    keys: Vec<ApiKey>,
    scope: &Scope,
) -> Result<Vec<ApiKey>> {
    let asked = ScopeSet::from_scopes([scope.clone()]);
    let asked = asked.ok_or_else(|| Error::Broken("a scope is a set of one".to_owned()))?;
    let mut owners: HashMap<OwnerId, OwnerScopes> = HashMap::new();
    let mut kept = Vec::with_capacity(keys.len());
    for api_key in keys {
        let owner = match owners.entry(api_key.owner) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let owner = read_owner_in(connection, &api_key.owner, api_key.org).await?;
                place.insert(OwnerScopes::of(owner.as_ref()))
            }
        };
        let effective = owner.effective(api_key.scopes.as_ref());
        if effective.is_some_and(|effective| effective.intersect(&asked).is_some()) {
            kept.push(api_key);
        }
    }
    Ok(kept)
}
