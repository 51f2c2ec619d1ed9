//! `POST /oauth/token`: an API key in, a token out (RFC 6749, section 4.4).

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, PRAGMA, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::http::client_ip::Peer;
use crate::http::oauth::client_auth::{self, Way};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::{Form, FormIn};
use crate::http::oauth::rate_limit;
use crate::http::{App, json_answer_in};
use crate::mint::{Caller, IssuedToken, TokenRequest, Unrecorded};
use crate::service::quotas::with_lease;

/// Where.
pub(in crate::http) const PATH: &str = "/oauth/token";
const FORM: &str = "application/x-www-form-urlencoded";
/// Bytes of a body at most.
const MAX_BODY_BYTES: usize = 8 * 1024;
/// Headers that a connection keeps room for.
const KEPT_HEADERS: usize = 16;

/// A body as it is sent, in a box of the router or without.
pub(in crate::http) trait Sent:
    HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin
{
}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin> Sent for B {}

/// The answer to a request that came from there.
pub(in crate::http) async fn create(
    app: &App,
    peer: Peer,
    request: &mut Request<impl Sent>,
) -> Response<Body> {
    let address = app.address_of(peer, request.headers());
    match issue(app, address, request).await {
        Ok(response) => {
            app.requests.issued();
            response
        }
        Err(refused) => {
            let refused = refused.throttled(app, address);
            app.requests.refused(refused.reason);
            refused.into_response()
        }
    }
}

/// The answer that shows a token, once that is on record.
async fn issue(
    app: &App,
    address: Option<IpAddr>,
    request: &mut Request<impl Sent>,
) -> Result<Response<Body>, OAuthError> {
    let user_agent = request.headers().get(USER_AGENT).cloned();
    let caller = caller(user_agent.as_ref(), address);
    let (unrecorded, way) = sign(app, caller, request).await?;
    let began_at = app.begins();
    let mut response = unrecorded.await.map_err(|refused| OAuthError::of(refused, way, None))?;
    if let Some(began_at) = began_at {
        response.extensions_mut().insert(app.ended("ledger.record", began_at));
    }
    Ok(response)
}

/// The answer that shows a token before that is on record, and the way by which the client was told. All
/// else of the request is over with this: hundreds wait for their record at once, and each holds its
/// answer alone.
async fn sign<'m>(
    app: &'m App,
    caller: Caller<'m>,
    request: &mut Request<impl Sent>,
) -> Result<(Unrecorded<'m, Response<Body>>, Way), OAuthError> {
    if request.method() != Method::POST {
        return Err(OAuthError::method_not_allowed());
    }
    check_head(request.headers(), FORM, MAX_BODY_BYTES)?;
    let body = read_body(request.body_mut(), MAX_BODY_BYTES, app.body_deadline).await?;
    let mut form = FormIn::parse_in(&body).map_err(OAuthError::invalid_request)?;
    form.refuse_repeated().map_err(OAuthError::invalid_request)?;
    let (client, way) = client_auth::take(request.headers(), &mut form)?;
    check_grant_type(form.take_text("grant_type").as_deref())?;
    let asked = TokenRequest {
        client,
        scope: form.take("scope"),
        resources: form.take_all("resource"),
        audience: form.take("audience"),
    };
    let issue = || app.mint.issue(&asked, caller, app.clock.now());
    let issued = with_lease(app.mint.quotas(), issue).await;
    let issued = issued.map_err(|refused| OAuthError::of(refused, way, asked.scope.as_deref()))?;
    let headers = std::mem::take(request.headers_mut());
    Ok((issued.map(|issued| shown(&issued, emptied(headers))), way))
}

/// The parameters of a body.
pub(super) async fn read_form(
    app: &App,
    headers: &HeaderMap,
    body: impl Sent,
) -> Result<Form, OAuthError> {
    check_head(headers, FORM, MAX_BODY_BYTES)?;
    let body = read_body(body, MAX_BODY_BYTES, app.body_deadline).await?;
    Form::parse(&body).map_err(OAuthError::invalid_request)
}

/// A body of JSON, of so many bytes at most.
pub(super) async fn read_json(
    app: &App,
    headers: &HeaderMap,
    (body, max_bytes): (impl Sent, usize),
) -> Result<Bytes, OAuthError> {
    check_head(headers, "application/json", max_bytes)?;
    read_body(body, max_bytes, app.body_deadline).await
}

/// Who asks: from this address, where it is known, and under the name the client gives itself.
pub(in crate::http) fn caller_of(headers: &HeaderMap, address: Option<IpAddr>) -> Caller<'_> {
    caller(headers.get(USER_AGENT), address)
}

fn caller(user_agent: Option<&HeaderValue>, address: Option<IpAddr>) -> Caller<'_> {
    let user_agent = user_agent.map(HeaderValue::as_bytes);
    Caller { address, user_agent: user_agent.and_then(|bytes| std::str::from_utf8(bytes).ok()) }
}

/// The media type in any case, with no charset or with UTF-8, and never packed: unpacking is how a small
/// body becomes a large one.
fn check_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), OAuthError> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(OAuthError::unsupported_media_type(wanted));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return Err(OAuthError::unsupported_media_type(wanted));
    };
    let value = value.to_str().map_err(|_| OAuthError::unsupported_media_type(wanted))?;
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    let is_wanted = media_type.trim().eq_ignore_ascii_case(wanted);
    let parameter = parameters.trim().to_ascii_lowercase();
    let is_utf8 = matches!(parameter.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    if is_wanted && is_utf8 { Ok(()) } else { Err(OAuthError::unsupported_media_type(wanted)) }
}

fn check_grant_type(grant_type: Option<&str>) -> Result<(), OAuthError> {
    match grant_type {
        Some("client_credentials") => Ok(()),
        Some(_) => Err(OAuthError::unsupported_grant_type()),
        None => Err(OAuthError::invalid_request("grant_type is missing: send client_credentials")),
    }
}

/// What is known of a body before it is read: its media type, and that it is not announced as too large.
fn check_head(headers: &HeaderMap, wanted: &str, max_bytes: usize) -> Result<(), OAuthError> {
    check_media_type(headers, wanted)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > max_bytes) {
        return Err(OAuthError::too_large(max_bytes));
    }
    Ok(())
}

/// Reads a body that turns out to be small enough. One that is there already, which is nearly every one,
/// starts no timer.
async fn read_body(
    body: impl Sent,
    max_bytes: usize,
    deadline: Duration,
) -> Result<Bytes, OAuthError> {
    let mut collecting = pin!(collect(Limited::new(body, max_bytes)));
    let collected = if let Some(collected) = at_once(collecting.as_mut()).await {
        collected
    } else {
        // boxed, or each request would keep room for a timer
        let collected = Box::pin(timeout(deadline, collecting)).await;
        collected.map_err(|_| OAuthError::too_slow())?
    };
    match collected {
        Ok(body) => Ok(body),
        Err(cause) if cause.is::<LengthLimitError>() => Err(OAuthError::too_large(max_bytes)),
        Err(_) => Err(OAuthError::invalid_request("the body breaks off or is malformed")),
    }
}

/// What a future comes to without waiting.
async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// All bytes of a body. It is one part, nearly always, which stays as it came.
async fn collect<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, B::Error> {
    let Some(first) = body.frame().await else { return Ok(Bytes::new()) };
    let first = first?.into_data().unwrap_or_default();
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut all = Vec::from(first);
    while let Some(frame) = body.frame().await {
        all.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    Ok(all.into())
}

/// The headers of a request as room for those of its answer, which the connection then has for its next
/// request. Not where they were very many: each connection would keep room for as many.
fn emptied(mut headers: HeaderMap) -> HeaderMap {
    if headers.capacity() > KEPT_HEADERS {
        return HeaderMap::new();
    }
    headers.clear();
    headers
}

/// The answer of RFC 6749, section 5.1. No member needs an escape: a token is base64url, a scope
/// holds no quote and no backslash.
fn shown(issued: &IssuedToken, headers: HeaderMap) -> Response<Body> {
    let IssuedToken { access_token, expires_in, scope, rate_limit } = issued;
    let expires_in = expires_in.to_string();
    // in one piece of the right size
    let body = [
        r#"{"access_token":""#,
        access_token.as_str(),
        r#"","token_type":"Bearer","expires_in":"#,
        &expires_in,
        r#","scope":""#,
        scope.as_str(),
        r#""}"#,
    ]
    .concat();
    let mut response = json_answer_in(headers, StatusCode::OK, body);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if let Some(rate_limit) = rate_limit {
        rate_limit::add(response.headers_mut(), rate_limit);
    }
    response
}
