//! The management API from outside: how a request is written, and what an answer means.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::server::Server;
use crate::http::client::{Body, Client, NoAnswer};

/// What the audit calls this program.
const PROGRAM: &str = concat!("tenmint/", env!("CARGO_PKG_VERSION"));

/// A request to the management API.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    idempotency_key: Option<String>,
}

impl Request {
    fn new(method: Method, path: &[&str]) -> Self {
        // a segment is what somebody typed: whatever it is, it stays one segment
        let path = path.iter().map(|segment| format!("/{}", encoded(segment)));
        Self {
            method,
            path: format!("/v1{}", path.collect::<String>()),
            query: Vec::new(),
            body: None,
            idempotency_key: None,
        }
    }

    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn put(path: &[&str]) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(super) fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub(super) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// A parameter, where there is one.
    pub(super) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(super) fn dry_run(self, dry_run: bool) -> Self {
        self.query("dry_run", dry_run.then_some(true))
    }

    pub(super) fn body(mut self, fields: Fields) -> Self {
        self.body = Some(Value::Object(fields.0));
        self
    }

    /// A repeat under the same key does it once.
    pub(super) fn once(mut self, idempotency_key: Option<String>) -> Self {
        self.idempotency_key = idempotency_key;
        self
    }

    /// Whether it is about one organization, and does not say which yet.
    fn lacks_organization(&self) -> bool {
        let noun = self.path.split('/').nth(2).unwrap_or_default();
        !["installation", "organizations", "whoami"].contains(&noun)
            && !self.query.iter().any(|(name, _)| *name == "organization")
    }

    /// Path and query.
    fn target(&self, organization: Option<&str>) -> String {
        let organization = organization.filter(|_| self.lacks_organization());
        let organization = organization.map(|name| ("organization", name));
        let query = self.query.iter().map(|(name, value)| (*name, value.as_str()));
        let pairs: Vec<String> = query
            .chain(organization)
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.path, pairs.join("&"))
    }
}

/// All but what ids and slugs are made of; a full stop too, since `..` means something in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

/// The fields of a body; those that nobody named are left out.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn with<T: Serialize>(mut self, name: &'static str, value: Option<T>) -> Self {
        // texts, numbers and lists of them always become JSON
        if let Some(value) = value.and_then(|value| serde_json::to_value(value).ok()) {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A server, the key that is shown to it, and the organization that is meant.
#[derive(Debug)]
pub(super) struct Api {
    server: Server,
    organization: Option<String>,
    client: Client,
}

impl Api {
    pub(super) fn new(server: Server, organization: Option<String>) -> Result<Self> {
        let uri: Uri = server.url.parse().map_err(|_| Failure::usage("the server has no URL"))?;
        let client = Client::of(&uri).map_err(|cause| unreachable(&server.url, &cause))?;
        Ok(Self { server, organization, client })
    }

    /// Where a request goes. Holds no secret: those are in headers and bodies alone.
    pub(super) fn url_of(&self, request: &Request) -> String {
        format!("{}{}", self.server.url, request.target(self.organization.as_deref()))
    }

    /// Sends a request, and reads what it gives. A refusal is a failure.
    pub(super) async fn send(&self, request: &Request) -> Result<(StatusCode, HeaderMap, Value)> {
        let body = request.body.as_ref().map(Value::to_string);
        let head = self.head_of(request, body.is_some().then_some("application/json"))?;
        let sent = head.map(|()| body.unwrap_or_default().into_bytes());
        let answer = self.client.send(sent).await.map_err(|cause| {
            let failure = unreachable(&self.server.url, &cause);
            if cause.may_be_done && request.method != Method::GET {
                failure.hint("whether it was done is not known: look before you repeat it")
            } else {
                failure
            }
        })?;
        let (head, body) = answer.into_parts();
        if !head.status.is_success() {
            return Err(refusal(&self.server.url, head.status, &head.headers, &body));
        }
        let value = serde_json::from_slice(&body).map_err(|_| not_tenmint(&self.server.url))?;
        Ok((head.status, head.headers, value))
    }

    /// Sends what comes through a body, and gives the answer as it comes.
    pub(super) async fn stream(
        &self,
        request: &Request,
        media_type: &'static str,
        body: Body,
    ) -> Result<Response<Body>> {
        let sent = self.head_of(request, Some(media_type))?.map(|()| body);
        let answer = self.client.stream(sent).await;
        answer.map_err(|cause| unreachable(&self.server.url, &cause))
    }

    /// What an answer means that is no success.
    pub(super) fn refusal(&self, head: &http::response::Parts, body: &[u8]) -> Failure {
        refusal(&self.server.url, head.status, &head.headers, body)
    }

    /// What is said where the answer breaks off.
    pub(super) fn broken_off(&self, cause: &dyn std::fmt::Display) -> Failure {
        unreachable(&self.server.url, &NoAnswer::new(format!("the answer breaks off: {cause}")))
    }

    fn head_of(
        &self,
        request: &Request,
        media_type: Option<&'static str>,
    ) -> Result<http::Request<()>> {
        let wrong = |_| Failure::usage("the API key or a value holds what no request can");
        let bearer = format!("Bearer {}", self.server.api_key.as_str());
        let mut bearer = HeaderValue::from_str(&bearer)
            .map_err(|_| Failure::usage("what is set as API key is none"))?;
        bearer.set_sensitive(true);
        let mut head = http::Request::builder()
            .method(request.method.clone())
            .uri(self.url_of(request))
            .header(AUTHORIZATION, bearer)
            .header(USER_AGENT, PROGRAM)
            .header(ACCEPT, "application/json");
        if let Some(media_type) = media_type {
            head = head.header(CONTENT_TYPE, media_type);
        }
        if let Some(key) = &request.idempotency_key {
            head = head.header("idempotency-key", key);
        }
        head.body(()).map_err(wrong)
    }
}

fn unreachable(server: &str, cause: &NoAnswer) -> Failure {
    Failure::new(Exit::Unavailable, format!("the server {server} does not answer: {cause}"))
}

fn not_tenmint(server: &str) -> Failure {
    Failure::new(Exit::Failed, format!("what answers at {server} is not tenmint"))
}

/// A problem document (RFC 9457), as far as it is read.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<WrongField>,
}

#[derive(Deserialize)]
struct WrongField {
    field: String,
    message: String,
}

fn refusal(server: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let exit = Exit::of_status(status);
    if status.is_redirection() {
        let place = header(LOCATION).unwrap_or("another place");
        return Failure::new(exit, format!("the server {server} redirects to {place}"))
            .hint("name the place itself with `--url`: a key is not carried on");
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        return Failure::new(exit, format!("{server} answers `{status}`, and not as tenmint"));
    };
    let failure = Failure::new(exit, problem.words());
    match (status, header(RETRY_AFTER)) {
        (StatusCode::UNAUTHORIZED, _) => failure.hint(&format!(
            "`tenmint login --url {server}` takes another API key; `TENMINT_API_KEY` stands above it"
        )),
        (_, Some(seconds)) => failure.hint(&format!("try again in {seconds} s")),
        _ => failure,
    }
}

impl Problem {
    fn words(self) -> String {
        if self.errors.is_empty() {
            return format!("{} (`{}`)", self.detail, self.code);
        }
        let line = |wrong: WrongField| match wrong.field.as_str() {
            "" => wrong.message,
            field => format!("`{field}`: {}", wrong.message),
        };
        self.errors.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_typed_stays_one_segment_or_one_value() {
        let request = Request::get(&["spaces", "../keys?x=1"])
            .query("name", Some("a&b= c"))
            .query("limit", None::<u64>);
        let expected = "/v1/spaces/%2E%2E%2Fkeys%3Fx%3D1?name=a%26b%3D%20c&organization=acme%2F";
        assert_eq!(request.target(Some("acme/")), expected);
    }

    #[test]
    fn the_organization_is_said_where_one_is_meant() {
        let target = |request: Request| request.target(Some("acme"));
        assert_eq!(target(Request::get(&["organization"])), "/v1/organization?organization=acme");
        let named = Request::get(&["organization"]).query("organization", Some("own"));
        assert_eq!(target(named), "/v1/organization?organization=own");
        for path in [&["organizations"][..], &["installation", "admins"], &["whoami"]] {
            assert!(!target(Request::get(path)).contains('?'), "{path:?}");
        }
    }

    #[test]
    fn a_refusal_says_every_field_or_the_detail_and_the_code() {
        let say = |status: u16, body: &Value| {
            let status = StatusCode::from_u16(status).unwrap();
            let failure =
                refusal("http://x", status, &HeaderMap::new(), body.to_string().as_bytes());
            (failure.exit, failure.to_string())
        };
        let wrong = json!({"code": "invalid_request", "detail": "..", "errors": [
            {"field": "name", "message": "too long"}, {"field": "", "message": "send JSON"}]});
        assert_eq!(say(400, &wrong), (Exit::Invalid, "`name`: too long\nsend JSON".to_owned()));
        let taken = json!({"code": "slug_taken", "detail": "it is taken"});
        assert_eq!(say(409, &taken), (Exit::Conflict, "it is taken (`slug_taken`)".to_owned()));
        let (exit, text) = say(502, &json!("<html>"));
        assert_eq!(exit, Exit::Unavailable);
        assert!(text.contains("not as tenmint"), "{text}");
    }

    #[test]
    fn only_what_is_named_is_in_a_body() {
        let fields = Fields::default()
            .with("name", Some("x"))
            .with("scopes", None::<Vec<String>>)
            .with("allow", Some(Value::Null));
        assert_eq!(Value::Object(fields.0), json!({"name": "x", "allow": null}));
    }
}
