//! The audit of changes that were refused: of callers that may not, and of those whose credential is
//! known and holds no more.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::access::{Holder, Origin};
use crate::model::id::OrgId;
use crate::model::secret::masked;
use crate::service::call::entry_of;
use crate::service::spaces::shown;
use crate::service::{Service, audiences, gateway_policies, orgs, spaces};
use crate::store::{Connection, audit};

/// A change that was refused.
#[derive(Debug)]
pub struct RefusedChange<'r> {
    /// Whose credential it came with.
    pub holder: Holder,
    /// Where it came from.
    pub origin: &'r Origin,
    /// In whose audit it is told.
    pub org: OrgId,
    /// In which organization its names are looked up; in none where it is not clear which was meant.
    pub names_of: Option<OrgId>,
    /// Whether the caller reaches every organization.
    pub reaches_all: bool,
    /// What it would have been, as `api_key.rotate`.
    pub action: &'static str,
    /// What it names, each behind its noun, as `spaces` and `alpha`; where it names nothing, a noun alone.
    pub names: &'r [(&'r str, String)],
    /// The stable code of the refusal.
    pub code: &'r str,
    /// Its words.
    pub said: &'r str,
}

impl Service {
    /// Writes a refusal of a management change to the audit. Its object is what the change would have had
    /// as its own: the last thing that is named. The space of a refused binding is told beside it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: what cannot be written cannot be audited either.
    pub async fn audit_refusal(&self, refused: &RefusedChange<'_>) -> Result<()> {
        let mut append = self.store.append().await?;
        let (mut object, mut space) = (String::new(), None);
        for (noun, name) in refused.names {
            let id = id_of(&mut append, refused, (noun, name)).await?;
            space = space.or_else(|| id.clone().filter(|_| *noun == "spaces"));
            object =
                id.unwrap_or_else(|| shown(&masked(if name.is_empty() { noun } else { name })));
        }
        let space = space.filter(|space| *space != object);
        let states =
            (space.map(|space| json!({"space": space})), Some(Value::from(masked(refused.said))));
        let (from, what) = ((refused.holder, refused.origin), (refused.action, object.as_str()));
        let mut entry = entry_of(from, self.clock.now(), what, Some(refused.org), states)?;
        refused.code.clone_into(&mut entry.outcome);
        audit::insert(&mut append, &entry).await?;
        append.commit().await
    }
}

/// The id of a thing that is named by something else, where the organization has it.
async fn id_of(
    connection: &mut Connection,
    refused: &RefusedChange<'_>,
    (noun, name): (&str, &str),
) -> Result<Option<String>> {
    let Some(org) = refused.names_of else { return Ok(None) };
    let id = match noun {
        "spaces" => found(spaces::find_space(connection, org, name).await)?
            .flatten()
            .map(|space| space.id.to_string()),
        "audiences" => audiences::find_named(connection, org, name)
            .await?
            .map(|audience| audience.id.to_string()),
        "gateway-policies" => found(gateway_policies::find(connection, org, name).await)?
            .map(|policy| policy.id.to_string()),
        "organizations" => orgs::find_named(connection, name)
            .await?
            .filter(|found| refused.reaches_all || found.id == org)
            .map(|found| found.id.to_string()),
        _ => None,
    };
    Ok(id)
}

/// What was found; nothing where the name is nobody's, or not one thing's alone.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound(_) | Error::Conflict(..)) => Ok(None),
        Err(cause) => Err(cause),
    }
}
