//! `POST /v1/keys/import`: a file comes in as it is read, and a report goes out line by line. Neither
//! is ever held as a whole, and the request takes as long as bytes flow.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::http::App;
use crate::http::api::answer::streamed;
use crate::http::api::guard::Admitted;
use crate::http::api::operation::{Operation, post};
use crate::http::api::request::{Flag, admitted, idempotency_of};
use crate::http::error::problem;
use crate::http::listener::Patience;
use crate::model::ask::asks;
use crate::model::import::{
    ImportApiKey, ImportApiKeys, ImportFormat, ImportSummary, ImportedLine,
};
use crate::service::call::Call;

/// Chunks of the body that are read ahead.
const CHUNKS: usize = 4;
/// Bytes of the report that wait for a client which first sends all of its file and then reads.
const WAITING: usize = 16 * 1024 * 1024;
/// Lines of the report that are taken at once.
const LINES_AT_ONCE: usize = 200;
/// After so long without a line, an empty one says that the import goes on.
const SILENCE: Duration = Duration::from_secs(10);
/// Bytes that are read and thrown away once a file is refused: a client that is still sending would
/// not see the answer.
const DISCARDED: usize = 64 * 1024 * 1024;

asks! {
    /// How to import.
    struct ImportQuery {
        /// Whether nothing is stored unless every line is good.
        atomic: Flag,
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        post("/v1/keys/import", "import_api_keys", import)
            .says(
                "Import API keys of another service by their SHA-256 digests, one a line; the \
                 answer tells what became of each line, and of all in its last line",
            )
            .needs("admin:org/keys/*")
            .changes("api_key.import")
            .asks::<ImportQuery>()
            .takes::<ImportApiKey>()
            .gives::<ImportedLine>()
            .by_lines()
            .once(),
    ]
}

async fn import(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let (call, ask) = match begin(&mut head) {
        Ok(begun) => begun,
        Err(refused) => return *refused,
    };
    let patience = head.extensions.remove::<Patience>();
    patience.iter().for_each(Patience::wait);
    let (send, bytes) = mpsc::channel(CHUNKS);
    let (tell, report) = mpsc::channel(LINES_AT_ONCE);
    tokio::spawn(read_body(body, (app.body_deadline, patience), send));
    let service = app.service.clone();
    let importing =
        tokio::spawn(async move { service.import_api_keys(&call, ask, bytes, tell).await });
    answer(importing, report).await
}

fn begin(head: &mut Parts) -> std::result::Result<(Call, ImportApiKeys), Box<Response<Body>>> {
    let headers = &head.headers;
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = media_type.unwrap_or_default().parse::<ImportFormat>();
    let format = match format {
        Ok(format) if !headers.contains_key(CONTENT_ENCODING) => format,
        Ok(_) => return Err(Box::new(unsupported("send the file as it is, not packed"))),
        Err(cause) => return Err(Box::new(unsupported(&cause.to_string()))),
    };
    call_of(head, format).map_err(|cause| Box::new(cause.into_response()))
}

fn unsupported(detail: &str) -> Response<Body> {
    problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

fn call_of(head: &mut Parts, format: ImportFormat) -> Result<(Call, ImportApiKeys)> {
    let Admitted { actor, org, mut query } = admitted(head)?;
    let dry_run = query.take_flag("dry_run");
    let ImportQuery { atomic } = query.into_ask()?;
    let atomic = atomic.is_some_and(|Flag(atomic)| atomic);
    let idempotency = idempotency_of(head, b"")?;
    let call = Call { actor, org, dry_run, idempotency, misread: Vec::new() };
    Ok((call, ImportApiKeys { format, atomic }))
}

/// Passes the body on as it comes. A client that sends nothing for too long is not waited for.
async fn read_body(
    mut body: Body,
    (deadline, patience): (Duration, Option<Patience>),
    send: mpsc::Sender<Result<Bytes>>,
) {
    let broken = |message| Some(Err(Error::invalid("", message)));
    loop {
        let part = match timeout(deadline, body.frame()).await {
            Err(_) => broken("the file breaks off: nothing came for too long"),
            Ok(Some(Err(_))) => broken("the file breaks off"),
            Ok(Some(Ok(frame))) => frame.into_data().ok().map(Ok),
            Ok(None) => return,
        };
        patience.iter().for_each(Patience::part_came);
        let Some(part) = part else { continue };
        let is_broken = part.is_err();
        if send.send(part).await.is_err() {
            return discard(body, deadline).await;
        }
        if is_broken {
            return;
        }
    }
}

async fn discard(mut body: Body, deadline: Duration) {
    let mut left = DISCARDED;
    while let Ok(Some(Ok(frame))) = timeout(deadline, body.frame()).await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}

/// The answer begins with the first line of the report, so that what is refused as a whole is
/// answered like everywhere.
async fn answer(
    importing: JoinHandle<Result<ImportSummary>>,
    mut report: mpsc::Receiver<ImportedLine>,
) -> Response<Body> {
    let (send, receive) = mpsc::channel(2);
    match report.recv().await {
        Some(first) => {
            tokio::spawn(pass_on(first, report, importing, send));
        }
        None => match ended(importing).await {
            Ok(summary) => drop(send.try_send(Ok(line(&summary).into()))),
            Err(cause) => return cause.into_response(),
        },
    }
    streamed(ImportFormat::JsonLines.media_type(), receive)
}

/// Passes the report on, and ends it with the summary. Whoever goes away ends the import, which
/// finds nobody that reads its report.
async fn pass_on(
    first: ImportedLine,
    mut report: mpsc::Receiver<ImportedLine>,
    importing: JoinHandle<Result<ImportSummary>>,
    send: mpsc::Sender<std::io::Result<Bytes>>,
) {
    let mut waiting = BytesMut::from(line(&first).as_bytes());
    let mut lines = Vec::new();
    loop {
        tokio::select! {
            place = send.reserve(), if !waiting.is_empty() => match place {
                Ok(place) => place.send(Ok(waiting.split().freeze())),
                Err(_) => return,
            },
            count = report.recv_many(&mut lines, LINES_AT_ONCE), if waiting.len() < WAITING => {
                if count == 0 {
                    break;
                }
                lines.drain(..).for_each(|told| waiting.extend_from_slice(line(&told).as_bytes()));
            }
            () = sleep(SILENCE), if waiting.is_empty() => waiting.extend_from_slice(b"\n"),
        }
    }
    let last = match ended(importing).await {
        Ok(summary) => line(&summary),
        Err(cause) => line(&json!({"status": "failed", "code": cause.code()})),
    };
    waiting.extend_from_slice(last.as_bytes());
    let _ = send.send(Ok(waiting.freeze())).await;
}

async fn ended(importing: JoinHandle<Result<ImportSummary>>) -> Result<ImportSummary> {
    importing.await.map_err(|cause| Error::Broken(cause.to_string()))?
}

fn line<T: Serialize>(told: &T) -> String {
    serde_json::to_string(told).unwrap_or_default() + "\n"
}
