//! What handlers give: a thing, a page, or what a dry run would change.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Frame;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::error::Result;
use crate::http::json_answer;
use crate::model::audit::SideChange;
use crate::service::call::Changed;
use crate::service::{Page, Service};

/// Any answer of the management API.
pub(super) struct Answer {
    status: StatusCode,
    body: String,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response<Body> {
        json_answer(self.status, self.body)
    }
}

/// A thing that is there.
pub(super) fn shown<T: Serialize>(thing: &T) -> Answer {
    Answer { status: StatusCode::OK, body: text_of(thing) }
}

/// An answer that is made while it is sent.
struct Lines(mpsc::Receiver<std::io::Result<Bytes>>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

/// What comes through a channel, as it comes.
pub(super) fn streamed(
    media_type: &'static str,
    parts: mpsc::Receiver<std::io::Result<Bytes>>,
) -> Response<Body> {
    let mut response = json_answer(StatusCode::OK, Body::new(Lines(parts)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Listed<T> {
    /// The things on the page.
    items: Vec<T>,
    /// Where the next page starts; `null` where there is no more. A page may be short.
    next_cursor: Option<String>,
}

impl<T> Listed<T> {
    pub(super) fn new(items: Vec<T>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor }
    }

    pub(super) fn of<S>(
        service: &Service,
        page: Page<S>,
        into: impl FnMut(S) -> T,
    ) -> Result<Self> {
        let next_cursor = page.next.map(|cursor| service.seal_cursor(&cursor)).transpose()?;
        Ok(Self { items: page.items.into_iter().map(into).collect(), next_cursor })
    }
}

/// What a write answers: the thing as it is now, or what a dry run would change.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the shape of the answer, for the document; `written` makes it")]
pub(super) enum Written<T> {
    /// The thing as it is now.
    Stored(Stored<T>),
    /// What would change.
    DryRun(DryRun<T>),
}

/// A thing that was stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stored<T> {
    #[serde(flatten)]
    thing: T,
    /// What the caller should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    warnings: Vec<String>,
}

/// What a dry run would change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DryRun<T> {
    /// Always true.
    #[serde(rename = "dry_run")]
    is_dry: bool,
    /// Each field that would change.
    changes: Vec<FieldChange>,
    /// What would change besides: roles and bots that come along, keys that are revoked.
    also: Vec<SideChange>,
    /// What the caller should know.
    warnings: Vec<String>,
    /// The thing as it would be; of one that goes, as it is.
    after: T,
}

/// One field before and after.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FieldChange {
    /// Its name.
    field: String,
    /// As it is; `null` where there is nothing yet.
    before: Value,
    /// As it would be.
    after: Value,
}

/// The answer to a write.
pub(super) fn written<T, B: Serialize>(
    changed: Changed<T>,
    status: StatusCode,
    mut into: impl FnMut(T) -> B,
) -> Answer {
    let Changed { before, after, warnings, also, is_gone, dry_run } = changed;
    if !dry_run {
        let stored = Stored { thing: into(after), warnings };
        return Answer { status, body: text_of(&stored) };
    }
    let before = before.map(&mut into);
    let after = into(after);
    let before = before.as_ref().map(value_of).unwrap_or_default();
    let would = DryRun {
        is_dry: true,
        changes: if is_gone { ending(before) } else { differing(before, value_of(&after)) },
        also,
        warnings,
        after,
    };
    Answer { status: StatusCode::OK, body: text_of(&would) }
}

fn fields_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The fields of a thing that goes.
fn ending(before: Value) -> Vec<FieldChange> {
    let gone = |(field, before)| FieldChange { field, before, after: Value::Null };
    fields_of(before).into_iter().filter(|(_, before)| !before.is_null()).map(gone).collect()
}

/// The fields that differ.
fn differing(before: Value, after: Value) -> Vec<FieldChange> {
    let mut fields_before = fields_of(before);
    fields_of(after)
        .into_iter()
        .map(|(field, after)| {
            let before = fields_before.remove(&field).unwrap_or_default();
            FieldChange { field, before, after }
        })
        .filter(|change| change.before != change.after)
        .collect()
}

fn value_of<T: Serialize>(thing: &T) -> Value {
    serde_json::to_value(thing).unwrap_or_default()
}

/// What is answered is made of texts, numbers and lists, which always become JSON.
fn text_of<T: Serialize>(thing: &T) -> String {
    serde_json::to_string(thing).unwrap_or_default()
}
