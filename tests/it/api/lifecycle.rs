//! What becomes of a key: rotated, refreshed, revoked, deleted.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{
    at, call, each, fields, good, good_of, key, key_of, org_admin, outcome, outcome_of, text, told,
};
use crate::server::{Answer, Key, Server, on_both_engines};

const MILLISECOND: Duration = Duration::from_millis(1);

async fn rotate(server: &Server, key: &Key, ask: Value) -> Key {
    key_of(&good(server, "POST", &format!("{}/rotate", at(key)), ask).await)
}

async fn refresh(server: &Server, key: &Key, ask: Value) -> Key {
    key_of(&good(server, "POST", &format!("{}/refresh", at(key)), ask).await)
}

async fn rotates(server: &Server, key: &Key) -> String {
    outcome(server, "POST", &format!("{}/rotate", at(key)), json!({})).await
}

async fn refreshes(server: &Server, key: &Key) -> String {
    outcome(server, "POST", &format!("{}/refresh", at(key)), json!({})).await
}

/// The status of a token request.
async fn issues(server: &Server, key: &Key) -> u16 {
    server.token(key, "").await.status
}

/// The status of a management call with a token.
async fn opens(server: &Server, token: &str) -> u16 {
    server.api_with(token, "GET", "/v1/whoami", Value::Null, &[]).await.status
}

async fn management_token(server: &Server, key: &Key) -> String {
    server.token(key, "audience=management").await.token()
}

async fn shown(server: &Server, key: &Key) -> Value {
    good(server, "GET", &at(key), Value::Null).await
}

on_both_engines! {
    async fn a_rotation_without_grace_ends_the_old_secret_and_its_tokens_at_once(server: Server) {
        let old = org_admin(&server).await;
        let token = management_token(&server, &old).await;
        assert_eq!(opens(&server, &token).await, 200);
        let new = rotate(&server, &old, json!({})).await;
        assert_eq!(new.id, old.id);
        assert_ne!(new.text, old.text);
        assert_eq!(issues(&server, &old).await, 401);
        assert_eq!(opens(&server, &old.text).await, 401);
        assert_eq!(opens(&server, &token).await, 401, "voided by its revision, in the same second");
        let token = management_token(&server, &new).await;
        assert_eq!(opens(&server, &token).await, 200, "no new one is");
    }

    async fn a_rotation_with_grace_lets_both_secrets_go_on_until_exactly_its_end(server: Server) {
        let old = key(&server, json!({"scopes": ["chat"]})).await;
        let new = rotate(&server, &old, json!({"grace_period_seconds": 100})).await;
        let lifetime = async |key: &Key| server.token(key, "").await.json()["expires_in"].clone();
        assert_eq!(lifetime(&old).await, 100, "no token outlives the grace of its secret");
        assert_eq!(lifetime(&new).await, 600);
        server.wind(Duration::from_secs(99)).await;
        assert_eq!(issues(&server, &old).await, 200);
        server.wind(Duration::from_millis(999)).await;
        assert_eq!(opens(&server, &old.text).await, 200, "the last millisecond");
        server.wind(MILLISECOND).await;
        assert_eq!((issues(&server, &old).await, issues(&server, &new).await), (401, 200));
        assert_eq!(opens(&server, &old.text).await, 401);
        assert_eq!(rotates(&server, &new).await, "200", "a grace that is over is in nobody's way");
    }

    async fn a_secret_in_its_grace_cannot_give_itself_what_outlives_it(server: Server) {
        let old = key(&server, json!({"scopes": ["*:*"], "org_role": "admin"})).await;
        let new = rotate(&server, &old, json!({"grace_period_seconds": 100})).await;
        let made = |name: &str| json!({"name": name, "scopes": ["read:x"]});
        let id = at(&old);
        for (method, path, ask) in [
            ("POST", "/v1/keys".to_owned(), made("for ever")),
            ("POST", format!("{id}/rotate"), json!({"force": true})),
            ("POST", format!("{id}/rotate"), json!({"force": true, "grace_period_seconds": 50})),
            ("POST", format!("{id}/refresh"), json!({})),
        ] {
            assert_eq!(outcome_of(&server, &old, method, &path, ask).await, "403 forbidden", "{path}");
        }
        let mut soon = made("not for long");
        soon["expires_at"] = json!("2027-01-15T08:01:00Z");
        assert_eq!(outcome_of(&server, &old, "POST", "/v1/keys", soon).await, "201");
        let token = async |key: &Key| server.token(key, "audience=management&scope=read:org/*").await.outcome();
        assert_eq!(token(&old).await, "400 invalid_target", "a token would not tell of the grace");
        let why = server.token(&old, "audience=management").await.description();
        assert!(why.contains("in its grace period: use the new secret"), "{why}");
        assert_eq!(token(&new).await, "200");
        assert_eq!(outcome_of(&server, &new, "POST", "/v1/keys", made("for ever")).await, "201");
        assert_eq!(outcome_of(&server, &old, "POST", &format!("{id}/revoke"), Value::Null).await, "200", "to end is no gift");
    }

    async fn a_grace_leaves_the_tokens_of_the_old_secret_alone(server: Server) {
        let old = org_admin(&server).await;
        let token = management_token(&server, &old).await;
        rotate(&server, &old, json!({"grace_period_seconds": 100})).await;
        assert_eq!(opens(&server, &token).await, 200);
    }

    async fn a_second_rotation_in_a_grace_is_refused_unless_forced_and_then_the_oldest_dies(server: Server) {
        let first = org_admin(&server).await;
        let token = management_token(&server, &first).await;
        let second = rotate(&server, &first, json!({"grace_period_seconds": 100})).await;
        let again = json!({"grace_period_seconds": 100});
        let path = format!("{}/rotate", at(&first));
        assert_eq!(outcome(&server, "POST", &path, again).await, "409 in_grace");
        assert_eq!(issues(&server, &first).await, 200, "refused, so nothing changed");
        let third = rotate(&server, &first, json!({"grace_period_seconds": 50, "force": true})).await;
        let all = [&first, &second, &third];
        let mut statuses = Vec::new();
        for key in all {
            statuses.push(issues(&server, key).await);
        }
        assert_eq!(statuses, [401, 200, 200]);
        assert_eq!(opens(&server, &token).await, 401, "the tokens of a dead secret are void");
        server.wind(Duration::from_secs(50)).await;
        assert_eq!((issues(&server, &second).await, issues(&server, &third).await), (401, 200));
    }

    async fn a_forced_rotation_prolongs_no_grace(server: Server) {
        let first = key(&server, json!({"scopes": ["chat"]})).await;
        let second = rotate(&server, &first, json!({"grace_period_seconds": 10})).await;
        server.wind(Duration::from_secs(9)).await;
        rotate(&server, &second, json!({"grace_period_seconds": 86_400, "force": true})).await;
        assert_eq!((issues(&server, &first).await, issues(&server, &second).await), (401, 200));
    }

    async fn a_dry_run_of_a_refresh_tells_the_end_of_the_old_key(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        let path = format!("{}/refresh?dry_run=true", at(&key));
        for (ask, change, after) in [
            (json!({}), "api_key.revoke", json!({"revoked_at": "2027-01-15T08:00:00Z"})),
            (
                json!({"grace_period_seconds": 60}),
                "api_key.edit",
                json!({"expires_at": "2027-01-15T08:01:00Z"}),
            ),
        ] {
            let would = good(&server, "POST", &path, ask).await;
            let also = &would["also"][0];
            assert_eq!((&also["action"], &also["after"]), (&json!(change), &after), "{would}");
            assert_eq!(also["object"], key.id.to_string());
        }
    }

    async fn a_grace_has_a_day_at_most_and_never_outlives_the_key(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"], "expires_at": "1h"})).await;
        for (verb, grace) in [("rotate", 86_401), ("refresh", 86_401), ("rotate", 4_294_967_295_u32)] {
            let ask = json!({"grace_period_seconds": grace});
            let answer = call(&server, "POST", &format!("{}/{verb}", at(&key)), ask).await;
            let unsaid = (verb == "refresh").then_some("expires_at");
            let expected: Vec<&str> = ["grace_period_seconds"].into_iter().chain(unsaid).collect();
            assert_eq!(fields(&answer), expected, "{answer:?}");
        }
        let new = rotate(&server, &key, json!({"grace_period_seconds": 86_400})).await;
        server.wind(Duration::from_secs(3_599)).await;
        assert_eq!((issues(&server, &key).await, issues(&server, &new).await), (200, 200));
        server.wind(Duration::from_secs(1)).await;
        assert_eq!((issues(&server, &key).await, issues(&server, &new).await), (401, 401));
    }

    async fn a_dead_key_is_neither_rotated_nor_refreshed_nor_edited(server: Server) {
        let expired = key(&server, json!({"expires_at": "1m"})).await;
        let (revoked, deleted) = (key(&server, json!({})).await, key(&server, json!({})).await);
        good(&server, "POST", &format!("{}/revoke", at(&revoked)), Value::Null).await;
        good(&server, "DELETE", &at(&deleted), Value::Null).await;
        server.wind(Duration::from_mins(1)).await;
        for dead in [&expired, &revoked, &deleted] {
            assert_eq!(rotates(&server, dead).await, "409 not_active");
            let never = json!({"expires_at": "never"});
            assert_eq!(outcome(&server, "POST", &format!("{}/refresh", at(dead)), never).await, "409 not_active");
            for edit in [json!({"name": "alive"}), json!({"expires_at": "2030-01-01"})] {
                assert_eq!(outcome(&server, "PATCH", &at(dead), edit).await, "409 not_active");
            }
            assert_eq!(issues(&server, dead).await, 401);
        }
    }

    async fn a_refresh_makes_a_key_like_the_old_one_that_replaces_it(server: Server) {
        server.register("https://first.example").await;
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let ask = json!({
            "name": "old", "description": "d", "scopes": ["chat", "read:x"], "space": "alpha",
            "audiences": ["https://first.example"], "allow": ["127.0.0.0/8"], "block": ["192.0.2.1"],
            "quota": {"limit": 9, "window": 60},
        });
        let old = key(&server, ask).await;
        let made = good(&server, "POST", &format!("{}/refresh", at(&old)), json!({})).await;
        let (before, new) = (shown(&server, &old).await, key_of(&made));
        for field in ["name", "description", "key_type", "owner", "scopes", "audiences", "allow", "block", "quota", "space"] {
            assert_eq!(made[field], before[field], "{field}");
        }
        assert_eq!(made["replaces"], old.id.to_string());
        assert_ne!((new.id, new.text.as_str()), (old.id, old.text.as_str()));
        assert_eq!((before["status"].clone(), made["status"].clone()), (json!("revoked"), json!("active")));
        assert_eq!((issues(&server, &old).await, issues(&server, &new).await), (401, 200));
    }

    async fn a_refresh_with_grace_lets_the_old_key_go_on_until_exactly_its_end(server: Server) {
        let old = org_admin(&server).await;
        let token = management_token(&server, &old).await;
        let new = refresh(&server, &old, json!({"grace_period_seconds": 100})).await;
        assert_eq!(shown(&server, &old).await["expires_at"], "2027-01-15T08:01:40Z");
        assert_eq!(opens(&server, &token).await, 200);
        assert_eq!(server.token(&old, "").await.json()["expires_in"], 100);
        server.wind(Duration::from_secs(100) - MILLISECOND).await;
        assert_eq!(opens(&server, &old.text).await, 200);
        server.wind(MILLISECOND).await;
        assert_eq!((opens(&server, &old.text).await, opens(&server, &token).await), (401, 401));
        assert_eq!((issues(&server, &old).await, issues(&server, &new).await), (401, 200));
        assert_eq!(shown(&server, &old).await["status"], "expired");
    }

    async fn nothing_prolongs_the_grace_of_a_refreshed_key_and_it_has_one_successor(server: Server) {
        let old = key(&server, json!({"scopes": ["chat"]})).await;
        refresh(&server, &old, json!({"grace_period_seconds": 100})).await;
        assert_eq!(rotates(&server, &old).await, "409 refreshed");
        let forced = json!({"force": true, "grace_period_seconds": 100});
        assert_eq!(outcome(&server, "POST", &format!("{}/rotate", at(&old)), forced).await, "409 refreshed");
        assert_eq!(refreshes(&server, &old).await, "409 refreshed");
        let later = call(&server, "PATCH", &at(&old), json!({"expires_at": "1d"})).await;
        assert_eq!(fields(&later), ["expires_at"]);
        good(&server, "PATCH", &at(&old), json!({"expires_at": "1m"})).await;
        server.wind(Duration::from_mins(1)).await;
        assert_eq!(issues(&server, &old).await, 401);
    }

    async fn a_refresh_never_lengthens_a_lifetime_by_leaving_the_expiry_out(server: Server) {
        // a bot that administers its own keys and no others
        let ask = json!({"name": "own", "org_role": "member", "scopes": ["write:org/keys/own/*", "read:org/keys/*", "chat"]});
        let holder = key(&server, ask).await;
        let owner = text(&shown(&server, &holder).await, "owner");
        let old = key(&server, json!({"bot": owner, "scopes": ["chat"], "expires_at": "10d"})).await;
        let path = format!("{}/refresh", at(&old));
        server.wind(Duration::from_hours(24)).await;
        for refused in [json!({}), json!({"expires_at": "never"}), json!({"expires_at": "241h"}), json!({"expires_at": "2027-01-16T08:00:00Z"})] {
            let answer = server.api(&holder, "POST", &path, refused.clone()).await;
            assert_eq!(fields(&answer), ["expires_at"], "{refused}: {answer:?}");
        }
        let dry = format!("{path}?dry_run=true");
        good(&server, "POST", &dry, json!({"expires_at": "never"})).await;
        good(&server, "POST", &dry, json!({"expires_at": "900d"})).await;
        assert_eq!(fields(&call(&server, "POST", &path, json!({})).await), ["expires_at"], "said by admins too");
        let new = good_of(&server, &holder, "POST", &path, json!({"expires_at": "240h"})).await;
        assert_eq!(new["expires_at"], "2027-01-26T08:00:00Z", "as long as the old one was made to live");
        let without = key(&server, json!({"scopes": ["chat"]})).await;
        let new = good(&server, "POST", &format!("{}/refresh", at(&without)), json!({})).await;
        assert_eq!(new["expires_at"], Value::Null, "one without gives one without");
    }

    async fn an_expiry_that_came_by_an_edit_is_taken_away_or_outlived_by_who_administers_keys_alone(server: Server) {
        let ask = json!({"name": "own", "org_role": "member", "scopes": ["write:org/keys/own/*", "read:org/keys/*", "chat"]});
        let holder = key(&server, ask).await;
        let owner = text(&shown(&server, &holder).await, "owner");
        let old = key(&server, json!({"bot": owner, "scopes": ["chat"]})).await;
        good(&server, "PATCH", &at(&old), json!({"expires_at": "10d"})).await;
        let path = format!("{}/refresh?dry_run=true", at(&old));
        for refused in ["never", "241h", "2030-01-01"] {
            let answer = server.api(&holder, "POST", &path, json!({"expires_at": refused})).await;
            assert_eq!(fields(&answer), ["expires_at"], "{refused}: {answer:?}");
        }
        for good_for_all in ["240h", "1h"] {
            good_of(&server, &holder, "POST", &path, json!({"expires_at": good_for_all})).await;
        }
        good(&server, "POST", &path, json!({"expires_at": "never"})).await;
        good(&server, "POST", &path, json!({"expires_at": "900d"})).await;
    }

    async fn a_refreshed_pair_shares_one_quota(server: Server) {
        let old = key(&server, json!({"scopes": ["chat"], "quota": {"limit": 2}})).await;
        assert_eq!(issues(&server, &old).await, 200);
        let new = refresh(&server, &old, json!({"grace_period_seconds": 100})).await;
        assert_eq!((issues(&server, &new).await, issues(&server, &new).await), (200, 429));
        assert_eq!(issues(&server, &old).await, 429, "what one has used up is gone for the other");
    }

    async fn of_fifty_racing_refreshes_one_makes_a_successor(server: Server) {
        let old = key(&server, json!({"scopes": ["chat"]})).await;
        let server = Arc::new(server);
        let racing: Vec<_> = (0..50)
            .map(|_| {
                let (server, path) = (server.clone(), format!("{}/refresh", at(&old)));
                let ask = json!({"grace_period_seconds": 60});
                tokio::spawn(async move { call(&server, "POST", &path, ask).await })
            })
            .collect();
        let mut answers: Vec<Answer> = Vec::new();
        for task in racing {
            answers.push(task.await.unwrap());
        }
        let outcomes: Vec<String> = answers.iter().map(told).collect();
        let of = |outcome: &str| outcomes.iter().filter(|told| *told == outcome).count();
        assert_eq!((of("201"), of("409 refreshed")), (1, 49), "{outcomes:?}");
        let listed = good(&server, "GET", "/v1/keys?status=all&name=test", Value::Null).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 2);
        server.wind(Duration::from_mins(1)).await;
        assert_eq!(issues(&server, &old).await, 401);
    }

    async fn a_revocation_is_at_once_for_ever_and_the_same_when_it_is_repeated(server: Server) {
        let key = org_admin(&server).await;
        let token = management_token(&server, &key).await;
        let path = format!("{}/revoke", at(&key));
        let first = good(&server, "POST", &path, Value::Null).await;
        assert_eq!((text(&first, "status").as_str(), text(&first, "revoked_at").as_str()), ("revoked", "2027-01-15T08:00:00Z"));
        assert_eq!((issues(&server, &key).await, opens(&server, &token).await), (401, 401));
        assert_eq!(server.token(&key, "").await.description(), "the API key was revoked");
        server.wind(Duration::from_hours(1)).await;
        assert_eq!(good(&server, "POST", &path, Value::Null).await, first, "a second one changes nothing");
        assert_eq!(good(&server, "POST", &path, json!({})).await, first);
    }

    async fn revoked_stands_above_expired(server: Server) {
        let key = key(&server, json!({"expires_at": "1m"})).await;
        server.wind(Duration::from_mins(2)).await;
        assert_eq!(shown(&server, &key).await["status"], "expired");
        good(&server, "POST", &format!("{}/revoke", at(&key)), Value::Null).await;
        assert_eq!(shown(&server, &key).await["status"], "revoked");
    }

    async fn a_deleted_key_is_revoked_and_leaves_the_lists_but_its_record_stays(server: Server) {
        let key = key(&server, json!({"name": "gone", "scopes": ["chat"]})).await;
        let deleted = good(&server, "DELETE", &at(&key), Value::Null).await;
        assert_eq!(text(&deleted, "status"), "revoked");
        assert_eq!(issues(&server, &key).await, 401);
        let id = key.id.to_string();
        for (status, there) in [("active", false), ("expired", false), ("revoked", false), ("all", true)] {
            let list = good(&server, "GET", &format!("/v1/keys?status={status}"), Value::Null).await;
            assert_eq!(each(&list, "id").contains(&id), there, "{status}");
        }
        assert_eq!(shown(&server, &key).await["name"], "gone");
        assert_eq!(good(&server, "DELETE", &at(&key), Value::Null).await, deleted, "idempotent");
        assert_eq!(good(&server, "POST", &format!("{}/revoke", at(&key)), Value::Null).await, deleted);
    }

    async fn a_revoked_key_can_still_be_deleted(server: Server) {
        let key = key(&server, json!({})).await;
        let revoked = good(&server, "POST", &format!("{}/revoke", at(&key)), Value::Null).await;
        server.wind(Duration::from_secs(5)).await;
        let deleted = good(&server, "DELETE", &at(&key), Value::Null).await;
        assert_eq!(deleted["revoked_at"], revoked["revoked_at"]);
        assert_eq!(deleted["deleted_at"], "2027-01-15T08:00:05Z");
    }

    async fn a_key_may_rotate_and_refresh_itself(server: Server) {
        let ask = json!({"org_role": "member", "scopes": ["write:org/keys/own/*", "chat"]});
        let first = key(&server, ask).await;
        let rotated = good_of(&server, &first, "POST", &format!("{}/rotate", at(&first)), json!({})).await;
        let second = key_of(&rotated);
        assert_eq!(outcome_of(&server, &first, "POST", &format!("{}/rotate", at(&first)), json!({})).await, "401 unauthenticated");
        let refreshed = good_of(&server, &second, "POST", &format!("{}/refresh", at(&first)), json!({})).await;
        assert_eq!(issues(&server, &key_of(&refreshed)).await, 200);
        assert_eq!(issues(&server, &second).await, 401);
    }
}
