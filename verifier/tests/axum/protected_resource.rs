//! What the API tells of itself, and where its challenges say that it does.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use serde_json::{Value, json};
use tenmint_verifier::Token;
use tenmint_verifier::axum::{ProtectedResource, RequireScope, RequireToken};
use tenmint_verifier::testing::TestIssuer;
use tower_service::Service;

use crate::{ORG, issuer, told};

async fn ask(router: &mut Router, uri: &str) -> (u16, String, String) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    told(router.call(request).await.unwrap()).await
}

#[tokio::test]
async fn the_metadata_names_the_issuer_and_is_open_to_everybody() {
    let verifier = issuer().verifier();
    let scopes = "read:projects/* chat".parse().unwrap();
    let metadata = ProtectedResource::new(&verifier)
        .unwrap()
        .scopes(&scopes)
        .name("Projects")
        .documentation("https://docs.example.com");
    let mut router: Router =
        Router::new().layer(RequireToken::new(verifier)).merge(metadata.routes());
    let request =
        Request::get("/.well-known/oauth-protected-resource").body(Body::empty()).unwrap();
    let answer = router.call(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let (status, _, body) = told(answer).await;
    assert_eq!(status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({
            "resource": "https://api.example.com",
            "authorization_servers": ["https://issuer.test"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["read:projects/*", "chat"],
            "resource_name": "Projects",
            "resource_documentation": "https://docs.example.com",
        })
    );
}

#[tokio::test]
async fn a_challenge_names_the_metadata_once_they_are_there() {
    let place = "https://api.example.com/.well-known/oauth-protected-resource";
    for is_told in [false, true] {
        let verifier = issuer().verifier();
        let metadata = ProtectedResource::new(&verifier).unwrap();
        let layered = Router::new()
            .route("/layered", get(|| async {}))
            .layer(RequireToken::new(verifier.clone()));
        let extracting =
            Router::new().route("/extracting", get(|_: Token| async {})).with_state(verifier);
        let mut router = layered.merge(extracting);
        if is_told {
            router = router.merge(metadata.routes());
        }
        for uri in ["/layered", "/extracting"] {
            let (status, challenge, _) = ask(&mut router, uri).await;
            let expected = if is_told {
                format!(r#"Bearer realm="api", resource_metadata="{place}""#)
            } else {
                r#"Bearer realm="api""#.to_owned()
            };
            assert_eq!((status, challenge), (401, expected), "{uri}");
        }
    }
}

#[tokio::test]
async fn a_challenge_for_more_scope_names_the_metadata_too() {
    let issuer = issuer();
    let verifier = issuer.verifier();
    let metadata = ProtectedResource::new(&verifier).unwrap();
    let scope = RequireScope::by_method("projects/{id}").unwrap();
    let mut router: Router = Router::new()
        .route("/projects/{id}", get(|| async {}).layer(scope))
        .layer(RequireToken::new(verifier).organization(ORG))
        .merge(metadata.routes());
    let token = issuer.token(ORG, "read:things/*").sign();
    let request = Request::get("/projects/a").header("authorization", format!("Bearer {token}"));
    let answer = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, challenge, _) = told(answer).await;
    let place = "https://api.example.com/.well-known/oauth-protected-resource";
    assert_eq!(status, 403);
    assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
    assert!(challenge.ends_with(&format!(r#", resource_metadata="{place}""#)), "{challenge}");
}

#[tokio::test]
async fn the_place_follows_from_the_audience() {
    for (audience, path) in [
        ("https://api.example.com", ""),
        ("https://api.example.com/", ""),
        ("http://127.0.0.1:3000", ""),
        ("https://example.com/v1", "/v1"),
        ("https://example.com/v1/", "/v1/"),
    ] {
        let verifier = TestIssuer::new(audience).verifier();
        let mut router: Router = ProtectedResource::new(&verifier).unwrap().routes();
        let uri = format!("/.well-known/oauth-protected-resource{path}");
        let (status, _, body) = ask(&mut router, &uri).await;
        assert_eq!(status, 200, "{audience}");
        let document: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["resource"], audience, "as it stands in the tokens");
    }
    for audience in ["urn:api", "api", "https://", "https://a/?x", "https://a/#x", "https://a/{x}"]
    {
        assert!(
            ProtectedResource::new(&TestIssuer::new(audience).verifier()).is_err(),
            "{audience}"
        );
    }
}
