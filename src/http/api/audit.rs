//! `/v1/audit`: who did what, page by page or all of it as JSON lines.

use std::sync::Arc;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::ACCEPT;
use http::{HeaderMap, Response};
use tokio::sync::mpsc;

use crate::error::Result;
use crate::http::App;
use crate::http::api::answer::{Listed, shown, streamed};
use crate::http::api::operation::{Operation, Plane, get};
use crate::http::api::request::{Number, Place, Read, Text, limit_of};
use crate::model::access::Actor;
use crate::model::ask::asks;
use crate::model::audit::AuditEntry;
use crate::model::id::{ApiKeyId, AuditId, OrgId};
use crate::model::owner::OwnerId;
use crate::model::time::Timestamp;
use crate::service::audit::AuditFilter;
use crate::service::follow::{TRANSACTION_TIMEOUT, within};

asks! {
    /// Which entries a list shows.
    struct AuditQuery {
        /// Of this actor.
        actor: Text<OwnerId>,
        /// With this API key, by itself or by a token of it.
        api_key: Text<ApiKeyId>,
        /// On this object.
        object: String,
        /// Of actions that start so, as `api_key.`.
        action: String,
        /// `done`, or the code of a refusal.
        outcome: String,
        /// Not before this moment.
        since: Text<Timestamp>,
        /// Before this moment.
        until: Text<Timestamp>,
        /// Entries on the page.
        limit: Number,
        /// Where the page before ended.
        cursor: Text<Place<AuditId>>,
    }
}

impl AuditQuery {
    fn filter(&self, org: Option<OrgId>) -> AuditFilter {
        let moment = |text: &Option<Text<Timestamp>>| text.as_ref().map(|Text(moment)| *moment);
        AuditFilter {
            org,
            actor: self.actor.as_ref().map(|Text(actor)| actor.to_string()),
            api_key: self.api_key.as_ref().map(|Text(api_key)| api_key.to_string()),
            object: self.object.clone(),
            action: self.action.clone(),
            outcome: self.outcome.clone(),
            since: moment(&self.since),
            until: moment(&self.until),
        }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/v1/audit", "list_audit", list)
            .says("List the audit, from new to old; all of it as JSON lines where `Accept` is application/x-ndjson")
            .needs("read:org/audit")
            .asks::<AuditQuery>()
            .gives::<Listed<AuditEntry>>(),
        get("/v1/installation/audit", "list_installation_audit", list_installation)
            .says("List what was done to the installation itself")
            .on_plane(Plane::Installation)
            .needs("read:installation/audit")
            .asks::<AuditQuery>()
            .gives::<Listed<AuditEntry>>(),
    ]
}

async fn list(headers: HeaderMap, read: Read<AuditQuery>) -> Result<Response<Body>> {
    let org = read.org;
    answer(&headers, read, Some(org)).await
}

async fn list_installation(headers: HeaderMap, read: Read<AuditQuery>) -> Result<Response<Body>> {
    answer(&headers, read, None).await
}

async fn answer(
    headers: &HeaderMap,
    read: Read<AuditQuery>,
    org: Option<OrgId>,
) -> Result<Response<Body>> {
    let filter = read.query.filter(org);
    let before = read.query.cursor.as_ref().map(|Text(Place(before))| *before);
    let page = (limit_of(read.query.limit), before);
    let (entries, next) = read.service().list_audit(&read.actor, &filter, page).await?;
    let wants_lines = headers.get(ACCEPT).is_some_and(|value| value == "application/x-ndjson");
    if !wants_lines {
        return Ok(shown(&Listed::new(entries, next.map(|next| next.to_string()))).into_response());
    }
    // the first page was read, so whoever may not read any is told so before a line is sent
    Ok(exported(read.app, read.actor, filter))
}

/// Entries that are read at once for an export.
const EXPORTED_AT_ONCE: u32 = 200;

/// All entries as JSON lines, read page by page as the caller takes them.
fn exported(app: Arc<App>, mut actor: Actor, filter: AuditFilter) -> Response<Body> {
    let (send, receive) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut before = None;
        loop {
            let page = (EXPORTED_AT_ONCE, before);
            let read = match app.service.identify_again(&mut actor) {
                // no request waits for it
                Ok(()) => {
                    within(TRANSACTION_TIMEOUT, app.service.list_audit(&actor, &filter, page)).await
                }
                Err(cause) => Err(cause),
            };
            let (entries, next) = match read {
                Ok(read) => read,
                Err(cause) => {
                    // breaks the answer off, which a reader can tell from its end
                    let _ = send.send(Err(std::io::Error::other(cause))).await;
                    return;
                }
            };
            let lines = entries.iter().map(line).collect::<String>();
            if send.send(Ok(lines.into())).await.is_err() || next.is_none() {
                return;
            }
            before = next;
        }
    });
    streamed("application/x-ndjson", receive)
}

fn line(entry: &AuditEntry) -> String {
    serde_json::to_string(entry).unwrap_or_default() + "\n"
}
