//! Credentials that are nobody's, by address: above a rate they are told to wait, and the right one
//! beside them never is.

use std::time::Duration;

use serde_json::json;
use tenmint::http::client_ip::TrustedProxies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::listener::connect_from;
use crate::oauth::post_form;
use crate::server::{Answer, Engine, Key, Server, Setup, basic, on_both_engines, token_request};

/// Failures at once and in a minute, by default.
pub const MOST: usize = 60;
/// An API key that nobody has.
pub const WRONG: &str = "tm_default_0000000000000000wrong";

/// What the token endpoint answers to a key by Bearer, from an address of this machine.
async fn token_from(server: &Server, from: &str, text: &str) -> Answer {
    let mut stream = connect_from(server, from).await;
    stream.write_all(token_request(&format!("Bearer {text}")).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Answer::parse(&answer)
}

/// The same, as a proxy that is trusted tells of an address.
async fn token_for(server: &Server, caller: &str, text: &str) -> String {
    let bearer = format!("Bearer {text}");
    let headers = [("Authorization", bearer.as_str()), ("X-Forwarded-For", caller)];
    server.post("", &headers).await.outcome()
}

/// Sends as many wrong keys as are told so, and sees that the next one is told to wait.
async fn flood(server: &Server) {
    for number in 0..MOST {
        assert_eq!(token_from(server, "127.0.0.1", WRONG).await.status, 401, "{number}");
    }
    assert_eq!(token_from(server, "127.0.0.1", WRONG).await.status, 429);
}

async fn behind_a_proxy() -> Server {
    let mut setup = Setup::on(Engine::Sqlite);
    let proxies = ["127.0.0.1".to_owned()];
    setup.trusted_proxies = TrustedProxies::parse(&proxies, "x-forwarded-for").unwrap();
    setup.start().await.unwrap()
}

on_both_engines! {
    async fn a_right_key_gets_its_token_from_the_very_address_of_a_flood(server: Server) {
        flood(&server).await;
        for from in ["127.0.0.1", "127.0.0.2"] {
            assert_eq!(token_from(&server, from, &server.administrator.text).await.status, 200, "{from}");
        }
        let basic = server.token(&server.administrator, "scope=read:projects/alpha").await;
        assert_eq!(basic.outcome(), "200");
        // and it takes nothing off what the wrong ones owe
        assert_eq!(token_from(&server, "127.0.0.1", WRONG).await.status, 429);
        assert_eq!(token_from(&server, "127.0.0.2", WRONG).await.status, 401, "a stranger beside it");
    }

    async fn a_refusal_says_when_to_come_again_and_keeps_the_promise(server: Server) {
        flood(&server).await;
        let refused = token_from(&server, "127.0.0.1", WRONG).await;
        assert_eq!(refused.outcome(), "429 temporarily_unavailable");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        assert_eq!(refused.header("content-type"), Some("application/json"));
        assert_eq!(refused.header("www-authenticate"), None);
        assert!(!format!("{refused:?}").contains("wrong"), "{refused:?}");
        server.wind(Duration::from_secs(1)).await;
        assert_eq!(token_from(&server, "127.0.0.1", WRONG).await.status, 401);
        assert_eq!(token_from(&server, "127.0.0.1", WRONG).await.status, 429);
        server.wind(Duration::from_mins(1)).await;
        flood(&server).await;
    }

    async fn every_way_of_sending_a_wrong_key_counts(server: Server) {
        let known = server.administrator.clone();
        let stranger = Key { text: WRONG.to_owned(), ..known.clone() };
        for number in 0..MOST / 3 {
            assert_eq!(server.token(&stranger, "").await.status, 401, "{number}");
            let body = format!("client_id={}&client_secret={WRONG}", known.id);
            assert_eq!(server.post(&body, &[]).await.outcome(), "400 invalid_client");
            // a right key under an id of somebody else is as wrong
            let other = basic("key_0000000000000000", &known.text);
            assert_eq!(server.post("", &[("Authorization", &other)]).await.status, 401);
        }
        assert_eq!(server.token(&stranger, "").await.outcome(), "429 temporarily_unavailable");
    }

    async fn what_is_no_guess_counts_for_nothing(server: Server) {
        let spent = server.api_key("read:projects/*").await;
        let revoked = server.api_key("read:projects/*").await;
        server.revoke(&revoked.id).await;
        for _ in 0..MOST {
            let beyond = server.token(&spent, "scope=write:projects/alpha").await;
            assert_eq!(beyond.outcome(), "400 invalid_scope");
            // a secret that matched: its holder is told for good what became of it
            let ended = server.token(&revoked, "").await;
            assert_eq!(ended.description(), "the API key was revoked");
            assert_eq!(server.post("", &[]).await.outcome(), "401 invalid_client", "no credential");
            let unreadable = server.post("", &[("Authorization", "Basic !")]).await;
            assert_eq!(unreadable.outcome(), "401 invalid_client");
            assert_eq!(server.api(&revoked, "GET", "/v1/keys", json!(null)).await.status, 401);
            let expired = server.api_with("e30.e30.e30", "GET", "/v1/keys", json!(null), &[]).await;
            assert_eq!(expired.status, 401, "a token is guessed by nobody");
        }
        assert_eq!(token_from(&server, "127.0.0.1", WRONG).await.status, 401);
    }

    async fn changes_with_a_dead_credential_fill_the_audit_no_faster_than_the_rate(server: Server) {
        let dead = server.api_key("read:projects/*").await;
        server.revoke(&dead.id).await;
        let create = async || server.api(&dead, "POST", "/v1/keys", json!({})).await;
        for _ in 0..MOST {
            assert_eq!(create().await.status, 401);
        }
        for _ in 0..5 {
            let refused = create().await;
            assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("too_many_failures")));
        }
        let path = format!("/v1/audit?api_key={}&limit=200", dead.id);
        let audit = server.api(&server.administrator, "GET", &path, json!(null)).await.json();
        let refused = audit["items"].as_array().unwrap().iter().filter(|entry| entry["outcome"] != "done");
        assert_eq!(refused.count(), MOST);
    }

    async fn the_other_faces_count_into_the_same(server: Server) {
        let known = server.administrator.clone();
        let stranger = Key { text: WRONG.to_owned(), ..known.clone() };
        for number in 0..MOST / 3 {
            for path in ["/oauth/introspect", "/oauth/revoke"] {
                let answer = post_form(&server, path, &stranger, "token=x").await;
                assert_eq!(answer.outcome(), "401 invalid_client", "{number}");
            }
            assert_eq!(server.api(&stranger, "GET", "/v1/keys", json!(null)).await.status, 401);
        }
        for path in ["/oauth/introspect", "/oauth/revoke"] {
            let answer = post_form(&server, path, &stranger, "token=x").await;
            assert_eq!(answer.outcome(), "429 temporarily_unavailable");
            assert_eq!(post_form(&server, path, &known, "token=x.y.z").await.status, 200);
        }
        let refused = server.api(&stranger, "POST", "/v1/keys", json!({})).await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("too_many_failures")));
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(server.api(&known, "GET", "/v1/keys", json!(null)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_each_caller_is_counted_and_of_ipv6_each_network() {
    let server = behind_a_proxy().await;
    for number in 0..MOST {
        let one = format!("2001:db8:0:1:{number:x}::1");
        assert_eq!(token_for(&server, &one, WRONG).await, "401 invalid_client", "{one}");
        assert_eq!(token_for(&server, "192.0.2.1", WRONG).await, "401 invalid_client");
    }
    for (caller, outcome) in [
        ("2001:db8:0:1:ffff::1", "429 temporarily_unavailable"),
        ("2001:db8:0:2::1", "401 invalid_client"),
        ("192.0.2.1", "429 temporarily_unavailable"),
        ("::ffff:192.0.2.1", "429 temporarily_unavailable"),
        ("192.0.2.2", "401 invalid_client"),
        // what a caller itself writes is not believed
        ("198.51.100.1, 192.0.2.1", "429 temporarily_unavailable"),
    ] {
        assert_eq!(token_for(&server, caller, WRONG).await, outcome, "{caller}");
        assert_eq!(token_for(&server, caller, &server.administrator.text).await, "200", "{caller}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_wrong_keys_at_once_are_counted_one_by_one() {
    let server = std::sync::Arc::new(Setup::on(Engine::Sqlite).start().await.unwrap());
    let tries = (0..200).map(|_| {
        let server = server.clone();
        tokio::spawn(async move { token_from(&server, "127.0.0.1", WRONG).await.status })
    });
    let mut told = 0;
    for one in tries.collect::<Vec<_>>() {
        told += usize::from(one.await.unwrap() == 401);
    }
    assert_eq!(told, MOST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_of_our_own_counts_as_nobodys_failure() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    server.mint.index().doubt();
    for _ in 0..=MOST {
        assert_eq!(token_from(&server, "127.0.0.1", WRONG).await.status, 503);
    }
    server.follower.catch_up().await.unwrap();
    assert_eq!(token_from(&server, "127.0.0.1", WRONG).await.status, 401);
}
