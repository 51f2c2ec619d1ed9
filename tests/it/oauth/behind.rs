//! A node that is asked about a token before it has heard of its key: the other node made both within
//! the last quarter of a second, or this one is cut off.

use serde_json::json;
use tenmint::mint::{Caller, ClientCredential, TokenRequest};
use tenmint::model::secret::PlainSecret;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::service::signing_keys::Asker;

use crate::follow::other_process;
use crate::oauth::feed::heard;
use crate::oauth::post_form;
use crate::server::{AUDIENCE, Answer, Key, Server, asked, on_both_engines};

/// A token of a key that another node made a moment ago, and that node.
pub async fn token_of_another_node(server: &Server) -> (String, Key, Node) {
    let node =
        Node::start(other_process(server).await, NodeConfig::in_directory(server.directory.path()))
            .await
            .unwrap();
    let ask = asked("read:projects/*");
    let key = Key::of(node.service.create_api_key(&server.call(), ask).await.unwrap().after);
    (issue(&node, &key).await, key, node)
}

/// A token by a signing key that another node made in an emergency, a moment ago.
async fn token_by_a_new_signing_key(server: &Server) -> String {
    let (_, key, node) = token_of_another_node(server).await;
    server.follower.catch_up().await.unwrap();
    let before = node.service.list_signing_keys(None).await.unwrap();
    for known in &before {
        node.service.withdraw_signing_key(Asker::Operator, &known.kid).await.unwrap();
    }
    node.follower.catch_up().await.unwrap();
    issue(&node, &key).await
}

async fn issue(node: &Node, key: &Key) -> String {
    let client = ClientCredential::bare(PlainSecret::new(key.text.clone()));
    let request = TokenRequest { client, ..TokenRequest::default() };
    let now = node.service.clock().now();
    let unrecorded = node.mint.issue(&request, Caller::default(), now).unwrap();
    unrecorded.await.unwrap().access_token
}

/// What the administrator is answered about a token.
async fn about(server: &Server, path: &str, token: &str) -> Answer {
    post_form(server, path, &server.administrator, &format!("token={token}")).await
}

on_both_engines! {
    async fn a_token_of_a_key_that_is_not_known_here_yet_is_revoked_all_the_same(server: Server) {
        let (token, _, _node) = token_of_another_node(&server).await;
        let known = server.mint.index().revision();
        assert_eq!(about(&server, "/oauth/revoke", &token).await.outcome(), "200");
        assert!(server.mint.index().revision() > known, "it was stored");
        let token_here = server.verifier(AUDIENCE).await.verify_held(&token).unwrap();
        assert!(heard(&server).await.voids(token_here.claims()), "and verifiers are told");
        assert_eq!(about(&server, "/oauth/introspect", &token).await.json()["active"], false);
    }

    async fn a_token_of_a_key_that_is_not_known_here_yet_is_told_as_what_it_is(server: Server) {
        let (token, key, node) = token_of_another_node(&server).await;
        let told = about(&server, "/oauth/introspect", &token).await.json();
        assert_eq!((&told["active"], &told["client_id"]), (&json!(true), &json!(key.id.to_string())));
        let bot = server.shown(&key.id).await.owner.to_string();
        node.service.suspend_bot(&server.call(), &bot, true).await.unwrap();
        server.follower.catch_up().await.unwrap();
        assert_eq!(about(&server, "/oauth/introspect", &token).await.json()["active"], false);
        node.service.suspend_bot(&server.call(), &bot, false).await.unwrap();
        let token = issue(&node, &key).await;
        let told = about(&server, "/oauth/introspect", &token).await.json();
        assert_eq!(told["active"], true, "it goes on again, as the other node knows");
    }

    async fn a_token_by_a_signing_key_that_is_not_known_here_yet_is_revoked_all_the_same(server: Server) {
        let token = token_by_a_new_signing_key(&server).await;
        assert_eq!(about(&server, "/oauth/revoke", &token).await.outcome(), "200");
        let token_here = server.verifier(AUDIENCE).await.verify_held(&token).unwrap();
        assert!(heard(&server).await.voids(token_here.claims()), "verifiers are told");
    }

    async fn a_node_that_is_cut_off_says_so_of_what_may_be_a_token_and_of_nothing_else(server: Server) {
        let token = token_by_a_new_signing_key(&server).await;
        server.service.close().await;
        assert_eq!(about(&server, "/oauth/revoke", &token).await.outcome(), "503 temporarily_unavailable");
        let of_another = token.split('.').enumerate().map(|(at, part)| if at == 1 { "e30" } else { part });
        let of_another = of_another.collect::<Vec<_>>().join(".");
        for other in [of_another.as_str(), "a.b.c", "nothing"] {
            assert_eq!(about(&server, "/oauth/revoke", other).await.outcome(), "200", "{other}");
        }
    }

    async fn a_node_that_is_cut_off_says_of_a_token_that_it_cannot_tell(server: Server) {
        let (token, _, _node) = token_of_another_node(&server).await;
        let known = server.token(&server.administrator, "").await.token();
        server.service.close().await;
        for path in ["/oauth/introspect", "/oauth/revoke"] {
            let answer = about(&server, path, &token).await;
            assert_eq!(answer.outcome(), "503 temporarily_unavailable", "{path}");
            assert!(answer.header("retry-after").is_some(), "{path}");
        }
        assert_eq!(about(&server, "/oauth/introspect", &known).await.json()["active"], true);
    }
}
