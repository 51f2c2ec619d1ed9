//! The answers to requests, behind the extractor and behind the layer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

mod protected_resource;
mod require_scope;

use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tenmint_verifier::axum::{RequireToken, bearer_token};
use tenmint_verifier::testing::TestIssuer;
use tenmint_verifier::{Action, Resource, Token, VerifyError};
use tower_service::Service;

const ORG: &str = "org_0000000000000000";

async fn alpha(token: Token) -> Result<String, VerifyError> {
    let alpha = Resource::new(["projects", "alpha"]).map_err(|_| VerifyError::InvalidRequest)?;
    token.require(ORG, &Action::Read, &alpha)?;
    Ok(token.claims().sub.clone())
}

fn extracting(issuer: &TestIssuer) -> Router {
    Router::new().route("/alpha", get(alpha)).with_state(issuer.verifier())
}

fn layered(issuer: &TestIssuer) -> Router {
    let whoami = |Extension(token): Extension<Token>| async move { token.claims().sub.clone() };
    Router::new().route("/alpha", get(whoami)).layer(RequireToken::new(issuer.verifier()))
}

fn issuer() -> TestIssuer {
    TestIssuer::new("https://api.example.com")
}

/// The answer to a request with these `Authorization` headers: status, challenge and body.
async fn ask(mut router: Router, uri: &str, lines: &[&str]) -> (u16, String, String) {
    let mut request = Request::get(uri).body(Body::empty()).unwrap();
    for line in lines {
        request.headers_mut().append("authorization", HeaderValue::from_str(line).unwrap());
    }
    told(router.call(request).await.unwrap()).await
}

async fn told(answer: Response<Body>) -> (u16, String, String) {
    let (parts, body) = answer.into_parts();
    let header = |name| parts.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let challenge = header("www-authenticate").to_owned();
    let body = String::from_utf8(to_bytes(body, 4096).await.unwrap().to_vec()).unwrap();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("cache-control"), "no-store");
    }
    (parts.status.as_u16(), challenge, body)
}

#[tokio::test]
async fn a_good_token_reaches_the_handler_in_any_case_of_the_scheme() {
    let issuer = issuer();
    let token = issuer.token(ORG, "read:projects/*").sign();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        for router in [extracting(&issuer), layered(&issuer)] {
            let (status, _, body) = ask(router, "/alpha", &[&format!("{scheme} {token}")]).await;
            assert_eq!((status, body.as_str()), (200, "bot_0000000000000000"), "{scheme}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_token_is_told_what_to_bring_and_no_error() {
    let issuer = issuer();
    let token = issuer.token(ORG, "read:projects/*").sign();
    let query = format!("/alpha?access_token={token}");
    for router in [extracting(&issuer), layered(&issuer)] {
        let cases: [(&str, &[&str]); 5] = [
            ("/alpha", &[]),
            (&query, &[]),
            ("/alpha", &["Basic dXNlcjpwYXNz"]),
            ("/alpha", &["Bearerx eyJ"]),
            ("/alpha", &[""]),
        ];
        for (uri, lines) in cases {
            let (status, challenge, body) = ask(router.clone(), uri, lines).await;
            assert_eq!((status, challenge.as_str()), (401, r#"Bearer realm="api""#), "{lines:?}");
            assert_eq!(body, r#"{"error_description":"no token came with the request"}"#);
        }
    }
}

#[tokio::test]
async fn two_tokens_or_half_a_token_are_a_bad_request() {
    let issuer = issuer();
    let token = issuer.token(ORG, "read:projects/*").sign();
    let bearer = format!("Bearer {token}");
    for router in [extracting(&issuer), layered(&issuer)] {
        let cases: [&[&str]; 8] = [
            &[&bearer, &bearer],
            &[&bearer, "Basic dXNlcjpwYXNz"],
            &[&format!("{bearer} {token}")],
            &[&format!("{bearer}, {bearer}")],
            &[&format!("{bearer},")],
            &["Bearer"],
            &["Bearer "],
            &[&format!("Bearer\t{token}"), &bearer],
        ];
        for lines in cases {
            let (status, challenge, body) = ask(router.clone(), "/alpha", lines).await;
            assert_eq!(status, 400, "{lines:?}");
            assert_eq!(
                challenge,
                r#"Bearer realm="api", error="invalid_request", error_description="send one token, in one Authorization header""#
            );
            assert!(body.starts_with(r#"{"error":"invalid_request","#), "{body}");
        }
    }
}

#[tokio::test]
async fn a_bad_token_is_told_why() {
    let issuer = issuer();
    let token = issuer.token(ORG, "read:projects/*").expired().sign();
    for router in [extracting(&issuer), layered(&issuer)] {
        let (status, challenge, body) = ask(router, "/alpha", &[&format!("Bearer {token}")]).await;
        assert_eq!(status, 401);
        assert_eq!(
            challenge,
            r#"Bearer realm="api", error="invalid_token", error_description="the token has expired""#
        );
        assert_eq!(
            body,
            r#"{"error":"invalid_token","error_description":"the token has expired"}"#
        );
    }
}

#[tokio::test]
async fn a_token_that_does_not_reach_is_told_the_scope_that_is_missing() {
    let issuer = issuer();
    for (org, scope) in [(ORG, "write:projects/alpha"), ("org_1111111111111111", "*:*")] {
        let token = issuer.token(org, scope).sign();
        let (status, challenge, _) =
            ask(extracting(&issuer), "/alpha", &[&format!("Bearer {token}")]).await;
        assert_eq!(status, 403);
        assert_eq!(
            challenge,
            "Bearer realm=\"api\", error=\"insufficient_scope\", error_description=\"the request \
             needs the scope `read:projects/alpha`\", scope=\"read:projects/alpha\""
        );
    }
}

#[tokio::test]
async fn keys_that_are_out_of_reach_are_a_503_with_a_time_to_retry() {
    use axum::response::IntoResponse;
    let answer = VerifyError::KeysUnavailable.into_response();
    assert_eq!(answer.headers()["retry-after"], "10");
    let (status, challenge, body) = told(answer).await;
    assert_eq!((status, challenge.as_str()), (503, ""));
    assert!(body.starts_with(r#"{"error":"temporarily_unavailable","#), "{body}");
}

#[tokio::test]
async fn no_description_breaks_out_of_its_quotes() {
    use axum::response::IntoResponse;
    let issuer = issuer();
    let text = issuer.token(ORG, "chat").sign();
    let token = issuer.verifier().verify_held(&text).unwrap();
    for id in ["\"", "\\", "a\r\nb: c", "\u{7f}\u{e9}", &"x".repeat(5000)] {
        let resource = Resource::new([id]).unwrap();
        let refused = token.require(ORG, &Action::Read, &resource).unwrap_err();
        let (status, challenge, _) = told(refused.into_response()).await;
        assert_eq!(status, 403);
        assert_eq!(challenge.matches('"').count(), 8, "{challenge}");
        assert!(!challenge.contains('\\'), "{challenge}");
    }
}

#[tokio::test]
async fn the_extractor_takes_the_token_that_the_layer_has_verified() {
    let (outer, inner) = (issuer(), issuer());
    let router = extracting(&inner).layer(RequireToken::new(outer.verifier()));
    let token = outer.token(ORG, "read:projects/*").sign();
    assert_eq!(ask(router, "/alpha", &[&format!("Bearer {token}")]).await.0, 200);
}

#[tokio::test]
async fn the_layer_keeps_the_handler_from_running() {
    static REACHED: AtomicBool = AtomicBool::new(false);
    let issuer = issuer();
    let router = Router::new()
        .route("/alpha", get(|| async { REACHED.store(true, Ordering::Relaxed) }))
        .layer(RequireToken::new(issuer.verifier()));
    assert_eq!(ask(router, "/alpha", &[]).await.0, 401);
    assert!(!REACHED.load(Ordering::Relaxed));
}

#[test]
fn a_header_of_other_bytes_is_no_token() {
    let mut headers = axum::http::HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    assert_eq!(bearer_token(&headers), Err(VerifyError::InvalidRequest));
    headers.insert("authorization", HeaderValue::from_static("Bearer   a.b.c  "));
    assert_eq!(bearer_token(&headers), Ok("a.b.c"));
}
