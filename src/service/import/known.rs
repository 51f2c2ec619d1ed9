//! What lines name, looked up once: spaces, audiences, owners. Most lines of an import name the same
//! few.
//!
//! Every management change raises the revision, so what was looked up holds exactly as long as the
//! revision has moved by nothing but the import itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use tenmint_verifier::ScopeSet;

use crate::error::{Error, Result};
use crate::model::id::{AudienceId, SpaceId};
use crate::model::import::Refusal;
use crate::model::owner::OwnerId;
use crate::model::role::{RolePlace, RoleRef};
use crate::model::scope_catalogue::ScopeCatalogue;
use crate::model::space::Space;
use crate::model::user::EmailAddress;
use crate::service::Service;
use crate::service::access::require_to_reach;
use crate::service::audiences::catalogues;
use crate::service::bots::visible_bot;
use crate::service::call::Call;
use crate::service::new_api_key::union;
use crate::service::owners::{OwnerScopes, read_owner_in};
use crate::service::roles::role_to_bind;
use crate::service::spaces::shown;
use crate::store::{Connection, users};

/// Things of one kind that are kept at most; past that, all of them are looked up anew.
const KEPT: usize = 5_000;
/// Bytes of a name under which something is kept: real names have fewer.
const MAX_KEPT_NAME: usize = 1_000;

/// What a look-up found, or why the line that asked is refused.
type Answer<T> = std::result::Result<Arc<T>, Refusal>;

/// Why a line is not judged to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The line is not good.
    Refused(Refusal),
    /// It is no fault of the line, and the import ends.
    Failed(Error),
}

impl Stop {
    /// A refusal is one of this field, unless it names another.
    pub(super) fn of(cause: Error, field: &'static str) -> Self {
        Refusal::of(cause, field).map_or_else(Self::Failed, Self::Refused)
    }
}

impl From<Error> for Stop {
    fn from(cause: Error) -> Self {
        Self::of(cause, "")
    }
}

/// An owner, and all that it holds.
#[derive(Debug)]
pub(super) struct KnownOwner {
    pub(super) id: OwnerId,
    pub(super) scopes: OwnerScopes,
    /// The space of a bot.
    pub(super) space: Option<Space>,
}

/// Audiences that a line restricts its key to.
#[derive(Debug)]
pub(super) struct KnownAudiences {
    pub(super) ids: Vec<AudienceId>,
    pub(super) catalogues: Vec<Option<ScopeCatalogue>>,
}

/// What a bot that is made for its key holds by its roles.
#[derive(Debug)]
pub(super) struct OwnRoles {
    pub(super) bound: Vec<(RolePlace, RoleRef)>,
    pub(super) scopes: Option<ScopeSet>,
}

/// Who asks, and through which look at the database.
pub(super) struct Asking<'a> {
    pub(super) service: &'a Service,
    pub(super) call: &'a Call,
    pub(super) connection: &'a mut Connection,
}

/// All that was looked up, and at which revision.
#[derive(Debug, Default)]
pub(super) struct Known {
    revision: i64,
    spaces: HashMap<String, Answer<Space>>,
    audiences: HashMap<Option<Vec<String>>, Answer<KnownAudiences>>,
    owners: HashMap<String, Answer<KnownOwner>>,
    own_roles: HashMap<Option<SpaceId>, Answer<OwnRoles>>,
}

impl Known {
    /// Forgets all of it, unless the database is still at the revision of the last look.
    pub(super) fn look_at(&mut self, revision: i64) {
        if self.revision != revision {
            *self = Self { revision, ..Self::default() };
        }
    }

    /// Goes on with the revision that the import itself made.
    pub(super) fn wrote(&mut self, revision: i64) {
        self.revision = revision;
    }

    pub(super) async fn space(
        &mut self,
        asking: &mut Asking<'_>,
        name: &str,
    ) -> std::result::Result<Arc<Space>, Stop> {
        kept(&mut self.spaces, (name.to_owned(), name.len()), "space", async {
            let Call { actor, org, .. } = asking.call;
            asking.service.active_space(asking.connection, actor, *org, name).await
        })
        .await
    }

    pub(super) async fn audiences(
        &mut self,
        asking: &mut Asking<'_>,
        names: Option<&Vec<String>>,
    ) -> std::result::Result<Arc<KnownAudiences>, Stop> {
        let length = names.into_iter().flatten().map(String::len).sum();
        kept(&mut self.audiences, (names.cloned(), length), "audiences", async {
            let org = asking.call.org;
            let names = ("audiences", names.map(Vec::as_slice));
            let ids = asking.service.find_audiences(asking.connection, org, names).await?;
            let catalogues = catalogues(asking.connection, org, &ids).await?;
            Ok(KnownAudiences { ids, catalogues })
        })
        .await
    }

    pub(super) async fn owner(
        &mut self,
        asking: &mut Asking<'_>,
        name: &str,
    ) -> std::result::Result<Arc<KnownOwner>, Stop> {
        let key = (name.to_owned(), name.len());
        kept(&mut self.owners, key, "owner", find_owner(asking, name)).await
    }

    /// What a bot of its own gets, like one that is made with a key: the organization read-only,
    /// and `member` of the space where there is one.
    pub(super) async fn own_roles(
        &mut self,
        asking: &mut Asking<'_>,
        space: Option<&Space>,
    ) -> std::result::Result<Arc<OwnRoles>, Stop> {
        let key = (space.map(|space| space.id), 0);
        kept(&mut self.own_roles, key, "owner", find_own_roles(asking, space)).await
    }
}

/// What was found before, or what is found now. A line that is refused is no failure, and is kept
/// too: a wrong name may stand in every line.
async fn kept<K: Eq + Hash, T>(
    known: &mut HashMap<K, Answer<T>>,
    (key, length): (K, usize),
    field: &'static str,
    find: impl Future<Output = Result<T>>,
) -> std::result::Result<Arc<T>, Stop> {
    if let Some(answer) = known.get(&key) {
        return answer.clone().map_err(Stop::Refused);
    }
    let answer = match find.await {
        Ok(found) => Ok(Arc::new(found)),
        Err(cause) => Err(Refusal::of(cause, field).map_err(Stop::Failed)?),
    };
    if known.len() >= KEPT {
        known.clear();
    }
    if length <= MAX_KEPT_NAME {
        known.insert(key, answer.clone());
    }
    answer.map_err(Stop::Refused)
}

/// A bot by its id, or a member by its id or address.
async fn find_owner(asking: &mut Asking<'_>, name: &str) -> Result<KnownOwner> {
    let Call { actor, org, .. } = asking.call;
    let unknown = || Error::NotFound(format!("owner `{}` in the organization", shown(name)));
    let mut space = None;
    let id = match (name.parse::<OwnerId>(), name.parse::<EmailAddress>()) {
        (Ok(OwnerId::Bot(id)), _) => {
            let found = visible_bot(asking.connection, actor, *org, name).await;
            space = found.map_err(|_| unknown())?.1;
            OwnerId::Bot(id)
        }
        (Ok(person), _) => person,
        (Err(_), Ok(email)) => {
            let found = users::find_by_email(asking.connection, &email).await?;
            OwnerId::User(found.ok_or_else(unknown)?.id)
        }
        (Err(_), Err(_)) => {
            let cause = "an owner is the id of a bot or person, or a person's address of e-mail";
            return Err(Error::invalid("owner", cause));
        }
    };
    // a person of another organization is as unknown here as one that never was
    let held = read_owner_in(asking.connection, &id, *org).await?.ok_or_else(unknown)?;
    require_to_reach(actor, Some(&held))?;
    Ok(KnownOwner { id, scopes: OwnerScopes::of(Some(&held)), space })
}

async fn find_own_roles(asking: &mut Asking<'_>, space: Option<&Space>) -> Result<OwnRoles> {
    let Call { actor, org, .. } = asking.call;
    let organization = RolePlace::Organization { organization: *org };
    let mut places = vec![("org_role", organization, RoleRef::ReadOnly)];
    places.extend(space.map(|space| {
        let place = RolePlace::Space { organization: *org, space: space.id };
        ("space_role", place, RoleRef::Member)
    }));
    let (mut bound, mut scopes) = (Vec::new(), None);
    for (field, place, role) in places {
        let named = role.to_string();
        let slug = space.map(|space| &space.slug);
        let found = role_to_bind(asking.connection, actor, (field, &named), (place, slug)).await?;
        if let Some((role, held)) = found {
            scopes = union(scopes.as_ref(), held.as_ref());
            bound.push((place, role));
        }
    }
    Ok(OwnRoles { bound, scopes })
}
