//! `GET /oauth/revocations`: what ends tokens before they expire is told to whoever verifies them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tenmint::model::id::{ApiKeyId, OrgId};
use tenmint::model::revocation::{RevokedSubject, RevokedTokens};
use tenmint::store::changes::Subject;
use tenmint::store::{Store, revocations};
use tenmint_verifier::{Claims, InvalidToken, Revocation, Revocations, VerifyError};

use crate::api::{good, key, key_of, user_key, user_key_in};
use crate::server::{AUDIENCE, Answer, Key, START, Server, on_both_engines};

const FEED: &str = "/oauth/revocations";

/// What a feed says: the claims of its JWT.
fn said(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let claims = answer.body.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// What a verifier would hold that heard all of it.
pub(super) async fn heard(server: &Server) -> Revocations {
    let mut held = Revocations::default();
    for entry in said(&server.get(FEED).await)["void"].as_array().unwrap() {
        held.void(serde_json::from_value::<Revocation>(entry.clone()).unwrap());
    }
    held
}

/// Whether it voids a token of these claims.
fn voids(held: &Revocations, claims: &Value) -> bool {
    let rev = claims["rev"].as_u64().unwrap();
    let subjects = ["client_id", "sub", "org", "space"];
    subjects.iter().filter_map(|name| claims[name].as_str()).any(|id| held.voids_of(id, rev))
}

/// A token of a key, as its readers see it.
async fn token(server: &Server, key: &Key) -> Claims {
    let answer = server.token(key, "").await;
    server.verify(&answer).await.unwrap().claims().clone()
}

/// Makes so many subjects of one kind void, in one change.
async fn void(server: &Server, subjects: Vec<RevokedSubject>, org: OrgId) {
    let store = Store::open(&server.database).await.unwrap();
    let mut write = store.begin().await.unwrap();
    let now = server.clock.now();
    for subject in &subjects {
        let what = (subject, RevokedTokens::All);
        revocations::insert(&mut write, what, Some(org), now).await.unwrap();
    }
    write.touched(Subject::Installation, now).await.unwrap();
    write.commit().await.unwrap();
    store.close().await;
    server.follower.catch_up().await.unwrap();
}

on_both_engines! {
    async fn the_feed_is_signed_tagged_and_open_to_every_origin(server: Server) {
        let answer = server.send("GET", FEED, &[("Origin", "https://app.example")], b"").await;
        let feed = said(&answer);
        assert_eq!((&feed["iss"], &feed["iat"], &feed["since"]), (&json!("http://127.0.0.1"), &json!(START), &json!(0)));
        assert_eq!(feed["void"], json!([]));
        assert_eq!(answer.header("content-type"), Some("application/jwt"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("age"), Some("0"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("etag"), Some("\"1.0\""));
        let refused = server.verifier(AUDIENCE).await.verify_held(&answer.body);
        assert_eq!(refused.unwrap_err(), VerifyError::InvalidToken(InvalidToken::WrongType));
    }

    async fn each_way_to_end_tokens_is_in_the_feed_and_voids_none_that_come_after(server: Server) {
        for (what, method, path, ask) in [
            ("rotated", "POST", "/rotate", json!({})),
            ("narrowed in scope", "PATCH", "", json!({"scopes": ["read:a/b"]})),
            ("narrowed in audience", "PATCH", "", json!({"audiences": ["default"]})),
            ("narrowed in address", "PATCH", "", json!({"block": ["192.0.2.1"]})),
            ("narrowed in time", "PATCH", "", json!({"expires_at": "2h"})),
        ] {
            let key = key(&server, json!({"name": what, "scopes": ["read:a/*"]})).await;
            let before = token(&server, &key).await;
            assert!(!heard(&server).await.voids(&before));
            let changed = good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
            assert!(heard(&server).await.voids(&before), "{what}");
            let text = changed["api_key"].as_str().map_or(key.text.clone(), str::to_owned);
            let after = token(&server, &Key { text, ..key }).await;
            assert!(!heard(&server).await.voids(&after), "{what}, and fetched in the same second");
        }
        for (what, method, path, ask) in [
            ("revoked", "POST", "/revoke", Value::Null),
            ("deleted", "DELETE", "", Value::Null),
            ("refreshed", "POST", "/refresh", json!({})),
        ] {
            let key = key(&server, json!({"name": what, "scopes": ["read:a/*"]})).await;
            let mut before = token(&server, &key).await;
            good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
            before.rev = u64::MAX;
            assert!(heard(&server).await.voids(&before), "{what}: whatever a node that is cut off issues");
        }
    }

    async fn what_ends_no_token_is_not_in_the_feed(server: Server) {
        let key = key(&server, json!({"name": "k", "scopes": ["read:a/*"]})).await;
        for (method, path, ask) in [
            ("PATCH", "", json!({"name": "other"})),
            ("PATCH", "", json!({"scopes": ["read:a/*", "read:b/*"]})),
            ("PATCH", "", json!({"quota": {"limit": 1000}})),
            ("POST", "/rotate", json!({"grace_period_seconds": 60})),
            ("POST", "/revoke?dry_run=true", Value::Null),
        ] {
            good(&server, method, &format!("/v1/keys/{}{path}", key.id), ask).await;
        }
        assert_eq!(said(&server.get(FEED).await)["void"], json!([]));
        good(&server, "POST", &format!("/v1/keys/{}/rotate", key.id), json!({"force": true, "grace_period_seconds": 60})).await;
        assert_eq!(heard(&server).await.len(), 1, "a forced rotation ends the oldest secret");
    }

    async fn a_suspension_voids_what_was_issued_before_it_even_after_it_has_ended(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        good(&server, "POST", "/v1/organizations", json!({"slug": "other"})).await;
        good(&server, "POST", "/v1/organizations/other/bootstrap", json!({})).await;
        let inside = key(&server, json!({"name": "i", "space": "alpha", "org_role": "none"})).await;
        let of_bot = key(&server, json!({"name": "b"})).await;
        let bot = good(&server, "GET", &format!("/v1/keys/{}", of_bot.id), Value::Null).await["owner"].as_str().unwrap().to_owned();
        let made = good(&server, "POST", "/v1/keys?organization=other", json!({"name": "o"})).await;
        let foreign = key_of(&made);
        for (key, place) in [
            (&inside, "/v1/spaces/alpha".to_owned()),
            (&of_bot, format!("/v1/bots/{bot}")),
            (&foreign, "/v1/organizations/other".to_owned()),
        ] {
            let management = server.token(key, "audience=management").await.token();
            let whoami = async |token: &str| server.api_with(token, "GET", "/v1/whoami", Value::Null, &[]).await.status;
            assert_eq!(whoami(&management).await, 200, "{place}");
            let issued = server.token(key, "audience=management").await.claims();
            good(&server, "POST", &format!("{place}/suspend"), Value::Null).await;
            good(&server, "POST", &format!("{place}/resume"), Value::Null).await;
            assert_eq!(whoami(&management).await, 401, "{place}");
            let held = heard(&server).await;
            assert!(voids(&held, &issued), "{place}");
            let after = server.token(key, "audience=management").await;
            assert_eq!(whoami(&after.token()).await, 200, "{place}");
            assert!(!voids(&held, &after.claims()), "{place}");
        }
    }

    async fn a_member_that_is_suspended_or_removed_loses_its_tokens_there_and_nowhere_else(server: Server) {
        let other = good(&server, "POST", "/v1/organizations", json!({"slug": "other"})).await;
        let other: OrgId = other["id"].as_str().unwrap().parse().unwrap();
        let ask = json!({"email": "ada@example.com"});
        let ada = good(&server, "POST", "/v1/users", ask.clone()).await["id"].as_str().unwrap().to_owned();
        good(&server, "POST", "/v1/users?organization=other", ask).await;
        let here = user_key(&server, &ada, None).await;
        let there = user_key_in(&server, other, &ada, None).await;
        for (method, path, is_everywhere) in [
            ("POST", format!("/v1/users/{ada}/suspend"), false),
            ("POST", format!("/v1/users/{ada}/resume"), false),
            ("POST", format!("/v1/installation/users/{ada}/suspend"), true),
            ("POST", format!("/v1/installation/users/{ada}/resume"), true),
            ("DELETE", format!("/v1/users/{ada}"), false),
        ] {
            if path.ends_with("/resume") {
                good(&server, method, &path, Value::Null).await;
                continue;
            }
            let management = async |key| server.token(key, "audience=management").await.claims();
            let (here, there) = (management(&here).await, management(&there).await);
            good(&server, method, &path, Value::Null).await;
            let held = heard(&server).await;
            assert_eq!((voids(&held, &here), voids(&held, &there)), (true, is_everywhere), "{path}");
        }
    }

    async fn no_end_of_an_organization_hides_that_a_person_was_suspended_everywhere(server: Server) {
        let ask = json!({"email": "ada@example.com"});
        let ada = good(&server, "POST", "/v1/users", ask).await["id"].as_str().unwrap().to_owned();
        void(&server, vec![RevokedSubject::Owner(ada.parse().unwrap())], server.org.id).await;
        good(&server, "POST", &format!("/v1/installation/users/{ada}/suspend"), Value::Null).await;
        void(&server, vec![RevokedSubject::Org(server.org.id)], server.org.id).await;
        let store = Store::open(&server.database).await.unwrap();
        // what a node reads that starts now
        let left = revocations::list_after(&mut store.read().await.unwrap(), 0).await.unwrap();
        assert!(left.iter().any(|left| left.subject == ada), "{left:?}");
    }

    async fn a_verifier_hears_what_came_after_what_it_knows(server: Server) {
        let ids: Vec<ApiKeyId> = vec![server.api_key("chat").await.id, server.api_key("chat").await.id];
        server.revoke(&ids[0]).await;
        let first = server.get(FEED).await;
        let (etag, rev) = (first.header("etag").unwrap().to_owned(), said(&first)["rev"].as_u64().unwrap());
        for headers in [vec![("If-None-Match", etag.as_str())], vec![]] {
            let path = if headers.is_empty() { format!("{FEED}?since={rev}") } else { FEED.to_owned() };
            let unchanged = server.send("GET", &path, &headers, b"").await;
            assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
            assert_eq!(unchanged.header("etag"), Some(etag.as_str()));
            assert_eq!(unchanged.header("age"), Some("0"), "how old what it says is, on a 304 too");
        }
        server.revoke(&ids[1]).await;
        let next = said(&server.get(&format!("{FEED}?since={rev}")).await);
        assert_eq!((next["since"].as_u64().unwrap(), next["void"].as_array().unwrap().len()), (rev, 1));
        let all = said(&server.get(FEED).await);
        assert_eq!((all["since"].as_u64().unwrap(), all["void"].as_array().unwrap().len()), (0, 2));
        let other_epoch = [("If-None-Match", "\"other.99\"")];
        let anew = said(&server.send("GET", &format!("{FEED}?since=99"), &other_epoch, b"").await);
        assert_eq!((anew["since"].as_u64().unwrap(), anew["void"].as_array().unwrap().len()), (0, 2), "all of it");
        let ahead = server.get(&format!("{FEED}?since=999999")).await;
        assert_eq!(ahead.status, 304, "this node is behind, and does not lead back");
    }

    async fn who_waits_is_answered_when_something_is_revoked(server: Server) {
        let key = server.api_key("chat").await;
        server.revoke(&server.api_key("chat").await.id).await;
        let rev = said(&server.get(FEED).await)["rev"].as_u64().unwrap();
        let path = format!("{FEED}?since={rev}&wait=30");
        let waiting = server.get(&path);
        let revoking = async {
            while server.mint.feed().waiting() == 0 {
                tokio::task::yield_now().await;
            }
            server.revoke(&key.id).await
        };
        let (answer, _) = Box::pin(async { tokio::join!(waiting, revoking) }).await;
        assert_eq!(said(&answer)["void"].as_array().unwrap().len(), 1);
        let nothing = server.get(&format!("{FEED}?since={}&wait=1", said(&answer)["rev"])).await;
        assert_eq!(nothing.status, 304);
    }

    async fn a_number_that_is_none_is_refused_in_json(server: Server) {
        for query in ["since=x", "since=-1", "wait=x", "wait=1.5", "since=1&since=2", "since=99999999999999999999"] {
            let answer = server.get(&format!("{FEED}?{query}")).await;
            assert_eq!(answer.outcome(), "400 invalid_request", "{query}");
        }
        assert_eq!(server.get(&format!("{FEED}?color=1&since=")).await.status, 200, "as at the token endpoint");
        for method in ["POST", "DELETE"] {
            assert_eq!(server.send(method, FEED, &[], b"").await.status, 405);
        }
        let tag = [("If-None-Match", "nonsense")];
        assert_eq!(server.send("GET", FEED, &tag, b"").await.status, 200);
    }

    async fn of_several_tags_one_that_is_known_is_enough(server: Server) {
        server.revoke(&server.api_key("chat").await.id).await;
        let etag = server.get(FEED).await.header("etag").unwrap().to_owned();
        let status = async |tags: &str| server.send("GET", FEED, &[("If-None-Match", tags)], b"").await.status;
        let (first, last) = (format!("{etag}, \"other.9\", nonsense"), format!("\"other.99\" , W/{etag}"));
        for known in [first.as_str(), &last, "*"] {
            assert_eq!(status(known).await, 304, "{known}");
        }
        assert_eq!(status("\"other.99\", \"other.1\"").await, 200);
        let two = [("If-None-Match", "\"other.99\""), ("If-None-Match", etag.as_str())];
        assert_eq!(server.send("GET", FEED, &two, b"").await.status, 304);
    }

    async fn many_tokens_of_a_key_become_the_key_and_many_subjects_the_organization(server: Server) {
        let key = server.api_key("chat").await;
        let token = |n: usize| RevokedSubject::Token(format!("TOKEN{n}"), key.id);
        void(&server, (0..100).map(token).collect(), server.org.id).await;
        assert_eq!(said(&server.get(FEED).await)["void"].as_array().unwrap().len(), 100);
        void(&server, vec![token(100)], server.org.id).await;
        assert_eq!(said(&server.get(FEED).await)["void"].as_array().unwrap().len(), 1);
        let held = heard(&server).await;
        let rev = u64::try_from(server.mint.index().revision().unwrap()).unwrap();
        let id = key.id.to_string();
        assert!(held.voids_of(&id, rev - 1) && !held.voids_of(&id, rev), "its clients fetch anew");
        let keys = |from: u8, to: u16| -> Vec<RevokedSubject> {
            let id = |n: u16| ApiKeyId::from_random([[from; 14].as_slice(), &n.to_be_bytes()].concat().try_into().unwrap());
            (0..to).map(|n| RevokedSubject::ApiKey(id(n))).collect()
        };
        let (org, _) = server.second_org("second").await;
        void(&server, keys(1, 999), server.org.id).await;
        void(&server, keys(2, 10), org).await;
        assert_eq!(said(&server.get(FEED).await)["void"].as_array().unwrap().len(), 1_010);
        void(&server, keys(3, 1), server.org.id).await;
        assert_eq!(said(&server.get(FEED).await)["void"].as_array().unwrap().len(), 11);
        let rev = u64::try_from(server.mint.index().revision().unwrap()).unwrap();
        let held = heard(&server).await;
        assert!(held.voids_of(&server.org.id.to_string(), rev - 1) && !held.voids_of(&org.to_string(), rev - 1));
    }

    async fn who_is_far_behind_hears_all_so_that_a_node_signs_few_texts(server: Server) {
        let key = server.api_key("chat").await;
        for number in 0..66 {
            void(&server, vec![RevokedSubject::Token(format!("TOKEN{number}"), key.id)], server.org.id).await;
        }
        let all = said(&server.get(FEED).await);
        let revisions = async |since: u64| {
            let feed = said(&server.get(&format!("{FEED}?since={since}")).await);
            (feed["since"].as_u64().unwrap(), feed["void"].as_array().unwrap().len())
        };
        let last = all["rev"].as_u64().unwrap();
        // one revision each
        assert_eq!(revisions(last - 1).await, (last - 1, 1));
        assert_eq!(revisions(last - 64).await, (last - 64, 64));
        assert_eq!(revisions(last - 65).await, (0, 66));
    }

    async fn an_entry_is_told_as_long_as_a_token_of_before_may_live(server: Server) {
        let key = server.api_key("chat").await;
        server.revoke(&key.id).await;
        let until = said(&server.get(FEED).await)["void"][0][2].as_u64().unwrap();
        // one lifetime, the time for which a node goes on that is cut off, and two minutes
        assert_eq!(until, START + 600 + 300 + 120);
        server.wind(Duration::from_mins(17)).await;
        server.mint.feed().forget(server.clock.now());
        assert_eq!(heard(&server).await.len(), 1);
        server.wind(Duration::from_secs(1)).await;
        server.mint.feed().forget(server.clock.now());
        assert_eq!(said(&server.get(FEED).await)["void"], json!([]));
    }
}
