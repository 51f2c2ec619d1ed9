//! Owners of API keys: persons and bots. The `sub` of a token is one of them.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use tenmint_verifier::ScopeSet;

use crate::model::id::{BotId, IdText, InvalidId, OrgId, SpaceId, UserId};
use crate::model::role::{InvalidLevel, InvalidRoleRef, Level, RoleRef};
use crate::model::time::Timestamp;

/// Who owns an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerId {
    /// A person, whose keys are of type `user`.
    User(UserId),
    /// A service account, whose keys are of type `service`.
    Bot(BotId),
}

impl OwnerId {
    /// The id as it is written.
    pub fn text(&self) -> IdText {
        match self {
            Self::User(id) => id.text(),
            Self::Bot(id) => id.text(),
        }
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(f),
            Self::Bot(id) => id.fmt(f),
        }
    }
}

impl serde::Serialize for OwnerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for OwnerId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OwnerId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(usr|bot)_[0-9A-Za-z]{16}$"})
    }
}

/// A text that is no owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidOwnerId;

impl fmt::Display for InvalidOwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an owner is `usr_` or `bot_` and 16 letters and digits")
    }
}

impl std::error::Error for InvalidOwnerId {}

impl FromStr for OwnerId {
    type Err = InvalidOwnerId;

    fn from_str(text: &str) -> Result<Self, InvalidOwnerId> {
        let user = text.parse().map(Self::User);
        user.or_else(|_| text.parse().map(Self::Bot)).map_err(|_| InvalidOwnerId)
    }
}

/// An owner in one organization, as it is stored: its roles are not resolved yet.
#[derive(Debug, Clone)]
pub struct StoredOwner {
    /// Who.
    pub owner: OwnerId,
    /// Where.
    pub org: OrgId,
    /// What a bot holds beside its roles.
    pub grants: Option<ScopeSet>,
    /// When it was suspended, or left for ever.
    pub suspended_at: Option<Timestamp>,
    /// Its roles here, and in the account.
    pub roles: Vec<BoundRole>,
}

/// A role that is bound somewhere, as `space:member:spc_...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BoundRole {
    /// At which level.
    pub level: Level,
    /// Which.
    pub role: RoleRef,
    /// In which space, of a role of a space.
    pub space: Option<SpaceId>,
}

impl FromStr for BoundRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(|| format!("`{text}` is no bound role"));
        let (level, role, place) = (part()?, part()?, part()?);
        let level = level.parse().map_err(|cause: InvalidLevel| cause.to_string())?;
        let space = (level == Level::Space).then(|| place.parse()).transpose();
        Ok(Self {
            level,
            role: role.parse().map_err(|cause: InvalidRoleRef| cause.to_string())?,
            space: space.map_err(|cause: InvalidId| cause.to_string())?,
        })
    }
}

/// All that issuing needs of an owner in one organization: what the index holds.
#[derive(Debug, Clone)]
pub struct IndexedOwner {
    /// Who.
    pub owner: OwnerId,
    /// Where.
    pub org: OrgId,
    /// What a bot holds beside its roles.
    pub grants: Option<ScopeSet>,
    /// What its roles hold.
    pub roles: Option<ScopeSet>,
    /// Whether it is an admin of the account.
    pub is_account_admin: bool,
    /// When it was suspended, or left for ever.
    pub suspended_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_person_or_a_bot() {
        for text in ["usr_0123456789abcdef", "bot_0123456789abcdef"] {
            assert_eq!(text.parse::<OwnerId>().unwrap().to_string(), text);
        }
        for text in ["", "key_0123456789abcdef", "usr_", "bot_0123456789abcde"] {
            assert!(text.parse::<OwnerId>().is_err(), "{text}");
        }
    }
}
