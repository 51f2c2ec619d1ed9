//! One key after the other.

use std::time::Duration;

use serde_json::{Value, json};
use tenmint_verifier::{JwkSet, Verifier};

use super::{
    DAY, HOUR, KEYS, header, jwks, kid, kids, listed, pass, rotate, served, signed_by, signs_now,
    with_private_half,
};
use crate::api::{good, outcome_of};
use crate::server::{AUDIENCE, START, Server, on_both_engines};

/// A verifier that holds these keys, a day after the start.
fn a_day_later(server: &Server, keys: JwkSet) -> Verifier {
    let verifier = Verifier::builder(server.mint.issuer().as_str()).audience(AUDIENCE);
    verifier.clock(|| START + 86_400).with_keys(keys).unwrap()
}

on_both_engines! {
    async fn a_rotation_signs_with_the_standby_and_serves_the_old_key_as_long_as_its_tokens_live(server: Server) {
        let (old, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        assert_eq!(served(&server).await, [old.clone(), standby.clone()]);
        let before = server.token(&server.administrator, "").await;
        assert_eq!(signed_by(&before), old);
        // what a verifier holds that fetched the JWKS a day ago
        let stale = jwks(&server).await;
        pass(&server, DAY).await;
        let rotated = rotate(&server).await;
        assert_eq!((&rotated["kid"], &rotated["state"]), (&json!(standby), &json!("signing")));
        let after = server.token(&server.administrator, "").await;
        assert_eq!(signed_by(&after), standby);
        let verifier = a_day_later(&server, stale);
        assert!(verifier.verify_held(&after.token()).is_ok(), "no verifier notices");
        let next = kid(&server, "published").await;
        assert_eq!(served(&server).await, [standby.clone(), old.clone(), next.clone()]);
        assert_eq!(with_private_half(&server).await, [standby.clone(), next.clone()]);
        pass(&server, 2 * HOUR + Duration::from_secs(599)).await;
        assert_eq!(served(&server).await.len(), 3, "a token may live for ten minutes");
        pass(&server, Duration::from_secs(1)).await;
        assert_eq!(served(&server).await, [standby, next]);
        assert_eq!(kid(&server, "retired").await, old);
    }

    async fn a_young_standby_signs_only_when_every_verifier_can_hold_it(server: Server) {
        let (old, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        pass(&server, HOUR).await;
        let rotated = rotate(&server).await;
        assert_eq!((&rotated["kid"], &rotated["state"]), (&json!(standby), &json!("published")));
        assert_eq!(rotated["due_at"], "2027-01-16T08:00:00Z");
        let warning = rotated["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with(&format!("{standby} signs from 2027-01-16T08:00:00Z on")), "{warning}");
        assert_eq!(rotate(&server).await["kid"], json!(standby), "asked twice, it comes once");
        pass(&server, 23 * HOUR - Duration::from_secs(1)).await;
        assert_eq!(signs_now(&server).await, old);
        pass(&server, Duration::from_secs(1)).await;
        assert_eq!(signs_now(&server).await, standby);
        assert_eq!(kids(&server, "retiring").await, [old]);
    }

    async fn a_schedule_lets_keys_take_turns_every_ninety_days(server: Server) {
        let (old, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        let listed = listed(&server).await;
        let next = listed.iter().find(|key| key["state"] == "published").unwrap();
        assert_eq!(next["due_at"], "2027-04-15T08:00:00Z");
        pass(&server, 90 * DAY - Duration::from_secs(1)).await;
        assert_eq!(signs_now(&server).await, old);
        pass(&server, Duration::from_secs(1)).await;
        assert_eq!(signs_now(&server).await, standby);
        for turn in 2..5 {
            pass(&server, 90 * DAY).await;
            let signing = kid(&server, "signing").await;
            assert_eq!(signs_now(&server).await, signing);
            assert_eq!(kids(&server, "retired").await.len(), turn - 1);
            assert_eq!(served(&server).await.len(), 3, "one that signs, one that did, one that will");
        }
    }

    async fn every_step_is_in_the_audit_with_or_without_somebody_who_asked(server: Server) {
        pass(&server, DAY).await;
        rotate(&server).await;
        pass(&server, 3 * HOUR).await;
        let audit = good(&server, "GET", "/v1/installation/audit?action=signing_key.", Value::Null).await;
        let said: Vec<String> = audit["items"].as_array().unwrap().iter().rev().map(|entry| {
            let asked = if entry["actor"].is_null() { "due" } else { "asked" };
            format!("{} {asked}", entry["action"].as_str().unwrap())
        }).collect();
        let expected = ["rotate asked", "sign due", "publish due", "retire due"];
        assert_eq!(said, expected.map(|step| format!("signing_key.{step}")));
        assert!(!audit.to_string().contains("sealed"), "{audit}");
    }

    async fn another_algorithm_comes_by_a_rotation_and_is_told_before_it_signs(server: Server) {
        let old = kid(&server, "published").await;
        let asked = json!({"algorithm": "EdDSA"});
        let rotated = good(&server, "POST", &format!("{KEYS}/rotate"), asked).await;
        assert_eq!((&rotated["algorithm"], &rotated["state"]), (&json!("EdDSA"), &json!("published")));
        assert_eq!(kids(&server, "retired").await, [old], "it signed nothing");
        let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
        assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));
        pass(&server, DAY).await;
        let answer = server.token(&server.administrator, "").await;
        assert_eq!(header(&answer.token())["alg"], "EdDSA");
        let verifier = a_day_later(&server, jwks(&server).await);
        assert!(verifier.verify_held(&answer.token()).is_ok());
        let shown = good(&server, "GET", "/v1/installation", Value::Null).await;
        assert_eq!(shown["algorithm"], "EdDSA");
        let standby = listed(&server).await.into_iter().find(|key| key["state"] == "published").unwrap();
        assert_eq!(standby["algorithm"], "EdDSA");
        pass(&server, 3 * HOUR).await;
        let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
        assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["EdDSA"]));
    }

    async fn an_algorithm_that_is_none_is_refused_by_name(server: Server) {
        let asked = json!({"algorithm": "HS256"});
        let answer = server.api(&server.administrator, "POST", &format!("{KEYS}/rotate"), asked).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], "algorithm", "{answer:?}");
        assert_eq!(kids(&server, "published").await.len(), 1);
    }

    async fn a_dry_run_of_a_rotation_changes_nothing(server: Server) {
        pass(&server, DAY).await;
        let before = listed(&server).await;
        let path = format!("{KEYS}/rotate?dry_run=true");
        let would = good(&server, "POST", &path, json!({"algorithm": "EdDSA"})).await;
        assert_eq!(would["dry_run"], true);
        assert_eq!(listed(&server).await, before);
    }

    async fn signing_keys_are_for_admins_of_the_account_alone(server: Server) {
        let (_, stranger) = server.second_org("other").await;
        let signing = kid(&server, "signing").await;
        for (method, path) in [
            ("GET", KEYS.to_owned()),
            ("POST", format!("{KEYS}/rotate")),
            ("POST", format!("{KEYS}/{signing}/withdraw")),
        ] {
            let outcome = outcome_of(&server, &stranger, method, &path, Value::Null).await;
            assert_eq!(outcome, "403 forbidden", "{method} {path}");
        }
        assert_eq!(kid(&server, "signing").await, signing);
    }

    async fn a_node_that_was_cut_off_for_an_hour_serves_no_jwks_that_may_lack_a_key(server: Server) {
        server.clock.wind(HOUR);
        assert_eq!(server.get("/.well-known/jwks.json").await.status, 200);
        server.clock.wind(Duration::from_secs(1));
        let answer = server.get("/.well-known/jwks.json").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{answer:?}");
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.get("/.well-known/jwks.json").await.status, 200, "it is back");
    }
}
