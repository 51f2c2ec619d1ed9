//! API keys that nobody has, of gateways and of their end callers, by address.

use crate::api::key;
use crate::forward_auth::{Held, guarded, told};
use crate::oauth::failures::{MOST, WRONG};
use crate::server::{Key, Server, on_both_engines};

/// What a gateway is told of a raw key that an end caller at this address sends.
async fn asked(server: &Server, gateway: &Key, (address, text): (&str, &str)) -> String {
    let held = Held { address: Some(address), ..Held::get("/projects/alpha", text) };
    told(&held.asked(server, gateway, "api").await)
}

on_both_engines! {
    async fn an_end_caller_that_guesses_is_told_to_wait_and_no_other_is(server: Server) {
        let gateway = guarded(&server).await;
        let good = key(&server, serde_json::json!({"scopes": ["read:projects/*"]})).await;
        for number in 0..MOST {
            assert_eq!(asked(&server, &gateway, ("192.0.2.1", WRONG)).await, "401 unknown_api_key", "{number}");
        }
        assert_eq!(asked(&server, &gateway, ("192.0.2.1", WRONG)).await, "403 try_later");
        assert_eq!(asked(&server, &gateway, ("192.0.2.1", &good.text)).await, "200");
        assert_eq!(asked(&server, &gateway, ("192.0.2.2", WRONG)).await, "401 unknown_api_key");
        server.revoke(&good.id).await;
        assert_eq!(asked(&server, &gateway, ("192.0.2.1", &good.text)).await, "401 unknown_api_key", "no guess");
    }

    async fn a_gateway_that_guesses_is_told_to_wait(server: Server) {
        let gateway = guarded(&server).await;
        let stranger = Key { text: WRONG.to_owned(), ..gateway.clone() };
        for number in 0..MOST {
            assert_eq!(asked(&server, &stranger, ("192.0.2.1", WRONG)).await, "403 unknown_gateway", "{number}");
        }
        assert_eq!(asked(&server, &stranger, ("192.0.2.9", WRONG)).await, "403 try_later");
        assert_eq!(asked(&server, &gateway, ("192.0.2.1", WRONG)).await, "401 unknown_api_key");
    }
}
