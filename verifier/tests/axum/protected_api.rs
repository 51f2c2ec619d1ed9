//! The example, asked as its clients and its attackers would.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use tenmint_verifier::testing::TestIssuer;
use tower_service::Service;

use super::{App, router};

const ORG: &str = "org_0000000000000000";

/// The status and the body of an answer.
async fn ask(method: Method, uri: &str, scope: &str) -> (u16, String) {
    let issuer = TestIssuer::new("https://api.example.com");
    let app = App { verifier: issuer.verifier(), org: ORG.into() };
    let token = issuer.token(ORG, scope).sign();
    let request = Request::builder().method(method).uri(uri);
    let request = request.header("authorization", format!("Bearer {token}"));
    let answer = router(app).unwrap().call(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(uri: &str, scope: &str) -> u16 {
    ask(Method::GET, uri, scope).await.0
}

#[tokio::test]
async fn reading_needs_read_and_changing_needs_write() {
    for (method, action) in
        [(Method::GET, "read"), (Method::PUT, "write"), (Method::DELETE, "write")]
    {
        let scope = format!("{action}:projects/alpha/*");
        let (status, body) = ask(method.clone(), "/projects/alpha/logs/1", &scope).await;
        assert_eq!(status, 200);
        assert_eq!(
            body,
            format!(r#"{{"action":"{action}","org":"{ORG}","resource":"projects/alpha/logs/1"}}"#)
        );
        let (status, body) = ask(method, "/projects/alpha/logs/1", "chat").await;
        assert_eq!(status, 403, "{body}");
        assert!(body.contains(&format!("{action}:projects/alpha/logs/1")), "{body}");
    }
}

#[tokio::test]
async fn a_project_is_not_what_is_below_it() {
    assert_eq!(get("/projects/alpha", "read:projects/alpha").await, 200);
    assert_eq!(get("/projects/alpha/x", "read:projects/alpha").await, 403);
    assert_eq!(get("/projects/alpha", "read:projects/alpha/*").await, 403);
    assert_eq!(get("/projects/alphabet", "read:projects/alpha").await, 403);
    assert_eq!(get("/projects/alphabet/x", "read:projects/alpha/*").await, 403);
}

#[tokio::test]
async fn no_spelling_of_a_path_climbs_out_of_a_filter() {
    let scope = "read:projects/alpha/*";
    for uri in [
        "/projects/alpha/../beta/x",
        "/projects/alpha/%2e%2e/beta/x",
        "/projects/alpha/%2E%2E%2Fbeta/x",
        "/projects/alpha/..%2fbeta",
        "/projects/alpha/./x",
        "/projects/alpha//x",
        "/projects/alpha/x/",
        "/projects/alpha/%2F",
        "/projects/%2e%2e/x",
    ] {
        assert_eq!(get(uri, scope).await, 400, "{uri}");
    }
    for uri in ["/projects/alpha%2Fx", "/projects/ALPHA/x", "/projects/%2561lpha/x"] {
        assert_eq!(get(uri, scope).await, 403, "{uri}");
    }
    assert_eq!(get("/projects/%61lpha/x", scope).await, 200);
}

#[tokio::test]
async fn whoami_needs_only_a_token() {
    let (status, body) = ask(Method::GET, "/whoami", "chat").await;
    assert_eq!(status, 200);
    let claims: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&claims["scope"], &claims["org"]), (&"chat".into(), &ORG.into()));
}
