//! Bots: service accounts.

use tenmint_verifier::{Action, ScopeSet};

use crate::error::{Error, Result};
use crate::model::access::{Actor, Guarded};
use crate::model::bot::{Bot, CreateBot, EditBot};
use crate::model::id::{BotId, OrgId};
use crate::model::owner::OwnerId;
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::role::RoleBinding;
use crate::model::space::Space;
use crate::service::access::{
    first_beyond, part, require, require_to_hold_scopes, require_to_list, require_to_make,
};
use crate::service::api_keys::slug_of;
use crate::service::asks::{parse_name, parse_scopes};
use crate::service::call::{Call, Changed, Done};
use crate::service::first_roles::FirstRoles;
use crate::service::owners::require_to_touch;
use crate::service::roles::{admin_places, check_admins_left};
use crate::service::side_changes::{keys_revoked, role_bound, role_unbound};
use crate::service::spaces::shown;
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, api_keys, bots, roles, spaces};

impl Service {
    /// Creates a bot.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for grants and roles that the caller does not hold.
    pub async fn create_bot(&self, call: &Call, ask: CreateBot) -> Result<Changed<Bot>> {
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            let (bot, _) = find_bot(&mut write, call.org, &id).await?;
            return Ok(Changed::repeated(bot));
        }
        self.org_of(&mut write, call).await?;
        let (bot, space, bindings) = self.parse_bot(&mut write, call, &ask).await?;
        require_to_make(&call.actor, &Action::Admin, &guarded_bot(&bot, space.as_ref())?)?;
        require_to_hold_scopes(&call.actor, bot.grants.as_ref())?;
        bots::insert(&mut write, &bot).await?;
        roles::bind_all(&mut write, &bindings).await?;
        let done = Done::new("bot.create", bot.org, bot.id, bot.clone())
            .touches([Subject::Bot(bot.id)])
            .also(bindings.iter().map(role_bound));
        self.finish(write, call, done).await
    }

    /// A bot that was asked for, its space and its roles.
    async fn parse_bot(
        &self,
        write: &mut Write<'_>,
        call: &Call,
        ask: &CreateBot,
    ) -> Result<(Bot, Option<Space>, Vec<RoleBinding>)> {
        let mut wrong = call.wrong();
        let name = wrong.required("name", ask.name.as_ref(), parse_name);
        let grants = wrong.optional("grants", ask.grants.as_ref(), parse_scopes);
        let space = match &ask.space {
            Some(name) => {
                let found = self.active_space(write, &call.actor, call.org, name).await;
                wrong.looked_up("space", found)?
            }
            None => None,
        };
        let bot = Bot {
            id: BotId::from_random(random()?),
            org: call.org,
            space: space.as_ref().map(|space| space.id),
            name: name.unwrap_or_default(),
            grants,
            created_at: self.clock.now(),
            suspended_at: None,
            deleted_at: None,
        };
        let asked = FirstRoles {
            account: None,
            organization: ask.org_role.as_deref(),
            // of a space that was not found, no role can be
            space: ask.space_role.as_deref().filter(|_| space.is_some() || ask.space.is_none()),
        };
        let of = (&bot, space.as_ref());
        let (bindings, _) = asked.bind(write, &call.actor, of, &mut wrong).await?;
        wrong.finish(Some((bot, space, bindings)))
    }

    /// A bot that the caller may see.
    pub async fn get_bot(&self, actor: &Actor, org: OrgId, id: &str) -> Result<Bot> {
        Ok(visible_bot(&mut *self.store.read().await?, actor, org, id).await?.0)
    }

    /// A page of the bots that the caller may see, from new to old; of a space where one is named.
    pub async fn list_bots(
        &self,
        actor: &Actor,
        (org, space): (OrgId, Option<String>),
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<Bot>> {
        require_to_list(actor, org, "read:org/bots/* read:space-management/*/bots/*")?;
        let mut read = self.store.read().await?;
        let (after, limit) = (after.unwrap_or_else(Cursor::start), page_limit(limit));
        let mut page = match space {
            Some(name) => {
                let space = self.visible_space(&mut read, actor, org, &name).await?;
                bots::list_of_space(&mut read, &space.id, &after, limit).await?
            }
            None => bots::list(&mut read, &org, &after, limit).await?,
        };
        let mut visible = Vec::with_capacity(page.items.len());
        for bot in page.items {
            let space = space_of(&mut read, &bot).await?;
            if actor.may(&Action::Read, &guarded_bot(&bot, space.as_ref())?) {
                visible.push(bot);
            }
        }
        page.items = visible;
        Ok(page)
    }

    /// Changes a bot. Grants are replaced; what the caller adds it must hold.
    pub async fn edit_bot(&self, call: &Call, id: &str, ask: EditBot) -> Result<Changed<Bot>> {
        let mut wrong = call.wrong();
        let name = wrong.optional("name", ask.name, parse_name);
        let keeps_none = ask.grants.as_ref().is_some_and(Vec::is_empty);
        let grants = ask.grants.filter(|grants| !grants.is_empty());
        let grants = wrong.optional("grants", grants, parse_scopes);
        wrong.finish(Some(()))?;
        let (mut write, before) = self.bot_to_change(call, id).await?;
        let mut after = before.clone();
        after.name = name.unwrap_or(after.name);
        if keeps_none {
            after.grants = None;
        }
        if let Some(grants) = grants {
            check_grants(call, before.grants.as_ref(), &grants)?;
            after.grants = Some(grants);
        }
        bots::update(&mut write, &after).await?;
        if loses(before.grants.as_ref(), after.grants.as_ref()) {
            self.revoke_tokens_of(&mut write, &after, RevokedTokens::Before).await?;
        }
        self.finish_bot(write, call, "bot.edit", (before, after)).await
    }

    /// Suspends a bot, or lets it go on: its API keys get no token meanwhile.
    pub async fn suspend_bot(&self, call: &Call, id: &str, suspend: bool) -> Result<Changed<Bot>> {
        let (mut write, before) = self.bot_to_change(call, id).await?;
        let now = self.clock.now();
        let suspended_at = suspend.then(|| before.suspended_at.unwrap_or(now));
        let after = Bot { suspended_at, ..before.clone() };
        let places = admin_places(&mut write, OwnerId::Bot(before.id)).await?;
        bots::update(&mut write, &after).await?;
        if suspend {
            check_admins_left(&mut write, &places).await?;
            self.revoke_tokens_of(&mut write, &after, RevokedTokens::Before).await?;
        }
        let action = if suspend { "bot.suspend" } else { "bot.resume" };
        self.finish_bot(write, call, action, (before, after)).await
    }

    /// Deletes a bot for ever: its API keys stop, its roles are taken away.
    pub async fn delete_bot(&self, call: &Call, id: &str) -> Result<Changed<Bot>> {
        let (mut write, before) = self.bot_to_change(call, id).await?;
        let (now, owner) = (self.clock.now(), OwnerId::Bot(before.id));
        let after = Bot { deleted_at: Some(now), ..before.clone() };
        let places = admin_places(&mut write, owner).await?;
        bots::update(&mut write, &after).await?;
        check_admins_left(&mut write, &places).await?;
        self.revoke_tokens_of(&mut write, &after, RevokedTokens::All).await?;
        let revoked = api_keys::revoke_all_of(&mut write, &after.org, &owner, now).await?;
        let bound = roles::list_bound(&mut write, &owner).await?;
        for binding in &bound {
            roles::unbind(&mut write, &owner, &binding.place).await?;
        }
        let done = Done::new("bot.delete", after.org, after.id, after)
            .was(before)
            .touches([Subject::from(owner)])
            .also(keys_revoked(&revoked, (&owner, call.org), now))
            .also(bound.iter().map(role_unbound));
        self.finish(write, call, done).await
    }

    async fn revoke_tokens_of(
        &self,
        write: &mut Write<'_>,
        bot: &Bot,
        tokens: RevokedTokens,
    ) -> Result<()> {
        let subject = RevokedSubject::Owner(OwnerId::Bot(bot.id));
        self.revoke_tokens(write, (subject, tokens), bot.org).await
    }

    async fn finish_bot(
        &self,
        write: Write<'_>,
        call: &Call,
        action: &'static str,
        (before, after): (Bot, Bot),
    ) -> Result<Changed<Bot>> {
        let subject = Subject::Bot(after.id);
        let done = Done::new(action, after.org, after.id, after).was(before).touches([subject]);
        self.finish(write, call, done).await
    }

    async fn bot_to_change(&self, call: &Call, id: &str) -> Result<(Write<'_>, Bot)> {
        let mut write = self.store.begin().await?;
        let (bot, space) = find_bot(&mut write, call.org, id).await?;
        let thing = guarded_bot(&bot, space.as_ref())?;
        require(&call.actor, &Action::Admin, &thing, || what(id))?;
        require_to_touch(&mut write, &call.actor, (OwnerId::Bot(bot.id), bot.org)).await?;
        Ok((write, bot))
    }
}

/// Whether grants that were held are held no more.
fn loses(before: Option<&ScopeSet>, after: Option<&ScopeSet>) -> bool {
    before.is_some_and(|before| first_beyond(after, before).is_some())
}

/// A caller holds what it adds to the grants of a bot; what it takes away it need not.
fn check_grants(call: &Call, before: Option<&ScopeSet>, grants: &ScopeSet) -> Result<()> {
    if first_beyond(before, grants).is_none() {
        return Ok(());
    }
    require_to_hold_scopes(&call.actor, before)?;
    require_to_hold_scopes(&call.actor, Some(grants))
}

/// A bot under its management path.
pub(crate) fn guarded_bot(bot: &Bot, space: Option<&Space>) -> Result<Guarded> {
    part(bot.org, slug_of(space), "bots", &bot.id.to_string())
}

async fn space_of(connection: &mut Connection, bot: &Bot) -> Result<Option<Space>> {
    match &bot.space {
        Some(id) => spaces::find(connection, id).await,
        None => Ok(None),
    }
}

/// A bot that is there, and its space.
pub(crate) async fn find_bot(
    connection: &mut Connection,
    org: OrgId,
    id: &str,
) -> Result<(Bot, Option<Space>)> {
    let found = match id.parse::<BotId>() {
        Ok(id) => bots::find(connection, &id).await?,
        Err(_) => None,
    };
    let bot = found
        .filter(|bot| bot.org == org && bot.deleted_at.is_none())
        .ok_or_else(|| Error::NotFound(what(id)))?;
    let space = space_of(connection, &bot).await?;
    Ok((bot, space))
}

/// A bot that the caller may see, and its space.
pub(crate) async fn visible_bot(
    connection: &mut Connection,
    actor: &Actor,
    org: OrgId,
    id: &str,
) -> Result<(Bot, Option<Space>)> {
    let (bot, space) = find_bot(connection, org, id).await?;
    require(actor, &Action::Read, &guarded_bot(&bot, space.as_ref())?, || what(id))?;
    Ok((bot, space))
}

fn what(id: &str) -> String {
    format!("bot `{}`", shown(id))
}
