//! Reading anew what a change touched, or a part of an import.

use std::collections::VecDeque;

use crate::error::Result;
use crate::mint::Change;
use crate::model::owner::OwnerId;
use crate::model::space::Space;
use crate::service::owners::{RoleBook, read_owner};
use crate::store::changes::{Imported, Subject};
use crate::store::{Read, audiences, gateway_policies, indexed_api_keys, orgs, owners, spaces};

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
        Subject::Role(id) => read_bound_owners(read, &id.to_string()).await?,
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
    let deleted = space.deleted_at.map(|_| space.id);
    let mut changes = vec![Change::Space(space)];
    if let Some(id) = deleted {
        changes.extend(read_bound_owners(read, &id.to_string()).await?);
    }
    Ok(changes)
}

/// All whom a binding to a role or in a space names, however many: one by one they would hold up what
/// others have changed.
async fn read_bound_owners(read: &mut Read, bound: &str) -> Result<Vec<Change>> {
    let mut stored = owners::list_bots_bound(read, bound).await?;
    stored.extend(owners::list_users_bound(read, bound).await?);
    let book = RoleBook::read_for(read, &stored).await?;
    let owners: Vec<_> = stored.into_iter().map(|stored| book.resolve(stored)).collect();
    let mut changes = Vec::with_capacity(owners.len());
    for same in owners.chunk_by(|one, next| one.owner == next.owner) {
        match same.first().map(|first| first.owner) {
            Some(OwnerId::User(id)) => changes.push(Change::User(id, same.to_vec())),
            _ => changes.extend(same.iter().cloned().map(Change::Owner)),
        }
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
