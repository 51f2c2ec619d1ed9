//! Reading what the index holds: what a change touched, a part of an import, or all of it.

use std::collections::VecDeque;

use crate::error::Result;
use crate::mint::{Change, FilledIndex};
use crate::model::journal::Ended;
use crate::model::owner::OwnerId;
use crate::model::role::RolePlace;
use crate::model::space::Space;
use crate::service::owners::{RoleBook, read_owner};
use crate::store::changes::{Imported, Subject};
use crate::store::{
    Half, Read, audiences, gateway_policies, indexed_api_keys, orgs, owners, roles, spaces,
};

/// Imported keys and bots that one look takes, or a few more where they share a revision.
const IMPORTED_AT_ONCE: usize = 1_000;
/// Revisions that such a look reads; most of an import's are full, but others wrote between.
const REVISIONS_AT_ONCE: usize = 100;

/// An index that is being filled, and what was found in it that has ended.
pub(super) type Filling = parking_lot::Mutex<(FilledIndex, Vec<Ended>)>;

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

/// What there are few of, and what all else points to.
pub(super) async fn fill_the_few(read: &mut Read, filled: &mut FilledIndex) -> Result<()> {
    for org in orgs::list(read).await? {
        filled.put(Change::Org(org));
    }
    for space in spaces::list_all(read).await? {
        filled.put(Change::Space(space));
    }
    for audience in audiences::list_all(read).await? {
        filled.put(Change::Audience(audience));
    }
    for policy in gateway_policies::list_all(read).await? {
        filled.put(Change::GatewayPolicy(policy));
    }
    Ok(())
}

pub(super) async fn fill_bots(
    read: &mut Read,
    half: Half,
    book: &RoleBook,
    filling: &Filling,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = owners::list_bots_after(read, half, after.as_ref()).await?;
        let Some(OwnerId::Bot(last)) = page.last().map(|last| last.owner) else { return Ok(()) };
        after = Some(last);
        let (filled, _) = &mut *filling.lock();
        for bot in page {
            filled.put(Change::Owner(book.resolve(bot)));
        }
    }
}

pub(super) async fn fill_api_keys(read: &mut Read, half: Half, filling: &Filling) -> Result<()> {
    let mut after = None;
    loop {
        let page = indexed_api_keys::list_after(read, half, after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        let (filled, ended) = &mut *filling.lock();
        for api_key in page {
            ended.extend(Ended::of(&api_key));
            filled.put(Change::ApiKey(api_key));
        }
    }
}
