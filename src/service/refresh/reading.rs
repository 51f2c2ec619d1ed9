//! Reading anew what a change touched, or a part of an import.

use std::collections::VecDeque;

use crate::error::Result;
use crate::mint::Change;
use crate::model::owner::OwnerId;
use crate::model::role::RolePlace;
use crate::model::space::Space;
use crate::service::owners::{RoleBook, read_owner};
use crate::store::changes::{Imported, Subject};
use crate::store::{
    Read, audiences, gateway_policies, indexed_api_keys, orgs, owners, roles, spaces,
};

/// Imported keys and bots that one look takes, or a few more where they share a revision.
const IMPORTED_AT_ONCE: usize = 1_000;
/// Revisions that such a look reads; most of an import's are full, but others wrote between.
const REVISIONS_AT_ONCE: usize = 100;

/// What a change touched, as it is now. What is not there any more changes nothing, unless it says so:
/// it is marked as ended before it goes, or nothing points to it.
pub(super) async fn read_subject(read: &mut Read, subject: Subject) -> Result<Vec<Change>> {
    Ok(match subject {
        Subject::Installation | Subject::SigningKeys | Subject::Imported(_) => Vec::new(),
        Subject::Org(id) => orgs::find(read, &id).await?.map(Change::Org).into_iter().collect(),
        Subject::Space(id) => match spaces::find(read, &id).await? {
            Some(space) => read_space_changes(read, space).await?,
            None => Vec::new(),
        },
        Subject::Audience(id) => {
            audiences::find(read, &id).await?.map(Change::Audience).into_iter().collect()
        }
        Subject::Role(id) => {
            let owners = roles::list_owners_of(read, &id).await?;
            read_changes_of_all(read, owners).await?
        }
        Subject::Bot(id) => read_owner_changes(read, OwnerId::Bot(id)).await?,
        Subject::User(id) => read_owner_changes(read, OwnerId::User(id)).await?,
        Subject::ApiKey(id) => {
            indexed_api_keys::find(read, &id).await?.map(Change::ApiKey).into_iter().collect()
        }
        Subject::GatewayPolicy(id) => {
            let found = gateway_policies::find(read, &id).await?;
            vec![found.map_or(Change::NoGatewayPolicy(id), Change::GatewayPolicy)]
        }
    })
}

/// The next part of what was imported, all of it as it is now. An import of any size holds up
/// nothing else: a look takes no more than this.
pub(super) async fn read_imported(
    read: &mut Read,
    imported: &mut VecDeque<Imported>,
) -> Result<Vec<Change>> {
    let (mut found, mut revisions) = (Vec::new(), 0);
    while let Some(first) = imported.front_mut() {
        if first.from > first.to {
            imported.pop_front();
            continue;
        }
        if found.len() >= IMPORTED_AT_ONCE || revisions >= REVISIONS_AT_ONCE {
            break;
        }
        let (org, revision) = (first.org, first.from);
        first.from += 1;
        revisions += 1;
        let bots = owners::list_bots_of(read, &org, revision).await?;
        let book = RoleBook::read_for(read, &bots).await?;
        found.extend(bots.into_iter().map(|bot| Change::Owner(book.resolve(bot))));
        let api_keys = indexed_api_keys::list_of(read, &org, revision).await?;
        found.extend(api_keys.into_iter().map(Change::ApiKey));
    }
    Ok(found)
}

/// A space; with a deleted one, those whose roles in it hold nothing any more.
async fn read_space_changes(read: &mut Read, space: Space) -> Result<Vec<Change>> {
    let place = RolePlace::Space { organization: space.org, space: space.id };
    let is_deleted = space.deleted_at.is_some();
    let mut changes = vec![Change::Space(space)];
    if is_deleted {
        let bound = roles::list_at(read, &place, "", i64::MAX).await?;
        let owners = bound.into_iter().map(|binding| binding.owner);
        changes.extend(read_changes_of_all(read, owners).await?);
    }
    Ok(changes)
}

async fn read_changes_of_all(
    read: &mut Read,
    owners: impl IntoIterator<Item = OwnerId>,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for owner in owners {
        changes.extend(read_owner_changes(read, owner).await?);
    }
    Ok(changes)
}

async fn read_owner_changes(read: &mut Read, owner: OwnerId) -> Result<Vec<Change>> {
    let owners = read_owner(read, &owner).await?;
    Ok(match owner {
        OwnerId::Bot(_) => owners.into_iter().map(Change::Owner).collect(),
        OwnerId::User(id) => vec![Change::User(id, owners)],
    })
}
