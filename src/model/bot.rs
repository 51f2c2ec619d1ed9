//! Bots: service accounts that own API keys and outlive the person who made them.

use tenmint_verifier::ScopeSet;

use crate::model::id::{BotId, OrgId};
use crate::model::time::Timestamp;

/// A bot, as it is stored.
#[derive(Debug, Clone)]
pub struct Bot {
    /// Its id: the `sub` of the tokens of its API keys.
    pub id: BotId,
    /// Its organization.
    pub org: OrgId,
    /// What people call it.
    pub name: String,
    /// What it holds. No API key of its own reaches further.
    pub grants: ScopeSet,
    /// When it was suspended: its API keys get no token.
    pub suspended_at: Option<Timestamp>,
}

/// All that issuing needs of a bot: what the index holds.
#[derive(Debug, Clone)]
pub struct IndexedBot {
    /// Its id.
    pub id: BotId,
    /// What it holds.
    pub grants: ScopeSet,
    /// When it was suspended.
    pub suspended_at: Option<Timestamp>,
}

impl From<Bot> for IndexedBot {
    fn from(bot: Bot) -> Self {
        Self { id: bot.id, grants: bot.grants, suspended_at: bot.suspended_at }
    }
}
