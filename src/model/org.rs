//! Organizations: hard isolation, nothing crosses.

use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::time::Timestamp;

/// An organization, as it is stored.
#[derive(Debug, Clone)]
pub struct Org {
    /// Its id.
    pub id: OrgId,
    /// Its slug, which labels its API keys.
    pub slug: Slug,
    /// The audience of a token whose request and key name none.
    pub default_audience: Option<AudienceId>,
    /// When its API keys were enabled; before that they cannot be made.
    pub bootstrapped_at: Option<Timestamp>,
    /// When it was suspended: its API keys get no token.
    pub suspended_at: Option<Timestamp>,
}
