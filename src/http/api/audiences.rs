//! `/v1/audiences`: the APIs that take tokens.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, get, patch, post};
use crate::http::api::request::{ListQuery, Nothing, Read, Write, page_of};
use crate::model::audience::{Audience, CreateAudience, EditAudience};

pub(super) fn operations() -> Vec<Operation> {
    const ADMIN: &str = "admin:org/audiences/{id}; a shared one: admin:installation/audiences";
    vec![
        post("/v1/audiences", "create_audience", create)
            .says("Register an audience: the URI is its own for ever")
            .needs(ADMIN)
            .changes("audience.create")
            .takes::<CreateAudience>()
            .creates::<Written<Audience>>(),
        get("/v1/audiences", "list_audiences", list)
            .says("List the audiences of the organization, and the shared ones")
            .needs("read:org/audiences/{id}")
            .asks::<ListQuery>()
            .gives::<Listed<Audience>>(),
        get("/v1/audiences/{audience}", "get_audience", show)
            .says("Show an audience, by id or slug")
            .needs("read:org/audiences/{id}")
            .gives::<Audience>(),
        patch("/v1/audiences/{audience}", "edit_audience", edit)
            .says("Change the catalogue of an audience, or what its tokens are like")
            .needs(ADMIN)
            .changes("audience.edit")
            .takes::<EditAudience>()
            .gives::<Written<Audience>>(),
    ]
}

async fn create(write: Write<CreateAudience>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_audience(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |audience| audience))
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let page = read.service().list_audiences(&read.actor, read.org, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |audience| audience)?))
}

async fn show(Path(audience): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_audience(&read.actor, read.org, &audience).await?))
}

async fn edit(Path(audience): Path<String>, write: Write<EditAudience>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_audience(&write.call, &audience, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |audience| audience))
}
