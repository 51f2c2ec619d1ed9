//! Spaces: projects of an organization. What is in one has the path `spaces/<slug>/...`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::ask::asks;
use crate::model::id::{OrgId, Slug, SpaceId};
use crate::model::time::Timestamp;

/// A space, as it is stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Space {
    /// Its id.
    pub id: SpaceId,
    /// Its organization.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// What stands in paths and labels its API keys. Immutable, and never used again.
    pub slug: Slug,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was suspended: its API keys get no token.
    pub suspended_at: Option<Timestamp>,
    /// When it was deleted, for ever.
    pub deleted_at: Option<Timestamp>,
}

impl Space {
    /// Whether its API keys may get tokens.
    pub fn is_active(&self) -> bool {
        self.suspended_at.is_none() && self.deleted_at.is_none()
    }
}

asks! {
    /// A space as somebody asks for it.
    pub struct CreateSpace {
        /// What stands in paths: 1 to 40 of a-z, 0-9 and `-`.
        #[schemars(required, length(min = 1, max = 40), regex(pattern = "^[a-z0-9-]+$"))]
        pub slug: String,
        /// What to call it; its slug where it is left out.
        pub name: String,
    }

    /// What to change about a space. Its slug stays.
    pub struct EditSpace {
        /// What to call it.
        pub name: String,
    }
}
