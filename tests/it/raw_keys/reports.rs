//! What a verifier tells of the calls to its API, as the service shows it.

use serde_json::{Value, json};
use tenmint_verifier::{RawKeys, VerifyError};

use crate::api::{good, key};
use crate::raw_keys::{Api, on_reachable_servers};
use crate::server::Key;

on_reachable_servers! {
    async fn every_call_is_told_raw_or_by_token_and_told_once(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let api = Api::taking(&server, |raw_keys| raw_keys.header("X-Api-Key").reporting_uses()).await;
        let api = api.ready().await;
        let own = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let token = format!("Bearer {}", server.token(&own, "").await.token());
        for (headers, calls) in [
            ([("x-api-key", &*own.text), ("user-agent", "old/1")], 3),
            ([("authorization", &*token), ("user-agent", "new/2")], 5),
            // what is refused for its scope came all the same, what is nobody's did not
            ([("authorization", &*token), ("user-agent", &*token)], 1),
            ([("x-api-key", "tm_default_nobody"), ("user-agent", "old/1")], 1),
        ] {
            for _ in 0..calls {
                api.send("GET", "/projects/alpha", &headers).await;
            }
        }
        for _ in 0..2 {
            api.verifier.report_uses().await.unwrap();
            writer.write_all().await.unwrap();
            let apis = good(&server, "GET", &format!("/v1/keys/{}/migration", own.id), Value::Null).await;
            let told = &apis["items"][0];
            assert_eq!((&told["raw"]["calls"], &told["token"]["calls"]), (&json!(3), &json!(6)), "{apis}");
            assert_eq!((&told["raw"]["seen"], &told["token"]["seen"]), (&json!(1), &json!(1)));
            assert_eq!(told["raw"]["user_agent"], "old/1");
            assert_eq!(told["token"]["user_agent"], "new/2", "no token is told as a user agent");
            assert_eq!(told["raw"]["address"], "127.0.0.1");
        }
    }

    async fn an_api_that_did_not_ask_for_it_reports_nothing(server: Server) {
        let api = Api::of(&server).await.ready().await;
        let own = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        api.bearer("GET", "/projects/alpha", &own.text).await;
        assert_eq!(api.verifier.report_uses().await, Ok(()));
        assert!(server.mint.usage().take().api_uses.iter().all(|row| row.uses.calls == 0));
    }

    async fn a_report_that_cannot_be_sent_is_lost_and_holds_nobody_up(server: Server) {
        let mut server = server;
        let api = Api::taking(&server, RawKeys::reporting_uses).await.ready().await;
        let own: Key = key(&server, json!({"scopes": ["read:projects/alpha"]})).await;
        let token = format!("Bearer {}", server.token(&own, "").await.token());
        let call = async || api.send("GET", "/projects/alpha", &[("authorization", &token)]).await.status;
        assert_eq!(call().await, 200);
        server.stop().await;
        assert_eq!(api.verifier.report_uses().await, Err(VerifyError::IssuerUnavailable));
        assert_eq!(call().await, 200);
    }
}
