//! The management API, `/v1`: one table of operations, which is the router and the OpenAPI document
//! at once. Each noun has a file of its own.

mod answer;
mod api_keys;
mod audiences;
mod audit;
mod bots;
mod gateway_policies;
mod guard;
mod import;
mod installation;
mod json;
mod migration;
pub mod openapi;
mod operation;
mod orgs;
mod request;
mod roles;
mod signing_keys;
mod spaces;
mod usage;
mod users;
mod whoami;

use std::sync::Arc;

use axum::Router;

use crate::http::App;
use crate::http::api::operation::Operation;

/// All operations, noun by noun.
fn operations() -> Vec<Operation> {
    [
        whoami::operations(),
        api_keys::operations(),
        import::operations(),
        usage::operations(),
        migration::operations(),
        orgs::operations(),
        spaces::operations(),
        audiences::operations(),
        gateway_policies::operations(),
        users::operations(),
        bots::operations(),
        roles::operations(),
        audit::operations(),
        installation::operations(),
        signing_keys::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The paths of the table, each with `{id}` for what it names, and some more than once.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    operations().into_iter().map(|operation| operation.path)
}

/// The routes of the table.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    operations().into_iter().fold(Router::new(), |router, operation| operation.add_to(router, app))
}
