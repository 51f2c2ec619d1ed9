//! The audit as its readers see it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tenmint_verifier::Action;

use crate::error::Result;
use crate::model::access::Actor;
use crate::model::audit::AuditEntry;
use crate::model::id::{ApiKeyId, AuditId, BotId, OrgId, SpaceId};
use crate::service::access::{guarded, require, require_on_installation};
use crate::service::{Service, page_limit};
use crate::store::{Connection, api_keys, audit, bots, spaces};

pub use crate::store::audit::AuditFilter;

impl Service {
    /// A page of entries from new to old, and where the next page starts. Without an organization,
    /// the entries of the installation, for admins of the account. What happened in a space is
    /// shown to those who may read in that space.
    pub async fn list_audit(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        (limit, before): (u32, Option<AuditId>),
    ) -> Result<(Vec<AuditEntry>, Option<AuditId>)> {
        match filter.org {
            Some(org) => {
                let thing = guarded(org, ["org", "audit"])?;
                require(actor, &Action::Read, &thing, || "audit".to_owned())?;
            }
            None => require_on_installation(actor, &Action::Read, "audit")?,
        }
        let mut read = self.store.read().await?;
        let (entries, next) = audit::list(&mut read, filter, before, page_limit(limit)).await?;
        match filter.org {
            Some(org) => Ok((only_visible(&mut read, (actor, org), entries).await?, next)),
            None => Ok((entries, next)),
        }
    }
}

/// Leaves out what happened in spaces that the caller does not see into: the cursor goes on behind
/// it.
async fn only_visible(
    connection: &mut Connection,
    (actor, org): (&Actor, OrgId),
    entries: Vec<AuditEntry>,
) -> Result<Vec<AuditEntry>> {
    let mut seen: HashMap<SpaceId, bool> = HashMap::new();
    let mut visible = Vec::with_capacity(entries.len());
    for entry in entries {
        let is_visible = match space_of(connection, &entry).await? {
            None => true,
            Some(id) => {
                if let Entry::Vacant(unseen) = seen.entry(id) {
                    unseen.insert(may_see_into(connection, (actor, org), &id).await?);
                }
                seen.get(&id).copied().unwrap_or(false)
            }
        };
        if is_visible {
            visible.push(entry);
        }
    }
    Ok(visible)
}

async fn may_see_into(
    connection: &mut Connection,
    (actor, org): (&Actor, OrgId),
    id: &SpaceId,
) -> Result<bool> {
    let Some(space) = spaces::find(connection, id).await? else { return Ok(false) };
    let thing = guarded(org, ["space-management", space.slug.as_str(), "audit"])?;
    Ok(actor.may(&Action::Read, &thing))
}

/// The space that an entry is about: what was written says it; where only a field was, or where it was
/// refused, the object.
async fn space_of(connection: &mut Connection, entry: &AuditEntry) -> Result<Option<SpaceId>> {
    let states = [&entry.after, &entry.before];
    let said = states.into_iter().flatten().find_map(|state| state.get("space")?.as_str());
    if let Some(said) = said {
        return Ok(said.parse().ok());
    }
    if let Ok(id) = entry.object.parse::<ApiKeyId>() {
        return Ok(api_keys::find(connection, &id).await?.and_then(|api_key| api_key.space));
    }
    if entry.outcome == "done" && !entry.action.starts_with("bot.") {
        // a role of the organization is told there, also where its bot is in a space
        return Ok(None);
    }
    match entry.object.parse::<BotId>() {
        Ok(id) => Ok(bots::find(connection, &id).await?.and_then(|bot| bot.space)),
        Err(_) => Ok(None),
    }
}
