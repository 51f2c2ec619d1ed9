//! Spaces of an organization.

use std::fmt::Display;

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::{Actor, Guarded};
use crate::model::audit::SideChange;
use crate::model::id::{OrgId, SpaceId};
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::space::{CreateSpace, EditSpace, Space};
use crate::model::time::Timestamp;
use crate::service::access::{part, require, require_to_list, require_to_make};
use crate::service::asks::{parse_name, the_only};
use crate::service::call::{Call, Changed, Done};
use crate::service::roles::check_admins_left;
use crate::service::side_changes::{bots_deleted, keys_revoked};
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, api_keys, bots, roles, spaces};

impl Service {
    /// Creates a space.
    ///
    /// # Errors
    /// [`Error::Conflict`] `slug_taken`, by a deleted space too.
    pub async fn create_space(&self, call: &Call, ask: CreateSpace) -> Result<Changed<Space>> {
        let mut wrong = call.wrong();
        let slug = wrong.required("slug", ask.slug.as_ref(), |text| text.parse());
        let name = wrong.optional("name", ask.name.or(ask.slug), parse_name);
        let (slug, name) = wrong.finish(slug.zip(name))?;
        let id = SpaceId::from_random(random()?);
        let thing = part(call.org, None, "spaces", &id.to_string())?;
        require_to_make(&call.actor, &Action::Admin, &thing)?;
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            return self.space_made_before(&mut write, &id).await;
        }
        let org = self.org_of(&mut write, call).await?;
        let space = Space {
            id,
            org: org.id,
            slug,
            name,
            created_at: self.clock.now(),
            suspended_at: None,
            deleted_at: None,
        };
        spaces::insert(&mut write, &space).await?;
        let done = Done::new("space.create", org.id, id, space).touches([Subject::Space(id)]);
        self.finish(write, call, done).await
    }

    async fn space_made_before(
        &self,
        connection: &mut Connection,
        id: &str,
    ) -> Result<Changed<Space>> {
        let id = id.parse().map_err(|cause| Error::bad_row("idempotency_keys", id, cause))?;
        let found = spaces::find(connection, &id).await?;
        Ok(Changed::repeated(found.ok_or_else(|| no_such_space(&id.to_string()))?))
    }

    /// A space that the caller may see, by id or slug.
    pub async fn get_space(&self, actor: &Actor, org: OrgId, name: &str) -> Result<Space> {
        self.visible_space(&mut *self.store.read().await?, actor, org, name).await
    }

    /// A page of the spaces that the caller may see, from new to old.
    pub async fn list_spaces(
        &self,
        actor: &Actor,
        org: OrgId,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<Space>> {
        require_to_list(actor, org, "read:org/spaces/* read:space-management/*/space")?;
        let mut read = self.store.read().await?;
        let after = after.unwrap_or_else(Cursor::start);
        let mut page = spaces::list(&mut read, &org, &after, page_limit(limit)).await?;
        page.items.retain(|space| {
            guarded_space(space).is_ok_and(|thing| actor.may(&Action::Read, &thing))
        });
        Ok(page)
    }

    /// Changes a space.
    pub async fn edit_space(
        &self,
        call: &Call,
        name: &str,
        ask: EditSpace,
    ) -> Result<Changed<Space>> {
        let mut wrong = call.wrong();
        let new_name = wrong.optional("name", ask.name, parse_name);
        let new_name = wrong.finish(Some(new_name))?;
        let (write, before) = self.space_to_change(call, name).await?;
        let name = new_name.unwrap_or_else(|| before.name.clone());
        let after = Space { name, ..before.clone() };
        self.change_space(write, call, "space.edit", (before, after)).await
    }

    /// Suspends a space, or lets it go on: its API keys get no token meanwhile.
    pub async fn suspend_space(
        &self,
        call: &Call,
        name: &str,
        suspend: bool,
    ) -> Result<Changed<Space>> {
        let (write, before) = self.space_to_change(call, name).await?;
        let now = self.clock.now();
        let suspended_at = suspend.then(|| before.suspended_at.unwrap_or(now));
        let after = Space { suspended_at, ..before.clone() };
        let action = if suspend { "space.suspend" } else { "space.resume" };
        self.change_space(write, call, action, (before, after)).await
    }

    /// Deletes a space for ever, with its bots: its API keys stop, and its slug is never used again.
    pub async fn delete_space(&self, call: &Call, name: &str) -> Result<Changed<Space>> {
        let (write, before) = self.space_to_change(call, name).await?;
        let after = Space { deleted_at: Some(self.clock.now()), ..before.clone() };
        self.change_space(write, call, "space.delete", (before, after)).await
    }

    async fn change_space(
        &self,
        mut write: Write<'_>,
        call: &Call,
        action: &'static str,
        (before, after): (Space, Space),
    ) -> Result<Changed<Space>> {
        let led = roles::list_led_from(&mut write, &after.id).await?;
        spaces::update(&mut write, &after).await?;
        if before.is_active() && !after.is_active() {
            check_admins_left(&mut write, &led).await?;
            let tokens =
                if after.deleted_at.is_some() { RevokedTokens::All } else { RevokedTokens::Before };
            let subject = RevokedSubject::Space(after.id);
            self.revoke_tokens(&mut write, (subject, tokens), after.org).await?;
        }
        let ended = match after.deleted_at {
            Some(now) => end_all_in(&mut write, &after, now).await?,
            None => Vec::new(),
        };
        let done = Done::new(action, after.org, after.id, after.clone())
            .was(before)
            .touches([Subject::Space(after.id)])
            .also(ended);
        self.finish(write, call, done).await
    }

    async fn space_to_change(&self, call: &Call, name: &str) -> Result<(Write<'_>, Space)> {
        let mut write = self.store.begin().await?;
        let space = self.visible_space(&mut write, &call.actor, call.org, name).await?;
        let thing = part(space.org, None, "spaces", &space.id.to_string())?;
        require_to_make(&call.actor, &Action::Admin, &thing)?;
        Ok((write, space))
    }

    /// A space that is there and that the caller may see, by id, slug or name.
    pub(crate) async fn visible_space(
        &self,
        connection: &mut Connection,
        actor: &Actor,
        org: OrgId,
        name: &str,
    ) -> Result<Space> {
        let space = find_space(connection, org, name)
            .await?
            .filter(|space| space.deleted_at.is_none())
            .ok_or_else(|| no_such_space(name))?;
        let what = || format!("space `{}`", shown(name));
        require(actor, &Action::Read, &guarded_space(&space)?, what)?;
        Ok(space)
    }

    /// The same, where something new shall be put into it.
    pub(crate) async fn active_space(
        &self,
        connection: &mut Connection,
        actor: &Actor,
        org: OrgId,
        name: &str,
    ) -> Result<Space> {
        require_active(self.visible_space(connection, actor, org, name).await?)
    }
}

/// Refuses to put something new into a space that is suspended or gone.
pub(crate) fn require_active(space: Space) -> Result<Space> {
    if space.is_active() {
        return Ok(space);
    }
    let message = format!("the space `{}` is suspended", space.slug);
    Err(Error::Conflict("space_suspended", message))
}

/// Ends the API keys and bots of a space that is deleted. The nodes hear of the keys alone: a bot
/// without keys is nobody to them.
async fn end_all_in(
    write: &mut Write<'_>,
    space: &Space,
    now: Timestamp,
) -> Result<Vec<SideChange>> {
    let revoked = api_keys::revoke_all_in(write, &space.id, now).await?;
    roles::unbind_all_from(write, &space.id).await?;
    let deleted = bots::delete_all_in(write, &space.id, now).await?;
    let with = (&space.id as &dyn Display, space.org);
    let mut ended = keys_revoked(&revoked, with, now);
    ended.extend(bots_deleted(&deleted, with, now));
    Ok(ended)
}

/// A space of an organization, deleted ones included, by id, slug or name.
pub(crate) async fn find_space(
    connection: &mut Connection,
    org: OrgId,
    name: &str,
) -> Result<Option<Space>> {
    let found = match name.parse::<SpaceId>() {
        Ok(id) => spaces::find(connection, &id).await?,
        Err(_) => find_named(connection, &org, name).await?,
    };
    Ok(found.filter(|space| space.org == org))
}

/// A space by its slug, or else by a name that no other one has.
async fn find_named(connection: &mut Connection, org: &OrgId, name: &str) -> Result<Option<Space>> {
    if let Some(space) = spaces::find_by_slug(connection, org, name).await? {
        return Ok(Some(space));
    }
    let named = spaces::find_by_name(connection, org, name).await?;
    the_only(named, || format!("more than one space is named `{}`: say its slug", shown(name)))
}

/// A space as a thing of the organization, and as itself for those who manage it.
pub(crate) fn guarded_space(space: &Space) -> Result<Guarded> {
    part(space.org, None, "spaces", &space.id.to_string())?
        .or(["space-management", space.slug.as_str(), "space"])
        .map_err(|cause| Error::Broken(cause.to_string()))
}

fn no_such_space(name: &str) -> Error {
    Error::NotFound(format!("space `{}`", shown(name)))
}

/// The start of a name that a caller sent, fit for a message.
pub(crate) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}
