//! Edits of an API key: what becomes narrower voids its tokens, what becomes wider the caller must
//! hold.

use tenmint_verifier::ScopeSet;

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::api_key::{ApiKey, ApiKeyStatus, EditApiKey};
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, AudienceId};
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::time::Timestamp;
use crate::service::Service;
use crate::service::access::{first_beyond, require_to_hold, require_to_reach};
use crate::service::api_key_life::check_may_change;
use crate::service::api_keys::{find_key, no_such_key};
use crate::service::asks::{
    Wrong, parse_description, parse_expiry, parse_name, parse_quota, parse_scopes,
};
use crate::service::call::{Call, Changed, Done};
use crate::service::new_api_key::{check_catalogues, given};
use crate::service::owners::{OwnerScopes, read_owner_in};
use crate::service::side_changes::bot_edited;
use crate::store::changes::Subject;
use crate::store::{Write, api_keys, bots};

/// What clients of an edited key may feel.
const CAN_BREAK: &str =
    "clients that use this key can break: what they fetch from now on follows the new rules";

impl Service {
    /// Changes an API key.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_active`; [`Error::Invalid`] with every bad field;
    /// [`Error::Forbidden`] for what the caller does not hold.
    pub async fn edit_api_key(
        &self,
        call: &Call,
        id: &ApiKeyId,
        ask: EditApiKey,
    ) -> Result<Changed<ApiKey>> {
        let mut write = self.store.begin().await?;
        let (before, space) = find_key(&mut write, call.org, id).await?;
        check_may_change(&call.actor, &before, space.as_ref())?;
        if before.status(self.clock.now()) != ApiKeyStatus::Active {
            return Err(Error::Conflict("not_active", format!("the API key `{id}` is not active")));
        }
        let asked = ask.audiences.clone().flatten();
        let names_audiences = ask.audiences.is_some();
        let mut wrong = call.wrong();
        let mut after = edited(&mut wrong, &before, ask, self.clock.now());
        if names_audiences {
            let named = ("audiences", asked.as_deref());
            let found = self.find_audiences(&mut write, before.org, named).await;
            after.audiences = wrong.looked_up("audiences", found)?.unwrap_or_default();
        }
        let after = wrong.finish(Some(after))?;
        check_quota(&call.actor, &before, &after)?;
        let widened = self.check_scopes(&mut write, call, &before, &after).await?;
        api_keys::update(&mut write, &after).await?;
        if widened.narrows {
            let subject = (RevokedSubject::ApiKey(*id), RevokedTokens::Before);
            self.revoke_tokens(&mut write, subject, before.org).await?;
        }
        let done = Done::new("api_key.edit", before.org, id, after)
            .touches(widened.bot.as_ref().map(|(_, bot)| Subject::Bot(bot.id)))
            .touches([Subject::ApiKey(*id)])
            .also(widened.bot.as_ref().map(bot_edited))
            .warns(widened.warnings)
            .was(before);
        self.finish(write, call, done).await
    }

    /// What the edit does to the reach of the key, once it is seen to be the caller's to give.
    async fn check_scopes(
        &self,
        write: &mut Write<'_>,
        call: &Call,
        before: &ApiKey,
        after: &ApiKey,
    ) -> Result<Reach> {
        let owner = read_owner_in(write, &before.owner, before.org).await?;
        let mut owners = OwnerScopes::of(owner.as_ref());
        let held_before = owners.effective(before.scopes.as_ref());
        let mut reach = Reach::default();
        let changes_meaning = before.scopes != after.scopes || before.audiences != after.audiences;
        if let Some(scopes) = after.scopes.as_ref().filter(|_| changes_meaning) {
            check_catalogues(write, after.org, &after.audiences, scopes).await?;
        }
        if let Some(scopes) = after.scopes.as_ref().filter(|_| before.scopes != after.scopes)
            && let Some(scope) = first_new(&owners, before, scopes)
        {
            if let Some(scope) = owners.first_out_of_reach(scopes) {
                return Err(not_held(scope));
            }
            reach.bot = Some(widened_bot(write, after, scopes, scope).await?);
            owners = owners.with(scopes);
        }
        let held_after = owners.effective(after.scopes.as_ref());
        reach.compare((before, held_before.as_ref()), (after, held_after.as_ref()));
        if reach.is_more {
            require_to_reach(&call.actor, owner.as_ref())?;
            require_to_hold(&call.actor, given(before, held_before.as_ref()))?;
            require_to_hold(&call.actor, given(after, held_after.as_ref()))?;
        }
        if let Some((_, bot)) = &reach.bot {
            bots::update(write, bot).await?;
        }
        Ok(reach)
    }
}

/// The first scope that its owner does not hold and that the key was not given before: what its bot has lost
/// since is not given back.
fn first_new<'s>(owners: &OwnerScopes, before: &ApiKey, scopes: &'s ScopeSet) -> Option<&'s str> {
    let known = before.scopes.iter().fold(owners.clone(), OwnerScopes::with);
    known.first_beyond(scopes)
}

/// How far a key reaches after an edit, beside before.
#[derive(Default)]
struct Reach {
    /// It may do something it could not do before, or is called something else: more than a narrowing.
    is_more: bool,
    /// It may no longer do something it could do before: its tokens are void.
    narrows: bool,
    /// The bot whose grants grew with the scopes of its key, before and after.
    bot: Option<(Bot, Bot)>,
    warnings: Vec<String>,
}

impl Reach {
    fn compare(
        &mut self,
        (before, held_before): (&ApiKey, Option<&ScopeSet>),
        (after, held_after): (&ApiKey, Option<&ScopeSet>),
    ) {
        let gains = |from: Option<&ScopeSet>, to: Option<&ScopeSet>| {
            to.is_some_and(|to| first_beyond(from, to).is_some())
        };
        let joins = |from: &ApiKey, to: &ApiKey| {
            !from.audiences.is_empty()
                && (to.audiences.is_empty()
                    || to.audiences.iter().any(|one| !from.audiences.contains(one)))
        };
        self.is_more = gains(held_before, held_after)
            || joins(before, after)
            || !before.ip_rules.covers(&after.ip_rules)
            || loosens(before.quota, after.quota)
            || before.name != after.name
            || before.description != after.description;
        let sooner = after.expires_at != before.expires_at;
        let loses_audiences = joins(after, before);
        // a client that names none gets its token for the first
        let first = |api_key: &ApiKey| {
            api_key.audiences.iter().copied().find(|id| *id != AudienceId::MANAGEMENT)
        };
        let moves_default = first(before) != first(after);
        let reach_changes = before.scopes != after.scopes
            || before.ip_rules != after.ip_rules
            || loses_audiences
            || moves_default;
        self.narrows = gains(held_after, held_before)
            || loses_audiences
            || !after.ip_rules.covers(&before.ip_rules)
            || sooner;
        self.warnings.extend(after.ip_rules.warnings());
        if reach_changes {
            self.warnings.push(CAN_BREAK.to_owned());
        }
        if let Some((_, bot)) = &self.bot {
            self.warnings.push(format!("the bot `{}` holds the new scopes too", bot.id));
        }
    }
}

/// Whether more requests pass some window after than before.
fn loosens(before: Option<Quota>, after: Option<Quota>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            let shorter = after.window().as_seconds() < before.window().as_seconds();
            after.limit() > before.limit() || shorter
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Refuses a key that would loosen the quota that it is under itself.
fn check_quota(actor: &Actor, before: &ApiKey, after: &ApiKey) -> Result<()> {
    if actor.credential.api_key == before.id && loosens(before.quota, after.quota) {
        let message = "a key does not loosen its own quota: edit it with another one";
        return Err(Error::Forbidden(message.to_owned()));
    }
    Ok(())
}

/// The bot of a service key, with grants that reach as far as the new scopes. A person's are not
/// widened by its keys.
async fn widened_bot(
    write: &mut Write<'_>,
    api_key: &ApiKey,
    scopes: &ScopeSet,
    beyond: &str,
) -> Result<(Bot, Bot)> {
    let OwnerId::Bot(id) = api_key.owner else {
        return Err(not_held(beyond));
    };
    let before = bots::find(write, &id).await?.ok_or_else(|| no_such_key(&api_key.id))?;
    let grants = match &before.grants {
        Some(grants) => grants.union(scopes),
        None => scopes.clone(),
    };
    let text = grants.as_str().to_owned();
    let grants = text.parse().map_err(|cause| {
        Error::invalid("scopes", format!("with what its bot holds already: {cause}"))
    })?;
    let after = Bot { grants: Some(grants), ..before.clone() };
    Ok((before, after))
}

/// A scope that the owner of a key lacks.
pub(crate) fn not_held(scope: &str) -> Error {
    Error::invalid("scopes", format!("the owner of the key does not hold `{scope}`"))
}

/// The key as it shall be, audiences aside.
fn edited(wrong: &mut Wrong, before: &ApiKey, ask: EditApiKey, now: Timestamp) -> ApiKey {
    let mut after = before.clone();
    if let Some(name) = wrong.optional("name", ask.name, parse_name) {
        after.name = name;
    }
    if let Some(text) = wrong.optional("description", ask.description, parse_description) {
        after.description = text;
    }
    match ask.scopes {
        Some(None) => after.scopes = None,
        Some(Some(scopes)) => after.scopes = wrong.checked("scopes", parse_scopes(scopes)),
        None => {}
    }
    match ask.quota {
        Some(None) => after.quota = None,
        Some(Some(quota)) => after.quota = wrong.checked("quota", parse_quota(quota)),
        None => {}
    }
    if let Some(Some(list)) = &ask.audiences
        && list.is_empty()
    {
        let cause = "an empty list is refused: write `null` for all of the organization";
        wrong.checked::<(), _>("audiences", Err(cause));
    }
    if let Some(Some(list)) = &ask.allow
        && list.is_empty()
    {
        // an allow list that becomes empty opens the key to everybody, which has to be said
        let cause = "an empty list is refused: write `null` to allow every address";
        wrong.checked::<(), _>("allow", Err(cause));
    }
    let list = |asked: Option<Option<Vec<String>>>| asked.map(Option::unwrap_or_default);
    let (allow, block) = (list(ask.allow), list(ask.block));
    match before.ip_rules.edited(allow.as_deref(), block.as_deref()) {
        Ok(rules) => after.ip_rules = rules,
        Err(fields) => wrong.extend(fields),
    }
    let earlier = |text: String| earlier_expiry(&text, before.expires_at, now);
    if let Some(end) = wrong.optional("expires_at", ask.expires_at, earlier) {
        after.expires_at = Some(end);
    }
    after
}

fn earlier_expiry(
    text: &str,
    before: Option<Timestamp>,
    now: Timestamp,
) -> std::result::Result<Timestamp, String> {
    let end = parse_expiry(text, now)?;
    match before {
        Some(before) if end > before => Err(format!(
            "an expiry only comes earlier, and it is {before} now: refresh the key for a later one"
        )),
        _ => Ok(end),
    }
}
