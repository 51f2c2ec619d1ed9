//! One line on a route: what it lets pass, and what it does not.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, Method, Request, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use tenmint_verifier::axum::{Allowed, Organization, RequireScope, RequireToken};
use tenmint_verifier::testing::TestIssuer;
use tenmint_verifier::{Action, SyntaxError, Verifier};
use tower_service::Service;

use crate::{ORG, issuer, told};

const OTHER: &str = "org_1111111111111111";

async fn allowed(Extension(allowed): Extension<Allowed>) -> String {
    format!("{} {} of {}", allowed.action, allowed.resource, allowed.organization.id())
}

fn guarded(layer: Result<RequireScope, SyntaxError>) -> axum::routing::MethodRouter {
    any(allowed).layer(layer.unwrap())
}

fn router(verifier: Verifier) -> Router {
    let file = RequireScope::new(Action::Read, "files/{*path}");
    let tenant = RequireScope::by_method("projects/{id}").unwrap().organization_in("org");
    Router::new()
        .route("/projects/{id}", guarded(RequireScope::by_method("projects/{id}")))
        .route("/reports", guarded(RequireScope::new(Action::Admin, "reports")))
        .route("/files/{*path}", guarded(file))
        .route("/orgs/{org}/projects/{id}", guarded(Ok(tenant)))
        .layer(RequireToken::new(verifier).organization(ORG))
}

/// Status, challenge and body of the answer to a request with a token of this scope.
async fn ask(method: Method, uri: &str, org: &str, scope: &str) -> (u16, String, String) {
    let issuer = issuer();
    let token = issuer.token(org, scope).sign();
    let request = Request::builder().method(method).uri(uri);
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::empty()).unwrap();
    told(router(issuer.verifier()).call(request).await.unwrap()).await
}

async fn get_of(uri: &str, scope: &str) -> (u16, String) {
    let (status, _, body) = ask(Method::GET, uri, ORG, scope).await;
    (status, body)
}

#[tokio::test]
async fn a_route_passes_whose_token_has_the_scope_and_is_told_what_it_may() {
    let (status, body) = get_of("/projects/alpha", "read:projects/*").await;
    assert_eq!((status, body), (200, format!("read projects/alpha of {ORG}")));
    let (status, body) = get_of("/reports", "admin:reports").await;
    assert_eq!((status, body), (200, format!("admin reports of {ORG}")));
    let (status, challenge, _) = ask(Method::GET, "/projects/alpha", ORG, "read:things/*").await;
    assert_eq!(status, 403);
    assert!(challenge.contains(r#"scope="read:projects/alpha""#), "{challenge}");
}

#[tokio::test]
async fn the_method_decides_between_read_and_write() {
    for (method, action) in [
        (Method::GET, "read"),
        (Method::HEAD, "read"),
        (Method::OPTIONS, "read"),
        (Method::POST, "write"),
        (Method::PUT, "write"),
        (Method::PATCH, "write"),
        (Method::DELETE, "write"),
        (Method::from_bytes(b"PURGE").unwrap(), "write"),
    ] {
        for held in ["read", "write"] {
            let scope = format!("{held}:projects/*");
            let (status, _, _) = ask(method.clone(), "/projects/alpha", ORG, &scope).await;
            assert_eq!(status, if held == action { 200 } else { 403 }, "{method} by {held}");
        }
    }
}

#[tokio::test]
async fn no_spelling_of_a_parameter_reaches_another_resource() {
    let alpha = "read:projects/alpha read:projects/alpha/* read:files/alpha/*";
    for (uri, expected) in [
        ("/projects/alpha", 200),
        ("/projects/%61lpha", 200),
        ("/projects/alpha%2Fx", 403),
        ("/projects/alpha%2F..%2Fbeta", 403),
        ("/projects/beta", 403),
        ("/projects/%2E%2E", 400),
        ("/projects/..", 400),
        ("/projects/%FF", 400),
        ("/projects/alpha%2Falpha", 403),
        ("/projects/*", 403),
        ("/files/alpha/x/y", 200),
        ("/files/alpha/../beta", 400),
        ("/files/alpha/%2E%2E/beta", 400),
        ("/files/alpha//x", 400),
        ("/files/alpha/", 400),
        ("/files/beta/x", 403),
    ] {
        let (status, body) = get_of(uri, alpha).await;
        assert_eq!(status, expected, "{uri}: {body}");
    }
    let (_, body) = get_of("/files/alpha/a%20b", alpha).await;
    assert_eq!(body, format!("read files/alpha/a%20b of {ORG}"));
}

#[tokio::test]
async fn a_token_of_a_stranger_organization_is_answered_like_one_without_the_scope() {
    let own = ask(Method::GET, "/projects/alpha", ORG, "chat").await;
    let strange = ask(Method::GET, "/projects/alpha", OTHER, "*:*").await;
    assert_eq!(own, strange);
    assert_eq!(strange.0, 403);
}

#[tokio::test]
async fn the_organization_may_be_a_parameter_of_the_path() {
    for (of_path, of_token, expected) in [(ORG, ORG, 200), (OTHER, OTHER, 200), (OTHER, ORG, 403)] {
        let uri = format!("/orgs/{of_path}/projects/alpha");
        let (status, _, body) = ask(Method::GET, &uri, of_token, "read:projects/*").await;
        assert_eq!(status, expected, "{body}");
    }
}

#[tokio::test]
async fn a_route_that_is_not_set_up_lets_nobody_pass() {
    let issuer = issuer();
    let bare = || guarded(RequireScope::new(Action::Read, "projects/{id}"));
    let lacking = guarded(RequireScope::new(Action::Read, "projects/{name}"));
    let signed_in = RequireToken::new(issuer.verifier());
    let with_org = signed_in.clone().organization(ORG);
    for (router, reason) in [
        (Router::new().route("/p/{id}", bare()), "nothing says whose"),
        (
            Router::new().route("/p/{id}", bare()).layer(Extension(Organization::new(ORG))),
            "without RequireToken",
        ),
        (Router::new().route("/p/{id}", bare()).layer(signed_in), "nothing says whose"),
        (Router::new().route("/p/{id}", lacking).layer(with_org), "lacks a parameter"),
    ] {
        let token = issuer.token(ORG, "*:*").sign();
        let request = Request::get("/p/a").header("authorization", format!("Bearer {token}"));
        let mut router: Router = router;
        let (status, challenge, body) =
            told(router.call(request.body(Body::empty()).unwrap()).await.unwrap()).await;
        assert_eq!((status, challenge.as_str()), (500, ""), "{body}");
        assert!(body.contains(reason), "{body}");
    }
}

/// A route behind a layer that knows who calls, and counts.
fn strict(issuer: &TestIssuer) -> Router {
    let by_header = |headers: &HeaderMap| headers.get("x-caller")?.to_str().ok()?.parse().ok();
    let layer = RequireToken::new(issuer.verifier())
        .caller_address(move |parts| by_header(&parts.headers))
        .enforce_quota();
    Router::new().route("/", get(|| async { "in" })).layer(layer)
}

async fn call(router: &mut Router, token: &str, caller: Option<&str>) -> Response<Body> {
    let mut request = Request::get("/").header("authorization", format!("Bearer {token}"));
    if let Some(caller) = caller {
        request = request.header("x-caller", caller);
    }
    router.call(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_layer_that_knows_the_caller_holds_it_to_the_addresses_of_its_token() {
    let issuer = issuer();
    let mut router = strict(&issuer);
    let held = issuer.token(ORG, "chat").net(&["10.0.0.0/8"], &[]).sign();
    let free = issuer.token(ORG, "chat").sign();
    for (token, caller, expected) in [
        (&held, Some("10.1.2.3"), 200),
        (&held, Some("192.0.2.1"), 401),
        (&held, Some("nonsense"), 401),
        (&held, None, 401),
        (&free, None, 200),
    ] {
        let (status, _, body) = told(call(&mut router, token, caller).await).await;
        assert_eq!(status, expected, "{caller:?}: {body}");
    }
}

#[tokio::test]
async fn a_layer_that_counts_says_when_a_spent_quota_lets_in_again() {
    let issuer = issuer();
    let mut router = strict(&issuer);
    let token = issuer.token(ORG, "chat").quota(2, 60).sign();
    for _ in 0..2 {
        assert_eq!(call(&mut router, &token, None).await.status(), 200);
    }
    let spent = call(&mut router, &token, None).await;
    assert_eq!(spent.status(), 429);
    let header = |name: &str| spent.headers()[name].to_str().unwrap().to_owned();
    let seconds: u64 = header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(header("ratelimit"), format!("\"api-key\";r=0;t={seconds}"));
    assert_eq!(header("ratelimit-policy"), "\"api-key\";q=2;w=60");
    assert!(!spent.headers().contains_key("www-authenticate"), "no other token would help");
}

#[tokio::test]
async fn a_request_that_is_refused_for_its_scope_takes_nothing_of_the_quota() {
    let issuer = issuer();
    let layer = RequireToken::new(issuer.verifier()).organization(ORG).enforce_quota();
    let mut router =
        Router::new().route("/p/{id}", guarded(RequireScope::by_method("p/{id}"))).layer(layer);
    let token = issuer.token(ORG, "read:p/*").quota(2, 60).sign();
    let mut call = async |method: Method| {
        let request = Request::builder().method(method).uri("/p/a");
        let request = request.header("authorization", format!("Bearer {token}"));
        router.call(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    for _ in 0..5 {
        assert_eq!(call(Method::POST).await, 403);
    }
    assert_eq!([call(Method::GET).await, call(Method::POST).await], [200, 403]);
    assert_eq!([call(Method::GET).await, call(Method::GET).await], [200, 429]);
    assert_eq!(call(Method::POST).await, 429, "nothing is looked at beyond a quota that is spent");
}

#[tokio::test]
async fn a_caller_of_grpc_is_refused_in_its_own_protocol() {
    let issuer = issuer();
    let mut router = router(issuer.verifier());
    let ask = |uri: &str, token: Option<String>| {
        let request = Request::post(uri).header("content-type", "application/grpc+proto");
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    };
    let none = router.call(ask("/projects/a", None)).await.unwrap();
    assert_eq!(none.status(), 200);
    assert_eq!(none.headers()["content-type"], "application/grpc");
    assert_eq!(none.headers()["grpc-status"], "16");
    assert_eq!(none.headers()["grpc-message"], "no token came with the request");
    let narrow = issuer.token(ORG, "chat").sign();
    let refused = router.call(ask("/projects/a%20b", Some(narrow))).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "7");
    let message = "the request needs the scope `write:projects/a%2520b`";
    assert_eq!(refused.headers()["grpc-message"], message);
}

#[tokio::test]
async fn a_nested_router_gives_its_parameters_too() {
    let issuer = issuer();
    let inner = Router::new().route(
        "/files/{file}",
        get(|Path((id, file)): Path<(String, String)>| async move { format!("{id} {file}") })
            .layer(RequireScope::new(Action::Read, "projects/{id}/files/{file}").unwrap()),
    );
    let mut router: Router = Router::new()
        .nest("/projects/{id}", inner)
        .layer(RequireToken::new(issuer.verifier()).organization(ORG));
    let token = issuer.token(ORG, "read:projects/a/files/*").sign();
    for (uri, expected) in [("/projects/a/files/x", 200), ("/projects/b/files/x", 403)] {
        let request = Request::get(uri).header("authorization", format!("Bearer {token}"));
        let answer = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected, "{uri}");
    }
}
