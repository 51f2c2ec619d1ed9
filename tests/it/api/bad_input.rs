//! What a management call must not be: each refusal is a problem in JSON, and no garbage makes a
//! fault of ours.

use serde_json::{Value, json};

use crate::api::{at, call, fields, good, key, message, told};
use crate::server::{Answer, Server, on_both_engines};

/// Texts that have broken servers.
const GARBAGE: [&str; 24] = [
    "%00",
    "a%00b",
    "%FF",
    "%C3%28",
    "%ED%A0%80",
    "%",
    "%zz",
    "..",
    "%2E%2E",
    "%2F",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "'",
    "%27%20OR%201=1--",
    "%22",
    "%5C",
    "%F0%9F%94%91",
    "%E2%80%AE",
    "key_",
    "key_%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00%00",
    "key_0123456789abcde%C3%A9",
    "-1",
    "null",
    "*",
    "{id}",
];

/// No fault of ours, and JSON whatever it is.
fn check(answer: &Answer, what: &str) {
    assert!((200..500).contains(&answer.status), "{what}: {answer:?}");
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(matches!(kind, "application/json" | "application/problem+json"), "{what}: {answer:?}");
    serde_json::from_str::<Value>(&answer.body).unwrap_or_else(|_| panic!("{what}: {answer:?}"));
}

/// An operation of the document: its method and path, and what it takes in the URL and the body.
struct Operation {
    method: String,
    path: String,
    parameters: Vec<String>,
    fields: Vec<String>,
}

async fn operations(server: &Server) -> Vec<Operation> {
    let document = server.get("/v1/openapi.json").await.json();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                parameters: parameters(operation),
                fields: body_fields(&document, operation),
            });
        }
    }
    assert!(found.len() > 40 && found.iter().any(|one| one.fields.contains(&"name".to_owned())));
    found
}

fn parameters(operation: &Value) -> Vec<String> {
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of_query = all.iter().filter(|parameter| parameter["in"] == "query");
    of_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
}

fn body_fields(document: &Value, operation: &Value) -> Vec<String> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let schema = match schema["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    schema["properties"]
        .as_object()
        .map(|fields| fields.keys().cloned().collect())
        .unwrap_or_default()
}

/// A path with this in place of its first name.
fn filled(path: &str, name: &str) -> String {
    let Some((before, rest)) = path.split_once('{') else { return path.to_owned() };
    let (_, after) = rest.split_once('}').unwrap();
    let after = after.replace("{owner}", "usr_0123456789abcdef");
    format!("{before}{name}{after}")
}

/// What its owner calls a thing is shown as it is.
fn is_free_text(field: &str) -> bool {
    ["name", "description"].contains(&field)
}

/// What no field takes without a look at it.
fn values() -> Vec<Value> {
    vec![
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!(["\u{0}"]),
        json!("\u{202e}\u{feff}"),
        json!("x".repeat(60_000)),
        json!(["x".repeat(60_000)]),
        json!(-1),
        json!(u64::MAX),
        json!({}),
        json!([[null]]),
        json!({"limit": u64::MAX, "window": u64::MAX}),
        json!("9".repeat(400)),
        json!("99999999999d"),
        json!("+262142-12-31T23:59:59Z"),
        json!("-0001-01-01"),
    ]
}

on_both_engines! {
    async fn no_garbage_in_a_path_is_a_fault_of_ours(server: Server) {
        for operation in operations(&server).await.iter().filter(|one| one.path.contains('{')) {
            for garbage in GARBAGE {
                let (method, path) = (&operation.method, filled(&operation.path, garbage));
                let body = if method == "PUT" { json!({"role": "member"}) } else { Value::Null };
                let answer = call(&server, method, &path, body).await;
                check(&answer, &format!("{method} {path}"));
                assert!(answer.status >= 400, "{method} {path}: {answer:?}");
            }
        }
    }

    async fn no_garbage_in_a_query_is_a_fault_of_ours(server: Server) {
        for operation in operations(&server).await.iter().filter(|one| one.method == "GET") {
            let path = filled(&operation.path, "nobody");
            let strange = ["organization", "%00", "a%00b", "", "%FF"].map(str::to_owned);
            for name in operation.parameters.iter().chain(&strange) {
                for garbage in &GARBAGE[..12] {
                    let place = format!("{path}?{name}={garbage}");
                    check(&call(&server, "GET", &place, Value::Null).await, &place);
                }
            }
        }
    }

    async fn an_empty_parameter_makes_no_dry_run_real_and_no_organization_another(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        for name in ["dry_run", "organization", "status", "limit", "unheard"] {
            for query in [format!("{name}="), name.to_owned(), format!("&{name}=&")] {
                let answer = call(&server, "DELETE", &format!("{}?{query}", at(&key)), Value::Null).await;
                assert_eq!((answer.status, fields(&answer)), (400, vec![name.to_owned()]), "{query}");
            }
        }
        assert_eq!(call(&server, "GET", &format!("{}?&", at(&key)), Value::Null).await.status, 200);
    }

    async fn no_garbage_in_a_body_is_a_fault_of_ours(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        let whole = json!({"name": "x", "email": "a@b.c", "slug": "x", "uri": "https://x.example", "level": "organization", "scopes": ["read:x"], "role": "member"});
        for operation in operations(&server).await.iter().filter(|one| !one.fields.is_empty()) {
            let (method, path) = (&operation.method, filled(&operation.path, &key.id.to_string()));
            let mut base = whole.clone();
            base.as_object_mut().unwrap().retain(|name, _| operation.fields.contains(name));
            for name in &operation.fields {
                for value in values() {
                    let mut body = base.clone();
                    body[name] = value.clone();
                    let answer = call(&server, method, &format!("{path}?dry_run=true"), body).await;
                    check(&answer, &format!("{method} {path} {name}: {value:.60}"));
                }
            }
        }
    }

    async fn what_is_not_there_is_told_beside_what_cannot_be_read(server: Server) {
        let ask = json!({"name": "", "audiences": ["nope"], "scopes": ["?"], "expires_at": "2020-01-01"});
        let answer = call(&server, "POST", "/v1/keys", ask).await;
        assert_eq!(fields(&answer), ["name", "scopes", "expires_at", "audiences"]);
    }

    async fn an_api_key_in_the_wrong_place_is_told_to_nobody(server: Server) {
        let text = key(&server, json!({"name": "pasted"})).await.text;
        // half of it is as good as nothing, and a part that is shown anyway is no harm
        let secret: Vec<&str> = (1..5).map(|at| &text[text.len() - 10 * at..][..10]).collect();
        let tells = |told: &str| secret.iter().any(|part| told.contains(part));
        let check_told = |answer: &Answer, what: &str| {
            check(answer, what);
            assert!(answer.status < 400 || !tells(&answer.body), "{what}: {}", answer.body);
        };
        for operation in operations(&server).await {
            let method = operation.method.as_str();
            let path = filled(&operation.path, &text);
            let body = if method == "GET" { Value::Null } else { json!({"role": "member"}) };
            check_told(&call(&server, method, &path, body).await, &path);
            for name in &operation.parameters {
                let place = format!("{}?{name}={text}", filled(&operation.path, "nobody"));
                check_told(&call(&server, method, &place, Value::Null).await, &place);
            }
            for field in operation.fields.iter().filter(|field| !is_free_text(field)) {
                for value in [json!(text), json!([text]), json!([format!("read:{text}")])] {
                    let body = json!({"name": "x", "slug": "x", field.as_str(): value, "dry_run": true});
                    let path = filled(&operation.path, "nobody");
                    check_told(&call(&server, method, &path, body).await, &format!("{method} {path} {field}"));
                }
            }
        }
        let audit = call(&server, "GET", "/v1/audit?limit=200", Value::Null).await.body;
        assert!(audit.contains("not_found") && !tells(&audit), "{audit}");
    }

    async fn what_is_no_json_object_is_refused(server: Server) {
        let administrator = format!("Bearer {}", server.administrator.text);
        let send = async |body: &[u8]| {
            let headers = [("Authorization", administrator.as_str()), ("Content-Type", "application/json")];
            server.send("POST", "/v1/keys", &headers, body).await
        };
        let deep = "[".repeat(20_000);
        for body in ["{", "}", "[]", "\"x\"", "1", "null", "true", "{\"name\":}", "{'name':'x'}", "{\"name\":\"x\"}x", "{\"name\":\"\\ud800\"}", deep.as_str(), "name=x", " "] {
            let answer = send(body.as_bytes()).await;
            assert_eq!(told(&answer), "400 invalid_request", "{body:.40}");
        }
        for body in [&b"{\"name\":\"\xff\"}"[..], &b"\xef\xbb\xbf{\"name\":\"x\"}"[..], &b"\x00"[..]] {
            assert_eq!(told(&send(body).await), "400 invalid_request");
        }
    }

    async fn a_field_that_comes_twice_is_refused(server: Server) {
        let administrator = format!("Bearer {}", server.administrator.text);
        let headers = [("Authorization", administrator.as_str()), ("Content-Type", "application/json")];
        for body in ["{\"name\":\"a\",\"name\":\"b\"}", "{\"name\":\"a\",\"n\\u0061me\":\"b\"}", "{\"name\":\"a\",\"quota\":{\"limit\":1,\"limit\":9}}"] {
            let answer = server.send("POST", "/v1/keys", &headers, body.as_bytes()).await;
            assert_eq!(told(&answer), "400 invalid_request", "{body}");
        }
        let answer = call(&server, "GET", "/v1/keys?name=a&name=b", Value::Null).await;
        assert_eq!(fields(&answer), ["name"]);
    }

    async fn a_field_that_nobody_may_set_is_unknown(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        let own = good(&server, "GET", &at(&key), Value::Null).await;
        for field in ["id", "organization", "owner", "prefix", "replaces", "created_by", "created_at", "revoked_at", "deleted_at", "status", "last_use", "effective_scopes", "api_key", "lifetime", "quota_counter", "void_below", "secret", "digest"] {
            for (method, path, mut body) in [("POST", "/v1/keys".to_owned(), json!({"name": "x"})), ("PATCH", at(&key), json!({}))] {
                body[field] = own.get(field).filter(|value| !value.is_null()).cloned().unwrap_or(json!("x"));
                let answer = call(&server, method, &path, body).await;
                assert_eq!((told(&answer).as_str(), fields(&answer)), ("400 invalid_request", vec![field.to_owned()]), "{method}");
                assert_eq!(message(&answer), "there is no such field");
            }
        }
        for field in ["key_type", "space", "bot", "org_role", "space_role", "account_role"] {
            assert_eq!(fields(&call(&server, "PATCH", &at(&key), json!({field: "x"})).await), [field]);
        }
        for (path, body) in [("revoke", json!({"x": 1})), ("rotate", json!({"expires_at": "1d"})), ("refresh", json!({"name": "x"}))] {
            assert_eq!(told(&call(&server, "POST", &format!("{}/{path}", at(&key)), body).await), "400 invalid_request", "{path}");
        }
        let answer = call(&server, "POST", "/v1/keys?name=x", json!({"name": "x"})).await;
        assert_eq!(fields(&answer), ["name"], "nor is it taken from the URL");
    }

    async fn a_body_of_another_kind_or_size_is_refused_in_json(server: Server) {
        let administrator = format!("Bearer {}", server.administrator.text);
        let send = async |headers: &[(&str, &str)], body: &[u8]| {
            let mut all = vec![("Authorization", administrator.as_str())];
            all.extend_from_slice(headers);
            told(&server.send("POST", "/v1/keys", &all, body).await)
        };
        let body = b"{\"name\":\"x\"}";
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", "application/problem+json", "multipart/form-data; boundary=x", ""] {
            assert_eq!(send(&[("Content-Type", kind)], body).await, "415 unsupported_media_type", "{kind}");
        }
        assert_eq!(send(&[], body).await, "415 unsupported_media_type");
        assert_eq!(send(&[("Content-Type", "application/json"), ("Content-Encoding", "gzip")], body).await, "415 unsupported_media_type");
        for kind in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(send(&[("Content-Type", kind)], body).await, "201", "{kind}");
        }
        let large = format!("{{\"name\":\"{}\"}}", "x".repeat(65_536));
        assert_eq!(send(&[("Content-Type", "application/json")], large.as_bytes()).await, "413 too_large");
        assert_eq!(send(&[("Content-Type", "text/plain")], large.as_bytes()).await.split(' ').next(), Some("413"));
    }

    async fn another_method_is_405_in_json_and_another_path_404(server: Server) {
        let (id, administrator) = (server.administrator.id, format!("Bearer {}", server.administrator.text));
        for (method, path) in [
            ("PUT", "/v1/keys".to_owned()),
            ("DELETE", "/v1/keys".to_owned()),
            ("POST", format!("/v1/keys/{id}")),
            ("PUT", format!("/v1/keys/{id}")),
            ("GET", format!("/v1/keys/{id}/rotate")),
            ("DELETE", "/v1/audit".to_owned()),
            ("TRACE", "/v1/keys".to_owned()),
            ("FROB", "/v1/keys".to_owned()),
        ] {
            let answer = server.send(method, &path, &[("Authorization", &administrator)], b"").await;
            assert_eq!(told(&answer), "405 method_not_allowed", "{method} {path}");
            assert!(answer.header("allow").is_some(), "{method} {path}: {answer:?}");
        }
        for path in ["/v1", "/v1/", "/v1/key", "/v1/keys/", "/v1/keys/a/b", "/v2/keys", "/V1/keys", "//v1/keys", "/v1//keys", "/v1/keys;a=b"] {
            let answer = server.send("GET", path, &[("Authorization", &administrator)], b"").await;
            assert_eq!(answer.status, 404, "{path}");
            check(&answer, path);
        }
    }

    async fn a_look_changes_nothing_whatever_is_sent_along(server: Server) {
        let key = key(&server, json!({"scopes": ["chat"]})).await;
        for (name, value) in [("X-HTTP-Method-Override", "DELETE"), ("X-HTTP-Method", "DELETE"), ("X-Method-Override", "DELETE")] {
            let administrator = &server.administrator.text;
            let answer = server.api_with(administrator, "GET", &at(&key), Value::Null, &[(name, value)]).await;
            assert_eq!(answer.json()["status"], "active");
        }
        let answer = call(&server, "GET", &format!("{}?_method=DELETE", at(&key)), Value::Null).await;
        assert_eq!(fields(&answer), ["_method"]);
        assert_eq!(server.token(&key, "").await.status, 200);
    }
}
