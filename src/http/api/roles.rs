//! `/v1/roles` and the roles of owners in the organization.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, delete, get, patch, post, put};
use crate::http::api::request::{ListQuery, Nothing, Read, Write, page_of};
use crate::model::role::{BindRole, CreateRole, EditRole, Role, RoleBinding};
use crate::service::roles::BoundAt;

pub(super) fn operations() -> Vec<Operation> {
    const ADMIN: &str = "admin:org/roles/{id}, and the scopes of the role";
    const MEMBERS: &str = "admin:org/members/{owner}, and the scopes of the role";
    vec![
        post("/v1/roles", "create_role", create)
            .says("Define a role")
            .needs(ADMIN)
            .changes("role.create")
            .takes::<CreateRole>()
            .creates::<Written<Role>>(),
        get("/v1/roles", "list_roles", list)
            .says("List the roles that the organization defined")
            .needs("read:org/roles/{id}")
            .asks::<ListQuery>()
            .gives::<Listed<Role>>(),
        get("/v1/roles/{id}", "get_role", show)
            .says("Show a role")
            .needs("read:org/roles/{id}")
            .gives::<Role>(),
        patch("/v1/roles/{id}", "edit_role", edit)
            .says("Change a role, at once for everybody that it is bound to")
            .needs(ADMIN)
            .changes("role.edit")
            .takes::<EditRole>()
            .gives::<Written<Role>>(),
        delete("/v1/roles/{id}", "delete_role", remove)
            .says("Delete a role that is bound to nobody")
            .needs("admin:org/roles/{id}")
            .changes("role.delete")
            .gives::<Written<Role>>(),
        get("/v1/owners/{owner}/roles", "list_roles_of", list_of)
            .says("List the roles of a user or bot")
            .needs("read:org/members/{owner}")
            .gives::<Listed<RoleBinding>>(),
        put("/v1/owners/{owner}/role", "bind_role", bind)
            .says("Give a user or bot a role in the organization, in place of the one it had")
            .needs(MEMBERS)
            .changes("role.bind")
            .takes::<BindRole>()
            .gives::<Written<RoleBinding>>(),
        delete("/v1/owners/{owner}/role", "unbind_role", unbind)
            .says("Take the role of a user or bot in the organization away")
            .needs(MEMBERS)
            .changes("role.unbind")
            .gives::<Written<RoleBinding>>(),
    ]
}

async fn create(write: Write<CreateRole>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_role(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |role| role))
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let page = read.service().list_roles(&read.actor, read.org, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |role| role)?))
}

async fn show(Path(id): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_role(&read.actor, read.org, &id).await?))
}

async fn edit(Path(id): Path<String>, write: Write<EditRole>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_role(&write.call, &id, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |role| role))
}

async fn remove(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().delete_role(&write.call, &id).await?;
    Ok(written(changed, StatusCode::OK, |role| role))
}

async fn list_of(Path(owner): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    let items = read.service().list_roles_of(&read.actor, read.org, &owner).await?;
    Ok(shown(&Listed::new(items, None)))
}

async fn bind(Path(owner): Path<String>, write: Write<BindRole>) -> Result<Answer> {
    let service = write.service().clone();
    let at = (owner.as_str(), BoundAt::Organization);
    let changed = service.bind_role(&write.call, at, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |binding| binding))
}

async fn unbind(Path(owner): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let at = (owner.as_str(), BoundAt::Organization);
    let changed = write.service().unbind_role(&write.call, at).await?;
    Ok(written(changed, StatusCode::OK, |binding| binding))
}
