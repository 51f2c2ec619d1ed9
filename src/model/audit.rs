//! The audit: who did what to which object, from where, before and after.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::model::id::{ApiKeyId, AuditId, OrgId};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;

/// What a change brings with it: told by a dry run, and written to the audit beside the change itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SideChange {
    /// What, as `role.bind`.
    pub action: &'static str,
    /// To which object.
    pub object: String,
    /// The organization that it is of; none where it is of the installation.
    #[serde(skip)]
    pub organization: Option<OrgId>,
    /// The object before; `null` where it is made.
    pub before: Option<Value>,
    /// The object after; `null` where it goes.
    pub after: Option<Value>,
}

/// One entry. Never holds a secret: what is audited has none.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Its id; ids sort by time.
    pub id: AuditId,
    /// When it was done or refused.
    pub at: Timestamp,
    /// The organization that it is of; none where it is of the installation.
    pub organization: Option<OrgId>,
    /// Who did it, or wanted to; nobody where it was due by itself, or an operator did it on a node.
    pub actor: Option<OwnerId>,
    /// With which API key, by itself or by a token of it.
    pub api_key: Option<ApiKeyId>,
    /// What, as `api_key.rotate`.
    pub action: String,
    /// To which object.
    pub object: String,
    /// `done`, or the code of the refusal.
    pub outcome: String,
    /// From which address.
    pub address: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: String,
    /// The object before; of a refused binding, its space.
    pub before: Option<Value>,
    /// The object after; of a refusal, what was said.
    pub after: Option<Value>,
}
