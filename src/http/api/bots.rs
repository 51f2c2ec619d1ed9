//! `/v1/bots`: service accounts.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, delete, get, patch, post};
use crate::http::api::request::{Nothing, Number, Place, Read, Text, Write, page_of};
use crate::model::ask::asks;
use crate::model::bot::{Bot, CreateBot, EditBot};
use crate::service::SealedCursor;

asks! {
    /// Which bots a list shows.
    struct ListBotsQuery {
        /// Bots in the space of this id or slug.
        space: String,
        /// Bots on the page.
        limit: Number,
        /// Where the page before ended.
        cursor: Text<Place<SealedCursor>>,
    }
}

pub(super) fn operations() -> Vec<Operation> {
    const READ: &str = "read:org/bots/{id}, or read:space-management/{space}/bots/{id}";
    const ADMIN: &str = "admin:org/bots/{id}, or admin:space-management/{space}/bots/{id}";
    vec![
        post("/v1/bots", "create_bot", create)
            .says("Create a bot")
            .needs(ADMIN)
            .changes("bot.create")
            .takes::<CreateBot>()
            .creates::<Written<Bot>>(),
        get("/v1/bots", "list_bots", list)
            .says("List bots, from new to old")
            .needs(READ)
            .asks::<ListBotsQuery>()
            .gives::<Listed<Bot>>(),
        get("/v1/bots/{id}", "get_bot", show).says("Show a bot").needs(READ).gives::<Bot>(),
        patch("/v1/bots/{id}", "edit_bot", edit)
            .says("Change a bot: its name, or what it holds beside its roles")
            .needs(ADMIN)
            .changes("bot.edit")
            .takes::<EditBot>()
            .gives::<Written<Bot>>(),
        delete("/v1/bots/{id}", "delete_bot", remove)
            .says("Delete a bot for ever: its API keys stop")
            .needs(ADMIN)
            .changes("bot.delete")
            .gives::<Written<Bot>>(),
        post("/v1/bots/{id}/suspend", "suspend_bot", suspend)
            .says("Suspend a bot: its API keys get no token")
            .needs(ADMIN)
            .changes("bot.suspend")
            .gives::<Written<Bot>>(),
        post("/v1/bots/{id}/resume", "resume_bot", resume)
            .says("Let a suspended bot go on")
            .needs(ADMIN)
            .changes("bot.resume")
            .gives::<Written<Bot>>(),
    ]
}

async fn create(write: Write<CreateBot>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_bot(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |bot| bot))
}

async fn list(read: Read<ListBotsQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let of = (read.org, read.query.space.clone());
    let page = read.service().list_bots(&read.actor, of, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |bot| bot)?))
}

async fn show(Path(id): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_bot(&read.actor, read.org, &id).await?))
}

async fn edit(Path(id): Path<String>, write: Write<EditBot>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_bot(&write.call, &id, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |bot| bot))
}

async fn remove(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().delete_bot(&write.call, &id).await?;
    Ok(written(changed, StatusCode::OK, |bot| bot))
}

async fn suspend(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_bot(&write.call, &id, true).await?;
    Ok(written(changed, StatusCode::OK, |bot| bot))
}

async fn resume(Path(id): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_bot(&write.call, &id, false).await?;
    Ok(written(changed, StatusCode::OK, |bot| bot))
}
