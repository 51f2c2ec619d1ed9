//! `/v1/organization`, the caller's own, and `/v1/organizations`, all of them.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, Plane, get, patch, post};
use crate::http::api::request::{ListQuery, Nothing, Read, Write, page_of};
use crate::model::org::{BootstrapOrg, CreateOrg, EditOrg, Org};

pub(super) fn operations() -> Vec<Operation> {
    const ADMIN: &str = "admin:installation/organizations";
    let on_installation = |operation: Operation| operation.on_plane(Plane::Installation);
    vec![
        get("/v1/organization", "get_organization", show_own)
            .says("Show the organization")
            .needs("read:org/settings")
            .gives::<Org>(),
        patch("/v1/organization", "edit_organization", edit)
            .says("Change the organization")
            .needs("admin:org/settings")
            .changes("organization.edit")
            .takes::<EditOrg>()
            .gives::<Written<Org>>(),
        on_installation(post("/v1/organizations", "create_organization", create))
            .says("Create an organization; bootstrapping it enables its API keys")
            .needs(ADMIN)
            .changes("organization.create")
            .takes::<CreateOrg>()
            .creates::<Written<Org>>(),
        on_installation(get("/v1/organizations", "list_organizations", list))
            .says("List all organizations")
            .needs("read:installation/organizations")
            .asks::<ListQuery>()
            .gives::<Listed<Org>>(),
        on_installation(get("/v1/organizations/{org}", "get_any_organization", show))
            .says("Show an organization, by id or slug")
            .needs("read:installation/organizations")
            .gives::<Org>(),
        on_installation(post(
            "/v1/organizations/{org}/bootstrap",
            "bootstrap_organization",
            bootstrap,
        ))
        .says("Enable the API keys of an organization, once")
        .needs(ADMIN)
        .changes("organization.bootstrap")
        .takes::<BootstrapOrg>()
        .gives::<Written<Org>>(),
        on_installation(post("/v1/organizations/{org}/suspend", "suspend_organization", suspend))
            .says("Suspend an organization: its API keys get no token")
            .needs(ADMIN)
            .changes("organization.suspend")
            .gives::<Written<Org>>(),
        on_installation(post("/v1/organizations/{org}/resume", "resume_organization", resume))
            .says("Let a suspended organization go on")
            .needs(ADMIN)
            .changes("organization.resume")
            .gives::<Written<Org>>(),
    ]
}

async fn show_own(read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_org(&read.actor, read.org).await?))
}

async fn edit(write: Write<EditOrg>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_org(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |org| org))
}

async fn create(write: Write<CreateOrg>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_org(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |org| org))
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let page = read.service().list_orgs(&read.actor, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |org| org)?))
}

async fn show(Path(org): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_any_org(&read.actor, &org).await?))
}

async fn bootstrap(Path(org): Path<String>, write: Write<BootstrapOrg>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.bootstrap_org(&write.call, &org, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |org| org))
}

async fn suspend(Path(org): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_org(&write.call, &org, true).await?;
    Ok(written(changed, StatusCode::OK, |org| org))
}

async fn resume(Path(org): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().suspend_org(&write.call, &org, false).await?;
    Ok(written(changed, StatusCode::OK, |org| org))
}
