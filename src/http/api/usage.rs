//! `/v1/usage` and the usage of one key: what was issued and what was refused.

use axum::extract::Path;

use crate::error::Result;
use crate::http::api::answer::{Answer, shown};
use crate::http::api::api_keys::id_of;
use crate::http::api::operation::{Operation, get};
use crate::http::api::request::Read;
use crate::model::ask::asks;
use crate::service::usage::{GetUsage, UsageReport};

asks! {
    /// Which usage is told.
    struct UsageQuery {
        /// From this moment on, back to the start of its hour or day.
        since: String,
        /// To before this moment, ahead to the end of its hour or day.
        until: String,
        /// By `hour` or by `day`.
        by: String,
    }
}

impl UsageQuery {
    fn ask(&self) -> GetUsage {
        GetUsage { since: self.since.clone(), until: self.until.clone(), by: self.by.clone() }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/v1/keys/{id}/usage", "get_api_key_usage", show_api_key)
            .says("Show what an API key was issued and refused, by the hour or day")
            .needs("read:org/keys/{id}")
            .asks::<UsageQuery>()
            .gives::<UsageReport>(),
        get("/v1/usage", "get_usage", show_org)
            .says("Show what the keys of the organization were issued and refused")
            .needs("read:org/usage")
            .asks::<UsageQuery>()
            .gives::<UsageReport>(),
    ]
}

async fn show_api_key(Path(id): Path<String>, read: Read<UsageQuery>) -> Result<Answer> {
    let of = (read.org, &id_of(&id)?);
    let report = read.service().get_api_key_usage(&read.actor, of, &read.query.ask()).await?;
    Ok(shown(&report))
}

async fn show_org(read: Read<UsageQuery>) -> Result<Answer> {
    let ask = read.query.ask();
    Ok(shown(&read.service().get_org_usage(&read.actor, &read.org, &ask).await?))
}
