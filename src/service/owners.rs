//! Owners and what they hold: roles resolved to scopes.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tenmint_verifier::{Scope, ScopeSet, ScopeView};

use crate::error::{Error, Result};
use crate::model::access::{Actor, first_not_held, first_on_installation, without_installation};
use crate::model::id::{OrgId, RoleId, Slug, SpaceId};
use crate::model::owner::{BoundRole, IndexedOwner, OwnerId, StoredOwner};
use crate::model::role::{Level, Role, RoleRef, RoleScopes};
use crate::model::space::Space;
use crate::store::{Connection, owners, roles, spaces};

/// More than these are not looked up one by one.
const FEW: usize = 16;

/// What the roles of owners of one organization name.
#[derive(Default)]
struct Needed {
    roles: HashSet<RoleId>,
    spaces: HashSet<SpaceId>,
}

/// The roles that organizations defined and the slugs of spaces: what a bound role is resolved with.
#[derive(Debug, Default)]
pub(crate) struct RoleBook {
    roles: HashMap<RoleId, RoleScopes>,
    slugs: HashMap<SpaceId, Slug>,
    /// What was resolved before: the owners of an installation have the same few roles.
    resolved: Mutex<HashMap<Vec<BoundRole>, Option<ScopeSet>>>,
}

impl RoleBook {
    /// All of the installation.
    pub(crate) async fn read_all(connection: &mut Connection) -> Result<Self> {
        let roles = roles::list_all(connection).await?;
        let spaces = spaces::list_all(connection).await?;
        let living = spaces.into_iter().filter(|space| space.deleted_at.is_none());
        Ok(Self {
            roles: roles.into_iter().map(|role| (role.id, role.scopes)).collect(),
            slugs: living.map(|space| (space.id, space.slug)).collect(),
            resolved: Mutex::default(),
        })
    }

    /// What some owners need. Of an organization from which that is much, all is read at once.
    pub(crate) async fn read_for(
        connection: &mut Connection,
        stored: &[StoredOwner],
    ) -> Result<Self> {
        let mut needed: HashMap<OrgId, Needed> = HashMap::new();
        for owner in stored {
            let needed = needed.entry(owner.org).or_default();
            for bound in &owner.roles {
                if let RoleRef::Defined(id) = bound.role {
                    needed.roles.insert(id);
                }
                needed.spaces.extend(bound.space);
            }
        }
        let mut book = Self::default();
        for (org, needed) in &needed {
            let roles = read_roles(connection, org, &needed.roles).await?;
            book.roles.extend(roles.into_iter().map(|role| (role.id, role.scopes)));
            let spaces = read_spaces(connection, org, &needed.spaces).await?;
            let living = spaces.into_iter().filter(|space| space.deleted_at.is_none());
            book.slugs.extend(living.map(|space| (space.id, space.slug)));
        }
        Ok(book)
    }

    /// What an owner holds. A role that is gone, or of a space that is, holds nothing.
    pub(crate) fn resolve(&self, stored: StoredOwner) -> IndexedOwner {
        let is_account_admin = stored
            .roles
            .iter()
            .any(|bound| (bound.level, bound.role) == (Level::Account, RoleRef::Admin));
        IndexedOwner {
            owner: stored.owner,
            org: stored.org,
            grants: stored.grants,
            roles: self.scopes_of_all(stored.roles),
            is_account_admin,
            suspended_at: stored.suspended_at,
        }
    }

    fn scopes_of_all(&self, roles: Vec<BoundRole>) -> Option<ScopeSet> {
        if let Some(known) = self.resolved.lock().get(&roles) {
            return known.clone();
        }
        let held: Vec<ScopeSet> = roles.iter().filter_map(|bound| self.scopes_of(bound)).collect();
        let scopes = held.iter().flat_map(ScopeSet::iter).map(ScopeView::to_scope);
        let scopes = ScopeSet::from_scopes(scopes.collect::<Vec<Scope>>());
        self.resolved.lock().insert(roles, scopes.clone());
        scopes
    }

    fn scopes_of(&self, bound: &BoundRole) -> Option<ScopeSet> {
        let scopes = match bound.role {
            RoleRef::Defined(id) => self.roles.get(&id)?.clone(),
            built_in => built_in.built_in_scopes(bound.level)??,
        };
        match bound.space {
            Some(id) => scopes.resolve(self.slugs.get(&id)?),
            None => scopes.resolve_without_space(),
        }
    }
}

async fn read_roles(
    connection: &mut Connection,
    org: &OrgId,
    needed: &HashSet<RoleId>,
) -> Result<Vec<Role>> {
    if needed.len() > FEW {
        return roles::list_defined_by(connection, org).await;
    }
    let mut found = Vec::new();
    for id in needed {
        found.extend(roles::find(connection, id).await?);
    }
    Ok(found)
}

async fn read_spaces(
    connection: &mut Connection,
    org: &OrgId,
    needed: &HashSet<SpaceId>,
) -> Result<Vec<Space>> {
    if needed.len() > FEW {
        return spaces::list_living_of(connection, org).await;
    }
    let mut found = Vec::new();
    for id in needed {
        found.extend(spaces::find(connection, id).await?);
    }
    Ok(found)
}

/// A bot, or a person in each of its organizations, as the index holds them.
pub(crate) async fn read_owner(
    connection: &mut Connection,
    owner: &OwnerId,
) -> Result<Vec<IndexedOwner>> {
    let stored = match owner {
        OwnerId::Bot(id) => owners::find_bot(connection, id).await?.into_iter().collect(),
        OwnerId::User(id) => owners::list_user(connection, id).await?,
    };
    let book = RoleBook::read_for(connection, &stored).await?;
    Ok(stored.into_iter().map(|stored| book.resolve(stored)).collect())
}

/// An owner in one organization; nothing where it is not there.
pub(crate) async fn read_owner_in(
    connection: &mut Connection,
    owner: &OwnerId,
    org: OrgId,
) -> Result<Option<IndexedOwner>> {
    let all = read_owner(connection, owner).await?;
    Ok(all.into_iter().find(|owner| owner.org == org))
}

/// Refuses a change of an admin of the account to whoever is none: who administers an organization
/// does not decide who administers the account.
pub(crate) async fn require_to_touch(
    connection: &mut Connection,
    actor: &Actor,
    (owner, org): (OwnerId, OrgId),
) -> Result<()> {
    let owner = read_owner_in(connection, &owner, org).await?;
    if owner.is_some_and(|owner| owner.is_account_admin) && !actor.credential.is_account_admin {
        let message = "an admin of the account is changed by admins of the account alone";
        return Err(Error::Forbidden(message.to_owned()));
    }
    Ok(())
}

/// What the owner of a key holds: the bound of all that the key may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnerScopes {
    /// Its grants and roles together.
    pub(crate) scopes: Option<ScopeSet>,
    pub(crate) is_account_admin: bool,
}

impl OwnerScopes {
    /// Of an owner that was looked for; nothing where it is not there.
    pub(crate) fn of(owner: Option<&IndexedOwner>) -> Self {
        let Some(IndexedOwner { grants, roles, is_account_admin, .. }) = owner else {
            return Self::default();
        };
        let scopes = match (grants, roles) {
            (Some(grants), Some(roles)) => Some(grants.union(roles)),
            (grants, roles) => grants.as_ref().or(roles.as_ref()).map(ScopeSet::without_covered),
        };
        Self { scopes, is_account_admin: *is_account_admin }
    }

    /// The same owner, given these scopes too.
    pub(crate) fn with(self, more: &ScopeSet) -> Self {
        let scopes = self.scopes.map_or_else(|| more.clone(), |held| held.union(more));
        Self { scopes: Some(scopes), ..self }
    }

    /// The scopes of a key that its owner has too.
    pub(crate) fn effective(&self, own: Option<&ScopeSet>) -> Option<ScopeSet> {
        let owners = self.scopes.as_ref()?;
        let both = own.map_or_else(|| Some(owners.clone()), |own| own.intersect(owners))?;
        if self.is_account_admin { Some(both) } else { without_installation(both) }
    }

    /// The first of these scopes that the owner does not hold.
    pub(crate) fn first_beyond<'s>(&self, asked: &'s ScopeSet) -> Option<&'s str> {
        let place = first_not_held(self.scopes.as_ref(), self.is_account_admin, asked)?;
        asked.iter().nth(place).map(ScopeView::as_str)
    }

    /// The first of these scopes that no grant could make the owner hold.
    pub(crate) fn first_out_of_reach<'s>(&self, asked: &'s ScopeSet) -> Option<&'s str> {
        let place = first_on_installation(asked).filter(|_| !self.is_account_admin)?;
        asked.iter().nth(place).map(ScopeView::as_str)
    }
}
