//! Lists of keys: filters, pages that stay in place, cursors that nobody forges.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::api::{
    at, call, each, fields, good, key, member, outcome, text, told, user_key, with_space_role,
};
use crate::server::{Server, on_both_engines};

/// The names of the keys of a list that start with `k`, page after page.
async fn walk(server: &Server, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = String::new();
    for _ in 0..1_000 {
        let page = good(server, "GET", &format!("{path}{cursor}"), Value::Null).await;
        names.extend(each(&page, "name"));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return names,
        }
    }
    panic!("the list does not end")
}

async fn named(server: &Server, query: &str) -> Vec<String> {
    let path = format!("/v1/keys?limit=200&{query}");
    each(&good(server, "GET", &path, Value::Null).await, "name")
}

on_both_engines! {
    async fn a_list_shows_active_keys_unless_others_are_asked_for(server: Server) {
        let (revoked, deleted) = (key(&server, json!({"name": "k-revoked"})).await, key(&server, json!({"name": "k-deleted"})).await);
        key(&server, json!({"name": "k-expired", "expires_at": "1m"})).await;
        key(&server, json!({"name": "k-active", "expires_at": "2m"})).await;
        good(&server, "POST", &format!("{}/revoke", at(&revoked)), Value::Null).await;
        good(&server, "DELETE", &at(&deleted), Value::Null).await;
        server.wind(Duration::from_mins(1)).await;
        for (status, expected) in [
            ("", vec!["administrator", "k-active"]),
            ("status=active", vec!["administrator", "k-active"]),
            ("status=expired", vec!["k-expired"]),
            ("status=revoked", vec!["k-revoked"]),
            ("status=all", vec!["administrator", "k-active", "k-deleted", "k-expired", "k-revoked"]),
        ] {
            let found: BTreeSet<String> = named(&server, status).await.into_iter().collect();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{status}");
        }
        let answer = call(&server, "GET", "/v1/keys?status=dead", Value::Null).await;
        assert_eq!(fields(&answer), ["status"]);
    }

    async fn a_name_is_found_by_its_prefix_whatever_the_case(server: Server) {
        for name in ["CI build", "ci deploy", "cI-%_", "\u{c9}clair", "\u{e9}t\u{e9}", "city", "\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{3a5}\u{3a3}", "x CI"] {
            key(&server, json!({"name": name})).await;
        }
        for (prefix, expected) in [
            ("ci%20", vec!["CI build", "ci deploy"]),
            ("Ci", vec!["CI build", "ci deploy", "cI-%_", "city"]),
            ("ci-%25", vec!["cI-%_"]),
            ("ci_", vec![]),
            ("%25", vec![]),
            ("%C3%A9", vec!["\u{c9}clair", "\u{e9}t\u{e9}"]),
            ("%C3%89CL", vec!["\u{c9}clair"]),
            ("%CE%BF%CE%B4%CF%85%CF%83", vec!["\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{3a5}\u{3a3}"]),
            ("%CE%9F%CE%94%CE%A5%CE%A3", vec!["\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{3a5}\u{3a3}"]),
            ("nobody", vec![]),
            ("'%20OR%20''='", vec![]),
        ] {
            let mut found = named(&server, &format!("name={prefix}")).await;
            found.sort();
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            expected.sort();
            assert_eq!(found, expected, "{prefix}");
        }
    }

    async fn a_name_that_was_changed_is_found_by_the_new_one(server: Server) {
        let key = key(&server, json!({"name": "before"})).await;
        good(&server, "PATCH", &at(&key), json!({"name": "After"})).await;
        assert_eq!(named(&server, "name=before").await, Vec::<String>::new());
        assert_eq!(named(&server, "name=aFTER").await, ["After"]);
    }

    async fn keys_are_filtered_by_type_space_and_owner_and_by_all_of_them(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let ada = member(&server, "ada@example.com", "member").await;
        user_key(&server, &ada, None).await;
        let inside = key(&server, json!({"name": "inside", "space": "alpha"})).await;
        let bot = text(&good(&server, "GET", &at(&inside), Value::Null).await, "owner");
        key(&server, json!({"name": "inside two", "space": "alpha"})).await;
        key(&server, json!({"name": "of bot", "bot": bot})).await;
        let outside = key(&server, json!({"name": "outside"})).await;
        let roamer = text(&good(&server, "GET", &at(&outside), Value::Null).await, "owner");
        key(&server, json!({"name": "inside of roamer", "bot": roamer, "space": "alpha"})).await;
        for (query, expected) in [
            ("key_type=user".to_owned(), vec!["personal"]),
            ("key_type=service&name=insid".to_owned(), vec!["inside", "inside of roamer", "inside two"]),
            ("space=alpha".to_owned(), vec!["inside of roamer", "of bot", "inside two", "inside"]),
            (format!("owner={ada}"), vec!["personal"]),
            (format!("owner={bot}"), vec!["of bot", "inside"]),
            (format!("owner={roamer}"), vec!["inside of roamer", "outside"]),
            (format!("owner={roamer}&space=alpha"), vec!["inside of roamer"]),
            (format!("owner={bot}&space=alpha&key_type=service&status=active&name=INSIDE"), vec!["inside"]),
            (format!("owner={bot}&key_type=user"), vec![]),
            ("owner=bot_0123456789abcdef".to_owned(), vec![]),
        ] {
            assert_eq!(named(&server, &query).await, expected, "{query}");
        }
        for (query, field) in [("key_type=robot", "key_type"), ("owner=ada", "owner"), ("colour=red", "colour")] {
            assert_eq!(fields(&call(&server, "GET", &format!("/v1/keys?{query}"), Value::Null).await), [field]);
        }
        assert_eq!(outcome(&server, "GET", "/v1/keys?space=nowhere", Value::Null).await, "404 not_found");
    }

    async fn a_page_has_fifteen_keys_and_two_hundred_at_most(server: Server) {
        for n in 0..17 {
            key(&server, json!({"name": format!("k{n:02}")})).await;
        }
        let page = good(&server, "GET", "/v1/keys", Value::Null).await;
        assert_eq!(each(&page, "name").len(), 15);
        assert_eq!(each(&page, "name")[0], "k16", "from new to old");
        let all = walk(&server, "/v1/keys?limit=1").await;
        assert_eq!(all, walk(&server, "/v1/keys?limit=200").await);
        assert_eq!((all.len(), all[17].as_str()), (18, "administrator"));
        let by_name = walk(&server, "/v1/keys?limit=4&name=k").await;
        assert_eq!(by_name, (0..17).map(|n| format!("k{n:02}")).collect::<Vec<_>>(), "in the order of names");
        for limit in ["0", "201", "-1", "many", "1.5", "99999999999999999999"] {
            let answer = call(&server, "GET", &format!("/v1/keys?limit={limit}"), Value::Null).await;
            assert_eq!(fields(&answer), ["limit"], "{limit}: {answer:?}");
        }
        let answer = call(&server, "GET", "/v1/keys?limit=1&limit=2", Value::Null).await;
        assert_eq!(fields(&answer), ["limit"]);
    }

    async fn pages_stay_in_place_while_keys_are_made_and_revoked(server: Server) {
        let mut made = Vec::new();
        for n in 0..20 {
            made.push(key(&server, json!({"name": format!("k{n:02}")})).await);
        }
        let server = Arc::new(server);
        for path in ["/v1/keys?limit=3&key_type=service", "/v1/keys?limit=3&name=k", "/v1/keys?limit=3&status=all"] {
            let background = server.clone();
            let making = tokio::spawn(async move {
                for n in 0..20 {
                    key(&background, json!({"name": format!("kx{n:02}")})).await;
                }
            });
            let found = walk(&server, path).await;
            making.await.unwrap();
            for n in 0..20 {
                let name = format!("k{n:02}");
                assert_eq!(found.iter().filter(|found| **found == name).count(), 1, "{path}: {name}");
            }
        }
        let first = good(&server, "GET", "/v1/keys?limit=5&name=k0", Value::Null).await;
        assert_eq!(each(&first, "name"), ["k00", "k01", "k02", "k03", "k04"]);
        server.revoke(&made[4].id).await;
        server.revoke(&made[5].id).await;
        let next = format!("/v1/keys?limit=5&name=k0&cursor={}", text(&first, "next_cursor"));
        let second = good(&server, "GET", &next, Value::Null).await;
        assert_eq!(each(&second, "name"), ["k06", "k07", "k08", "k09"], "goes on behind a key that is gone");
    }

    async fn a_forged_cursor_is_refused_or_leads_to_nothing_new(server: Server) {
        for n in 0..4 {
            key(&server, json!({"name": format!("k{n}")})).await;
        }
        let page = good(&server, "GET", "/v1/keys?limit=1", Value::Null).await;
        let cursor = text(&page, "next_cursor");
        let mut forged: Vec<String> = ["", "x", "r", "r.1", "r..", "r.1.", "r.-1.a", "n.1.a", "nzz.1.a", "n00.1.key_a", "nff.1.a", "r.99999999999999999999.a", "r.1.'", "%00", "r.1.%F0%9F", "r.9223372036854775807.key_zzzzzzzzzzzzzzzz", "n.9223372036854775807.zzz"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        forged.push(format!("{cursor}x"));
        forged.push(cursor.replace('.', ":"));
        forged.push("r".repeat(5_000));
        for path in ["/v1/keys?limit=2", "/v1/keys?limit=2&name=k", "/v1/bots?limit=2", "/v1/users?limit=2", "/v1/spaces?limit=2", "/v1/roles?limit=2", "/v1/audiences?limit=2", "/v1/gateway-policies?limit=2", "/v1/organizations?limit=2", "/v1/audit?limit=2"] {
            for cursor in &forged {
                let answer = call(&server, "GET", &format!("{path}&cursor={cursor}"), Value::Null).await;
                match answer.status {
                    200 => assert!(answer.json()["items"].is_array()),
                    400 => assert!(answer.json()["code"] == "invalid_request"),
                    414 | 431 => {}
                    _ => panic!("{path} {cursor}: {answer:?}"),
                }
            }
        }
    }

    async fn a_cursor_of_another_kind_of_list_is_refused(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        for n in 0..2 {
            key(&server, json!({"name": format!("k{n}"), "space": "alpha"})).await;
        }
        let cursor_of = async |path: &str| text(&good(&server, "GET", &format!("{path}limit=1"), Value::Null).await, "next_cursor");
        let (by_time, by_name) = (cursor_of("/v1/keys?").await, cursor_of("/v1/keys?name=k&").await);
        let by_owner = cursor_of("/v1/spaces/alpha/members?").await;
        for (path, own) in [
            ("/v1/keys?", &by_time),
            ("/v1/bots?", &by_time),
            ("/v1/keys?name=k&", &by_name),
            ("/v1/spaces/alpha/members?", &by_owner),
        ] {
            for cursor in [&by_time, &by_name, &by_owner] {
                let answer = call(&server, "GET", &format!("{path}cursor={cursor}"), Value::Null).await;
                let expected = if cursor == own { "200" } else { "400 invalid_request" };
                assert_eq!(told(&answer), expected, "{path} {cursor}");
            }
        }
    }

    async fn a_cursor_of_another_name_is_refused(server: Server) {
        for name in ["pg1", "pg2", "q1"] {
            key(&server, json!({"name": name})).await;
        }
        let page = good(&server, "GET", "/v1/keys?name=pg&limit=1", Value::Null).await;
        let cursor = text(&page, "next_cursor");
        for (name, expected) in [("pg", "200"), ("p", "200"), ("q", "400 invalid_request"), ("pg2", "400 invalid_request")] {
            let path = format!("/v1/keys?name={name}&cursor={cursor}");
            assert_eq!(told(&call(&server, "GET", &path, Value::Null).await), expected, "{name}");
        }
    }

    async fn what_one_may_not_see_is_left_out_of_every_page_and_counted_in_none(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        let inside = with_space_role(&server, "alpha", "read-only").await;
        for n in 0..9 {
            let place = if n % 3 == 0 { json!("alpha") } else { Value::Null };
            key(&server, json!({"name": format!("k{n}"), "space": place})).await;
        }
        let mut seen = Vec::new();
        let mut path = "/v1/keys?limit=2".to_owned();
        loop {
            let page = server.api(&inside, "GET", &path, Value::Null).await.json();
            seen.extend(each(&page, "name"));
            let Some(next) = page["next_cursor"].as_str() else { break };
            path = format!("/v1/keys?limit=2&cursor={next}");
        }
        assert_eq!(seen, ["k6", "k3", "k0", "read-only"]);
    }

    async fn a_cursor_tells_nothing_of_the_row_where_the_page_ended_and_nobody_makes_one(server: Server) {
        for n in 0..3 {
            key(&server, json!({"name": format!("hidden{n}")})).await;
        }
        for path in ["/v1/keys?limit=1", "/v1/keys?limit=1&name=hidden"] {
            let next = async || text(&good(&server, "GET", path, Value::Null).await, "next_cursor");
            let cursor = next().await;
            let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            for part in [&b"key_"[..], b"hidden", b"68696464656e"] {
                assert!(!bytes.windows(part.len()).any(|window| window == part), "{path}");
            }
            assert_ne!(next().await, cursor, "nor whether it is the same row");
            for at in [0, 11, 12, bytes.len() - 1] {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                let path = format!("{path}&cursor={}", URL_SAFE_NO_PAD.encode(changed));
                assert_eq!(told(&call(&server, "GET", &path, Value::Null).await), "400 invalid_request");
            }
        }
    }
}
