//! What a change brings with it, as the audit and a dry run tell it: bots and roles that come along,
//! keys that end with what they belong to.

use std::fmt::Display;

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::api_key::ApiKey;
use crate::model::audience::Audience;
use crate::model::audit::SideChange;
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, BotId, OrgId};
use crate::model::role::RoleBinding;
use crate::model::time::Timestamp;
use crate::service::call::state;

/// Keys and bots that are told one by one where what they belong to goes; of more, their number is told.
const TOLD: usize = 1_000;

/// A bot that is made for its first key.
pub(crate) fn bot_created(bot: &Bot) -> SideChange {
    side_change("bot.create", bot.id, bot.org, (None::<&Bot>, Some(bot)))
}

/// A bot whose grants grow with the scopes of its key.
pub(crate) fn bot_edited((before, after): &(Bot, Bot)) -> SideChange {
    side_change("bot.edit", after.id, after.org, (Some(before), Some(after)))
}

/// A role that something else brings along.
pub(crate) fn role_bound(binding: &RoleBinding) -> SideChange {
    let states = (None, Some(binding));
    side_change("role.bind", binding.owner, binding.place.org(), states)
}

/// A role that something else takes away.
pub(crate) fn role_unbound(binding: &RoleBinding) -> SideChange {
    let states = (Some(binding), None);
    side_change("role.unbind", binding.owner, binding.place.org(), states)
}

/// Keys that end with what they belonged to.
pub(crate) fn keys_revoked(
    ids: &[ApiKeyId],
    with: (&dyn Display, OrgId),
    now: Timestamp,
) -> Vec<SideChange> {
    ended(ids, ("api_key.revoke", "revoked_keys", "revoked_at"), with, now)
}

/// Bots that end with their space.
pub(crate) fn bots_deleted(
    ids: &[BotId],
    with: (&dyn Display, OrgId),
    now: Timestamp,
) -> Vec<SideChange> {
    ended(ids, ("bot.delete", "deleted_bots", "deleted_at"), with, now)
}

fn ended(
    ids: &[impl Display],
    (action, number, moment): (&'static str, &str, &str),
    (with, org): (&dyn Display, OrgId),
    now: Timestamp,
) -> Vec<SideChange> {
    if ids.len() > TOLD {
        let number = json!({number: ids.len()});
        return vec![side_change(action, with, org, (None, Some(&number)))];
    }
    let [before, after] = [None, Some(now)].map(|at| json!({moment: at}));
    let told = |id| side_change(action, id, org, (Some(&before), Some(&after)));
    ids.iter().map(told).collect()
}

/// A key that ends with its replacement: at once, or at the end of the grace.
pub(crate) fn key_replaced(old: &ApiKey, end: Option<Timestamp>, now: Timestamp) -> SideChange {
    let (action, field, before, after) = match end {
        Some(end) => ("api_key.edit", "expires_at", old.expires_at, end),
        None => ("api_key.revoke", "revoked_at", None, now),
    };
    let [before, after] = [before, Some(after)].map(|at| json!({field: at}));
    side_change(action, old.id, old.org, (Some(&before), Some(&after)))
}

/// An audience that an organization gets when it is bootstrapped.
pub(crate) fn audience_created(audience: &Audience) -> SideChange {
    let states = (None, Some(audience));
    side_change("audience.create", audience.id, audience.org, states)
}

fn side_change<T: Serialize>(
    action: &'static str,
    object: impl Display,
    org: impl Into<Option<OrgId>>,
    (before, after): (Option<&T>, Option<&T>),
) -> SideChange {
    let of = |thing: Option<&T>| -> Option<Value> { thing.map(state) };
    SideChange {
        action,
        object: object.to_string(),
        organization: org.into(),
        before: of(before),
        after: of(after),
    }
}
