//! Audiences: taken for ever, shared by admins of the account, with a catalogue and tokens of their
//! own kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tenmint::model::audience::{Audience, TokenType};
use tenmint::model::id::{AudienceId, OrgId};
use tenmint::model::time::Timestamp;
use tenmint::store::changes::Subject;
use tenmint::store::{Store, audiences as stored_audiences};

use crate::api::{
    at, call, fields, good, good_of, key, key_of, message, org_admin, other_org, outcome,
    outcome_of, text, told,
};
use crate::server::{Answer, on_both_engines};

/// The header of the token of an answer.
fn header(answer: &Answer) -> Value {
    let token = answer.token();
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// An audience as a version from before made it, when nobody compared the slugs of shared ones.
fn shared_audience(org: OrgId, name: &str, at: Timestamp) -> Audience {
    Audience {
        id: AudienceId::from_random([u8::try_from(at.as_millis() / 1_000).unwrap(); 16]),
        org,
        slug: "shared".parse().unwrap(),
        uri: format!("https://{name}.example").parse().unwrap(),
        catalogue: None,
        token_lifetime: None,
        token_type: TokenType::default(),
        created_at: at,
        shared_at: Some(at),
        raw_keys: None,
    }
}

on_both_engines! {
    async fn a_uri_is_one_audiences_for_ever_in_the_whole_installation(server: Server) {
        let (_, there) = other_org(&server, "other").await;
        let ask = json!({"uri": "https://first.example"});
        good(&server, "POST", "/v1/audiences", ask.clone()).await;
        assert_eq!(outcome(&server, "POST", "/v1/audiences", ask.clone()).await, "409 audience_taken");
        assert_eq!(outcome_of(&server, &there, "POST", "/v1/audiences", ask).await, "409 audience_taken");
        let slug = json!({"uri": "https://second.example", "slug": "first-example"});
        assert_eq!(outcome(&server, "POST", "/v1/audiences", slug.clone()).await, "409 audience_taken");
        assert_eq!(outcome_of(&server, &there, "POST", "/v1/audiences", slug).await, "201", "a slug is the organization's");
    }

    async fn the_issuer_and_what_is_below_it_is_nobodys_audience(server: Server) {
        for uri in ["http://127.0.0.1", "http://127.0.0.1/", "http://127.0.0.1/v1", "http://127.0.0.1/v1/x", "http://127.0.0.1?x"] {
            let answer = call(&server, "POST", "/v1/audiences", json!({"uri": uri, "slug": "x"})).await;
            assert_eq!(fields(&answer), ["uri"], "{uri}");
        }
        for uri in ["", "api", "https://x.example#y", "https://a b", "https://"] {
            let answer = call(&server, "POST", "/v1/audiences", json!({"uri": uri, "slug": "x"})).await;
            assert_eq!(fields(&answer), ["uri"], "{uri}");
        }
        let answer = call(&server, "POST", "/v1/audiences", json!({"uri": "https://x.example", "slug": "management"})).await;
        assert_eq!(fields(&answer), ["slug"]);
    }

    async fn a_uri_that_another_one_equals_is_refused_with_the_fix(server: Server) {
        for (uri, fix) in [
            ("HTTP://127.0.0.1/v1", "the scheme in lower case"),
            ("https://API.example/v1", "the host in lower case"),
            ("http://127.0.0.1:80/v1", "leave the port out"),
            ("https://api.example:443", "leave the port out"),
            ("https://api.example:", "leave the `:` out"),
            ("https://api.example:08443", "the port as a number"),
            ("http://me@127.0.0.1/v1", "leave `user@` out"),
            ("http://127.0.0.1./v1", "end of the host"),
            ("http://127.1/v1", "four numbers"),
            ("http://[0:0::1]/v1", "`[::1]`"),
            ("http://127%2E0.0.1/v1", "write `.` as it is"),
            ("https://api.example/a/../b", "`.` and `..`"),
            ("https://api.example/%2e%2E/b", "write `.` as it is"),
            ("https://a%20b", "the host in letters"),
            ("https://api.example/a%2fb", "`%2F`"),
            ("https://api.example/%61", "as it is"),
            ("https://api.example/%6", "two hex digits"),
            ("https://api.example#x", "leave the fragment out"),
        ] {
            let ask = json!({"uri": uri, "slug": "x"});
            let answer = call(&server, "POST", "/v1/audiences", ask).await;
            assert_eq!(fields(&answer), ["uri"], "{uri}");
            assert!(message(&answer).contains(fix), "{uri}: {}", message(&answer));
        }
        for uri in ["https://api.example:8443/a.b/c?d=e%20f", "http://[::1]:8080", "urn:Example:API"] {
            let ask = json!({"uri": uri});
            assert_eq!(outcome(&server, "POST", "/v1/audiences", ask).await, "201", "{uri}");
        }
    }

    async fn a_shared_audience_takes_tokens_of_all_organizations_and_each_says_its_own(server: Server) {
        let (org, there) = other_org(&server, "other").await;
        let admin = org_admin(&server).await;
        let ask = json!({"uri": "https://shared.example", "slug": "shared", "shared": true});
        assert_eq!(outcome_of(&server, &admin, "POST", "/v1/audiences", ask.clone()).await, "403 forbidden");
        let made = good(&server, "POST", "/v1/audiences", ask).await;
        assert!(made["shared_at"].is_string());
        for (key, org) in [(&admin, server.org.id.to_string()), (&there, text(&org, "id"))] {
            let claims = server.token(key, "resource=https://shared.example").await.claims();
            assert_eq!((claims["aud"].clone(), claims["org"].clone()), (json!("https://shared.example"), json!(org)));
            let id = text(&made, "id");
            good_of(&server, key, "GET", &format!("/v1/audiences/{id}"), Value::Null).await;
            let edit = json!({"token_lifetime": 60});
            assert_eq!(outcome_of(&server, key, "PATCH", &format!("/v1/audiences/{id}"), edit).await, "403 forbidden");
        }
        let ask = json!({"name": "x", "scopes": ["chat"], "audiences": ["https://shared.example"]});
        let made = key_of(&good_of(&server, &there, "POST", "/v1/keys", ask).await);
        assert_eq!(server.token(&made, "").await.claims()["aud"], "https://shared.example");
    }

    async fn every_organization_finds_a_shared_audience_by_its_slug_unless_it_has_one_itself(server: Server) {
        let (_, there) = other_org(&server, "other").await;
        let ask = json!({"uri": "https://shared.example", "slug": "shared", "shared": true});
        let made = good(&server, "POST", "/v1/audiences", ask).await;
        let id = text(&made, "id");
        let slug = "/v1/audiences/shared";
        assert_eq!(good_of(&server, &there, "GET", slug, Value::Null).await["id"], id);
        let edit = json!({"token_lifetime": 60});
        assert_eq!(outcome_of(&server, &there, "PATCH", slug, edit).await, "403 forbidden");
        let ask = json!({"name": "x", "scopes": ["chat"], "audiences": ["shared"]});
        let key = good_of(&server, &there, "POST", "/v1/keys", ask).await;
        assert_eq!(key["audiences"], json!([id]));
        let edit = json!({"default_audience": "shared"});
        assert_eq!(good_of(&server, &there, "PATCH", "/v1/organization", edit).await["default_audience"], id);
        for key in [&there, &key_of(&key)] {
            assert_eq!(server.token(key, "audience=shared").await.claims()["aud"], "https://shared.example");
        }
        let ask = json!({"uri": "https://own.example", "slug": "shared"});
        let own = text(&good_of(&server, &there, "POST", "/v1/audiences", ask).await, "id");
        assert_eq!(good_of(&server, &there, "GET", slug, Value::Null).await["id"], own);
        assert_eq!(server.token(&there, "audience=shared").await.claims()["aud"], "https://own.example");
        assert_eq!(server.token(&server.administrator, "audience=shared").await.claims()["aud"], "https://shared.example");
    }

    async fn no_two_shared_audiences_have_one_slug(server: Server) {
        other_org(&server, "other").await;
        let ask = |uri: &str, shared: bool| json!({"uri": uri, "slug": "shared", "shared": shared});
        good(&server, "POST", "/v1/audiences", ask("https://first.example", true)).await;
        let path = "/v1/audiences?organization=other";
        let second = call(&server, "POST", path, ask("https://second.example", true)).await;
        assert_eq!(told(&second), "409 slug_taken");
        assert!(second.json()["detail"].as_str().unwrap().contains("`shared`"), "{second:?}");
        let again = outcome(&server, "POST", path, ask("https://first.example", true)).await;
        assert_eq!(again, "409 audience_taken");
        assert_eq!(outcome(&server, "POST", path, ask("https://second.example", false)).await, "201");
    }

    async fn of_two_shared_audiences_of_one_slug_from_before_the_older_one_is_found(server: Server) {
        let (_, there) = other_org(&server, "other").await;
        let (second, _) = other_org(&server, "second").await;
        let orgs = [(text(&second, "id").parse().unwrap(), "younger", 2_000), (server.org.id, "older", 1_000)];
        let store = Store::open(&server.database).await.unwrap();
        for (org, name, millis) in orgs {
            let mut write = store.begin().await.unwrap();
            let audience = shared_audience(org, name, Timestamp::from_millis(millis));
            stored_audiences::insert(&mut write, &audience).await.unwrap();
            write.touched(Subject::Audience(audience.id), server.clock.now()).await.unwrap();
            write.commit().await.unwrap();
        }
        store.close().await;
        server.follower.catch_up().await.unwrap();
        for _ in 0..2 {
            let shown = good_of(&server, &there, "GET", "/v1/audiences/shared", Value::Null).await;
            assert_eq!(shown["uri"], "https://older.example");
            assert_eq!(server.token(&there, "audience=shared").await.claims()["aud"], "https://older.example");
            // an edit of the younger one gives it no precedence
            let edit = json!({"token_lifetime": 60});
            good(&server, "PATCH", "/v1/audiences/https:%2F%2Fyounger.example", edit).await;
        }
    }

    async fn a_scope_that_no_audience_of_the_key_knows_is_refused_with_the_nearest_one(server: Server) {
        let ask = json!({"uri": "https://first.example", "slug": "first", "actions": ["chat"], "paths": ["projects/{id}", "projects/{id}/logs"]});
        good(&server, "POST", "/v1/audiences", ask).await;
        good(&server, "POST", "/v1/audiences", json!({"uri": "https://open.example", "slug": "open"})).await;
        let made = async |scope: &str, audiences: Value| {
            let ask = json!({"name": "x", "scopes": [scope], "audiences": audiences});
            call(&server, "POST", "/v1/keys", ask).await
        };
        for known in ["chat", "read:projects/alpha", "*:projects/*", "admin:org/keys/x", "*:*"] {
            assert_eq!(told(&made(known, json!(["first"])).await), "201", "{known}");
        }
        for (unknown, nearest) in [("chaat", "`chat`"), ("read:project/a", "`read:projects/a`"), ("reed:projects/a", "`read:projects/a`")] {
            let answer = made(unknown, json!(["first"])).await;
            assert_eq!(fields(&answer), ["scopes"], "{answer:?}");
            assert!(message(&answer).contains(nearest), "{unknown}: {}", message(&answer));
            assert_eq!(told(&made(unknown, json!(["first", "open"])).await), "201", "one that knows all is among them");
        }
        let key = key_of(&made("chat", json!(["first"])).await.json());
        let answer = call(&server, "PATCH", &at(&key), json!({"scopes": ["chaat"]})).await;
        assert!(message(&answer).contains("`chat`"), "an edit too: {answer:?}");
        let key = key_of(&made("chaat", json!(["open"])).await.json());
        let answer = call(&server, "PATCH", &at(&key), json!({"audiences": ["first"]})).await;
        assert!(message(&answer).contains("`chat`"), "of the audiences alone: {answer:?}");
        assert_eq!(told(&call(&server, "PATCH", &at(&key), json!({"audiences": ["open", "first"]})).await), "200");
    }

    async fn a_catalogue_may_change_and_goes_with_null(server: Server) {
        let ask = json!({"uri": "https://first.example", "slug": "first", "actions": ["chat"]});
        good(&server, "POST", "/v1/audiences", ask).await;
        let ask = json!({"name": "x", "scopes": ["models:x"], "audiences": ["first"]});
        assert_eq!(outcome(&server, "POST", "/v1/keys", ask.clone()).await, "400 invalid_request");
        good(&server, "PATCH", "/v1/audiences/first", json!({"actions": ["chat", "models"]})).await;
        assert_eq!(outcome(&server, "POST", "/v1/keys", ask.clone()).await, "201");
        good(&server, "PATCH", "/v1/audiences/first", json!({"actions": ["chat"]})).await;
        assert_eq!(outcome(&server, "POST", "/v1/keys", ask.clone()).await, "400 invalid_request");
        let none = good(&server, "PATCH", "/v1/audiences/first", json!({"actions": null, "paths": null})).await;
        assert_eq!(none["catalogue"], Value::Null);
        assert_eq!(outcome(&server, "POST", "/v1/keys", ask).await, "201");
        for bad in [json!({"actions": ["Chat"]}), json!({"paths": ["a//b"]}), json!({"uri": "https://x.example"}), json!({"slug": "x"}), json!({"shared": true})] {
            assert_eq!(outcome(&server, "PATCH", "/v1/audiences/first", bad.clone()).await, "400 invalid_request", "{bad}");
        }
    }

    async fn the_tokens_of_an_audience_live_and_are_typed_as_it_says(server: Server) {
        let ask = json!({"uri": "https://short.example", "slug": "short", "token_lifetime": 60, "token_type": "JWT"});
        good(&server, "POST", "/v1/audiences", ask).await;
        server.register("https://plain.example").await;
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        for (form, seconds, typ) in [
            ("audience=short", 60, "JWT"),
            ("resource=https://plain.example", 600, "at+jwt"),
            ("resource=https://plain.example&resource=https://short.example", 60, "at+jwt"),
            ("", 600, "at+jwt"),
        ] {
            let answer = server.token(&key, form).await;
            let claims = answer.claims();
            assert_eq!(answer.json()["expires_in"], seconds, "{form}");
            assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), seconds);
            assert_eq!(header(&answer)["typ"], typ, "{form}");
        }
        good(&server, "PATCH", "/v1/audiences/short", json!({"token_lifetime": null, "token_type": "at+jwt"})).await;
        let answer = server.token(&key, "audience=short").await;
        assert_eq!((answer.json()["expires_in"].clone(), header(&answer)["typ"].clone()), (json!(600), json!("at+jwt")));
        for bad in [json!(59), json!(601), json!(0), json!(-1), json!("60"), json!(4_294_967_296_u64)] {
            let answer = call(&server, "PATCH", "/v1/audiences/short", json!({"token_lifetime": bad})).await;
            assert_eq!(fields(&answer), ["token_lifetime"], "{bad}");
        }
    }

    async fn a_key_is_restricted_to_audiences_by_id_uri_or_slug(server: Server) {
        let made = good(&server, "POST", "/v1/audiences", json!({"uri": "https://first.example", "slug": "first"})).await;
        for name in [text(&made, "id"), "https://first.example".to_owned(), "first".to_owned()] {
            let shown = good(&server, "POST", "/v1/keys", json!({"name": "x", "audiences": [name, "first"]})).await;
            assert_eq!(shown["audiences"], json!([made["id"]]), "once");
        }
        let answer = call(&server, "POST", "/v1/keys", json!({"name": "x", "audiences": ["nobody"]})).await;
        assert_eq!(fields(&answer), ["audiences"]);
        let encoded = good(&server, "GET", "/v1/audiences/https:%2F%2Ffirst.example", Value::Null).await;
        assert_eq!(encoded, made);
    }
}
