//! Every operation refuses whom it must: a walk over the served document.
//!
//! It knows operations from the document alone, so a new one is walked as well. What it cannot
//! fill in by the name of a parameter or a field stops it.

use std::time::Duration;

use serde_json::{Value, json};
use tenmint::http::api::openapi::document;

use crate::openapi::operation::{Operation, Tenant, with};
use crate::server::{Answer, Key, Server, on_both_engines};

on_both_engines! {
    async fn every_operation_does_its_work_for_whoever_may(server: Server) {
        let walk = Walk::of(server).await;
        for operation in &walk.operations {
            let as_whom = match operation.plane.as_str() {
                "installation" => &walk.server.administrator,
                _ => &walk.mine.admin,
            };
            let target = operation.dry(&operation.target(&walk.mine));
            let answer = walk.call(&as_whom.text, operation, &target, operation.body()).await;
            // the rest of the walk proves nothing about an operation that refuses everybody
            let done = matches!(answer.status, 200 | 201 | 409);
            assert!(done, "{}: {target} {answer:?}", operation.id);
        }
    }

    async fn every_operation_refuses_whoever_it_does_not_know(server: Server) {
        let walk = Walk::of(server).await;
        let of_the_api = walk.token(&walk.mine.admin, "scope=read:a").await;
        let revoked = walk.server.api_key("*:*").await;
        walk.server.revoke(&revoked.id).await;
        let unknown = format!("{}x", &revoked.text[..revoked.text.len() - 1]);
        for operation in &walk.operations {
            // so many from one address would be told to wait
            walk.server.clock.wind(Duration::from_secs(3));
            let target = operation.target(&walk.mine);
            let (method, body) = (operation.method.as_str(), operation.body());
            let alone = walk.server.send(method, &target, &[], b"").await;
            refused(operation, &alone, 401);
            assert!(alone.header("www-authenticate").is_some(), "{}", operation.id);
            for text in [&of_the_api, &revoked.text, &unknown] {
                let answer = walk.call(text, operation, &target, body.clone()).await;
                refused(operation, &answer, 401);
            }
        }
    }

    async fn every_operation_refuses_a_credential_without_its_scope(server: Server) {
        let walk = Walk::of(server).await;
        let narrow = [
            walk.mine.narrow.text.clone(),
            // the same reach, but of a token of somebody who could have more
            walk.token(&walk.mine.admin, "audience=management&scope=chat:nothing").await,
            walk.token(&walk.server.administrator, "audience=management&scope=chat:nothing").await,
        ];
        for operation in walk.operations.iter().filter(|operation| operation.plane != "caller") {
            let target = operation.target(&walk.mine);
            for (at, text) in narrow.iter().enumerate() {
                // the account reaches the organization by saying so
                let target = if at == 2 && operation.plane == "organization" {
                    with(&target, "organization", &walk.mine.name("organization"))
                } else {
                    target.clone()
                };
                let body = operation.body();
                let answer = walk.call(text, operation, &target, body).await;
                assert!(matches!(answer.status, 403 | 404), "{}: {target} {answer:?}", operation.id);
                refused(operation, &answer, answer.status);
            }
        }
    }

    async fn no_operation_lets_a_stranger_into_an_organization(server: Server) {
        let walk = Walk::of(server).await;
        let random = walk.random();
        for operation in &walk.operations {
            let (mine, body) = (operation.target(&walk.mine), operation.body());
            if operation.plane != "organization" {
                let strange = with(&mine, "organization", &walk.theirs.name("organization"));
                let answer = walk.call(&walk.mine.admin.text, operation, &strange, body).await;
                refused(operation, &answer, 400);
                continue;
            }
            for (theirs, nobodys) in walk.theirs.names("organization").iter().zip(random.names("organization")) {
                let strange = with(&mine, "organization", theirs);
                let answer = walk.call(&walk.mine.admin.text, operation, &strange, body.clone()).await;
                refused(operation, &answer, 404);
                let strange = with(&mine, "organization", nobodys);
                let random = walk.call(&walk.mine.admin.text, operation, &strange, body.clone()).await;
                assert_eq!(told(&answer, theirs), told(&random, nobodys), "{}", operation.id);
            }
        }
    }

    async fn the_installation_is_for_admins_of_the_account_alone(server: Server) {
        let walk = Walk::of(server).await;
        let random = walk.random();
        let on_installation = |operation: &&Operation| operation.plane == "installation";
        for operation in walk.operations.iter().filter(on_installation) {
            let body = operation.body();
            for tenant in [&walk.mine, &walk.theirs, &random] {
                let target = operation.target(tenant);
                let answer = walk.call(&walk.mine.admin.text, operation, &target, body.clone()).await;
                refused(operation, &answer, 403);
            }
        }
    }

    async fn what_is_of_another_organization_is_not_there(server: Server) {
        let walk = Walk::of(server).await;
        let random = walk.random();
        let in_organization = |operation: &&Operation| operation.plane == "organization";
        let mut tried = 0;
        for operation in walk.operations.iter().filter(in_organization) {
            for at in 0..operation.places().len() {
                let noun = operation.places()[at];
                for (theirs, nobodys) in walk.theirs.names(noun).iter().zip(random.names(noun)) {
                    let theirs_at = operation.target_with(&walk.mine, at, theirs);
                    let answer = walk.call(&walk.mine.admin.text, operation, &theirs_at, operation.body()).await;
                    refused(operation, &answer, 404);
                    let nobodys_at = operation.target_with(&walk.mine, at, nobodys);
                    let random = walk.call(&walk.mine.admin.text, operation, &nobodys_at, operation.body()).await;
                    assert_eq!(told(&answer, theirs), told(&random, nobodys), "{}", operation.id);
                    tried += 1;
                }
            }
        }
        assert!(tried > 40, "the search finds no ids any more");
    }

    async fn naming_what_is_of_another_organization_is_naming_nothing(server: Server) {
        let walk = Walk::of(server).await;
        let random = walk.random();
        let in_organization = |operation: &&Operation| operation.plane == "organization";
        for operation in walk.operations.iter().filter(in_organization) {
            for (query, noun) in operation.named_queries() {
                for (theirs, nobodys) in walk.theirs.names(noun).iter().zip(random.names(noun)) {
                    let mine = operation.target(&walk.mine);
                    let theirs_in = with(&mine, query, theirs);
                    let answer = walk.call(&walk.mine.admin.text, operation, &theirs_in, Value::Null).await;
                    let nobodys_in = with(&mine, query, nobodys);
                    let random = walk.call(&walk.mine.admin.text, operation, &nobodys_in, Value::Null).await;
                    assert_eq!(told(&answer, theirs), told(&random, nobodys), "{} {query}", operation.id);
                }
            }
            for (field, noun) in operation.named_fields() {
                for (theirs, nobodys) in walk.theirs.names(noun).iter().zip(random.names(noun)) {
                    let target = operation.dry(&operation.target(&walk.mine));
                    let body = operation.body_naming(field, theirs);
                    let answer = walk.call(&walk.mine.admin.text, operation, &target, body).await;
                    // of a file, a line is refused
                    let refused = matches!(answer.status, 400 | 404) || answer.body.contains("\"refused\"");
                    assert!(refused, "{} {field}: {answer:?}", operation.id);
                    let body = operation.body_naming(field, nobodys);
                    let random = walk.call(&walk.mine.admin.text, operation, &target, body).await;
                    assert_eq!(told(&answer, theirs), told(&random, nobodys), "{} {field}", operation.id);
                }
            }
        }
    }
}

/// A refusal as the document tells it: a problem, with a status that the operation names.
fn refused(operation: &Operation, answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}: {answer:?}", operation.id);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(problem["code"].is_string() && problem["detail"].is_string(), "{problem}");
    assert!(operation.statuses.contains(&status.to_string()), "{} names no {status}", operation.id);
}

/// What an answer says, but for the name that it repeats. Of an answer in parts, the lines alone, and
/// not the id that an import makes up.
fn told(answer: &Answer, name: &str) -> (u16, String) {
    let lines: Vec<&str> = answer.body.lines().filter(|line| line.starts_with('{')).collect();
    let mut text = lines.join("\n").replace(name, "(name)");
    while let Some(at) = text.find("imp_") {
        text.replace_range(at..(at + 20).min(text.len()), "(import)");
    }
    (answer.status, text)
}

/// An organization with one thing of each noun, and two of its credentials.
struct Org {
    has: Tenant,
    /// All of the organization, and none of the installation.
    admin: Key,
    /// Nothing that any operation needs.
    narrow: Key,
}

impl std::ops::Deref for Org {
    type Target = Tenant;

    fn deref(&self) -> &Tenant {
        &self.has
    }
}

struct Walk {
    server: Server,
    operations: Vec<Operation>,
    mine: Org,
    theirs: Org,
}

impl Walk {
    async fn of(server: Server) -> Self {
        let served = server.get("/v1/openapi.json").await.json();
        assert!(served == document());
        let operations = Operation::all(&served);
        let mine = org(&server, "mine").await;
        let theirs = org(&server, "theirs").await;
        Self { server, operations, mine, theirs }
    }

    async fn call(&self, text: &str, operation: &Operation, target: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {text}");
        let mut headers = vec![("Authorization", bearer.as_str())];
        let mut bytes = Vec::new();
        if !body.is_null() {
            headers.push(("Content-Type", operation.media_type));
            bytes = body.to_string().into_bytes();
        }
        self.server.send(&operation.method, target, &headers, &bytes).await
    }

    async fn token(&self, key: &Key, form: &str) -> String {
        self.server.token(key, form).await.token()
    }

    /// Names that are well-formed and nobody's.
    fn random(&self) -> Tenant {
        let nobodys = |name: &String| match name.split_once('_') {
            Some((prefix, _)) => format!("{prefix}_nobodysnobodys00"),
            None => name.replace("theirs", "nobodys"),
        };
        let names = &self.theirs.names;
        let names = names.iter().map(|(noun, names)| (*noun, names.iter().map(nobodys).collect()));
        Tenant { names: names.collect() }
    }
}

/// Makes something as the administrator, who says in which organization.
async fn make(server: &Server, method: &str, path: &str, org: &str, body: Value) -> Value {
    let target = if org.is_empty() { path.to_owned() } else { with(path, "organization", org) };
    let answer = server.api(&server.administrator, method, &target, body).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
    answer.json()
}

async fn org(server: &Server, name: &str) -> Org {
    let mut has = Tenant::default();
    let made = make(server, "POST", "/v1/organizations", "", json!({"slug": name})).await;
    has.has("organization", &made, &["slug"]);
    let bootstrap = format!("/v1/organizations/{name}/bootstrap");
    make(server, "POST", &bootstrap, "", json!({})).await;
    let post = async |path, body| make(server, "POST", path, name, body).await;
    let space = post("/v1/spaces", json!({"slug": format!("{name}-space")})).await;
    has.has("space", &space, &["slug"]);
    let uri = format!("https://{name}.example.com/api");
    let audience = post("/v1/audiences", json!({"uri": uri, "slug": format!("{name}-api")})).await;
    has.has("audience", &audience, &["slug", "uri"]);
    let email = format!("{name}@example.com");
    has.has("user", &post("/v1/users", json!({"email": email})).await, &[]);
    let signing_keys = make(server, "GET", "/v1/installation/signing-keys", "", Value::Null).await;
    let kid = signing_keys["items"][0]["kid"].as_str().unwrap().to_owned();
    has.names.insert("signing_key", vec![kid]);
    let role = json!({"name": format!("{name}-role"), "level": "organization", "scopes": ["read:org/keys/*"]});
    has.has("role", &post("/v1/roles", role).await, &["name"]);
    let rules = json!([{"path": "/projects/{id}"}]);
    let policy = json!({"name": format!("{name}-policy"), "audience": format!("{name}-api"), "rules": rules});
    has.has("gateway_policy", &post("/v1/gateway-policies", policy).await, &["name"]);
    let bot = post("/v1/bots", json!({"name": "worker"})).await;
    has.has("bot", &bot, &[]);
    let bot = bot["id"].as_str().unwrap();
    // a role at each level, so that there is one to take away
    let member = json!({"role": "member"});
    let in_space = format!("/v1/spaces/{name}-space/members/{bot}");
    make(server, "PUT", &in_space, name, member.clone()).await;
    make(server, "PUT", &format!("/v1/installation/admins/{bot}"), "", member).await;
    let key = post("/v1/keys", json!({"name": "worker", "scopes": ["read:projects/*"]})).await;
    has.has("api_key", &key, &[]);
    let bot = post("/v1/bots", json!({"name": "admin", "org_role": "admin"})).await;
    let admin = key_of(&post("/v1/keys", json!({"name": "admin", "bot": bot["id"]})).await);
    let narrow = json!({"name": "narrow", "org_role": "none", "scopes": ["chat:nothing"]});
    let narrow = key_of(&post("/v1/keys", narrow).await);
    Org { has, admin, narrow }
}

fn key_of(created: &Value) -> Key {
    let text = created["api_key"].as_str().unwrap().to_owned();
    Key { id: created["id"].as_str().unwrap().parse().unwrap(), text }
}
