//! `/v1/spaces`: spaces, and who has a role in them.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, delete, get, patch, post, put};
use crate::http::api::request::{
    ListQuery, Nothing, Number, Place, Read, Text, Write, limit_of, page_of,
};
use crate::model::ask::asks;
use crate::model::owner::OwnerId;
use crate::model::role::{BindRole, RoleBinding};
use crate::model::space::{CreateSpace, EditSpace, Space};
use crate::service::roles::BoundAt;

asks! {
    /// Which page of the owners that have a role in a space.
    struct ListMembersQuery {
        /// Owners on the page.
        limit: Number,
        /// Where the page before ended.
        cursor: Text<Place<OwnerId>>,
    }
}

pub(super) fn operations() -> Vec<Operation> {
    const ADMIN: &str = "admin:org/spaces/{id}";
    const MEMBERS: &str = "admin:space-management/{space}/members/{owner}";
    vec![
        post("/v1/spaces", "create_space", create)
            .says("Create a space")
            .needs(ADMIN)
            .changes("space.create")
            .takes::<CreateSpace>()
            .creates::<Written<Space>>(),
        get("/v1/spaces", "list_spaces", list)
            .says("List spaces, from new to old")
            .needs("read:org/spaces/{id} or read:space-management/{space}/space")
            .asks::<ListQuery>()
            .gives::<Listed<Space>>(),
        get("/v1/spaces/{space}", "get_space", show)
            .says("Show a space, by id or slug")
            .needs("read:org/spaces/{id} or read:space-management/{space}/space")
            .gives::<Space>(),
        patch("/v1/spaces/{space}", "edit_space", edit)
            .says("Change a space")
            .needs(ADMIN)
            .changes("space.edit")
            .takes::<EditSpace>()
            .gives::<Written<Space>>(),
        delete("/v1/spaces/{space}", "delete_space", remove)
            .says(
                "Delete a space for ever: its API keys and bots end, its slug is never used again",
            )
            .needs(ADMIN)
            .changes("space.delete")
            .gives::<Written<Space>>(),
        post("/v1/spaces/{space}/suspend", "suspend_space", suspend)
            .says("Suspend a space: its API keys get no token")
            .needs(ADMIN)
            .changes("space.suspend")
            .gives::<Written<Space>>(),
        post("/v1/spaces/{space}/resume", "resume_space", resume)
            .says("Let a suspended space go on")
            .needs(ADMIN)
            .changes("space.resume")
            .gives::<Written<Space>>(),
        get("/v1/spaces/{space}/members", "list_space_members", list_members)
            .says("List the owners that have a role in a space")
            .needs("read:space-management/{space}/members/{owner}")
            .asks::<ListMembersQuery>()
            .gives::<Listed<RoleBinding>>(),
        put("/v1/spaces/{space}/members/{owner}", "bind_space_role", bind)
            .says("Give a user or bot a role in a space, in place of the one it had there")
            .needs(MEMBERS)
            .changes("role.bind")
            .takes::<BindRole>()
            .gives::<Written<RoleBinding>>(),
        delete("/v1/spaces/{space}/members/{owner}", "unbind_space_role", unbind)
            .says("Take the role of a user or bot in a space away")
            .needs(MEMBERS)
            .changes("role.unbind")
            .gives::<Written<RoleBinding>>(),
    ]
}

async fn create(write: Write<CreateSpace>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_space(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |space| space))
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let page = read.service().list_spaces(&read.actor, read.org, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |space| space)?))
}

async fn show(Path(space): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_space(&read.actor, read.org, &space).await?))
}

async fn edit(Path(space): Path<String>, write: Write<EditSpace>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_space(&write.call, &space, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |space| space))
}

async fn remove(Path(space): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().delete_space(&write.call, &space).await?;
    Ok(written(changed, StatusCode::OK, |space| space))
}

async fn suspend(Path(space): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_space(&write.call, &space, true).await?;
    Ok(written(changed, StatusCode::OK, |space| space))
}

async fn resume(Path(space): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_space(&write.call, &space, false).await?;
    Ok(written(changed, StatusCode::OK, |space| space))
}

async fn list_members(Path(space): Path<String>, read: Read<ListMembersQuery>) -> Result<Answer> {
    let limit = limit_of(read.query.limit);
    let page = (limit, read.query.cursor.as_ref().map(|Text(Place(after))| *after));
    let place = (read.org, space.as_str());
    let items = read.service().list_space_members(&read.actor, place, page).await?;
    let is_full = items.len() >= limit as usize;
    let next = items.last().filter(|_| is_full).map(|last| last.owner.to_string());
    Ok(shown(&Listed::new(items, next)))
}

async fn bind(
    Path((space, owner)): Path<(String, String)>,
    write: Write<BindRole>,
) -> Result<Answer> {
    let service = write.service().clone();
    let changed =
        service.bind_role(&write.call, (&owner, BoundAt::Space(&space)), write.ask).await?;
    Ok(written(changed, StatusCode::OK, |binding| binding))
}

async fn unbind(
    Path((space, owner)): Path<(String, String)>,
    write: Write<Nothing>,
) -> Result<Answer> {
    let changed =
        write.service().unbind_role(&write.call, (&owner, BoundAt::Space(&space))).await?;
    Ok(written(changed, StatusCode::OK, |binding| binding))
}
