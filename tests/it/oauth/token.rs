//! `POST /oauth/token`: what a good request gets, and what each refusal says.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tenmint::model::api_key::CreateApiKey;
use tenmint_verifier::{Action, Resource};

use crate::api::good;
use crate::server::{AUDIENCE, START, basic, list, on_both_engines};

on_both_engines! {
    async fn a_key_gets_a_token_that_verifies_locally(server: Server) {
        let key = server.api_key("read:projects/alpha/*").await;
        let answer = server.token(&key, "").await;
        assert_eq!(answer.status, 200);
        let token = server.verify(&answer).await.unwrap();
        let logs = Resource::new(["projects", "alpha", "logs"]).unwrap();
        assert!(token.allows(&server.org.id.to_string(), &Action::Read, &logs));
        assert!(!token.allows(&server.org.id.to_string(), &Action::Write, &logs));
    }

    async fn the_answer_has_exactly_the_members_that_every_client_reads(server: Server) {
        let key = server.api_key("read:a/* chat").await;
        let answer = server.token(&key, "").await;
        let token = answer.token();
        assert_eq!(answer.json(), json!({
            "access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": "read:a/* chat",
        }));
        assert!(answer.body.contains(r#""expires_in":600,"#), "an integer, not a string or float");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("set-cookie"), None);
        assert!(answer.header("x-request-id").is_some());
    }

    async fn the_token_is_an_access_token_of_rfc_9068(server: Server) {
        let key = server.api_key("chat").await;
        let answer = server.token(&key, "").await;
        let claims = answer.claims();
        let owner = server.shown(&key.id).await.owner;
        assert_eq!(claims["iss"], "http://127.0.0.1");
        assert_eq!(claims["sub"], owner.to_string());
        assert_eq!(claims["aud"], AUDIENCE);
        assert_eq!(claims["client_id"], key.id.to_string());
        assert_eq!(claims["scope"], "chat");
        assert_eq!(claims["org"], server.org.id.to_string());
        assert_eq!(claims["iat"], START);
        assert_eq!(claims["exp"], START + 600);
        assert_eq!(claims["rev"].as_i64(), server.mint.index().revision());
        assert_eq!(claims["jti"].as_str().unwrap().len(), 26);
        assert_eq!(claims.as_object().unwrap().len(), 10, "and nothing else: {claims}");
        let header = answer.token().split('.').next().unwrap().to_owned();
        let header = URL_SAFE_NO_PAD.decode(header).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
        assert_eq!(header.as_object().unwrap().len(), 3);
    }

    async fn the_key_may_come_by_each_documented_way(server: Server) {
        let key = server.api_key("chat").await;
        let (id, text) = (key.id.to_string(), key.text.clone());
        let with_id = basic(&id, &text);
        let without_id = basic("", &text);
        let encoded = basic(&id.replace('_', "%5F"), &text.replace('_', "%5F"));
        let shouted = with_id.replace("Basic", "BASIC");
        let spaced = with_id.replace("Basic ", "Basic   ");
        let bearer = format!("bearer {text}");
        for authorization in [with_id, without_id, encoded, shouted, spaced, bearer] {
            let answer = server.post("", &[("Authorization", &authorization)]).await;
            assert_eq!(answer.outcome(), "200", "{authorization}");
        }
        let body = format!("client_id={id}&client_secret={text}");
        assert_eq!(server.post(&body, &[]).await.outcome(), "200");
        let basic = basic(&id, &text);
        let beside = format!("client_id={id}");
        assert_eq!(server.post(&beside, &[("Authorization", &basic)]).await.outcome(), "200");
    }

    async fn asked_scopes_are_granted_whole_and_echoed_as_they_were_written(server: Server) {
        let key = server.api_key("read:projects/* write:projects/alpha/* chat").await;
        for scope in [
            "read:projects/alpha/*",
            "chat:* read:projects/?",
            "write:projects/alpha/x read:projects/a",
            "chat chat",
        ] {
            let answer = server.token(&key, &form("scope", scope)).await;
            assert_eq!(answer.json()["scope"], scope);
            assert_eq!(answer.claims()["scope"], scope);
        }
    }

    async fn one_scope_beyond_the_key_refuses_the_whole_and_is_named(server: Server) {
        let key = server.api_key("read:projects/alpha/*").await;
        for (scope, named) in [
            ("read:projects/alpha/x write:projects/alpha/x read:b", "`write:projects/alpha/x`"),
            ("read:projects/alpha", "`read:projects/alpha`"),
            ("read:projects/alphabet/x", "`read:projects/alphabet/x`"),
            ("read:projects/*", "`read:projects/*`"),
            ("*:projects/alpha/x", "`*:projects/alpha/x`"),
            ("*:*", "`*:*`"),
        ] {
            let answer = server.token(&key, &form("scope", scope)).await;
            assert_eq!(answer.outcome(), "400 invalid_scope", "{scope}");
            assert!(answer.description().contains(named), "{scope}: {}", answer.description());
        }
    }

    async fn a_malformed_scope_is_refused_with_the_fix(server: Server) {
        let key = server.api_key("*:*").await;
        for (scope, fix) in [
            ("read", "`read:*`"),
            ("read:a//b", "one `/`"),
            ("read:a/%2e%2e", "`%2E`"),
            ("read:../x", "`..`"),
            ("read:a  chat", "one space"),
            ("read:a\"b", "%22"),
            ("read:a\\b", "%5C"),
            ("read:caf\u{e9}", "%C3%A9"),
        ] {
            let answer = server.token(&key, &form("scope", scope)).await;
            assert_eq!(answer.outcome(), "400 invalid_scope", "{scope}");
            let description = answer.description();
            assert!(description.contains(fix), "{scope}: {description}");
            let allowed = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
            assert!(description.chars().all(allowed), "{description}");
        }
    }

    async fn no_scope_asked_means_all_of_the_key_without_covered_ones(server: Server) {
        let key = server.api_key("read:a/b read:a/* chat").await;
        assert_eq!(server.token(&key, "").await.json()["scope"], "read:a/* chat");
        assert_eq!(server.token(&key, "scope=").await.json()["scope"], "read:a/* chat");
    }

    async fn an_audience_may_be_asked_for_by_resource_or_by_its_alias(server: Server) {
        let ask = CreateApiKey {
            scopes: Some(list("chat")),
            audiences: Some(list("https://first.example https://second.example")),
            ..CreateApiKey::default()
        };
        let key = server.create(ask).await;
        let aud = async |form: &str| server.token(&key, form).await.claims()["aud"].clone();
        assert_eq!(aud("").await, "https://first.example", "the key's first");
        assert_eq!(aud("resource=https://second.example").await, "https://second.example");
        assert_eq!(aud("audience=https://second.example").await, "https://second.example");
        assert_eq!(aud("audience=second-example").await, "https://second.example", "by slug");
        assert_eq!(aud("audience=second-example&resource=https://second.example").await, "https://second.example");
        let both = aud("resource=https://second.example&resource=https://first.example").await;
        assert_eq!(both, json!(["https://second.example", "https://first.example"]));
        let twice = aud("resource=https://first.example&resource=https://first.example").await;
        assert_eq!(twice, "https://first.example");
        for refused in [
            "resource=https://api.example.com",
            "audience=default",
            "resource=second-example",
            "resource=https://unknown.example",
            "audience=nobody",
            "audience=first-example&resource=https://second.example",
            "resource=https://first.example&resource=https://unknown.example",
        ] {
            assert_eq!(server.token(&key, refused).await.outcome(), "400 invalid_target", "{refused}");
        }
    }

    async fn a_key_without_audiences_may_ask_for_all_of_its_organization(server: Server) {
        let other = CreateApiKey {
            scopes: Some(list("chat")),
            audiences: Some(list("https://second.example")),
            ..CreateApiKey::default()
        };
        server.create(other).await;
        let key = server.api_key("chat").await;
        assert_eq!(server.token(&key, "").await.claims()["aud"], AUDIENCE);
        let answer = server.token(&key, "resource=https://second.example").await;
        assert_eq!(answer.claims()["aud"], "https://second.example");
    }

    async fn a_token_never_outlives_its_key(server: Server) {
        let ask = CreateApiKey {
            scopes: Some(list("chat")),
            expires_at: Some("2027-01-15T08:05:00.900Z".to_owned()),
            ..CreateApiKey::default()
        };
        let key = server.create(ask).await;
        let answer = server.token(&key, "").await;
        assert_eq!(answer.json()["expires_in"], 300);
        assert_eq!(answer.claims()["exp"], START + 300);
        server.wind(Duration::from_millis(299_500)).await;
        let answer = server.token(&key, "").await;
        assert_eq!(answer.json()["expires_in"], 1);
        server.wind(Duration::from_millis(600)).await;
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client", "under a second");
        server.wind(Duration::from_mins(1)).await;
        let answer = server.token(&key, "").await;
        assert_eq!(answer.outcome(), "401 invalid_client");
        assert_eq!(answer.description(), "the API key has expired");
    }

    async fn the_moment_of_issue_is_rounded_down(server: Server) {
        let key = server.api_key("chat").await;
        server.clock.wind(Duration::from_millis(999));
        assert_eq!(server.token(&key, "").await.claims()["iat"], START);
    }

    async fn a_revoked_key_gets_no_token(server: Server) {
        let key = server.api_key("chat").await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        server.revoke(&key.id).await;
        let answer = server.token(&key, "").await;
        assert_eq!(answer.outcome(), "401 invalid_client");
        assert_eq!(answer.description(), "the API key was revoked");
        let body = format!("client_id={}&client_secret={}", key.id, key.text);
        let answer = server.post(&body, &[]).await;
        assert_eq!(answer.outcome(), "400 invalid_client");
        assert_eq!(answer.header("www-authenticate"), None);
    }

    async fn revoking_twice_changes_nothing(server: Server) {
        let key = server.api_key("chat").await;
        let first = server.revoke(&key.id).await;
        server.clock.wind(Duration::from_mins(1));
        let second = server.revoke(&key.id).await;
        assert_eq!(first.revoked_at, second.revoked_at);
    }

    async fn a_dead_key_is_told_apart_from_an_unknown_one_for_thirty_days(server: Server) {
        let (revoked, rotated) = (server.api_key("chat").await, server.api_key("chat").await);
        server.revoke(&revoked.id).await;
        let rotate = format!("/v1/keys/{}/rotate", rotated.id);
        good(&server, "POST", &rotate, json!({})).await;
        for (days, is_known) in [(29, true), (2, false)] {
            server.clock.wind(Duration::from_hours(days * 24));
            server.mint.index().forget_long_dead(server.clock.now());
            server.follower.catch_up().await.unwrap();
            for key in [&revoked, &rotated] {
                let said = server.token(key, "").await.description();
                assert_eq!(said != "the API key is not known", is_known, "{said}");
            }
        }
        assert_eq!(server.token(&server.administrator, "").await.outcome(), "200");
    }
}

fn form(name: &str, value: &str) -> String {
    let encoded: Vec<String> = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{name}={}", encoded.concat())
}
