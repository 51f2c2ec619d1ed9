//! `POST /oauth/revoke`: one token, by its key or by who administers tokens.

use std::time::Duration;

use serde_json::Value;

use crate::api::good;
use crate::oauth::feed::heard;
use crate::oauth::{imported, post_form};
use crate::server::{Key, on_both_engines};

on_both_engines! {
    async fn a_token_is_revoked_by_its_key_or_by_who_administers_tokens(server: Server) {
        let (key, other) = (server.api_key("chat").await, server.api_key("chat").await);
        let token = server.token(&key, "").await;
        let form = format!("token={}", token.token());
        assert_eq!(post_form(&server, "/oauth/revoke", &other, &form).await.outcome(), "400 unauthorized_client");
        assert!(!heard(&server).await.voids(server.verify(&token).await.unwrap().claims()));
        assert_eq!(post_form(&server, "/oauth/revoke", &key, &form).await.status, 200);
        assert!(heard(&server).await.voids(server.verify(&token).await.unwrap().claims()));
        assert_eq!(post_form(&server, "/oauth/revoke", &key, &form).await.status, 200, "again");
        let second = server.token(&key, "").await;
        assert!(!heard(&server).await.voids(server.verify(&second).await.unwrap().claims()), "one token and no other");
        let admin = server.administrator.clone();
        let form = format!("token={}&token_type_hint=refresh_token", second.token());
        assert_eq!(post_form(&server, "/oauth/revoke", &admin, &form).await.status, 200);
        assert!(heard(&server).await.voids(server.verify(&second).await.unwrap().claims()));
        let audit = good(&server, "GET", "/v1/audit?action=token.revoke", Value::Null).await;
        assert_eq!(audit["items"].as_array().unwrap().len(), 2);
    }

    async fn what_is_no_token_of_the_organization_is_answered_like_one_that_was_revoked(server: Server) {
        let key = server.api_key("chat").await;
        let (_, foreign) = server.second_org("second").await;
        let theirs = server.token(&foreign, "").await;
        for text in ["a.b.c", &format!("{}x", theirs.token()), &theirs.token()] {
            assert_eq!(post_form(&server, "/oauth/revoke", &key, &format!("token={text}")).await.status, 200);
        }
        assert!(heard(&server).await.is_empty(), "and nothing was");
        assert_eq!(post_form(&server, "/oauth/revoke", &key, "").await.outcome(), "400 invalid_request");
        let raw = post_form(&server, "/oauth/revoke", &key, &format!("token={}", key.text)).await;
        assert_eq!(raw.outcome(), "400 unsupported_token_type");
        assert!(!raw.body.contains(&key.text));
        let nobody = Key { text: "tm_x_wrong".to_owned(), ..key };
        assert_eq!(post_form(&server, "/oauth/revoke", &nobody, "token=a.b.c").await.outcome(), "401 invalid_client");
    }

    async fn an_unknown_text_is_answered_200_and_an_api_key_of_ones_own_organization_is_told_to_be_alive(server: Server) {
        let key = server.api_key("chat").await;
        let (_, foreign) = server.second_org("second").await;
        for text in ["sk_live_51HCOXX", "old.key.text"] {
            imported(&server, text).await;
        }
        let revoked = async |asker: &Key, text: &str| {
            post_form(&server, "/oauth/revoke", asker, &format!("token={text}")).await
        };
        let unknown = revoked(&key, "garbage").await;
        assert_eq!((unknown.status, unknown.body.as_str()), (200, "{}"));
        for text in ["a.b", "a.b.c.d", "tm_default_wrong", "%00", foreign.text.as_str()] {
            let answer = revoked(&key, text).await;
            assert_eq!((answer.status, &answer.body), (200, &unknown.body), "{text}");
        }
        let dead = server.api_key("chat").await;
        server.revoke(&dead.id).await;
        for text in [&key.text, "sk_live_51HCOXX", "old.key.text", &dead.text] {
            assert_eq!(revoked(&key, text).await.outcome(), "400 unsupported_token_type", "{text}");
        }
        assert_eq!(revoked(&foreign, "old.key.text").await.outcome(), "200", "nobody else's to know");
        assert_eq!(server.token(&key, "").await.status, 200, "nothing was revoked");
    }

    async fn a_token_that_is_dead_is_revoked_once_more(server: Server) {
        let key = server.api_key("chat").await;
        let token = server.token(&key, "").await.token();
        server.wind(Duration::from_mins(11)).await;
        assert_eq!(post_form(&server, "/oauth/revoke", &key, &format!("token={token}")).await.outcome(), "200");
    }
}
