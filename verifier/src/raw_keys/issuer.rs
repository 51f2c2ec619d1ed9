//! What is asked of the issuer about raw keys: what one is worth (RFC 7662), and what the API does
//! with them. With the API's own key, at the places that the metadata names, with a bound on time
//! and size.

use std::error::Error;
use std::fmt;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::MapAccess;
use tokio::time::{Instant, timeout};

use crate::claims::{Claims, RawClaims};
use crate::error::{BuildError, VerifyError};
use crate::json::{self, Members};
use crate::observe;
use crate::quota::Quota;
use crate::raw_key_policy::{RawKeyPolicy, ToldRawKeyPolicy};
use crate::remote::{Endpoints, RemoteKeys, chain, connector};
use crate::revocations::Revocations;
use crate::rules::Rules;

/// From the question to the last byte of the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MAX_BODY: usize = 64 * 1024;
/// How long nobody waits for an issuer that did not answer.
const COOL_DOWN: Duration = Duration::from_secs(1);
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a key is worth.
pub(super) enum Introspected {
    Inactive,
    Active(Box<Claims>),
}

/// The issuer, as the API asks it about raw keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct Issuer {
    inner: Arc<Inner>,
}

struct Inner {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authorization: HeaderValue,
    audiences: Vec<String>,
    /// Weak, because no task of ours must outlive the last verifier.
    keys: Weak<RemoteKeys>,
    silent_until: Mutex<Option<Instant>>,
    /// Why the API itself is refused, as the last answer said.
    refusal: Mutex<Option<String>>,
}

impl Issuer {
    pub(super) fn new(
        rules: &Rules,
        own_key: &str,
        keys: &Arc<RemoteKeys>,
    ) -> Result<Self, BuildError> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {own_key}"))
            .map_err(|_| BuildError::new("the API's own key is no text of an API key"))?;
        authorization.set_sensitive(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector(&rules.issuer)?);
        let (audiences, keys) = (rules.audiences.clone(), Arc::downgrade(keys));
        let (silent_until, refusal) = (Mutex::default(), Mutex::default());
        let inner = Inner { http, authorization, audiences, keys, silent_until, refusal };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What a key is worth at this API, for a caller at this address.
    ///
    /// # Errors
    /// [`VerifyError::QuotaSpent`] where the key has used up its quota at the issuer;
    /// [`VerifyError::IssuerUnavailable`], also where the API's own key may not ask, which
    /// [`Issuer::refusal`] says.
    pub(super) async fn introspect(
        &self,
        text: &str,
        caller: Option<IpAddr>,
    ) -> Result<Introspected, VerifyError> {
        let endpoint = self.endpoints()?.introspection.ok_or(VerifyError::Misconfigured(
            "the issuer does not tell where API keys are introspected",
        ))?;
        for audience in &self.inner.audiences {
            let form = form_of(text, audience, caller);
            let request = Request::post(&endpoint)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(form));
            let answer = self.send(request, "the issuer was asked about an API key").await?;
            if let active @ Introspected::Active(_) = self.introspected(&answer)? {
                return Ok(active);
            }
        }
        Ok(Introspected::Inactive)
    }

    /// What the API does with raw keys: by the rules of all its audiences, as of the oldest revision
    /// of one of them.
    pub(super) async fn policy(&self) -> Result<ToldRawKeyPolicy, VerifyError> {
        let mut all = ToldRawKeyPolicy { rev: u64::MAX, policy: RawKeyPolicy::default() };
        // an issuer that knows of no policy has none
        let Some(endpoint) = self.endpoints()?.raw_key_policy else { return Ok(all) };
        let ToldRawKeyPolicy { rev: oldest, policy } = &mut all;
        for audience in &self.inner.audiences {
            let mut uri = format!("{endpoint}?audience=");
            escape(audience, &mut uri);
            let request = Request::get(uri).body(Full::default());
            let answer = self.send(request, "the issuer was asked for the policy").await?;
            let told = self.ok_body(&answer)?;
            let ToldRawKeyPolicy { rev, policy: told } =
                serde_json::from_slice(told).map_err(|_| VerifyError::IssuerUnavailable)?;
            let RawKeyPolicy { rules, deprecated_at, sunset_at, link } = told;
            *oldest = rev.min(*oldest);
            policy.rules.extend(rules);
            policy.deprecated_at = policy.deprecated_at.into_iter().chain(deprecated_at).min();
            policy.sunset_at = policy.sunset_at.into_iter().chain(sunset_at).min();
            policy.link = policy.link.take().or(link);
        }
        Ok(all)
    }

    /// Tells how often keys and tokens came. An issuer that takes no reports is told none.
    ///
    /// # Errors
    /// Like [`Issuer::introspect`].
    pub(super) async fn report(&self, report: Vec<u8>) -> Result<(), VerifyError> {
        let Some(endpoint) = self.endpoints()?.use_report else { return Ok(()) };
        let request = Request::post(&endpoint)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(report));
        let answer = self.send(request, "the issuer was told how often keys came").await?;
        self.ok_body(&answer).map(drop)
    }

    /// Whether the feed says that there is a newer policy than that of this revision.
    pub(super) fn is_outdated(&self, rev: u64, revocations: &Revocations) -> bool {
        self.inner.audiences.iter().any(|uri| revocations.voids_of(uri, rev))
    }

    /// Whether a verifier is left that could ask.
    pub(super) fn is_wanted(&self) -> bool {
        self.inner.keys.strong_count() > 0
    }

    /// Waits until the metadata was read again.
    pub(super) async fn metadata_changed(&self) {
        let Some(mut state) = self.inner.keys.upgrade().map(|keys| keys.state()) else { return };
        // a clone has seen nothing of what there was before: it would be a change each time
        state.mark_unchanged();
        let _gone = state.changed().await;
    }

    fn endpoints(&self) -> Result<Endpoints, VerifyError> {
        let keys = self.inner.keys.upgrade().ok_or(VerifyError::IssuerUnavailable)?;
        keys.endpoints().ok_or(VerifyError::IssuerUnavailable)
    }

    async fn send(
        &self,
        request: Result<Request<Full<Bytes>>, http::Error>,
        what: &'static str,
    ) -> Result<Response<Bytes>, VerifyError> {
        let mut request = request.map_err(|_| VerifyError::IssuerUnavailable)?;
        request.headers_mut().insert(AUTHORIZATION, self.inner.authorization.clone());
        let now = Instant::now();
        if self.silent_until().is_some_and(|until| until > now) {
            return Err(VerifyError::IssuerUnavailable);
        }
        let trouble = match timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok(answer)) if !answer.status().is_server_error() => {
                *self.silent_until() = None;
                return Ok(answer);
            }
            Ok(Ok(answer)) => format!("answered {}", answer.status().as_u16()),
            Ok(Err(error)) => chain(&*error),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        observe::unanswered(what, &trouble);
        *self.silent_until() = Some(Instant::now() + COOL_DOWN);
        Err(VerifyError::IssuerUnavailable)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
        let (parts, body) = self.inner.http.request(request).await?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    fn silent_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.inner.silent_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the issuer tells the API nothing, for its log; nothing where it does.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal_of_api().clone()
    }

    fn refusal_of_api(&self) -> MutexGuard<'_, Option<String>> {
        self.inner.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn introspected(&self, answer: &Response<Bytes>) -> Result<Introspected, VerifyError> {
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(too_many(answer.headers()));
        }
        let body = self.ok_body(answer)?;
        let text = std::str::from_utf8(body).map_err(|_| VerifyError::IssuerUnavailable)?;
        let read: Activity = json::parse(text).map_err(|_| VerifyError::IssuerUnavailable)?;
        if read.active != Some(true) {
            return Ok(Introspected::Inactive);
        }
        let claims = RawClaims::parse(text)?.require_of_raw_key()?;
        Ok(claims.map_or(Introspected::Inactive, |claims| Introspected::Active(Box::new(claims))))
    }

    /// A client error is the API's own: its key, its role, or an audience that is not its own. No
    /// caller can put that right, and whoever can may do so without a new start of the API.
    fn ok_body<'a>(&self, answer: &'a Response<Bytes>) -> Result<&'a [u8], VerifyError> {
        match answer.status() {
            StatusCode::OK => {
                *self.refusal_of_api() = None;
                Ok(answer.body())
            }
            status if status.is_client_error() => {
                observe::unanswered("the issuer refused the API itself", &status.as_str());
                let refusal =
                    format!("the issuer refuses the API's own key: answered {}", status.as_u16());
                *self.refusal_of_api() = Some(refusal);
                Err(VerifyError::IssuerUnavailable)
            }
            // a redirect is no answer
            _ => Err(VerifyError::IssuerUnavailable),
        }
    }
}

impl fmt::Debug for Issuer {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({:?})", self.inner.audiences)
    }
}

/// The quota of the key that is spent, as the issuer tells it: `"api-key";q=100;w=60`.
fn too_many(headers: &HeaderMap) -> VerifyError {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let seconds = text(&RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
    let retry_after = seconds.unwrap_or(1).max(1);
    let policy = text(&RATE_LIMIT_POLICY).unwrap_or_default();
    let number = |start: &str| {
        policy.split(';').find_map(|part| part.trim().strip_prefix(start)?.parse::<u64>().ok())
    };
    match number("q=").zip(number("w=")).and_then(|(limit, window)| Quota::new(limit, window)) {
        Some(quota) => VerifyError::QuotaSpent { quota, retry_after },
        None => VerifyError::TryLater { retry_after },
    }
}

/// What tells whether the other members mean anything.
#[derive(Default)]
struct Activity {
    active: Option<bool>,
}

impl<'de> Members<'de> for Activity {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "active" => self.active = Some(map.next_value()?),
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

fn form_of(text: &str, audience: &str, caller: Option<IpAddr>) -> String {
    let mut form = "token=".to_owned();
    escape(text, &mut form);
    form.push_str("&audience=");
    escape(audience, &mut form);
    if let Some(caller) = caller {
        form.push_str("&client_ip=");
        escape(&caller.to_string(), &mut form);
    }
    form
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3), which every reader of
/// forms and of queries takes back.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            // a String takes all that is written to it
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_key_stays_in_its_field() {
        let form = form_of("a&b=c +%\u{e9}", "https://api.example.com", "::1".parse().ok());
        assert_eq!(
            form,
            "token=a%26b%3Dc%20%2B%25%C3%A9&audience=https%3A%2F%2Fapi.example.com\
             &client_ip=%3A%3A1"
        );
    }
}
