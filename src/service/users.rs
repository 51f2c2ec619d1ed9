//! Persons as members of an organization. Nobody learns here what another organization knows.

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::audit::SideChange;
use crate::model::id::{OrgId, UserId};
use crate::model::owner::OwnerId;
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::role::{RoleBinding, RolePlace, RoleRef};
use crate::model::user::{CreateUser, EditUser, EmailAddress, Member, Person};
use crate::service::access::{
    part, require, require_on_installation, require_to_list, require_to_make,
};
use crate::service::asks::parse_name;
use crate::service::call::{Call, Changed, Done};
use crate::service::owners::require_to_touch;
use crate::service::roles::{admin_places, check_admins_left, role_to_bind};
use crate::service::side_changes::{keys_revoked, role_bound, role_unbound};
use crate::service::spaces::shown;
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, api_keys, roles, users};

/// API keys of a member from which on their tokens are not ended one by one.
const MANY_API_KEYS: usize = 100;

impl Service {
    /// Makes a person a member. One that the installation does not know yet is made.
    ///
    /// # Errors
    /// [`Error::Conflict`] `already_member`; [`Error::Forbidden`] for a role that the caller does
    /// not hold.
    pub async fn create_user(&self, call: &Call, ask: CreateUser) -> Result<Changed<Member>> {
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            return Ok(Changed::repeated(find_member(&mut write, call.org, &id).await?));
        }
        self.org_of(&mut write, call).await?;
        let (email, name, role) = parse_user(&mut write, call, ask).await?;
        let known = users::find_by_email(&mut write, &email).await?;
        let (id, person_suspended_at) = match &known {
            Some(person) => (person.id, person.suspended_at),
            None => (UserId::from_random(random()?), None),
        };
        let thing = part(call.org, None, "members", &id.to_string())?;
        require_to_make(&call.actor, &Action::Admin, &thing)?;
        let now = self.clock.now();
        if known.is_none() {
            users::insert(&mut write, &id, &email, now).await?;
        }
        let member = Member {
            id,
            org: call.org,
            email,
            name,
            created_at: now,
            suspended_at: None,
            person_suspended_at,
        };
        users::insert_member(&mut write, &member).await?;
        let bound = bind_first_role(&mut write, &member, role).await?;
        let done = Done::new("user.create", call.org, id, member)
            .touches([Subject::User(id)])
            .also(bound.iter().map(role_bound));
        let changed = self.finish(write, call, done).await?;
        if call.dry_run { concealed(changed, bound) } else { Ok(changed) }
    }

    /// A member that the caller may see; everybody may see oneself.
    pub async fn get_user(&self, actor: &Actor, org: OrgId, id: &str) -> Result<Member> {
        let mut read = self.store.read().await?;
        let member = find_member(&mut read, org, id).await?;
        if actor.credential.owner != OwnerId::User(member.id) || !actor.reaches(org) {
            let thing = part(org, None, "members", &member.id.to_string())?;
            require(actor, &Action::Read, &thing, || what(id))?;
        }
        Ok(member)
    }

    /// A page of the members that the caller may see, from new to old.
    pub async fn list_users(
        &self,
        actor: &Actor,
        org: OrgId,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<Member>> {
        require_to_list(actor, org, "read:org/members/*")?;
        let mut read = self.store.read().await?;
        let after = after.unwrap_or_else(Cursor::start);
        let mut page = users::list_members(&mut read, &org, &after, page_limit(limit)).await?;
        page.items.retain(|member| {
            let thing = part(org, None, "members", &member.id.to_string());
            thing.is_ok_and(|thing| actor.may(&Action::Read, &thing))
        });
        Ok(page)
    }

    /// Changes what the organization calls a person.
    pub async fn edit_user(&self, call: &Call, id: &str, ask: EditUser) -> Result<Changed<Member>> {
        let mut wrong = call.wrong();
        let name = wrong.optional("name", ask.name, parse_name);
        let name = wrong.finish(Some(name))?;
        let (mut write, before) = self.member_to_change(call, id).await?;
        let after = Member { name: name.unwrap_or(before.name.clone()), ..before.clone() };
        users::update_member(&mut write, &after).await?;
        self.finish_member(write, call, "user.edit", (before, after)).await
    }

    /// Suspends a membership, or lets it go on: the person's API keys here get no token meanwhile.
    pub async fn suspend_user(
        &self,
        call: &Call,
        id: &str,
        suspend: bool,
    ) -> Result<Changed<Member>> {
        let (mut write, before) = self.member_to_change(call, id).await?;
        let places = self.places_of(&mut write, &before).await?;
        let now = self.clock.now();
        let suspended_at = suspend.then(|| before.suspended_at.unwrap_or(now));
        let after = Member { suspended_at, ..before.clone() };
        users::update_member(&mut write, &after).await?;
        if suspend {
            check_admins_left(&mut write, &places).await?;
            self.revoke_member_tokens(&mut write, &after, RevokedTokens::Before).await?;
        }
        let action = if suspend { "user.suspend" } else { "user.resume" };
        self.finish_member(write, call, action, (before, after)).await
    }

    /// Ends a membership: the person's API keys here are revoked, its roles taken away.
    pub async fn delete_user(&self, call: &Call, id: &str) -> Result<Changed<Member>> {
        let (mut write, member) = self.member_to_change(call, id).await?;
        let owner = OwnerId::User(member.id);
        let (now, org) = (self.clock.now(), member.org);
        let places = self.places_of(&mut write, &member).await?;
        self.revoke_member_tokens(&mut write, &member, RevokedTokens::All).await?;
        let revoked = api_keys::revoke_all_of(&mut write, &org, &owner, now).await?;
        let bound = roles::list_bound(&mut write, &owner).await?;
        let lost = bound.iter().filter(|binding| binding.place.org() == Some(org));
        let revoked = keys_revoked(&revoked, (&owner, org), now);
        let also: Vec<SideChange> = revoked.into_iter().chain(lost.map(role_unbound)).collect();
        roles::unbind_all(&mut write, &owner, &org).await?;
        users::delete_member(&mut write, &org, &member.id).await?;
        check_admins_left(&mut write, &places).await?;
        let done = Done::new("user.delete", org, member.id, member.clone())
            .touches([Subject::User(member.id)])
            .was(member)
            .also(also)
            .ends();
        self.finish(write, call, done).await
    }

    /// Suspends a person in every organization, or lets it go on.
    pub async fn suspend_person(
        &self,
        call: &Call,
        id: &UserId,
        suspend: bool,
    ) -> Result<Changed<Person>> {
        require_on_installation(&call.actor, &Action::Admin, "users")?;
        let mut write = self.store.begin().await?;
        let places = admin_places(&mut write, OwnerId::User(*id)).await?;
        let before = users::find(&mut write, id).await?;
        let before = before.ok_or_else(|| Error::NotFound(what(&id.to_string())))?;
        let now = self.clock.now();
        let suspended_at = suspend.then(|| before.suspended_at.unwrap_or(now));
        let after = Person { suspended_at, ..before.clone() };
        users::update_suspended(&mut write, id, suspended_at).await?;
        if suspend {
            check_admins_left(&mut write, &places).await?;
            // of no organization, so that it is never taken for covered by one
            let tokens = RevokedSubject::Owner(OwnerId::User(*id));
            self.revoke_tokens(&mut write, (tokens, RevokedTokens::Before), None).await?;
        }
        let action = if suspend { "person.suspend" } else { "person.resume" };
        let done = Done::on_installation(action, id.to_string(), after)
            .was(before)
            .touches([Subject::User(*id)]);
        self.finish(write, call, done).await
    }

    /// Ends tokens of a member, key by key: those that the person has in another organization are none of
    /// the business of this one. Of many keys, all tokens of the person end, and its clients fetch anew.
    async fn revoke_member_tokens(
        &self,
        write: &mut Write<'_>,
        member: &Member,
        tokens: RevokedTokens,
    ) -> Result<()> {
        let (owner, now) = (OwnerId::User(member.id), self.clock.now());
        // a token never outlives its key
        let living = api_keys::list_living_of(write, &member.org, &owner, now).await?;
        if living.len() > MANY_API_KEYS {
            let subject = (RevokedSubject::Owner(owner), RevokedTokens::Before);
            return self.revoke_tokens(write, subject, None).await;
        }
        for id in living {
            let subject = (RevokedSubject::ApiKey(id), tokens);
            self.revoke_tokens(write, subject, member.org).await?;
        }
        Ok(())
    }

    /// Where a member is an admin, of what may end with its membership: in its organization, and in
    /// the account, which takes members alone.
    async fn places_of(&self, write: &mut Write<'_>, member: &Member) -> Result<Vec<RolePlace>> {
        let places = admin_places(write, OwnerId::User(member.id)).await?;
        Ok(places
            .into_iter()
            .filter(|place| place.org().is_none_or(|org| org == member.org))
            .collect())
    }

    async fn finish_member(
        &self,
        write: Write<'_>,
        call: &Call,
        action: &'static str,
        (before, after): (Member, Member),
    ) -> Result<Changed<Member>> {
        let subject = Subject::User(after.id);
        let done = Done::new(action, after.org, after.id, after).was(before).touches([subject]);
        self.finish(write, call, done).await
    }

    async fn member_to_change(&self, call: &Call, id: &str) -> Result<(Write<'_>, Member)> {
        let mut write = self.store.begin().await?;
        let member = find_member(&mut write, call.org, id).await?;
        let thing = part(call.org, None, "members", &member.id.to_string())?;
        require(&call.actor, &Action::Admin, &thing, || what(id))?;
        require_to_touch(&mut write, &call.actor, (OwnerId::User(member.id), member.org)).await?;
        Ok((write, member))
    }
}

/// A new member: the address, the name, and the role that was asked for or that of a member.
async fn parse_user(
    write: &mut Write<'_>,
    call: &Call,
    ask: CreateUser,
) -> Result<(EmailAddress, String, Option<RoleRef>)> {
    let mut wrong = call.wrong();
    let email = wrong.required("email", ask.email.as_ref(), |text| text.parse());
    let name = ask.name.or(ask.email);
    let name = wrong.optional("name", name, parse_name);
    let role = ask.role.unwrap_or_else(|| RoleRef::Member.to_string());
    let place = RolePlace::Organization { organization: call.org };
    let role = role_to_bind(write, &call.actor, ("role", &role), (place, None)).await;
    let role = wrong.looked_up("role", role)?;
    let ((email, name), role) = wrong.finish(email.zip(name).zip(role))?;
    Ok((email, name, role.map(|(role, _)| role)))
}

/// Gives a new member its role, unless it is to have none.
async fn bind_first_role(
    write: &mut Write<'_>,
    member: &Member,
    role: Option<RoleRef>,
) -> Result<Option<RoleBinding>> {
    let Some(role) = role else { return Ok(None) };
    let place = RolePlace::Organization { organization: member.org };
    let binding = RoleBinding { owner: OwnerId::User(member.id), place, role };
    roles::bind(write, &binding).await?;
    Ok(Some(binding))
}

/// A dry run under another id: one that stays the same would tell that another organization knows
/// the person.
fn concealed(mut changed: Changed<Member>, bound: Option<RoleBinding>) -> Result<Changed<Member>> {
    let id = UserId::from_random(random()?);
    let owner = OwnerId::User(id);
    changed.after = Member { id, person_suspended_at: None, ..changed.after };
    let bound = bound.map(|binding| RoleBinding { owner, ..binding });
    changed.also = bound.iter().map(role_bound).collect();
    Ok(changed)
}

async fn find_member(connection: &mut Connection, org: OrgId, id: &str) -> Result<Member> {
    let found = match id.parse::<UserId>() {
        Ok(id) => users::find_member(connection, &org, &id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::NotFound(what(id)))
}

fn what(id: &str) -> String {
    format!("user `{}`", shown(id))
}
