//! What the end caller shows: tokens of every kind of trouble, and their answers.

use std::time::Duration;

use serde_json::{Value, json};
use tenmint_verifier::axum::{RequireScope, RequireToken};
use tower_service::Service as _;

use crate::api::{good, good_of, key};
use crate::forward_auth::{Held, ask, gateway, guarded, policy, told};
use crate::oauth::behind::token_of_another_node;
use crate::server::{AUDIENCE, Answer, Server, basic, on_both_engines};

const ALPHA: &str = "/projects/alpha";

/// What an API with the layers of the verifier answers to a token.
async fn of_verifier(server: &Server, method: &str, text: &str) -> (u16, Option<String>) {
    let verifier = server.verifier(AUDIENCE).await;
    let layer = RequireToken::new(verifier).organization(server.org.id.to_string());
    let scope = RequireScope::by_method("projects/{id}").unwrap();
    let route = axum::routing::any(async || "here").layer(scope);
    let mut router: axum::Router = axum::Router::new().route("/projects/{id}", route).layer(layer);
    let mut request = http::Request::builder().method(method).uri(ALPHA);
    if !text.is_empty() {
        request = request.header("authorization", text);
    }
    let answer = router.call(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let challenge = answer.headers().get("www-authenticate");
    (answer.status().as_u16(), challenge.map(|value| value.to_str().unwrap().to_owned()))
}

on_both_engines! {
    async fn a_token_passes_with_who_it_is_of(server: Server) {
        let gateway = guarded(&server).await;
        good(&server, "POST", "/v1/spaces", json!({"slug": "here"})).await;
        let key = key(&server, json!({"scopes": ["read:projects/*", "chat"], "space": "here"})).await;
        let token = server.token(&key, "").await;
        let claims = token.claims();
        let answer = Held::get("/projects/alpha?page=2", &token.token()).asked(&server, &gateway, "api").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{answer:?}");
        for (header, claim) in [
            ("tenmint-client-id", "client_id"), ("tenmint-subject", "sub"), ("tenmint-organization", "org"),
            ("tenmint-space", "space"), ("tenmint-scope", "scope"), ("tenmint-token-id", "jti"),
            ("tenmint-audience", "aud"),
        ] {
            assert_eq!(answer.header(header), claims[claim].as_str(), "{header}");
        }
        assert_eq!(answer.header("tenmint-raw-key"), None);
        assert_eq!(answer.header("deprecation"), None);
    }

    async fn the_method_says_the_action_where_the_rule_does_not(server: Server) {
        policy(&server, "api", json!([
            {"methods": ["DELETE"], "path": "/projects/{id}", "action": "admin"},
            {"path": "/projects/{id}"},
            {"path": "/v1/chat", "action": "chat", "resource": "models/any"},
        ])).await;
        let gateway = gateway(&server).await;
        let token = async |scope: &str| server.token(&server.api_key(scope).await, "").await.token();
        let reader = token("read:projects/*").await;
        let all = token("read:projects/* write:projects/* chat").await;
        for (method, path, of_reader, of_all) in [
            ("GET", ALPHA, "200", "200"),
            ("HEAD", ALPHA, "200", "200"),
            ("OPTIONS", ALPHA, "200", "200"),
            ("POST", ALPHA, "403 insufficient_scope", "200"),
            ("PATCH", ALPHA, "403 insufficient_scope", "200"),
            ("PURGE", ALPHA, "403 insufficient_scope", "200"),
            ("DELETE", ALPHA, "403 insufficient_scope", "403 insufficient_scope"),
            ("GET", "/v1/chat", "403 insufficient_scope", "200"),
            ("POST", "/v1/chat", "403 insufficient_scope", "200"),
            ("GET", "/elsewhere", "403 no_rule", "403 no_rule"),
            ("get", ALPHA, "403 request_not_told", "403 request_not_told"),
        ] {
            for (token, expected) in [(&reader, of_reader), (&all, of_all)] {
                let held = Held { method, ..Held::get(path, token) };
                assert_eq!(told(&held.asked(&server, &gateway, "api").await), expected, "{method} {path}");
            }
        }
    }

    async fn the_answer_is_that_of_a_verifier_in_the_api(server: Server) {
        let gateway = guarded(&server).await;
        server.register("https://other.example").await;
        let key = server.api_key("read:projects/alpha").await;
        let token = server.token(&key, "").await.token();
        let elsewhere = server.token(&key, "resource=https://other.example").await.token();
        let narrow = server.token(&server.api_key("read:projects/beta").await, "").await.token();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
        for (authorization, reason) in [
            (format!("Bearer {token}"), ""),
            (format!("bearer   {token}"), ""),
            (String::new(), "no_token"),
            ("Digest abc".to_owned(), "no_token"),
            ("Bearer".to_owned(), "invalid_request"),
            (format!("Bearer {token} {token}"), "invalid_request"),
            ("Bearer a.b.c".to_owned(), "invalid_token"),
            (format!("Bearer {forged}"), "invalid_token"),
            (format!("Bearer {elsewhere}"), "wrong_audience"),
            (format!("Bearer {narrow}"), "insufficient_scope"),
        ] {
            let held = Held { authorization: Some(authorization.clone()).filter(|text| !text.is_empty()), ..Held::get(ALPHA, "") };
            let answer = held.asked(&server, &gateway, "api").await;
            let (status, challenge) = of_verifier(&server, "GET", &authorization).await;
            // 400 is no answer that a gateway knows
            let status = if status == 400 { 401 } else { status };
            assert_eq!(answer.status, status, "{authorization}");
            assert_eq!(answer.header("www-authenticate"), challenge.as_deref(), "{authorization}");
            assert_eq!(answer.header("tenmint-reason").unwrap_or_default(), reason, "{authorization}");
        }
        let twice = [
            ("Tenmint-Gateway-Key", gateway.text.as_str()), ("X-Original-Method", "GET"), ("X-Original-URI", ALPHA),
            ("Authorization", &*format!("Bearer {token}")), ("Authorization", &*format!("Bearer {token}")),
        ];
        assert_eq!(told(&ask(&server, "GET", "/forward-auth?policy=api", &twice).await), "401 invalid_request");
    }

    async fn what_ends_a_token_ends_it_here_at_once(server: Server) {
        let gateway = guarded(&server).await;
        let asked = async |token: &str| told(&Held::get(ALPHA, token).asked(&server, &gateway, "api").await);
        for (what, change) in [
            ("revoked", ("POST", "/revoke", Value::Null)),
            ("rotated", ("POST", "/rotate", json!({}))),
            ("narrowed", ("PATCH", "", json!({"scopes": ["read:projects/beta"]}))),
        ] {
            let key = key(&server, json!({"scopes": ["read:projects/*"]})).await;
            let token = server.token(&key, "").await.token();
            assert_eq!(asked(&token).await, "200");
            let (method, path, ask) = change;
            good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
            assert_eq!(asked(&token).await, "401 token_revoked", "{what}");
        }
        let key = key(&server, json!({"scopes": ["read:projects/*"]})).await;
        let token = server.token(&key, "").await.token();
        let revoked = crate::oauth::post_form(&server, "/oauth/revoke", &key, &format!("token={token}")).await;
        assert_eq!(revoked.status, 200);
        assert_eq!(asked(&token).await, "401 token_revoked", "the token alone");
        let token = server.token(&key, "").await.token();
        server.wind(Duration::from_secs(599)).await;
        assert_eq!(asked(&token).await, "200");
        server.wind(Duration::from_secs(4)).await;
        assert_eq!(asked(&token).await, "401 token_expired");
    }

    async fn a_token_of_a_key_that_is_not_known_here_yet_passes_or_is_no_401(server: Server) {
        let gateway = guarded(&server).await;
        let asked = async |token: &str| told(&Held::get(ALPHA, token).asked(&server, &gateway, "api").await);
        let (token, _, _node) = token_of_another_node(&server).await;
        assert_eq!(asked(&token).await, "200");
        let (token, _, _node) = token_of_another_node(&server).await;
        server.service.close().await;
        assert_eq!(asked(&token).await, "403 unavailable", "by a 401 the client would throw it away");
    }

    async fn a_key_is_held_to_its_addresses_with_its_token_and_as_it_is(server: Server) {
        let gateway = guarded(&server).await;
        let key = key(&server, json!({"scopes": ["read:projects/*"], "allow": ["127.0.0.1", "192.0.2.0/24"], "block": ["192.0.2.9"]})).await;
        let token = server.token(&key, "").await.token();
        for (address, expected) in [
            (Some("192.0.2.1"), "200"),
            (Some("192.0.2.1:4711"), "200"),
            (Some("::ffff:192.0.2.1"), "200"),
            (Some("198.51.100.7, 192.0.2.1"), "200"),
            (Some("192.0.2.1, 198.51.100.7"), "401 wrong_address"),
            (Some("192.0.2.1,"), "401 wrong_address"),
            (Some("192.0.2.1, unknown"), "401 wrong_address"),
            (Some("192.0.2.9"), "401 wrong_address"),
            (Some("2001:db8::1"), "401 wrong_address"),
            (Some("nonsense"), "401 wrong_address"),
            (None, "401 wrong_address"),
        ] {
            for text in [&token, &key.text] {
                let held = Held { address, ..Held::get(ALPHA, text) };
                assert_eq!(told(&held.asked(&server, &gateway, "api").await), expected, "{address:?}");
            }
        }
        let headers = |name: &'static str| [
            ("Tenmint-Gateway-Key", gateway.text.clone()), ("X-Original-Method", "GET".to_owned()), ("X-Original-URI", ALPHA.to_owned()),
            ("Authorization", format!("Bearer {token}")), (name, "192.0.2.1".to_owned()), ("X-Forwarded-For", "192.0.2.1".to_owned()),
        ];
        for (name, expected) in [("X-Forwarded-For", "403 request_not_told"), ("X-Real-IP", "200"), ("X_Forwarded_For", "200")] {
            let headers = headers(name);
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            assert_eq!(told(&ask(&server, "GET", "/forward-auth?policy=api", &headers).await), expected, "{name}");
            let without: Vec<_> = headers.into_iter().filter(|(name, _)| *name != "X-Forwarded-For").collect();
            assert_eq!(told(&ask(&server, "GET", "/forward-auth?policy=api", &without).await), "401 wrong_address", "{name} alone");
        }
    }

    async fn a_token_of_type_jwt_passes_where_the_audience_takes_it(server: Server) {
        let ask = json!({"uri": "https://spring.example", "slug": "spring", "token_type": "JWT"});
        good(&server, "POST", "/v1/audiences", ask).await;
        let ask = json!({"name": "spring", "audience": "spring", "rules": [{"path": "/{*all}"}]});
        good(&server, "POST", "/v1/gateway-policies", ask).await;
        let gateway = gateway(&server).await;
        let token = server.token(&server.api_key("read:projects/*").await, "audience=spring").await.token();
        let answer = Held::get(ALPHA, &token).asked(&server, &gateway, "spring").await;
        assert_eq!((told(&answer).as_str(), answer.header("tenmint-audience")), ("200", Some("https://spring.example")));
    }

    async fn a_shared_api_takes_what_all_organizations_have_and_tells_whose_it_is(server: Server) {
        let (org, theirs) = server.second_org("other").await;
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://saas.example", "slug": "saas", "shared": true})).await;
        for (name, audience) in [("saas", "saas"), ("api", "default")] {
            let ask = json!({"name": name, "audience": audience, "rules": [{"path": "/{*all}"}]});
            good(&server, "POST", "/v1/gateway-policies", ask).await;
        }
        let gateway = gateway(&server).await;
        let token = server.token(&theirs, "resource=https://saas.example").await.token();
        for text in [&token, &theirs.text] {
            let answer = Held::get(ALPHA, text).asked(&server, &gateway, "saas").await;
            assert_eq!((told(&answer).as_str(), answer.header("tenmint-organization")), ("200", Some(&*org.to_string())));
        }
        assert_eq!(told(&Held::get(ALPHA, &token).asked(&server, &gateway, "api").await), "401 wrong_audience");
        assert_eq!(told(&Held::get(ALPHA, &theirs.text).asked(&server, &gateway, "api").await), "401 unknown_api_key");
        let ask = json!({"name": "theirs", "audience": "https://saas.example", "rules": [{"path": "/{*all}"}]});
        let refused = server.api(&theirs, "POST", "/v1/gateway-policies", ask).await;
        assert_eq!(refused.status, 400, "nobody lets requests through to the API of somebody else: {refused:?}");
        good_of(&server, &theirs, "GET", "/v1/gateway-policies", Value::Null).await;
    }

    async fn an_api_key_is_taken_as_the_password_of_basic_without_a_name_or_with_its_own(server: Server) {
        let gateway = guarded(&server).await;
        let key = server.api_key("read:projects/*").await;
        let other = server.api_key("read:projects/*").await;
        for (id, expected) in [(String::new(), "200"), (key.id.to_string(), "200"), (other.id.to_string(), "401 unknown_api_key")] {
            let held = Held { authorization: Some(basic(&id, &key.text)), ..Held::get(ALPHA, "") };
            let answer: Answer = held.asked(&server, &gateway, "api").await;
            assert_eq!(told(&answer), expected, "{id}");
        }
    }
}
