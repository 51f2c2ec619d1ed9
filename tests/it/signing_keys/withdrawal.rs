//! A signing key that leaked.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tenmint_verifier::{InvalidToken, Verifier, VerifyError};
use tokio::time::timeout;

use super::{
    DAY, HOUR, KEYS, header, kid, kids, listed, pass, rotate, served, signs_now, with_private_half,
    withdraw,
};
use crate::api::{good, outcome_of};
use crate::server::{AUDIENCE, Engine, Server, Setup, on_both_engines};

/// What the feed says.
async fn feed(server: &Server) -> (Value, Value) {
    let answer = server.get("/oauth/revocations").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let claims = answer.body.split('.').nth(1).unwrap();
    let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    (header(&answer.body), claims)
}

on_both_engines! {
    async fn a_key_that_leaked_is_gone_at_once_and_the_standby_signs(server: Server) {
        let (leaked, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        let form = "audience=management";
        let management = server.token(&server.administrator, form).await.token();
        let call = async |token: &str| server.api_with(token, "GET", "/v1/keys", Value::Null, &[]).await.status;
        assert_eq!(call(&management).await, 200);
        pass(&server, DAY).await;
        let management = server.token(&server.administrator, form).await.token();
        let (_, before) = feed(&server).await;
        let withdrawn = withdraw(&server, &leaked).await;
        assert_eq!((&withdrawn["kid"], &withdrawn["state"]), (&json!(leaked), &json!("withdrawn")));
        let warnings = withdrawn["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "the standby is a day old: {warnings:?}");
        assert!(warnings[0].as_str().unwrap().starts_with("every token that it signed is void"));
        assert_eq!(call(&management).await, 401);
        assert_eq!(signs_now(&server).await, standby);
        let next = kid(&server, "published").await;
        assert_eq!(served(&server).await, [standby.clone(), next.clone()]);
        assert_eq!(with_private_half(&server).await, [standby.clone(), next]);
        let (header, feed) = feed(&server).await;
        assert_eq!(feed["kids"], json!([leaked]));
        assert!(feed["rev"].as_u64() > before["rev"].as_u64(), "who waits is woken");
        assert_eq!(header["kid"], json!(standby));
    }

    async fn it_is_said_where_verifiers_cannot_know_the_next_key_yet(server: Server) {
        let (leaked, standby) = (kid(&server, "signing").await, kid(&server, "published").await);
        let withdrawn = withdraw(&server, &leaked).await;
        let warnings = withdrawn["warnings"].as_array().unwrap();
        let last = warnings.last().unwrap().as_str().unwrap();
        assert!(last.starts_with(&format!("{standby} signs from now on and came into the JWKS only at")), "{last}");
        // and the next of the next, at once
        let withdrawn = withdraw(&server, &standby).await;
        assert_eq!(withdrawn["state"], "withdrawn");
        assert_eq!(server.token(&server.administrator, "").await.status, 200);
        let withdrawn = kids(&server, "withdrawn").await;
        assert!([leaked, standby].iter().all(|kid| withdrawn.contains(kid)), "{withdrawn:?}");
        assert_eq!(served(&server).await.len(), 2);
    }

    async fn a_key_of_any_state_can_be_withdrawn_and_more_than_once(server: Server) {
        pass(&server, DAY).await;
        rotate(&server).await;
        let (retiring, signing) = (kid(&server, "retiring").await, kid(&server, "signing").await);
        let published = kid(&server, "published").await;
        for kid in [&retiring, &published] {
            assert_eq!(withdraw(&server, kid).await["state"], "withdrawn");
        }
        assert!(withdraw(&server, &published).await["warnings"].is_null(), "it signed nothing");
        pass(&server, 3 * HOUR).await;
        assert_eq!(kid(&server, "signing").await, signing);
        assert_eq!(kids(&server, "published").await.len(), 1);
        let (_, feed) = feed(&server).await;
        assert_eq!(feed["kids"].as_array().unwrap().len(), 2);
    }

    async fn a_key_that_there_never_was_is_not_found(server: Server) {
        for kid in ["nobody", "%20", "a%2fb"] {
            let path = format!("{KEYS}/{kid}/withdraw");
            let outcome = outcome_of(&server, &server.administrator, "POST", &path, Value::Null).await;
            assert_eq!(outcome, "404 not_found", "{kid}");
        }
        assert_eq!(listed(&server).await.len(), 2);
    }

    async fn a_withdrawal_holds_after_a_restart_and_a_dry_run_withdraws_nothing(server: Server) {
        let leaked = kid(&server, "signing").await;
        let path = format!("{KEYS}/{leaked}/withdraw?dry_run=true");
        let would = good(&server, "POST", &path, Value::Null).await;
        assert_eq!((&would["dry_run"], &would["after"]["state"]), (&json!(true), &json!("withdrawn")));
        assert_eq!(kid(&server, "signing").await, leaked);
        withdraw(&server, &leaked).await;
        let directory = tempfile::tempdir().unwrap();
        let service = crate::follow::other_process(&server).await;
        let config = tenmint::service::node::NodeConfig::in_directory(directory.path());
        let node = tenmint::service::node::Node::start(service, config).await.unwrap();
        let document = node.mint.public_keys().document;
        assert!(!String::from_utf8_lossy(&document).contains(&leaked));
        let heard = node.mint.signed_feed(&tenmint::mint::HeardFeed::default(), server.clock.now()).unwrap();
        let claims = std::str::from_utf8(&heard.text).unwrap().split('.').nth(1).unwrap();
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert!(claims.contains(&leaked), "{claims}");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_that_follows_the_feed_refuses_what_a_withdrawn_key_signed() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(server) = (Setup { is_reachable: true, ..Setup::on(engine) }).start().await else {
            continue;
        };
        let clock = server.clock.clone();
        let verifier = Verifier::builder(server.mint.issuer().as_str())
            .audience(AUDIENCE)
            .clock(move || clock.now().as_seconds())
            .remote()
            .unwrap();
        verifier.ready(Duration::from_secs(10)).await.unwrap();
        let leaked = kid(&server, "signing").await;
        let old = server.token(&server.administrator, "").await.token();
        assert!(verifier.verify(&old).await.is_ok());
        withdraw(&server, &leaked).await;
        let refused = async {
            loop {
                match verifier.verify(&old).await {
                    Ok(_) => tokio::task::yield_now().await,
                    Err(VerifyError::InvalidToken(cause)) => return cause,
                    Err(cause) => panic!("{cause}"),
                }
            }
        };
        let cause = timeout(Duration::from_secs(10), refused).await.expect("it hears of it");
        assert_eq!(cause, InvalidToken::WithdrawnKey);
        let new = server.token(&server.administrator, "").await.token();
        assert!(verifier.verify(&new).await.is_ok(), "the standby was in its JWKS");
        // another one, whose standby the verifier has never heard of
        let second = kid(&server, "signing").await;
        withdraw(&server, &second).await;
        let third = server.token(&server.administrator, "").await.token();
        let accepted = async { while verifier.verify(&third).await.is_err() {} };
        assert!(timeout(Duration::from_secs(90), accepted).await.is_ok(), "it fetches the JWKS");
    }
}
