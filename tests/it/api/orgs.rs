//! Organizations: made, bootstrapped once, suspended.

use serde_json::{Value, json};

use crate::api::{
    call, each, fields, good, good_of, key_of, org_admin, other_org, outcome, outcome_of, text,
};
use crate::server::on_both_engines;

on_both_engines! {
    async fn a_dry_run_of_bootstrapping_tells_the_default_audience(server: Server) {
        good(&server, "POST", "/v1/organizations", json!({"slug": "second"})).await;
        let path = "/v1/organizations/second/bootstrap?dry_run=true";
        let would = good(&server, "POST", path, json!({"audience": "https://second.example"})).await;
        let also = &would["also"][0];
        assert_eq!(also["action"], "audience.create", "{would}");
        assert_eq!(also["after"]["uri"], "https://second.example", "{would}");
        assert_eq!(also["object"], would["after"]["default_audience"], "{would}");
    }

    async fn an_organization_has_keys_once_it_is_bootstrapped_and_that_is_once(server: Server) {
        let made = good(&server, "POST", "/v1/organizations", json!({"slug": "other", "name": "Other"})).await;
        assert_eq!((made["bootstrapped_at"].clone(), made["default_audience"].clone()), (Value::Null, Value::Null));
        let ask = json!({"name": "x", "org_role": "admin", "scopes": ["*:*"]});
        let keys = "/v1/keys?organization=other";
        assert_eq!(outcome(&server, "POST", keys, ask.clone()).await, "409 not_bootstrapped");
        assert_eq!(outcome(&server, "GET", keys, Value::Null).await, "409 not_bootstrapped");
        for (method, rest) in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/refresh"), ("POST", "/revoke"), ("GET", "/usage")] {
            let path = format!("/v1/keys/key_0123456789abcdef{rest}?organization=other");
            assert_eq!(outcome(&server, method, &path, json!({})).await, "409 not_bootstrapped", "{method} {path}");
        }
        let bootstrap = "/v1/organizations/other/bootstrap";
        for taken in ["https://api.example.com", "http://127.0.0.1/v1", "nonsense"] {
            let outcome = outcome(&server, "POST", bootstrap, json!({"audience": taken})).await;
            assert!(outcome == "409 audience_taken" || outcome == "400 invalid_request", "{taken}: {outcome}");
        }
        let dry = good(&server, "POST", &format!("{bootstrap}?dry_run=true"), json!({})).await;
        assert_eq!(dry["dry_run"], true);
        assert_eq!(outcome(&server, "POST", keys, ask.clone()).await, "409 not_bootstrapped");
        let ready = good(&server, "POST", bootstrap, json!({"audience": "https://other.example"})).await;
        assert!(ready["bootstrapped_at"].is_string() && ready["default_audience"].is_string());
        assert_eq!(outcome(&server, "POST", bootstrap, json!({})).await, "409 already_bootstrapped");
        let key = key_of(&good(&server, "POST", keys, ask).await);
        let claims = server.token(&key, "").await.claims();
        assert_eq!((claims["aud"].clone(), claims["org"].clone()), (json!("https://other.example"), made["id"].clone()));
        assert!(key.text.starts_with("tm_other_"));
        let shown = good(&server, "GET", "/v1/organizations/other", Value::Null).await;
        assert_eq!(shown, ready);
    }

    async fn an_organization_is_named_by_id_or_slug_and_its_slug_is_its_own(server: Server) {
        let made = good(&server, "POST", "/v1/organizations", json!({"slug": "other"})).await;
        for name in [text(&made, "id"), "other".to_owned()] {
            assert_eq!(good(&server, "GET", &format!("/v1/organizations/{name}"), Value::Null).await, made);
        }
        assert_eq!(outcome(&server, "POST", "/v1/organizations", json!({"slug": "other"})).await, "409 slug_taken");
        for slug in ["", "Other", "a.b", &"a".repeat(41)] {
            let answer = call(&server, "POST", "/v1/organizations", json!({"slug": slug, "name": "x"})).await;
            assert_eq!(fields(&answer), ["slug"], "{slug}");
        }
        for name in ["nobody", "org_0123456789abcdef", "..", "a%2Fb"] {
            assert_eq!(outcome(&server, "GET", &format!("/v1/organizations/{name}"), Value::Null).await, "404 not_found", "{name}");
        }
        let list = good(&server, "GET", "/v1/organizations", Value::Null).await;
        assert_eq!(each(&list, "slug"), ["other", "default"]);
    }

    async fn a_suspended_organization_stops_its_keys_and_no_others(server: Server) {
        let (_, there) = other_org(&server, "other").await;
        good(&server, "POST", "/v1/organizations/other/suspend", Value::Null).await;
        assert_eq!(server.token(&there, "").await.outcome(), "401 invalid_client");
        assert_eq!(outcome_of(&server, &there, "GET", "/v1/whoami", Value::Null).await, "401 unauthenticated");
        assert_eq!(server.token(&server.administrator, "").await.outcome(), "200");
        good(&server, "POST", "/v1/organizations/other/resume", Value::Null).await;
        assert_eq!(server.token(&there, "").await.outcome(), "200");
    }

    async fn an_organization_is_edited_by_its_own_admins(server: Server) {
        let (_, there) = other_org(&server, "other").await;
        let ask = json!({"uri": "https://second.example", "slug": "second"});
        good_of(&server, &there, "POST", "/v1/audiences", ask).await;
        let edit = json!({"name": "New name", "default_audience": "second"});
        good_of(&server, &there, "PATCH", "/v1/organization", edit).await;
        assert_eq!(server.token(&there, "").await.claims()["aud"], "https://second.example");
        let own = good(&server, "GET", "/v1/organization", Value::Null).await;
        assert_eq!(own["slug"], "default");
        for bad in [json!({"slug": "x"}), json!({"default_audience": "nobody"}), json!({"name": ""}), json!({"bootstrapped_at": null, "x": 1})] {
            assert_eq!(outcome(&server, "PATCH", "/v1/organization", bad.clone()).await, "400 invalid_request", "{bad}");
        }
    }

    async fn an_admin_of_the_account_acts_in_every_organization_and_one_of_an_organization_in_its_own(server: Server) {
        other_org(&server, "other").await;
        let admin = org_admin(&server).await;
        let ask = json!({"slug": "alpha"});
        assert_eq!(outcome_of(&server, &admin, "POST", "/v1/spaces?organization=other", ask.clone()).await, "404 not_found");
        let made = good(&server, "POST", "/v1/spaces?organization=other", ask).await;
        assert_ne!(made["organization"], server.org.id.to_string());
        let here = good(&server, "GET", "/v1/spaces", Value::Null).await;
        assert_eq!(here["items"], json!([]));
    }

    async fn the_installation_shows_what_it_was_set_up_with(server: Server) {
        let shown = good(&server, "GET", "/v1/installation", Value::Null).await;
        assert_eq!(shown, json!({"issuer": "http://127.0.0.1", "api_key_prefix": "tm", "algorithm": "ES256", "token_lifetime": 600}));
        let admins = good(&server, "GET", "/v1/installation/admins", Value::Null).await;
        assert_eq!(each(&admins, "role"), ["admin"]);
    }
}
