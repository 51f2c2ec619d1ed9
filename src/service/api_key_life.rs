//! What becomes of an API key: edited, rotated, refreshed, revoked, deleted.

use std::time::Duration;

use tenmint_verifier::{Action, ScopeSet};

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::api_key::{
    ApiKey, ApiKeySecret, ApiKeyStatus, ApiKeyType, CreatedApiKey, RefreshApiKey, RotateApiKey,
};
use crate::model::id::ApiKeyId;
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::space::Space;
use crate::model::time::Timestamp;
use crate::service::access::{guarded_key, part, require, require_to_hold, require_to_reach};
use crate::service::api_keys::{find_key, shown_prefix, slug_of, what};
use crate::service::asks::parse_expiry;
use crate::service::call::{Call, Changed, Done};
use crate::service::new_api_key::{NewApiKey, given};
use crate::service::owners::{OwnerScopes, read_owner_in};
use crate::service::side_changes::key_replaced;
use crate::service::spaces::require_active;
use crate::service::{Service, random};
use crate::store::changes::Subject;
use crate::store::{Connection, Write, api_keys};

/// The longest that an old secret or key goes on.
const MAX_GRACE: Duration = Duration::from_hours(24);
/// The field that says it.
const GRACE: &str = "grace_period_seconds";

impl Service {
    /// Gives an API key a new secret. The old one dies at once, or after the grace period.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_active`, `refreshed`, or `in_grace` unless forced.
    pub async fn rotate_api_key(
        &self,
        call: &Call,
        id: &ApiKeyId,
        ask: RotateApiKey,
    ) -> Result<Changed<CreatedApiKey>> {
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            return self.created_before(&mut write, &id).await;
        }
        let (before, space) = self.key_to_replace(&mut write, call, id).await?;
        let mut wrong = call.wrong();
        let grace = wrong.checked(GRACE, parse_grace(ask.grace_period_seconds));
        let grace = wrong.finish(grace)?;
        let forced = ask.force.unwrap_or(false);
        let was_in_grace = self.end_secrets(&mut write, &before, grace, forced).await?;
        if grace.is_zero() || was_in_grace {
            // a secret died at once, and with it what it fetched
            let subject = (RevokedSubject::ApiKey(*id), RevokedTokens::Before);
            self.revoke_tokens(&mut write, subject, before.org).await?;
        }
        let org = self.bootstrapped_org(&mut write, call).await?;
        let label = slug_of(space.as_ref()).unwrap_or(&org.slug);
        let text = self.insert_secret(&mut write, label, id).await?;
        let after = ApiKey {
            prefix: Some(shown_prefix(&self.installation.api_key_prefix, label, id)),
            rotated_at: Some(self.clock.now()),
            old_secret_expires_at: end_of_old(grace, before.expires_at, self.clock.now()),
            ..before.clone()
        };
        api_keys::update(&mut write, &after).await?;
        let done = Done::new("api_key.rotate", org.id, id, after)
            .was(before)
            .touches([Subject::ApiKey(*id)]);
        Ok(self.finish(write, call, done).await?.with_text(text))
    }

    /// Ends the secrets of a key that is rotated. Says whether one was in its grace already.
    async fn end_secrets(
        &self,
        write: &mut Write<'_>,
        api_key: &ApiKey,
        grace: Duration,
        forced: bool,
    ) -> Result<bool> {
        let now = self.clock.now();
        let secrets = api_keys::list_secrets(write, &api_key.id).await?;
        let in_grace = |secret: &&ApiKeySecret| secret.expires_at.is_some_and(|end| end > now);
        if !forced && secrets.iter().any(|secret| in_grace(&secret)) {
            return Err(Error::Conflict(
                "in_grace",
                "the last rotation is in its grace period: wait for its end, or send `force` (on the \
                 command line `--during-grace`), and the oldest secret dies at once"
                    .to_owned(),
            ));
        }
        let was_in_grace = secrets.iter().any(|secret| in_grace(&secret));
        let has_ended = |secret: &&ApiKeySecret| secret.expires_at.is_some_and(|end| end <= now);
        for secret in secrets.iter().filter(|secret| !has_ended(secret)) {
            let graceful = end_of_old(grace, None, now).filter(|_| secret.expires_at.is_none());
            let end = graceful.unwrap_or(now - LONG_OVER);
            api_keys::update_secret_end(write, &secret.digest, end).await?;
        }
        Ok(was_in_grace)
    }

    /// Replaces an API key by a new one. The old one dies at once, or after the grace period.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_active` or `refreshed`; [`Error::Invalid`] where the old key
    /// expires and no expiry is said, or one beyond what is allowed.
    pub async fn refresh_api_key(
        &self,
        call: &Call,
        id: &ApiKeyId,
        ask: RefreshApiKey,
    ) -> Result<Changed<CreatedApiKey>> {
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            return self.created_before(&mut write, &id).await;
        }
        let (old, space) = self.key_to_replace(&mut write, call, id).await?;
        // a new key is made here as anywhere
        let space = space.map(require_active).transpose()?;
        let org = self.bootstrapped_org(&mut write, call).await?;
        let mut wrong = call.wrong();
        let grace = wrong.checked(GRACE, parse_grace(ask.grace_period_seconds));
        let expires_at = self.refreshed_expiry(call, &old, ask.expires_at.as_deref());
        let expires_at = wrong.looked_up("expires_at", expires_at)?;
        let (grace, expires_at) = wrong.finish(grace.zip(expires_at))?;
        let now = self.clock.now();
        let new_id = ApiKeyId::from_random(random()?);
        let label = slug_of(space.as_ref()).unwrap_or(&org.slug);
        let new = NewApiKey {
            api_key: ApiKey {
                id: new_id,
                prefix: Some(shown_prefix(&self.installation.api_key_prefix, label, &new_id)),
                replaces: Some(old.id),
                created_by: Some(call.actor.credential.owner),
                created_at: now,
                rotated_at: None,
                old_secret_expires_at: None,
                expires_at,
                lifetime: expires_at.map(|end| end.since(now)),
                ..old.clone()
            },
            space,
            own_bot: None,
        };
        let owners = read_owner_in(&mut write, &old.owner, org.id).await?;
        let effective = OwnerScopes::of(owners.as_ref()).effective(old.scopes.as_ref());
        require_to_hold(&call.actor, given(&new.api_key, effective.as_ref()))?;
        let text = self.insert_api_key(&mut write, &org, &new).await?;
        self.end_replaced(&mut write, &old, grace, now).await?;
        let end = end_of_old(grace, old.expires_at, now);
        let ending = key_replaced(&old, end, now);
        let end = match end {
            Some(end) => format!("the old key `{id}` goes on until {end}"),
            None => format!("the old key `{id}` is revoked"),
        };
        let done = Done::new("api_key.refresh", org.id, new_id, new.api_key)
            .was(old)
            .touches([Subject::ApiKey(*id), Subject::ApiKey(new_id)])
            .also([ending])
            .warns([end]);
        Ok(self.finish(write, call, done).await?.with_text(text))
    }

    /// Ends a key that was replaced.
    async fn end_replaced(
        &self,
        write: &mut Write<'_>,
        old: &ApiKey,
        grace: Duration,
        now: Timestamp,
    ) -> Result<()> {
        if let Some(end) = end_of_old(grace, old.expires_at, now) {
            let ending = ApiKey { expires_at: Some(end), ..old.clone() };
            return api_keys::update(write, &ending).await;
        }
        api_keys::update_revoked(write, &old.id, now).await?;
        let subject = (RevokedSubject::ApiKey(old.id), RevokedTokens::All);
        self.revoke_tokens(write, subject, old.org).await
    }

    /// When a replacement expires: a lifetime is never lengthened by leaving it out.
    fn refreshed_expiry(
        &self,
        call: &Call,
        old: &ApiKey,
        asked: Option<&str>,
    ) -> Result<Option<Timestamp>> {
        let now = self.clock.now();
        let wrong = |message: String| Error::invalid("expires_at", message);
        let asked = match asked {
            Some("never") => None,
            Some(text) => Some(parse_expiry(text, now).map_err(wrong)?),
            None if old.expires_at.is_none() => return Ok(None),
            None => {
                return Err(wrong(
                    "the old key expires: say when the new one shall, or `never`".to_owned(),
                ));
            }
        };
        // one that was made without an expiry has no lifetime to live again, but the end that it got since
        let latest = old.lifetime.map(|lifetime| now + lifetime).or(old.expires_at);
        let is_within = match (latest, asked) {
            (None, _) => true,
            (Some(latest), Some(asked)) => asked <= latest,
            (Some(_), None) => false,
        };
        if is_within || may_lengthen(call, old)? {
            return Ok(asked);
        }
        let latest = latest.map(|latest| latest.to_string()).unwrap_or_default();
        Err(wrong(format!(
            "the new key lives no longer than the old one was to: until {latest} at most"
        )))
    }

    /// Revokes an API key for ever. Revoking it again changes nothing.
    pub async fn revoke_api_key(&self, call: &Call, id: &ApiKeyId) -> Result<Changed<ApiKey>> {
        self.end_api_key(call, id, ("api_key.revoke", false)).await
    }

    /// Revokes an API key and takes it out of the lists. The record stays for the audit.
    pub async fn delete_api_key(&self, call: &Call, id: &ApiKeyId) -> Result<Changed<ApiKey>> {
        self.end_api_key(call, id, ("api_key.delete", true)).await
    }

    async fn end_api_key(
        &self,
        call: &Call,
        id: &ApiKeyId,
        (action, delete): (&'static str, bool),
    ) -> Result<Changed<ApiKey>> {
        let now = self.clock.now();
        let mut write = self.store.begin().await?;
        let (before, space) = find_key(&mut write, call.org, id).await?;
        check_may_change(&call.actor, &before, space.as_ref())?;
        let revoked = api_keys::update_revoked(&mut write, id, now).await?;
        if revoked {
            let subject = (RevokedSubject::ApiKey(*id), RevokedTokens::All);
            self.revoke_tokens(&mut write, subject, before.org).await?;
        }
        let deleted = delete && api_keys::update_deleted(&mut write, id, now).await?;
        let (after, _) = find_key(&mut write, call.org, id).await?;
        if !revoked && !deleted {
            let (before, dry_run) = (Some(before), call.dry_run);
            return Ok(Changed { before, dry_run, ..Changed::repeated(after) });
        }
        let done =
            Done::new(action, before.org, id, after).was(before).touches([Subject::ApiKey(*id)]);
        self.finish(write, call, done).await
    }

    /// A key whose secret the caller may replace, and its space.
    async fn key_to_replace(
        &self,
        write: &mut Write<'_>,
        call: &Call,
        id: &ApiKeyId,
    ) -> Result<(ApiKey, Option<Space>)> {
        let (api_key, space) = find_key(write, call.org, id).await?;
        check_may_change(&call.actor, &api_key, space.as_ref())?;
        let is_own = call.actor.credential.owner == api_key.owner;
        if api_key.key_type == ApiKeyType::User && !is_own {
            return Err(Error::Forbidden(
                "a user key is rotated and refreshed by the person it is for".to_owned(),
            ));
        }
        if api_key.status(self.clock.now()) != ApiKeyStatus::Active {
            return Err(Error::Conflict("not_active", format!("the API key `{id}` is not active")));
        }
        if let Some(successor) = api_keys::find_successor(write, id).await? {
            let message = format!("the API key `{id}` was refreshed already, by `{successor}`");
            return Err(Error::Conflict("refreshed", message));
        }
        let owner = read_owner_in(write, &api_key.owner, api_key.org).await?;
        require_to_reach(&call.actor, owner.as_ref())?;
        let held = self.effective_scopes(write, &api_key).await?;
        require_to_hold(&call.actor, given(&api_key, held.as_ref()))?;
        Ok((api_key, space))
    }

    /// What a key may do at this moment.
    pub(crate) async fn effective_scopes(
        &self,
        connection: &mut Connection,
        api_key: &ApiKey,
    ) -> Result<Option<ScopeSet>> {
        let owner = read_owner_in(connection, &api_key.owner, api_key.org).await?;
        Ok(OwnerScopes::of(owner.as_ref()).effective(api_key.scopes.as_ref()))
    }
}

/// A lifetime is lengthened by whoever administers all keys of the organization.
fn may_lengthen(call: &Call, old: &ApiKey) -> Result<bool> {
    let thing = part(old.org, None, "keys", &old.id.to_string())?;
    Ok(call.actor.may(&Action::Admin, &thing))
}

/// What ends at once is stored as having ended so long ago: a node whose clock is behind refuses it too, and it is
/// remembered for as long as any other that is dead.
const LONG_OVER: Duration = Duration::from_hours(1);

/// Until when what was replaced is accepted; nothing where it died at once. A grace never prolongs.
fn end_of_old(grace: Duration, expires_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let end = (!grace.is_zero()).then(|| now + grace)?;
    Some(expires_at.map_or(end, |expiry| expiry.min(end)))
}

/// One's own key needs `write`, any other `admin`.
pub(crate) fn check_may_change(
    actor: &Actor,
    api_key: &ApiKey,
    space: Option<&Space>,
) -> Result<()> {
    let thing = part(api_key.org, slug_of(space), "keys", &api_key.id.to_string())?;
    if actor.may(&Action::Admin, &thing) {
        return Ok(());
    }
    let thing = guarded_key(actor, api_key, slug_of(space))?;
    let is_own = actor.credential.owner == api_key.owner;
    let action = if is_own { Action::Write } else { Action::Admin };
    require(actor, &action, &thing, || what(&api_key.id))
}

fn parse_grace(seconds: Option<u32>) -> std::result::Result<Duration, String> {
    let grace = Duration::from_secs(u64::from(seconds.unwrap_or(0)));
    if grace > MAX_GRACE {
        return Err(format!("a grace period has at most {} seconds", MAX_GRACE.as_secs()));
    }
    Ok(grace)
}
