//! `/v1/gateway-policies`: what requests need that come to an API through a gateway.

use axum::extract::Path;
use http::StatusCode;

use crate::error::Result;
use crate::http::api::answer::{Answer, Listed, Written, shown, written};
use crate::http::api::operation::{Operation, delete, get, patch, post};
use crate::http::api::request::{ListQuery, Nothing, Read, Write, page_of};
use crate::model::gateway_policy::{CreateGatewayPolicy, EditGatewayPolicy, GatewayPolicy};

pub(super) fn operations() -> Vec<Operation> {
    const READ: &str = "read:org/gateway-policies/{id}";
    const ADMIN: &str = "admin:org/gateway-policies/{id}";
    vec![
        post("/v1/gateway-policies", "create_gateway_policy", create)
            .says("Make a policy under which gateways ask at /forward-auth")
            .needs(ADMIN)
            .changes("gateway_policy.create")
            .takes::<CreateGatewayPolicy>()
            .creates::<Written<GatewayPolicy>>(),
        get("/v1/gateway-policies", "list_gateway_policies", list)
            .says("List gateway policies, from new to old")
            .needs(READ)
            .asks::<ListQuery>()
            .gives::<Listed<GatewayPolicy>>(),
        get("/v1/gateway-policies/{policy}", "get_gateway_policy", show)
            .says("Show a gateway policy, by id or name")
            .needs(READ)
            .gives::<GatewayPolicy>(),
        patch("/v1/gateway-policies/{policy}", "edit_gateway_policy", edit)
            .says("Change a gateway policy, at once for every gateway")
            .needs(ADMIN)
            .changes("gateway_policy.edit")
            .takes::<EditGatewayPolicy>()
            .gives::<Written<GatewayPolicy>>(),
        delete("/v1/gateway-policies/{policy}", "delete_gateway_policy", remove)
            .says("Delete a gateway policy: what gateways ask under it is refused")
            .needs(ADMIN)
            .changes("gateway_policy.delete")
            .gives::<Written<GatewayPolicy>>(),
    ]
}

async fn create(write: Write<CreateGatewayPolicy>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.create_gateway_policy(&write.call, write.ask).await?;
    Ok(written(changed, StatusCode::CREATED, |policy| policy))
}

async fn list(read: Read<ListQuery>) -> Result<Answer> {
    let page = page_of(read.service(), read.query.limit, read.query.cursor.clone())?;
    let page = read.service().list_gateway_policies(&read.actor, read.org, page).await?;
    Ok(shown(&Listed::of(read.service(), page, |policy| policy)?))
}

async fn show(Path(policy): Path<String>, read: Read<Nothing>) -> Result<Answer> {
    Ok(shown(&read.service().get_gateway_policy(&read.actor, read.org, &policy).await?))
}

async fn edit(Path(policy): Path<String>, write: Write<EditGatewayPolicy>) -> Result<Answer> {
    let service = write.service().clone();
    let changed = service.edit_gateway_policy(&write.call, &policy, write.ask).await?;
    Ok(written(changed, StatusCode::OK, |policy| policy))
}

async fn remove(Path(policy): Path<String>, write: Write<Nothing>) -> Result<Answer> {
    let changed = write.service().delete_gateway_policy(&write.call, &policy).await?;
    Ok(written(changed, StatusCode::OK, |policy| policy))
}
