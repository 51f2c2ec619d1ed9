//! Roles: named bundles of scopes, bound to an owner at one level.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use tenmint_verifier::{ResourceFilter, ScopeSet};

use crate::model::ask::{asks, joined};
use crate::model::id::{OrgId, RoleId, Slug, SpaceId};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;

/// Where a role is bound, and how far it reaches.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The installation: every organization.
    Account,
    /// One organization.
    Organization,
    /// One space.
    Space,
}

impl Level {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Organization => "organization",
            Self::Space => "space",
        }
    }
}

/// A text that is no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLevel;

impl fmt::Display for InvalidLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a level is `account`, `organization` or `space`")
    }
}

impl std::error::Error for InvalidLevel {}

impl FromStr for Level {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        [Self::Account, Self::Organization, Self::Space]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(InvalidLevel)
    }
}

/// The name of a role: a built-in one, or the id of one that an organization defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleRef {
    /// Sees, at its level.
    ReadOnly,
    /// Works, at its level.
    Member,
    /// Does everything, at its level.
    Admin,
    /// Introspects tokens; at the level of an organization.
    Verifier,
    /// One that an organization defined.
    Defined(RoleId),
}

impl fmt::Display for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnly => f.write_str("read-only"),
            Self::Member => f.write_str("member"),
            Self::Admin => f.write_str("admin"),
            Self::Verifier => f.write_str("verifier"),
            Self::Defined(id) => id.fmt(f),
        }
    }
}

impl Serialize for RoleRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for RoleRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoleRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^(read-only|member|admin|verifier|rol_[0-9A-Za-z]{16})$";
        json_schema!({"type": "string", "pattern": pattern})
    }
}

/// A text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidRoleRef;

impl fmt::Display for InvalidRoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a role is `read-only`, `member`, `admin`, `verifier` or the id of a defined one",
        )
    }
}

impl std::error::Error for InvalidRoleRef {}

impl FromStr for RoleRef {
    type Err = InvalidRoleRef;

    fn from_str(text: &str) -> Result<Self, InvalidRoleRef> {
        Ok(match text {
            "read-only" => Self::ReadOnly,
            "member" => Self::Member,
            "admin" => Self::Admin,
            "verifier" => Self::Verifier,
            _ => Self::Defined(text.parse().map_err(|_| InvalidRoleRef)?),
        })
    }
}

impl RoleRef {
    /// The scopes of a built-in role at a level; nothing for a defined one, or where the role does
    /// not exist at that level. `Some(None)` is a role that holds nothing by itself.
    pub fn built_in_scopes(self, level: Level) -> Option<Option<RoleScopes>> {
        let text = match (level, self) {
            (Level::Account, Self::Member) => return Some(None),
            (Level::Account | Level::Organization, Self::Admin) => "*:*",
            (Level::Organization, Self::ReadOnly) => "read:org/*",
            (Level::Organization, Self::Member) => "read:org/* write:org/keys/own/*",
            (Level::Organization, Self::Verifier) => "introspect:org/tokens/*",
            (Level::Space, Self::ReadOnly) => SPACE_READ_ONLY,
            (Level::Space, Self::Member) => SPACE_MEMBER,
            (Level::Space, Self::Admin) => SPACE_ADMIN,
            _ => return None,
        };
        Some(Some(RoleScopes(text.into())))
    }
}

const SPACE_READ_ONLY: &str =
    "read:spaces/{space} read:spaces/{space}/* read:space-management/{space}/*";
const SPACE_MEMBER: &str = "read:spaces/{space} read:spaces/{space}/* write:spaces/{space} \
     write:spaces/{space}/* read:space-management/{space}/* write:space-management/{space}/keys/own/*";
const SPACE_ADMIN: &str = "read:spaces/{space} read:spaces/{space}/* write:spaces/{space} \
     write:spaces/{space}/* admin:spaces/{space} admin:spaces/{space}/* *:space-management/{space}/*";

/// The scopes of a role; at the level of a space, `{space}` stands for the slug of the space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleScopes(Box<str>);

/// What stands for the slug of a space.
const SPACE: &str = "{space}";

impl RoleScopes {
    /// Scopes as they were asked for, of a role at a level.
    ///
    /// # Errors
    /// A scope is malformed, or reaches beyond the level: a role of a space stays in that space,
    /// and one of an organization reaches no space and not the installation.
    pub fn parse(scopes: &[String], level: Level) -> Result<Self, String> {
        let text = joined(scopes)?;
        let parsed = Self(text.clone().into());
        let sample = parsed.resolve_text("space").map_err(|cause| cause.to_string())?;
        let within = match level {
            Level::Account => return Err("the account has built-in roles alone".to_owned()),
            Level::Space => "*:spaces/space *:spaces/space/* *:space-management/space/*",
            Level::Organization => "*:*",
        };
        let beyond = match level {
            Level::Organization => sample.iter().find(|scope| reaches_a_space(scope.filter())),
            _ => first_beyond(&sample, within),
        };
        match beyond {
            Some(scope) if level == Level::Space => Err(format!(
                "`{}` reaches beyond the space: write it below `spaces/{SPACE}` or \
                 `space-management/{SPACE}`",
                scope.as_str()
            )),
            Some(scope) => Err(format!(
                "`{}` reaches into spaces or the installation, which a role of an organization \
                 does not: bind a role of the space instead",
                scope.as_str()
            )),
            None if level == Level::Organization && text.contains(SPACE) => {
                Err(format!("`{SPACE}` stands for a slug in roles of a space alone"))
            }
            None => Ok(parsed),
        }
    }

    /// The scopes in a space of this slug; the slug does not matter for a role of an organization.
    pub fn resolve(&self, slug: &Slug) -> Option<ScopeSet> {
        self.resolve_text(slug.as_str()).ok()
    }

    /// The scopes of a role that names no space.
    pub fn resolve_without_space(&self) -> Option<ScopeSet> {
        self.0.parse().ok()
    }

    fn resolve_text(&self, slug: &str) -> Result<ScopeSet, tenmint_verifier::SyntaxError> {
        self.0.replace(SPACE, slug).parse()
    }

    /// The text, for storing.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text that was stored.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }
}

fn first_beyond<'s>(sample: &'s ScopeSet, within: &str) -> Option<tenmint_verifier::ScopeView<'s>> {
    let within: ScopeSet = within.parse().ok()?;
    within.first_uncovered(sample).and_then(|place| sample.iter().nth(place))
}

/// Whether a filter selects anything below the roots that belong to spaces and the installation.
pub fn reaches_a_space(filter: &str) -> bool {
    let Ok(filter) = filter.parse::<ResourceFilter>() else { return true };
    ["spaces/*", "space-management/*", "installation/*"]
        .iter()
        .filter_map(|root| root.parse::<ResourceFilter>().ok())
        .any(|root| root.intersect(&filter).is_some())
}

impl Serialize for RoleScopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.split(' '))
    }
}

impl JsonSchema for RoleScopes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RoleScopes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 64})
    }
}

/// A role that an organization defined.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// The organization that defined it.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// Where it is bound: `organization` or `space`.
    pub level: Level,
    /// What people call it, unique at its level.
    pub name: String,
    /// What it holds.
    pub scopes: RoleScopes,
    /// When it was made.
    pub created_at: Timestamp,
}

asks! {
    /// A role as somebody asks for it.
    pub struct CreateRole {
        /// What to call it: 1 to 256 characters, unique at its level.
        #[schemars(required, length(min = 1, max = 256))]
        pub name: String,
        /// `organization` or `space`.
        #[schemars(required)]
        pub level: Level,
        /// What it holds; in a role of a space, `{space}` stands for the slug.
        #[schemars(required, length(min = 1, max = 64))]
        pub scopes: Vec<String>,
    }

    /// What to change about a role. It holds at once for everybody it is bound to.
    pub struct EditRole {
        /// What to call it.
        pub name: String,
        /// What it holds.
        pub scopes: Vec<String>,
    }

    /// Which role an owner shall have at a place.
    pub struct BindRole {
        /// `read-only`, `member`, `admin`, `verifier`, or the id or name of a defined role.
        #[schemars(required)]
        pub role: String,
    }
}

/// A role of an owner at one place. An owner has one role a place at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoleBinding {
    /// Whose role it is.
    pub owner: OwnerId,
    /// The installation, organization or space in which it holds.
    #[serde(flatten)]
    pub place: RolePlace,
    /// What it may do there.
    pub role: RoleRef,
}

/// The place where a role is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(tag = "level", rename_all = "snake_case")]
pub enum RolePlace {
    /// The installation.
    Account,
    /// An organization.
    Organization {
        /// Its id.
        organization: OrgId,
    },
    /// A space.
    Space {
        /// The organization of the space.
        organization: OrgId,
        /// Its id.
        space: SpaceId,
    },
}

impl RolePlace {
    /// The level of the place.
    pub fn level(self) -> Level {
        match self {
            Self::Account => Level::Account,
            Self::Organization { .. } => Level::Organization,
            Self::Space { .. } => Level::Space,
        }
    }

    /// The organization of the place.
    pub fn org(self) -> Option<OrgId> {
        match self {
            Self::Account => None,
            Self::Organization { organization } | Self::Space { organization, .. } => {
                Some(organization)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str, level: Level) -> Result<RoleScopes, String> {
        RoleScopes::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>(), level)
    }

    #[test]
    fn a_role_of_a_space_stays_in_its_space() {
        let role = scopes("read:spaces/{space}/logs/*", Level::Space).unwrap();
        let resolved = role.resolve(&"alpha".parse().unwrap()).unwrap();
        assert_eq!(resolved.as_str(), "read:spaces/alpha/logs/*");
        for beyond in ["read:spaces/other/*", "read:org/keys/x", "*:*", "read:spaces/*", "chat"] {
            assert!(scopes(beyond, Level::Space).is_err(), "{beyond}");
        }
    }

    #[test]
    fn a_role_of_an_organization_reaches_no_space_and_not_the_installation() {
        assert!(scopes("read:org/* chat:models/*", Level::Organization).is_ok());
        for beyond in
            ["read:spaces/a/*", "*:*", "read:*", "read:*/a", "admin:installation/*", "chat"]
        {
            assert!(scopes(beyond, Level::Organization).is_err(), "{beyond}");
        }
        assert!(scopes("read:org/*", Level::Account).is_err());
        assert!(scopes("read:a/{space}", Level::Organization).is_err());
    }

    #[test]
    fn every_built_in_role_parses_and_stays_at_its_level() {
        use RoleRef::{Admin, Member, ReadOnly, Verifier};
        let slug = "alpha".parse().unwrap();
        for role in [ReadOnly, Member, Admin, Verifier] {
            assert_eq!(role.to_string().parse::<RoleRef>(), Ok(role));
            for level in [Level::Account, Level::Organization, Level::Space] {
                let Some(Some(scopes)) = role.built_in_scopes(level) else { continue };
                let resolved = scopes.resolve(&slug).unwrap();
                let within = match (level, role) {
                    (Level::Space, _) => {
                        "*:spaces/alpha *:spaces/alpha/* *:space-management/alpha/*"
                    }
                    (_, Admin) => "*:*",
                    _ => "*:org/*",
                };
                let within: ScopeSet = within.parse().unwrap();
                assert_eq!(within.first_uncovered(&resolved), None, "{role} at {level:?}");
            }
        }
    }
}
