//! `Idempotency-Key`: a repeat makes nothing twice and shows no secret twice.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{at, call, good, key, org_admin, text, told};
use crate::server::{Answer, Server, on_both_engines};

async fn repeated(server: &Server, path: &str, key: &str, ask: Value) -> Answer {
    let administrator = &server.administrator.text;
    server.api_with(administrator, "POST", path, ask, &[("Idempotency-Key", key)]).await
}

async fn keys_named(server: &Server, name: &str) -> usize {
    let list = good(server, "GET", &format!("/v1/keys?status=all&name={name}"), Value::Null).await;
    list["items"].as_array().unwrap().len()
}

on_both_engines! {
    async fn a_repeat_answers_the_same_key_without_its_text(server: Server) {
        let ask = json!({"name": "once", "scopes": ["chat"]});
        let first = repeated(&server, "/v1/keys", "a", ask.clone()).await;
        let second = repeated(&server, "/v1/keys", "a", ask).await;
        assert_eq!((first.status, second.status), (201, 201));
        assert_eq!(first.json()["id"], second.json()["id"]);
        assert!(first.json()["api_key"].is_string() && second.json().get("api_key").is_none());
        assert!(second.json()["warnings"].to_string().contains("not shown again"));
        assert_eq!(keys_named(&server, "once").await, 1);
    }

    async fn every_route_that_makes_something_knows_a_repeat(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        for (path, ask) in [
            ("/v1/bots".to_owned(), json!({"name": "b"})),
            ("/v1/users".to_owned(), json!({"email": "ada@example.com"})),
            ("/v1/spaces".to_owned(), json!({"slug": "alpha"})),
            ("/v1/audiences".to_owned(), json!({"uri": "https://first.example"})),
            ("/v1/gateway-policies".to_owned(), json!({"name": "g", "audience": "default", "rules": [{"path": "/a"}]})),
            ("/v1/roles".to_owned(), json!({"name": "r", "level": "organization", "scopes": ["read:org/keys/*"]})),
            ("/v1/organizations".to_owned(), json!({"slug": "other"})),
            (format!("{}/rotate", at(&key)), json!({"grace_period_seconds": 60})),
        ] {
            let first = repeated(&server, &path, "same", ask.clone()).await;
            assert!(matches!(first.status, 200 | 201), "{path}: {first:?}");
            let second = repeated(&server, &path, "same", ask).await;
            assert_eq!((second.status, text(&second.json(), "id")), (first.status, text(&first.json(), "id")), "{path}");
            assert!(second.json().get("api_key").is_none(), "{path}");
        }
        let refresh = format!("{}/refresh", at(&key));
        let first = repeated(&server, &refresh, "same", json!({})).await.json();
        let second = repeated(&server, &refresh, "same", json!({})).await.json();
        assert_eq!(first["id"], second["id"], "a repeated refresh is no second one");
        assert!(second.get("api_key").is_none());
    }

    async fn another_body_under_the_same_key_is_a_conflict(server: Server) {
        assert_eq!(repeated(&server, "/v1/keys", "a", json!({"name": "one"})).await.status, 201);
        for (path, ask) in [
            ("/v1/keys", json!({"name": "two"})),
            ("/v1/keys", json!({"name": "one", "description": ""})),
            ("/v1/keys?organization=default", json!({"name": "one"})),
            ("/v1/keys?dry_run=true", json!({"name": "one"})),
        ] {
            let answer = repeated(&server, path, "a", ask.clone()).await;
            assert_eq!(told(&answer), "409 idempotency_key_reused", "{path} {ask}");
        }
        assert_eq!((keys_named(&server, "one").await, keys_named(&server, "two").await), (1, 0));
    }

    async fn another_route_or_another_actor_is_another_matter(server: Server) {
        let other = org_admin(&server).await;
        let ask = json!({"name": "same"});
        let first = repeated(&server, "/v1/keys", "a", ask.clone()).await.json();
        let bot = repeated(&server, "/v1/bots", "a", ask.clone()).await;
        assert_eq!(bot.status, 201);
        let headers = [("Idempotency-Key", "a")];
        let second = server.api_with(&other.text, "POST", "/v1/keys", ask, &headers).await.json();
        assert_ne!(first["id"], second["id"]);
        assert!(second["api_key"].is_string());
    }

    async fn what_was_refused_or_dry_is_not_remembered(server: Server) {
        assert_eq!(repeated(&server, "/v1/keys", "a", json!({"name": ""})).await.status, 400);
        assert_eq!(repeated(&server, "/v1/keys?dry_run=true", "a", json!({"name": "x"})).await.status, 200);
        let made = repeated(&server, "/v1/keys", "a", json!({"name": "x"})).await;
        assert_eq!(made.status, 201);
        assert!(made.json()["api_key"].is_string());
    }

    async fn a_key_is_remembered_for_exactly_a_day(server: Server) {
        let ask = json!({"name": "daily"});
        let first = repeated(&server, "/v1/keys", "a", ask.clone()).await.json();
        server.wind(Duration::from_hours(24) - Duration::from_millis(1)).await;
        assert_eq!(repeated(&server, "/v1/keys", "a", ask.clone()).await.json()["id"], first["id"]);
        server.wind(Duration::from_millis(1)).await;
        let second = repeated(&server, "/v1/keys", "a", ask.clone()).await.json();
        assert_ne!(second["id"], first["id"]);
        assert!(second["api_key"].is_string());
        assert_eq!(repeated(&server, "/v1/keys", "a", ask).await.json()["id"], second["id"], "and anew");
    }

    async fn racing_repeats_make_one_object(server: Server) {
        let server = Arc::new(server);
        let racing: Vec<_> = (0..20)
            .map(|_| {
                let server = server.clone();
                tokio::spawn(async move { repeated(&server, "/v1/keys", "race", json!({"name": "race"})).await })
            })
            .collect();
        let (mut ids, mut texts) = (Vec::new(), 0);
        for task in racing {
            let answer = task.await.unwrap();
            assert_eq!(answer.status, 201, "{answer:?}");
            ids.push(text(&answer.json(), "id"));
            texts += usize::from(answer.json()["api_key"].is_string());
        }
        ids.dedup();
        assert_eq!((ids.len(), texts, keys_named(&server, "race").await), (1, 1, 1));
    }

    async fn a_key_that_is_none_is_refused(server: Server) {
        let long = "x".repeat(256);
        for key in ["", long.as_str(), "caf\u{e9}", "a\tb"] {
            let answer = repeated(&server, "/v1/keys", key, json!({"name": "x"})).await;
            assert_eq!(told(&answer), "400 invalid_request", "{key}");
        }
        let two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
        let answer = server.api_with(&server.administrator.text, "POST", "/v1/keys", json!({"name": "x"}), &two).await;
        assert_eq!(told(&answer), "400 invalid_request");
        assert_eq!(repeated(&server, "/v1/keys", &"x".repeat(255), json!({"name": "x"})).await.status, 201);
        assert_eq!(call(&server, "POST", "/v1/keys", json!({"name": "x"})).await.status, 201, "nobody has to send one");
    }
}
