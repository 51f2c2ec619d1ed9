//! Making and showing API keys: the text is seen once.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tenmint::model::secret::check_holds;
use tenmint::store::Store;

use crate::api::{at, call, fields, good, key, key_of, text, told};
use crate::server::{Engine, Key, Server, Setup, basic, on_both_engines};
use crate::traced::{Lines, passes_alone};

/// Characters of a secret that must be found nowhere, not even so few.
const WINDOW: usize = 12;

/// The secret part of the text of a key, in pieces of twelve characters.
fn windows(text: &str) -> Vec<String> {
    let secret = &text[text.len() - 49..];
    (0..=secret.len() - WINDOW).map(|from| secret[from..from + WINDOW].to_owned()).collect()
}

fn holds_secret(haystack: &str, texts: &[String]) -> bool {
    texts.iter().any(|text| windows(text).iter().any(|window| haystack.contains(window.as_str())))
}

/// All that the database keeps: the bytes of each file, and on PostgreSQL each row.
pub(crate) async fn everything_stored(server: &Server) -> String {
    let mut all = files_below(server.directory.path());
    if server.database.to_string().starts_with("postgres") {
        let store = Store::open(&server.database).await.unwrap();
        let tables = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables
             WHERE table_schema = 'public'";
        let mut read = store.read().await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *read).await.unwrap();
        assert!(tables.iter().any(|table| table == "api_key_secrets"));
        for table in tables {
            let rows: &'static str = String::leak(format!("SELECT CAST(t AS TEXT) FROM {table} t"));
            let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut *read).await.unwrap();
            all.extend(rows);
        }
    }
    all
}

fn files_below(directory: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &files_below(&path);
        } else {
            all += &String::from_utf8_lossy(&std::fs::read(&path).unwrap());
        }
    }
    all
}

/// Every page that can be read, with the ids of what there is.
async fn crawl(server: &Server, ids: &[(&str, String)]) -> Vec<String> {
    let document = server.get("/v1/openapi.json").await.json();
    let mut pages = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        if operations.get("get").is_none() {
            continue;
        }
        for (name, id) in ids {
            let place = path.replace(&format!("{{{name}}}"), id);
            if !place.contains('{') {
                pages.push(call(server, "GET", &place, Value::Null).await.body);
            }
        }
    }
    pages
}

#[test]
fn no_log_line_of_any_level_holds_a_secret() {
    passes_alone("api::api_keys::a_log_of_every_level_holds_no_secret");
}

// one thread, so that its subscriber sees all that the server says
#[tokio::test]
#[ignore = "needs a process of its own: `no_log_line_of_any_level_holds_a_secret` runs it"]
async fn a_log_of_every_level_holds_no_secret() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.subscriber());
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let first = key(&server, json!({"scopes": ["chat"]})).await;
    let rotate = format!("{}/rotate", at(&first));
    let second = key_of(&good(&server, "POST", &rotate, json!({})).await);
    let token = server.token(&second, "").await.token();
    for (presented, path) in [
        (first.text.as_str(), "/v1/keys".to_owned()),
        (second.text.as_str(), format!("/v1/keys/{}", second.text)),
        (token.as_str(), format!("/v1/keys?name={}", first.text)),
    ] {
        server.api_with(presented, "POST", &path, json!({"name": first.text}), &[]).await;
        server.api_with(presented, "GET", &path, Value::Null, &[("User-Agent", &first.text)]).await;
    }
    let log = lines.take();
    assert!(log.contains("refused"), "the log was seen: {log}");
    assert!(!holds_secret(&log, &[first.text, second.text]), "{log}");
    assert!(!log.contains(&token) && !log.contains("eyJ"), "{log}");
}

on_both_engines! {
    async fn a_key_that_is_sent_to_the_management_api_as_it_is_is_in_use_too(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let ask = json!({"name": "admin", "org_role": "admin", "scopes": ["*:*"]});
        let (used, by_token) = (key(&server, ask.clone()).await, key(&server, ask.clone()).await);
        let (never, refused) = (key(&server, ask.clone()).await, key(&server, ask).await);
        server.revoke(&refused.id).await;
        let token = server.token(&by_token, "audience=management").await.token();
        server.wind(Duration::from_mins(1)).await;
        for text in [&used.text, &token, &refused.text] {
            let agent = [("User-Agent", "ci/1.0")];
            server.api_with(text, "GET", "/v1/organization", Value::Null, &agent).await;
        }
        writer.write_all().await.unwrap();
        let last_use = async |key: &Key| good(&server, "GET", &at(key), Value::Null).await["last_use"].clone();
        let expected = json!({"used_at": "2027-01-15T08:01:00Z", "address": "127.0.0.1", "user_agent": "ci/1.0"});
        assert_eq!(last_use(&used).await, expected);
        assert_eq!(last_use(&by_token).await["used_at"], "2027-01-15T08:00:00Z", "the token was fetched");
        assert_eq!(last_use(&never).await, Value::Null);
        assert_eq!(last_use(&refused).await, Value::Null, "a refused request is no use");
        let usage = good(&server, "GET", &format!("{}/usage", at(&used)), Value::Null).await;
        assert_eq!((&usage["totals"]["issued"], &usage["items"]), (&json!(0), &json!([])), "it is counted as nothing");
        assert_eq!(usage["last_used"], expected);
    }

    async fn a_key_in_the_user_agent_of_a_management_call_is_not_kept(server: Server) {
        let mut server = server;
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let key = key(&server, json!({"name": "admin", "org_role": "admin", "scopes": ["*:*"]})).await;
        for agent in [&key.text, &format!("curl {}", key.text)] {
            let headers = [("User-Agent", agent.as_str())];
            server.api_with(&key.text, "GET", "/v1/whoami", Value::Null, &headers).await;
            writer.write_all().await.unwrap();
            let shown = good(&server, "GET", &at(&key), Value::Null).await;
            assert_eq!(shown["last_use"], json!({"used_at": "2027-01-15T08:00:00Z", "address": "127.0.0.1"}));
        }
    }

    async fn the_text_of_a_key_is_in_one_answer_and_in_nothing_that_is_kept(server: Server) {
        let made = call(&server, "POST", "/v1/keys", json!({"name": "one", "scopes": ["chat"]})).await;
        assert_eq!(made.header("cache-control"), Some("no-store"));
        let first = key_of(&made.json());
        let rotated = good(&server, "POST", &format!("{}/rotate", at(&first)), json!({})).await;
        let refreshed = good(&server, "POST", &format!("{}/refresh", at(&first)), json!({})).await;
        let (second, third) = (key_of(&rotated), key_of(&refreshed));
        let texts = [first.text.clone(), second.text, third.text.clone()];
        assert_eq!(texts.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        good(&server, "PATCH", &at(&third), json!({"name": "two"})).await;
        assert_eq!(server.token(&third, "").await.status, 200);

        let owner = text(&rotated, "owner");
        let ids = [("id", first.id.to_string()), ("id", owner.clone()), ("owner", owner), ("org", "default".to_owned())];
        let pages = crawl(&server, &ids).await;
        assert!(pages.len() > 15 && pages.iter().any(|page| page.contains(&first.id.to_string())));
        for page in pages {
            assert!(!holds_secret(&page, &texts), "{page}");
        }
        let kept = everything_stored(&server).await;
        assert!(kept.contains(&first.id.to_string()), "looked in the right place");
        assert!(!holds_secret(&kept, &texts));
        assert!(!holds_secret(&kept, std::slice::from_ref(&server.administrator.text)));
    }

    async fn the_text_has_the_shape_of_the_contract_and_its_label_is_the_place(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        for (ask, label) in [(json!({}), "default"), (json!({"space": "alpha"}), "alpha")] {
            let mut ask = ask;
            ask["name"] = json!("test");
            let made = good(&server, "POST", "/v1/keys", ask).await;
            let (key, prefix) = (key_of(&made), text(&made, "prefix"));
            let id = key.id.characters();
            assert!(check_holds(&key.text), "{}", key.text);
            assert!(key.text.starts_with(&format!("tm_{label}_{id}")), "{}", key.text);
            assert_eq!(key.text.len(), 3 + label.len() + 1 + 16 + 43 + 6);
            assert_eq!(prefix, format!("tm_{label}_{}", &id[..8]));
        }
    }

    async fn a_key_is_shown_as_it_was_asked_for(server: Server) {
        server.register("https://first.example").await;
        let ask = json!({
            "name": "caf\u{e9} \u{1F511}",
            "description": "line one\nline two",
            "scopes": ["read:projects/alpha/*", "chat"],
            "audiences": ["https://first.example", "management"],
            "allow": ["192.0.2.0/24", "2001:db8::1"],
            "block": ["192.0.2.7"],
            "quota": {"limit": 5, "window": 60},
            "expires_at": "2027-02-01T02:00:00+02:00",
        });
        let made = good(&server, "POST", "/v1/keys", ask.clone()).await;
        let shown = good(&server, "GET", &at(&key_of(&made)), Value::Null).await;
        for field in ["name", "description", "scopes", "quota", "allow", "block"] {
            assert_eq!(shown[field], ask[field], "{field}");
        }
        assert_eq!(shown["expires_at"], "2027-02-01T00:00:00Z");
        assert_eq!(shown["created_at"], "2027-01-15T08:00:00Z");
        assert_eq!(shown["audiences"].as_array().unwrap().len(), 2);
        let null = Value::Null;
        for (field, value) in [
            ("status", json!("active")),
            ("key_type", json!("service")),
            ("revoked_at", null.clone()),
            ("deleted_at", null.clone()),
            ("replaces", null.clone()),
            ("space", null),
            ("organization", json!(server.org.id.to_string())),
        ] {
            assert_eq!(shown[field], value, "{field}");
        }
        assert!(shown.get("api_key").is_none());
        let mut without_text = made;
        without_text.as_object_mut().unwrap().remove("api_key");
        without_text.as_object_mut().unwrap().remove("warnings");
        assert_eq!(without_text, shown, "what was made is what is shown");
    }

    async fn a_service_key_without_roles_gets_a_bot_with_the_default_ones(server: Server) {
        good(&server, "POST", "/v1/spaces", json!({"slug": "alpha"})).await;
        for (ask, expected) in [
            (json!({"name": "a"}), vec!["organization read-only"]),
            (json!({"name": "a", "space": "alpha"}), vec!["organization read-only", "space member"]),
            (json!({"name": "a", "org_role": "none"}), vec![]),
        ] {
            let made = good(&server, "POST", "/v1/keys", ask).await;
            let owner = text(&made, "owner");
            assert!(owner.starts_with("bot_"));
            let roles = good(&server, "GET", &format!("/v1/owners/{owner}/roles"), Value::Null).await;
            let role = |item: &Value| format!("{} {}", text(item, "level"), text(item, "role"));
            let roles: Vec<String> = roles["items"].as_array().unwrap().iter().map(role).collect();
            assert_eq!(roles, expected);
        }
    }

    async fn a_key_without_scopes_has_all_of_its_owner_and_an_empty_list_is_refused(server: Server) {
        let key = key(&server, json!({"org_role": "member"})).await;
        let token = server.token(&key, "").await;
        assert_eq!(token.json()["scope"], "read:org/* write:org/keys/own/*");
        let answer = call(&server, "POST", "/v1/keys", json!({"name": "x", "scopes": []})).await;
        assert_eq!((told(&answer).as_str(), fields(&answer)), ("400 invalid_request", vec!["scopes".to_owned()]));
    }

    async fn every_bad_field_of_a_new_key_is_told_at_once(server: Server) {
        let types = json!({"name": 5, "scopes": "chat", "quota": [], "color": "red", "expires_at": true});
        let answer = call(&server, "POST", "/v1/keys", types).await;
        assert_eq!(told(&answer), "400 invalid_request");
        assert_eq!(fields(&answer), ["name", "scopes", "quota", "expires_at", "color"]);
        let values = json!({
            "name": "", "description": "x".repeat(1001), "scopes": ["read:../x"], "audiences": [],
            "allow": ["10.0.0.1/8"], "block": ["nonsense"], "quota": {"limit": 0},
            "expires_at": "2020-01-01",
        });
        let answer = call(&server, "POST", "/v1/keys", values).await;
        let mut named = fields(&answer);
        named.sort();
        let all = ["allow", "audiences", "block", "description", "expires_at", "name", "quota", "scopes"];
        assert_eq!(named, all, "{answer:?}");
        let answer = call(&server, "POST", "/v1/keys", json!({"scopes": ["chat"]})).await;
        assert_eq!(fields(&answer), ["name"], "what has to be there");
    }

    async fn the_borders_of_each_field_hold(server: Server) {
        let long = "\u{fc}".repeat(256);
        let scopes: Vec<String> = (0..64).map(|n| format!("read:p/{n}")).collect();
        let addresses: Vec<String> = (0..100).map(|n| format!("192.0.2.{n}")).collect();
        let most = json!({"name": long, "description": "\u{fc}".repeat(1000), "scopes": scopes, "allow": addresses});
        good(&server, "POST", "/v1/keys", most.clone()).await;
        let more = |value: &Value, one: &str| {
            let mut list = value.as_array().unwrap().clone();
            list.push(json!(one));
            Value::Array(list)
        };
        for (field, value) in [
            ("name", json!(format!("{long}x"))),
            ("description", json!("\u{fc}".repeat(1001))),
            ("scopes", more(&most["scopes"], "read:p/64")),
            ("allow", more(&most["allow"], "192.0.2.100")),
            ("name", json!("a\nb")),
            ("expires_at", json!("2027-01-15T08:00:00Z")),
            ("expires_at", json!("+10000-01-01")),
        ] {
            let mut ask = most.clone();
            ask[field] = value;
            let answer = call(&server, "POST", "/v1/keys", ask).await;
            assert_eq!(fields(&answer), [field], "{answer:?}");
        }
        let soon = json!({"name": "x", "expires_at": "2027-01-15T08:00:00.001Z"});
        good(&server, "POST", "/v1/keys", soon).await;
    }

    async fn a_key_is_presented_by_bearer_or_by_basic(server: Server) {
        let Key { id, text } = server.administrator.clone();
        let good = [format!("Bearer {text}"), basic(&id.to_string(), &text), basic("", &text)];
        let another = server.api_key("chat").await;
        let bad = [
            basic(&another.id.to_string(), &text),
            basic(&text, ""),
            basic(&id.to_string(), &format!("{text}x")),
            format!("Bearer  {text}x"),
            format!("Bearer {}", &text[..text.len() - 1]),
            "Bearer".to_owned(),
            "Bearer a.b.c".to_owned(),
            format!("Digest {text}"),
        ];
        for value in good {
            let answer = server.send("GET", "/v1/whoami", &[("Authorization", &value)], b"").await;
            assert_eq!(answer.json()["api_key"], id.to_string(), "{value}");
        }
        for value in bad {
            let answer = server.send("GET", "/v1/whoami", &[("Authorization", &value)], b"").await;
            assert_eq!(told(&answer), "401 unauthenticated", "{value}");
            let challenge = "Bearer realm=\"tenmint\", error=\"invalid_token\"";
            assert_eq!(answer.header("www-authenticate"), Some(challenge));
        }
        let bearer = format!("Bearer {text}");
        let two = [("Authorization", bearer.as_str()), ("Authorization", bearer.as_str())];
        assert_eq!(told(&server.send("GET", "/v1/whoami", &two, b"").await), "401 unauthenticated");
        let answer = server.send("GET", &format!("/v1/whoami?access_token={text}"), &[], b"").await;
        assert_eq!(told(&answer), "401 unauthenticated", "never from the URL");
    }
}
