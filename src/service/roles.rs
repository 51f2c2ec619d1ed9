//! Roles: defined by organizations, bound at places. Checks compare the place and the scopes, never
//! a name.

use tenmint_verifier::{Action, ScopeSet};

use crate::error::{Error, Result};
use crate::model::access::{Actor, Guarded};
use crate::model::id::{OrgId, RoleId, Slug};
use crate::model::owner::OwnerId;
use crate::model::role::{
    BindRole, CreateRole, EditRole, Level, Role, RoleBinding, RolePlace, RoleRef, RoleScopes,
};
use crate::service::access::{
    guarded, part, require, require_on_installation, require_to_hold_scopes, require_to_list,
    require_to_make,
};
use crate::service::asks::{parse_name, the_only};
use crate::service::call::{Call, Changed, Done};
use crate::service::spaces::shown;
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, bots, roles, users};

/// Roles of an owner in an organization and its spaces: what they hold together is gone through for its tokens.
const MAX_ROLES: i64 = 500;
/// The word for no role, where one is given by default.
const NO_ROLE: &str = "none";

impl Service {
    /// Defines a role.
    ///
    /// # Errors
    /// [`Error::Invalid`] for scopes beyond its level, [`Error::Forbidden`] for scopes that the
    /// caller does not hold, [`Error::Conflict`] `name_taken`.
    pub async fn create_role(&self, call: &Call, ask: CreateRole) -> Result<Changed<Role>> {
        let mut wrong = call.wrong();
        let name = wrong.required("name", ask.name, parse_role_name);
        let level = wrong.required("level", ask.level, Ok::<Level, String>);
        let scopes = wrong.required("scopes", ask.scopes, |scopes| {
            level.map(|level| RoleScopes::parse(&scopes, level)).transpose()
        });
        let parsed = name.zip(level).zip(scopes.flatten());
        let ((name, level), scopes) = wrong.finish(parsed)?;
        let id = RoleId::from_random(random()?);
        let created_at = self.clock.now();
        let role = Role { id, org: call.org, level, name, scopes, created_at };
        require_to_make(&call.actor, &Action::Admin, &guarded_role(&role)?)?;
        require_to_hold_role(&call.actor, &role.scopes, role.level)?;
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            let role = find_role(&mut write, call.org, &id).await?;
            return Ok(Changed::repeated(role));
        }
        self.org_of(&mut write, call).await?;
        roles::insert(&mut write, &role).await?;
        let done = Done::new("role.create", role.org, role.id, role.clone());
        self.finish(write, call, done).await
    }

    /// A role that the organization defined.
    pub async fn get_role(&self, actor: &Actor, org: OrgId, id: &str) -> Result<Role> {
        let mut read = self.store.read().await?;
        let role = find_role(&mut read, org, id).await?;
        require(actor, &Action::Read, &guarded_role(&role)?, || what(id))?;
        Ok(role)
    }

    /// A page of the roles that the organization defined.
    pub async fn list_roles(
        &self,
        actor: &Actor,
        org: OrgId,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<Role>> {
        require_to_list(actor, org, "read:org/roles/*")?;
        let mut read = self.store.read().await?;
        let after = after.unwrap_or_else(Cursor::start);
        let mut page = roles::list(&mut read, &org, &after, page_limit(limit)).await?;
        page.items
            .retain(|role| guarded_role(role).is_ok_and(|thing| actor.may(&Action::Read, &thing)));
        Ok(page)
    }

    /// Changes a role, at once for everybody that it is bound to.
    pub async fn edit_role(&self, call: &Call, id: &str, ask: EditRole) -> Result<Changed<Role>> {
        let (mut write, before) = self.role_to_change(call, id).await?;
        let mut wrong = call.wrong();
        let name = wrong.optional("name", ask.name, parse_role_name);
        let scopes =
            wrong.optional("scopes", ask.scopes, |scopes| RoleScopes::parse(&scopes, before.level));
        wrong.finish(Some(()))?;
        let mut after = before.clone();
        after.name = name.unwrap_or(after.name);
        after.scopes = scopes.unwrap_or(after.scopes);
        require_to_hold_role(&call.actor, &before.scopes, before.level)?;
        require_to_hold_role(&call.actor, &after.scopes, after.level)?;
        roles::update(&mut write, &after).await?;
        let done = Done::new("role.edit", after.org, after.id, after.clone())
            .was(before)
            .touches([Subject::Role(after.id)]);
        self.finish(write, call, done).await
    }

    /// Deletes a role that is bound to nobody.
    ///
    /// # Errors
    /// [`Error::Conflict`] `role_in_use`.
    pub async fn delete_role(&self, call: &Call, id: &str) -> Result<Changed<Role>> {
        let (mut write, role) = self.role_to_change(call, id).await?;
        if roles::is_bound(&mut write, &role.id).await? {
            let message = format!("the role `{}` is bound: take it away first", role.name);
            return Err(Error::Conflict("role_in_use", message));
        }
        roles::delete(&mut write, &role.id).await?;
        let done = Done::new("role.delete", role.org, role.id, role.clone()).was(role).ends();
        self.finish(write, call, done).await
    }

    async fn role_to_change(&self, call: &Call, id: &str) -> Result<(Write<'_>, Role)> {
        let mut write = self.store.begin().await?;
        let role = find_role(&mut write, call.org, id).await?;
        require(&call.actor, &Action::Admin, &guarded_role(&role)?, || what(id))?;
        Ok((write, role))
    }

    /// Gives an owner a role at a place, in place of the one it had there.
    ///
    /// # Errors
    /// [`Error::Conflict`] `last_admin` and `too_many_roles`; [`Error::Forbidden`] for scopes that the
    /// caller does not hold, of the old role as of the new.
    pub async fn bind_role(
        &self,
        call: &Call,
        (owner, at): (&str, BoundAt<'_>),
        ask: BindRole,
    ) -> Result<Changed<RoleBinding>> {
        let mut wrong = call.wrong();
        let role = wrong.required("role", ask.role, Ok::<String, String>);
        let role = wrong.finish(role)?;
        let (mut write, place) = self.place_to_change(call, owner, at).await?;
        let bound = role_to_bind(&mut write, &call.actor, ("role", &role), place.clone()).await?;
        let Some((role, _)) = bound else {
            return Err(Error::invalid("role", "name a role, or take the one there is away"));
        };
        let before = self.current_role(&mut write, call, &place).await?;
        if before.is_none()
            && roles::count_bound(&mut write, &place.owner, &call.org).await? >= MAX_ROLES
        {
            let most = format!(
                "an owner has at most {MAX_ROLES} roles in an organization and its spaces: take one away \
                 first, or give a bot grants that reach over many spaces"
            );
            return Err(Error::Conflict("too_many_roles", most));
        }
        let after = RoleBinding { owner: place.owner, place: place.place, role };
        roles::bind(&mut write, &after).await?;
        check_admins_left(&mut write, &admin_place(before.as_ref())).await?;
        let mut done = Done::new("role.bind", call.org, place.owner, after);
        done.before = before;
        self.finish_binding(write, call, &place, done).await
    }

    /// Takes the role of an owner at a place away.
    ///
    /// # Errors
    /// [`Error::Conflict`] `last_admin`; [`Error::NotFound`] where it has none there.
    pub async fn unbind_role(
        &self,
        call: &Call,
        (owner, at): (&str, BoundAt<'_>),
    ) -> Result<Changed<RoleBinding>> {
        let (mut write, place) = self.place_to_change(call, owner, at).await?;
        let before = self.current_role(&mut write, call, &place).await?;
        let before = before.ok_or_else(|| Error::NotFound(format!("role of `{}`", place.owner)))?;
        roles::unbind(&mut write, &place.owner, &place.place).await?;
        check_admins_left(&mut write, &admin_place(Some(&before))).await?;
        let done = Done::new("role.unbind", call.org, place.owner, before.clone());
        self.finish_binding(write, call, &place, done.was(before).ends()).await
    }

    async fn finish_binding(
        &self,
        write: Write<'_>,
        call: &Call,
        place: &OwnerAt,
        mut done: Done<RoleBinding>,
    ) -> Result<Changed<RoleBinding>> {
        done.org = place.place.org();
        let done = done.touches([Subject::from(place.owner)]);
        self.finish(write, call, done).await
    }

    /// The role that an owner has at a place. Its scopes have to be the caller's as well: nobody
    /// takes away what stands above.
    async fn current_role(
        &self,
        write: &mut Write<'_>,
        call: &Call,
        at: &OwnerAt,
    ) -> Result<Option<RoleBinding>> {
        let Some(role) = roles::find_bound(write, &at.owner, &at.place).await? else {
            return Ok(None);
        };
        let scopes = resolved(write, role, at).await?;
        require_to_hold_scopes(&call.actor, scopes.as_ref())?;
        Ok(Some(RoleBinding { owner: at.owner, place: at.place, role }))
    }

    /// The roles of an owner in the organization and in its spaces, and in the account.
    pub async fn list_roles_of(
        &self,
        actor: &Actor,
        org: OrgId,
        owner: &str,
    ) -> Result<Vec<RoleBinding>> {
        let mut read = self.store.read().await?;
        let owner = find_owner(&mut read, org, owner).await?;
        let thing = part(org, None, "members", &owner.to_string())?;
        let is_own = actor.credential.owner == owner && actor.reaches(org);
        if !is_own {
            require(actor, &Action::Read, &thing, || format!("owner `{owner}`"))?;
        }
        let bound = roles::list_bound(&mut read, &owner).await?;
        Ok(bound
            .into_iter()
            .filter(|binding| binding.place.org().is_none_or(|of| of == org))
            .collect())
    }

    /// A page of the owners that have a role in a space, by id.
    pub async fn list_space_members(
        &self,
        actor: &Actor,
        (org, space): (OrgId, &str),
        (limit, after): (u32, Option<OwnerId>),
    ) -> Result<Vec<RoleBinding>> {
        let mut read = self.store.read().await?;
        let space = self.visible_space(&mut read, actor, org, space).await?;
        let thing = part(org, Some(&space.slug), "members", "all")?;
        require(actor, &Action::Read, &thing, || format!("space `{}`", space.slug))?;
        let place = RolePlace::Space { organization: org, space: space.id };
        let after = after.map(|owner| owner.to_string());
        roles::list_at(&mut read, &place, &after.unwrap_or_default(), page_limit(limit)).await
    }

    /// The owners that are admins of the account.
    pub async fn list_account_admins(&self, actor: &Actor) -> Result<Vec<RoleBinding>> {
        require_on_installation(actor, &Action::Read, "roles")?;
        let mut read = self.store.read().await?;
        roles::list_at(&mut read, &RolePlace::Account, "", page_limit(u32::MAX)).await
    }

    /// Begins a change of a role at a place.
    async fn place_to_change(
        &self,
        call: &Call,
        owner: &str,
        at: BoundAt<'_>,
    ) -> Result<(Write<'_>, OwnerAt)> {
        let mut write = self.store.begin().await?;
        let space = match at {
            BoundAt::Account => {
                require_on_installation(&call.actor, &Action::Admin, "roles")?;
                let owner = find_anyone(&mut write, owner).await?;
                return Ok((write, OwnerAt { owner, place: RolePlace::Account, slug: None }));
            }
            BoundAt::Organization => None,
            BoundAt::Space(space) => {
                Some(self.visible_space(&mut write, &call.actor, call.org, space).await?)
            }
        };
        let slug = space.as_ref().map(|space| space.slug.clone());
        let thing = part(call.org, slug.as_ref(), "members", owner_segment(owner))?;
        require(&call.actor, &Action::Admin, &thing, || format!("owner `{}`", shown(owner)))?;
        let owner = find_owner(&mut write, call.org, owner).await?;
        let organization = call.org;
        let place = space.map_or(RolePlace::Organization { organization }, |space| {
            RolePlace::Space { organization, space: space.id }
        });
        Ok((write, OwnerAt { owner, place, slug }))
    }
}

/// Where a role is bound, as a caller says it.
#[derive(Debug, Clone, Copy)]
pub enum BoundAt<'a> {
    /// In all organizations.
    Account,
    /// In the organization of the call.
    Organization,
    /// In a space of it, by its id or slug.
    Space(&'a str),
}

/// An owner at a place where it may have a role.
#[derive(Debug, Clone)]
pub(crate) struct OwnerAt {
    owner: OwnerId,
    place: RolePlace,
    slug: Option<Slug>,
}

/// A place for a role that is about to be bound, and the slug of its space.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    place: RolePlace,
    slug: Option<Slug>,
}

impl From<OwnerAt> for Place {
    fn from(at: OwnerAt) -> Self {
        Self { place: at.place, slug: at.slug }
    }
}

impl From<(RolePlace, Option<&Slug>)> for Place {
    fn from((place, slug): (RolePlace, Option<&Slug>)) -> Self {
        Self { place, slug: slug.cloned() }
    }
}

/// An id as a segment of a path; a text that is none matches no scope but a wildcard.
fn owner_segment(owner: &str) -> &str {
    if owner.parse::<OwnerId>().is_ok() { owner } else { "unknown" }
}

/// A role by its name or id, and what it holds, once the caller is seen to hold that too. Nothing
/// for the word `none`.
pub(crate) async fn role_to_bind(
    connection: &mut Connection,
    actor: &Actor,
    (field, name): (&'static str, &str),
    place: impl Into<Place>,
) -> Result<Option<(RoleRef, Option<ScopeSet>)>> {
    if name == NO_ROLE {
        return Ok(None);
    }
    let Place { place, slug } = place.into();
    if place.level() == Level::Account {
        require_on_installation(actor, &Action::Admin, "roles")?;
    }
    let unknown = || {
        let level = place.level().as_str();
        Error::invalid(field, format!("there is no role `{}` of the {level}", shown(name)))
    };
    let role = find_named(connection, place, name).await?.ok_or_else(unknown)?;
    let at = OwnerAt { owner: actor.credential.owner, place, slug };
    let scopes = match role {
        RoleRef::Defined(_) => resolved(connection, role, &at).await?,
        built_in => {
            let scopes = built_in.built_in_scopes(place.level()).ok_or_else(unknown)?;
            scopes.and_then(|scopes| resolve(&scopes, at.slug.as_ref()))
        }
    };
    require_to_hold_scopes(actor, scopes.as_ref())?;
    Ok(Some((role, scopes)))
}

async fn find_named(
    connection: &mut Connection,
    place: RolePlace,
    name: &str,
) -> Result<Option<RoleRef>> {
    let parsed = name.parse::<RoleRef>().ok();
    if let Some(role) = parsed.filter(|role| !matches!(role, RoleRef::Defined(_))) {
        return Ok(Some(role));
    }
    let Some(org) = place.org() else { return Ok(None) };
    let level = place.level();
    let found = match parsed {
        Some(RoleRef::Defined(id)) => roles::find(connection, &id).await?,
        _ => roles::find_by_name(connection, &org, level.as_str(), name).await?,
    };
    let fits = |role: &Role| role.org == org && role.level == level;
    Ok(found.filter(fits).map(|role| RoleRef::Defined(role.id)))
}

/// What a role holds at a place.
async fn resolved(
    connection: &mut Connection,
    role: RoleRef,
    at: &OwnerAt,
) -> Result<Option<ScopeSet>> {
    let scopes = match role {
        RoleRef::Defined(id) => roles::find(connection, &id).await?.map(|role| role.scopes),
        built_in => built_in.built_in_scopes(at.place.level()).flatten(),
    };
    Ok(scopes.and_then(|scopes| resolve(&scopes, at.slug.as_ref())))
}

fn resolve(scopes: &RoleScopes, slug: Option<&Slug>) -> Option<ScopeSet> {
    slug.map_or_else(|| scopes.resolve_without_space(), |slug| scopes.resolve(slug))
}

/// A role of every space is held by whoever holds its scopes in every space.
fn require_to_hold_role(actor: &Actor, scopes: &RoleScopes, level: Level) -> Result<()> {
    let everywhere = match level {
        // `*` in place of a slug selects every space
        Level::Space => scopes.as_str().replace("{space}", "*").parse().ok(),
        _ => scopes.resolve_without_space(),
    };
    require_to_hold_scopes(actor, everywhere.as_ref())
}

/// Where an owner is an admin: asked before a change that could end it.
pub(crate) async fn admin_places(
    connection: &mut Connection,
    owner: OwnerId,
) -> Result<Vec<RolePlace>> {
    let bound = roles::list_bound(connection, &owner).await?.into_iter();
    Ok(bound.filter(|one| one.role == RoleRef::Admin).map(|one| one.place).collect())
}

/// Refuses to leave a place without the last of its admins.
pub(crate) async fn check_admins_left(
    connection: &mut Connection,
    places: &[RolePlace],
) -> Result<()> {
    for place in places {
        check_place(connection, place).await?;
    }
    Ok(())
}

/// The place of a role, where that is `admin`.
fn admin_place(binding: Option<&RoleBinding>) -> Vec<RolePlace> {
    let admin = binding.filter(|binding| binding.role == RoleRef::Admin);
    admin.map(|binding| binding.place).into_iter().collect()
}

async fn check_place(connection: &mut Connection, place: &RolePlace) -> Result<()> {
    if roles::count_live_admins(connection, place).await? > 0 {
        return Ok(());
    }
    let message = format!("the last admin of the {} stays", place.level().as_str());
    Err(Error::Conflict("last_admin", message))
}

fn parse_role_name(name: String) -> std::result::Result<String, String> {
    if name == NO_ROLE || name.parse::<RoleRef>().is_ok() {
        return Err(format!("`{name}` is a built-in role"));
    }
    parse_name(name)
}

fn guarded_role(role: &Role) -> Result<Guarded> {
    guarded(role.org, ["org", "roles", &role.id.to_string()])
}

async fn find_role(connection: &mut Connection, org: OrgId, id: &str) -> Result<Role> {
    let found = match id.parse::<RoleId>() {
        Ok(id) => roles::find(connection, &id).await?,
        Err(_) => find_role_named(connection, org, id).await?,
    };
    found.filter(|role| role.org == org).ok_or_else(|| Error::NotFound(what(id)))
}

/// A role by a name that it has at one level alone.
async fn find_role_named(
    connection: &mut Connection,
    org: OrgId,
    name: &str,
) -> Result<Option<Role>> {
    let mut named = Vec::new();
    for level in [Level::Organization, Level::Space] {
        named.extend(roles::find_by_name(connection, &org, level.as_str(), name).await?);
    }
    the_only(named, || format!("a role of each level is named `{}`: say its id", shown(name)))
}

fn what(id: &str) -> String {
    format!("role `{}`", shown(id))
}

/// A bot or a member of an organization.
async fn find_owner(connection: &mut Connection, org: OrgId, owner: &str) -> Result<OwnerId> {
    let unknown = || Error::NotFound(format!("owner `{}`", shown(owner)));
    let owner: OwnerId = owner.parse().map_err(|_| unknown())?;
    let is_here = match owner {
        OwnerId::Bot(id) => bots::find(connection, &id)
            .await?
            .is_some_and(|bot| bot.org == org && bot.deleted_at.is_none()),
        OwnerId::User(id) => users::find_member(connection, &org, &id).await?.is_some(),
    };
    if is_here { Ok(owner) } else { Err(unknown()) }
}

/// A bot or a person, wherever.
async fn find_anyone(connection: &mut Connection, owner: &str) -> Result<OwnerId> {
    let unknown = || Error::NotFound(format!("owner `{}`", shown(owner)));
    let owner: OwnerId = owner.parse().map_err(|_| unknown())?;
    let is_here = match owner {
        OwnerId::Bot(id) => {
            bots::find(connection, &id).await?.is_some_and(|bot| bot.deleted_at.is_none())
        }
        OwnerId::User(id) => users::exists(connection, &id).await?,
    };
    if is_here { Ok(owner) } else { Err(unknown()) }
}
