//! In which order a request for a token is checked, and what of it counts against a quota.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::api::{good, key};
use crate::listener::connect_from;
use crate::oauth::post_form;
use crate::server::{Answer, Key, Server, basic, on_both_engines, token_request};

/// What a client at this address of the machine is answered.
async fn from(server: &Server, address: &str, key: &Key) -> Answer {
    let mut stream = connect_from(server, address).await;
    let request = token_request(&basic(&key.id.to_string(), &key.text));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Answer::parse(&answer)
}

async fn outcome(server: &Server, key: &Key, form: &str) -> String {
    server.token(key, form).await.outcome()
}

const WRONG_SCOPE: &str = "scope=models";
const WRONG_AUDIENCE: &str = "audience=nowhere";
const BOTH_WRONG: &str = "audience=nowhere&scope=models";

on_both_engines! {
    async fn of_two_things_that_are_wrong_the_first_is_told(server: Server) {
        let fields = json!({"scopes": ["chat"], "allow": ["127.0.0.1"], "quota": {"limit": 1}});
        let key = key(&server, fields).await;
        let at = format!("/v1/keys/{}", key.id);
        assert_eq!(outcome(&server, &key, BOTH_WRONG).await, "400 invalid_target", "audience before scope");
        assert_eq!(outcome(&server, &key, WRONG_SCOPE).await, "400 invalid_scope");
        assert_eq!(outcome(&server, &key, "").await, "200");
        for form in [WRONG_AUDIENCE, WRONG_SCOPE, BOTH_WRONG] {
            assert_eq!(outcome(&server, &key, form).await, "429 temporarily_unavailable", "quota before {form}");
        }
        good(&server, "PATCH", &at, json!({"allow": ["192.0.2.1"]})).await;
        for form in ["", WRONG_AUDIENCE, WRONG_SCOPE, BOTH_WRONG] {
            assert_eq!(outcome(&server, &key, form).await, "400 unauthorized_client", "address before quota, {form}");
        }
        good(&server, "POST", &format!("{at}/revoke"), Value::Null).await;
        assert_eq!(outcome(&server, &key, BOTH_WRONG).await, "401 invalid_client", "status before address");
    }

    async fn a_request_that_is_refused_does_not_count_against_the_quota(server: Server) {
        let fields = json!({"scopes": ["chat"], "allow": ["127.0.0.1"], "quota": {"limit": 1}});
        let key = key(&server, fields).await;
        for _ in 0..3 {
            assert_eq!(outcome(&server, &key, WRONG_SCOPE).await, "400 invalid_scope");
            assert_eq!(outcome(&server, &key, WRONG_AUDIENCE).await, "400 invalid_target");
            assert_eq!(from(&server, "127.0.0.2", &key).await.outcome(), "400 unauthorized_client");
        }
        assert_eq!(outcome(&server, &key, "").await, "200");
        assert_eq!(outcome(&server, &key, "").await, "429 temporarily_unavailable");
    }

    async fn a_raw_key_that_is_worth_nothing_there_does_not_count_against_its_quota(server: Server) {
        server.register("https://other.example").await;
        let fields = json!({"scopes": ["chat"], "allow": ["192.0.2.1"], "audiences": ["default"], "quota": {"limit": 1}});
        let asker = key(&server, json!({"org_role": "verifier"})).await;
        let key = key(&server, fields).await;
        let of = async |form: &str| {
            post_form(&server, "/oauth/introspect", &asker, &format!("token={}&{form}", key.text)).await
        };
        for wrong in ["audience=default", "audience=default&client_ip=192.0.2.2", "audience=https://other.example&client_ip=192.0.2.1"] {
            assert_eq!(of(wrong).await.json(), json!({"active": false}), "{wrong}");
        }
        assert_eq!(of("client_ip=192.0.2.1").await.outcome(), "400 invalid_target");
        let right = "audience=default&client_ip=192.0.2.1";
        assert_eq!(of(right).await.json()["active"], true);
        assert_eq!(of(right).await.outcome(), "429 temporarily_unavailable");
    }

    async fn who_has_used_up_its_quota_is_told_how_much_it_is_and_when_to_come_again(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"], "quota": {"limit": 1, "window": 60}})).await;
        let issued = server.token(&key, "").await;
        assert_eq!(issued.status, 200);
        assert_eq!(issued.header("ratelimit-policy"), Some("\"api-key\";q=1;w=60"));
        let spent = server.token(&key, "").await;
        assert_eq!(spent.outcome(), "429 temporarily_unavailable");
        let seconds: u64 = spent.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=63).contains(&seconds), "{seconds}");
        assert_eq!(spent.header("ratelimit"), Some(format!("\"api-key\";r=0;t={seconds}").as_str()));
        assert_eq!(spent.header("ratelimit-policy"), Some("\"api-key\";q=1;w=60"));
        assert_eq!(spent.header("www-authenticate"), None, "the credential is a right one");
        server.wind(std::time::Duration::from_secs(seconds)).await;
        assert_eq!(server.token(&key, "").await.status, 200, "the server keeps its word");
    }
}
