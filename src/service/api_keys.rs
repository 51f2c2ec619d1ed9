//! API keys: create, get, list. What becomes of them later has a file of its own.

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::api_key::{
    ApiKey, ApiKeySecret, ApiKeyStatus, ApiKeyType, CreateApiKey, CreatedApiKey,
};
use crate::model::id::{ApiKeyId, OrgId, Slug};
use crate::model::installation::ApiKeyPrefix;
use crate::model::org::Org;
use crate::model::owner::OwnerId;
use crate::model::secret::{PlainSecret, api_key_text};
use crate::model::space::Space;
use crate::service::access::{guarded_key, require, require_to_list};
use crate::service::call::{Call, Changed, Done};
use crate::service::new_api_key::{NewApiKey, OwnBot};
use crate::service::{Service, random};
use crate::store::api_key_lists::ApiKeyFilter;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, api_key_lists, api_keys, bots, orgs, roles, spaces};

/// Rows of one page of a list at most.
pub(crate) const MAX_PAGE: u32 = 200;

/// Which keys a list shows, and from where on.
#[derive(Debug, Clone, Default)]
pub struct ListApiKeys {
    /// Of this owner.
    pub owner: Option<OwnerId>,
    /// In the space of this id or slug.
    pub space: Option<String>,
    /// Of this type.
    pub key_type: Option<ApiKeyType>,
    /// Whose name starts so.
    pub name: Option<String>,
    /// In this state; nothing for all.
    pub status: Option<ApiKeyStatus>,
    /// Keys on the page.
    pub limit: u32,
    /// Behind this place.
    pub after: Option<Cursor>,
}

impl Service {
    /// Creates an API key: for the caller, or for a bot.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every bad field; [`Error::Conflict`] `not_bootstrapped`;
    /// [`Error::Forbidden`] for what the caller may not do or give.
    pub async fn create_api_key(
        &self,
        call: &Call,
        ask: CreateApiKey,
    ) -> Result<Changed<CreatedApiKey>> {
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            return self.created_before(&mut write, &id).await;
        }
        let org = self.bootstrapped_org(&mut write, call).await?;
        let new = NewApiKey::parse(self, &mut write, call, ask).await?;
        new.check(&call.actor, &mut write, &org).await?;
        let (touched, warnings) = (new.touched(), new.api_key.ip_rules.warnings());
        let also = new.own_bot.as_ref().map(OwnBot::is_made).unwrap_or_default();
        let text = self.insert_api_key(&mut write, &org, &new).await?;
        let api_key = new.api_key;
        let done = Done::new("api_key.create", org.id, api_key.id, api_key)
            .touches(touched)
            .also(also)
            .warns(warnings);
        let changed = self.finish(write, call, done).await?;
        Ok(changed.with_text(text))
    }

    /// What a repeated request answers: the same key, and never its text again.
    pub(crate) async fn created_before(
        &self,
        connection: &mut Connection,
        id: &str,
    ) -> Result<Changed<CreatedApiKey>> {
        let id = id.parse().map_err(|cause| Error::bad_row("idempotency_keys", id, cause))?;
        let found = api_keys::find(connection, &id).await?;
        let api_key = found.ok_or_else(|| no_such_key(&id))?;
        let mut changed = Changed::repeated(CreatedApiKey { api_key, text: None });
        changed.warnings = vec![
            "this request was answered before: the text of the key is not shown again".to_owned(),
        ];
        Ok(changed)
    }

    /// The organization of a call, whose API keys are enabled.
    pub(crate) async fn bootstrapped_org(
        &self,
        connection: &mut Connection,
        call: &Call,
    ) -> Result<Org> {
        bootstrapped(self.org_of(connection, call).await?)
    }

    /// An API key that the caller may see.
    pub async fn get_api_key(&self, actor: &Actor, org: OrgId, id: &ApiKeyId) -> Result<ApiKey> {
        let mut read = self.store.read().await?;
        let (api_key, space) = find_key(&mut read, org, id).await?;
        let thing = guarded_key(actor, &api_key, slug_of(space.as_ref()))?;
        require(actor, &Action::Read, &thing, || what(id))?;
        Ok(api_key)
    }

    /// A page of the API keys that the caller may see, from new to old.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a space that the caller may not see.
    pub async fn list_api_keys(
        &self,
        actor: &Actor,
        org: OrgId,
        ask: ListApiKeys,
    ) -> Result<Page<ApiKey>> {
        self.list_api_keys_in(&mut *self.store.read().await?, actor, org, ask).await
    }

    /// The same, over a connection that is there: whoever holds one and waits for another may wait for itself.
    pub(crate) async fn list_api_keys_in(
        &self,
        read: &mut Connection,
        actor: &Actor,
        org: OrgId,
        ask: ListApiKeys,
    ) -> Result<Page<ApiKey>> {
        require_to_list(actor, org, "read:org/keys/* read:space-management/*/keys/*")?;
        check_bootstrapped(read, &org).await?;
        let space = match &ask.space {
            Some(name) => Some(self.visible_space(read, actor, org, name).await?.id),
            None => None,
        };
        let filter = ApiKeyFilter {
            org,
            owner: ask.owner,
            space,
            key_type: ask.key_type,
            name: ask.name,
            status: ask.status,
        };
        let after = ask.after.unwrap_or_else(Cursor::start);
        let limit = i64::from(ask.limit.clamp(1, MAX_PAGE));
        let now = self.clock.now();
        let page = api_key_lists::list(read, &filter, &after, limit, now).await?;
        only_visible(read, actor, page).await
    }

    /// Stores a key and its secret, and the bot that shall own it where it has one of its own.
    pub(crate) async fn insert_api_key(
        &self,
        write: &mut Write<'_>,
        org: &Org,
        new: &NewApiKey,
    ) -> Result<PlainSecret> {
        if let Some(own_bot) = &new.own_bot {
            bots::insert(write, &own_bot.bot).await?;
            roles::bind_all(write, &own_bot.roles).await?;
        }
        api_keys::insert(write, &new.api_key).await?;
        let label = slug_of(new.space.as_ref()).unwrap_or(&org.slug);
        self.insert_secret(write, label, &new.api_key.id).await
    }

    /// Makes and stores a secret of a key.
    pub(crate) async fn insert_secret(
        &self,
        write: &mut Write<'_>,
        label: &Slug,
        id: &ApiKeyId,
    ) -> Result<PlainSecret> {
        let random = zeroize::Zeroizing::new(random::<32>()?);
        let prefix = self.installation.api_key_prefix.as_str();
        let text = api_key_text(prefix, label.as_str(), id, &random);
        let secret = ApiKeySecret { digest: self.pepper.digest(text.as_bytes()), expires_at: None };
        api_keys::insert_secret(write, id, &secret, self.clock.now()).await?;
        Ok(text)
    }
}

/// What a list shows of the text of a key: enough to find it by.
pub(crate) fn shown_prefix(prefix: &ApiKeyPrefix, label: &Slug, id: &ApiKeyId) -> String {
    let start: String = id.characters().chars().take(8).collect();
    format!("{}_{label}_{start}", prefix.as_str())
}

/// Leaves out what the caller may not see: the cursor goes on behind it.
pub(crate) async fn only_visible(
    connection: &mut Connection,
    actor: &Actor,
    mut page: Page<ApiKey>,
) -> Result<Page<ApiKey>> {
    let mut slugs: Vec<Space> = Vec::new();
    let mut visible = Vec::with_capacity(page.items.len());
    for api_key in page.items {
        if let Some(id) = api_key.space
            && !slugs.iter().any(|known| known.id == id)
        {
            slugs.extend(spaces::find(connection, &id).await?);
        }
        let space = slugs.iter().find(|known| Some(known.id) == api_key.space);
        let thing = guarded_key(actor, &api_key, slug_of(space))?;
        if actor.may(&Action::Read, &thing) {
            visible.push(api_key);
        }
    }
    page.items = visible;
    Ok(page)
}

pub(crate) fn slug_of(space: Option<&Space>) -> Option<&Slug> {
    space.map(|space| &space.slug)
}

/// A key of an organization and its space.
pub(crate) async fn find_key(
    connection: &mut Connection,
    org: OrgId,
    id: &ApiKeyId,
) -> Result<(ApiKey, Option<Space>)> {
    let found = api_keys::find(connection, id).await?.filter(|api_key| api_key.org == org);
    let Some(api_key) = found else {
        check_bootstrapped(connection, &org).await?;
        return Err(no_such_key(id));
    };
    let space = match &api_key.space {
        Some(space) => spaces::find(connection, space).await?,
        None => None,
    };
    Ok((api_key, space))
}

/// An organization whose API keys are enabled.
fn bootstrapped(org: Org) -> Result<Org> {
    if org.bootstrapped_at.is_some() {
        return Ok(org);
    }
    let message = format!("the organization `{}` is not bootstrapped", org.slug);
    Err(Error::Conflict("not_bootstrapped", message))
}

/// Refuses a call about the API keys of an organization that has none yet, and never had.
async fn check_bootstrapped(connection: &mut Connection, org: &OrgId) -> Result<()> {
    orgs::find(connection, org).await?.map(bootstrapped).transpose().map(drop)
}

pub(crate) fn what(id: &ApiKeyId) -> String {
    format!("API key `{id}`")
}

pub(crate) fn no_such_key(id: &ApiKeyId) -> Error {
    Error::NotFound(what(id))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::id::BASE62;
    use crate::model::secret::{CHECK_LENGTH, SECRET_LENGTH};

    const SECRETS: u32 = 100_000;
    /// With 61 degrees of freedom, fair digits are further apart at one of a million million places.
    const UNFAIR: f64 = 190.0;

    #[test]
    fn no_two_secrets_are_alike_and_each_digit_is_as_likely_as_another() {
        let (mut seen, mut counts) = (HashSet::new(), vec![[0_u32; 128]; SECRET_LENGTH]);
        for _ in 0..SECRETS {
            let id = ApiKeyId::from_random(random().unwrap());
            let text = api_key_text("tm", "default", &id, &random().unwrap()).reveal();
            let end = text.len() - CHECK_LENGTH;
            let secret = &text[end - SECRET_LENGTH..end];
            for (count, digit) in counts.iter_mut().zip(secret.bytes()) {
                count[usize::from(digit)] += 1;
            }
            assert!(seen.insert(secret.to_owned()), "made twice");
        }
        let expected = f64::from(SECRETS) / 62.0;
        // 256 bits do not fill the first of the digits
        for (place, count) in counts.iter().enumerate().skip(1) {
            let of =
                |digit: &u8| (f64::from(count[usize::from(*digit)]) - expected).powi(2) / expected;
            let distance: f64 = BASE62.iter().map(of).sum();
            assert!(distance < UNFAIR, "the digits at {place}: {distance}");
        }
    }
}
