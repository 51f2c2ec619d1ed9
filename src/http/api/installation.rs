//! `/v1/installation`: for admins of the account alone. No scope of an organization reaches it.

use axum::extract::Path;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, Plane, delete, get, post, put};
use crate::http::api::request::{Nothing, Read, Write};
use crate::model::id::UserId;
use crate::model::installation::{ApiKeyPrefix, Installation, Issuer, TokenLifetime};
use crate::model::role::{BindRole, RoleBinding};
use crate::model::user::Person;
use crate::service::roles::BoundAt;

/// What the installation was set up with.
#[derive(Debug, Serialize, JsonSchema)]
struct InstallationBody {
    /// The `iss` of its tokens.
    issuer: Issuer,
    /// What the text of an API key starts with.
    api_key_prefix: ApiKeyPrefix,
    /// What its tokens are signed with at the moment.
    algorithm: &'static str,
    /// The seconds that a token lives.
    token_lifetime: TokenLifetime,
}

impl From<Installation> for InstallationBody {
    fn from(installation: Installation) -> Self {
        let Installation { issuer, api_key_prefix, algorithm, token_lifetime } = installation;
        Self { issuer, api_key_prefix, algorithm: algorithm.name(), token_lifetime }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    const ROLES: &str = "admin:installation/roles";
    const USERS: &str = "admin:installation/users";
    let operations = vec![
        get("/v1/installation", "get_installation", show)
            .says("Show what the installation was set up with")
            .needs("read:installation/settings")
            .gives::<InstallationBody>(),
        get("/v1/installation/admins", "list_account_admins", list_admins)
            .says("List the admins of the account")
            .needs("read:installation/roles")
            .gives::<Listed<RoleBinding>>(),
        put("/v1/installation/admins/{owner}", "bind_account_role", bind)
            .says("Give a user or bot a role in the account: `admin` reaches every organization")
            .needs(ROLES)
            .changes("role.bind")
            .takes::<BindRole>()
            .gives::<Written<RoleBinding>>(),
        delete("/v1/installation/admins/{owner}", "unbind_account_role", unbind)
            .says("Take the role of a user or bot in the account away")
            .needs(ROLES)
            .changes("role.unbind")
            .gives::<Written<RoleBinding>>(),
        post("/v1/installation/users/{id}/suspend", "suspend_person", suspend)
            .says("Suspend a person in every organization")
            .needs(USERS)
            .changes("person.suspend")
            .gives::<Written<Person>>(),
        post("/v1/installation/users/{id}/resume", "resume_person", resume)
            .says("Let a suspended person go on")
            .needs(USERS)
            .changes("person.resume")
            .gives::<Written<Person>>(),
    ];
    operations.into_iter().map(|operation| operation.on_plane(Plane::Installation)).collect()
}

async fn show(read: Read<Nothing>) -> Result<Answer> {
    let installation = read.service().get_installation(&read.actor).await?;
    Ok(shown(&InstallationBody::from(installation)))
}

async fn list_admins(read: Read<Nothing>) -> Result<Answer> {
    let items = read.service().list_account_admins(&read.actor).await?;
    Ok(shown(&Listed::new(items, None)))
}

async fn bind(Path(owner): Path<String>, write: Write<BindRole>) -> Result<Answer> {
    let service = write.service().clone();
    let at = (owner.as_str(), BoundAt::Account);
    let changed = service.bind_role(&write.call, at, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |binding| binding))
}

async fn unbind(Path(owner): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let at = (owner.as_str(), BoundAt::Account);
    let changed = write.service().unbind_role(&write.call, at).await?;
    Ok(written(changed, StatusCode::OK, |binding| binding))
}

async fn suspend(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    suspend_person(&id, &write, true).await
}

async fn resume(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    suspend_person(&id, &write, false).await
}

async fn suspend_person(id: &str, write: &Write<Nothing>, suspend: bool) -> Result<Answer> {
    let unknown = |_| Error::NotFound("such user".to_owned());
    let id: UserId = id.parse().map_err(unknown)?;
    let changed = write.service().suspend_person(&write.call, &id, suspend).await?;
    Ok(written(changed, StatusCode::OK, |person| person))
}
