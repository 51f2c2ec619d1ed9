//! `/v1/users`: persons as members of the organization.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, delete, get, patch, post};
use crate::http::api::request::{ListQuery, Nothing, Read, Write, page_of};
use crate::model::user::{CreateUser, EditUser, Member};

pub(super) fn operations() -> Vec<Operation> {
    const ADMIN: &str = "admin:org/members/{id}";
    vec![
        post("/v1/users", "create_user", create)
            .says("Make a person a member of the organization")
            .needs(ADMIN)
            .changes("user.create")
            .takes::<CreateUser>()
            .creates::<Written<Member>>(),
        get("/v1/users", "list_users", list)
            .says("List the members of the organization")
            .needs("read:org/members/{id}")
            .asks::<ListQuery>()
            .gives::<Listed<Member>>(),
        get("/v1/users/{id}", "get_user", show)
            .says("Show a member; everybody may see oneself")
            .needs("read:org/members/{id}")
            .gives::<Member>(),
        patch("/v1/users/{id}", "edit_user", edit)
            .says("Change what the organization calls a person")
            .needs(ADMIN)
            .changes("user.edit")
            .takes::<EditUser>()
            .gives::<Written<Member>>(),
        delete("/v1/users/{id}", "delete_user", remove)
            .says("End a membership: the person's API keys here are revoked")
            .needs(ADMIN)
            .changes("user.delete")
            .gives::<Written<Member>>(),
        post("/v1/users/{id}/suspend", "suspend_user", suspend)
            .says("Suspend a membership: the person's API keys here get no token")
            .needs(ADMIN)
            .changes("user.suspend")
            .gives::<Written<Member>>(),
        post("/v1/users/{id}/resume", "resume_user", resume)
            .says("Let a suspended membership go on")
            .needs(ADMIN)
            .changes("user.resume")
            .gives::<Written<Member>>(),
    ]
}

async fn create(write: Write<CreateUser>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_user(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |member| member))
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let page = read.service().list_users(&read.actor, read.org, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |member| member)?))
}

async fn show(Path(id): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_user(&read.actor, read.org, &id).await?))
}

async fn edit(Path(id): Path<String>, write: Write<EditUser>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_user(&write.call, &id, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |member| member))
}

async fn remove(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().delete_user(&write.call, &id).await?;
    Ok(written(changed, StatusCode::OK, |member| member))
}

async fn suspend(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_user(&write.call, &id, true).await?;
    Ok(written(changed, StatusCode::OK, |member| member))
}

async fn resume(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_user(&write.call, &id, false).await?;
    Ok(written(changed, StatusCode::OK, |member| member))
}
