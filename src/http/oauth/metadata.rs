//! Discovery (RFC 8414): one document under both names that clients ask for.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use parking_lot::RwLock;
use serde_json::json;
use tenmint_verifier::Algorithm;

use crate::http::App;
use crate::mint::etag_of;
use crate::model::installation::Issuer;

/// The document, made once for the algorithms of the signing keys.
#[derive(Debug)]
pub(in crate::http) struct Metadata {
    issuer: Issuer,
    made: RwLock<Arc<Made>>,
}

#[derive(Debug, Default)]
struct Made {
    algorithms: Vec<Algorithm>,
    document: Bytes,
    etag: String,
}

impl Metadata {
    pub(in crate::http) fn of(issuer: &Issuer) -> Self {
        Self { issuer: issuer.clone(), made: RwLock::default() }
    }

    /// The document, made anew where other algorithms are in the JWKS.
    fn of_algorithms(&self, algorithms: &[Algorithm]) -> Arc<Made> {
        let made = self.made.read().clone();
        if made.algorithms == algorithms && !made.document.is_empty() {
            return made;
        }
        let made = Arc::new(Made::of(self.issuer.as_str(), algorithms));
        *self.made.write() = made.clone();
        made
    }
}

impl Made {
    fn of(issuer: &str, algorithms: &[Algorithm]) -> Self {
        let names: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let document = json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/oauth/token"),
            "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
            // for verifiers of ours: what was revoked, signed
            "revocation_feed_uri": format!("{issuer}/oauth/revocations"),
            // and what an API does with API keys that are sent to it as they are
            "raw_key_policy_uri": format!("{issuer}/oauth/raw-keys"),
            // where they tell how often keys and tokens come
            "use_report_endpoint": format!("{issuer}/oauth/uses"),
            "grant_types_supported": ["client_credentials"],
            // some clients take the first that they know, and Basic keeps the key out of logs
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "introspection_endpoint": format!("{issuer}/oauth/introspect"),
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "revocation_endpoint": format!("{issuer}/oauth/revoke"),
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            // no authorization endpoint, so no response type; yet the member is required
            "response_types_supported": [],
            // OpenID readers refuse a document without these two, and take the algorithms of the
            // access tokens from the second
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": names,
        })
        .to_string();
        let algorithms = algorithms.to_vec();
        Self { algorithms, etag: etag_of(&document), document: document.into() }
    }
}

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Response<Body> {
    let made = app.metadata.of_algorithms(&app.mint.public_keys().algorithms);
    cacheable(&headers, made.document.clone(), &made.etag)
}

/// A public document: cached for five minutes, and 304 for who has it.
pub(in crate::http) fn cacheable(
    headers: &HeaderMap,
    document: Bytes,
    etag: &str,
) -> Response<Body> {
    let is_known = known_tags(headers).any(|known| known == "*" || known == etag);
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(document));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.extend(HeaderValue::from_str(etag).map(|value| (ETAG, value)));
    response
}

/// The tags of `If-None-Match`, weak ones as if they were strong (RFC 9110, section 13.1.2). No tag of
/// ours holds a comma.
pub(super) fn known_tags(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags = values.flat_map(|value| value.split(','));
    tags.map(str::trim).map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
}
