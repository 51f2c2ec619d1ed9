//! Organizations: hard isolation, nothing crosses.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::ask::asks;
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::time::Timestamp;

/// An organization, as it is stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Org {
    /// Its id.
    pub id: OrgId,
    /// Its slug, which labels its API keys. Immutable, and never used again.
    pub slug: Slug,
    /// What people call it.
    pub name: String,
    /// The audience of a token whose request and key name none.
    pub default_audience: Option<AudienceId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its API keys were enabled; before that they cannot be made.
    pub bootstrapped_at: Option<Timestamp>,
    /// When it was suspended: its API keys get no token.
    pub suspended_at: Option<Timestamp>,
}

asks! {
    /// An organization as somebody asks for it.
    pub struct CreateOrg {
        /// Its slug: 1 to 40 of a-z, 0-9 and `-`.
        #[schemars(required, length(min = 1, max = 40), regex(pattern = "^[a-z0-9-]+$"))]
        pub slug: String,
        /// What to call it; its slug where it is left out.
        pub name: String,
    }

    /// What to change about an organization.
    pub struct EditOrg {
        /// What to call it.
        pub name: String,
        /// The URI, slug or id of the audience of tokens that name none.
        pub default_audience: String,
    }

    /// How to enable the API keys of an organization, once.
    pub struct BootstrapOrg {
        /// The URI of its default audience; one is made up where it is left out.
        pub audience: String,
    }
}
