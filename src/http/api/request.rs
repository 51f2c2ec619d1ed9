//! What handlers take: a call with its query and body, parsed field by field.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use ring::digest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::error::{Error, InvalidField, Result};
use crate::http::App;
use crate::http::api::guard::Admitted;
use crate::http::api::json;
use crate::http::error::problem;
use crate::http::oauth::form::{Form, decode};
use crate::model::access::Actor;
use crate::model::ask::{self, Ask, Fields, ReadAsk, asks};
use crate::model::id::OrgId;
use crate::service::Service;
use crate::service::call::{Call, Idempotency};
use crate::service::{Cursor, SealedCursor};

/// Bytes of a body at most; imports are read as they come.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Characters of an `Idempotency-Key` at most.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Rows of a page where nobody says how many.
const DEFAULT_LIMIT: u32 = 15;

/// The parameters of a URL that nobody has taken yet, and those that cannot be taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    parameters: Map<String, Value>,
    wrong: Vec<InvalidField>,
}

impl Query {
    /// Parses the text behind the `?`. A parameter that is empty, has a NUL or comes twice is told with
    /// all that is wrong besides. Empty ones are no absent ones: a variable that is empty by mistake must
    /// not make a dry run a real one, or one organization another.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that cannot be taken apart.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let form = Form::parse(text.as_bytes()).map_err(|cause| Error::invalid("", cause))?;
        let mut query = Self::default();
        for name in empty_parameters(text) {
            let message = "the parameter is empty: leave it out, or say what it shall be";
            query.refuse(&name, message);
        }
        for (name, value) in form.into_parameters() {
            if value.contains('\0') {
                query.refuse(&name, "the parameter takes no NUL");
            } else if query.parameters.contains_key(&name) {
                query.refuse(&name, "the parameter comes more than once");
            } else if !query.refuses(&name) {
                query.parameters.insert(name, Value::String(value));
            }
        }
        Ok(query)
    }

    /// Notes what is wrong with a parameter, once, and takes it away.
    pub(super) fn refuse(&mut self, name: &str, message: &str) {
        self.parameters.remove(name);
        if !self.refuses(name) {
            let field = field_of(name).into();
            self.wrong.push(InvalidField { field, message: message.to_owned() });
        }
    }

    fn refuses(&self, name: &str) -> bool {
        let field = field_of(name);
        self.wrong.iter().any(|wrong| *wrong.field == *field)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        match self.parameters.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn take_flag(&mut self, name: &'static str) -> bool {
        match self.take(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.refuse(name, "write `true` or `false`");
                false
            }
        }
    }

    /// Reads the parameters that nobody has taken.
    fn read<A: Ask>(self) -> Result<(ReadAsk<A>, Vec<InvalidField>)> {
        Ok((ask::read(Value::Object(self.parameters))?, self.wrong))
    }

    /// The same, where all has to be well.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every parameter that is wrong.
    pub(super) fn into_ask<A: Ask>(self) -> Result<A> {
        let (ReadAsk { ask, misread }, mut wrong) = self.read()?;
        wrong.extend(misread);
        ReadAsk { ask, misread: wrong }.whole()
    }
}

/// The names of parameters without a value, as `?dry_run=` and `?organization`.
fn empty_parameters(text: &str) -> impl Iterator<Item = String> {
    let parameters = text.split('&').filter(|parameter| !parameter.is_empty());
    let pairs = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    pairs.filter(|(_, value)| value.is_empty()).map(|(name, _)| {
        decode(name).map_or_else(|_| name.to_owned(), std::borrow::Cow::into_owned)
    })
}

/// A name that a caller sent, as far as it is told.
fn field_of(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Nothing is asked.
#[derive(Debug, Clone, Copy, JsonSchema)]
pub(super) struct Nothing {}

impl Ask for Nothing {
    const HAS_FIELDS: bool = false;

    fn take(_: &mut Fields) -> Self {
        Self {}
    }
}

/// A number in a URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().ok().filter(|number| (1..=200).contains(number));
        number.map(Self).ok_or_else(|| serde::de::Error::custom("expected a number from 1 to 200"))
    }
}

impl JsonSchema for Number {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 1, "maximum": 200, "default": DEFAULT_LIMIT})
    }
}

/// Yes or no in a URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err(serde::de::Error::custom("expected `true` or `false`")),
        }
    }
}

impl JsonSchema for Flag {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Flag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "boolean", "default": false})
    }
}

/// A text in a URL that is written as something of the model is.
#[derive(Debug, Clone)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        let parsed = String::deserialize(deserializer)?.parse();
        parsed.map(Self).map_err(serde::de::Error::custom)
    }
}

impl<T> JsonSchema for Text<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

/// Where a page of a list ended, of which only that is said.
#[derive(Debug, Clone)]
pub(super) struct Place<T>(pub(super) T);

impl<T: FromStr> FromStr for Place<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        text.parse().map(Self).map_err(|_| Cursor::INVALID)
    }
}

asks! {
    /// Which page of a list.
    pub(super) struct ListQuery {
        /// Things on the page.
        pub(super) limit: Number,
        /// Where the page before ended.
        pub(super) cursor: Text<Place<SealedCursor>>,
    }
}

/// The rows that a page may have, and where it starts.
pub(super) fn page_of(
    service: &Service,
    limit: Option<Number>,
    cursor: Option<Text<Place<SealedCursor>>>,
) -> Result<(u32, Option<Cursor>)> {
    Ok((limit_of(limit), cursor_of(service, cursor, false)?))
}

/// Where a page starts, in a list by name or from new to old.
pub(super) fn cursor_of(
    service: &Service,
    cursor: Option<Text<Place<SealedCursor>>>,
    by_name: bool,
) -> Result<Option<Cursor>> {
    let Some(Text(Place(sealed))) = cursor else { return Ok(None) };
    service.open_cursor(&sealed)?.of_list(by_name).map(Some)
}

pub(super) fn limit_of(limit: Option<Number>) -> u32 {
    limit.map_or(DEFAULT_LIMIT, |limit| limit.0)
}

/// A call that changes nothing.
pub(super) struct Read<Q> {
    pub(super) app: Arc<App>,
    pub(super) actor: Actor,
    pub(super) org: OrgId,
    pub(super) query: Q,
}

impl<Q> Read<Q> {
    pub(super) fn service(&self) -> &Service {
        &self.app.service
    }
}

impl<Q: Ask> FromRequestParts<Arc<App>> for Read<Q> {
    type Rejection = Response<Body>;

    async fn from_request_parts(
        head: &mut Parts,
        app: &Arc<App>,
    ) -> std::result::Result<Self, Response<Body>> {
        let Admitted { actor, org, query } = admitted(head).map_err(Error::into_response)?;
        let query = query.into_ask().map_err(Error::into_response)?;
        Ok(Self { app: app.clone(), actor, org, query })
    }
}

pub(super) fn admitted(head: &mut Parts) -> Result<Admitted> {
    let admitted = head.extensions.remove::<Admitted>();
    admitted.ok_or_else(|| Error::Broken("an operation without its guard".to_owned()))
}

/// A call that changes something.
pub(super) struct Write<A> {
    pub(super) app: Arc<App>,
    pub(super) call: Call,
    pub(super) ask: A,
}

impl<A> Write<A> {
    pub(super) fn service(&self) -> &Service {
        &self.app.service
    }
}

impl<A: Ask> FromRequest<Arc<App>> for Write<A> {
    type Rejection = Response<Body>;

    async fn from_request(
        request: Request,
        app: &Arc<App>,
    ) -> std::result::Result<Self, Response<Body>> {
        let (mut head, body) = request.into_parts();
        let body = read_body(app, &head.headers, body).await?;
        let (call, ask) = call_of(&mut head, &body).map_err(Error::into_response)?;
        Ok(Self { app: app.clone(), call, ask })
    }
}

asks! {
    /// How a change is made.
    struct WriteQuery {
        /// Whether nothing is stored.
        dry_run: Flag,
    }
}

/// A call, and what it asks. What cannot be read of a body with fields is told by the use case, with
/// all that is wrong besides.
fn call_of<A: Ask>(head: &mut Parts, body: &[u8]) -> Result<(Call, A)> {
    let Admitted { actor, org, query } = admitted(head)?;
    let asked = if body.is_empty() {
        Value::Object(Map::new())
    } else {
        json::parse(body)
            .map_err(|_| Error::invalid("", "the body is no JSON, or names a field twice"))?
    };
    let idempotency = idempotency_of(head, body)?;
    let (how, wrong) = query.read::<WriteQuery>()?;
    let dry_run = how.ask.dry_run.is_some_and(|Flag(dry_run)| dry_run);
    let ReadAsk { ask, misread } =
        if head.method == Method::PATCH { ask::read_change(asked)? } else { ask::read(asked)? };
    // which organization is meant may not be known, so that nothing is looked up in any
    let is_unclear = !wrong.is_empty();
    let misread: Vec<_> = wrong.into_iter().chain(how.misread).chain(misread).collect();
    if is_unclear || (!A::HAS_FIELDS && !misread.is_empty()) {
        return Err(Error::Invalid(misread));
    }
    Ok((Call { actor, org, dry_run, idempotency, misread }, ask))
}

pub(super) fn idempotency_of(head: &Parts, body: &[u8]) -> Result<Option<Idempotency>> {
    let mut values = head.headers.get_all("idempotency-key").iter();
    let wrong = || {
        Error::invalid(
            "Idempotency-Key",
            format!("send one of 1 to {MAX_IDEMPOTENCY_KEY} printable characters"),
        )
    };
    let key = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| wrong())?,
        (Some(_), Some(_)) => return Err(wrong()),
    };
    // a header may hold a tab too, which is no printable character
    let is_printable = key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY || !is_printable {
        return Err(wrong());
    }
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(path.as_bytes());
    hash.update(&[0]);
    hash.update(body);
    let hash = hash.finish();
    Ok(Some(Idempotency {
        key: key.to_owned(),
        route: format!("{} {}", head.method, head.uri.path()),
        hash: URL_SAFE_NO_PAD.encode(hash),
    }))
}

async fn read_body(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> std::result::Result<Vec<u8>, Response<Body>> {
    let collected = timeout(app.body_deadline, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    let body = match collected {
        Err(_) => {
            let detail = "the body did not come in time";
            return Err(problem(StatusCode::REQUEST_TIMEOUT, "too_slow", detail));
        }
        Ok(Err(cause)) if cause.is::<http_body_util::LengthLimitError>() => {
            let detail = "the body is over 64 KiB";
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
        }
        Ok(Err(_)) => {
            let detail = "the body breaks off or is malformed";
            return Err(problem(StatusCode::BAD_REQUEST, "invalid_request", detail));
        }
        Ok(Ok(body)) => body.to_bytes().to_vec(),
    };
    if body.is_empty() || is_json(headers) {
        return Ok(body);
    }
    let detail = "send the body as application/json, not packed";
    Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json") && !headers.contains_key(CONTENT_ENCODING)
}
